"""Prometheus: a file for node_exporter's textfile collector, and a collector for registries of prometheus_client.

    >>> from netmon.integrations import prometheus     # does not import prometheus_client, starts nothing

``monitor.prometheus()`` returns the text itself. docs/trackers.md lists the metrics.
"""

from __future__ import annotations

from collections.abc import Sequence

from ._collector import Collector, Server, serve
from ._textfile import Textfile

__all__: Sequence[str] = ["Collector", "Server", "Textfile", "serve"]

for _name in __all__:
    globals()[_name].__module__ = "netmon.integrations.prometheus"
