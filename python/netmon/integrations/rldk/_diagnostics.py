"""``NetworkDiagnostics``: a look at the network on demand, which asks all hosts side by side and waits for a bounded time."""

from __future__ import annotations

import ipaddress
import math
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from . import _collectives, _questions, _reach, _reading, _targets, _tools, _units
from ._identity import torch_ranks
from ._measured import Measured, Source
from ._questions import Question
from ._sampling import Sampled, positive
from ._tools import Tools

NO_PROCESS_GROUP = "PyTorch distributed not available or initialized"
NO_COLLECTIVES = "not measured: netmon never runs a collective by itself"
SECONDS = 4.0
_FIRST_HOSTS = 3  # are connected to and traced, as in rldk
_LEARN_SECONDS = 0.1
_NO_TIME = f"not probed: the {SECONDS:g} s of a diagnosis were over"
_NO_DOWNLOAD = "not run: netmon downloads nothing; iperf3_server=... or speedtest=True measure bandwidth"
_IPERF3_SECONDS, _IPERF3_TIMEOUT_SECONDS = 10, 20
_SPEEDTEST_TIMEOUT_SECONDS = 60
_NO_NAMES = "no host is known by a name: there is nothing to resolve"
# The parts of a diagnosis that probe, by the methods that do it.
_PROBING = {
    "ping_tests": "_run_ping_diagnostics",
    "dns_tests": "_run_dns_diagnostics",
    "connectivity_tests": "_run_connectivity_diagnostics",
    "path_analysis": "_run_path_diagnostics",
}


