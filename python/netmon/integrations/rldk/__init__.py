"""rldk's network part on netmon: the same names, signatures, keys and units, with real measurements (docs/rldk.md).

    >>> from netmon.integrations.rldk import DistributedTrainingMonitor
    >>> callback = DistributedTrainingMonitor(network_monitoring=True, enable_distributed_monitoring=True)

``install()`` puts these classes into an installed rldk. Nothing here needs torch, numpy, pandas, psutil or openrlhf; importing
it loads nothing and starts no thread. All objects of a process share one monitor; ``configure`` says how it measures.
"""

from __future__ import annotations

from ._bandwidth import NetworkBandwidthMonitor
from ._callback import DistributedTrainingMonitor, MultiGPUMonitor, OpenRLHFCallback, OpenRLHFMonitor
from ._collectives import time_collectives
from ._dashboard import OpenRLHFDashboard
from ._diagnostics import NetworkDiagnostics
from ._distributed import DistributedNetworkMonitor
from ._install import install, uninstall
from ._interface import NetworkInterfaceMonitor
from ._latency import NetworkLatencyMonitor
from ._measured import Measured, Source
from ._metrics import NetworkMetrics
from ._network import NetworkMonitor
from ._nodes import DistributedMetrics, DistributedMetricsCollector, MultiNodeMonitor, NodeMetrics
from ._reading import configure
from ._real import RealNetworkMonitor
from ._resources import GPUMemoryMonitor
from ._targets import find_peers
from ._training_metrics import OpenRLHFMetrics

__all__ = [
    "DistributedMetrics",
    "DistributedMetricsCollector",
    "DistributedNetworkMonitor",
    "DistributedTrainingMonitor",
    "GPUMemoryMonitor",
    "Measured",
    "MultiGPUMonitor",
    "MultiNodeMonitor",
    "NetworkBandwidthMonitor",
    "NetworkDiagnostics",
    "NetworkInterfaceMonitor",
    "NetworkLatencyMonitor",
    "NetworkMetrics",
    "NetworkMonitor",
    "NodeMetrics",
    "OpenRLHFCallback",
    "OpenRLHFDashboard",
    "OpenRLHFMetrics",
    "OpenRLHFMonitor",
    "RealNetworkMonitor",
    "Source",
    "configure",
    "find_peers",
    "install",
    "time_collectives",
    "uninstall",
]

for _name in __all__:
    globals()[_name].__module__ = __name__
