"""What a tracker does where things go wrong around it. No torch."""

from __future__ import annotations

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

    def take(self, batch: bytes, count: int) -> bool:
        self.records += RECORD.iter_unpack(batch)
        assert len(batch) == count * RECORD.size
        return True

    def tell(self, _oldest: bytes | None, count: int) -> None:
        self.told.append(count)

    def name_groups(self, groups: Any) -> None:
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
    monkeypatch.setattr(_agree, "_connect", lambda: store)
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
