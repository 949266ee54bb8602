"""Alerts: rules for a monitor, and functions that are called when one fires or resolves."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import TYPE_CHECKING, Any

from ._errors import ClosedError, ConfigError, Error, NoDataError, ResourceError
from ._types import AlertEvent

if TYPE_CHECKING:
    from ._monitor import Monitor

# New events are looked for so long after the next sample is due; where it is late, a quarter of an interval later again.
_AFTER_SECONDS = 0.002
_LATE_PART = 0.25
_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.002, 1.0
_CLOSE_SECONDS, _EXIT_SECONDS = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold on a metric, for ``Monitor(alerts=[...])``. What is wrong with it is said there.

    Args:
        metric: its name in the sample document, as for ``Monitor.stats``: ``"totals.utilization_ratio"``.
        above: fires while the value is above this ...
        below: ... or below this; one of the two, in the metric's own unit. 0.9 of a ratio is 90 %.
        clear: the level at which it resolves, default the threshold: at most ``above``, or at least ``below``.
        for_seconds: fires when the value was beyond the threshold in every sample that had it for so long, 0 to 86400.
        name: tells alerts apart; default: metric, direction and threshold.
        severity: ``"info"``, ``"warning"`` or ``"critical"``.
        rate: of a counter: compare what it grows by per second, from one sample of the loop to the next.
        increase: of a counter: compare what it grew by since the loop's previous sample.

    Example:
        >>> import netmon
        >>> netmon.Alert("totals.utilization_ratio", above=0.9, for_seconds=10, clear=0.8).to_dict()
        {'metric': 'totals.utilization_ratio', 'above': 0.9, 'clear': 0.8, 'for_seconds': 10, 'severity': 'warning'}
    """

    metric: str
    _: KW_ONLY
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    for_seconds: float = 0.0
    name: str | None = None
    severity: str = "warning"
    rate: bool = False
    increase: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as the library's configuration has it, without what is left at its default."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None and value is not False}


def rules_of(alerts: Iterable[Alert | Mapping[str, Any]]) -> list[Any]:
    """Return rules as the library takes them. What is no rule is handed on, to be refused with a sentence."""
    if isinstance(alerts, (str, Alert, Mapping)):
        raise ConfigError(f"alerts must be a list of netmon.Alert, not {alerts!r}")
    return [rule.to_dict() if isinstance(rule, Alert) else dict(rule) if isinstance(rule, Mapping) else rule for rule in alerts]


class AlertCallback:
    """A function that is called with each event, on a daemon thread of its own, until ``close``.

    The thread looks for new events when a sample of the loop is due, and at least once a second. It holds neither the monitor
    nor this object: a monitor that is dropped ends it too. When the interpreter ends, no call begins any more, and one that is
    under way is waited for, 1 s at most: a thread that is in it later may be ended at any place.

    Attributes:
        problem: what the newest call raised, as a sentence that ``Monitor.health`` has too; None where it raised nothing.
        errors: how many calls raised something.
        missed: events that were overwritten before this got to them, because calls took too long.
    """

    def __init__(self, monitor: Monitor, callback: Callable[[AlertEvent], Any], interval: float) -> None:
        self._monitor = weakref.ref(monitor)
        self._callback = callback
        self._interval = interval
        self._pause = 0.0
        self._process = os.getpid()
        self._stop = threading.Event()
        self._seen = 0  # sequence of the newest sample whose events are known
        self.problem: str | None = None
        self.errors = 0
        self.missed = 0
        # What is on already is told first.
        known = monitor.alerts()
        newest = {event.name: event for event in known.events}
        self._waiting = sorted((e for e in newest.values() if e.event == "fired"), key=lambda event: event.sequence)
        self._after = known.events_total
        self._thread = threading.Thread(target=_run, args=(weakref.ref(self),), name="netmon-alerts", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise ResourceError(f"no thread can be started to call {callback!r} on: {error}") from error
        _begun.add(self)

    @property
    def closed(self) -> bool:
        """Whether it was closed, or its monitor; in a forked child, whose threads are gone, always."""
        return os.getpid() != self._process or not self._thread.is_alive()

    def close(self) -> None:
        """Have the function called no more. A call that is under way ends by itself; 0.1 s are waited for it at most.

        Closing twice is fine, also from within the function.
        """
        self._end()
        self._join(time.monotonic() + _CLOSE_SECONDS)
        monitor = self._monitor()
        if monitor is not None:
            monitor._forget_callback(self)

    def _end(self) -> None:
        # In a forked child the event's lock may be held for ever by a thread that is not there.
        if os.getpid() == self._process:
            self._stop.set()

    def _join(self, deadline: float) -> None:
        if os.getpid() == self._process and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def _look(self) -> bool:
        """Call the function with what is new. Returns whether to go on."""
        try:
            self._fetch()
        except ClosedError:
            return False
        except NoDataError:
            return True
        except Error as error:
            self.problem = f"alerts cannot be asked for: {error}"
            return True
        while self._waiting:
            if self._stop.is_set():
                return False
            self._call(self._waiting.pop(0))
        return True

    def _fetch(self) -> None:
        monitor = self._monitor()
        if monitor is None:
            raise ClosedError("the monitor is gone")
        newest = monitor.latest()
        due_in = newest.monotonic_time_ns / 1e9 + self._interval + _AFTER_SECONDS - time.monotonic()
        wait = due_in if due_in > 0 else self._interval * _LATE_PART
        self._pause = min(max(wait, _SHORTEST_SECONDS), _LONGEST_SECONDS)
        if newest.sequence == self._seen:
            return
        answer = monitor._alerts(self._after, events_only=True)
        if answer.events:
            self.missed += answer.events[0].sequence - self._after - 1
            self._after = answer.events[-1].sequence
            self._waiting.extend(answer.events)
        self._seen = answer.sample_sequence

    def _call(self, event: AlertEvent) -> None:
        try:
            self._callback(event)
        except BaseException as error:  # noqa: BLE001 - whatever the caller's function raises, the thread goes on
            self.errors += 1
            self.problem = f"the alert callback {self._callback!r} raised {error!r}, at {event.name!r}"
        else:
            self.problem = None

    def __enter__(self) -> AlertCallback:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<netmon.AlertCallback {'closed' if self.closed else self._callback!r}>"


_begun: weakref.WeakSet[AlertCallback] = weakref.WeakSet()


@atexit.register
def _at_exit() -> None:
    callbacks = list(_begun)
    for callback in callbacks:
        callback._end()
    deadline = time.monotonic() + _EXIT_SECONDS
    for callback in callbacks:
        callback._join(deadline)


def _run(reference: weakref.ref[AlertCallback]) -> None:
    while True:
        one = reference()
        if one is None or not one._look():
            return
        stop, pause = one._stop, one._pause
        # Nothing is held while this waits.
        del one
        if stop.wait(pause):
            return
