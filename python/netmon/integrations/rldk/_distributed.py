"""``DistributedNetworkMonitor``: the metrics of a rank and their history. It calls collectives only where it is told to."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..._errors import Error
from ..._types import Sample
from ..torch import measure_collectives
from . import _identity, _reading, _units
from ._bandwidth import NetworkBandwidthMonitor
from ._collectives import OPS
from ._interface import NetworkInterfaceMonitor
from ._latency import NetworkLatencyMonitor, look
from ._measured import Measured
from ._metrics import Counts, NetworkMetrics, network_metrics
from ._reach import Value
from ._sampling import Sampled, positive
from ._trouble import process

if TYPE_CHECKING:
    import pandas

_log = logging.getLogger("netmon.integrations.rldk")
_SUMMARIZED = 100
# rldk's size: 1000 x 1000 float32.
_SIZE_BYTES = 4_000_000
_AGREE_SECONDS = 5.0


class DistributedNetworkMonitor(Sampled):
    """The metrics of this rank, and a history of them.

    Args:
        world_size: how many ranks there are; with both left at their defaults the environment says it, then torch.
        rank: which this one is.
        enable_distributed_measurements: rldk's switch for benchmark collectives. With it, ``measure_distributed_metrics`` runs
            some each time it measures: every rank has to call it in the same step then, by the thread that trains. Where one
            does not, the others wait 5 s for it and go on without (``netmon.integrations.torch.measure_collectives``).
        sampling_frequency: every Nth call of ``measure_distributed_metrics`` measures, the others return what was found last.

    Raises:
        ValueError: ``sampling_frequency`` is below 1.
    """

    def __init__(
        self,
        world_size: int = 1,
        rank: int = 0,
        enable_distributed_measurements: bool = False,
        sampling_frequency: int = 1,
    ) -> None:
        self._sample_every(positive("sampling_frequency", sampling_frequency))
        self.world_size = world_size
        self.rank = rank
        self._given = (world_size, rank) != (1, 0)
        self.enable_distributed_measurements = enable_distributed_measurements
        self.interface_monitor = NetworkInterfaceMonitor(sampling_frequency=1)
        self.latency_monitor = NetworkLatencyMonitor(sampling_frequency=1)
        self.bandwidth_monitor = NetworkBandwidthMonitor(sampling_frequency=1)
        self._distributed_lock = threading.RLock()
        self.allreduce_times: deque[float] = deque(maxlen=100)
        self.broadcast_times: deque[float] = deque(maxlen=100)
        self.gather_times: deque[float] = deque(maxlen=100)
        self.scatter_times: deque[float] = deque(maxlen=100)
        self.max_history_size = 1000
        self.performance_history: deque[NetworkMetrics] = deque(maxlen=self.max_history_size)
        self._counts = Counts()
        self._last: NetworkMetrics | None = None

    def measure_distributed_metrics(self) -> NetworkMetrics:
        """Return the metrics, measured now or, between sampled calls, as they were found last."""
        last = self._last
        if not self._measures(found=last is not None and last._has("bandwidth_mbps")) and last is not None:
            return carried(last)
        collectives = self._measure_collectives(OPS) if self.enable_distributed_measurements else None
        return self._measured(_reading.measure(), self._counts, self.latency_monitor, collectives)

    def _measure_collectives(self, names: Iterable[str]) -> dict[str, Value | str]:
        """Run benchmark collectives, as every rank has to in the same step; return the speeds in Mbps by the field's name."""
        fields = {name: f"{name}_bandwidth" for name in names}
        try:
            rows = measure_collectives([OPS[name] for name in fields], [_SIZE_BYTES], timeout=_AGREE_SECONDS)
        except Error as error:
            process.tell(f"collectives: {type(error).__name__}", f"benchmark collectives: {error}")
            return {field: str(error) for field in fields.values()}
        found: dict[str, Value | str] = {}
        for (name, field), row in zip(fields.items(), rows, strict=True):
            if row.seconds is None or row.algbw_bytes_per_second is None:
                found[field] = str(row.error)
                continue
            times: deque[float] = getattr(self, f"{name}_times")
            times.append(row.seconds)
            speed = _units.mbps(row.algbw_bytes_per_second)
            found[field] = Value(speed, "measure_collectives: algbw", f"{row.group_size} ranks", time.monotonic())
        return found

    def _measure_one(self, name: str) -> float:
        if not self.enable_distributed_measurements:
            return 0.0
        (found,) = self._measure_collectives([name]).values()
        return found.value if isinstance(found, Value) else 0.0

    def _measured(
        self,
        sample: Sample | None,
        counts: Counts,
        latency_monitor: object,
        collectives: Mapping[str, Value | str] | None = None,
    ) -> NetworkMetrics:
        identity = _identity.identify(sample)
        if self._given:
            identity = identity._replace(rank=self.rank, world_size=self.world_size)
        else:
            self.rank, self.world_size = identity.rank, identity.world_size
        metrics = network_metrics(sample, counts, identity, look(latency_monitor, sample), collectives)
        self._last = metrics
        self.performance_history.append(metrics)
        return metrics

    def _measure_allreduce_bandwidth(self) -> float:
        return self._measure_one("allreduce")

    def _measure_broadcast_bandwidth(self) -> float:
        return self._measure_one("broadcast")

    def _measure_gather_bandwidth(self) -> float:
        return self._measure_one("gather")

    def _measure_scatter_bandwidth(self) -> float:
        return self._measure_one("scatter")

    def get_performance_summary(self) -> Measured:
        """Return averages over the newest 100 measurements; those in which a value was not measured do not count for it."""
        history = list(self.performance_history)
        if not history:
            empty = {"total_measurements": 0, "avg_bandwidth": 0.0, "avg_latency": 0.0, "avg_packet_loss": 0.0}
            reasons = dict.fromkeys(("avg_bandwidth", "avg_latency", "avg_packet_loss"), "nothing was measured yet")
            return Measured(empty, distributed_metrics={}).beside(reasons)
        recent = history[-_SUMMARIZED:]
        names = {"avg_bandwidth": "bandwidth_mbps", "avg_latency": "latency_ms", "avg_packet_loss": "packet_loss_percent",
                 "max_bandwidth": "bandwidth_mbps", "min_latency": "latency_ms"}  # fmt: skip
        values = {key: _measured_values(recent, name) for key, name in names.items()}
        fold: dict[str, Callable[[list[float]], float]] = {"avg": _mean, "max": max, "min": min}
        summary = {key: float(fold[key[:3]](found)) if found else 0.0 for key, found in values.items()}
        reasons = {key: _reason(recent[-1], names[key]) for key, found in values.items() if not found}
        collectives = {}
        for name in OPS:
            found = _measured_values(recent, f"{name}_bandwidth")
            collectives[f"avg_{name}_bandwidth"] = _mean(found) if found else 0.0
            if not found:
                reasons[f"avg_{name}_bandwidth"] = _reason(recent[-1], f"{name}_bandwidth")
        total = {"total_measurements": len(history)}
        return Measured({**total, **summary, "distributed_metrics": collectives}).beside(reasons)

    def get_metrics_dataframe(self) -> pandas.DataFrame | None:
        """Return the history as a DataFrame with a row per measurement; None, with a warning, where pandas is not installed."""
        return dataframe([metrics.to_dict() for metrics in list(self.performance_history)])


def carried(last: NetworkMetrics) -> NetworkMetrics:
    """Return a copy of metrics whose sources have the age of now."""
    again = copy.copy(last)
    again._handed_out_at = time.monotonic()
    return again


def dataframe(rows: list[dict[str, Any]], columns: list[str] | None = None) -> pandas.DataFrame | None:
    """Return rows as a DataFrame; None, with a warning, where pandas is not installed."""
    try:
        import pandas
    except ImportError:
        _log.warning("a DataFrame needs pandas: pip install pandas")
        return None
    frame: pandas.DataFrame = pandas.DataFrame(rows, columns=columns)
    return frame


def _measured_values(history: list[NetworkMetrics], name: str) -> list[float]:
    return [getattr(metrics, name) for metrics in history if metrics._has(name)]


def _reason(metrics: NetworkMetrics, name: str) -> str:
    return metrics.reasons.get(name, _reading.NOT_YET)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
