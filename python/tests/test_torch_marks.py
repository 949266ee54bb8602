"""Collectives on a GPU, with a GPU that the test plays: nothing waits, and nothing is asked while a graph is captured."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from netmon.integrations.torch import _cuda, _tracker
from netmon.integrations.torch._cuda import Graphs, Marks
from netmon.integrations.torch._tracker import BOUND, EXACT, POLLED, Tracker


class GPU:
    """What of torch.cuda is used. Events happen when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        gpu = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing
                self.at: float | None = None

            def record(self, stream: str) -> None:
                assert stream == "stream of cuda:0"

            def query(self) -> bool:
                gpu.asked += 1
                return self.at is not None

            def elapsed_time(self, end: Any) -> float:
                return float(end.at - self.at)  # milliseconds

        self.Event = Event

    def current_stream(self, device: str) -> str:
        return f"stream of {device}"


class Work:
    done = False

    def is_completed(self) -> bool:
        return self.done

    def wait(self) -> bool:
        return True


class Graph:
    def capture_begin(self, fails: bool = False) -> None:
        if fails:
            raise RuntimeError("no")

    def capture_end(self) -> None:
        pass


def test_an_end_that_was_waited_for() -> None:
    for overlaps, end, error in ((False, EXACT, 0), (True, BOUND, _tracker.UNKNOWN)):
        marks = Marks(Graphs(), GPU(), "cuda:0", overlaps)
        assert marks.waited()
        assert marks.look(marks, 0) is None
        marks._begin.at = 100.0
        assert marks.look(marks, 0) is None
        marks._end.at = 102.5
        assert marks.look(marks, 0) == (end, 2_500_000, error)


def test_an_end_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin and end are each between two looks: no duration is told that is better known than that."""
    clock = iter([1000, 2000, 5000, 9000]).__next__
    monkeypatch.setattr(_cuda, "now", clock)
    marks, work = Marks(Graphs(), GPU(), "cuda:0", True), Work()  # made at 1000
    work.done = True  # and still the GPU has not come to it: not asked out of order
    assert marks.look(work, 0) is None  # at 2000
    marks._begin.at = 1.0
    work.done = False
    assert marks.look(work, 0) is None  # at 5000
    work.done = True
    # It began between 2000 and 5000, and ended, where nobody looked since 6000, between that and 9000.
    assert marks.look(work, 6000) == (POLLED, 7000, 6000)
    # One look that finds both knows of neither.
    monkeypatch.setattr(_cuda, "now", iter([1000, 61_000_000, 61_000_001]).__next__)
    marks = Marks(Graphs(), GPU(), "cuda:0", True)
    marks._begin.at = 1.0
    end, duration, error = marks.look(work, 1000) or (0, 0, 0)
    assert end == POLLED
    assert error >= duration - 1


def test_nothing_is_asked_while_a_graph_is_captured() -> None:
    graphs, gpu = Graphs(), GPU()
    begin, end = Graph.capture_begin, Graph.capture_end
    graphs.watch(Graph)
    marks, graph = Marks(graphs, gpu, "cuda:0", True), Graph()
    graph.capture_begin()
    assert graphs.capturing
    assert marks.look(Work(), 0) is None
    assert not marks.waited()
    assert gpu.asked == 0
    graph.capture_end()
    assert not graphs.capturing
    marks.look(Work(), 0)
    assert gpu.asked == 1
    with pytest.raises(RuntimeError):
        graph.capture_begin(fails=True)
    assert not graphs.capturing
    graphs.unwatch()
    assert (Graph.capture_begin, Graph.capture_end) == (begin, end)


def test_a_capture_does_not_begin_while_an_event_is_asked() -> None:
    graphs, gpu = Graphs(), GPU()
    graphs.watch(Graph)
    asking, answer = threading.Event(), threading.Event()

    def question() -> str:
        asking.set()
        answer.wait(10)
        return "answered"

    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(graphs.ask(question)))
    thread.start()
    asking.wait(10)
    capture = threading.Thread(target=Graph().capture_begin)
    capture.start()
    capture.join(0.05)
    assert capture.is_alive()
    answer.set()
    capture.join(10)
    thread.join(10)
    assert results == ["answered"]
    assert graphs.capturing
    graphs.unwatch()
    assert gpu.asked == 0


def test_from_the_call_to_the_record() -> None:
    """The Work is let go of at the wait; its end is found by its marks."""
    tracker, gpu = Tracker(), GPU()
    restore = tracker._wrap_wait(Work)
    try:
        work, marks, called = Work(), Marks(Graphs(), gpu, "cuda:0", False), _tracker.now() - 10_000_000
        tracker.began(work, (_tracker.OP["all_reduce"], 1, 4096, called, 7, 0, marks))
        assert work.wait()
        assert list(tracker.live) == [marks]
        assert tracker._look() > 0
        assert tracker.packed == []
        marks._begin.at, marks._end.at = 10.0, 11.0
        tracker._look()
    finally:
        restore()
    (record,) = tracker.packed
    size, op, group, end, length, enter, duration, error, sequence = _tracker.RECORD.unpack(record)
    assert (size, op, group, length, enter, duration, error, sequence) == (56, 1, 1, 4096, called, 1_000_000, 0, 7)
    assert end == 1
    assert not tracker.live
