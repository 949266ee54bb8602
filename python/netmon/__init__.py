"""netmon: what the network does, measured from inside a training job.

>>> import netmon                      # loads nothing, starts no thread
>>> with netmon.Monitor(interval=0.1) as monitor:
...     sample = monitor.sample()      # measured now
...     newest = monitor.latest()      # the background loop's newest values, without waiting
>>> sample.tcp is not None
True
"""

from __future__ import annotations

from ._alerts import Alert, AlertCallback
from ._cluster_types import (
    ClusterNode,
    ClusterNodes,
    ClusterRank,
    ClusterSkew,
    ClusterSpread,
    ClusterTotals,
    ClusterView,
    ClusterWay,
)
from ._errors import (
    ClosedError,
    ConfigError,
    Error,
    ForkedProcessError,
    InternalError,
    InvalidArgumentError,
    LibraryError,
    NoDataError,
    PermissionDeniedError,
    ResourceError,
    TimedOutError,
    UnreachableError,
    UnsupportedError,
)
from ._loader import get_cmake_dir, get_include, get_library, get_pkgconfig_dir
from ._monitor import Monitor
from ._types import (
    IP,
    RDMAGID,
    TCP,
    UDP,
    AlertEvent,
    AlertRule,
    Alerts,
    BandwidthTest,
    Collective,
    CollectivePending,
    Event,
    FineSampling,
    Health,
    Hop,
    Host,
    Interface,
    Interfaces,
    InterfaceShare,
    Job,
    NVLink,
    Path,
    PCIe,
    Peer,
    Peers,
    Probe,
    Probes,
    RDMAPort,
    RDMAPorts,
    Sample,
    SelfCost,
    Snapshot,
    Sockets,
    Stats,
    Totals,
    Transport,
)

__all__ = [  # noqa: RUF022 - plainly sorted
    "Alert",
    "AlertCallback",
    "AlertEvent",
    "AlertRule",
    "Alerts",
    "BandwidthTest",
    "ClosedError",
    "ClusterNode",
    "ClusterNodes",
    "ClusterRank",
    "ClusterSkew",
    "ClusterSpread",
    "ClusterTotals",
    "ClusterView",
    "ClusterWay",
    "Collective",
    "CollectivePending",
    "ConfigError",
    "Error",
    "Event",
    "FineSampling",
    "ForkedProcessError",
    "Health",
    "Hop",
    "Host",
    "IP",
    "Interface",
    "InterfaceShare",
    "Interfaces",
    "InternalError",
    "InvalidArgumentError",
    "Job",
    "LibraryError",
    "Monitor",
    "NVLink",
    "NoDataError",
    "PCIe",
    "Path",
    "Peer",
    "Peers",
    "PermissionDeniedError",
    "Probe",
    "Probes",
    "RDMAGID",
    "RDMAPort",
    "RDMAPorts",
    "ResourceError",
    "Sample",
    "SelfCost",
    "Snapshot",
    "Sockets",
    "Stats",
    "TCP",
    "TimedOutError",
    "Totals",
    "Transport",
    "UDP",
    "UnreachableError",
    "UnsupportedError",
    "get_cmake_dir",
    "get_include",
    "get_library",
    "get_pkgconfig_dir",
]

for _name in __all__:
    if not _name.startswith("get_"):
        globals()[_name].__module__ = "netmon"


def __getattr__(name: str) -> str:
    # Found out when it is asked for: importing reads no file.
    if name == "__version__":
        from ._loader import package_version

        return package_version()
    raise AttributeError(f"module 'netmon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "__version__"])
