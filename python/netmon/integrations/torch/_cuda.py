"""The beginning and end of collectives that run on a GPU: CUDA events in the job's own streams, looked at later.

Nothing here waits for a GPU. While a CUDA graph is captured no event is recorded and nothing is asked of one, since that could
invalidate the capture: the beginning and end of captures are watched for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from ._tracker import BOUND, EXACT, POLLED, UNKNOWN, now


class Graphs:
    """Whether a CUDA graph is being captured in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._capturing = 0
        self._restore: list[Callable[[], None]] = []

    def watch(self, graph_class: Any, capturing: bool = False) -> None:
        """See when captures begin and end. One may be under way already, by the calling thread."""
        self._capturing = int(capturing)  # what began before, and when nobody watched, does not count
        begin, end = graph_class.capture_begin, graph_class.capture_end

        def capture_begin(self_: Any, *arguments: Any, **options: Any) -> Any:
            with self._lock:  # nobody asks an event while it begins
                self._capturing += 1
            try:
                return begin(self_, *arguments, **options)
            except BaseException:
                with self._lock:
                    self._capturing -= 1
                raise

        def capture_end(self_: Any, *arguments: Any, **options: Any) -> Any:
            try:
                return end(self_, *arguments, **options)
            finally:
                with self._lock:
                    self._capturing = max(self._capturing - 1, 0)

        for name, ours in (("capture_begin", capture_begin), ("capture_end", capture_end)):
            original = graph_class.__dict__.get(name)
            setattr(graph_class, name, ours)
            self._restore.append(partial(_put_back, graph_class, name, ours, original))

    def unwatch(self) -> None:
        """Undo ``watch``."""
        while self._restore:
            self._restore.pop()()

    @property
    def capturing(self) -> bool:
        """Whether a capture is under way."""
        return self._capturing > 0

    def ask(self, question: Callable[[], Any]) -> Any:
        """Ask something of an event while no capture is under way, nor begins; None: one is, or somebody else asks."""
        if not self._lock.acquire(False):
            return None
        try:
            return None if self._capturing else question()
        finally:
            self._lock.release()


def _put_back(owner: Any, name: str, ours: Any, original: Any) -> None:
    if owner.__dict__.get(name) is not ours:
        return
    if original is None:
        delattr(owner, name)
    else:
        setattr(owner, name, original)


class Marks:
    """The beginning of a collective on a GPU, and its end once somebody has waited for it."""

    __slots__ = ("_begin", "_begun", "_cuda", "_device", "_end", "_graphs", "_not_begun", "_overlaps")

    def __init__(self, graphs: Graphs, cuda: Any, device: Any, overlaps: bool) -> None:
        self._graphs, self._cuda, self._device, self._overlaps = graphs, cuda, device, overlaps
        self._begin = cuda.Event(enable_timing=True)
        self._begin.record(cuda.current_stream(device))
        self._begun: int | None = None  # when it was seen that the GPU had come to it
        self._not_begun = now()  # when it had not, last
        self._end: Any = None

    def waited(self) -> bool:
        """Take note that the current stream waits for the end; False: that cannot be marked now."""
        if self._graphs.capturing:
            return False
        end = self._cuda.Event(enable_timing=True)
        end.record(self._cuda.current_stream(self._device))
        self._end = end
        return True

    def look(self, work: Any, before: int) -> tuple[int, int, int] | None:
        """Return how it ended, with duration and error; None: it has not, or cannot be asked now."""
        found: tuple[int, int, int] | None = self._graphs.ask(lambda: self._ask(work, before))
        return found

    def _ask(self, work: Any, before: int) -> tuple[int, int, int] | None:
        if self._begun is None:
            if self._begin.query():
                self._begun = now()
            else:
                self._not_begun = now()
        if self._end is not None:
            if not self._end.query():
                return None
            duration = round(self._begin.elapsed_time(self._end) * 1e6)
            # Between a call that overlaps and its wait other work may have been in the stream.
            return (BOUND, duration, UNKNOWN) if self._overlaps else (EXACT, duration, 0)
        if self._begun is None or not work.is_completed():
            return None
        # It began between two looks, and ended between two: not known better than that.
        found = now()
        return POLLED, found - self._not_begun, found - max(self._begun, before) + self._begun - self._not_begun
