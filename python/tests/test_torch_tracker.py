"""What a tracker does where things go wrong around it. No torch."""

from __future__ import annotations

from typing import Any

import pytest

from netmon.integrations.torch import _tracker
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
