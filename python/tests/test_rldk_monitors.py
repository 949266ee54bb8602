"""What the monitors measure, against the kernel's own counts and against what the tests sent."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from rldk_support import answer, may_make_namespaces, namespace, over_loopback, pass_windows, proc_counts, run, wait_for

from netmon import ConfigError
from netmon._shared import close_shared_monitor
from netmon.integrations import rldk
from netmon.integrations.rldk import _measured, _metrics, _reading

MIB = 1 << 20
needs_namespaces = pytest.mark.skipif(not may_make_namespaces(), reason="network namespaces cannot be made here")


@pytest.fixture
def loopback() -> Iterator[None]:
    """A shared monitor of loopback, 20 times a second."""
    close_shared_monitor()
    rldk.configure(interfaces=["lo"], interval=0.05)
    yield
    close_shared_monitor()


@pytest.fixture
def defaults() -> Iterator[None]:
    """A shared monitor as it is by default, but 20 times a second."""
    close_shared_monitor()
    rldk.configure(interval=0.05)
    yield
    close_shared_monitor()


def test_interface_totals_are_the_kernels(defaults: None) -> None:
    monitor = rldk.NetworkInterfaceMonitor("lo")
    before, start = monitor.get_interface_stats(), proc_counts("lo")
    over_loopback(20 * MIB)
    after, end = monitor.get_interface_stats(), proc_counts("lo")
    passed = end[0] - start[0]
    assert passed > 20 * MIB
    assert after["total_bytes_recv"] - before["total_bytes_recv"] == pytest.approx(passed, rel=0.01)
    assert after["total_bytes_sent"] - before["total_bytes_sent"] == pytest.approx(end[1] - start[1], rel=0.01)
    assert after.sources["total_bytes_recv"][:2] == ("interfaces.lo.receive_bytes_total", "lo")
    assert after.sources["total_bytes_recv"].age_seconds < 5


def test_rates_agree_with_what_was_sent(loopback: None) -> None:
    pass_windows()
    interface, real, network = rldk.NetworkInterfaceMonitor("lo"), rldk.RealNetworkMonitor(), rldk.NetworkMonitor(1)
    rates: list[tuple[float, ...]] = []
    sending = threading.Thread(target=over_loopback, args=(40 * MIB, 1.0))
    start, begun = proc_counts("lo"), time.monotonic()
    sending.start()
    while sending.is_alive():
        sending.join(0.05)
        stats, metrics, current = (
            interface.get_interface_stats(),
            real.get_comprehensive_metrics(),
            network.get_current_metrics(),
        )
        rates.append((stats["bytes_in_mbps"], metrics.bandwidth_in_mbps, current["bandwidth_mbps"]))
        assert stats["bytes_in_mbps"] == pytest.approx(stats["bytes_in_per_sec"] * 8 / 1e6)
        assert metrics.bandwidth_mbps == pytest.approx(metrics.bandwidth_in_mbps + metrics.bandwidth_out_mbps)
        assert current["total_bandwidth_mbps"] == pytest.approx(
            current["bandwidth_download_mbps"] + current["bandwidth_upload_mbps"]
        )
    truth = (proc_counts("lo")[0] - start[0]) * 8 / 1e6 / (time.monotonic() - begun)
    for found in zip(*rates, strict=True):
        middle = sorted(found)[len(found) // 2]
        assert middle == pytest.approx(truth, rel=0.35), found


def test_d6_bandwidth_is_always_what_passes(loopback: None) -> None:
    pass_windows()
    metrics = rldk.RealNetworkMonitor().get_comprehensive_metrics()
    source, target, age = metrics.sources["bandwidth_mbps"]
    assert source == "totals.receive_bytes_per_second + totals.transmit_bytes_per_second"
    assert target == "lo"
    assert 0 <= age < 5


def test_d4_d5_unmeasured_is_named_and_zero(loopback: None) -> None:
    pass_windows()
    metrics = rldk.RealNetworkMonitor().get_comprehensive_metrics()
    later = {
        "latency_ms",
        "allreduce_bandwidth",
        "broadcast_bandwidth",
        "gather_bandwidth",
        "scatter_bandwidth",
        "dns_resolution_ms",
        "tcp_connectivity_ms",
        "udp_connectivity_ms",
        "network_path_hops",
        "network_path_latency",
    }
    assert later <= set(metrics.unmeasured)
    assert all(getattr(metrics, name) == 0 for name in metrics.unmeasured)
    assert set(metrics.unmeasured).isdisjoint(metrics.sources)
    assert set(metrics.unmeasured) | set(metrics.sources) == set(_metrics.MEASURABLE)
    assert set(metrics.reasons) == set(metrics.unmeasured)
    json.dumps([metrics.to_dict(), metrics.unmeasured, metrics.reasons, metrics.sources], allow_nan=False)


def test_before_a_window_exists_rates_are_unmeasured_not_zero() -> None:
    found = answer(
        """
        rldk.configure(interfaces=["lo"], interval=30)
        metrics = rldk.RealNetworkMonitor().get_comprehensive_metrics()
        stats = rldk.NetworkInterfaceMonitor("lo").get_interface_stats()
        current = rldk.NetworkMonitor().get_current_metrics()
        print(json.dumps([metrics.unmeasured, stats.unmeasured, current.unmeasured, metrics.reasons["bandwidth_in_mbps"]]))
        """
    )
    assert {"bandwidth_mbps", "bytes_in_per_sec", "packets_out_per_sec", "packet_loss_percent", "network_errors"} <= set(
        found[0]
    )
    assert "tcp_connections" not in found[0]
    assert set(found[1]) == {
        "bytes_in_per_sec",
        "bytes_out_per_sec",
        "packets_in_per_sec",
        "packets_out_per_sec",
        "bytes_in_mbps",
        "bytes_out_mbps",
    }
    assert set(found[2]) == {
        "bandwidth_mbps",
        "bandwidth_upload_mbps",
        "bandwidth_download_mbps",
        "latency_ms",
        "total_bandwidth_mbps",
    }
    assert "sample" in found[3]


def test_d17a_d42_calls_between_measurements_carry_the_last_one_on(loopback: None) -> None:
    pass_windows()
    monitor = rldk.NetworkInterfaceMonitor("lo", sampling_frequency=3)
    first = monitor.get_interface_stats()
    over_loopback(4 * MIB)
    second = monitor.get_interface_stats()
    third = monitor.get_interface_stats()
    fourth = monitor.get_interface_stats()
    assert second == first
    assert second.sources["total_bytes_recv"].age_seconds >= first.sources["total_bytes_recv"].age_seconds
    assert third["total_bytes_recv"] - first["total_bytes_recv"] > 4 * MIB
    assert fourth == third
    assert monitor._invocation_count == 4

    distributed = rldk.DistributedNetworkMonitor(sampling_frequency=3)
    stamps = [distributed.measure_distributed_metrics().timestamp for _ in range(4)]
    assert stamps[0] == stamps[1] < stamps[2] == stamps[3]
    assert len(distributed.performance_history) == 2


def test_d42_a_network_monitor_never_shows_what_passed_long_ago(loopback: None) -> None:
    """rldk measures at every call whatever the frequency: a program that asks now and then wants to know of now."""
    pass_windows()
    network = rldk.NetworkMonitor()
    assert network.sampling_frequency == 10
    stamps = []
    for _ in range(25):
        pass_windows(1)
        metrics = network.get_current_metrics()
        assert all(source.age_seconds < 2 for source in metrics.sources.values())
        stamps.append(metrics["timestamp"])
    assert stamps == sorted(set(stamps))


def test_d42_every_nth_call_of_a_network_monitor_measures(loopback: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pass_windows()
    network = rldk.NetworkMonitor(sampling_frequency=3)
    calls: list[str] = []
    for name in ("measure", "newest"):
        take = getattr(_reading, name)
        monkeypatch.setattr(_reading, name, lambda name=name, take=take: calls.append(name) or take())
    for _ in range(6):
        network.get_current_metrics()
    network.reset_counters()
    network.get_current_metrics()
    assert calls == ["measure", "newest", "measure", "newest", "newest", "measure", "measure"]


def test_a_sample_is_one_measurement_however_often_it_is_shown(loopback: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pass_windows()
    sample = _reading.newest()
    for name in ("measure", "newest"):
        monkeypatch.setattr(_reading, name, lambda: sample)
    network = rldk.NetworkMonitor()
    for _ in range(5):
        network.get_current_metrics()
    assert len(network.real_monitor.bandwidth_history) == 1


def test_d20_the_estimate_from_the_interfaces_is_not_zero(loopback: None) -> None:
    pass_windows()
    monitor = rldk.NetworkBandwidthMonitor()
    sending = threading.Thread(target=over_loopback, args=(20 * MIB, 0.5))
    sending.start()
    found = []
    while sending.is_alive():
        sending.join(0.05)
        found.append(monitor._estimate_from_interface())
    assert max(found) > 50
    assert monitor.measure_bandwidth() >= 0
    assert len(monitor.bandwidth_history) == 1
    assert monitor.measure_bandwidth() == monitor.bandwidth_history[0]
    assert len(monitor.bandwidth_history) == 1, "within the interval the last value is returned"


def test_d20b_a_failure_enters_no_history() -> None:
    found = answer(
        """
        rldk.configure(interval=30)
        monitor, real, network = rldk.NetworkBandwidthMonitor(), rldk.RealNetworkMonitor(), rldk.NetworkMonitor(1)
        values = [monitor.measure_bandwidth(), real.get_current_metrics()["bandwidth"]]
        values.append(network.get_current_metrics()["bandwidth_mbps"])
        histories = monitor.bandwidth_history, real.bandwidth_history, network.real_monitor.bandwidth_history
        print(json.dumps([values, *map(len, histories)]))
        """
    )
    assert found == [[0.0, 0.0, 0.0], 0, 0, 0]


def test_d18_with_loopback_only_there_is_no_invented_interface() -> None:
    if not may_make_namespaces():
        pytest.skip("network namespaces cannot be made here")
    with namespace() as prefix:
        found = answer(
            """
            monitor = rldk.NetworkInterfaceMonitor()
            stats = monitor.get_interface_stats()
            names = monitor.interface_name, monitor._detect_primary_interface()
            print(json.dumps([*names, len(stats.unmeasured), sum(stats.values())]))
            """,
            prefix=prefix,
        )
    assert found == ["", "", 14, 0]


@pytest.mark.namespaces
@needs_namespaces
def test_d18_the_primary_interface_routes_to_the_master() -> None:
    with namespace(
        "ip link add br-1f2 type bridge",
        "ip link set br-1f2 up",
        "ip link add nma type veth peer name nmb",
        "ip addr add 10.7.0.1/24 dev nma",
        "ip link set nma up",
        "ip link set nmb up",
        "ip link add nmc type veth peer name nmd",
        "ip addr add 10.7.1.1/24 dev nmc",
        "ip link set nmc up",
        "ip link set nmd up",
        "ip route add default via 10.7.0.2",
    ) as prefix:
        script = "print(json.dumps(rldk.NetworkInterfaceMonitor().interface_name))"
        assert answer(script, prefix=prefix) == "nma"
        assert answer(script, prefix=prefix, MASTER_ADDR="10.7.1.9", MASTER_PORT="29500") == "nmc"


@pytest.mark.namespaces
@needs_namespaces
def test_d19_an_interface_that_vanishes_gives_no_rate_and_never_a_negative_one() -> None:
    with namespace(
        "ip link add nma type veth peer name nmb", "ip link set nma up", "ip link set nmb up", "ip addr add 10.7.0.1/24 dev nma"
    ) as prefix:
        found = answer(
            """
            import subprocess
            rldk.configure(interval=0.05)
            monitor, real = rldk.NetworkInterfaceMonitor("nma"), rldk.RealNetworkMonitor()
            pass_windows()
            before = monitor.get_interface_stats(); real.get_comprehensive_metrics()
            over_loopback(4 << 20)
            subprocess.run(["ip", "link", "del", "nma"], check=True)
            pass_windows(3)
            gone, metrics = monitor.get_interface_stats(), real.get_comprehensive_metrics()
            subprocess.run("ip link add nma type veth peer name nmb && ip link set nma up", shell=True, check=True)
            pass_windows(3)
            back = monitor.get_interface_stats()
            why = gone.reasons["bytes_in_mbps"]
            print(json.dumps([before.unmeasured, gone, gone.unmeasured, why, metrics.to_dict(), back]))
            """,
            prefix=prefix,
        )
    before, gone, unmeasured, reason, metrics, back = found
    assert before == []
    assert set(gone.values()) == {0}
    assert len(unmeasured) == 14
    assert reason == "there is no interface 'nma'"
    assert all(value >= 0 for value in metrics.values())
    assert all(value >= 0 for value in back.values())
    assert back["total_bytes_recv"] < 1e6


@pytest.mark.namespaces
@needs_namespaces
def test_d24_loss_and_errors_are_windowed() -> None:
    """A TUN device without a reader drops what its queue does not hold; what is read counts as sent."""
    with namespace() as prefix:
        found = answer(
            """
            import fcntl, socket, struct, subprocess
            def ip(*words):
                return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", b"nmt", 0x1001))
            ip("link", "set", "nmt", "txqueuelen", "50", "up"); ip("addr", "add", "10.8.0.1/24", "dev", "nmt")
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            def drain():
                try:
                    while True:
                        os.read(tun, 2000)
                except BlockingIOError:
                    pass
            def counts():
                return json.loads(ip("-s", "-j", "link", "show", "nmt"))[0]["stats64"]["tx"]
            def burst(count):
                for _ in range(count):
                    sock.sendto(b"x" * 100, ("10.8.0.2", 9))
                drain()
            drain(); burst(400); drain()          # an old burst, before netmon starts
            rldk.configure(interfaces=["nmt"], interval=0.05)
            real = rldk.RealNetworkMonitor()
            first = real.get_comprehensive_metrics()
            start = counts(); burst(100); end = counts()
            during = real.get_comprehensive_metrics()
            for _ in range(20):                   # traffic without a drop
                burst(10)
            after = real.get_comprehensive_metrics()
            truth = {key: end[key] - start[key] for key in ("packets", "dropped", "errors")}
            print(json.dumps([first.unmeasured, during.to_dict(), after.to_dict(), truth, end["dropped"], after.unmeasured]))
            """,
            prefix=prefix,
        )
    first, during, after, truth, ever, unmeasured = found
    assert {"packet_loss_percent", "network_errors", "dropped_packets"} <= set(first)
    assert truth["dropped"] >= 40
    assert ever > truth["dropped"] + 300
    assert during["dropped_packets"] == truth["dropped"]
    assert during["packet_loss_percent"] == pytest.approx(
        100 * truth["dropped"] / (truth["dropped"] + truth["packets"]), abs=0.01
    )
    assert during["network_errors"] == truth["errors"] == 0
    assert after["dropped_packets"] == 0
    assert after["packet_loss_percent"] == 0.0
    assert "packet_loss_percent" not in unmeasured


def test_counts_never_go_back_and_belong_to_one_caller() -> None:
    def sums(count: int, origin: tuple[int, int] = (1, 1)) -> _metrics.Sums:
        return _metrics.Sums(count, count, count, 10 * count, origin)

    counts = _metrics.Counts()
    assert counts.since(None) is None
    assert counts.since(sums(5)) is None
    assert counts.since(sums(7)) == (2, 2, 2, 20)
    assert counts.since(None) is None
    assert counts.since(sums(8)) == (1, 1, 1, 10)
    assert counts.since(sums(9, (1, 2))) is None, "of another monitor"
    assert counts.since(sums(3, (1, 2))) is None
    assert counts.since(sums(4, (1, 2))) == (1, 1, 1, 10)
    assert _metrics.Since(0, 0, 0, 0).loss_percent is None
    assert _metrics.Since(0, 0, 50, 50).loss_percent == 50.0
    assert _metrics.Since(0, 100, 0, 100).loss_percent == 100.0
    assert _metrics.Since(0, 200, 0, 100).loss_percent == 100.0


def test_d25_a_summary_without_latency_is_no_error(loopback: None) -> None:
    pass_windows()
    monitor = rldk.DistributedNetworkMonitor()
    monitor.measure_distributed_metrics()
    over_loopback(MIB)
    monitor.measure_distributed_metrics()
    summary = monitor.get_performance_summary()
    assert set(summary) == {
        "total_measurements",
        "avg_bandwidth",
        "avg_latency",
        "avg_packet_loss",
        "max_bandwidth",
        "min_latency",
        "distributed_metrics",
    }
    assert summary["total_measurements"] == 2
    assert summary["max_bandwidth"] >= summary["avg_bandwidth"] > 0
    assert summary["min_latency"] == 0.0
    assert {"avg_latency", "min_latency", "avg_allreduce_bandwidth"} <= set(summary.unmeasured)
    assert set(summary["distributed_metrics"]) == {
        f"avg_{op}_bandwidth" for op in ("allreduce", "broadcast", "gather", "scatter")
    }


def test_d25_frames_have_a_row_per_measurement(loopback: None) -> None:
    pytest.importorskip("pandas")
    monitor = rldk.DistributedNetworkMonitor()
    monitor.measure_distributed_metrics()
    frame = monitor.get_metrics_dataframe()
    assert frame is not None
    assert list(frame.columns) == list(rldk.NetworkMetrics().to_dict())
    assert len(frame) == 1


def test_d29_d31_statistics_know_what_was_measured(loopback: None) -> None:
    pass_windows()
    over_loopback(4 * MIB)
    network = rldk.NetworkMonitor(1)
    network.get_current_metrics()
    assert network.get_network_stats()["max_bandwidth"] > 0
    real = rldk.RealNetworkMonitor(enable_distributed_monitoring=False)
    over_loopback(4 * MIB)
    assert real.get_comprehensive_metrics().bandwidth_mbps > 0
    stats = real.get_network_stats()
    assert stats["max_bandwidth"] > 0
    assert {"avg_latency", "max_latency", "min_latency"} == set(stats.unmeasured)
    assert "latency_ms" in real.get_comprehensive_metrics().unmeasured


def test_current_metrics_keep_for_the_interval(loopback: None) -> None:
    pass_windows()
    real = rldk.RealNetworkMonitor()
    first = real.get_current_metrics()
    over_loopback(8 * MIB)
    assert real.get_current_metrics() == first
    real.measurement_interval = 0.0
    assert real.get_current_metrics()["bandwidth"] != first["bandwidth"]


@pytest.mark.parametrize("counted", ["by default", "when named"])
def test_d40_loopback_is_not_counted(counted: str) -> None:
    option = "" if counted == "by default" else "interfaces=['lo'], "
    found = answer(
        f"""
        rldk.configure({option}interval=0.05)
        pass_windows()
        network, real = rldk.NetworkMonitor(1), rldk.RealNetworkMonitor()
        start = proc_counts("lo")
        rates = []
        sending = threading.Thread(target=over_loopback, args=(20 << 20, 0.5)); sending.start()
        while sending.is_alive():
            sending.join(0.05)
            current, metrics = network.get_current_metrics(), real.get_comprehensive_metrics()
            rates.append((current["total_bandwidth_mbps"], metrics.bandwidth_mbps))
        print(json.dumps([max(r[0] for r in rates), max(r[1] for r in rates), proc_counts("lo")[0] - start[0]]))
        """
    )
    assert found[2] > 20 * MIB
    if counted == "by default":
        assert found[0] < 20
        assert found[1] < 20
    else:
        assert found[0] > 100
        assert found[1] > 100


@pytest.mark.namespaces
@needs_namespaces
def test_d40_a_bridge_and_its_members_do_not_count_beside_a_link() -> None:
    with namespace(
        "ip link add nma type veth peer name nmb",
        "ip addr add 10.7.0.1/24 dev nma",
        "ip link set nma up",
        "ip link add nmbr type bridge",
        "ip addr add 10.7.1.1/24 dev nmbr",
        "ip link set nmbr up",
        "ip link add nmc type veth peer name nmd",
        "ip link set nmc master nmbr",
        "ip link set nmc up",
    ) as prefix:
        other = f"{prefix[-1]}b"
        subprocess.run(["ip", "netns", "add", other], check=True)
        try:
            for name, address in (("nmb", "10.7.0.2/24"), ("nmd", "10.7.1.2/24")):
                subprocess.run([*prefix, "ip", "link", "set", name, "netns", other], check=True)
                subprocess.run(["ip", "-n", other, "addr", "add", address, "dev", name], check=True)
                subprocess.run(["ip", "-n", other, "link", "set", name, "up"], check=True)
            with subprocess.Popen(
                ["ip", "netns", "exec", other, sys.executable, "-c", _SINK], stdout=subprocess.PIPE, text=True
            ) as taking:
                try:
                    assert taking.stdout is not None
                    assert taking.stdout.readline().strip() == "ready"
                    found = answer(
                        """
                        rldk.configure(interval=0.05)
                        monitor = rldk.NetworkMonitor(1)
                        monitor.get_current_metrics()
                        start, before = kernel_counts("nma"), monitor.last_net_io
                        send("10.7.0.2", 4700, 8 << 20)
                        send("10.7.1.2", 4700, 8 << 20)
                        monitor.get_current_metrics()
                        end, after = kernel_counts("nma"), monitor.last_net_io
                        print(json.dumps([end[1] - start[1], after.bytes_sent - before.bytes_sent, kernel_counts("nmbr")[1]]))
                        """,
                        prefix=prefix,
                    )
                finally:
                    taking.kill()
        finally:
            subprocess.run(["ip", "netns", "del", other], check=True)
    truth, counted, bridge = found
    assert truth > 8 * MIB
    assert bridge > 8 * MIB
    assert counted == pytest.approx(truth, rel=0.01)


_SINK = """
import socket
server = socket.create_server(("", 4700))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    while connection.recv(1 << 20):
        pass
    connection.close()
