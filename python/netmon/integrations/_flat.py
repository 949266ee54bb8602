"""What the network did, as the flat keys that all trackers get: ``network/receive_bytes_per_second`` and so on.

Those of the whole job where its view is there, else this node's. What was not measured has no key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._cluster_types import ClusterNode, ClusterView
    from .._monitor import Monitor
    from .._types import Finding, Sample, Snapshot
    from ._phases import Account, Phases

PHASE = "network/phase/"  # what the keys of phases begin with
_CLEAN = "network_clean"
# Of a node, beside the whole job.
_NODE = (
    "receive_bytes_per_second",
    "transmit_bytes_per_second",
    "utilization_ratio",
    "retransmit_ratio",
    "rtt_p50_seconds",
    "loss_ratio",
    "drops",
    "errors",
)


class FlatValues:
    """The keys and values of one logged step after the other.

    Args:
        monitor: who measures.
        phases: the parts of the job that have names; None: there are none.
        nodes: whether each node's own values are wanted too, under ``network/node/<name>/``.
    """

    def __init__(self, monitor: Monitor, phases: Phases | None = None, *, nodes: bool = False) -> None:
        self._monitor = monitor
        self._phases = phases
        self._nodes = nodes
        self._step: object = None
        self._values: dict[str, float] = {}

    def at(self, step: object) -> dict[str, float]:
        """Return the values at a step; asked again at the same step, by another tracker, the same ones."""
        if step is None or step != self._step:
            self._step, self._values = step, self._now()
        return dict(self._values)

    def _now(self) -> dict[str, float]:
        view = self._monitor.cluster()
        values = _of_job(view) if view.sequence else _of_node(self._monitor.sample(), self._monitor.latest())
        found = {f"network/{name}": value for name, value in values.items()}
        if self._nodes:
            for node in view.nodes:
                name = node.name.replace("/", "_")
                found |= {f"network/node/{name}/{key}": getattr(node, key) for key in _NODE}
        if self._phases is not None:
            for name, account in self._phases.step().items():
                found |= {f"{PHASE}{name}/{key}": value for key, value in _of_phase(account).items()}
        return {name: float(value) for name, value in found.items() if value is not None}


def _of_job(view: ClusterView) -> dict[str, float | None]:
    """Return sums over nodes, the worst node's ratios, the middle node's round trip."""
    nodes, totals = [node for node in view.nodes if node.state != "gone"], view.totals
    return {
        "nodes": totals.nodes,
        "receive_bytes_per_second": totals.receive_bytes_per_second,
        "transmit_bytes_per_second": totals.transmit_bytes_per_second,
        "drops": totals.drops,
        "errors": totals.errors,
        "utilization_ratio": _largest(nodes, "utilization_ratio"),
        "retransmit_ratio": _largest(nodes, "retransmit_ratio"),
        "loss_ratio": _largest(nodes, "loss_ratio"),
        "rtt_p50_seconds": _middle(_known(nodes, "rtt_p50_seconds")),
        "slowest_node_ratio": _slowest(view),
        "findings": _findings(view.findings),
    }


def _of_node(sample: Sample, latest: Snapshot) -> dict[str, float | None]:
    totals, tcp, probes = sample.totals, sample.tcp, sample.probes
    found: dict[str, float | None] = {"drops": latest.drops_in_window, "errors": latest.errors_in_window}
    if totals is not None:
        for name in ("receive_bytes_per_second", "transmit_bytes_per_second", "utilization_ratio"):
            found[name] = getattr(totals, name)
    if tcp is not None:
        found["retransmit_ratio"] = tcp.retransmit_ratio
    if probes is not None:
        found["rtt_p50_seconds"] = _middle(_known(probes, "rtt_p50_seconds"))
        sent = sum(_known(probes, "sent"))
        found["loss_ratio"] = sum(_known(probes, "lost")) / sent if sent else None
    found["findings"] = _findings(sample.findings)
    return found


def _of_phase(account: Account) -> Mapping[str, float | None]:
    return {"seconds": account.seconds, "bytes": account.bytes, "utilization_ratio": account.utilization}


def _slowest(view: ClusterView) -> float | None:
    """Return the slowest node's delivery rate in terms of the middle one's: 1 where all are alike.

    A node's is the best that the kernel has seen of its ranks' connections where the application was not the limit.
    """
    rates: dict[str, float] = {}
    for rank in view.ranks:
        for way in rank.peers:
            if rank.node is not None and way.delivery_bytes_per_second is not None:
                rates[rank.node] = max(rates.get(rank.node, 0.0), way.delivery_bytes_per_second)
    middle = _middle(list(rates.values())) if len(rates) > 1 else None
    return min(rates.values()) / middle if middle else None


def _findings(found: Sequence[Finding] | None) -> int | None:
    """Return how many there are; that the network is clean is none of them. None: nothing can be said yet."""
    return sum(1 for one in found if one.class_ != _CLEAN) if found else None


def _known(rows: Iterable[Any], name: str) -> list[float]:
    return [value for row in rows if (value := getattr(row, name)) is not None]


def _middle(values: list[float]) -> float | None:
    return median(values) if values else None


def _largest(nodes: Iterable[ClusterNode], name: str) -> float | None:
    return max(_known(nodes, name), default=None)
