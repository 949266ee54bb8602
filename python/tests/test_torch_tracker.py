"""What a tracker does where things go wrong around it. No torch."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import netmon
from netmon.integrations.torch import _agree, _tracker
from netmon.integrations.torch._agree import Meeting
from netmon.integrations.torch._cuda import Graphs
from netmon.integrations.torch._hooks import Hooks
from netmon.integrations.torch._tracker import OP, RECORD, Tracker, now


class Sink:
    """A monitor that keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[tuple[int, ...]] = []
        self.told: list[int] = []
        self.watches: list[tuple[int, ...]] = []

    def take(self, batch: bytes, count: int) -> bool:
        self.records += RECORD.iter_unpack(batch)
        assert len(batch) == count * RECORD.size
        return True

    def tell(self, _oldest: bytes | None, count: int) -> None:
        self.told.append(count)

    def name_groups(self, groups: Any) -> None:
        pass

    def watched(self, *watch: int) -> None:
        self.watches.append(watch)

    def leave(self) -> None:
        pass

    @property
    def ends(self) -> list[int]:
        return [record[3] for record in self.records]


class Work:
    """A collective. Nothing of it is torch's."""

    def __init__(self, done: bool = False) -> None:
        self.done = done

    def is_completed(self) -> bool:
        return self.done

    def wait(self) -> bool:
        return True


class Broken(Work):
    def is_completed(self) -> bool:
        raise RuntimeError("the communicator was aborted")


def tracker_with(sink: Any) -> Tracker:
    tracker = Tracker()
    tracker.sinks.append(sink)
    tracker.group("g", 2)
    return tracker


def call(op: str = "all_reduce", ago_seconds: float = 0.1, sequence: int = 1) -> _tracker.Call:
    return OP[op], 1, 4096, now() - round(ago_seconds * 1e9), sequence, 1, None


def test_the_oldest_that_is_under_way() -> None:
    sink = Sink()
    tracker = tracker_with(sink)
    works = [Work(), Work(), Work(), Work()]
    for work, one in zip(
        works, (call(ago_seconds=0.1), call("send", 9), call(ago_seconds=2), call(ago_seconds=3)), strict=True
    ):
        tracker.began(work, one)
    tracker._look()
    assert sink.told == [2], "what is new is left out, and what tells late"
    assert tracker._told is not None
    assert tracker._told[0] is tracker.live[works[3]]
    tracker._look()
    assert sink.told == [2], "told once"
    works[3].done = True
    tracker._look()
    works[2].done = True
    tracker._look()
    assert sink.told == [2, 1, 0]


def test_one_that_cannot_be_asked_does_not_hide_the_others() -> None:
    sink = Sink()
    tracker = tracker_with(sink)
    tracker.began(Broken(), call())
    tracker.began(Work(done=True), call())
    tracker.began(Work(done=False), call())
    tracker._look()
    tracker._look()
    tracker.flush()
    assert sorted(sink.ends) == [0, 2]  # unknown, polled
    assert len(tracker.live) == 1
    assert "aborted" in str(tracker.problem)


def test_interrupted_before_the_wait() -> None:
    """Ctrl-C between the call of wait and torch's own."""
    sink = Sink()
    tracker = tracker_with(sink)

    class Slow(Work):
        def is_completed(self) -> bool:
            raise KeyboardInterrupt

        def wait(self) -> bool:
            raise AssertionError("not reached")

    restore = tracker._wrap_wait(Slow)
    work = Slow()
    tracker.live[work] = call()
    with pytest.raises(KeyboardInterrupt):
        work.wait()
    restore()
    assert not tracker.live
    assert not tracker.waiting
    tracker._look()
    assert sink.told == []


def test_a_monitor_that_raises_does_not_hide_the_others() -> None:
    class Bad(Sink):
        def take(self, batch: bytes, count: int) -> bool:
            raise ValueError("bad")

        def tell(self, _oldest: bytes | None, count: int) -> None:
            raise ValueError("bad")

        def name_groups(self, groups: Any) -> None:
            raise ValueError("bad")

    sink = Sink()
    tracker = tracker_with(sink)
    tracker.sinks.insert(0, Bad())
    assert tracker.group("other", 2) == 2
    tracker.began(Work(done=True), call())
    tracker.began(Work(done=False), call(ago_seconds=3))
    tracker._look()
    tracker.flush()
    assert sink.ends == [2]
    assert sink.told == [1]


