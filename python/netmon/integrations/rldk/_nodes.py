"""rldk's view of nodes and cluster: this process's own figures, and of all nodes what the view of the job has.

That view comes over the job's store or Ray, from a background thread, without a collective. Where there is none, the figures
are this node's, and ``sources`` says so.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import _collectives, _identity, _job_view, _reach, _reading, _resources, _units
from ._distributed import dataframe
from ._install import in_use
from ._measured import Measured, Source, Unmeasured
from ._metrics import mbps
from ._network import NetworkMonitor
from ._resources import GPUMemoryMonitor
from ._worker import worker

if TYPE_CHECKING:
    import pandas

MOST_KEPT = 3600


@dataclass
class NodeMetrics(Unmeasured):
    """One rank and its node: memory in GiB, ``cpu_utilization`` in percent, ``network_bandwidth`` (download) in Mbps.

    ``unmeasured`` names the fields that were not measured, ``sources`` says where the others come from.
    """

    node_id: str
    rank: int
    local_rank: int
    gpu_count: int
    gpu_memory_used: list[float] = field(default_factory=list)
    gpu_memory_allocated: list[float] = field(default_factory=list)
    gpu_utilization: list[float] = field(default_factory=list)
    cpu_utilization: float = 0.0
    cpu_memory_used: float = 0.0
    network_bandwidth: float = 0.0
    network_latency: float = 0.0
    timestamp: float = 0.0

    def __post_init__(self) -> None:
        self.unmeasured = _NODE_MEASURABLE
        self.sources: dict[str, Source] = {}


_NODE_MEASURABLE = (
    "gpu_memory_used", "gpu_memory_allocated", "gpu_utilization", "cpu_utilization", "cpu_memory_used", "network_bandwidth",
    "network_latency",
)  # fmt: skip


@dataclass
class DistributedMetrics(Unmeasured):
    """Several nodes together: memory in GiB, utilization in percent, bandwidth in Mbps, latency in ms, times in seconds.

    ``unmeasured`` names the fields that were not measured, ``sources`` says where the others come from.
    """

    world_size: int
    node_count: int
    total_gpu_memory_used: float = 0.0
    total_gpu_memory_allocated: float = 0.0
    avg_gpu_utilization: float = 0.0
    avg_cpu_utilization: float = 0.0
    total_cpu_memory_used: float = 0.0
    network_bandwidth_total: float = 0.0
    network_bandwidth_mean: float = 0.0
    network_bandwidth_max: float = 0.0
    avg_network_latency: float = 0.0
    max_network_latency: float = 0.0
    allreduce_time: float = 0.0
    broadcast_time: float = 0.0
    gather_time: float = 0.0
    scatter_time: float = 0.0
    timestamp: float = 0.0

    def __post_init__(self) -> None:
        self.unmeasured = tuple(
            name for name in self.__dataclass_fields__ if name not in ("world_size", "node_count", "timestamp")
        )
        self.sources: dict[str, Source] = {}


_COLUMNS = [
    "world_size", "node_count", "total_gpu_memory_used", "total_gpu_memory_allocated", "avg_gpu_utilization",
    "avg_cpu_utilization", "total_cpu_memory_used", "network_bandwidth_total", "avg_network_latency", "allreduce_time",
    "broadcast_time", "gather_time", "scatter_time", "timestamp", "network_bandwidth_mean", "network_bandwidth_max",
    "max_network_latency",
]  # fmt: skip


class Periodic:
    """A task of the worker: a bound method, done every so often until it is stopped or its object is gone."""

    def __init__(self, method: Callable[[], None], seconds: float) -> None:
        self._method = weakref.WeakMethod(method)
        self._seconds = max(0.1, float(seconds))
        self._stopped = False

    def tick(self, now: float) -> float | None:
        method = self._method()
        if method is None or self._stopped:
            return None
        method()
        return now + self._seconds

    def at_exit(self) -> None:
        self._stopped = True


class DistributedMetricsCollector:
    """Collects the job's figures in the background, every ``collect_interval`` seconds, on the package's one thread.

    Of the network, and how many nodes and ranks there are, it tells of the whole job, each node once, where the view of the job
    is there (``Monitor.cluster``). Processor and GPUs are this process's: no other tells of them.

    Args:
        collect_interval: seconds.
        enable_network_monitoring: whether there is a ``network_monitor``.
        enable_gpu_monitoring: whether there is a ``gpu_monitor``.
        enable_cpu_monitoring: whether the processor's figures are taken (where psutil is installed).
    """

    def __init__(
        self,
        collect_interval: float = 1.0,
        enable_network_monitoring: bool = True,
        enable_gpu_monitoring: bool = True,
        enable_cpu_monitoring: bool = True,
    ) -> None:
        self.collect_interval = collect_interval
        self.enable_network_monitoring = enable_network_monitoring
        self.enable_gpu_monitoring = enable_gpu_monitoring
        self.enable_cpu_monitoring = enable_cpu_monitoring
        self.metrics_history: list[DistributedMetrics] = []
        self.node_metrics: dict[str, NodeMetrics] = {}
        self.collecting = False
        self.collector_thread: threading.Thread | None = None
        self.network_monitor: NetworkMonitor | None = (
            in_use("distributed", "NetworkMonitor")() if enable_network_monitoring else None
        )
        self.gpu_monitor = GPUMemoryMonitor() if enable_gpu_monitoring else None
        self._task: Periodic | None = None

    def start_collection(self) -> None:
        """Begin to collect. Returns at once; beginning twice is fine."""
        if self.collecting and _alive(self.collector_thread):
            return
        self.collecting = True
        self._task = Periodic(self._collection_loop, self.collect_interval)
        self.collector_thread = worker.add(self._task)

    def stop_collection(self) -> None:
        """Collect no more. Returns at once; what was collected stays."""
        self.collecting = False
        if self._task is not None:
            worker.discard(self._task)
            self._task = None
        self.collector_thread = None

    def _collection_loop(self) -> None:
        """Collect once; the package's thread repeats it."""
        self.metrics_history.append(self._collect_distributed_metrics())
        if len(self.metrics_history) > MOST_KEPT:
            del self.metrics_history[:-MOST_KEPT]

    def _collect_current_node_metrics(self) -> NodeMetrics:
        sample = _reading.newest()
        identity = _identity.identify(sample)
        count = _resources.gpu_count()
        node = NodeMetrics(identity.node_id, identity.rank, identity.local_rank, count, timestamp=time.time())
        if self.gpu_monitor is not None:
            usage = list(self.gpu_monitor.get_current_memory_usage().values())
            node.gpu_memory_used = [memory.get("gpu_memory_used", 0.0) for memory in usage]
            node.gpu_memory_allocated = [memory.get("gpu_memory_allocated", 0.0) for memory in usage]
        sources = dict.fromkeys(
            (n for n in ("gpu_memory_used", "gpu_memory_allocated") if getattr(node, n)), _from("torch.cuda")
        )
        processor = _resources.processor() if self.enable_cpu_monitoring else {}
        for name, value in processor.items():
            setattr(node, name, value)
            sources[name] = _from("psutil")
        totals = sample.totals if sample is not None and self.enable_network_monitoring else None
        download = mbps(totals.receive_bytes_per_second) if totals is not None else None
        if sample is not None and download is not None:
            node.network_bandwidth = download
            age = max(0.0, time.monotonic() - sample.monotonic_seconds)
            sources["network_bandwidth"] = Source("totals.receive_bytes_per_second", _reading.counted(sample), age)
        latency = _reach.known(sample, None).round_trip() if self.enable_network_monitoring else ""
        if not isinstance(latency, str):
            node.network_latency = latency.value
            older = max(0.0, time.monotonic() - latency.measured_at)
            sources["network_latency"] = Source(latency.source, latency.target, older)
        node.sources = sources
        node.unmeasured = tuple(name for name in _NODE_MEASURABLE if name not in sources)
        self.node_metrics[node.node_id] = node
        return node

    def _collect_distributed_metrics(self) -> DistributedMetrics:
        """Return the job's figures as the view has them, else this node's; ``sources`` says which are whose."""
        own = self._collect_current_node_metrics()
        metrics = self._convert_to_distributed_metrics([own])
        view = _job_view.newest()
        others: list[NodeMetrics] = []
        if not isinstance(view, str) and self.enable_network_monitoring:
            own.node_id = _job_view.own_name(view, own.rank) or own.node_id
            others = _job_view.nodes(view)
            _job_view.fill(metrics, view)
        if self.enable_network_monitoring:
            _fill_times(metrics)
        # Nothing is kept of nodes that are gone.
        self.node_metrics = {node.node_id: node for node in (*others, own)}
        return metrics

    def _convert_to_distributed_metrics(self, node_metrics_list: list[NodeMetrics]) -> DistributedMetrics:
        """Add up ranks and nodes. What belongs to a host, processor and network, is counted once a host, not once a rank.

        Args:
            node_metrics_list: one element a rank, of any number of nodes; at least one.
        """
        ranks = list(node_metrics_list)
        hosts = list({rank.node_id: rank for rank in ranks}.values())
        world_size = max(len(ranks), _identity.identify(_reading.newest()).world_size)
        metrics = DistributedMetrics(world_size=world_size, node_count=len(hosts), timestamp=time.time())
        values: dict[str, list[float]] = {
            # torch's allocator counts what its own process holds: every rank adds.
            "total_gpu_memory_used": [value for rank in ranks for value in rank.gpu_memory_used],
            "total_gpu_memory_allocated": [value for rank in ranks for value in rank.gpu_memory_allocated],
            "avg_gpu_utilization": [value for rank in ranks for value in rank.gpu_utilization],
            "avg_cpu_utilization": _known(hosts, "cpu_utilization"),
            "total_cpu_memory_used": _known(hosts, "cpu_memory_used"),
            "network_bandwidth_total": _known(hosts, "network_bandwidth"),
            "network_bandwidth_mean": _known(hosts, "network_bandwidth"),
            "network_bandwidth_max": _known(hosts, "network_bandwidth"),
            "avg_network_latency": _known(ranks, "network_latency"),
            "max_network_latency": _known(ranks, "network_latency"),
        }
        whose = "this process only: " + _job_view.why() if len(ranks) < world_size else "all ranks given"
        for name, found in values.items():
            if not found:
                continue
            total = sum(found)
            mean = total / len(found)
            setattr(metrics, name, max(found) if "max" in name else mean if "avg" in name or "mean" in name else total)
            metrics.sources[name] = _from(whose)
        metrics.unmeasured = tuple(name for name in metrics.unmeasured if name not in metrics.sources)
        return metrics

    def get_latest_metrics(self) -> DistributedMetrics | None:
        """Return what was collected last, None before the first."""
        history = self.metrics_history
        return history[-1] if history else None

    def get_metrics_dataframe(self) -> pandas.DataFrame | None:
        """Return what was collected as a DataFrame; None, with a warning, where pandas is not installed."""
        rows = [{name: getattr(metrics, name) for name in _COLUMNS} for metrics in list(self.metrics_history)]
        return dataframe(rows, _COLUMNS)


