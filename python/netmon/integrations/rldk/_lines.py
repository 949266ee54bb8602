"""The lines that a step becomes in a run's files.

A thread beside the training writes them, and a training that does nothing else waits for it half of the time. So what both
event lines hold is encoded once, and what hardly changes from step to step, the network's values among it, is kept encoded.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from ._files import json_text, line
from ._training_metrics import NAMES, NETWORK, NOTHING, PLACE, RESOURCES, TRAINING, Found, still_missing

# A finished step: the values of all fields, what was found for it, and how old that was at the end of the step.
Row = tuple[tuple[Any, ...], Found, float]


class _Numbers:
    """Fields that hold numbers, mostly, written in one go: an encoder takes a third longer for so few.

    Args:
        names: of the fields.
    """

    _plain = frozenset({float, int})

    def __init__(self, *names: str) -> None:
        self.names = names
        self.of: Callable[[tuple[Any, ...]], tuple[Any, ...]] = itemgetter(*(PLACE[name] for name in names))
        self._form = ", ".join(f'"{name}": %r' for name in names)

    def members(self, row: tuple[Any, ...]) -> str:
        """Return the members of a JSON object, without its braces."""
        values = self.of(row)
        # A sum that is finite holds nothing that JSON does not have.
        if self._plain.issuperset(map(type, values)) and math.isfinite(sum(values)):
            return self._form % values
        return _members(self.names, values)


class _HardlyChanging(_Numbers):
    """Fields whose values are the same in many steps; what was written is kept."""

    def members(self, row: tuple[Any, ...]) -> str:
        """Return the members of a JSON object, without its braces."""
        return _kept_members(self.names, self.of(row))


_WHEN = _Numbers("step", "wall_time", "step_time", "epoch")
_TRAINING = _Numbers(*(name for name in TRAINING if name not in ("epoch", "phase")))
_TIMES = _Numbers("step_time", "allreduce_time")
_WHERE = _HardlyChanging("phase", "world_size", "local_rank", "global_rank", "node_id", "run_id")
_STEADY = _HardlyChanging(*RESOURCES, *NETWORK)


def _members(names: Sequence[str], values: Sequence[Any]) -> str:
    return json_text(dict(zip(names, values, strict=True)))[1:-1]


@lru_cache(maxsize=64)
def _kept(names: tuple[str, ...], values: tuple[Any, ...], _types: tuple[type, ...]) -> str:
    return _members(names, values)


def _kept_members(names: tuple[str, ...], values: tuple[Any, ...]) -> str:
    try:
        # 0, 0.0 and False are equal, and not the same.
        return _kept(names, values, tuple(map(type, values)))
    except TypeError:  # a program put something into a field that cannot be kept
        return _members(names, values)


@lru_cache(maxsize=64)
def _missing(names: tuple[str, ...]) -> str:
    return _members(("unmeasured",), (names,))


def age_of(found: Found, age: float) -> float | None:
    """Return how old the network's values were, None where there were none."""
    return None if found is NOTHING else age


def _object(*parts: str) -> str:
    return "{" + ", ".join(filter(None, parts)) + "}"


def metrics_document(entry: Row) -> dict[str, Any]:
    """Return a step with all its fields."""
    row, found, age = entry
    return {
        **dict(zip(NAMES, row, strict=True)),
        "unmeasured": still_missing(found, row),
        "network_age_seconds": age_of(found, age),
    }


def metrics_line(entry: Row) -> bytes:
    """Return a step with all its fields as a line."""
    return line(metrics_document(entry))


def event_lines(entry: Row, about: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return a step as an event, and as an event of rldk's Event schema.

    Args:
        entry: the step.
        about: what is said of the run.
    """
    row, found, age = entry
    step, wall_time, _, epoch = _WHEN.of(row)
    when, training, steady = _WHEN.members(row), _TRAINING.members(row), _STEADY.members(row)
    old = "null" if found is NOTHING else repr(age)
    rest = f'{_missing(still_missing(found, row))}, "network_age_seconds": {old}'
    event = _object('"event_type": "step"', f'"timestamp": {wall_time!r}', when, training, _WHERE.members(row), steady, rest)
    at = datetime.datetime.fromtimestamp(wall_time, datetime.timezone.utc).isoformat()
    schema_event = _object(
        f'"event_type": "step", "timestamp": "{at}"',
        f'"step": {json_text(step)}, "wall_time": {wall_time!r}',
        '"metrics": ' + _object(training, _TIMES.members(row), steady),
        '"rng": {}',
        '"data_slice": ' + _object(_kept_members(("epoch",), (epoch,))),
        '"model_info": ' + _object(_kept_members((*about, "phase"), (*about.values(), row[PLACE["phase"]]))),
        '"notes": []',
        rest,
    )
    return event.encode() + b"\n", schema_event.encode() + b"\n"
