"""Phases: their bytes against the kernel's, their verdicts in the lab, and that they never hurt the job."""

from __future__ import annotations

import gc
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import traffic
from agent import Agent, agent
from lab import Host, Lab

import netmon
from netmon._text import describe

MakeLab = Callable[..., Lab]

LONG = os.environ.get("NETMON_LONG") == "1"
RATE = 200e6  # bits per second


@pytest.fixture
def monitor() -> Iterator[netmon.Monitor]:
    with netmon.Monitor(interval=0.05, interfaces=["lo"]) as made:
        yield made


def row(monitor: netmon.Monitor, name: str) -> netmon.Phase:
    phases = monitor.sample().phases
    assert phases is not None
    return phases[name]


# Against the kernel, in the lab


def connected(here: Host, there: Host, rate: float | None) -> None:
    if rate is not None:
        here.egress.limit_rate(rate, burst_bytes=max(20_000, int(rate / 8 * 0.001)))
    traffic.serve(there)


def run_phase(monitor: Agent, name: str, work: str) -> dict[str, Any]:
    """Have an agent do something in a phase, and return the phase's numbers."""
    monitor.ask(f"bool(run := monitor.phase({name!r}))")
    numbers: dict[str, Any] = monitor.ask(f"(run.begin(), {work}, run.end(), run.to_dict())[-1]")
    return numbers


def test_link_bound_by_a_link_whose_nominal_speed_lies(make_lab: MakeLab) -> None:
    here, there = make_lab(2, ipv6=False).hosts
    connected(here, there, RATE)
    amount = 25_000_000
    with agent(here, interval=0.2) as monitor, agent(there, interval=0.2) as receiver:
        (connection,) = monitor.ask(f"traffic.connect({there.address!r})")
        for _ in range(5):
            receiver.ask("bool(run := monitor.phase('weight_sync'))")
            before = here.link_counters()
            receiver.ask("run.begin()")
            found = run_phase(monitor, "weight_sync", f"traffic.send({connection}, {amount})")
            receiver.ask("run.end()")
            after = here.link_counters()
            received = receiver.ask("run.to_dict()")
            # To the byte, where nothing else passed (a neighbour asked for, a router).
            for key, end in (("transmit_bytes", "tx"), ("receive_bytes", "rx")):
                assert abs(found[key] - (after[end]["bytes"] - before[end]["bytes"])) < 500, key
            assert abs(received["receive_bytes"] - found["transmit_bytes"]) < 500
            # A machine that is too busy for the link, or for readings 20 ms apart, is none to tell of peaks.
            if found["verdict"] == "link-bound" and found["peak_bytes_per_second"] < 1.05 * RATE / 8:
                break
        assert found["tcp_bytes"] == amount + traffic.OVERHEAD_BYTES + traffic.ANSWER_BYTES
        assert found["loopback_bytes"] == 0
        assert found["verdict"] == "link-bound", found
        assert found["peak_bytes_per_second"] == pytest.approx(RATE / 8, rel=0.05)
        assert found["plateau_bytes_per_second"] == pytest.approx(RATE / 8, rel=0.1)
        assert found["busy_ratio"] > 0.9
        assert found["waiting_ratio"] > 0.5
        assert found["utilization_ratio"] < 0.1, "veth says 10 Gbit/s"
        # The receiver does not know whether the sender had more.
        assert received["verdict"] is None
        sample = receiver.sample()
        assert sample["phases"][0]["verdict"] is None
        assert "sender" in sample["unavailable"]["phases.verdict"]
        sample = monitor.sample()
        (total,) = sample["phases"]
        assert (total["name"], total["running"]) == ("weight_sync", 0)
        assert total["transmit_bytes_total"] >= total["count"] * amount
        assert total["last_transmit_bytes"] == found["transmit_bytes"]
        assert sample["self"]["health"] == "ok"


