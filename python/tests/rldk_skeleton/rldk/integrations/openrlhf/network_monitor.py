"""Skeleton."""

import threading

import numpy as np  # noqa: F401
import psutil  # noqa: F401


class NetworkMetrics:
    origin = "rldk"


class NetworkDiagnostics:
    origin = "rldk"

    def __init__(self):
        self._lock = threading.RLock()


class NetworkInterfaceMonitor:
    origin = "rldk"


class NetworkLatencyMonitor:
    origin = "rldk"


class NetworkBandwidthMonitor:
    origin = "rldk"


class DistributedNetworkMonitor:
    origin = "rldk"


class RealNetworkMonitor:
    origin = "rldk"
