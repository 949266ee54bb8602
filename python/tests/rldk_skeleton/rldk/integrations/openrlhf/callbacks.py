"""Skeleton."""

import pandas as pd  # noqa: F401
import torch  # noqa: F401


class OpenRLHFMetrics:
    origin = "rldk"


class OpenRLHFCallback:
    origin = "rldk"

    def _collect_network_metrics(self):
        from .network_monitor import RealNetworkMonitor

        return RealNetworkMonitor


class OpenRLHFMonitor(OpenRLHFCallback):
    origin = "rldk"


class MultiGPUMonitor(OpenRLHFCallback):
    origin = "rldk"


class DistributedTrainingMonitor(OpenRLHFCallback):
    origin = "rldk"