class NetworkDiagnostics(Tools, Sampled):
    """A look at the network in rldk's seven parts. It runs no collective, and no program but those that a caller asks for.

    A call waits for the probes that it sends, all hosts side by side, 4 s at most in all; what is not known by then says so. A
    host that answers takes 0.1 s, twenty that are silent about 3 s. Tools that may be run come on top of that, one after the
    other: iperf3 takes 10 s and is ended after 20, speedtest-cli is ended after 60.

    Args:
        sampling_frequency: every Nth call of ``run_comprehensive_diagnostics`` looks, the others return that they were skipped.
        iperf3_server: an ``iperf3 --server`` that iperf3 may measure with, ``"10.0.0.2"`` or ``"10.0.0.2:5201"``.
        iperf3_reverse: measure what it sends to here, instead of what goes there.
        iperf3_parallel: connections of iperf3, 1 to 8.
        speedtest: whether speedtest-cli may measure with a server on the internet.

    Raises:
        ValueError: ``sampling_frequency`` or ``iperf3_parallel`` is below 1.
    """

    def __init__(
        self,
        sampling_frequency: int = 1,
        *,
        iperf3_server: str | None = None,
        iperf3_reverse: bool = False,
        iperf3_parallel: int = 1,
        speedtest: bool = False,
    ) -> None:
        self._sample_every(positive("sampling_frequency", sampling_frequency))
        self._allow(iperf3_server, iperf3_reverse, iperf3_parallel, speedtest)
        self._lock = threading.RLock()
        self._hosts = _targets.Hosts()
        self.dns_servers: list[str] = []
        self.port_tests = [80, 443, 22, 53]

    @property
    def test_hosts(self) -> list[str]:
        """Whom to test: whom the monitor probes anyway, until a caller names others. Never a public host by itself."""
        return self._hosts.texts

    @test_hosts.setter
    def test_hosts(self, hosts: list[str]) -> None:
        self._hosts.texts = hosts

    def run_comprehensive_diagnostics(self) -> Measured:
        """Return the seven parts, in 4 s at most beside the tools that may be run."""
        if not self._measures(found=True):
            return Measured(
                timestamp=time.time(),
                skipped=True,
                invocation_count=self._invocation_count,
                sampling_frequency=self.sampling_frequency,
            )
        interfaces = self._run_interface_diagnostics()
        parts = self._probe(*_PROBING)
        bandwidth = self._run_bandwidth_diagnostics()
        distributed = self._run_distributed_diagnostics()
        found = Measured(
            timestamp=time.time(),
            ping_tests=parts["ping_tests"],
            dns_tests=parts["dns_tests"],
            connectivity_tests=parts["connectivity_tests"],
            bandwidth_tests=bandwidth,
            interface_analysis=interfaces,
            path_analysis=parts["path_analysis"],
            distributed_tests=distributed,
        )
        why = no_bandwidth(bandwidth)
        reasons = not_tested(distributed)
        if len(why) == len(bandwidth):
            reasons["bandwidth_tests"] = why.get("iperf", _reading.NOT_YET)
        for part in (*parts.values(), interfaces):
            if isinstance(part, Measured):
                reasons.update({name: part.reasons[name] for name in part.unmeasured if name in found})
        return found.beside({name: reasons[name] for name in found if name in reasons})

    def _probe(self, *names: str) -> dict[str, Any]:
        """Return parts of a diagnosis, all of their hosts asked side by side."""
        parts: dict[str, Any] = {}
        questions: dict[tuple[str, str, str], Question] = {}
        hosts, nobody = self._whom()
        for name in names:
            method = _PROBING[name]
            own = getattr(getattr(self, method), "__func__", None) is getattr(NetworkDiagnostics, method)
            if own:
                questions.update({(name, *key): question for key, question in self._questions(name, hosts)})
            else:
                parts[name] = getattr(self, method)()  # a program, or a test of one, does it in its own way
        keys = list(questions)
        answers = _questions.ask(questions, SECONDS)
        for name in names:
            if name not in parts:
                found = {key[1:]: answers.get(key) for key in keys if key[0] == name}
                parts[name] = self._part(name, found, nobody)
        return parts

    def _whom(self) -> tuple[list[str], str]:
        """Return whom to test, and why nobody if that is so."""
        end = time.monotonic() + _LEARN_SECONDS
        while True:
            reach = _reach.known(_reading.measure(), self._hosts.named)
            if self._hosts.named is None:
                self._hosts.default_is([host.host for host in reach.hosts])
            # A monitor that has just been made finds out in a moment which of its peers are this host.
            if reach.hosts or _reading.why_no_probes() or self._hosts.named is not None or time.monotonic() >= end:
                return list(map(str, self.test_hosts)), reach.nobody
            time.sleep(0.01)

    def _questions(self, name: str, hosts: list[str]) -> Iterable[tuple[tuple[str, str], Question]]:
        """Return the questions of a part, by what they are about and to whom."""
        to_reach = [host for host in hosts if not host.startswith("dns://")]
        if name == "ping_tests":
            yield from ((("", host), _questions.ping(host)) for host in to_reach)
        elif name == "dns_tests":
            names = [host for host in hosts if _questions.is_name(host)]
            yield from ((("", host), _questions.resolve(host)) for host in names)
        elif name == "connectivity_tests":
            for host in to_reach[:_FIRST_HOSTS]:
                for port in self.port_tests:
                    yield ("tcp_tests", f"{host}:{port}"), _questions.connect(host, port)
            yield from ((("udp_tests", host), _questions.echo(host)) for host in to_reach[:_FIRST_HOSTS])
        else:
            yield from ((("", host), _questions.trace(host)) for host in to_reach[:_FIRST_HOSTS])

    def _part(self, name: str, found: dict[tuple[str, str], Measured | None], nobody: str) -> Measured:
        """Return a part of a diagnosis in rldk's shape."""
        tests = {key: _not_asked(name, key[0]) if answer is None else answer for key, answer in found.items()}
        if name == "connectivity_tests":
            part = Measured(
                {
                    about: {host: test for (a, host), test in tests.items() if a == about}
                    for about in ("tcp_tests", "udp_tests")
                },
                socket_tests={},
            )
            udp = part["udp_tests"]
            udp.update({server: _no_echo_of_a_name_server() for server in self.dns_servers if server not in udp})
        else:
            part = Measured({host: test for (_, host), test in tests.items()})
        if not tests:
            known_by_address = name == "dns_tests" and bool(self.test_hosts)
            return part.beside({name: _NO_NAMES if known_by_address else nobody})
        if all(test.unmeasured for test in tests.values()):
            return part.beside({name: next(iter(tests.values()))["error"]})
        return part

    def _run_ping_diagnostics(self) -> dict[str, Any]:
        """Return host to what four round trips say; takes 4 s at most, whatever the hosts do."""
        return self._alone("ping_tests")

    def _ping_host_advanced(self, host: str) -> dict[str, Any]:
        return self._one(host, _questions.ping(host), "ping_tests")

    def _run_dns_diagnostics(self) -> dict[str, Any]:
        """Return name to how long it takes to resolve; takes 4 s at most."""
        return self._alone("dns_tests")

    def _run_connectivity_diagnostics(self) -> dict[str, Any]:
        """Return which ports of the first three hosts accept, and which of these echo over UDP; takes 4 s at most."""
        return self._alone("connectivity_tests")

    def _alone(self, name: str) -> dict[str, Any]:
        part: dict[str, Any] = self._probe(name)[name]
        return part

    def _one(self, host: str, question: Question, name: str) -> dict[str, Any]:
        return _questions.ask({host: question}, SECONDS).get(host) or _not_asked(name, "")

    def _run_bandwidth_diagnostics(self) -> dict[str, Any]:
        """Return what the tools measure that may be run, one after the other; those that may not say so, and take no time."""
        return {
            "speedtest": self._test_speedtest_cli(),
            "iperf": self._test_iperf(),
            "curl": self._test_curl_download(),
        }

    def _test_speedtest_cli(self) -> dict[str, Any]:
        """Run speedtest-cli, if it may be, and wait for its end, 60 s at most."""
        request = self._speedtest("both", _SPEEDTEST_TIMEOUT_SECONDS)
        if request is None:
            return _no_test(_tools.SPEEDTEST_NOT_ASKED)
        found = _tools.wait(request)
        if isinstance(found, str):
            return _no_test(found)
        tests = {test.direction: test for test in found}
        down, up = tests.get("receive"), tests.get("transmit")
        values: dict[str, float] = {}
        sources: dict[str, Source] = {}
        ping = next((test.rtt_seconds for test in found if test.rtt_seconds is not None), None)
        for key, test, value in (
            ("download_mbps", down, None if down is None else _tools.mbps(down)),
            ("upload_mbps", up, None if up is None else _tools.mbps(up)),
            ("ping_ms", down or up, None if ping is None else _units.milliseconds(ping)),
        ):
            if test is None or value is None:
                return _no_test("; ".join(test.error for test in found if test.error) or f"speedtest-cli told no {key}")
            values[key] = value
            sources[key] = _tools.source_of(test)
        return Measured(values, success=True).beside(sources=sources)

    def _test_iperf(self) -> dict[str, Any]:
        """Run iperf3 for 10 s, if it may be, and wait for its end, 20 s at most."""
        request = self._iperf3(_IPERF3_SECONDS, _IPERF3_TIMEOUT_SECONDS)
        if request is None:
            return _no_test(_tools.IPERF3_NOT_ASKED)
        found = _tools.wait(request)
        if isinstance(found, str):
            return _no_test(found)
        for test in found:
            value = _tools.mbps(test)
            if value is not None:
                return Measured(bandwidth_mbps=value, success=True).beside(sources={"bandwidth_mbps": _tools.source_of(test)})
        return _no_test("; ".join(test.error or "nothing was measured" for test in found))

    def _test_curl_download(self) -> dict[str, Any]:
        return _no_test(_NO_DOWNLOAD)

    def _run_interface_diagnostics(self) -> Measured:
        """Return the interfaces that are up; counters since netmon started in this process."""
        sample = _reading.measure()
        rows = _reading.interfaces(sample) if sample is not None else []
        if not rows:
            return Measured().beside({"interface_analysis": _reading.why(sample, "interfaces")})
        return Measured({row["name"]: _interface(row) for row in rows if _is_up(row)})

    def _run_path_diagnostics(self) -> dict[str, Any]:
        """Return the hops to the first three hosts; takes 4 s at most."""
        return self._alone("path_analysis")

    def _traceroute_host(self, host: str) -> dict[str, Any]:
        return self._one(host, _questions.trace(host), "path_analysis")

    def _run_distributed_diagnostics(self) -> dict[str, Any]:
        ranks = torch_ranks()
        if ranks is None:
            return {"error": NO_PROCESS_GROUP}
        seen = _collectives.seen(_reading.measure())
        tests = {f"{name}_test": _collective_test(seen[name]) for name in ("allreduce", "broadcast")}
        return {"world_size": ranks[1], "rank": ranks[0], **tests}

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


