"""The one daemon thread of this package: it reads netmon's newest sample and writes files, so that training does neither.

It starts with the first task and ends with the last. At most one runs in a process, however many objects there are. A forked
child has none until one of its own objects asks for it.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

from ._trouble import process

_EXIT_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = 60.0


class Task(Protocol):
    """Something to do again and again."""

    def tick(self, now: float) -> float | None:
        """Do it.

        Returns:
            When to do it next, on the clock of ``time.monotonic``; None: never again.
        """

    def at_exit(self) -> None:
        """Take note that the process ends, and that the next ``tick`` is the last."""


class Worker:
    """The thread and its tasks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._due: dict[Task, float] = {}
        self._thread: threading.Thread | None = None
        self._ending = False

    def add(self, task: Task) -> threading.Thread | None:
        """Have a task done from now on.

        Returns:
            The thread that does it; None where none can be started, and the caller has to ``tick`` by himself.
        """
        with self._lock:
            self._due.setdefault(task, 0.0)
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="netmon-rldk", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    self._due.pop(task, None)
                    process.tell("thread", f"no thread can be started, so files are written when training ends: {error}")
                    return None
                self._thread = thread
            thread = self._thread
        self._wake.set()
        _register_exit()
        return thread

    def discard(self, task: Task) -> None:
        """Have a task done no more."""
        with self._lock:
            self._due.pop(task, None)
        self._wake.set()

    def hurry(self, task: Task) -> None:
        """Have a task done as soon as possible."""
        with self._lock:
            if task in self._due:
                self._due[task] = 0.0
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.clear()
            now = time.monotonic()
            with self._lock:
                due = [task for task, when in self._due.items() if when <= now]
            for task in due:
                with self._lock:
                    if task not in self._due:
                        continue
                    # What hurries a task while it is done leaves 0 here.
                    self._due[task] = now + _LONGEST_WAIT_SECONDS
                after = self._done(task, now)
                with self._lock:
                    if after is None:
                        self._due.pop(task, None)
                    elif self._due.get(task, 0.0):
                        self._due[task] = after
            with self._lock:
                if not self._due:
                    self._thread = None
                    return
                wait = min(self._due.values()) - time.monotonic()
            if wait > 0:
                self._wake.wait(min(wait, _LONGEST_WAIT_SECONDS))

    def _done(self, task: Task, now: float) -> float | None:
        try:
            return task.tick(now)
        except Exception as error:  # noqa: BLE001 - one task's defect must not end the others
            process.tell(f"task {type(task).__name__}", f"a defect of netmon in the background: {error!r}")
            return now + 1.0

    def at_exit(self) -> None:
        """Do everything a last time; waits at most 10 s."""
        with self._lock:
            tasks, thread = list(self._due), self._thread
        for task in tasks:
            task.at_exit()
            self.hurry(task)
        if thread is not None and thread is not threading.current_thread():
            thread.join(_EXIT_SECONDS)


worker = Worker()
_exit_registered = False


def _register_exit() -> None:
    global _exit_registered
    if _exit_registered:
        return
    _exit_registered = True
    atexit.register(_at_exit)
    # Processes of multiprocessing end without atexit.
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _at_exit, exitpriority=100)


def _at_exit() -> None:
    worker.at_exit()


_children: list[Callable[[], None]] = []


def in_forked_child(call: Callable[[], None]) -> None:
    """Have something called in every forked child, after its worker was made anew."""
    _children.append(call)


def _after_fork_in_child() -> None:
    global worker, _exit_registered
    worker._lock = threading.Lock()
    worker._wake = threading.Event()
    worker._due = {}
    worker._thread = None
    _exit_registered = False
    for call in _children:
        call()


os.register_at_fork(after_in_child=_after_fork_in_child)
