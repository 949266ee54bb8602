"""Thresholds of a callback: rldk's highest values, and what it has no words for: a lower bound, a time, a level to end at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_KEYS = ("above", "below", "clear", "for_seconds")


class Threshold:
    """One metric's threshold, and how the alert stands.

    Args:
        name: of the metric, for errors.
        given: a number, its highest value; or a mapping with ``above`` or ``below``, and any of ``clear`` and ``for_seconds``.

    Raises:
        ValueError: it is neither; the text names the key.
    """

    __slots__ = ("_clear", "_for_seconds", "_held", "_last", "_level", "_pending", "below", "given", "on")

    def __init__(self, name: str, given: Any) -> None:
        self.given = given
        where = f"alert_thresholds[{name!r}]"
        bounds: Mapping[str, Any] = given if isinstance(given, Mapping) else {"above": given}
        for key in bounds:
            if key not in _KEYS:
                raise ValueError(f"{where} has the key {key!r}, which is not known; the keys are {', '.join(_KEYS)}")
        if ("above" in bounds) == ("below" in bounds):
            raise ValueError(f"{where} must have one of 'above' and 'below', not {given!r}")
        for key, bound in bounds.items():
            if isinstance(bound, bool) or not isinstance(bound, (int, float)) or math.isnan(bound):
                place = f"{where}[{key!r}]" if bounds is given else where
                raise ValueError(f"{place} must be a number, not {bound!r}")
        self.below = "below" in bounds
        self._level: float = bounds["below" if self.below else "above"]
        self._clear: float = bounds.get("clear", self._level)
        if (self._clear < self._level) if self.below else (self._clear > self._level):
            raise ValueError(
                f"{where}['clear'] is {self._clear!r}; it must be at {'least' if self.below else 'most'} "
                f"what {'below' if self.below else 'above'!r} is, {self._level!r}"
            )
        self._for_seconds: float = bounds.get("for_seconds", 0.0)
        if not 0 <= self._for_seconds < math.inf:
            raise ValueError(f"{where}['for_seconds'] is {self._for_seconds!r}; it must be a number of seconds, 0 or more")
        self.on = False
        self._pending = False
        self._held = 0.0
        self._last = 0.0

    @property
    def passed(self) -> float:
        """The level that was passed last: to begin that of the threshold, to end the one it ends at."""
        return self._level if self.on else self._clear

    def miss(self, now: float) -> None:
        """Take note of a step without the value: nothing begins or ends, and the time does not count."""
        self._last = now

    def changed(self, value: float, now: float) -> bool:
        """Hold a step's value against it.

        Args:
            value: what the step has.
            now: when the step ended, on the clock of ``time.monotonic``.

        Returns:
            Whether the alert began or ended; ``on`` says which.
        """
        since, self._last = self._last, now
        if self.on:
            self.on = not (value >= self._clear if self.below else value <= self._clear)
            return not self.on
        if not (value < self._level if self.below else value > self._level):
            self._pending = False
            return False
        self._held = self._held + now - since if self._pending else 0.0
        self._pending = self._held < self._for_seconds
        self.on = not self._pending
        return self.on


def thresholds_of(given: Mapping[str, Any] | None) -> dict[str, Threshold]:
    """Return the thresholds of what a user gave.

    Raises:
        ValueError: something in it is wrong; the text names it.
    """
    return {name: Threshold(name, threshold) for name, threshold in (given or {}).items()}
