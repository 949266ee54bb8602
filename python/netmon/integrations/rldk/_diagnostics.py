"""``NetworkDiagnostics``: what the interfaces say. Its active tests have rldk's shapes, and say that nothing was measured."""

from __future__ import annotations

import ipaddress
import math
import socket
import threading
import time
from typing import Any

from . import _reading, _units
from ._identity import master_address, torch_ranks
from ._metrics import Measured
from ._sampling import Sampled, positive

NO_PROCESS_GROUP = "PyTorch distributed not available or initialized"
NO_COLLECTIVES = f"{_reading.NOT_YET}, which never runs a collective by itself"
_ACTIVE = ("ping_tests", "dns_tests", "connectivity_tests", "bandwidth_tests", "path_analysis", "distributed_tests")


class NetworkDiagnostics(Sampled):
    """A look at the network in rldk's seven parts. It sends nothing, runs no program and no collective, and never waits.

    Args:
        sampling_frequency: every Nth call of ``run_comprehensive_diagnostics`` looks, the others return that they were skipped.

    Raises:
        ValueError: ``sampling_frequency`` is below 1.
    """

    def __init__(self, sampling_frequency: int = 1) -> None:
        self._sample_every(positive("sampling_frequency", sampling_frequency))
        self._lock = threading.RLock()
        # Whom to test: training peers, and whom the caller adds. Never a public host.
        self.test_hosts = master_address()
        self.dns_servers: list[str] = []
        self.port_tests = [80, 443, 22, 53]

    def run_comprehensive_diagnostics(self) -> Measured:
        """Return the seven parts: ``interface_analysis`` measured, the others with rldk's ``error`` and ``inf``."""
        if not self._measures(found=True):
            return Measured(
                timestamp=time.time(),
                skipped=True,
                invocation_count=self._invocation_count,
                sampling_frequency=self.sampling_frequency,
            )
        interfaces = self._run_interface_diagnostics()
        parts = Measured(
            timestamp=time.time(),
            ping_tests=self._run_ping_diagnostics(),
            dns_tests=self._run_dns_diagnostics(),
            connectivity_tests=self._run_connectivity_diagnostics(),
            bandwidth_tests=self._run_bandwidth_diagnostics(),
            interface_analysis=interfaces,
            path_analysis=self._run_path_diagnostics(),
            distributed_tests=self._run_distributed_diagnostics(),
        )
        reasons = dict.fromkeys(_ACTIVE, _reading.NOT_YET)
        if isinstance(interfaces, Measured):
            reasons.update(interfaces.reasons)
        return parts.beside(reasons)

    def _run_ping_diagnostics(self) -> dict[str, Any]:
        return {host: self._ping_host_advanced(host) for host in self.test_hosts}

    def _ping_host_advanced(self, host: str) -> dict[str, Any]:
        return {"error": _reading.NOT_YET, "latency": math.inf}

    def _run_dns_diagnostics(self) -> dict[str, Any]:
        failed = {"error": _reading.NOT_YET, "resolution_time_ms": math.inf, "success": False}
        return {host: dict(failed) for host in self.test_hosts if not self._is_ip_address(host)}

    def _run_connectivity_diagnostics(self) -> dict[str, Any]:
        tcp = {"error": _reading.NOT_YET, "connected": False, "success": False}
        udp = {"error": _reading.NOT_YET, "success": False}
        return {
            "tcp_tests": {f"{host}:{port}": dict(tcp) for host in self.test_hosts[:3] for port in self.port_tests},
            "udp_tests": {server: dict(udp) for server in self.dns_servers},
            "socket_tests": {},
        }

    def _run_bandwidth_diagnostics(self) -> dict[str, Any]:
        return {
            "speedtest": self._test_speedtest_cli(),
            "iperf": self._test_iperf(),
            "curl": self._test_curl_download(),
        }

    def _test_speedtest_cli(self) -> dict[str, Any]:
        return {"error": _reading.NOT_YET, "success": False}

    def _test_iperf(self) -> dict[str, Any]:
        return {"error": _reading.NOT_YET, "success": False}

    def _test_curl_download(self) -> dict[str, Any]:
        return {"error": _reading.NOT_YET, "success": False}

    def _run_interface_diagnostics(self) -> Measured:
        """Return the interfaces that are up; counters since netmon started in this process."""
        sample = _reading.measure()
        rows = _reading.interfaces(sample) if sample is not None else []
        if not rows:
            return Measured().beside({"interface_analysis": _reading.why(sample, "interfaces")})
        return Measured({row["name"]: _interface(row) for row in rows if _is_up(row)})

    def _run_path_diagnostics(self) -> dict[str, Any]:
        return {host: self._traceroute_host(host) for host in self.test_hosts[:3]}

    def _traceroute_host(self, host: str) -> dict[str, Any]:
        return {"error": _reading.NOT_YET, "success": False}

    def _run_distributed_diagnostics(self) -> dict[str, Any]:
        ranks = torch_ranks()
        if ranks is None:
            return {"error": NO_PROCESS_GROUP}
        test = {"time_ms": 0.0, "tensor_size_mb": 0.0, "bandwidth_mbps": 0.0, "error": NO_COLLECTIVES}
        return {"world_size": ranks[1], "rank": ranks[0], "allreduce_test": dict(test), "broadcast_test": dict(test)}

    def _is_ip_address(self, host: str) -> bool:
        """Return whether a host is written as an address: IPv4 in any form that ``inet_aton`` takes, or IPv6."""
        try:
            socket.inet_aton(host)
        except OSError:
            try:
                ipaddress.IPv6Address(host)
            except ValueError:
                return False
        return True


def _is_up(row: dict[str, Any]) -> bool:
    # Loopback and tunnels have no carrier to speak of: the kernel calls them "unknown".
    return row["state"] in ("up", "unknown")


def _interface(row: dict[str, Any]) -> dict[str, Any]:
    speed = row["link_speed_bits_per_second"]
    return {
        "is_up": True,
        "speed_mbps": None if not speed else _units.mbps_from_bits(speed),
        "mtu": row["mtu"],
        "duplex": row["duplex"],
        "ip_addresses": [a.partition("/")[0] for a in row["addresses"] or () if ":" not in a],
        "bytes_sent": row["transmit_bytes_total"],
        "bytes_recv": row["receive_bytes_total"],
        "packets_sent": row["transmit_packets_total"],
        "packets_recv": row["receive_packets_total"],
        "errin": row["receive_errors_total"],
        "errout": row["transmit_errors_total"],
        "dropin": row["receive_drops_total"],
        "dropout": row["transmit_drops_total"],
    }
