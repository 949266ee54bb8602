"""Skeleton."""

from .callbacks import (
    DistributedTrainingMonitor,
    MultiGPUMonitor,
    OpenRLHFCallback,
    OpenRLHFMetrics,
    OpenRLHFMonitor,
)
from .dashboard import OpenRLHFDashboard
from .distributed import DistributedMetricsCollector, GPUMemoryMonitor, MultiNodeMonitor, NetworkMonitor
from .network_monitor import (
    DistributedNetworkMonitor,
    NetworkBandwidthMonitor,
    NetworkInterfaceMonitor,
    NetworkLatencyMonitor,
    NetworkMetrics,
    RealNetworkMonitor,
)
from .performance_analyzer import PerformanceAnalyzer

__all__ = [
    "DistributedMetricsCollector",
    "DistributedNetworkMonitor",
    "DistributedTrainingMonitor",
    "GPUMemoryMonitor",
    "MultiGPUMonitor",
    "MultiNodeMonitor",
    "NetworkBandwidthMonitor",
    "NetworkInterfaceMonitor",
    "NetworkLatencyMonitor",
    "NetworkMetrics",
    "NetworkMonitor",
    "OpenRLHFCallback",
    "OpenRLHFDashboard",
    "OpenRLHFMetrics",
    "OpenRLHFMonitor",
    "PerformanceAnalyzer",
    "RealNetworkMonitor",
]
