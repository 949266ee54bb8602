"""Values with what is said beside them: which were not measured, why, and where the others come from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Source(NamedTuple):
    """Where a value comes from.

    Attributes:
        source: netmon's name of it (docs/metrics.md), or whoever else measured it.
        target: the interface or the host that it is about, None for the whole machine.
        age_seconds: how old it was when it was handed out.
    """

    source: str
    target: str | None
    age_seconds: float


class Measured(dict[str, Any]):
    """A dictionary with rldk's keys that says beside them what was measured.

    Attributes:
        unmeasured: the keys whose value is a default.
        reasons: key to the reason, for those, and for what is known to be bad, as an infinite latency.
        sources: key to where the value comes from, for all but the unmeasured.
    """

    unmeasured: tuple[str, ...] = ()
    reasons: Mapping[str, str] = {}
    sources: Mapping[str, Source] = {}

    def beside(self, reasons: Mapping[str, str] | None = None, sources: Mapping[str, Source] | None = None) -> Measured:
        """Set what is said beside the values, and return self."""
        self.reasons = dict(reasons or {})
        self.sources = dict(sources or {})
        self.unmeasured = tuple(key for key in self.reasons if key not in self.sources)
        return self


class Unmeasured:
    """Says which of an object's values nobody has filled in."""

    _missing: tuple[str, ...]

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Names of the fields that were not measured, and that nobody has given a value since."""
        return tuple(name for name in self._missing if not getattr(self, name))

    @unmeasured.setter
    def unmeasured(self, names: Iterable[str]) -> None:
        self._missing = tuple(names)

    def _has(self, name: str) -> bool:
        """Return whether a field is not in ``unmeasured``."""
        return name not in self._missing or bool(getattr(self, name))


def statistics(values: Iterable[float]) -> dict[str, float]:
    """Return mean, population standard deviation, min, max and median of the finite values, zeros where there is none."""
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return {"mean": 0.0, "std": 0.0, "min": 0.0, "max": 0.0, "median": 0.0}
    count = len(finite)
    mean = math.fsum(finite) / count
    middle = finite[count // 2] if count % 2 else (finite[count // 2 - 1] + finite[count // 2]) / 2
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in finite) / count)
    return {"mean": mean, "std": spread, "min": finite[0], "max": finite[-1], "median": middle}
