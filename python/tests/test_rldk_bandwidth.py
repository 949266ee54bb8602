"""Bandwidth tests of the rldk-compatible classes: asked for or not run, whatever the tools do. Loopback only; fake tools."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rldk_support import answer, wait_for

from netmon._shared import close_shared_monitor
from netmon.integrations import rldk
from netmon.integrations.rldk._trouble import process

SUM = {"bytes": 1_250_000_000, "seconds": 5.0, "bits_per_second": 2e9}
IPERF3 = {
    "start": {"connected": [{"socket": 5}]},
    "end": {
        "streams": [{"sender": {"mean_rtt": 420}}],
        "sum_sent": {**SUM, "retransmits": 7, "sender": True},
        "sum_received": {**SUM, "bits_per_second": 1.9e9, "bytes": 1_187_500_000, "sender": True},
    },
}
SPEEDTEST = {
    "download": 93_400_000.0,
    "upload": 41_200_000.0,
    "ping": 12.5,
    "bytes_sent": 51_000_000,
    "bytes_received": 117_000_000,
    "timestamp": "2026-01-01T00:00:00.000000Z",
    "share": None,
    "server": {"host": "speedtest.example:8080", "id": "1234", "latency": 12.5, "name": "Example"},
    "client": {"ip": "192.0.2.1"},
}


@pytest.fixture(autouse=True)
def settled() -> Iterator[None]:
    """Leave no trouble of this process behind: health of other tests' objects would tell of it."""
    yield
    process.settle("bandwidth")


@pytest.fixture
def fakes(tmp_path: Path) -> Any:
    """Make programs that stand in for tools; the first on PATH of scripts that get ``PATH=fakes.path``."""

    class Fakes:
        path = f"{tmp_path}:{os.environ['PATH']}"
        calls = tmp_path / "calls"

        def make(self, name: str, does: str) -> None:
            program = tmp_path / name
            program.write_text(f'#!/bin/sh\necho "{name} $@" >> {self.calls}\n{textwrap.dedent(does)}\n')
            program.chmod(0o755)

        def prints(self, name: str, document: Any) -> None:
            text = tmp_path / f"{name}.json"
            text.write_text(json.dumps(document))
            self.make(name, f"cat {text}")

        def called(self) -> list[str]:
            return self.calls.read_text().splitlines() if self.calls.exists() else []

    return Fakes()


def test_d11_d20a_nothing_runs_unasked(fakes: Any) -> None:
    for name in ("iperf3", "speedtest-cli", "curl", "ping", "traceroute"):
        fakes.make(name, "exit 0")
    found = answer(
        """
        rldk.configure(interfaces=["lo"], interval=0.05)
        monitor, diagnostics = rldk.NetworkBandwidthMonitor(), rldk.NetworkDiagnostics()
        monitor.measure_bandwidth()
        private = [monitor._measure_with_speedtest(), monitor._measure_with_iperf()]
        said = monitor.problem
        tests = rldk.NetworkMonitor().test_bandwidth()
        health = rldk.RealNetworkMonitor().get_network_health_report()
        diagnosed = diagnostics.run_comprehensive_diagnostics()["bandwidth_tests"]
        print(json.dumps([private, said, tests, tests.unmeasured, diagnosed, health.reasons["best_bandwidth_mbps"]]))
        """,
        PATH=fakes.path,
    )
    assert fakes.called() == []
    private, said, tests, unmeasured, diagnosed, health = found
    assert private == [0.0, 0.0]
    assert said == tests["iperf"]["error"] == health
    assert tests == diagnosed
    assert unmeasured == ["speedtest", "iperf", "curl"]
    assert {name: (test["success"], test["error"].startswith("not run: ")) for name, test in tests.items()} == dict.fromkeys(
        ("speedtest", "iperf", "curl"), (False, True)
    )


