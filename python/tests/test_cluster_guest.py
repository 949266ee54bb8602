"""A member of the view of a job where boards, jobs and monitors come and go. No torch, no Ray."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
import types
import zlib
from collections.abc import Mapping
from typing import Any

import pytest

import netmon
from netmon import _cluster
from netmon._cluster import Member
from netmon._election import Lease
from netmon.integrations.torch import _store

INTERVAL = 2.0


class Table:
    """What boards are on: a store."""

    def __init__(self) -> None:
        self.kept: dict[int, bytes] = {}
        self.lease = b""
        self.view: bytes | None = None
        self.over = False

    def beat(self, term: int, beat: int, who: str) -> None:
        """Do what the process of number 0 does that makes the view."""
        self.lease = Lease(term, 0, "somebody", beat, 10, ()).text()
        self.view = b"%d %d\n" % (term, beat) + packed(who)


def packed(who: str) -> bytes:
    return zlib.compress(json.dumps({"sequence": 1, "who": who, "unavailable": {}}).encode())


class TableBoard:
    engine = "table"
    numbers_are_ranks = True
    world_size = 2
    waiting_since = None

    def __init__(self, table: Table, number: int) -> None:
        self.table, self.number, self.rank = table, number, number

    def open(self) -> None:
        pass

    def exchange(self, digest: bytes | None) -> bytes:
        if digest is not None:
            self.table.kept[self.number] = digest
        return self.table.lease

    def replace(self, before: bytes, after: bytes) -> bytes:
        if self.table.lease == before:
            self.table.lease = after
        return self.table.lease

    def digests(self) -> Mapping[int, bytes]:
        return dict(self.table.kept)

    def write_view(self, view: bytes) -> None:
        self.table.view = view

    def read_view(self) -> bytes | None:
        return self.table.view

    def leave(self) -> None:
        pass

    abandon = forget = leave

    def is_over(self) -> bool:
        return self.table.over


class Speaker:
    _cluster_interval = INTERVAL

    def _tell_rank(self, rank: int, world_size: int | None) -> None:
        pass

    def _digest(self) -> bytes:
        return b"digest"

    def _aggregate(self, request: Mapping[str, Any]) -> bytes:
        return zlib.decompress(packed("own"))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(_cluster, "time", one)
    return one


def member_of(tables: list[Table], number: int = 1) -> Member:
    """Return a member that finds the tables one after the other, and takes its steps where it is told to."""
    speaker = Speaker()
    return Member(lambda: TableBoard(tables.pop(0), number) if tables else "none is left", lambda: speaker, INTERVAL)


def look(member: Member, clock: Clock) -> None:
    clock.now += INTERVAL / 2
    member._step()


def who(member: Member) -> str | None:
    found: str | None = member.view()._decoded().get("who")
    return found


def test_views_of_the_next_job_are_not_compared_with_those_of_the_last(clock: Clock) -> None:
    first, second = Table(), Table()
    member = member_of([first, second])
    first.beat(3, 500, "first")
    look(member, clock)
    first.beat(3, 501, "first")
    look(member, clock)
    assert who(member) == "first"
    # The job makes its process group anew, or Ray's actor ended with the process that made it: terms begin at 1 again.
    first.over = True
    second.beat(1, 1, "second")
    look(member, clock)
    second.beat(1, 2, "second")
    look(member, clock)
    look(member, clock)
    assert who(member) == "second"
    assert member.view().age_seconds == pytest.approx(0, abs=INTERVAL)


def test_a_view_of_which_nobody_knows_how_old_it_is_is_not_told_as_new(clock: Clock) -> None:
    # A launcher that starts all ranks anew keeps the store: there is the view of those that are dead.
    table = Table()
    table.beat(1, 77, "the dead")
    table.kept[0] = b"of the dead"
    member = member_of([table])
    seen = []
    for _ in range(20):
        look(member, clock)
        seen.append(who(member))
    assert "the dead" not in seen
    assert seen[-1] == "own", "it took over"


@pytest.mark.parametrize("number", [1, 5, 40])
def test_who_takes_over_has_seen_for_long_who_is_silent(clock: Clock, number: int) -> None:
    # The process that made the view died, with others, and who takes over is none of its heirs.
    table, looked = Table(), []
    table.lease = Lease(1, 0, "somebody", 7, 10, (2, 3, 4)).text()
    table.kept[0] = b"of the dead"
    speaker = Speaker()
    speaker._aggregate = lambda request: looked.append(clock.now) or zlib.decompress(packed("own"))  # type: ignore[method-assign, func-returns-value]
    member = Member(lambda: TableBoard(table, number), lambda: speaker, INTERVAL)
    for beat in range(20):
        table.lease = Lease(1, 0, "somebody", beat, 10, (2, 3, 4)).text()
        look(member, clock)
        look(member, clock)
    assert looked == [], "while the view is made, others need not look"
    while who(member) != "own":
        look(member, clock)
    assert looked[-1] - looked[0] > 3 * INTERVAL, "its memory says that they are late"
    assert len(looked) <= 10


def test_a_view_is_fetched_when_its_maker_was_seen_to_live(clock: Clock) -> None:
    table = Table()
    table.beat(1, 77, "the living")
    member = member_of([table])
    look(member, clock)
    assert "no view was made yet" in str(member.view().problem)
    table.beat(1, 78, "the living")
    look(member, clock)
    assert who(member) == "the living"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "netmon-cluster"]


def test_a_monitor_that_was_dropped_does_not_keep_the_thread_of_one_that_is_closed() -> None:
    dropped = netmon.Monitor(interval=60, cluster=True, cluster_interval=60)
    closed = netmon.Monitor(interval=60, cluster=True, cluster_interval=60)
    assert threads() == ["netmon-cluster"]
    del dropped
    gc.collect()
    closed.close()
    limit = time.monotonic() + 5
    while threads():
        assert time.monotonic() < limit, "the thread looks again in 30 s only"
        time.sleep(0.01)
    assert _cluster._holds == []


def test_who_speaks_next_says_its_digests_as_often_as_it_says(clock: Clock) -> None:
    # A digest has its monitor's interval in it: said less often, the rank would be late all the time.
    speakers = [Speaker(), Speaker()]
    speakers[1]._cluster_interval = 0.5
    table = Table()
    member = Member(lambda: TableBoard(table, 1), lambda: speakers[0], INTERVAL)
    look(member, clock)
    assert member.interval == INTERVAL
    speakers.pop(0)
    look(member, clock)
    assert member.interval == 0.5
    before, table.kept = table.kept, {}
    clock.now += 0.5
    member._step()
    assert table.kept == before


def test_a_rank_that_changes_with_the_process_group_is_told_again() -> None:
    with netmon.Monitor(interval=60) as monitor:
        monitor._tell_rank(3, 4)
        assert (monitor.sample().job.rank, monitor.sample().job.world_size) == (3, 4)
        monitor._tell_rank(2, 3)  # one was lost, and the others made a group anew
        assert (monitor.sample().job.rank, monitor.sample().job.world_size) == (2, 3)
    with netmon.Monitor(interval=60, job={"rank": 7, "world_size": 8}) as monitor:
        monitor._tell_rank(2, 3)
        assert (monitor.sample().job.rank, monitor.sample().job.world_size) == (7, 8), "configuration wins"


def test_the_rank_in_the_group_wins_over_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    # srun starts a task on each of two nodes, and each of them spawns four ranks.
    for name, value in {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}.items():
        monkeypatch.setenv(name, value)
    with netmon.Monitor(interval=60) as monitor:
        assert monitor.sample().job.rank == 1
        monitor._tell_rank(6, 8)
        job = monitor.sample().job
        assert (job.rank, job.world_size, job.source) == (6, 8, "slurm+torch.distributed")
        view = netmon.ClusterView.from_dict(json.loads(monitor._aggregate({"digests": [monitor._digest()]})))
        assert view.rank(6).state == "live"
        monitor.set_job(rank=3)
        monitor._tell_rank(6, 8)
        assert monitor.sample().job.rank == 3, "who uses the monitor wins"


def test_a_monitor_that_was_closed_has_no_view() -> None:
    monitor = netmon.Monitor(interval=60, cluster=True)
    monitor.close()
    with pytest.raises(netmon.ClosedError):
        monitor.cluster()


def test_the_thread_imports_nothing() -> None:
    # A process that forks while a thread imports leaves locks behind that its child waits for.
    code = """
