"""What the trackers' loggers have in common: values that are ready when a step is logged, and a thread that writes them."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from ..._errors import ResourceError, TimedOutError
from ..._options import RunOptions
from .._flat import FlatValues
from .._guest import Guest

if TYPE_CHECKING:
    from ..._monitor import Monitor

_PREPARE_SECONDS = 1.0
_CLOSE_SECONDS = 5.0
_MOST_STEPS = 1000  # that wait to be written


class Logger:
    """The network's values at a step, from a daemon thread that measures once a second: asking for them waits for nothing.

    It is the base of those that write into a tracker. On its own it is for any other: ``tracker.log(logger.values(step))``.
    Nothing is raised after its construction: what goes wrong is one warning, and ``problem``. A forked child logs nothing.

    Args:
        monitor: who measures; None: the process's shared monitor, which is started if need be.
        nodes: whether each node's own values are wanted too, under ``network/node/<name>/``; None: as ``netmon run`` was told.

    Attributes:
        problem: what goes wrong at the moment, None: nothing.
    """

    _tracker = "netmon's values"

    def __init__(self, monitor: Monitor | None = None, *, nodes: bool | None = None) -> None:
        self._guest = Guest(self._tracker)
        self._measuring = Guest(self._tracker)
        self._pid = os.getpid()
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._values = self._made(self._measuring.monitor(monitor), nodes)
        if self._values is not None:
            self._prepare(self._values)
            self._start(self._keep_prepared, "netmon-values")
        atexit.register(self.close)

    def _made(self, monitor: Monitor | None, nodes: bool | None) -> FlatValues | None:
        if monitor is None:
            return None
        if nodes is None:
            nodes = bool(self._guest.ask(lambda: RunOptions.from_environment().nodes))
        return FlatValues(monitor, nodes=nodes)

    def _start(self, run: object, name: str) -> None:
        thread = threading.Thread(target=run, name=name, daemon=True)  # type: ignore[arg-type]
        thread.start()
        self._threads.append(thread)

    def _prepare(self, values: FlatValues) -> None:
        self._measuring.ask(values.prepare)
        if self._measuring.problem is not None:
            values.forget()

    def _keep_prepared(self) -> None:
        assert self._values is not None
        while not self._end.wait(_PREPARE_SECONDS):
            self._prepare(self._values)

    @property
    def problem(self) -> str | None:
        """What goes wrong at the moment."""
        return self._guest.problem or self._measuring.problem

    def values(self, step: object) -> dict[str, float]:
        """Return the values at a step, by their keys, at once; the same ones where it is asked again at the same step.

        What was not measured is absent.
        """
        if self._values is None or self._closed or os.getpid() != self._pid:
            return {}
        return self._values.prepared(step)

    def log(self, step: int) -> None:
        """Log the network's values at a step."""
        values = self.values(step)
        if values:
            self._guest.ask(lambda: self._log(values, step))

    def _log(self, values: Mapping[str, float], step: int) -> None:
        """Hand values over to the tracker."""

    def close(self) -> None:
        """Write what is still to be written, 5 s at most, and end. Closing twice is fine."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._end.set()
        self._guest.ask(self._finish)

    def _finish(self) -> None:
        """End what was begun for the tracker."""

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


class WritingLogger(Logger):
    """One whose tracker may wait for a disk or a network: a thread of its own writes."""

    def __init__(self, monitor: Monitor | None = None, *, nodes: bool | None = None) -> None:
        super().__init__(monitor, nodes=nodes)
        self._rows: queue.Queue[tuple[Mapping[str, float], int, float] | None] = queue.Queue(_MOST_STEPS)
        if self._values is not None:
            self._start(self._run, "netmon-tracker")

    def _log(self, values: Mapping[str, float], step: int) -> None:
        try:
            self._rows.put_nowait((values, step, time.time()))
        except queue.Full:
            raise ResourceError(f"{_MOST_STEPS} steps wait to be written; step {step} is left out") from None

    def _run(self) -> None:
        while (row := self._rows.get()) is not None:
            values, step, when = row
            self._guest.ask(lambda: self._write(values, step, when))  # noqa: B023 - called at once

    def _write(self, values: Mapping[str, float], step: int, when: float) -> None:
        """Write values, on the thread that does nothing else."""
        raise NotImplementedError

    def _finish(self) -> None:
        if self._values is None:
            return
        writer, deadline = self._threads[-1], time.monotonic() + _CLOSE_SECONDS
        with contextlib.suppress(queue.Full):
            self._rows.put(None, timeout=_CLOSE_SECONDS)
            writer.join(max(0.0, deadline - time.monotonic()))
        if writer.is_alive():
            lost = self._give_up()
            raise TimedOutError(f"what was logged is not written after {_CLOSE_SECONDS:g} s; {lost} steps are lost")

    def _give_up(self) -> int:
        """Have the thread end after what it is at, and return how many steps it leaves."""
        left = 0
        with contextlib.suppress(queue.Empty):
            while True:
                left += self._rows.get_nowait() is not None
        self._rows.put_nowait(None)
        return left
