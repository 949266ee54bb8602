"""Findings as Python has them, and as text for people. What is found is tested beside the code, and by the campaign."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

import netmon

_DOCUMENT = {
    "class": "slow_link",
    "severity": "warning",
    "host": "host2",
    "rank": None,
    "interface": "eth0",
    "peer": None,
    "direction": "transmit",
    "onset_seconds": 1_700_000_000,
    "confidence": 0.9,
    "evidence": {"delivery_bytes_per_second": 12e6, "rtt_seconds": 0.011},
    "advice": "on host2 run `ethtool eth0`",
    "text": "slow link of host2: what it sends goes at 96 Mbit/s",
}


def _sample(*findings: dict[str, object]) -> netmon.Sample:
    with netmon.Monitor() as monitor:
        return netmon.Sample({**monitor.sample().to_dict(), "findings": list(findings)})


def test_a_finding_is_what_the_document_says() -> None:
    sample = _sample(_DOCUMENT)
    (finding,) = sample.findings or ()
    assert isinstance(finding, netmon.Finding)
    assert (finding.class_, finding.host, finding.direction, finding.rank) == ("slow_link", "host2", "transmit", None)
    assert isinstance(finding.onset_seconds, float)
    assert finding.to_dict() == _DOCUMENT
    assert pickle.loads(pickle.dumps(finding)) == finding
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding.host = "other"  # type: ignore[misc]
    assert hash(finding)
    assert str(finding) == "slow link of host2: what it sends goes at 96 Mbit/s (90 % sure). on host2 run `ethtool eth0`"


def test_people_read_what_is_wrong_and_what_to_do() -> None:
    text = str(_sample(_DOCUMENT, {**_DOCUMENT, "class": "network_clean", "text": "network clean", "advice": "look elsewhere"}))
    assert "findings  warning: slow link of host2" in text
    assert "          on host2 run `ethtool eth0`" in text
    assert "\n          network clean\n" in text
    assert "look elsewhere" not in text
    assert "findings" not in str(_sample())


def test_a_process_without_connections_has_no_finding_and_says_nothing_wrong() -> None:
    with netmon.Monitor(peers=False) as monitor:
        sample = monitor.sample()
    assert sample.findings is None or sample.findings == ()
