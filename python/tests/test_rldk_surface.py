"""The surface: names, signatures, attributes, fields and keys, transcribed from the description of rldk's source."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import threading
from collections import deque

import pytest
from rldk_support import answer, run

from netmon.integrations import rldk

# Class: method: parameters (name or name=default).
# netmon's own: which tools may make traffic. All of them are to be named.
TOOLS = ["iperf3_server=None", "iperf3_reverse=False", "iperf3_parallel=1", "speedtest=False"]
SIGNATURES = {
    "NetworkMetrics": {"to_dict": []},
    "NetworkDiagnostics": {
        "__init__": ["sampling_frequency=1", *TOOLS],
        "run_comprehensive_diagnostics": [],
        "_run_ping_diagnostics": [],
        "_ping_host_advanced": ["host"],
        "_run_dns_diagnostics": [],
        "_run_connectivity_diagnostics": [],
        "_run_bandwidth_diagnostics": [],
        "_test_speedtest_cli": [],
        "_test_iperf": [],
        "_test_curl_download": [],
        "_run_interface_diagnostics": [],
        "_run_path_diagnostics": [],
        "_traceroute_host": ["host"],
        "_run_distributed_diagnostics": [],
        "_is_ip_address": ["host"],
    },
    "NetworkInterfaceMonitor": {
        "__init__": ["interface_name=None", "sampling_frequency=1"],
        "_detect_primary_interface": [],
        "get_interface_stats": [],
        "_empty_stats": [],
    },
    "NetworkLatencyMonitor": {
        "__init__": ["target_hosts=None", "sampling_frequency=1"],
        "measure_latency": [],
        "_ping_host": ["host"],
        "get_average_latency": [],
        "get_latency_stats": [],
    },
    "NetworkBandwidthMonitor": {
        "__init__": ["sampling_frequency=1", *TOOLS],
        "measure_bandwidth": [],
        "_measure_with_speedtest": [],
        "_measure_with_iperf": [],
        "_estimate_from_interface": [],
        "get_bandwidth_stats": [],
    },
    "DistributedNetworkMonitor": {
        "__init__": ["world_size=1", "rank=0", "enable_distributed_measurements=False", "sampling_frequency=1"],
        "measure_distributed_metrics": [],
        "_measure_allreduce_bandwidth": [],
        "_measure_broadcast_bandwidth": [],
        "_measure_gather_bandwidth": [],
        "_measure_scatter_bandwidth": [],
        "get_performance_summary": [],
        "get_metrics_dataframe": [],
    },
    "RealNetworkMonitor": {
        "__init__": ["enable_distributed_monitoring=True", "enable_distributed_measurements=False", "sampling_frequency=1"],
        "get_current_metrics": [],
        "get_network_stats": [],
        "get_comprehensive_metrics": [],
        "run_network_diagnostics": [],
        "get_network_health_report": [],
    },
    "DistributedMetricsCollector": {
        "__init__": [
            "collect_interval=1.0",
            "enable_network_monitoring=True",
            "enable_gpu_monitoring=True",
            "enable_cpu_monitoring=True",
        ],
        "start_collection": [],
        "stop_collection": [],
        "_collection_loop": [],
        "_collect_current_node_metrics": [],
        "_collect_distributed_metrics": [],
        "_convert_to_distributed_metrics": ["node_metrics_list"],
        "get_latest_metrics": [],
        "get_metrics_dataframe": [],
    },
    "MultiNodeMonitor": {
        "__init__": ["master_node='localhost'", "master_port=12355"],
        "_get_node_info": [],
        "start_monitoring": [],
        "stop_monitoring": [],
        "_monitoring_loop": [],
        "_collect_local_metrics": [],
        "_is_master_node": [],
        "_aggregate_metrics": [],
        "get_aggregated_metrics": [],
        "get_node_metrics": [],
    },
    "NetworkMonitor": {
        "__init__": ["sampling_frequency=None", "enable_icmp=True"],
        "_measure_bandwidth": [],
        "_measure_latency": [],
        "_icmp_ping": ["target"],
        "_tcp_handshake": ["target"],
        "get_current_metrics": [],
        "get_network_stats": [],
        "get_comprehensive_metrics": [],
        "run_network_diagnostics": [],
        "get_network_health_report": [],
        "get_error_status": [],
        "reset_counters": [],
        "test_network_connectivity": [],
        "test_bandwidth": [],
        "test_distributed_network": [],
    },
    "GPUMemoryMonitor": {
        "__init__": [],
        "get_current_memory_usage": [],
        "get_memory_trends": [],
        "get_memory_stats": [],
    },
    "OpenRLHFMetrics": {"to_dict": [], "to_dataframe_row": []},
    "OpenRLHFDashboard": {
        "__init__": ["output_dir=None", "port=5000", "host='localhost'", "enable_auto_refresh=True", "refresh_interval=1.0"],
        "start_dashboard": [],
        "stop_dashboard": [],
        "update_data": [],
        "add_metrics": ["metrics"],
        "add_alert": ["alert_type", "message", "severity='warning'", "threshold=None", "current_value=None"],
        "initialize_network_monitoring": [],
        "check_network_thresholds": ["metrics"],
        "get_dashboard_url": [],
    },
    "OpenRLHFCallback": {
        "__init__": [
            "output_dir=None",
            "log_interval=10",
            "alert_thresholds=None",
            "enable_resource_monitoring=True",
            "enable_distributed_monitoring=True",
            "run_id=None",
            "model_name=None",
            "dataset_name=None",
            "enable_jsonl_logging=True",
            "jsonl_log_interval=1",
            "network_sampling_frequency=None",
        ],
        "on_train_begin": ["trainer", "**kwargs"],
        "on_train_end": ["trainer", "**kwargs"],
        "on_step_begin": ["trainer", "step", "**kwargs"],
        "on_step_end": ["trainer", "step", "**kwargs"],
        "add_alert_callback": ["callback"],
        "get_metrics_dataframe": [],
        "get_latest_metrics": [],
    },
    "OpenRLHFMonitor": {"__init__": ["**kwargs"]},
    "MultiGPUMonitor": {"__init__": ["**kwargs"]},
    "DistributedTrainingMonitor": {
        "__init__": ["**kwargs"],
        "_collect_distributed_metrics": [],
        "_collect_network_metrics": [],
    },
}

NETWORK_METRICS = {
    "bandwidth_mbps": 0.0,
    "latency_ms": 0.0,
    "packet_loss_percent": 0.0,
    "world_size": 1,
    "rank": 0,
    "bandwidth_in_mbps": 0.0,
    "bandwidth_out_mbps": 0.0,
    "packets_in_per_sec": 0.0,
    "packets_out_per_sec": 0.0,
    "bytes_in_per_sec": 0.0,
    "bytes_out_per_sec": 0.0,
    "tcp_connections": 0,
    "udp_connections": 0,
    "active_connections": 0,
    "network_errors": 0,
    "dropped_packets": 0,
    "allreduce_bandwidth": 0.0,
    "broadcast_bandwidth": 0.0,
    "gather_bandwidth": 0.0,
    "scatter_bandwidth": 0.0,
    "dns_resolution_ms": 0.0,
    "tcp_connectivity_ms": 0.0,
    "udp_connectivity_ms": 0.0,
    "network_path_hops": 0,
    "network_path_latency": 0.0,
    "timestamp": 0.0,
}
NODE_METRICS = {
    "node_id": ...,
    "rank": ...,
    "local_rank": ...,
    "gpu_count": ...,
    "gpu_memory_used": [],
    "gpu_memory_allocated": [],
    "gpu_utilization": [],
    "cpu_utilization": 0.0,
    "cpu_memory_used": 0.0,
    "network_bandwidth": 0.0,
    "network_latency": 0.0,
    "timestamp": 0.0,
}
DISTRIBUTED_METRICS = {
    "world_size": ...,
    "node_count": ...,
    "total_gpu_memory_used": 0.0,
    "total_gpu_memory_allocated": 0.0,
    "avg_gpu_utilization": 0.0,
    "avg_cpu_utilization": 0.0,
    "total_cpu_memory_used": 0.0,
    "network_bandwidth_total": 0.0,
    "network_bandwidth_mean": 0.0,
    "network_bandwidth_max": 0.0,
    "avg_network_latency": 0.0,
    "max_network_latency": 0.0,
    "allreduce_time": 0.0,
    "broadcast_time": 0.0,
    "gather_time": 0.0,
    "scatter_time": 0.0,
    "timestamp": 0.0,
}
OPENRLHF_METRICS = {
    **dict.fromkeys(
        (
            "network_bandwidth",
            "network_latency",
            "bandwidth_mbps",
            "latency_ms",
            "bandwidth_upload_mbps",
            "bandwidth_download_mbps",
            "total_bandwidth_mbps",
            "allreduce_time",
            "allreduce_bandwidth",
            "broadcast_bandwidth",
            "gather_bandwidth",
            "scatter_bandwidth",
            "packet_loss_percent",
            "dns_resolution_ms",
        ),
        0.0,
    ),
    "network_errors": 0,
    "step": 0,
    "phase": "train",
    "world_size": 1,
    "local_rank": 0,
    "global_rank": 0,
    "node_id": "",
    "run_id": "",
}
INTERFACE_KEYS = [
    "bytes_in_per_sec",
    "bytes_out_per_sec",
    "packets_in_per_sec",
    "packets_out_per_sec",
    "bytes_in_mbps",
    "bytes_out_mbps",
    "total_bytes_recv",
    "total_bytes_sent",
    "total_packets_recv",
    "total_packets_sent",
    "dropin",
    "dropout",
    "errin",
    "errout",
]
STATISTICS = {"mean", "std", "min", "max", "median"}
RLOCK = type(threading.RLock())
LOCK = type(threading.Lock())


def _parameters(function: object) -> list[str]:
    written = []
    for name, parameter in inspect.signature(function).parameters.items():  # type: ignore[arg-type]
        if name == "self":
            continue
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        written.append(f"{stars}{name}{default}")
    return written


@pytest.mark.parametrize(("name", "method"), [(name, method) for name, methods in SIGNATURES.items() for method in methods])
def test_signature(name: str, method: str) -> None:
    assert _parameters(getattr(getattr(rldk, name), method)) == SIGNATURES[name][method]


def test_names_are_public_and_named_after_the_package() -> None:
    for name in SIGNATURES | dict.fromkeys(("NodeMetrics", "DistributedMetrics", "install", "uninstall", "configure")):
        assert name in rldk.__all__
        assert getattr(rldk, name).__module__ == "netmon.integrations.rldk"
    assert rldk.__all__ == sorted(rldk.__all__)


@pytest.mark.parametrize(
    ("cls", "table"),
    [
        (rldk.NetworkMetrics, NETWORK_METRICS),
        (rldk.NodeMetrics, NODE_METRICS),
        (rldk.DistributedMetrics, DISTRIBUTED_METRICS),
    ],
)
def test_dataclass_fields_in_order(cls: type, table: dict[str, object]) -> None:
    found = {}
    for field in dataclasses.fields(cls):
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        found[field.name] = ... if default is dataclasses.MISSING else default
    assert list(found.items()) == list(table.items())
    for name, default in table.items():
        assert type(found[name]) is type(default), name


def test_openrlhf_metrics_have_the_network_fields_and_their_neighbours() -> None:
    metrics = rldk.OpenRLHFMetrics()
    for name, default in OPENRLHF_METRICS.items():
        value = getattr(metrics, name)
        assert (value, type(value)) == (default, type(default)), name
    for name in ("epoch", "wall_time", "step_time"):
        assert getattr(metrics, name) == 0
    assert metrics.to_dict() == metrics.to_dataframe_row()
    assert list(metrics.to_dict()) == [field.name for field in dataclasses.fields(metrics)]


def test_network_metrics_to_dict_has_exactly_the_fields() -> None:
    assert list(rldk.NetworkMetrics().to_dict().items()) == list(NETWORK_METRICS.items())
    assert rldk.NetworkMetrics(1.5, 2.5).to_dict()["latency_ms"] == 2.5


def test_metrics_by_hand_say_what_was_given() -> None:
    metrics = rldk.NetworkMetrics(bandwidth_mbps=100.0, network_errors=3)
    assert "bandwidth_mbps" not in metrics.unmeasured
    assert "network_errors" not in metrics.unmeasured
    assert {"latency_ms", "allreduce_bandwidth"} <= set(metrics.unmeasured)
    assert not {"rank", "world_size", "timestamp"} & set(metrics.unmeasured)
    assert metrics.sources == {}
    assert rldk.NetworkMetrics() == rldk.NetworkMetrics()
    assert dataclasses.replace(metrics, latency_ms=1.0).latency_ms == 1.0


def test_objects_filled_by_hand_say_what_was_given() -> None:
    node, total = rldk.NodeMetrics("a", 0, 0, 0), rldk.DistributedMetrics(1, 1)
    for filled, name in ((rldk.NetworkMetrics(), "latency_ms"), (node, "network_bandwidth"), (total, "allreduce_time")):
        assert name in filled.unmeasured
        setattr(filled, name, 5.0)
        assert name not in filled.unmeasured
    assert rldk.DistributedMetricsCollector()._convert_to_distributed_metrics([node]).network_bandwidth_total == 5.0


def test_attributes_and_their_defaults() -> None:
    diagnostics = rldk.NetworkDiagnostics()
    assert diagnostics.port_tests == [80, 443, 22, 53]
    assert (diagnostics.sampling_frequency, diagnostics._invocation_count) == (1, 0)
    assert isinstance(diagnostics._lock, RLOCK)

    interface = rldk.NetworkInterfaceMonitor("lo", 3)
    assert (interface.interface_name, interface.sampling_frequency, interface._invocation_count) == ("lo", 3, 0)
    assert (interface._last_stats, interface._last_time) == (None, None)
    assert isinstance(interface._lock, RLOCK)

    latency = rldk.NetworkLatencyMonitor(["10.0.0.2"])
    assert (latency.target_hosts, latency.max_history_size) == (["10.0.0.2"], 100)
    assert latency.latency_history["10.0.0.2"].maxlen == 100
    assert isinstance(latency._lock, RLOCK)

    bandwidth = rldk.NetworkBandwidthMonitor()
    assert (bandwidth._last_measurement, bandwidth.measurement_interval, bandwidth.max_history_size) == (0.0, 10.0, 100)
    assert bandwidth.bandwidth_history == deque(maxlen=100)
    assert bandwidth.bandwidth_history.maxlen == 100
    assert isinstance(bandwidth._lock, RLOCK)

    distributed = rldk.DistributedNetworkMonitor(4, 2)
    assert (distributed.world_size, distributed.rank, distributed.enable_distributed_measurements) == (4, 2, False)
    for monitor in (distributed.interface_monitor, distributed.latency_monitor, distributed.bandwidth_monitor):
        assert monitor.sampling_frequency == 1
    for op in ("allreduce", "broadcast", "gather", "scatter"):
        times = getattr(distributed, f"{op}_times")
        assert (list(times), times.maxlen) == ([], 100)
    assert (distributed.performance_history.maxlen, distributed.max_history_size) == (1000, 1000)
    assert isinstance(distributed._distributed_lock, RLOCK)

    real = rldk.RealNetworkMonitor()
    assert (real.enable_distributed_monitoring, real.enable_distributed_measurements, real.sampling_frequency) == (
        True,
        False,
        1,
    )
    assert (real._last_measurement, real.measurement_interval, real._invocation_count) == (0.0, 5.0, 0)
    assert isinstance(real.distributed_monitor, rldk.DistributedNetworkMonitor)
    assert isinstance(real.network_diagnostics, rldk.NetworkDiagnostics)
    assert isinstance(real.interface_monitor, rldk.NetworkInterfaceMonitor)
    assert isinstance(real.latency_monitor, rldk.NetworkLatencyMonitor)
    assert isinstance(real.bandwidth_monitor, rldk.NetworkBandwidthMonitor)
    assert (real.bandwidth_history.maxlen, real.latency_history.maxlen) == (100, 100)
    assert isinstance(real._history_lock, RLOCK)
    assert rldk.RealNetworkMonitor(enable_distributed_monitoring=False).distributed_monitor is None

    collector = rldk.DistributedMetricsCollector()
    assert (collector.metrics_history, collector.node_metrics, collector.collecting) == ([], {}, False)
    assert collector.collector_thread is None
    assert isinstance(collector.network_monitor, rldk.NetworkMonitor)
    assert isinstance(collector.gpu_monitor, rldk.GPUMemoryMonitor)
    assert rldk.DistributedMetricsCollector(enable_network_monitoring=False).network_monitor is None
    assert rldk.DistributedMetricsCollector(enable_gpu_monitoring=False).gpu_monitor is None

    nodes = rldk.MultiNodeMonitor()
    assert (nodes.master_node, nodes.master_port, nodes.monitoring_active) == ("localhost", 12355, False)
    assert (nodes.monitor_thread, nodes.node_metrics, nodes.aggregated_metrics) == (None, {}, [])

    network = rldk.NetworkMonitor(2)
    assert (network.sampling_frequency, network.enable_icmp, network.tcp_ports) == (2, True, [80, 443, 22])
    assert (network.last_net_io, network.last_net_time) == (None, None)
    assert network.last_errors == {"bandwidth": None, "latency": None}
    assert isinstance(network._lock, LOCK)
    assert isinstance(network.real_monitor, rldk.RealNetworkMonitor)


def test_node_info_keys() -> None:
    info = rldk.MultiNodeMonitor().node_info
    assert list(info) == ["hostname", "ip_address", "cpu_count", "memory_total", "gpu_count"]
    assert info["memory_total"] > 0


def test_keys_of_dictionaries() -> None:
    assert list(rldk.NetworkInterfaceMonitor("lo").get_interface_stats()) == INTERFACE_KEYS
    assert rldk.NetworkInterfaceMonitor("lo")._empty_stats() == dict.fromkeys(INTERFACE_KEYS, 0.0)
    assert set(rldk.NetworkLatencyMonitor().get_latency_stats()) == STATISTICS
    assert set(rldk.NetworkBandwidthMonitor().get_bandwidth_stats()) == STATISTICS
    assert list(rldk.RealNetworkMonitor().get_current_metrics()) == ["bandwidth", "latency"]
    assert set(rldk.RealNetworkMonitor().get_network_stats()) == {
        f"{kind}_{name}" for kind in ("avg", "max", "min") for name in ("bandwidth", "latency")
    }
    assert set(rldk.NetworkMonitor().get_current_metrics()) == {
        "bandwidth_mbps",
        "bandwidth_upload_mbps",
        "bandwidth_download_mbps",
        "latency_ms",
        "total_bandwidth_mbps",
        "timestamp",
    }
    report = rldk.RealNetworkMonitor().get_network_health_report()
    assert set(report) == {"timestamp", "overall_health", "issues", "recommendations", "metrics_summary"}
    summary = rldk.DistributedNetworkMonitor().get_performance_summary()
    assert summary == {
        "total_measurements": 0,
        "avg_bandwidth": 0.0,
        "avg_latency": 0.0,
        "avg_packet_loss": 0.0,
        "distributed_metrics": {},
    }


def test_keys_of_a_diagnosis() -> None:
    diagnostics = rldk.NetworkDiagnostics()
    diagnostics.test_hosts = ["127.0.0.1"]
    diagnostics.dns_servers = ["127.0.0.53"]
    found = diagnostics.run_comprehensive_diagnostics()
    assert set(found) == {
        "timestamp",
        "ping_tests",
        "dns_tests",
        "connectivity_tests",
        "bandwidth_tests",
        "interface_analysis",
        "path_analysis",
        "distributed_tests",
    }
    ping = found["ping_tests"]["127.0.0.1"]
    assert list(ping) == ["latency", "min_latency", "max_latency", "std_latency", "packet_loss", "success"]
    assert 0 < ping["min_latency"] <= ping["latency"] <= ping["max_latency"] < 1000
    assert (ping["packet_loss"], ping["success"]) == (0.0, True)
    assert found["dns_tests"] == {}
    assert found.reasons["dns_tests"] == "no host is known by a name: there is nothing to resolve"
    connectivity = found["connectivity_tests"]
    assert set(connectivity) == {"tcp_tests", "udp_tests", "socket_tests"}
    assert set(connectivity["tcp_tests"]) == {f"127.0.0.1:{port}" for port in (80, 443, 22, 53)}
    for test in connectivity["tcp_tests"].values():
        assert test["connected"] is test["success"]
        assert test["connect_time_ms"] > 0, "a refusal is a round trip too"
        assert test["success"] or test["error"] == "connection refused"
    assert connectivity["udp_tests"]["127.0.0.53"]["success"] is False
    assert "a name server answers no UDP echo" in connectivity["udp_tests"]["127.0.0.53"]["error"]
    path = found["path_analysis"]["127.0.0.1"]
    assert path == {
        "hops": [{"hop": 1, "ip": "127.0.0.1", "latency_ms": path["final_latency_ms"]}],
        "total_hops": 1,
        "final_latency_ms": path["final_latency_ms"],
        "success": True,
    }
    assert set(found["bandwidth_tests"]) == {"speedtest", "iperf", "curl"}
    assert found["distributed_tests"] == {"error": "PyTorch distributed not available or initialized"}
    assert set(found.unmeasured) == {"dns_tests", "bandwidth_tests", "distributed_tests"}
    assert found["interface_analysis"]["lo"] == {
        "is_up": True,
        "speed_mbps": None,
        "mtu": 65536,
        "duplex": None,
        "ip_addresses": ["127.0.0.1"],
        **{
            key: found["interface_analysis"]["lo"][key]
            for key in (
                "bytes_sent",
                "bytes_recv",
                "packets_sent",
                "packets_recv",
                "errin",
                "errout",
                "dropin",
                "dropout",
            )
        },
    }


def test_a_ping_that_cannot_be_sent_has_rldks_words_too() -> None:
    found = rldk.NetworkDiagnostics()._ping_host_advanced("no host")
    assert (set(found), found["latency"]) == ({"error", "latency"}, math.inf)
    assert found["error"].startswith("Ping failed: ")


def test_tests_of_a_network_monitor_say_that_nothing_was_measured() -> None:
    network = rldk.NetworkMonitor()
    connectivity, bandwidth, distributed = (
        network.test_network_connectivity(),
        network.test_bandwidth(),
        network.test_distributed_network(),
    )
    assert connectivity.unmeasured == tuple(connectivity) == ("ping_tests", "dns_tests", "connectivity_tests")
    assert bandwidth.unmeasured == tuple(bandwidth) == ("speedtest", "iperf", "curl")
    assert (dict(distributed), distributed.unmeasured) == ({"error": "PyTorch distributed not available or initialized"}, ())
    diagnosis = {"world_size": 2, "rank": 1, "allreduce_test": {"error": "no"}, "broadcast_test": {"error": "no"}}
    network.real_monitor.network_diagnostics._run_distributed_diagnostics = lambda: diagnosis  # type: ignore[method-assign]
    assert network.test_distributed_network().reasons == {"allreduce_test": "no", "broadcast_test": "no"}


def test_d30_a_skipped_diagnosis_does_not_break_the_health_report() -> None:
    monitor = rldk.RealNetworkMonitor()
    monitor.network_diagnostics = rldk.NetworkDiagnostics(sampling_frequency=2)
    first = monitor.run_network_diagnostics()
    assert first["skipped"] is True
    assert (first["invocation_count"], first["sampling_frequency"]) == (1, 2)
    assert "ping_tests" in monitor.run_network_diagnostics()
    assert monitor.get_network_health_report()["overall_health"] == "unknown"


def test_d12_no_default_target_is_a_public_host() -> None:
    script = """
    print(json.dumps([rldk.NetworkDiagnostics().test_hosts, rldk.NetworkLatencyMonitor([]).target_hosts,
                      rldk.NetworkMonitor().latency_targets]))
    """
    assert answer(script) == [[], [], []]
    assert answer(script, MASTER_ADDR="10.1.2.3") == [["10.1.2.3"]] * 3


def test_without_hosts_no_latency_is_measured_and_it_says_so() -> None:
    monitor = rldk.NetworkLatencyMonitor()
    found = monitor.measure_latency()
    assert found == {}
    assert found.unmeasured == ("target_hosts",)
    assert "nobody is probed" in found.reasons["target_hosts"]
    assert monitor.get_average_latency() == 0.0
    assert set(monitor.get_latency_stats().unmeasured) == STATISTICS
    monitor.latency_history["10.0.0.2"] = deque([1.0, 3.0, math.inf])
    assert monitor.get_average_latency() == 2.0
    assert monitor.get_latency_stats() == {"mean": 2.0, "std": 1.0, "min": 1.0, "max": 3.0, "median": 2.0}
    assert rldk.NetworkMonitor(1)._measure_latency() == math.inf


@pytest.mark.parametrize("frequency", [0, -1, 1.5, "often", None])
@pytest.mark.parametrize(
    "cls",
    [
        rldk.NetworkDiagnostics,
        rldk.NetworkInterfaceMonitor,
        rldk.NetworkLatencyMonitor,
        rldk.NetworkBandwidthMonitor,
        rldk.DistributedNetworkMonitor,
        rldk.RealNetworkMonitor,
        rldk.NetworkMonitor,
    ],
)
def test_d19a_d42_a_wrong_sampling_frequency_is_refused(cls: type, frequency: object) -> None:
    if cls is rldk.NetworkMonitor and frequency is None:
        return  # its default
    with pytest.raises(ValueError, match="sampling_frequency must be a whole number of at least 1"):
        cls(sampling_frequency=frequency)


@pytest.mark.parametrize("text", ["0", "-3", "2.5", "often"])
@pytest.mark.parametrize("cls", ["NetworkMonitor", "OpenRLHFCallback"])
def test_d42_a_wrong_variable_is_named(cls: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLDK_NETWORK_SAMPLING_FREQUENCY", text)
    with pytest.raises(ValueError, match="RLDK_NETWORK_SAMPLING_FREQUENCY in the environment must be") as caught:
        getattr(rldk, cls)()
    assert text in str(caught.value)


def test_the_variable_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.delenv("RLDK_NETWORK_SAMPLING_FREQUENCY", raising=False)
    assert rldk.NetworkMonitor().sampling_frequency == 10
    assert rldk.OpenRLHFCallback(output_dir=tmp_path).network_sampling_frequency == 10  # type: ignore[arg-type]
    monkeypatch.setenv("RLDK_NETWORK_SAMPLING_FREQUENCY", " 3 ")
    assert rldk.NetworkMonitor().sampling_frequency == 3
    assert rldk.NetworkMonitor(7).sampling_frequency == 7


def test_d1_d2_import_needs_nothing_starts_nothing_and_rebinds_nothing() -> None:
    found = answer(
        """
        names = ("torch", "numpy", "pandas", "psutil", "openrlhf", "rldk", "flask", "plotly", "pyarrow")
        loaded = [name for name in sys.modules if name.split(".")[0] in names]
        maps = open("/proc/self/maps").read()
        objects = [rldk.RealNetworkMonitor(), rldk.NetworkMonitor(), rldk.DistributedMetricsCollector(),
                   rldk.MultiNodeMonitor(),
                   rldk.DistributedTrainingMonitor(network_monitoring=True, enable_distributed_monitoring=True)]
        print(json.dumps({
            "loaded": loaded, "library": "libnetmon" in maps, "threads": len(os.listdir("/proc/self/task")),
            "library_after": "libnetmon" in open("/proc/self/maps").read(),
            "lock": type(threading.RLock).__name__,
        }))
        """
    )
    assert found == {
        "loaded": [],
        "library": False,
        "library_after": False,
        "threads": 1,
        "lock": type(threading.RLock).__name__,
    }


def test_it_all_runs_where_optional_packages_cannot_be_imported() -> None:
    found = answer(
        """
        import tempfile
        class Refusing:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("torch", "numpy", "pandas", "psutil", "openrlhf", "pyarrow"):
                    raise ImportError(name)
        sys.meta_path.insert(0, Refusing())
        rldk.configure(interval=0.05)
        folder = tempfile.mkdtemp()
        callback = rldk.DistributedTrainingMonitor(
            network_monitoring=True, enable_distributed_monitoring=True, sync_interval=5, output_dir=folder, run_id="r")
        callback.on_train_begin(None)
        for step in range(5):
            callback.on_step_begin(None, step)
            callback.on_step_end(None, step, loss=1.0)
        callback.on_train_end(None)
        frame = callback.get_metrics_dataframe()
        frame2 = rldk.RealNetworkMonitor().distributed_monitor.get_metrics_dataframe()
        print(json.dumps([sorted(os.listdir(folder)), callback.health()["problems"], frame is None and frame2 is None,
                          callback.current_metrics.step]))
        """
    )
    names = "events_r.jsonl metrics_r.csv metrics_r.json metrics_r.jsonl r_events.jsonl summary_r.json"
    assert found == [names.split(), [], True, 4]


def test_without_the_library_training_goes_on_and_one_warning_is_told() -> None:
    told = run(
        """
        import logging, tempfile
        logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
        callback = rldk.DistributedTrainingMonitor(output_dir=tempfile.mkdtemp(), run_id="r", network_sampling_frequency=1)
        callback.on_train_begin(None)
        for step in range(50):
            callback.on_step_end(None, step)
        callback.on_train_end(None)
        metrics = rldk.RealNetworkMonitor().get_comprehensive_metrics()
        rldk.NetworkMonitor(1).get_current_metrics(); rldk.NetworkInterfaceMonitor().get_interface_stats()
        step = callback.current_metrics
        print(json.dumps([len(metrics.unmeasured), metrics.reasons["bandwidth_mbps"], "bandwidth_mbps" in step.unmeasured,
                          step.bandwidth_mbps, step.global_rank, step.world_size, callback.health()["status"]]))
        """,
        NETMON_LIBRARY="/nowhere/libnetmon.so",
        RANK="3",
        WORLD_SIZE="4",
    )
    warnings = [line for line in told.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert "training goes on without it: there is no library at /nowhere/libnetmon.so" in warnings[0]
    found = json.loads(told.splitlines()[-1])
    assert found[0] == 23
    assert "there is no library" in found[1]
    assert found[2:] == [True, 0.0, 3, 4, "degraded"]


def test_d32_a_health_report_grades_as_rldk_does() -> None:
    monitor = rldk.RealNetworkMonitor()

    def report(**parts: object) -> dict[str, object]:
        monitor.network_diagnostics.run_comprehensive_diagnostics = lambda: parts  # type: ignore[method-assign]
        return monitor.get_network_health_report()

    good = {"latency": 5.0, "success": True}
    slow = {"latency": 150.0, "success": True}
    assert report(ping_tests={"a": good})["overall_health"] == "excellent"
    found = report(ping_tests={"a": good, "b": slow}, dns_tests={"n": {"resolution_time_ms": 1500.0, "success": True}})
    assert found["overall_health"] == "good"
    assert found["recommendations"] == [
        "Check network connectivity and firewall settings",
        "Consider using different DNS servers",
    ]
    assert found["metrics_summary"] == {
        "avg_ping_latency_ms": 77.5,
        "avg_dns_resolution_ms": 1500.0,
        "best_bandwidth_mbps": 0.0,
    }
    assert report(ping_tests={str(host): slow for host in range(4)})["overall_health"] == "fair"
    poor = report(ping_tests={str(host): slow for host in range(6)})
    assert poor["overall_health"] == "poor"
    assert "Consider running network diagnostics during off-peak hours" in poor["recommendations"]  # type: ignore[operator]
    assert report(ping_tests={"a": {**good, "packet_loss": 25.0}})["issues"] == ["High packet loss to a: 25.00%"]
    # D32: a tool that is not there is no issue; a host that does not answer is one, and nothing makes up for it.
    tools = {"speedtest": {"error": "not installed", "success": False}, "iperf": {"bandwidth_mbps": 940.0, "success": True}}
    found = report(bandwidth_tests=tools, ping_tests={"a": {"error": "Ping timeout", "latency": math.inf}})
    assert found["overall_health"] == "poor"
    assert len(found["issues"]) == 1  # type: ignore[arg-type]
    assert found["metrics_summary"] == {"best_bandwidth_mbps": 940.0}
    found = report(ping_tests={"a": {"error": "Ping timeout", "latency": math.inf}, "b": good})
    assert (found["overall_health"], found["issues"]) == ("fair", ["No latency to a: Ping timeout"])