class Store:
    """A store in which the other rank is there already."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self.kept[key] = value

    def check(self, keys: list[str]) -> bool:
        return all(key.endswith("/1") or key in self.kept for key in keys)

    def get(self, key: str) -> bytes:
        return self.kept.get(key, "it").encode()

    def compare_set(self, key: str, _before: str, after: str) -> bytes:
        return self.kept.setdefault(key, after).encode()


def test_who_has_given_up_lets_nobody_go() -> None:
    """The store answered too late: the caller has its error, and the others would wait for it in a collective."""
    for given_up in (False, True):
        meeting = Meeting(0, 2, "it", "measure_collectives")
        meeting._given_up = given_up
        store = Store()
        assert meeting._host(store, time.monotonic() + 60) is not given_up
        assert [value for key, value in store.kept.items() if key.endswith("outcome")] == ["off" if given_up else "go"]


class Group:
    """A group of torch's, as far as the hooks of it look at one."""

    group_desc, group_name = "default_pg", "0"

    def size(self) -> int:
        return 2


class Hooked:
    """A call as hooks see it, during whose post hook something happens."""

    async_op, op_id = True, 0

    def __init__(self, meanwhile: Any) -> None:
        self.name = type("Name", (), {"value": 0})
        self.input_tensors = [type("Tensor", (), {"nbytes": 4})]
        self._meanwhile = meanwhile

    @property
    def work(self) -> Work:
        self._meanwhile()
        return Work()


def test_closed_between_call_and_note() -> None:
    """Another thread closes while a call is being noted: its Work, and its tensors, must not be kept for ever."""
    tracker = tracker_with(Sink())
    hooks = object.__new__(Hooks)
    hooks._tracker, hooks._table, hooks._home, hooks._foreign = tracker, [(OP["all_reduce"], 0)], threading.get_ident(), set()

    def close() -> None:
        tracker.sinks.clear()
        tracker.live.clear()

    pre, post = hooks._pair(1, 2, None)
    call = Hooked(close)
    pre(call)
    post(call)
    assert not tracker.live
    assert tracker.problem is None


def test_attached_while_a_graph_is_captured() -> None:
    class Graph:
        def capture_begin(self) -> None:
            pass

        def capture_end(self) -> None:
            pass

    graphs, graph = Graphs(), Graph()
    graphs.watch(Graph, capturing=True)
    assert graphs.capturing
    graph.capture_end()
    assert not graphs.capturing
    graph.capture_begin()
    graphs.unwatch()
    graph.capture_end()  # not seen
    graphs.watch(Graph, capturing=False)
    assert not graphs.capturing
    graph.capture_end()  # of one that began before
    graph.capture_begin()
    assert graphs.capturing
    graphs.unwatch()


def test_a_thread_that_is_late_to_end_ends() -> None:
    """stop waits half a second for it, and start may come before it has seen that it was to end."""
    tracker = tracker_with(Sink())
    looked, go_on = threading.Event(), threading.Event()

    class Late(Work):
        def is_completed(self) -> bool:
            looked.set()
            assert go_on.wait(30)
            return True

    tracker.began(Late(), call())
    before = threading.active_count()
    tracker.start(Work)
    assert looked.wait(30)
    tracker.stop()
    tracker.start(Work)
    assert threading.active_count() == before + 2
    go_on.set()
    limit = time.monotonic() + 30
    while threading.active_count() > before + 1 and time.monotonic() < limit:
        time.sleep(0.01)
    assert threading.active_count() == before + 1
    tracker.stop()
    assert threading.active_count() == before


class EmptyStore:
    """A store of one process."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def set(self, key: str, value: str) -> None:
        self.kept[key] = value.encode()

    def get(self, key: str) -> bytes:
        return self.kept[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self.kept for key in keys)

    def compare_set(self, key: str, expected: str, value: str) -> bytes:
        assert expected == ""
        return self.kept.setdefault(key, value.encode())

    def delete_key(self, key: str) -> bool:
        return self.kept.pop(key, None) is not None


def test_meetings_leave_nothing_for_long_in_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    store = EmptyStore()
    monkeypatch.setattr(_agree, "_connect", lambda _seconds: (store, ""))
    monkeypatch.setattr(_agree, "_KEPT_SECONDS", 0.0)
    for _ in range(20):
        meetings = [Meeting(rank, 3, "it", "measure_collectives") for rank in range(3)]
        threads = [threading.Thread(target=meeting.attend, args=(10.0,)) for meeting in meetings]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [meeting._agreed for meeting in meetings] == [True] * 3
        with pytest.raises(netmon.TimedOutError):
            Meeting(0, 3, "it", "measure_collectives").attend(0.001)
    assert len(store.kept) <= 10, "a job that measures in every step adds to the store for ever"


class Timed(Work):
    """A collective that ends at a time of the test's clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self._clock, self.ends = clock, clock() + round(seconds * 1e9)

    def is_completed(self) -> bool:
        return self._clock() >= self.ends