def test_iperf3_in_the_background(fakes: Any) -> None:
    """The call returns at once; the receiver's figure comes with a later one."""
    fakes.make("iperf3", f"sleep 0.5; cat <<'END'\n{json.dumps(IPERF3)}\nEND")
    first, longest, history, stats, source, test = answer(
        """
        monitor = rldk.NetworkBandwidthMonitor(iperf3_server="127.0.0.1:5999")
        rldk.NetworkBandwidthMonitor().measure_bandwidth()  # the library is loaded, and the loop runs
        values, longest = [], 0.0
        while not monitor.bandwidth_history and not monitor.problem:
            began = time.monotonic()
            values.append(monitor.measure_bandwidth())
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.01)
        stats = monitor.get_bandwidth_stats()
        print(json.dumps([values[0], longest, list(monitor.bandwidth_history), stats, stats.sources["mean"],
                          monitor.last_tests[0].to_dict()]))
        """,
        PATH=fakes.path,
    )
    assert first == 0.0
    assert longest < 0.3, "the hot path waits for no tool"
    assert history == [pytest.approx(1900.0)], "the receiver's figure, in Mbps"
    assert stats["mean"] == pytest.approx(1900.0)
    assert source[:2] == ["iperf3 transmit, receiver's figure over 5 s", "127.0.0.1:5999"]
    assert (test["tool"], test["direction"], test["seconds"], test["segments_retransmitted"]) == ("iperf3", "transmit", 5.0, 7)
    called = fakes.called()
    assert len(called) == 1
    assert {"--json", "127.0.0.1", "5999"} <= set(called[0].split())


def test_iperf3_reverse_and_parallel(fakes: Any) -> None:
    fakes.prints("iperf3", IPERF3)
    assert answer(
        """
        diagnostics = rldk.NetworkDiagnostics(iperf3_server="127.0.0.1", iperf3_reverse=True, iperf3_parallel=4)
        found = diagnostics._test_iperf()
        print(json.dumps([found, found.sources["bandwidth_mbps"]]))
        """,
        PATH=fakes.path,
    ) == [
        {"bandwidth_mbps": pytest.approx(1900.0), "success": True},
        ["iperf3 receive, receiver's figure over 5 s", "127.0.0.1", 0.0],
    ]
    assert {"--reverse", "4"} <= set(fakes.called()[0].split())


def test_d10_speedtest_in_rldks_shape(fakes: Any) -> None:
    """D10: it is asked for JSON alone, whose numbers are bits a second."""
    fakes.prints("speedtest-cli", SPEEDTEST)
    diagnosed, monitor, health = answer(
        """
        diagnostics = rldk.NetworkDiagnostics(speedtest=True)
        monitor = rldk.NetworkBandwidthMonitor(speedtest=True)
        real = rldk.RealNetworkMonitor()
        real.network_diagnostics.speedtest = True
        diagnosed, measured = diagnostics._test_speedtest_cli(), monitor._measure_with_speedtest()
        print(json.dumps([diagnosed, measured, real.get_network_health_report()["metrics_summary"]["best_bandwidth_mbps"]]))
        """,
        PATH=fakes.path,
    )
    assert diagnosed == {"download_mbps": 93.4, "upload_mbps": 41.2, "ping_ms": 12.5, "success": True}
    assert (monitor, health) == (93.4, 93.4)
    assert len(fakes.called()) == 3
    assert all("--json" in call and "--simple" not in call for call in fakes.called())
    assert "--no-upload" in fakes.called()[1]


BAD = {
    "garbage": "printf 'no JSON \\033[2J here'",
    "half a document": 'printf \'{"end": {"sum_received": {"bits_per_\'',
    "nothing": "exit 0",
    "another document": "echo '[1, 2]'",
    "no numbers": 'echo \'{"end": {"sum_received": {"bits_per_second": "many"}}}\'',
    "an error of its own": 'echo \'{"error": "unable to connect to server: Connection refused"}\'; exit 1',
    "dies": "kill -9 $$",
    "status": "echo 'something is wrong' >&2; exit 3",
    "gigabytes": "exec head -c 4294967296 /dev/zero",
}


