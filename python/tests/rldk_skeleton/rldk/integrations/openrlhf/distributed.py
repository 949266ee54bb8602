"""Skeleton."""

import pandas as pd  # noqa: F401
import torch  # noqa: F401


class NodeMetrics:
    origin = "rldk"


class DistributedMetrics:
    origin = "rldk"


class DistributedMetricsCollector:
    origin = "rldk"

    def __init__(self):
        self.network_monitor = NetworkMonitor()


class MultiNodeMonitor:
    origin = "rldk"


class GPUMemoryMonitor:
    origin = "rldk"


# In the middle of the module, as in rldk, bound at import.
from .network_monitor import NetworkMetrics, RealNetworkMonitor  # noqa: E402, F401


class NetworkMonitor:
    origin = "rldk"

    def __init__(self):
        self.real_monitor = RealNetworkMonitor()