def no_bandwidth(tests: Mapping[str, Any]) -> dict[str, str]:
    """Return why bandwidth tests gave nothing, by the tools that did not."""
    return {tool: test.get("error", _reading.NOT_YET) for tool, test in tests.items() if not test.get("success")}


def not_tested(distributed: Mapping[str, Any]) -> dict[str, str]:
    """Return why the distributed part of a diagnosis has nothing of the network in it, if that is so."""
    tests = [test for test in distributed.values() if isinstance(test, Mapping)]
    if any("error" not in test for test in tests):
        return {}
    return {"distributed_tests": next((test["error"] for test in tests), distributed.get("error", _reading.NOT_YET))}


def _collective_test(seen: _collectives.Seen | str) -> Measured:
    """Return rldk's shape of a test of a collective, of what the job's own show."""
    if isinstance(seen, str):
        error = f"{NO_COLLECTIVES}; {seen}"
        test = Measured(time_ms=0.0, tensor_size_mb=0.0, bandwidth_mbps=0.0, error=error)
        return test.beside(dict.fromkeys(("time_ms", "tensor_size_mb", "bandwidth_mbps"), error))
    values = {"time_ms": _units.milliseconds(seen.seconds.value), "tensor_size_mb": _units.mebibytes(seen.size_bytes)}
    age = max(0.0, time.monotonic() - seen.seconds.measured_at)
    sources = dict.fromkeys(values, Source(seen.seconds.source, seen.seconds.target, age))
    if isinstance(seen.speed, str):
        return Measured(values, bandwidth_mbps=0.0, error=seen.speed).beside({"bandwidth_mbps": seen.speed}, sources)
    sources["bandwidth_mbps"] = Source(seen.speed.source, seen.speed.target, age)
    return Measured(values, bandwidth_mbps=seen.speed.value).beside(sources=sources)


def _no_test(error: str) -> Measured:
    """Return rldk's shape of a bandwidth test that gave nothing, which tells nothing of the network."""
    return Measured(error=error, success=False).beside({"success": error})


def _not_asked(name: str, about: str) -> Measured:
    """Return rldk's shape of a failure for a host that nobody was asked about."""
    shapes: dict[str, tuple[str, dict[str, Any]]] = {
        "ping_tests": ("latency", {"latency": math.inf}),
        "dns_tests": ("resolution_time_ms", {"resolution_time_ms": math.inf, "success": False}),
        "path_analysis": ("final_latency_ms", {"success": False}),
        "tcp_tests": ("connected", {"connected": False, "success": False}),
        "udp_tests": ("success", {"success": False}),
    }
    key, values = shapes[about or name]
    reason = _reading.why_no_probes() or _NO_TIME
    return Measured(error=reason, **values).beside({key: reason})


def _no_echo_of_a_name_server() -> Measured:
    reason = "a name server answers no UDP echo; how long names take to resolve is in dns_tests"
    return Measured(error=reason, success=False).beside({"success": reason})


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
