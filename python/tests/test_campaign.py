"""The campaign of faults: scores of made-up episodes, faults as other tools see them, and a short form of the whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import lab
import pytest

from bench.campaign import report
from bench.campaign.faults import KINDS, RANK, RATE_BITS_PER_SECOND, Fault, draw, limit
from bench.campaign.job import Job, job
from bench.campaign.score import Claim, Episode, Share, claims, judge, score
from bench.report import END

MakeLab = Callable[..., lab.Lab]


# Scores


def episode(kind: str, *said: Claim, direction: str | None = None) -> Episode:
    """Make an episode with a fault at h2, whose rank is 1, that lasted 10 s."""
    return Episode(Fault(kind, 1, direction, 5.0), "h2", 10.0, 0, 40, said, {})


def claim(finding: str, host: str | None = "h2", *, rank: int | None = None, way: str | None = None, at: float = 4.0) -> Claim:
    return Claim(finding, host, rank, way, at, at + 2)


def test_findings_become_claims() -> None:
    clean = {"class": "network_clean", "host": None, "rank": None, "direction": None}
    slow = {"class": "slow_link", "host": "h1", "rank": None, "direction": "transmit"}
    stalled = {"class": "stalled_rank", "host": "h2", "rank": 1, "direction": None}
    looks = [(0.5, [clean]), (1.0, [stalled]), (1.5, [slow, stalled]), (2.0, []), (2.5, [slow])]
    assert claims(looks) == (
        Claim("stalled_rank", "h2", 1, None, 1.0, 1.5),
        Claim("slow_link", "h1", None, "transmit", 1.5, 2.5),
    )
    assert claims([]) == ()


def test_a_right_claim_is_right() -> None:
    for kind, said, direction in (
        ("half rate", claim("slow_link", way="receive"), "receive"),
        ("10 % rate", claim("slow_link", way="transmit"), "transmit"),
        ("1 % loss", claim("lossy_link", way="transmit"), "transmit"),
        ("+5 ms", claim("high_latency"), "transmit"),
        ("+5 ms", claim("high_latency", way="receive"), "transmit"),  # nobody can know
        ("busy host", claim("slow_host"), None),
        ("SIGSTOP", claim("stalled_rank", rank=1), None),
        ("SIGSTOP", claim("stalled_rank"), None),
    ):
        found = judge(episode(kind, said, direction=direction))
        assert (found.detected, found.culprit, found.right, found.wrong) == (True, True, (said,), ()), kind
        assert found.detect_seconds == 4.0
        assert found.resolve_seconds == -4.0


def test_a_wrong_claim_is_wrong() -> None:
    right = claim("slow_link", way="transmit", at=6.0)
    for wrong in (
        claim("slow_link", "h1", way="transmit"),
        claim("slow_link", None, way="transmit"),
        claim("slow_link", way="receive"),
        claim("slow_link", way="transmit", rank=0),
    ):
        found = judge(episode("half rate", wrong, right, direction="transmit"))
        # It was found, but who believes the first thing said looks in the wrong place.
        assert (found.detected, found.culprit, found.right, found.wrong) == (True, False, (right,), (wrong,)), wrong
        assert found.detect_seconds == 6.0
    other = claim("lossy_link", way="transmit")
    found = judge(episode("half rate", other, right, direction="transmit"))
    assert (found.detected, found.culprit, found.wrong) == (True, True, (other,))
    assert judge(episode("SIGSTOP", claim("stalled_rank", rank=2))).wrong


def test_a_claim_without_direction_is_half_of_one() -> None:
    found = judge(episode("1 % loss", claim("lossy_link"), direction="receive"))
    assert (found.detected, found.culprit, found.wrong) == (True, False, ())


def test_what_comes_too_late_was_missed() -> None:
    late = claim("slow_host", at=10.5)
    found = judge(episode("busy host", late))
    assert (found.detected, found.culprit, found.right, found.detect_seconds) == (False, None, (late,), None)
    assert found.resolve_seconds == 2.5


def test_scores_add_up() -> None:
    right = claim("slow_link", way="transmit")
    episodes = [
        episode("half rate", right, direction="transmit"),
        episode("half rate", right, claim("lossy_link"), direction="transmit"),
        episode("10 % rate", claim("slow_link", "h1", way="transmit"), direction="transmit"),
        episode("10 % rate", direction="transmit"),
        episode("none"),
        episode("none", claim("slow_host")),
    ]
    found = score(episodes)
    assert (found.precision, found.recall) == (Share(2, 5), Share(3, 4))
    assert (found.culprit, found.healthy) == (Share(2, 3), Share(1, 2))
    assert [Episode.from_dict(json.loads(json.dumps(e.to_dict()))) for e in episodes] == episodes

    text = report.section(["Seed 1"], episodes)
    assert text.startswith(report.BEGIN)
    assert text.endswith(END)
    assert not re.search(r"\b(nan|inf|None)\b", text)
    for line in (
        "- 2: half rate at h2 transmit: wrongly `lossy_link` (h2) from 4.0 to 6.0 s after it began",
        "- 3: 10 % rate at h2 transmit: wrongly `slow_link` (h1 transmit) from 4.0 to 6.0 s after it began",
        "- 4: 10 % rate at h2 transmit: not found while it lasted",
        "- 6: none: wrongly `slow_host` (h2) from 4.0 to 6.0 s after it began",
        "| half rate | `slow_link` | 2 | 2 | 2 | 1 | 4.0 s (at most 4.0) | -4.0 s (at most -4.0) |",
    ):
        assert line in text, text
    assert text.count("**missed**") == 4
    for found_table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        assert len({row.count("|") for row in found_table.splitlines()}) == 1


def test_perfect_and_empty_scores_are_said() -> None:
    perfect = [episode("SIGSTOP", claim("stalled_rank", rank=1)), episode("none")]
    assert "**missed**" not in report.section([], perfect)
    assert "Nothing." in report.section([], perfect)
    assert report.section([], []).count("**missed**") == 3  # nothing was shown


def test_interval_of_a_share() -> None:
    assert Share(0, 0).ratio is None
    assert Share(0, 0).interval() is None
    low, high = Share(57, 60).interval() or (0, 0)
    assert (round(low, 3), round(high, 3)) == (0.863, 0.983)  # Wilson
    assert Share(60, 60).interval() == (pytest.approx(0.9398, abs=1e-3), pytest.approx(1.0))


def test_a_seed_draws_the_same_faults() -> None:
    drawn = draw(7, 70, 4, (2.0, 3.0))
    assert drawn == draw(7, 70, 4, (2.0, 3.0))
    assert drawn != draw(8, 70, 4, (2.0, 3.0))
    assert Counter(fault.kind for fault in drawn) == dict.fromkeys(KINDS, 10)
    assert {fault.host for fault in drawn} == {0, 1, 2, 3}
    assert all(2.0 <= fault.pause_seconds <= 3.0 for fault in drawn)
    assert {fault.direction for fault in drawn if KINDS[fault.kind].directed} == {"transmit", "receive"}
    assert {fault.direction for fault in drawn if not KINDS[fault.kind].directed} == {None}
    assert len(draw(1, 5, 4, (0, 1))) == 5


# Faults, as other tools see them


def rate(namespace: lab.Namespace, interface: str) -> float:
    """Return what ``tc`` says that an interface may send, in bits per second."""
    shown = json.loads(namespace.run("tc", "-j", "qdisc", "show", "dev", interface, "root").stdout)
    return float(shown[0]["options"]["rate"]) * 8


@pytest.mark.parametrize(("kind", "share"), [("half rate", 0.5), ("10 % rate", 0.1)])
def test_rate_is_cut_one_way(make_lab: MakeLab, kind: str, share: float) -> None:
    network = make_lab(2, ipv6=False)
    host = network.hosts[0]
    limit(host.egress)
    limit(host.ingress)
    places = {"transmit": (host, host.interface), "receive": (network.switch, host.port)}
    for direction, place in places.items():
        with KINDS[kind].put(host, direction):
            for other in places.values():
                assert rate(*other) == pytest.approx(RATE_BITS_PER_SECOND * (share if other == place else 1))
        assert rate(*place) == pytest.approx(RATE_BITS_PER_SECOND)


def test_a_rate_that_is_cut_under_load_goes_on(make_lab: MakeLab) -> None:
    """A packet of 64 KiB that waited when less than it could pass at once waited for ever, and all others behind it."""
    one, two = make_lab(2, ipv6=False).hosts
    limit(one.egress)
    server = two.start("iperf3", "-s", "-1", "--forceflush", stdout=subprocess.PIPE)
    assert server.stdout is not None
    while "listening" not in server.stdout.readline():
        pass
    client = one.start("iperf3", "-c", two.address, "-t", "60", stdout=subprocess.DEVNULL)
    for _ in range(5):
        for share in (0.5, 0.1, 1.0):
            limit(one.egress, share)
            before = one.link_counters()["tx"]["packets"]
            deadline = time.monotonic() + 20
            while one.link_counters()["tx"]["packets"] < before + 50:
                assert time.monotonic() < deadline, f"nothing passes at {share} of the rate"
                time.sleep(0.01)
    client.kill()


def test_one_in_a_hundred_packets_is_lost(make_lab: MakeLab) -> None:
    one, two = make_lab(2, ipv6=False).hosts
    ping = ("ping", "-q", "-c", "200", "-i", "0.005", "-W", "0.5", two.address)
    for direction, way in (("transmit", one.egress), ("receive", one.ingress)):
        before = way.dropped().packets
        with KINDS["1 % loss"].put(one, direction):
            said = one.run(*ping, check=False).stdout
        assert way.dropped().packets - before == 2
        assert "198 received" in said
    assert "200 received" in one.run(*ping, check=False).stdout


def test_five_milliseconds_are_added(make_lab: MakeLab) -> None:
    one, two = make_lab(2, ipv6=False).hosts

    def least() -> float:
        said = one.run("ping", "-q", "-c", "10", "-i", "0.01", two.address).stdout
        return float(re.findall(r"= ([\d.]+)/", said)[0]) / 1e3

    for direction in ("transmit", "receive"):
        with KINDS["+5 ms"].put(one, direction):
            assert 0.005 < least() < 0.009
        assert least() < 0.005


def busy_rank(host: lab.Host) -> subprocess.Popen[str]:
    """Start a process that passes for a rank and computes for ever."""
    process = host.start(
        sys.executable, "-c", "print('ready', flush=True)\nwhile True: pass", str(RANK), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def cpu_share(pid: int, seconds: float) -> float:
    """Return which part of a processor a process gets."""

    def used() -> int:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(words[11]) + int(words[12])

    before, begin = used(), time.monotonic()
    time.sleep(seconds)
    return (used() - before) / 100 / (time.monotonic() - begin)


def test_a_busy_host_has_little_left_for_its_rank(make_lab: MakeLab) -> None:
    one, two = make_lab(2, ipv6=False).hosts
    process = busy_rank(one)
    groups = Path(f"/proc/{process.pid}/cgroup").read_text()
    with KINDS["busy host"].put(one, None):
        assert cpu_share(process.pid, 1.0) < 0.25
    assert Path(f"/proc/{process.pid}/cgroup").read_text() == groups
    assert not list(Path("/sys/fs/cgroup").glob(f"**/netmon-campaign-{one.name}"))
    assert one.processes() == [process.pid]
    assert two.processes() == []


def test_a_stopped_rank_is_stopped(make_lab: MakeLab) -> None:
    (host,) = make_lab(1, ipv6=False).hosts
    process = busy_rank(host)

    def wait(stopped: bool) -> None:
        deadline = time.monotonic() + 10
        while ("State:\tT" in Path(f"/proc/{process.pid}/status").read_text()) is not stopped:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    with KINDS["SIGSTOP"].put(host, None):
        wait(True)
    wait(False)


# The whole, in short: a fault for each kind of evidence, one after the other in one job


def said(running: Job, reader: int, since: float) -> tuple[Claim, ...]:
    """Return what a rank's view claimed since a moment."""
    lines = [line for line in list(running.lines[reader]) if line["time"] >= since and line["findings"] is not None]
    return claims((line["time"] - since, line["findings"]) for line in lines)