@pytest.mark.parametrize("does", BAD.values(), ids=BAD)
def test_whatever_a_tool_does(fakes: Any, does: str) -> None:
    """A sentence, no value, nothing in the history, and the process as it was."""
    for name in ("iperf3", "speedtest-cli"):
        fakes.make(name, does)
    found = answer(
        """
        import resource
        rldk.NetworkBandwidthMonitor().measure_bandwidth()
        before = len(os.listdir("/proc/self/fd")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        diagnostics = rldk.NetworkDiagnostics(iperf3_server="127.0.0.1", speedtest=True)
        tests = diagnostics._run_bandwidth_diagnostics()
        monitors = rldk.NetworkBandwidthMonitor(iperf3_server="127.0.0.1"), rldk.NetworkBandwidthMonitor(speedtest=True)
        for monitor in monitors:
            while not monitor.problem or "under way" in monitor.problem:
                assert monitor.measure_bandwidth() == 0.0
                time.sleep(0.01)
        values = [monitors[0]._measure_with_iperf(), monitors[1]._measure_with_speedtest()]
        after = len(os.listdir("/proc/self/fd")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            children = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            children = None
        problems, histories = [m.problem for m in monitors], [len(m.bandwidth_history) for m in monitors]
        print(json.dumps([tests, problems, histories, values, before, after, children]))
        """,
        PATH=fakes.path,
    )
    tests, problems, histories, values, before, after, children = found
    for name in ("iperf", "speedtest"):
        assert tests[name]["success"] is False
        assert len(tests[name]["error"]) > 10
        assert tests[name]["error"].isprintable()
    assert all(problem.isprintable() and len(problem) < 1000 for problem in problems)
    assert (histories, values) == ([0, 0], [0.0, 0.0])
    assert after[0] <= before[0] + 1
    assert after[1] - before[1] < 40_000, "KiB"
    assert children is None


def test_a_tool_that_hangs_is_ended(fakes: Any, tmp_path: Path) -> None:
    """With all that it started: at its timeout, at Ctrl-C, when the monitor is closed, and when the process ends."""
    fakes.make("iperf3", f"sleep 300 & echo $! >> {tmp_path}/pids; echo $$ >> {tmp_path}/pids; sleep 300")
    script = """
        import signal
        from netmon._shared import close_shared_monitor, shared_monitor
        pids = sys.argv[1]
        def running():
            found = []
            for pid in open(pids).read().split() if os.path.exists(pids) else []:
                try:
                    # A zombie has ended.
                    found += [pid] if open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z" else []
                except OSError:
                    pass
            return found
        def started():
            return wait_for(lambda: len(running()) == 2, "the tool")
        def ended():
            return wait_for(lambda: running() == [], "its end")
        said = []
        monitor = rldk.NetworkBandwidthMonitor(iperf3_server="127.0.0.1")
        monitor.measure_bandwidth()
        started()
        close_shared_monitor()
        ended()
        said.append("closed")
        found = shared_monitor().measure_bandwidth("127.0.0.1", 1, tool="iperf3", timeout=1)
        ended()
        said.append(found.error)
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        try:
            rldk.NetworkDiagnostics(iperf3_server="127.0.0.1")._test_iperf()
        except KeyboardInterrupt:
            said.append("interrupted")
        spent = time.monotonic() - began
        ended()
        again = rldk.NetworkBandwidthMonitor(iperf3_server="127.0.0.1")
        again.measure_bandwidth()
        started()
        print(json.dumps([said, spent]))
        """
    pids = tmp_path / "pids"
    said, spent = answer(script, str(pids), PATH=fakes.path)
    assert said[0] == "closed"
    assert "1 s" in said[1]
    assert said[2] == "interrupted"
    assert spent < 1.5

    def running() -> list[str]:
        states = []
        for pid in pids.read_text().split():
            with contextlib.suppress(OSError):
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                states += [pid] if state != "Z" else []
        return states

    wait_for(lambda: running() == [], "the end of what the process had started")


