"""``NetworkMonitor``: rldk's older object for the network of a process, from its module ``distributed``."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..._types import Sample
from . import _occasions, _questions, _reach, _reading, _targets
from ._diagnostics import NetworkDiagnostics, no_bandwidth
from ._install import in_use
from ._measured import Measured, Source
from ._metrics import NetworkMetrics, mbps
from ._reach import Value
from ._real import RealNetworkMonitor
from ._sampling import Sampled, from_environment, positive

# rldk's words.
_ALL_FAILED = "All latency measurements failed"
_ONCE_SECONDS = 1.0


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
        enable_icmp: whether latency is measured by ICMP echo where that works; else by TCP handshakes with the job's own port.

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
        self._hosts = _targets.Hosts()
        self.tcp_ports = [80, 443, 22]
        self._lock = threading.Lock()
        self.last_errors: dict[str, str | None] = {"bandwidth": None, "latency": None}
        self.real_monitor: RealNetworkMonitor = in_use("distributed", "RealNetworkMonitor")(
            enable_distributed_monitoring=True, enable_distributed_measurements=False
        )
        self._has_rates = False
        self._newest_in_history: tuple[int, tuple[int, int]] | None = None

    @property
    def latency_targets(self) -> list[str]:
        """Whom to measure to: whom the monitor probes anyway, until a caller names others. Never a public host by itself."""
        return self._hosts.texts

    @latency_targets.setter
    def latency_targets(self, hosts: list[str]) -> None:
        self._hosts.texts = hosts

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
        """Return the mean of the newest round trips to those targets that answer, in ms, infinite where none does; at once."""
        found = self._latency(_reading.measure())
        return math.inf if isinstance(found, str) else found.value

    def _latency(self, sample: Sample | None) -> Value | str:
        """Return what the background knows of the targets, and note in ``last_errors`` why nothing if that is so."""
        own = [name for name in ("_measure_latency", "_icmp_ping", "_tcp_handshake") if self._is_replaced(name)]
        if own:
            return self._latency_of_ones_own(own)
        named = self._hosts.named
        if self.enable_icmp or named is None:
            reach = _reach.reach(self, self._hosts, sample)
        else:
            hosts = _targets.Hosts(_questions.tcp_target(host) for host in named)
            reach = _reach.reach(self, hosts, sample)
        found = reach.round_trip() if self.enable_icmp or named is not None else _occasions.handshake(reach)
        if isinstance(found, str):
            self.last_errors["latency"] = f"{_ALL_FAILED}: {found}" if reach.hosts else f"latency is not measured: {found}"
        else:
            self.last_errors["latency"] = None
        return found

    def _is_replaced(self, name: str) -> bool:
        return getattr(getattr(self, name), "__func__", None) is not getattr(NetworkMonitor, name)

    def _latency_of_ones_own(self, replaced: list[str]) -> Value | str:
        """Return the latency as a program, or a test of one, measures it in the methods that it replaced."""
        if replaced[0] == "_measure_latency":
            times = [self._measure_latency()]
        else:
            tried = ["_icmp_ping"] * self.enable_icmp + ["_tcp_handshake"]
            found = [[getattr(self, name)(target) for name in tried if name in replaced] for target in self.latency_targets]
            times = [next((time for time in each if time is not None), math.inf) for each in found]
        finite = [time for time in times if math.isfinite(time)]
        if not finite:
            self.last_errors["latency"] = _ALL_FAILED
            return _ALL_FAILED
        self.last_errors["latency"] = None
        return Value(sum(finite) / len(finite), replaced[0], ", ".join(self.latency_targets), time.monotonic())

    def _icmp_ping(self, target: str) -> float | None:
        """Return the round trip of one echo in ms, None where no reply comes; takes 1 s at most."""
        return self._once([f"icmp://{_questions.bare(target)}"])

    def _tcp_handshake(self, target: str) -> float | None:
        """Return the time of a TCP handshake, or of its refusal, in ms, by the first of ``tcp_ports`` that answers.

        All are tried side by side; takes 1 s at most.
        """
        return self._once([_questions.tcp_target(target, port) for port in self.tcp_ports])

    def _once(self, targets: list[str]) -> float | None:
        answers = _questions.ask({target: _questions.once(target) for target in targets}, _ONCE_SECONDS)
        times = (answers[target]["latency"] for target in targets if target in answers)
        return next((float(found) for found in times if math.isfinite(found)), None)

    def get_current_metrics(self) -> Measured:
        """Return Mbps in both directions, ``latency_ms`` (0.0: no target answers, or nothing is known), and the time.

        ``bandwidth_mbps`` is the download, as in rldk. Values are at most an interval of netmon's loop old. Until a first
        window exists every call measures, and ``unmeasured`` names the rates.
        """
        measures = self._measures(found=self._has_rates)
        up, down, sample = self._rates(_reading.measure() if measures else _reading.newest())
        latency = self._latency(sample)
        values = {
            "bandwidth_mbps": down,
            "bandwidth_upload_mbps": up,
            "bandwidth_download_mbps": down,
            "latency_ms": None if isinstance(latency, str) else latency.value,
            "total_bandwidth_mbps": None if up is None or down is None else up + down,
        }
        self._has_rates = values["total_bandwidth_mbps"] is not None
        self._remember(values["total_bandwidth_mbps"], None if isinstance(latency, str) else latency.value, sample)
        return _beside(values, sample, latency)

    def _remember(self, total: float | None, latency: float | None, sample: Sample | None) -> None:
        which = None if sample is None else (sample.sequence, _reading.origin())
        if which is None or which == self._newest_in_history:
            return
        self._newest_in_history = which
        if total is not None:
            self.real_monitor.bandwidth_history.append(total)
        if latency is not None:
            self.real_monitor.latency_history.append(latency)

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
        """Return the ping, DNS and connectivity parts of a diagnosis; takes 4 s at most."""
        diagnostics = self.real_monitor.network_diagnostics
        if isinstance(diagnostics, NetworkDiagnostics):
            parts = diagnostics._probe("ping_tests", "dns_tests", "connectivity_tests")
        else:
            parts = {
                "ping_tests": diagnostics._run_ping_diagnostics(),
                "dns_tests": diagnostics._run_dns_diagnostics(),
                "connectivity_tests": diagnostics._run_connectivity_diagnostics(),
            }
        reasons = (part.reasons for part in parts.values() if isinstance(part, Measured))
        return Measured(parts).beside({name: each[name] for each in reasons for name in each if name in parts})

    def test_bandwidth(self) -> Measured:
        """Return the bandwidth part of a diagnosis: what ``real_monitor.network_diagnostics`` may run; waits for it."""
        tests = self.real_monitor.network_diagnostics._run_bandwidth_diagnostics()
        return Measured(tests).beside(no_bandwidth(tests))

    def test_distributed_network(self) -> Measured:
        """Return the distributed part of a diagnosis."""
        found = self.real_monitor.network_diagnostics._run_distributed_diagnostics()
        return Measured(found).beside(
            {key: test["error"] for key, test in found.items() if isinstance(test, dict) and "error" in test}
        )


def _beside(values: Mapping[str, float | None], sample: Sample | None, latency: Value | str) -> Measured:
    down, up = "totals.receive_bytes_per_second", "totals.transmit_bytes_per_second"
    fields = {"bandwidth_upload_mbps": up, "total_bandwidth_mbps": f"{down} + {up}"}
    reasons, sources = {}, {}
    target = _reading.counted(sample) if sample is not None else None
    age = 0.0 if sample is None else max(0.0, time.monotonic() - sample.monotonic_seconds)
    for key, value in values.items():
        if key == "latency_ms":
            if isinstance(latency, str):
                reasons[key] = latency
            else:
                older = max(0.0, time.monotonic() - latency.measured_at)
                sources[key] = Source(latency.source, latency.target, older)
        elif value is not None:
            sources[key] = Source(fields.get(key, down), target, age)
        else:
            reasons[key] = _reading.why(sample, down)
    metrics = Measured({key: 0.0 if value is None else value for key, value in values.items()})
    metrics["timestamp"] = time.time() if sample is None else sample.timestamp_seconds
    return metrics.beside(reasons, sources)
