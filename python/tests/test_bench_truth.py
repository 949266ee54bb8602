"""The bench of accuracy runs and writes a whole report. What it measures is judged by people; counts are right or wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import lab
import passive
import pytest

from bench.report import END
from bench.truth import delays, link, losses, report, tools

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = f"by hand, before\n{report.BEGIN}\nold results\n{END}\nby hand, after\n"


@pytest.mark.usefixtures("namespace")
def test_quick_bench_renews_its_part_of_a_document(tmp_path: Path) -> None:
    document, values = tmp_path / "accuracy.md", tmp_path / "values.json"
    document.write_text(DOCUMENT, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "bench.truth", "--quick", "--report", str(document), "--json", str(values)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    text = document.read_text(encoding="utf-8")
    assert text.startswith("by hand, before\n")
    assert text.endswith("by hand, after\n")
    assert "old results" not in text
    assert not re.search(r"\b(nan|inf|None)\b", text)
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    idle, busy, delayed, lost, traffic, cost = ([line.split("|")[1:-1] for line in found.splitlines()] for found in tables)
    for rows in (idle, busy, delayed, lost, traffic, cost):
        assert len({len(row) for row in rows}) == 1, rows

    everything = [*link.NETMON, link.PING, link.ECHO, link.FPING, link.PRO_BING, link.WALL_CLOCK]
    for rows in (idle, busy):
        assert [row[0].strip().removeprefix("netmon ") for row in rows[2:]] == everything
    for row in (*idle[2:], *busy[2:]):
        assert row[1] == " 10 of 10 ", row
    assert [row[0].strip() for row in delayed[2 :: len(delays.MEASURED)]] == ["0.1 ms", "1 ms", "10 ms", "50 ms"]
    said = [row[1].strip() for row in traffic[2:]]
    assert said[:2] == ["`transmit_bytes_per_second`", "`transmit_best_bytes_per_second`"]
    assert said.count("retransmitted, less duplicates") == len(passive.congestion_controls())
    for judged in (idle, busy, delayed, traffic, cost):
        assert any("met" in cell or "missed" in cell for row in judged for cell in row)

    results = json.loads(values.read_text())
    assert [row["every"] for row in results["losses"][::6]] == [1000, 100, 10, 1]
    for row, line in zip(results["losses"], lost[2:], strict=True):
        if row["what"] in report.JUDGED_LOSS:
            # A process without a processor ends a connection late, when the kernel has sent the SYN again; all else is equal.
            repeated = row["seen"] - row["sent"]
            assert 0 <= repeated <= (1 + row["sent"] // 10 if row["what"] == "`tcp`" else 0), row
            assert 0 < row["lost"] <= row["dropped"] <= row["lost"] + repeated, row
            assert row["lost"] >= row["sent"] // row["every"] - repeated, row
            assert ("off by" in "".join(line)) is not report.equal(row), line


def hold(egress: bool, protocol: int, kind: int, source: int, destination: int, microseconds: int, size: int = 56) -> lab.Hold:
    return lab.Hold(0, microseconds * 1000, 14 + 20 + 8 + size, egress, protocol, kind, source, destination)


def test_what_the_relay_held_is_told_by_who_asked() -> None:
    there = [
        hold(False, 1, 8, 77, 1, 100),  # netmon's
        hold(False, 1, 8, 88, 1, 110, link.SIZES[link.PING]),
        hold(False, 6, 2, 40000, 5000, 120),
        hold(False, 6, 4, 40000, 5000, 1),  # the reset that ends it
        hold(False, 17, 0, 50000, 29541, 130),
        hold(False, 17, 0, 50000, 29541, 140),
    ]
    back = [
        hold(True, 1, 0, 77, 1, 1),
        hold(True, 6, 0x12, 5000, 40000, 2),
        hold(True, 17, 0, 29541, 50000, 3),
        hold(True, 17, 0, 29541, 50000, 4),
        hold(True, 1, 0, 99, 1, 5),  # nobody asked
    ]
    found = {name: [round(s * 1e6) for s in seconds] for name, seconds in delays.held(there, back).items()}
    assert found == {link.ICMP: [101], link.TCP: [122], link.WALL_CLOCK: [122], link.UDP: [133, 144]}


def test_a_count_that_is_off_is_said_to_be() -> None:
    right = {"every": 10, "what": "`icmp`", "sent": 40, "lost": 4, "seen": 40, "dropped": 4}
    assert report.equal(right)
    assert not report.equal({**right, "lost": 5})
    assert not report.equal({**right, "seen": 41})
    assert "**off by +1 lost, +0 sent**" in "\n".join(report._losses([{**right, "lost": 5}]))
    assert "**" not in "\n".join(report._losses([right]))


def test_traffic_that_is_seen_wrong_is_said_to_be() -> None:
    rate = {"rate": 8e6, "way": "receive", "netmon": 0.98e6, "counted": 1e6, "best": 1.01e6}
    lost = {"lost": 203, "dropped": 200}
    trip = {"netmon": dict.fromkeys(passive.SS, 0.005), "ss": dict.fromkeys(passive.SS, 0.005)}
    trip["netmon"]["rtt_seconds"] = 0.006
    found = report._observed(
        {
            "throughput": [rate],
            "bandwidth": [{"rate": 8e6, "direction": "transmit", "netmon": 1.04e6, "iperf3": 1e6}],
            "retransmissions": {"cubic": lost, "bbr": lost},
            "round_trip": trip,
        }
    )
    verdicts = {line.split(" | ")[1]: line.split(" | ")[-1].strip(" |") for line in found[2:]}
    assert verdicts["`receive_bytes_per_second`"] == "**missed by 100 %**"
    assert verdicts["`receive_best_bytes_per_second`"] == "met"
    assert verdicts["`measure_bandwidth`, transmit"].startswith("**missed by 33 %")
    assert [line.split(" | ")[-1] for line in found if "less duplicates" in line] == ["**missed by 200 %** |", "met |"]
    assert verdicts["`rtt_seconds`"].startswith("**missed")
    assert verdicts["`rtt_min_seconds`"] == "met"


def test_quantiles_interpolate() -> None:
    assert tools.quantile([3.0, 1.0, 2.0, 4.0], 0.5) == 2.5
    assert tools.quantile([1.0], 0.99) == 1.0
    assert tools.trips(3, []) == tools.Trips(3, 0, None, None)
    assert losses.STREAMS * 1 / losses.INTERVAL <= 500, "the responder answers no more a second"