@pytest.mark.parametrize("megabits", [100, 20])
def test_link_bound_by_a_slow_link(make_lab: MakeLab, megabits: int) -> None:
    # TCP hands over 64 KiB at a time: at 20 Mbit/s there is one or none in an interval, and no rate is steady.
    here, there = make_lab(2, ipv6=False, congestion_control="cubic").hosts
    here.egress.limit_rate(megabits * 1e6, burst_bytes=125_000)
    traffic.serve(there)
    with agent(here, interval=0.2) as monitor:
        (connection,) = monitor.ask(f"traffic.connect({there.address!r})")
        for amount in (1_500_000, 300_000):
            found = [run_phase(monitor, f"of {amount}", f"traffic.send({connection}, {amount})") for _ in range(4)]
            assert [run["verdict"] for run in found] == ["link-bound"] * 4, found
        # A sender that has nothing to send for most of the time, over the same link, and nothing but a note.
        paced = run_phase(monitor, "paced", f"traffic.send_by_turns({connection}, 5000, 0.02, 30)")
        assert paced["verdict"] == "software-bound", paced
        notes = [run_phase(monitor, "note", f"traffic.send({connection}, 66)") for _ in range(5)]
        assert [run["verdict"] for run in notes] == ["idle"] * 5, notes
        rows = {row["name"]: row["verdict"] for row in monitor.sample()["phases"]}
        assert rows == {"of 1500000": "link-bound", "of 300000": "link-bound", "paced": "software-bound", "note": "idle"}


def test_software_bound_and_idle(make_lab: MakeLab) -> None:
    here, there = make_lab(2, ipv6=False).hosts
    connected(here, there, RATE)
    with agent(here, interval=0.2) as monitor:
        (connection,) = monitor.ask(f"traffic.connect({there.address!r})")
        trickle = run_phase(monitor, "trickle", f"traffic.send_by_turns({connection}, 20000, 0.02, 40)")
        assert trickle["verdict"] == "software-bound", trickle
        assert trickle["waiting_ratio"] < 0.5
        # Of what is sent, what reaches the interface: with headers, and without what the kernel sent before or after.
        assert 800_000 < trickle["transmit_bytes"] < 900_000
        idle = run_phase(monitor, "idle", "traffic.repeat(int, 0.3, 0.05)")
        assert idle["verdict"] == "idle", idle
        assert idle["seconds"] > 0.29
        # Nested, and a sum by name.
        inner = f"[run_inner.begin(), traffic.send({connection}, 100000), run_inner.end()]"
        outer = run_phase(monitor, "step", f"[bool(run_inner := monitor.phase('sync')), {inner}, {inner}]")
        sample = monitor.sample()
        rows = {p["name"]: p for p in sample["phases"]}
        assert list(rows) == ["trickle", "idle", "step", "sync"]
        assert rows["sync"]["count"] == 2
        assert 200_000 < rows["sync"]["transmit_bytes_total"] <= outer["transmit_bytes"]
        assert rows["sync"]["seconds_total"] <= outer["seconds"]


def test_retransmissions(make_lab: MakeLab) -> None:
    here, there = make_lab(2, ipv6=False, congestion_control="cubic").hosts
    connected(here, there, None)
    with agent(here, interval=0.2) as monitor:
        (connection,) = monitor.ask(f"traffic.connect({there.address!r})")
        there.ingress.lose(every=100, only=f"tcp dport {traffic.PORT} meta length > 500")
        found = run_phase(monitor, "lossy", f"traffic.send({connection}, 5_000_000)")
        there.ingress.lose_nothing()
        assert found["segments_retransmitted"] >= there.ingress.dropped().packets > 30
        assert found["retransmit_ratio"] == pytest.approx(found["segments_retransmitted"] / found["segments_sent"])
        clean = run_phase(monitor, "clean", f"traffic.send({connection}, 100_000)")
        assert clean["segments_sent"] > 0
        assert monitor.sample()["phases"][0]["segments_retransmitted_total"] == found["segments_retransmitted"]


# As the job uses them


