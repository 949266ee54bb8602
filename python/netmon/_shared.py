"""One monitor for all that asks for one in a process, as the rldk-compatible objects do."""

from __future__ import annotations

import os
import threading
from typing import Any

from ._errors import ConfigError
from ._monitor import Monitor

_lock = threading.Lock()
_monitor: Monitor | None = None
_options: dict[str, Any] = {}
_options_hold = False  # whatever configure_shared says


def shared_monitor() -> Monitor:
    """Return the process's shared monitor, made on first use as ``configure_shared`` said, and kept until the process ends.

    Raises:
        Error: it cannot be made; the next call tries again.
    """
    global _monitor
    monitor = _monitor
    if monitor is not None and not monitor.closed:
        return monitor
    with _lock:
        if _monitor is None or _monitor.closed:
            _monitor = Monitor(**_options)
        return _monitor


def existing_monitor() -> Monitor | None:
    """Return the shared monitor if there is one by now."""
    monitor = _monitor
    return monitor if monitor is not None and not monitor.closed else None


def configure_shared(**options: Any) -> None:
    """Say how the shared monitor is to measure, with the arguments of ``Monitor``, and start it.

    Saying the same again is fine. Where ``netmon run`` has started it, its options hold, and what is said here does nothing.

    Raises:
        ConfigError: an option is wrong, or the monitor already runs with others.
        Error: it cannot be made now; the options are kept for the next try.
    """
    global _monitor, _options
    with _lock:
        if _monitor is not None and not _monitor.closed:
            if options == _options or _options_hold:
                return
            raise ConfigError(
                f"too late to configure {_written(options)}: the shared monitor of this process already runs with "
                f"{_written(_options)}; configure it before anything measures"
            )
        try:
            _monitor = Monitor(**options)
        except ConfigError:
            raise
        except BaseException:
            _options = options
            raise
        _options = options


def start_shared(**options: Any) -> Monitor:
    """Return the shared monitor, and where there is none yet, start it with these options, which hold from then on.

    Raises:
        Error: it cannot be made.
    """
    global _monitor, _options, _options_hold
    with _lock:
        if _monitor is None or _monitor.closed:
            _monitor = Monitor(**options)
            _options, _options_hold = options, True
        return _monitor


def _written(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items()) or "the defaults"


def shared_interval() -> float:
    """Return the seconds between two samples of the shared monitor's loop."""
    return float(_options.get("interval", 1.0))


def shared_option(name: str) -> Any:
    """Return what ``configure_shared`` said of an argument of ``Monitor``; None: nothing."""
    return _options.get(name)


def close_shared_monitor() -> None:
    """Close the shared monitor and forget how it was configured; the next use makes a new one."""
    global _monitor, _options, _options_hold
    with _lock:
        monitor, _monitor, _options, _options_hold = _monitor, None, {}, False
    if monitor is not None:
        monitor.close()


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held the lock. The monitor itself knows what to do in a child.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