import sys, time, types
import netmon
monitor = netmon.Monitor(cluster=True, cluster_interval=0.1)
before = set(sys.modules)
class Distributed(types.ModuleType):
    is_available = is_initialized = staticmethod(lambda: False)
sys.modules["torch"], sys.modules["torch.distributed"] = types.ModuleType("torch"), Distributed("torch.distributed")
sys.modules["ray"] = types.ModuleType("ray")
sys.modules["ray"].is_initialized = lambda: False
limit = time.monotonic() + 20
while "torch.distributed is not initialised; ray is not initialised" not in monitor.cluster().problem:
    assert time.monotonic() < limit, monitor.cluster().problem
    time.sleep(0.02)
assert set(sys.modules) - before == {"torch", "torch.distributed", "ray"}, set(sys.modules) - before
monitor.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_store_of_an_older_torch_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Before 2.1 the first byte that is sent would mean something else, and what follows the length of a key.
    torch, distributed = types.ModuleType("torch"), types.ModuleType("torch.distributed")
    distributed.is_available = distributed.is_initialized = lambda: True  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch.distributed", distributed)
    for version, known in (("2.3.1+cpu", False), ("2.4.0a0", True), ("2.15.0+cu132", True), ("3.0.0", True), ("odd", True)):
        torch.__version__ = version  # type: ignore[attr-defined]
        assert ("is not known" not in str(_store.find())) is known, _store.find()


def test_a_signal_handler_may_close_what_its_thread_is_about_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python runs handlers between any two steps of the main thread, also where that holds a lock.
    first = netmon.Monitor(interval=60, cluster=True, cluster_interval=60)
    second = netmon.Monitor(interval=60)
    start, own = Member.start, _cluster._member
    assert own is not None

    def interrupted(member: Member) -> None:
        first.close()
        start(member)

    monkeypatch.setattr(Member, "start", interrupted)
    monkeypatch.setattr(_cluster, "_member", None)
    thread = threading.Thread(target=second.cluster, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "it waits for itself"
    assert [hold.monitor() for hold in _cluster._holds] == [second]
    second.close()
    own.close(5)


def test_a_view_of_an_earlier_term_is_not_told_as_new(clock: Clock) -> None:
    # Who was stopped before it left its view leaves it when it goes on, over that of who took over.
    table = Table()
    table.beat(1, 77, "stopped")
    old = table.view
    table.beat(2, 1, "took over")
    member = member_of([table])
    look(member, clock)
    table.beat(2, 2, "took over")
    table.view = old
    look(member, clock)
    assert who(member) is None
    table.beat(2, 3, "took over")
    look(member, clock)
    assert who(member) == "took over"