def test_numbers_of_one_phase(monitor: netmon.Monitor) -> None:
    phase = monitor.phase("weight_sync")
    assert (phase.name, phase.running, phase.problem, phase.seconds, phase.verdict) == ("weight_sync", False, None, None, None)
    began = time.monotonic()
    with phase as yielded:
        assert yielded is phase
        assert phase.running
        assert phase.receive_bytes is None, "unknown is not zero"
        during = row(monitor, "weight_sync")
        assert (during.count, during.running, during.receive_bytes_total) == (0, 1, None)
        assert "none has ended yet" in (monitor.sample().reason("phases.receive_bytes_total") or "")
        time.sleep(0.02)
    assert phase.seconds is not None
    assert 0.02 <= phase.seconds <= time.monotonic() - began
    assert isinstance(phase.receive_bytes, int)
    document = phase.to_dict()
    assert document["name"] == "weight_sync"
    assert all(getattr(phase, name) == value for name, value in document.items())
    assert {"seconds", "receive_bytes", "transmit_bytes", "peak_bytes_per_second", "verdict"} < set(document)
    json.dumps(document)
    with pytest.raises(AttributeError):
        phase.seconds = 3.0  # type: ignore[misc]
    with pytest.raises(TypeError, match="to_dict"):
        pickle.dumps(phase)
    assert "weight_sync" in repr(phase)
    assert str(phase).startswith("weight_sync: ")
    after = row(monitor, "weight_sync")
    assert (after.count, after.running) == (1, 0)
    assert after.seconds_total == pytest.approx(phase.seconds)
    assert (after.last_receive_bytes, after.receive_bytes_total) == (phase.receive_bytes, phase.receive_bytes)
    assert after.to_dict() == monitor.sample().to_dict()["phases"][0]
    assert "phase        held up by" in describe(monitor.sample())

    # Again, without a with statement.
    phase.begin()
    phase.begin()
    assert phase.seconds is None
    phase.end()
    phase.end()
    assert row(monitor, "weight_sync").count == 2


def test_no_phases_no_words(monitor: netmon.Monitor) -> None:
    sample = monitor.sample()
    assert sample.phases is not None
    assert len(sample.phases) == 0
    assert "held up by" not in describe(sample)
    assert "phases" not in sample.unavailable


def test_exceptions_pass_unchanged(monitor: netmon.Monitor) -> None:
    class StopTraining(BaseException):
        pass

    for error in (ValueError("of the job"), StopTraining(), KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)) as caught, monitor.phase("step"), monitor.phase("forward"):
            raise error
        assert caught.value is error
        assert error.__context__ is None
    assert (row(monitor, "step").count, row(monitor, "step").running) == (4, 0)

    def generator() -> Iterator[int]:
        with monitor.phase("generator"):
            yield 1

    running = generator()
    next(running)
    running.close()
    assert row(monitor, "generator").count == 1


def test_dropped_without_an_end(monitor: netmon.Monitor) -> None:
    phase = monitor.phase("dropped")
    phase.begin()
    assert row(monitor, "dropped").running == 1
    del phase
    gc.collect()
    assert (row(monitor, "dropped").running, row(monitor, "dropped").count) == (0, 1)


def test_threads_overlap(monitor: netmon.Monitor) -> None:
    inside = threading.Barrier(5)

    def work(number: int) -> None:
        with monitor.phase("all together"):
            inside.wait(30)
            for _ in range(50):
                with monitor.phase(f"thread {number}"):
                    pass
            inside.wait(30)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    inside.wait(30)
    assert row(monitor, "all together").running == 4
    inside.wait(30)
    for thread in threads:
        thread.join()
    assert row(monitor, "all together").count == 4
    assert all(row(monitor, f"thread {i}").count == 50 for i in range(4))


def test_closed_inside(monitor: netmon.Monitor) -> None:
    with monitor.phase("outer") as outer:
        monitor.close()
        with monitor.phase("inner") as inner:
            pass
    assert outer.seconds is None
    assert "closed" in (outer.problem or "")
    assert inner.problem == "it was not begun: the monitor was closed"
    with monitor.phase("later") as later:
        assert not later.running
    assert (later.seconds, later.verdict) == (None, None)


class Unwritable:
    def __str__(self) -> str:
        raise RuntimeError("of the job")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("", "is empty"),
        ("x" * 65, "64 bytes"),
        ("ü" * 33, "64 bytes"),
        ("x" * (1 << 20), "64 bytes"),
        ("before\0after", "control character"),
        ("\n", "control character"),
        ("\udcff", "UTF-8"),
        (Unwritable(), "control character"),
    ],
)
def test_nonsense_names(monitor: netmon.Monitor, name: Any, what: str) -> None:
    with monitor.phase(name) as phase:
        done = True
    assert done
    assert phase.seconds is None
    assert what in (phase.problem or "")
    health = monitor.health()
    assert health.status == "degraded"
    assert any(what in problem for problem in health.problems)
    assert len(monitor.sample().phases or ()) == 0
    assert isinstance(str(phase), str)