"""


def test_configure_is_refused_when_it_is_too_late(loopback: None) -> None:
    with pytest.raises(ConfigError, match=r"too late to configure interval=1\.0: the shared monitor .* already runs with"):
        rldk.configure(interval=1.0)
    rldk.configure(interfaces=["lo"], interval=0.05)


def test_configure_names_what_is_wrong() -> None:
    close_shared_monitor()
    with pytest.raises(ConfigError, match="interval_seconds"):
        rldk.configure(interval=-1)
    rldk.configure(interval=0.5)
    close_shared_monitor()


def test_many_objects_share_one_monitor_and_add_nothing() -> None:
    found = answer(
        """
        rldk.RealNetworkMonitor().get_comprehensive_metrics()
        kinds = (rldk.RealNetworkMonitor, rldk.NetworkMonitor, rldk.NetworkInterfaceMonitor, rldk.NetworkBandwidthMonitor,
                 rldk.DistributedNetworkMonitor, rldk.NetworkDiagnostics, rldk.DistributedMetricsCollector,
                 rldk.MultiNodeMonitor, rldk.OpenRLHFCallback, rldk.DistributedTrainingMonitor)
        before = len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
        kept = [kind() for _ in range(200) for kind in kinds]
        for thing in kept[:100]:
            getattr(thing, "get_comprehensive_metrics", lambda: 0)()
            getattr(thing, "get_interface_stats", lambda: 0)()
        print(json.dumps([before, (len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")))]))
        """
    )
    (threads, descriptors), (threads_after, descriptors_after) = found
    assert descriptors_after == descriptors
    assert threads_after <= threads + 2, "Go may add a thread; the objects add none"


def test_sixteen_threads_at_once_make_one_monitor() -> None:
    found = answer(
        """
        from netmon import _shared
        made, opened = [], _shared.Monitor
        class Counting(opened):
            def __init__(self, *args, **kwargs):
                made.append(1)
                super().__init__(*args, **kwargs)
        _shared.Monitor = Counting
        gate, results = threading.Barrier(16), []
        def work():
            gate.wait()
            results.append(rldk.RealNetworkMonitor().get_comprehensive_metrics())
        threads = [threading.Thread(target=work) for _ in range(16)]
        [t.start() for t in threads]; [t.join() for t in threads]
        print(json.dumps([len(made), len(results)]))
        """
    )
    assert found == [1, 16]


def test_reading_while_others_measure_is_safe(loopback: None) -> None:
    pass_windows()
    real = rldk.RealNetworkMonitor()
    stop, wrong = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            try:
                metrics = real.get_comprehensive_metrics()
                assert metrics.dropped_packets >= 0
                assert metrics.network_errors >= 0
                real.get_network_stats()
                assert real.distributed_monitor is not None
                real.distributed_monitor.get_performance_summary()
            except Exception as error:  # noqa: BLE001
                wrong.append(error)
                return

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    threads[0].join(0.5)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_d32_d41_nothing_is_graded_that_was_not_measured(loopback: None) -> None:
    report = rldk.RealNetworkMonitor().get_network_health_report()
    assert (report["overall_health"], report["issues"], report["recommendations"]) == ("unknown", [], [])
    assert "overall_health" in report.unmeasured
    network = rldk.NetworkMonitor(1)
    assert network.get_current_metrics()["latency_ms"] == 0.0
    assert "latency_ms" in network.get_current_metrics().unmeasured
    assert "not measured" in (network.get_error_status()["latency"] or "")
    assert network.get_error_status()["bandwidth"] is None
    assert set(network.test_network_connectivity()) == {"ping_tests", "dns_tests", "connectivity_tests"}
    assert set(network.test_bandwidth()) == {"speedtest", "iperf", "curl"}
    assert "error" in network.test_distributed_network()


def test_d36_what_belongs_to_a_host_counts_once() -> None:
    collector = rldk.DistributedMetricsCollector()
    ranks = [
        rldk.NodeMetrics(f"node{rank // 8}", rank, rank % 8, 8, [2.0], [1.0], [], 50.0, 100.0, 100_000.0, float(rank), 1.0)
        for rank in range(16)
    ]
    found = collector._convert_to_distributed_metrics(ranks)
    assert (found.world_size, found.node_count) == (16, 2)
    assert found.network_bandwidth_total == 200_000.0
    assert (found.network_bandwidth_mean, found.network_bandwidth_max) == (100_000.0, 100_000.0)
    assert found.total_cpu_memory_used == 200.0
    assert found.avg_cpu_utilization == 50.0
    assert (found.total_gpu_memory_used, found.total_gpu_memory_allocated) == (32.0, 16.0)
    assert (found.max_network_latency, found.avg_network_latency) == (15.0, 8.0)
    assert {"allreduce_time", "broadcast_time", "gather_time", "scatter_time", "avg_gpu_utilization"} == set(found.unmeasured)


def test_d34_d37_the_collector_collects_this_node_and_says_so(loopback: None) -> None:
    pass_windows()
    collector = rldk.DistributedMetricsCollector(collect_interval=0.1)
    collector.start_collection()
    collector.start_collection()
    try:
        sending = threading.Thread(target=over_loopback, args=(20 * MIB, 0.5))
        sending.start()
        wait_for(lambda: len(collector.metrics_history) >= 5, "five collections")
        sending.join()
    finally:
        collector.stop_collection()
    latest = collector.get_latest_metrics()
    assert latest is not None
    assert (latest.node_count, latest.world_size) == (1, 1)
    assert max(metrics.network_bandwidth_total for metrics in collector.metrics_history) > 1
    assert {"avg_network_latency", "allreduce_time"} <= set(latest.unmeasured)
    assert collector.collecting is False
    assert len(collector.node_metrics) == 1
    gone = len(collector.metrics_history)
    pass_windows(4)
    assert len(collector.metrics_history) - gone <= 1
    if importlib.util.find_spec("pandas"):
        frame = collector.get_metrics_dataframe()
        assert frame is not None
        assert {"network_bandwidth_mean", "network_bandwidth_max", "max_network_latency"} <= set(frame.columns)
        assert len(frame) == len(collector.metrics_history)


def test_d38_d39_a_multi_node_monitor_needs_nobody(loopback: None) -> None:
    monitor = rldk.MultiNodeMonitor("nowhere.invalid", 1)
    monitor.start_monitoring()
    try:
        wait_for(monitor.get_aggregated_metrics, "an aggregate")
    finally:
        monitor.stop_monitoring()
    aggregate = monitor.get_aggregated_metrics()[0]
    assert set(aggregate) == {"timestamp", "node_count", "total_cpu_utilization", "total_memory_used", "node_metrics"}
    assert aggregate["node_count"] == 1
    (local,) = monitor.get_node_metrics().values()
    assert set(local) == {"timestamp", "cpu_utilization", "memory_used", "memory_percent", "disk_usage", "gpu_metrics"}
    assert 0 < local["disk_usage"] < 100


def test_the_thread_ends_with_the_last_task(loopback: None) -> None:
    monitors = [rldk.MultiNodeMonitor() for _ in range(3)]
    collector = rldk.DistributedMetricsCollector()
    for monitor in monitors:
        monitor.start_monitoring()
    collector.start_collection()
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("netmon-rldk") == 1
    assert collector.collector_thread is monitors[0].monitor_thread
    for monitor in monitors[:2]:
        monitor.stop_monitoring()
    collector.stop_collection()
    del monitors[2], monitor  # one that is not stopped, but gone
    wait_for(lambda: "netmon-rldk" not in [thread.name for thread in threading.enumerate()], "the end of the thread")


def test_benchmark_collectives_without_a_job() -> None:
    told = run(
        """
        import logging
        logging.basicConfig(stream=sys.stdout)
        monitor = rldk.DistributedNetworkMonitor(world_size=2, rank=1, enable_distributed_measurements=True)
        for op in ("allreduce", "broadcast", "gather", "scatter"):
            assert getattr(monitor, f"_measure_{op}_bandwidth")() == 0.0
        metrics = monitor.measure_distributed_metrics()
        assert "allreduce_bandwidth" in metrics.unmeasured
        print(metrics.reasons["allreduce_bandwidth"])
        print(monitor.get_performance_summary().reasons["avg_allreduce_bandwidth"])
        print(metrics.world_size, metrics.rank)
        """
    )
    assert told.count("torch") >= 2, "not installed, or without a process group"
    assert told.splitlines()[-1] == "2 1"


def test_statistics() -> None:
    assert _measured.statistics([]) == dict.fromkeys(("mean", "std", "min", "max", "median"), 0.0)
    assert _measured.statistics([3.0, 1.0, math.inf, 2.0]) == {
        "mean": 2.0,
        "std": pytest.approx(math.sqrt(2 / 3)),
        "min": 1.0,
        "max": 3.0,
        "median": 2.0,
    }
    assert _measured.statistics([1.0, 2.0])["median"] == 1.5


def test_a_closed_shared_monitor_is_made_anew(loopback: None) -> None:
    from netmon._shared import shared_monitor

    real = rldk.RealNetworkMonitor()
    shared_monitor().close()
    assert "tcp_connections" not in real.get_comprehensive_metrics().unmeasured
    assert _reading.monitor() is shared_monitor()