def test_a_tool_that_is_not_there(fakes: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    tests = answer(
        """
        print(json.dumps(rldk.NetworkDiagnostics(iperf3_server="127.0.0.1", speedtest=True)._run_bandwidth_diagnostics()))
        """,
        PATH=str(empty),
    )
    assert "iperf3" in tests["iperf"]["error"]
    assert "speedtest-cli" in tests["speedtest"]["error"]
    assert "PATH" in tests["iperf"]["error"]


def test_names_are_arguments_and_no_commands(fakes: Any, tmp_path: Path) -> None:
    """There is no shell to obey them."""
    fakes.prints("iperf3", IPERF3)
    for server in (f"$(touch {tmp_path}/broken)", f"127.0.0.1; touch {tmp_path}/broken", "--server", "-s"):
        answer("print(json.dumps(rldk.NetworkDiagnostics(iperf3_server=sys.argv[1])._test_iperf()))", server, PATH=fakes.path)
    assert not (tmp_path / "broken").exists()
    # iperf3 takes the word behind --client for its argument, whatever it begins with.
    for call in fakes.called():
        words = call.split()
        assert words.index("--client") < min((words.index(word) for word in ("--server", "-s") if word in words), default=99)


@pytest.fixture
def loopback() -> Iterator[None]:
    close_shared_monitor()
    rldk.configure(interfaces=["lo"], interval=0.05)
    yield
    close_shared_monitor()


def test_d6_one_quantity_an_object(loopback: None) -> None:
    """What passes, and what a tool can push through, are never in one history."""
    monitor = rldk.NetworkBandwidthMonitor()
    monitor.measurement_interval = 0.0
    wait_for(lambda: monitor.measure_bandwidth() >= 0 and len(monitor.bandwidth_history) > 2, "values")
    monitor.iperf3_server = "127.0.0.1:1"
    assert monitor.measure_bandwidth() == 0.0
    assert len(monitor.bandwidth_history) == 0
    wait_for(lambda: monitor.measure_bandwidth() == 0 and monitor.problem, "the failure")
    assert len(monitor.bandwidth_history) == 0
    assert monitor.get_bandwidth_stats().reasons["mean"] == monitor.problem


def test_a_programs_own_methods_are_used(loopback: None) -> None:
    class Own(rldk.NetworkBandwidthMonitor):
        def _measure_with_speedtest(self) -> float:
            return 0.0

        def _measure_with_iperf(self) -> float:
            return 940.0

    monitor = Own()
    assert [monitor.measure_bandwidth(), monitor.measure_bandwidth()] == [940.0, 940.0]
    assert list(monitor.bandwidth_history) == [940.0]


def test_d20a_the_interval_counts_from_the_end(fakes: Any) -> None:
    fakes.make("iperf3", f"sleep 0.3; cat <<'END'\n{json.dumps(IPERF3)}\nEND")
    fakes_times = answer(
        """
        monitor = rldk.NetworkBandwidthMonitor(iperf3_server="127.0.0.1")
        monitor.measurement_interval = 1.0
        while len(monitor.bandwidth_history) < 2:
            monitor.measure_bandwidth()
            time.sleep(0.01)
        from netmon._shared import shared_monitor
        print(json.dumps([t.timestamp_seconds for t in shared_monitor().sample().bandwidth_tests]))
        """,
        PATH=fakes.path,
    )
    assert fakes_times[1] - fakes_times[0] > 1.25


def test_iperf3_parallel_is_checked() -> None:
    with pytest.raises(ValueError, match="iperf3_parallel must be a whole number of at least 1"):
        rldk.NetworkBandwidthMonitor(iperf3_parallel=0)


@pytest.mark.skipif(shutil.which("iperf3") is None, reason="iperf3 is not installed")
def test_a_real_iperf3(loopback: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(["iperf3", "--server", "--bind", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        diagnostics = rldk.NetworkDiagnostics(iperf3_server=f"127.0.0.1:{port}")
        request = diagnostics._iperf3(1, 10)
        from netmon.integrations.rldk import _diagnostics

        assert request is not None
        assert request["target"] == f"127.0.0.1:{port}"
        original, _diagnostics._IPERF3_SECONDS = _diagnostics._IPERF3_SECONDS, 1
        try:
            wait_for(lambda: "refuse" not in str(diagnostics._test_iperf().get("error")), "the server")
            there = diagnostics._test_iperf()
            diagnostics.iperf3_reverse, diagnostics.iperf3_parallel = True, 2
            back = diagnostics._test_iperf()
        finally:
            _diagnostics._IPERF3_SECONDS = original
    finally:
        server.kill()
        server.wait()
    assert (there["success"], back["success"]) == (True, True), (there, back)
    assert there["bandwidth_mbps"] > 100
    assert back["bandwidth_mbps"] > 100


def test_the_shared_monitor_serves_and_leaves_sockets_alone_where_it_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert answer(
        f"""
        from netmon._shared import shared_monitor
        rldk.configure(peers=False, bandwidth_server={{"port": {port}}})
        test = shared_monitor().measure_bandwidth("127.0.0.1:{port}", seconds=0.1)
        print(json.dumps([test.error, shared_monitor().sample().reason("peers")]))
        """
    ) == [None, "not in sources"]


def test_trouble_is_logged_once_and_can_be_settled(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for _ in range(2):
        bandwidth = rldk.NetworkBandwidthMonitor(iperf3_server=f"127.0.0.1:{port}")
        assert bandwidth._measure_with_iperf() == 0.0
        assert process.problems() == [f"a bandwidth test gave nothing: {bandwidth.problem}"]
    process.settle("bandwidth")
    assert process.problems() == []
    assert sum("a bandwidth test gave nothing" in record.message for record in caplog.records) <= 1