def test_as_many_names_as_there_can_be(monitor: netmon.Monitor) -> None:
    for i in range(70):
        with monitor.phase(f"step {i}") as phase:
            pass
        assert (phase.seconds is None) == (i >= 64)
    assert "64 names" in (phase.problem or "")
    phases = monitor.sample().phases
    assert phases is not None
    assert phases.names == tuple(f"step {i}" for i in range(64))
    with monitor.phase("step 63") as phase:
        pass
    assert phase.seconds is not None
    assert "6 not begun" in " ".join(monitor.health().problems)
    with pytest.raises(KeyError, match="there is no phase 'step 64'"):
        phases["step 64"]


def test_names_of_any_language(monitor: netmon.Monitor) -> None:
    for name in ("Gewichte.übertragen", "重み同期", "a.b.c", 7):
        with monitor.phase(name) as phase:  # type: ignore[arg-type]
            pass
        assert row(monitor, str(name)).count == 1
        assert phase.name == str(name)
    deadline = time.monotonic() + 30
    while monitor.stats("phases.a.b.c.count").max is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert monitor.stats("phases.a.b.c.count").max == 1
    with pytest.raises(netmon.InvalidArgumentError, match="phases are named as in"):
        monitor.stats("phases.count")


FORKED = """
import os, sys, time
import netmon

monitor = netmon.Monitor(interval=0.05, interfaces=["lo"])
with monitor.phase("parent") as parent:
    child = os.fork()
    if child == 0:
        began = time.monotonic()
        with monitor.phase("child") as phase:
            pass
        assert phase.seconds is None and "forked" in phase.problem, phase.problem
        parent.end()
        assert parent.seconds is None and "forked" in parent.problem, parent.problem
        assert time.monotonic() - began < 10
        monitor.sample()                                # the child's own monitor from here on
        with monitor.phase("child") as phase:
            pass
        assert phase.seconds is not None
        assert monitor.sample().phases.names == ("child",)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
assert parent.seconds is not None
phases = monitor.sample().phases
assert phases.names == ("parent",) and phases[0].count == 1
"""


def test_forked_child() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


FLAT = """
import json, sys
import netmon

def used():
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    return {name: int(status[name].split()[0]) for name in ("VmRSS", "Threads")}

with netmon.Monitor(interval=0.05) as monitor:
    def work(times):
        for i in range(times):
            with monitor.phase("step"), monitor.phase(f"part {i % 8}"):
                pass
    times = int(sys.argv[1])
    work(times)
    before = used()
    work(times)
    counts = [p.count for p in monitor.sample().phases]
    print(json.dumps([before, used(), counts, monitor.sample().self.cpu_seconds_total, monitor.health().status]))
"""


def test_thousands_leave_memory_flat() -> None:
    times = 20_000 if LONG else 3_000
    done = subprocess.run([sys.executable, "-c", FLAT, str(times)], capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    before, after, counts, cpu, health = json.loads(done.stdout)
    assert counts[0] == 2 * times
    assert sum(counts[1:]) == 2 * times
    assert after["VmRSS"] - before["VmRSS"] < 4096, (before, after)
    assert after["Threads"] <= before["Threads"] + 2
    assert health == "ok"
    # What they cost is told, and is little: 8 readings of the kernel's counters a round, here with much room.
    assert 0 < cpu < 0.002 * 2 * times


def test_without_sources() -> None:
    with netmon.Monitor(interval=60, sources=[]) as monitor:
        with monitor.phase("step") as phase:
            pass
        assert phase.seconds is not None
        assert (phase.receive_bytes, phase.segments_sent, phase.verdict) == (None, None, None)
        assert monitor.sample().reason("phases.receive_bytes_total") == "not in sources: step"


def test_on_loopback_that_has_no_capacity(monitor: netmon.Monitor) -> None:
    with monitor.phase("local") as phase:
        assert monitor.probe("127.0.0.1", 3).received == 3
    assert phase.transmit_bytes is not None
    assert phase.transmit_bytes > 0
    assert phase.utilization_ratio is None
    assert "loopback has no link speed" in (monitor.sample().reason("phases.utilization_ratio") or "")
