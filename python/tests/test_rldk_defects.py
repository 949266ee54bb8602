"""Defects of rldk that no other file tests by their number; docs/rldk.md has the list of all."""

from __future__ import annotations

import ast
import subprocess
import threading
from pathlib import Path

import pytest
from rldk_support import SOURCE, answer, environment
from test_packaging import interpreter

TESTS = Path(__file__).parent


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_d3_it_can_be_imported_by_every_python_that_is_promised(version: str) -> None:
    python = interpreter(version)
    script = """
import sys
from netmon.integrations import rldk
objects = [rldk.NetworkDiagnostics(), rldk.RealNetworkMonitor(), rldk.NetworkMonitor(), rldk.MultiNodeMonitor(),
           rldk.DistributedMetricsCollector(), rldk.OpenRLHFDashboard(), rldk.DistributedTrainingMonitor()]
print("%d.%d" % sys.version_info[:2], len(objects))
"""
    done = subprocess.run(
        [python, "-W", "error::SyntaxWarning", "-c", script],
        env=environment(PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=str(SOURCE)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == [version, "7"], done.stderr


def test_d19a_a_clock_that_is_set_changes_no_rate() -> None:
    """rldk divides by the difference of two times of day."""
    found = answer(
        """
        rldk.configure(interfaces=["lo"], interval=0.1)
        interface, network, real = rldk.NetworkInterfaceMonitor("lo"), rldk.NetworkMonitor(1), rldk.RealNetworkMonitor()
        interface.get_interface_stats()
        pass_windows()
        clock, found, over = time.time, [], threading.Event()
        def talk():
            while not over.is_set():
                over_loopback(1 << 16)
        talking = threading.Thread(target=talk); talking.start()
        for step in (0.0, 3600.0, -3600.0, -7200.0):
            time.time = lambda: clock() + step
            pass_windows()
            stats, current, all_ = (interface.get_interface_stats(), network.get_current_metrics(),
                                    real.get_comprehensive_metrics())
            ages = [source.age_seconds for measured in (stats, current, all_) for source in measured.sources.values()]
            found.append([stats["bytes_in_per_sec"], current["bandwidth_mbps"], all_.bytes_in_per_sec, min(ages), max(ages)])
        over.set(); talking.join()
        print(json.dumps(found))
        """
    )
    for *rates, youngest, oldest in found:
        assert all(0 <= rate < 1e10 for rate in rates)
        assert 0 <= youngest <= oldest < 60
    assert all(max(rates) > 0 for rates in list(zip(*found, strict=True))[:3])


def test_d27_connections_are_counted_without_looking_at_every_process() -> None:
    found = answer(
        """
        import socket, types
        psutil = types.ModuleType("psutil")
        def net_connections(*arguments, **named):
            raise AssertionError("every process's descriptors were asked for")
        psutil.net_connections = net_connections
        sys.modules["psutil"] = psutil
        def counted():
            tables = [open(f"/proc/self/net/{name}").read().splitlines()[1:] for name in ("tcp", "tcp6")]
            return sum(row.split()[3] == "01" for table in tables for row in table)
        with sink() as port, socket.create_connection(("127.0.0.1", port)):
            for _ in range(100):  # others connect meanwhile
                before = counted()
                metrics = rldk.RealNetworkMonitor().get_comprehensive_metrics()
                if before == counted():
                    break
        print(json.dumps([before, metrics.tcp_connections, metrics.active_connections, list(metrics.unmeasured)]))
        """
    )
    truth, tcp, active, unmeasured = found
    assert tcp == active == truth >= 2
    assert not {"tcp_connections", "udp_connections", "active_connections"} & set(unmeasured)


def test_d21_d28_who_holds_a_lock_holds_nobody_up() -> None:
    """rldk measures under its locks; here they are for callers alone."""
    found = answer(
        """
        real = rldk.RealNetworkMonitor()
        distributed, latency = real.distributed_monitor, rldk.NetworkLatencyMonitor(["127.0.0.1"])
        network, bandwidth = rldk.NetworkMonitor(1), rldk.NetworkBandwidthMonitor()
        interface = rldk.NetworkInterfaceMonitor("lo")
        real.get_comprehensive_metrics()
        locks = [real._history_lock, distributed._distributed_lock, latency._lock, network._lock, bandwidth._lock,
                 interface._lock, real.network_diagnostics._lock, real.latency_monitor._lock]
        held, release = threading.Event(), threading.Event()
        def hold():
            for lock in locks:
                lock.acquire()
            held.set(); release.wait()
            for lock in locks:
                lock.release()
        holder = threading.Thread(target=hold); holder.start(); held.wait()
        calls = [real.get_current_metrics, real.get_network_stats, real.get_comprehensive_metrics,
                 real.get_network_health_report, distributed.measure_distributed_metrics, distributed.get_performance_summary,
                 latency.measure_latency, latency.get_average_latency, latency.get_latency_stats, network.get_current_metrics,
                 bandwidth.measure_bandwidth, bandwidth.get_bandwidth_stats, interface.get_interface_stats]
        done = []
        def call():
            for one in calls:
                one(); done.append(one.__name__)
        caller = threading.Thread(target=call); caller.start(); caller.join(30)
        release.set(); holder.join(); caller.join()
        print(json.dumps([len(done), len(calls), held.is_set()]))
        """
    )
    assert found[0] == found[1]


def test_d48_the_network_is_looked_at_without_torch_and_from_the_first_step(tmp_path: Path) -> None:
    found = answer(
        """
        rldk.configure(interfaces=["lo"], interval=0.05)
        pass_windows()
        callback = rldk.DistributedTrainingMonitor(output_dir=sys.argv[1], run_id="r")
        callback.on_train_begin(None)
        callback.on_step_end(None, 1)
        metrics = callback.current_metrics
        callback.on_train_end(None)
        print(json.dumps([callback.network_sampling_frequency, list(metrics.unmeasured), metrics.sources["bandwidth_mbps"],
                          "torch" in sys.modules]))
        """,
        str(tmp_path),
    )
    frequency, unmeasured, source, torch = found
    assert frequency == 10
    assert not {"bandwidth_mbps", "network_bandwidth", "total_bandwidth_mbps"} & set(unmeasured)
    assert source[0].startswith("totals.receive_bytes_per_second")
    assert torch is False


FILES = sorted(TESTS.glob("test_rldk_*.py"))


def functions_of(path: Path) -> list[ast.FunctionDef]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_d64_every_test_can_fail(path: Path) -> None:
    """12 of rldk's returned False, which pytest counts as passed, and none sent a packet."""
    helpers = {"run", "with_rldk", "expect_replaced"}  # which check by themselves
    for test in functions_of(path):
        returned = [node for node in ast.walk(test) if isinstance(node, ast.Return) and node.value is not None]
        nested = [node for inner in ast.walk(test) if isinstance(inner, (ast.FunctionDef, ast.Lambda)) and inner is not test
                  for node in ast.walk(inner)]  # fmt: skip
        assert all(node in nested for node in returned), f"{test.name} returns a value, and pytest does not look at it"
        checks = [
            node
            for node in ast.walk(test)
            if isinstance(node, ast.Assert)
            or (isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in helpers | {"raises"})
        ]
        assert checks, f"{test.name} checks nothing"


def test_d64_real_packets_are_sent() -> None:
    """As many tests of probes, traffic and two ranks as there were mocks."""
    fixtures = ("make_lab", "loopback", "defaults")
    real = [
        test.name
        for path in FILES
        for test in functions_of(path)
        if any(argument.arg in fixtures for argument in test.args.args) or "over_loopback" in ast.unparse(test)
    ]
    assert len(real) > 58
    assert threading.active_count() < 50
