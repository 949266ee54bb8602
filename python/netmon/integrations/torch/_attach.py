"""Switching the timing of collectives on and off."""

from __future__ import annotations

import atexit
import importlib
import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..._errors import UnsupportedError
from . import _hooks, _library
from ._cuda import Graphs
from ._hooks import Hooks
from ._library import Operators
from ._sink import Sink
from ._tracker import Tracker

if TYPE_CHECKING:
    from ..._cluster import Hold
    from ..._monitor import Monitor


class _Process:
    """What this process has of the timing of collectives: one for all monitors that ask for it."""

    def __init__(self, distributed: Any) -> None:
        self.graphs = Graphs()
        self.tracker = Tracker()
        self._work_class = distributed.Work
        self._attached = False
        self.seeing: Hooks | Operators
        if Hooks.possible(distributed):
            self.seeing, self.source, self.unseen = Hooks(self.tracker, self.graphs), _hooks.SOURCE, _hooks.UNSEEN
        else:
            self.seeing = Operators(self.tracker, self.graphs)
            self.source, self.unseen = _library.SOURCE, _library.UNSEEN

    def sink_of(self, monitor: Monitor) -> Sink:
        """Return where records of a monitor go. One that asks twice is told once."""
        handle = monitor._handle.value
        for sink in self.tracker.sinks:
            if sink.handle == handle:
                return sink
        return Sink(monitor, self.source, self.unseen)

    def add(self, sink: Sink) -> None:
        """Have a monitor told of collectives from now on."""
        sink.asked += 1
        if sink not in self.tracker.sinks:
            self.tracker.add(sink)
        try:
            if not self._attached:
                self._attached = True
                cuda: Any = importlib.import_module("torch.cuda")
                if cuda.is_available():
                    self.graphs.watch(cuda.CUDAGraph, cuda.is_current_stream_capturing())
                self.tracker.start(self._work_class)
            self.seeing.attach()
        except BaseException:
            self.remove(sink)
            raise

    def remove(self, sink: Sink) -> str | None:
        """Have a monitor told no more. Where it was the last, take everything away, and return what remains, and why."""
        tracker = self.tracker
        tracker.flush()
        sink.asked -= 1
        if sink.asked > 0:
            return None
        # One that was closed is not among them any more.
        if not self._attached or any(other is not sink for other in tracker.sinks):
            tracker.remove(sink)
            return None
        return self.end(sink)

    def end(self, *last: Sink) -> str | None:
        """Take everything away, and return what remains, and why."""
        self._attached = False
        self.tracker.stop()
        for sink in last:
            self.tracker.remove(sink)
        self.tracker.sinks.clear()
        self.tracker.live.clear()
        self.graphs.unwatch()
        return self.seeing.detach()

    def after_fork(self) -> None:
        """Begin anew in a child."""
        self._attached = False
        self.tracker.after_fork()
        self.seeing.after_fork()


_lock = threading.RLock()  # a signal handler that closes may run where its thread has it
_process: _Process | None = None


class Attachment:
    """The timing of collectives that ``attach`` switched on. ``close`` switches it off.

    Attributes:
        source: by what the collectives are seen: ``"torch hooks"`` or ``"torch library"``.
        unseen: what is not seen.
        remaining: after ``close``, what could not be taken away, and why; None: nothing.
    """

    def __init__(self, process: _Process, sink: Sink, hold: Hold | None) -> None:
        self._hold = hold
        self.source = process.source
        self.unseen = process.unseen
        self.remaining: str | None = None
        self._process: _Process | None = process
        self._sink = sink
        self._tracker = process.tracker

    @property
    def problem(self) -> str | None:
        """The newest thing that went wrong, None for nothing. Nothing is raised into the job."""
        return self._tracker.problem

    def flush(self) -> None:
        """Hand over what was recorded now; it happens by itself, each 0.25 s or so, and every 256 records."""
        self._tracker.flush()

    def close(self) -> None:
        """Switch it off, as it was before, where no other monitor needs it. Closing twice is fine.

        Call it where ``attach`` was called, and while no other thread calls collectives: torch has no lock there. Where it sees
        that others do, hooks stay behind that do nothing, and ``remaining`` says so.
        """
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.release()
        with _lock:
            process, self._process = self._process, None
            if process is not None:
                self.remaining = process.remove(self._sink)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._process is None else f"by {self.source}"
        return f"<netmon Attachment: collectives, {state}>"


def attach(monitor: Monitor, *, cluster: bool = True) -> Attachment:
    """Time the collectives that the job runs with torch.distributed, from now on, in every group, also those made later.

    They come to be in ``sample.collectives``. Nothing of the training code changes, none of netmon's collectives runs, and
    nothing is raised into the job. It adds some microseconds to each collective; docs/collectives.md says what is seen.

    Call it after ``torch.distributed.init_process_group`` or before, by the thread that trains, while no other thread calls
    collectives.

    Args:
        monitor: who is told of them.
        cluster: whether this process takes part in the view of its job too (``monitor.cluster()``), on a thread of its own that
            calls no collective; never where the monitor was made with ``cluster=False``.

    Returns:
        What switches it off again (``close``, or a ``with`` block).

    Raises:
        UnsupportedError: torch or its distributed package is not there, or the monitor does not measure collectives.
        ClosedError: the monitor was closed.
    """
    global _process
    try:
        distributed: Any = importlib.import_module("torch.distributed")
    except ImportError as error:
        raise UnsupportedError(f"torch is not installed: {error}") from error
    if not distributed.is_available():
        raise UnsupportedError("this torch has no torch.distributed")
    with _lock:
        if _process is None:
            _process = _Process(distributed)
        sink = _process.sink_of(monitor)
        _process.add(sink)
        hold = monitor._join() if cluster and monitor._cluster is not False else None
        return Attachment(_process, sink, hold)


def _at_exit() -> None:
    # A thread that is inside of torch while the interpreter goes away would end the process with an abort.
    # So may hooks of groups that were not destroyed.
    if _process is not None:
        _process.end()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    if _process is not None:
        _process.after_fork()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