class Clock:
    """Time, in which the thread that looks is played, and nothing takes any but what waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time, self.looks, self.woken = 10**12, 0, 0
        self.cost = self.spent = 0  # processor time of a look, and of all so far, in nanoseconds
        monkeypatch.setattr(_tracker, "now", self)
        monkeypatch.setattr(_tracker.time, "thread_time_ns", lambda: self.spent)
        self.sink = Sink()
        self.tracker = tracker_with(self.sink)
        self.tracker._thread = threading.current_thread()  # as if it were the one that looks
        self._look()

    def __call__(self) -> int:
        return self.time

    def _look(self) -> None:
        self.looks += 1
        self.spent += self.cost
        self._next = self.time + self.tracker._settle(self.tracker._turn())

    def rest(self) -> None:
        """Go to a moment after which nobody would look for a while."""
        self.pass_(1)
        self.pass_((self._next - self.time) / 1e9)

    def pass_(self, seconds: float) -> None:
        until = self.time + round(seconds * 1e9)
        while self._next <= until:
            self.time = self._next
            self._look()
        self.time = until

    def call(self, seconds: float, size: int = 4096, op: str = "all_reduce", sequence: int = 1) -> Timed:
        work = Timed(self, seconds)
        self.tracker.began(work, (OP[op], 1, size, self.time, sequence, 1, None))
        if self.tracker._wake.acquire(False):
            self.woken += 1
            self._look()
        return work

    def one(self, seconds: float, **options: Any) -> tuple[float, float, int]:
        """Play one that ends, and return its duration and error, and how often it was looked while it was under way."""
        self.rest()
        before = self.looks
        self.call(seconds, **options)
        while self.tracker.live:
            self.pass_(0.0001)
        looks = self.looks - before
        self.tracker.flush()
        record = self.sink.records[-1]
        duration, error = record[6] / 1e9, record[7] / 1e9
        assert duration - error - 1e-9 <= seconds <= duration + 1e-9, "what is said of the error is true"
        return duration, error, looks


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_what_has_a_known_duration_is_looked_at_when_it_ends(clock: Clock) -> None:
    _, error, looks = clock.one(0.06)
    assert error <= 0.0011
    assert 55 <= looks <= 62, "nothing is known of the first"
    for _ in range(50):
        _, error, looks = clock.one(0.06)
        assert error <= 0.0011
        assert looks <= 15
    for seconds in (0.3, 2.0):
        clock.one(seconds, size=1 << 20)
        for _ in range(20):
            duration, error, looks = clock.one(seconds, size=1 << 20)
            assert error <= 0.0101 * duration
            assert looks <= 80
        clock.tracker._kinds.clear()


def test_one_that_ends_early(clock: Clock) -> None:
    """Its duration may be far too long, which it says; the next is looked at earlier."""
    clock.one(0.06)
    errors = [clock.one(0.0015)[1] for _ in range(6)]
    assert 0.005 < errors[0] <= 0.0501, "and it is not kept for longer than that"
    assert errors[1] < errors[0]
    assert errors[5] <= 0.0011
    assert clock.one(0.06)[2] > 40, "there are short ones among them"
    for _ in range(_tracker._MOST_RECENT):
        clock.one(0.06)
    assert clock.one(0.06)[2] <= 15, "they are long ago"


def test_none_is_kept_for_long(clock: Clock) -> None:
    for usual in (0.03, 0.2, 3.0):
        for _ in range(3):
            clock.one(usual, size=1 << 20)
        for share in (0.1, 0.5, 0.8):
            clock.tracker._kinds.clear()
            clock.one(usual, size=1 << 20)
            duration, _, _ = clock.one(usual * share, size=1 << 20)
            assert duration - usual * share <= max(0.0501, 0.101 * usual * share)


def test_durations_that_vary(clock: Clock) -> None:
    durations = [0.05 + 0.004 * (i * 7 % 5) for i in range(100)]
    found = [clock.one(seconds) for seconds in durations]
    assert all(error <= 0.0011 for _, error, _ in found)
    assert sum(looks for _, _, looks in found[20:]) / 80 <= 27


def test_one_look_is_for_all(clock: Clock) -> None:
    clock.one(0.06)
    clock.rest()
    before, woken = clock.looks, clock.woken
    works = []
    for _ in range(4):
        works.append(clock.call(0.06))
        clock.pass_(0.001)
    clock.pass_(0.07)
    assert not clock.tracker.live
    assert clock.looks - before <= 22
    assert clock.woken - woken == 1, "the others can wait until it looks anyway"


def test_what_is_not_known_wakes_the_thread(clock: Clock) -> None:
    clock.one(0.06)
    clock.rest()
    clock.call(0.06)
    clock.pass_(0.02)
    woken = clock.woken
    clock.call(0.003, size=1 << 20)
    assert clock.woken - woken == 1
    clock.pass_(0.005)
    assert len(clock.tracker.live) == 1
    clock.tracker.flush()
    assert clock.sink.records[-1][7] <= 1_100_000


def test_what_the_job_waits_for_is_known_too(clock: Clock) -> None:
    """It took at least as long as it was seen under way."""
    restore = clock.tracker._wrap_wait(Timed)
    looks = []
    for _ in range(3):
        clock.rest()
        before = clock.looks
        work = clock.call(0.06)
        clock.pass_(0.04)
        work.wait()
        looks.append(clock.looks - before)
    assert looks[0] >= 39
    assert looks[2] <= 11
    # One that ended before the wait and the next look.
    clock.rest()
    clock.tracker._next = clock.time + 10**9
    work = clock.call(0.001)
    clock.pass_(0.005)
    work.wait()
    clock.tracker.flush()
    assert clock.sink.ends[-1] == 3
    assert clock.sink.records[-1][7] == 5_000_000, "nobody looked since the call"
    restore()


def steps(clock: Clock, seconds: float, sequence: int) -> int:
    """Play steps of a job, 46 ms each, with four buckets of 5 ms, one after the other, that nobody waits for in Python."""
    until = clock.time + round(seconds * 1e9)
    while clock.time < until:
        clock.pass_(0.026)
        for _ in range(4):
            clock.call(0.005, sequence=sequence)
            sequence += 1
            clock.pass_(0.005)
            assert len(clock.tracker.live) <= 2, "the next call lets go of what has ended"
    return sequence


def test_what_the_thread_may_spend(clock: Clock) -> None:
    """A look that takes 50 us of the processor, and 87 collectives a second: to follow all would be 3 % of the time."""
    clock.cost = 50_000
    sequence = steps(clock, 60, 0)
    clock.pass_(1)
    clock.tracker.flush()
    clock.sink.records.clear()
    spent, begun, first = clock.spent, clock.time, sequence
    sequence = steps(clock, 600, sequence)
    assert (clock.spent - spent) / (clock.time - begun) <= 1 / _tracker._SHARE + 0.00001
    clock.pass_(1)
    clock.tracker.flush()
    assert sorted(record[-1] for record in clock.sink.records) == list(range(first, sequence)), "each has its record"
    followed = [record[-1] for record in clock.sink.records if record[7] <= 1_000_000]
    assert len(followed) >= 20 * _tracker._BLOCK, "in ten minutes"
    assert sum(sequence % 512 < _tracker._BLOCK for sequence in followed) >= 0.9 * len(followed), "other ranks follow the same"
    for record in clock.sink.records:
        duration, error = record[6:8]
        assert duration >= 5_000_000
        assert duration - error <= 5_000_000
        assert error <= 1_000_000 or error >= duration, "a bound is told from a measurement"


def test_looks_are_at_moments_of_their_own(clock: Clock) -> None:
    """However little can be followed, the share of the looks at which something is under way is that of the time."""
    clock.cost = 50_000
    sequence = steps(clock, 60, 0)
    looks, busy = clock.tracker._looks, clock.tracker._busy
    steps(clock, 600, sequence)
    assert clock.tracker._looks - looks >= 2000
    assert (clock.tracker._busy - busy) / (clock.tracker._looks - looks) == pytest.approx(20 / 46, abs=0.04)
    assert clock.sink.watches[-1][0] <= clock.time
    assert clock.sink.watches[-1][1:] == (clock.tracker._looks, clock.tracker._busy)


def test_looks_that_cost_more_are_fewer(clock: Clock) -> None:
    clock.cost = 200_000
    sequence = steps(clock, 60, 0)
    clock.sink.records.clear()
    spent, begun = clock.spent, clock.time
    steps(clock, 900, sequence)
    assert (clock.spent - spent) / (clock.time - begun) <= 1 / _tracker._SHARE + 0.00002
    clock.tracker.flush()
    assert any(record[7] <= 1_000_000 for record in clock.sink.records), "and some are followed"
    clock.cost = 5_000_000
    steps(clock, 20, 0)
    assert clock.tracker._credit >= -_tracker._MOST_DEBT_NS, "what it may not spend is not owed for ever"


def test_one_that_does_not_end_keeps_no_other(clock: Clock) -> None:
    clock.tracker.mask, clock.tracker.block = _tracker._LEAST_MASK, 0
    clock.tracker._credit = -_tracker._MOST_DEBT_NS
    held = clock.call(10**6, sequence=0)
    for sequence in range(1, 200):
        clock.call(0.001, sequence=sequence)
        clock.pass_(0.002)
        assert len(clock.tracker.live) <= 8
    assert held in clock.tracker.live


def test_a_look_while_the_job_waits_does_not_make_the_end_known(clock: Clock) -> None:
    """torch lets go of the interpreter in wait, and a look that comes then does not see the Work."""

    class Waited(Timed):
        def wait(self) -> bool:
            clock.tracker._look()
            return True

    restore = clock.tracker._wrap_wait(Waited)
    work = Waited(clock, 0.001)
    clock.tracker._next = clock.time + 10**9
    clock.tracker.began(work, (OP["all_reduce"], 1, 4096, clock.time, 1, 1, None))
    clock.time += 5_000_000
    work.wait()
    restore()
    clock.tracker.flush()
    assert clock.sink.ends[-1] == 3
    assert clock.sink.records[-1][7] == 5_000_000


def test_what_is_complete(clock: Clock) -> None:
    """Records are complete up to when the oldest was called that has not ended."""
    clock.rest()
    begun = clock.time
    clock.call(0.4, sequence=1)
    clock.pass_(0.3)
    clock.tracker.flush()
    assert clock.sink.watches[-1][0] == begun
    clock.pass_(0.2)
    clock.tracker.flush()
    assert clock.sink.watches[-1][0] == clock.time


def test_a_machine_that_is_idle_again(clock: Clock) -> None:
    """Having had to follow few, it follows all again where there is time for it."""
    clock.cost = 50_000
    sequence = steps(clock, 30, 0)
    assert clock.tracker.mask > 0
    clock.cost = 1000
    sequence = steps(clock, 600, sequence)
    assert clock.tracker.mask == 0


def test_of_two_ranks_the_fewer_are_among_the_more() -> None:
    masks = [2**power - 1 for power in range(5, 21)]
    assert masks[0] == _tracker._LEAST_MASK
    assert masks[-1] == _tracker._MOST_MASK
    for smaller, larger in itertools.pairwise(masks):
        few, many = ({i for i in range(1 << 12) if i & mask < _tracker._BLOCK} for mask in (larger, smaller))
        assert few <= many
    assert all(_tracker.UNKNOWN & mask >= _tracker._BLOCK for mask in masks)


def test_the_table_is_bounded(clock: Clock) -> None:
    call = clock.tracker._learn
    for i in range(3 * _tracker._MOST_KINDS):
        call((OP["all_reduce"], i, 4096, 0, 1, 1, None), 10**7)
        assert len(clock.tracker._kinds) <= _tracker._MOST_KINDS
    for i in range(100):
        call((OP["all_reduce"], 0, 4096, 0, 1, 1, None), 10**7 + i)
    (_, recent), *_ = [kind for key, kind in clock.tracker._kinds.items() if key[1] == 0]
    assert len(recent) == _tracker._MOST_RECENT


GROUPS = """
import json
import torch
import torch.distributed as dist
from torch.testing._internal.distributed import fake_pg  # the backend "fake"
import netmon
from netmon.integrations.torch import attach

dist.init_process_group("fake", store=dist.HashStore(), rank=0, world_size=2)
with netmon.Monitor(interval=60, cluster=False) as monitor, attach(monitor, cluster=False) as handle:
    for _ in range(1100):
        group = dist.new_group([0, 1])
        name = group.group_name
        dist.all_reduce(torch.ones(4), group=group)
        dist.destroy_process_group(group)
        del group
    dist.all_reduce(torch.ones(4))
    handle.flush()
    recent = json.loads(monitor._query({"view": "collectives"}))["recent"][-2:]
    cost = monitor.sample().self
    said = [cost.collectives_dropped_total, cost.collectives_unlisted_total, handle.problem, handle._sink._alike]
dist.destroy_process_group()
print(json.dumps([name, [record["group"] for record in recent], said]))
"""


def test_a_job_that_makes_and_destroys_groups_for_days() -> None:
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-c", GROUPS], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    name, groups, said = json.loads(done.stdout)
    assert groups == [name, "default_pg"], "the last is told from all before"
    assert said == [0, 0, None, True]
