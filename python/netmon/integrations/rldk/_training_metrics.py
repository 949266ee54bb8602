"""``OpenRLHFMetrics``: one step of training, in rldk's names and units, and how the network's values get into it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import itemgetter
from typing import Any

from . import _reading, _resources, _units
from ._measured import Source
from ._metrics import DROPS, ERRORS, NO_PACKET, NOTHING_BEFORE, NetworkMetrics, Sums


@dataclass
class OpenRLHFMetrics:
    """One step of training.

    ``network_bandwidth`` and ``allreduce_``, ``broadcast_``, ``gather_``, ``scatter_bandwidth`` are GB/s (1 Gbps reads 0.125);
    names that end in ``_mbps`` are Mbps, in ``_ms`` milliseconds, memory GiB, ``_time`` seconds.

    A value that was not measured is 0, as in rldk. Which those are is said beside the fields:

    Attributes:
        unmeasured: names of the fields that netmon should fill and could not. Of an object made or filled by hand: those left
            at 0.
        sources: name to ``Source`` (source, target or interface, age in seconds at the end of the step; while it runs, now) of
            those it filled.
    """

    step: int = 0
    epoch: float = 0.0
    phase: str = "train"
    wall_time: float = 0.0
    step_time: float = 0.0
    learning_rate: float = 0.0
    loss: float = 0.0
    policy_loss: float = 0.0
    value_loss: float = 0.0
    reward_mean: float = 0.0
    reward_std: float = 0.0
    reward_min: float = 0.0
    reward_max: float = 0.0
    kl_mean: float = 0.0
    kl_std: float = 0.0
    kl_max: float = 0.0
    entropy_mean: float = 0.0
    entropy_std: float = 0.0
    clip_frac: float = 0.0
    grad_norm: float = 0.0
    gpu_memory_used: float = 0.0
    gpu_memory_allocated: float = 0.0
    gpu_utilization: float = 0.0
    cpu_memory_used: float = 0.0
    cpu_utilization: float = 0.0
    world_size: int = 1
    local_rank: int = 0
    global_rank: int = 0
    node_id: str = ""
    network_bandwidth: float = 0.0
    network_latency: float = 0.0
    bandwidth_mbps: float = 0.0
    latency_ms: float = 0.0
    bandwidth_upload_mbps: float = 0.0
    bandwidth_download_mbps: float = 0.0
    total_bandwidth_mbps: float = 0.0
    allreduce_time: float = 0.0
    allreduce_bandwidth: float = 0.0
    broadcast_bandwidth: float = 0.0
    gather_bandwidth: float = 0.0
    scatter_bandwidth: float = 0.0
    packet_loss_percent: float = 0.0
    network_errors: int = 0
    dns_resolution_ms: float = 0.0
    run_id: str = ""

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Names of the fields that netmon should fill and could not, and that nobody else has given a value."""
        found: Found | None = self.__dict__.get("_found")
        if found is None:
            return tuple(name for name in MEASURABLE if not getattr(self, name))
        return still_missing(found, row_of(self.__dict__))

    @property
    def sources(self) -> dict[str, Source]:
        """Name to source, target or interface, and age in seconds at the end of the step; now, while the step runs."""
        found: Found | None = self.__dict__.get("_found")
        if found is None:
            return {}
        age: float | None = self.__dict__.get("_age")
        if age is None:
            age = max(0.0, time.monotonic() - found.taken_at)
        return {name: Source(source, target, age + found.older(name)) for name, (source, target) in found.sources.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return every field by its name, in order."""
        return {name: getattr(self, name) for name in NAMES}

    def to_dataframe_row(self) -> dict[str, Any]:
        """Return a row of ``get_metrics_dataframe``: every field by its name."""
        return self.to_dict()


DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(OpenRLHFMetrics)}
NAMES = tuple(DEFAULTS)
# The values of all fields, of an object's __dict__.
row_of = itemgetter(*NAMES)

NETWORK = (
    "network_bandwidth", "network_latency", "bandwidth_mbps", "latency_ms", "bandwidth_upload_mbps", "bandwidth_download_mbps",
    "total_bandwidth_mbps", "allreduce_bandwidth", "broadcast_bandwidth", "gather_bandwidth", "scatter_bandwidth",
    "packet_loss_percent", "network_errors", "dns_resolution_ms",
)  # fmt: skip
# What a look at the network finds for a step.
LOOKED_AT = (*NETWORK, "allreduce_time")
RESOURCES = ("gpu_memory_used", "gpu_memory_allocated", "gpu_utilization", "cpu_memory_used", "cpu_utilization")
MEASURABLE = (*LOOKED_AT, *RESOURCES, "world_size", "local_rank", "global_rank", "node_id")
# Why a field is missing where nobody said so.
_REASONS = {
    **dict.fromkeys(("gpu_memory_used", "gpu_memory_allocated"), "no GPU is used through torch"),
    "cpu_memory_used": _resources.NO_PSUTIL,
    "cpu_utilization": _resources.NO_UTILIZATION,
    **dict.fromkeys(
        ("world_size", "local_rank", "global_rank"), "neither the environment nor torch.distributed says which rank this is"
    ),
}
# What a trainer says of a step, by these names.
TRAINING = ("epoch", "phase", "learning_rate", "loss", "policy_loss", "value_loss", "reward_mean", "reward_std", "reward_min",
            "reward_max", "kl_mean", "kl_std", "kl_max", "entropy_mean", "entropy_std", "clip_frac", "grad_norm")  # fmt: skip

# The fields that hold what an object with get_comprehensive_metrics() calls so.
_SAME = ("bandwidth_mbps", "latency_ms", "packet_loss_percent", "network_errors", "dns_resolution_ms")
_RENAMED = {
    "network_latency": "latency_ms",
    "bandwidth_upload_mbps": "bandwidth_out_mbps",
    "bandwidth_download_mbps": "bandwidth_in_mbps",
}
_GIGABYTES = {
    "network_bandwidth": "bandwidth_mbps",
    "allreduce_bandwidth": "allreduce_bandwidth",
    "broadcast_bandwidth": "broadcast_bandwidth",
    "gather_bandwidth": "gather_bandwidth",
    "scatter_bandwidth": "scatter_bandwidth",
}


_PARTS = {**{name: name for name in _SAME}, **_RENAMED}


class Found:
    """What was found out for a step at one moment: values of fields, which are missing, and where the others come from."""

    __slots__ = ("_measured_at", "_probed", "_reasons", "sources", "sums", "taken_at", "unmeasured", "values")

    def __init__(
        self,
        values: dict[str, Any],
        sources: dict[str, tuple[str, str | None]],
        taken_at: float,
        reasons: Mapping[str, str] | None = None,
        sums: Sums | None = None,
        measured_at: Mapping[str, float] | None = None,
        probed: bool = False,
    ) -> None:
        self.values = values
        self.sources = sources
        self.taken_at = taken_at
        self.unmeasured = tuple(name for name in MEASURABLE if name not in sources)
        self._reasons = reasons or {}
        self.sums = sums
        self._measured_at = measured_at or {}
        self._probed = probed

    def older(self, name: str) -> float:
        """Return how much older than the rest a value was when it was taken."""
        return max(0.0, self.taken_at - self._measured_at.get(name, self.taken_at))

    def plus(self, values: Mapping[str, Any], source: str) -> Found:
        """Return this with further values from one source."""
        sources = {**self.sources, **dict.fromkeys(values, (source, None))}
        return self._with({**self.values, **values}, sources, self._reasons)

    def beside(self, values: Mapping[str, Any], sources: Mapping[str, tuple[str, str | None]]) -> Found:
        """Return this with other values, and where some of them come from, that it does not have itself."""
        return self._with({**values, **self.values}, {**sources, **self.sources}, self.reasons())

    def _with(self, values: dict[str, Any], sources: dict[str, tuple[str, str | None]], reasons: Mapping[str, str]) -> Found:
        return Found(values, sources, self.taken_at, reasons, self.sums, self._measured_at, self._probed)

    def counted_from(self, previous: Sums | None) -> Found:
        """Return this with errors and loss counted from what a step saw last: what came between two steps is in one of them."""
        if self.sums is None:
            return self
        since = self.sums.since(previous)
        counts: dict[str, tuple[float | None, str]] = {"network_errors": (since and since.errors, ERRORS)}
        if not self._probed:
            counts["packet_loss_percent"] = (since and since.loss_percent, DROPS)
        values, sources, reasons = dict(self.values), dict(self.sources), dict(self._reasons)
        target = sources.get("network_errors", (ERRORS, None))[1]
        for name in counts:
            sources.pop(name, None)
        for name, (count, source) in counts.items():
            values[name] = DEFAULTS[name] if count is None else count
            if count is not None:
                sources[name] = (source, target)
            reasons[name] = NOTHING_BEFORE if since is None else NO_PACKET
        return self._with(values, sources, reasons)

    def reasons(self) -> dict[str, str]:
        """Return why the missing ones are missing."""
        return {name: self._reasons.get(name) or _REASONS.get(name, _reading.NOT_YET) for name in self.unmeasured}


NOTHING = Found({}, {}, 0.0)

PLACE = {name: place for place, name in enumerate(NAMES)}
_DEFAULT_ROW = tuple(DEFAULTS.values())


def still_missing(found: Found, row: Sequence[Any]) -> tuple[str, ...]:
    """Return which fields of a step have no value.

    Args:
        found: what netmon found for the step.
        row: the values of all fields, in which a program may have put some of its own.
    """
    return tuple(name for name in found.unmeasured if row[PLACE[name]] == _DEFAULT_ROW[PLACE[name]])


def network_values(metrics: Any, taken_at: float, sums: Sums | None = None) -> Found:
    """Return what an answer of ``get_comprehensive_metrics`` says about a step.

    Args:
        metrics: a ``NetworkMetrics``, or whatever a monitor of the caller's own answers; what it lacks is not measured.
        taken_at: when, on the clock of ``time.monotonic``, where it does not say so itself.
        sums: what errors and loss are counted from, where they are netmon's own.
    """
    missing = getattr(metrics, "unmeasured", None)
    why: Mapping[str, str] = getattr(metrics, "reasons", None) or {}
    said: Mapping[str, Source] = getattr(metrics, "sources", None) or {}
    taken_at = getattr(metrics, "_taken_at", taken_at)
    values: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    sources: dict[str, tuple[str, str | None]] = {}
    measured_at: Mapping[str, float] = getattr(metrics, "_measured_at", None) or {}

    def take(name: str, *parts: str) -> None:
        numbers = [number(getattr(metrics, part, None)) for part in parts]
        there = [value for value, part in zip(numbers, parts, strict=True) if value is not None and _says(missing, part, value)]
        if len(there) < len(parts):
            values[name] = DEFAULTS[name]
            reasons[name] = next((why[part] for part in parts if part in why), _reading.NOT_YET)
            return
        total = sum(there)
        values[name] = _units.gigabytes_per_second(total) if name in _GIGABYTES else total
        origin = said.get(parts[0])
        sources[name] = (origin.source, origin.target) if origin else (type(metrics).__name__, None)

    for name in _SAME:
        take(name, name)
    for table in (_RENAMED, _GIGABYTES):
        for name, part in table.items():
            take(name, part)
    take("total_bandwidth_mbps", "bandwidth_out_mbps", "bandwidth_in_mbps")
    values["network_errors"] = int(values["network_errors"])
    time = metrics._allreduce_time if isinstance(metrics, NetworkMetrics) else _reading.NOT_YET
    values["allreduce_time"] = DEFAULTS["allreduce_time"]
    if isinstance(time, str):
        reasons["allreduce_time"] = time
    else:
        values["allreduce_time"] = time.value
        sources["allreduce_time"] = (time.source, time.target)
    measured_at = {name: measured_at[part] for name, part in _PARTS.items() if part in measured_at}
    return Found(values, sources, taken_at, reasons, sums, measured_at, getattr(metrics, "_probed", False))


def _says(missing: Any, name: str, value: float) -> bool:
    """Return whether a value was measured. Who does not say which were not has 0 for those."""
    return bool(value) if missing is None else name not in missing


def number(value: Any) -> float | int | None:
    """Return a value as a finite number of Python; None where it is none, or cannot be had without waiting for a GPU."""
    plain = plain_number(value)
    return plain if plain is not None and math.isfinite(plain) else None


def plain_number(value: Any) -> float | int | None:
    """Return a value as a number of Python, infinite and NaN included; None as ``number`` does."""
    if isinstance(value, (int, float)):
        return None if isinstance(value, bool) else value
    item = getattr(value, "item", None)
    if item is None or getattr(getattr(value, "device", None), "type", "cpu") != "cpu":
        return None
    try:
        # One number of numpy or torch.
        plain = item()
    except Exception:  # noqa: BLE001 - whatever a foreign object raises, it is no number
        return None
    return plain_number(plain) if isinstance(plain, (int, float)) else None
