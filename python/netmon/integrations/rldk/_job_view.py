"""The view of the whole job in rldk's shapes. A background thread fetches it over the job's store or Ray: no collective."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..._cluster_types import ClusterNode, ClusterView
from ..._errors import Error
from . import _identity, _reading
from ._measured import Source
from ._metrics import mbps

if TYPE_CHECKING:
    from ._nodes import DistributedMetrics, NodeMetrics

_NO_JOB = "this process has neither a process group nor Ray that others could be asked by"
_SOURCE = "the view of the job, by the"
_COUNTED_STATES = ("live", "late")

_why = _NO_JOB


def newest() -> ClusterView | str:
    """Return the newest view, or why there is none. A process that is alone gets no thread for it."""
    global _why
    found = _newest()
    _why = found if isinstance(found, str) else ""
    return found


def why() -> str:
    """Return why there was no view when it was last asked for."""
    return _why or "there was no view of the job yet"


def _newest() -> ClusterView | str:
    if _identity.torch_distributed() is None and not _ray_is_up():
        return _NO_JOB
    monitor = _reading.monitor()
    if monitor is None:
        return _reading.why(None, "")
    try:
        view = monitor.cluster()
    except Error as error:
        return str(error)
    # A view that is old would be taken for what is the case now.
    if view.problem is not None or not view.sequence:
        return view.problem or "there is no view of the job yet"
    return view


def _ray_is_up() -> bool:
    ray = sys.modules.get("ray")
    try:
        return ray is not None and bool(ray.is_initialized())
    except Exception:  # noqa: BLE001 - another thread may be importing it
        return False


def _counted(view: ClusterView) -> list[ClusterNode]:
    return [node for node in view.nodes if node.state in _COUNTED_STATES]


def own_name(view: ClusterView, rank: int) -> str | None:
    """Return the name that the view has for the node of a rank: hosts of the same name are told apart."""
    return next((node.name for node in _counted(view) if rank in node.ranks), None)


def nodes(view: ClusterView) -> list[NodeMetrics]:
    """Return each node once, with what the view knows of it."""
    from ._nodes import NodeMetrics

    found = []
    for node in _counted(view):
        ranks = [rank for rank in view.ranks if rank.node == node.name and rank.rank is not None]
        first = ranks[0] if ranks else None
        rank, local_rank = (first.rank or 0, first.local_rank or 0) if first is not None else (0, 0)
        metrics = NodeMetrics(node.name, rank, local_rank, 0, timestamp=view.timestamp_seconds or 0.0)
        source = Source(f"{_SOURCE} {view.engine}", node.interface, view.age_seconds or 0.0)
        download = mbps(node.receive_bytes_per_second)
        if download is not None:
            metrics.network_bandwidth = download
            metrics.sources["network_bandwidth"] = source
        if node.rtt_p50_seconds is not None:
            metrics.network_latency = node.rtt_p50_seconds * 1000
            metrics.sources["network_latency"] = source
        metrics.unmeasured = tuple(name for name in metrics.unmeasured if name not in metrics.sources)
        found.append(metrics)
    return found


def rows(view: ClusterView) -> dict[str, dict[str, Any]]:
    """Return what the view knows of each node, in Mbps and milliseconds; without what it does not know."""
    found: dict[str, dict[str, Any]] = {}
    for node in nodes(view):
        row: dict[str, Any] = {"timestamp": node.timestamp, "rank": node.rank}
        row |= {name: getattr(node, name) for name in node.sources}
        found[node.node_id] = row
    return found


def fill(metrics: DistributedMetrics, view: ClusterView) -> None:
    """Put the job's figures in the place of this node's."""
    counted = _counted(view)
    metrics.node_count = len(counted)
    if view.world_size is not None:
        metrics.world_size = view.world_size
    source = Source(f"{_SOURCE} {view.engine}", None, view.age_seconds or 0.0)
    speeds = [speed for speed in (mbps(node.receive_bytes_per_second) for node in counted) if speed is not None]
    delays = [node.rtt_p50_seconds * 1000 for node in counted if node.rtt_p50_seconds is not None]
    values: dict[str, float] = {}
    if speeds:
        values["network_bandwidth_total"] = sum(speeds)
        values["network_bandwidth_mean"] = sum(speeds) / len(speeds)
        values["network_bandwidth_max"] = max(speeds)
    if delays:
        values["avg_network_latency"] = sum(delays) / len(delays)
        values["max_network_latency"] = max(delays)
    for name, value in values.items():
        setattr(metrics, name, value)
        metrics.sources[name] = source
    metrics.unmeasured = tuple(name for name in metrics.unmeasured if name not in metrics.sources)