def _fill_times(metrics: DistributedMetrics) -> None:
    """Say how long the job's collectives take in this process; in the others it is the same but for who waits."""
    for name, seen in _collectives.seen(_reading.newest()).items():
        if not isinstance(seen, str):
            setattr(metrics, f"{name}_time", seen.seconds.value)
            age = max(0.0, time.monotonic() - seen.seconds.measured_at)
            metrics.sources[f"{name}_time"] = Source(seen.seconds.source, seen.seconds.target, age)
    metrics.unmeasured = tuple(name for name in metrics.unmeasured if name not in metrics.sources)


def _alive(thread: threading.Thread | None) -> bool:
    """Return whether the package's thread still does a task; in a forked child none does."""
    return thread is not None and thread.is_alive()


def _from(source: str) -> Source:
    return Source(source, None, 0.0)


def _known(nodes: list[NodeMetrics], name: str) -> list[float]:
    return [getattr(node, name) for node in nodes if node._has(name)]


class MultiNodeMonitor:
    """This node's processor, memory and GPUs, and every node's network, once a second on the package's one thread.

    Args:
        master_node: rldk's; kept, and never contacted: nodes are found by the store or Ray that the job has.
        master_port: likewise.
    """

    def __init__(self, master_node: str = "localhost", master_port: int = 12355) -> None:
        self.master_node = master_node
        self.master_port = master_port
        self.monitoring_active = False
        self.monitor_thread: threading.Thread | None = None
        self._node_info: dict[str, Any] | None = None
        self.node_metrics: dict[str, dict[str, Any]] = {}
        self.aggregated_metrics: list[dict[str, Any]] = []
        self._task: Periodic | None = None

    @property
    def node_info(self) -> dict[str, Any]:
        """``hostname, ip_address`` (of the primary interface), ``cpu_count, memory_total`` (GiB), ``gpu_count``."""
        if self._node_info is None:
            self._node_info = self._get_node_info()
        return self._node_info

    def _get_node_info(self) -> dict[str, Any]:
        return {
            "hostname": socket.gethostname(),
            "ip_address": _own_address(),
            "cpu_count": os.cpu_count(),
            "memory_total": _memory_total(),
            "gpu_count": _resources.gpu_count(),
        }

    def start_monitoring(self) -> None:
        """Begin to collect. Returns at once; beginning twice is fine."""
        if self.monitoring_active and _alive(self.monitor_thread):
            return
        self.monitoring_active = True
        self._task = Periodic(self._monitoring_loop, 1.0)
        self.monitor_thread = worker.add(self._task)

    def stop_monitoring(self) -> None:
        """Collect no more. Returns at once; what was collected stays."""
        self.monitoring_active = False
        if self._task is not None:
            worker.discard(self._task)
            self._task = None
        self.monitor_thread = None

    def _monitoring_loop(self) -> None:
        """Collect once; the package's thread repeats it."""
        identity = _identity.identify(_reading.newest())
        own, view = identity.node_id, _job_view.newest()
        # Made anew each time: nothing is kept of nodes that are gone, and what was aggregated stays as it was.
        nodes: dict[str, dict[str, Any]] = {}
        if not isinstance(view, str):
            own = _job_view.own_name(view, identity.rank) or own
            nodes = {name: Measured(row) for name, row in _job_view.rows(view).items()}
        local = self._collect_local_metrics()
        local.update(nodes.get(own, {}))
        self.node_metrics = {**nodes, own: local}
        if self._is_master_node():
            self._aggregate_metrics()

    def _collect_local_metrics(self) -> Measured:
        processor = _resources.processor()
        percent = _resources.memory_percent()
        values: dict[str, Any] = {
            "cpu_utilization": processor.get("cpu_utilization"),
            "memory_used": processor.get("cpu_memory_used"),
            "memory_percent": percent,
            "disk_usage": _disk_usage(),
        }
        gpus = [
            {
                "device_id": device,
                "memory_used": memory.get("gpu_memory_used", 0.0),
                "memory_allocated": memory.get("gpu_memory_allocated", 0.0),
                "memory_reserved": memory.get("gpu_memory_used", 0.0),
            }
            for device, memory in ((d, _resources.gpu_memory(d)) for d in range(_resources.gpu_count()))
        ]
        reasons = {key: _resources.NO_PSUTIL for key, value in values.items() if value is None}
        if "cpu_utilization" in reasons:
            reasons["cpu_utilization"] = _resources.NO_UTILIZATION
        found = {key: 0.0 if value is None else value for key, value in values.items()}
        return Measured({"timestamp": time.time(), **found, "gpu_metrics": gpus}).beside(reasons)

    def _is_master_node(self) -> bool:
        return _identity.identify(_reading.newest()).rank == 0

    def _aggregate_metrics(self) -> None:
        nodes = dict(self.node_metrics)
        # Of other nodes nobody tells the processor: the totals are of those that have it, and the sources say whose they are.
        local = [node for node in nodes.values() if "cpu_utilization" in node]
        row = Measured(
            timestamp=time.time(),
            node_count=len(nodes),
            total_cpu_utilization=sum(node["cpu_utilization"] for node in local),
            total_memory_used=sum(node["memory_used"] for node in local),
            node_metrics=nodes,
        )
        here = _from("this node only: no other tells of its processor")
        whose = _from("the view of the job") if len(nodes) > 1 else _from(f"this node only: {_job_view.why()}")
        sources = {"node_metrics": whose, "total_cpu_utilization": here, "total_memory_used": here}
        self.aggregated_metrics.append(row.beside(sources=sources))
        if len(self.aggregated_metrics) > MOST_KEPT:
            del self.aggregated_metrics[:-MOST_KEPT]

    def get_aggregated_metrics(self) -> list[dict[str, Any]]:
        """Return what rank 0 collected, oldest first."""
        return list(self.aggregated_metrics)

    def get_node_metrics(self) -> dict[str, dict[str, Any]]:
        """Return node to what was collected of it last."""
        return dict(self.node_metrics)


def _own_address() -> str:
    """Return an address of the primary interface, empty where there is none. Nothing is resolved: that could wait."""
    sample = _reading.newest()
    name = _reading.primary(sample) if sample is not None else None
    row = _reading.interface(sample, name) if sample is not None and name is not None else None
    addresses = [text.partition("/")[0] for text in (row or {}).get("addresses") or ()]
    return next((address for address in addresses if ":" not in address), addresses[0] if addresses else "")


def _memory_total() -> float:
    return _units.gibibytes(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _disk_usage() -> float | None:
    """Return how full the root file system is, in percent."""
    try:
        stat = os.statvfs("/")
    except OSError:
        return None
    used = stat.f_blocks - stat.f_bfree
    return _units.percent(used, used + stat.f_bavail) if used + stat.f_bavail else None
