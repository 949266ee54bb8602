"""``NetworkMonitor``: rldk's older object for the network of a process, from its module ``distributed``."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..._types import Sample
from . import _reading
from ._identity import master_address
from ._install import in_use
from ._metrics import Measured, NetworkMetrics, Source, mbps
from ._real import RealNetworkMonitor
from ._sampling import Sampled, from_environment, positive


class NetIO(NamedTuple):
    """The counters behind a rate, with psutil's names; since netmon started in this process."""

    bytes_sent: int | None
    bytes_recv: int | None
    packets_sent: int | None
    packets_recv: int | None
    errin: int | None
    errout: int | None
    dropin: int | None
    dropout: int | None


class NetworkMonitor(Sampled):
    """Upload and download of the interfaces that count, each byte once; loopback and the parts of bridges and bonds do not.

    Args:
        sampling_frequency: every Nth call of ``get_current_metrics`` measures at that moment, the others return what netmon's
            own loop found last. Default: RLDK_NETWORK_SAMPLING_FREQUENCY in the environment, else 10.
        enable_icmp: rldk's choice between ping and TCP; no latency is measured by this version.

    Raises:
        ValueError: the frequency is no whole number of at least 1; the text names the argument or the variable.
    """

    def __init__(self, sampling_frequency: int | None = None, enable_icmp: bool = True) -> None:
        if sampling_frequency is None:
            self._sample_every(from_environment())
        else:
            self._sample_every(positive("sampling_frequency", sampling_frequency))
        self.enable_icmp = enable_icmp
        self.last_net_io: NetIO | None = None
        self.last_net_time: float | None = None
        # Whom to measure to: training peers, and whom the caller adds. Never a public host.
        self.latency_targets = master_address()
        self.tcp_ports = [80, 443, 22]
        self._lock = threading.Lock()
        self.last_errors: dict[str, str | None] = {"bandwidth": None, "latency": None}
        self.real_monitor: RealNetworkMonitor = in_use("distributed", "RealNetworkMonitor")(
            enable_distributed_monitoring=True, enable_distributed_measurements=False
        )
        self._has_rates = False
        self._newest_in_history: tuple[int, tuple[int, int]] | None = None

    def _measure_bandwidth(self) -> tuple[float, float]:
        up, down, _ = self._rates(_reading.measure())
        return up or 0.0, down or 0.0

    def _rates(self, sample: Sample | None) -> tuple[float | None, float | None, Sample | None]:
        totals = sample.totals if sample is not None else None
        if sample is None or totals is None:
            self.last_errors["bandwidth"] = f"Unexpected error: {_reading.why(sample, 'totals')}"
            return None, None, sample
        self.last_errors["bandwidth"] = None
        self.last_net_io = NetIO(
            totals.transmit_bytes_total, totals.receive_bytes_total,
            totals.transmit_packets_total, totals.receive_packets_total,
            totals.receive_errors_total, totals.transmit_errors_total,
            totals.receive_drops_total, totals.transmit_drops_total,
        )  # fmt: skip
        self.last_net_time = sample.monotonic_seconds
        return mbps(totals.transmit_bytes_per_second), mbps(totals.receive_bytes_per_second), sample

    def _measure_latency(self) -> float:
        self.last_errors["latency"] = f"latency is {_reading.NOT_YET}"
        return math.inf

    def _icmp_ping(self, target: str) -> float | None:
        return None

    def _tcp_handshake(self, target: str) -> float | None:
        return None

    def get_current_metrics(self) -> Measured:
        """Return Mbps in both directions, ``latency_ms`` (0.0: not measured), and the time.

        ``bandwidth_mbps`` is the download, as in rldk. Values are at most an interval of netmon's loop old. Until a first
        window exists every call measures, and ``unmeasured`` names the rates.
        """
        measures = self._measures(found=self._has_rates)
        up, down, sample = self._rates(_reading.measure() if measures else _reading.newest())
        latency = self._measure_latency()
        values = {
            "bandwidth_mbps": down,
            "bandwidth_upload_mbps": up,
            "bandwidth_download_mbps": down,
            "latency_ms": latency if math.isfinite(latency) else None,
            "total_bandwidth_mbps": None if up is None or down is None else up + down,
        }
        self._has_rates = values["total_bandwidth_mbps"] is not None
        self._remember(values["total_bandwidth_mbps"], sample)
        return _beside(values, sample)

    def _remember(self, total: float | None, sample: Sample | None) -> None:
        if total is None or sample is None:
            return
        which = (sample.sequence, _reading.origin())
        if which != self._newest_in_history:
            self._newest_in_history = which
            self.real_monitor.bandwidth_history.append(total)

    def get_network_stats(self) -> Measured:
        """Return ``RealNetworkMonitor.get_network_stats``, which knows what this object measured."""
        return self.real_monitor.get_network_stats()

    def get_comprehensive_metrics(self) -> NetworkMetrics:
        """Return ``RealNetworkMonitor.get_comprehensive_metrics``."""
        return self.real_monitor.get_comprehensive_metrics()

    def run_network_diagnostics(self) -> Mapping[str, Any]:
        """Return ``RealNetworkMonitor.run_network_diagnostics``."""
        return self.real_monitor.run_network_diagnostics()

    def get_network_health_report(self) -> Measured:
        """Return ``RealNetworkMonitor.get_network_health_report``."""
        return self.real_monitor.get_network_health_report()

    def get_error_status(self) -> dict[str, str | None]:
        """Return why bandwidth and latency could not be measured the last time, None where they could."""
        return dict(self.last_errors)

    def reset_counters(self) -> None:
        """Forget what was measured: the next call of ``get_current_metrics`` measures."""
        self.last_net_io = None
        self.last_net_time = None
        self._has_rates = False

    def test_network_connectivity(self) -> Measured:
        """Return the ping, DNS and connectivity parts of a diagnosis."""
        diagnostics = self.real_monitor.network_diagnostics
        return _not_yet(
            {
                "ping_tests": diagnostics._run_ping_diagnostics(),
                "dns_tests": diagnostics._run_dns_diagnostics(),
                "connectivity_tests": diagnostics._run_connectivity_diagnostics(),
            }
        )

    def test_bandwidth(self) -> Measured:
        """Return the bandwidth part of a diagnosis."""
        return _not_yet(self.real_monitor.network_diagnostics._run_bandwidth_diagnostics())

    def test_distributed_network(self) -> Measured:
        """Return the distributed part of a diagnosis."""
        found = self.real_monitor.network_diagnostics._run_distributed_diagnostics()
        return Measured(found).beside({key: test["error"] for key, test in found.items() if isinstance(test, dict)})


def _not_yet(tests: Mapping[str, Any]) -> Measured:
    return Measured(tests).beside(dict.fromkeys(tests, _reading.NOT_YET))


def _beside(values: Mapping[str, float | None], sample: Sample | None) -> Measured:
    down, up = "totals.receive_bytes_per_second", "totals.transmit_bytes_per_second"
    fields = {"bandwidth_upload_mbps": up, "total_bandwidth_mbps": f"{down} + {up}"}
    reasons, sources = {}, {}
    target = _reading.counted(sample) if sample is not None else None
    age = 0.0 if sample is None else max(0.0, time.monotonic() - sample.monotonic_seconds)
    for key, value in values.items():
        if value is not None:
            sources[key] = Source(fields.get(key, down), target, age)
        elif key == "latency_ms":
            reasons[key] = _reading.NOT_YET
        else:
            reasons[key] = _reading.why(sample, down)
    metrics = Measured({key: 0.0 if value is None else value for key, value in values.items()})
    metrics["timestamp"] = time.time() if sample is None else sample.timestamp_seconds
    return metrics.beside(reasons, sources)
