"""One monitor for all that asks for one in a process, as the rldk-compatible objects do."""

from __future__ import annotations

import os
import threading

from ._monitor import Monitor

_lock = threading.Lock()
_monitor: Monitor | None = None


def shared_monitor() -> Monitor:
    """Return the process's shared monitor, made with the defaults on first use and kept until the process ends.

    Raises:
        Error: it cannot be made; the next call tries again.
    """
    global _monitor
    with _lock:
        if _monitor is None or _monitor.closed:
            _monitor = Monitor()
        return _monitor


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held the lock. The monitor itself knows what to do in a child.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
