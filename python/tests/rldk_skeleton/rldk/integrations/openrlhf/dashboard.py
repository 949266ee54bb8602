"""Skeleton."""

import flask  # noqa: F401
import plotly  # noqa: F401


class OpenRLHFDashboard:
    origin = "rldk"

    def initialize_network_monitoring(self):
        from .network_monitor import RealNetworkMonitor

        self.network_monitor = RealNetworkMonitor()
