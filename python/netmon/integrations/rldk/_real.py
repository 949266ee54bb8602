"""``RealNetworkMonitor``: rldk's main object for the network of a process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from ..._types import Sample
from . import _health, _identity, _reading
from ._bandwidth import HISTORY, NetworkBandwidthMonitor
from ._diagnostics import NetworkDiagnostics
from ._distributed import DistributedNetworkMonitor, carried
from ._interface import NetworkInterfaceMonitor
from ._latency import NetworkLatencyMonitor, look
from ._measured import Measured
from ._metrics import Counts, NetworkMetrics, network_metrics
from ._sampling import Sampled, positive


class RealNetworkMonitor(Sampled):
    """The network of this process. All objects of this class share the process's one netmon monitor; making one starts nothing.

    Args:
        enable_distributed_monitoring: whether there is a ``distributed_monitor``. It needs no torch.
        enable_distributed_measurements: that of its ``distributed_monitor``; nothing else runs collectives.
        sampling_frequency: every Nth call of ``get_current_metrics`` measures, the others return what the last one found.

    Raises:
        ValueError: ``sampling_frequency`` is below 1.
    """

    def __init__(
        self,
        enable_distributed_monitoring: bool = True,
        enable_distributed_measurements: bool = False,
        sampling_frequency: int = 1,
    ) -> None:
        self._sample_every(positive("sampling_frequency", sampling_frequency))
        self.enable_distributed_monitoring = enable_distributed_monitoring
        self.enable_distributed_measurements = enable_distributed_measurements
        self.interface_monitor = NetworkInterfaceMonitor()
        self.latency_monitor = NetworkLatencyMonitor()
        self.bandwidth_monitor = NetworkBandwidthMonitor()
        self.network_diagnostics = NetworkDiagnostics(sampling_frequency=1)
        self.distributed_monitor: DistributedNetworkMonitor | None = None
        if enable_distributed_monitoring:
            self.distributed_monitor = DistributedNetworkMonitor(
                enable_distributed_measurements=enable_distributed_measurements
            )
            # One list of hosts, whichever of the two a program changes.
            self.distributed_monitor.latency_monitor = self.latency_monitor
        self._history_lock = threading.RLock()
        self.bandwidth_history: deque[float] = deque(maxlen=HISTORY)
        self.latency_history: deque[float] = deque(maxlen=HISTORY)
        self._last_measurement = 0.0
        self.measurement_interval = 5.0
        self._counts = Counts()
        self._last: NetworkMetrics | None = None
        self._last_diagnosis: Mapping[str, Any] | None = None

    def get_current_metrics(self) -> Measured:
        """Return ``bandwidth`` in Mbps (both directions added) and ``latency`` in ms.

        Within ``measurement_interval`` seconds of a measurement, and between sampled calls, they are what was found last.
        """
        last = self._last
        found = last is not None and last._has("bandwidth_mbps")
        recent = time.monotonic() - self._last_measurement < self.measurement_interval
        if last is None or not found or (self._measures(found) and not recent):
            last = self.get_comprehensive_metrics()
            self._last_measurement = time.monotonic()
        return _current(last)

    def get_network_stats(self) -> Measured:
        """Return averages and extremes, in Mbps and ms, of the newest 100 measurements of this object."""
        stats: dict[str, Any] = {}
        reasons = {}
        for name, history in (("bandwidth", list(self.bandwidth_history)), ("latency", list(self.latency_history))):
            stats[f"avg_{name}"] = sum(history) / len(history) if history else 0.0
            stats[f"max_{name}"] = max(history, default=0.0)
            stats[f"min_{name}"] = min(history, default=0.0)
            if not history:
                reason = "nothing was measured yet"
                if name == "latency" and self._last is not None:
                    reason = self._last.reasons.get("latency_ms", reason)
                reasons.update({f"{kind}_{name}": reason for kind in ("avg", "max", "min")})
        return Measured(stats).beside(reasons)

    def get_comprehensive_metrics(self) -> NetworkMetrics:
        """Return all metrics, measured now; counts of errors and drops are those since the previous call."""
        return self._remember(self._metrics(_reading.measure(), None))

    def _metrics_of(self, sample: Sample | None, counts: Counts) -> NetworkMetrics:
        """Return the metrics of a sample, counting from what ``counts`` saw before."""
        return self._remember(self._metrics(sample, counts))

    def _metrics(self, sample: Sample | None, counts: Counts | None) -> NetworkMetrics:
        distributed = self.distributed_monitor
        if distributed is not None:
            return distributed._measured(sample, counts or distributed._counts, self.latency_monitor)
        reach = look(self.latency_monitor, sample)
        return network_metrics(sample, counts or self._counts, _identity.identify(sample), reach)

    def _remember(self, metrics: NetworkMetrics) -> NetworkMetrics:
        self._last = metrics
        if metrics._has("bandwidth_mbps"):
            self.bandwidth_history.append(metrics.bandwidth_mbps)
        if metrics._has("latency_ms"):
            self.latency_history.append(metrics.latency_ms)
        return metrics

    def run_network_diagnostics(self) -> Mapping[str, Any]:
        """Return ``NetworkDiagnostics.run_comprehensive_diagnostics``, which takes 4 s at most."""
        return self.network_diagnostics.run_comprehensive_diagnostics()

    def get_network_health_report(self) -> Measured:
        """Grade the newest diagnosis as rldk does; what was not measured is no issue of the network.

        The grade is ``"unknown"`` where nothing that is graded was measured, as where nobody is known to probe. It waits for
        the diagnosis, 4 s at most.
        """
        diagnosis = self.run_network_diagnostics()
        if diagnosis.get("skipped"):
            diagnosis = self._last_diagnosis or diagnosis
        else:
            self._last_diagnosis = diagnosis
        return _health.report(diagnosis)


def _current(metrics: NetworkMetrics) -> Measured:
    pairs = {"bandwidth": "bandwidth_mbps", "latency": "latency_ms"}
    known = carried(metrics).sources
    sources = {key: known[name] for key, name in pairs.items() if name in known}
    reasons = {key: metrics.reasons.get(name, _reading.NOT_YET) for key, name in pairs.items() if key not in sources}
    return Measured({key: getattr(metrics, name) for key, name in pairs.items()}).beside(reasons, sources)