@pytest.mark.usefixtures("namespace")
def test_faults_of_a_job_are_found_and_end() -> None:
    faults = [
        Fault("10 % rate", 2, "transmit", 0),  # what TCP delivers, and queues
        Fault("1 % loss", 0, "receive", 0),  # what it repeats
        Fault("busy host", 3, None, 0),  # who comes last
        Fault("SIGSTOP", 1, None, 0),  # who says nothing
    ]
    with job(4) as running:
        for fault in faults:
            reader = (fault.host + 1) % 4
            began = time.monotonic()

            def right(fault: Fault = fault, reader: int = reader, began: float = began) -> tuple[Claim, ...]:
                host = running.lab.hosts[fault.host].label
                return judge(Episode(fault, host, 60.0, reader, 0, said(running, reader, began), {})).right

            with KINDS[fault.kind].put(running.lab.hosts[fault.host], fault.direction):
                running.wait_until(lambda: bool(right()), f"{fault} is found", 45)
            told = right()[0]
            if KINDS[fault.kind].told:
                assert told.direction == fault.direction

            def over(told: Claim = told, reader: int = reader) -> bool:
                line = running.lines[reader][-1]
                return not any(f["class"] == told.finding and f["host"] == told.host for f in line["findings"] or ())

            running.wait_until(over, f"{told} ends", 45)
