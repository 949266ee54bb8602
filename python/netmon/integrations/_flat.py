"""What the network did, as the flat keys that all trackers get: ``network/receive_bytes_per_second`` and so on.

Those of the whole job where its view is there, else this node's. What was not measured has no key.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median, median_high
from typing import TYPE_CHECKING, Any

from .._errors import Error
from ._phases import Account

if TYPE_CHECKING:
    from .._cluster_types import ClusterNode, ClusterView
    from .._monitor import Monitor
    from .._types import Finding, Phase, Sample, Snapshot
    from ._phases import Phases

PHASE = "network/phase/"  # what the keys of phases begin with
_CLEAN = "network_clean"
# A view that is older, and that no newer one follows, says nothing of now.
_STALE_SECONDS = 15.0
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
        phases: the parts of the job that have names; None: those that this process names by ``monitor.phase``.
        nodes: whether each node's own values are wanted too, under ``network/node/<name>/``.
    """

    def __init__(self, monitor: Monitor, phases: Phases | None = None, *, nodes: bool = False) -> None:
        self._monitor = monitor
        self._phases = phases if phases is not None else _Own(monitor)
        self._nodes = nodes
        self._lock = threading.Lock()
        self._newest: dict[str, float | None] = {}
        self._parts: dict[str, Account] = {}  # of phases, since the last step
        self._step: object = None
        self._values: dict[str, float] = {}

    def at(self, step: object) -> dict[str, float]:
        """Return the values at a step; asked again at the same step, by another tracker, the same ones."""
        with self._lock:
            if step is not None and step == self._step:
                return dict(self._values)
        self.prepare()
        return self.prepared(step)

    def prepare(self) -> None:
        """Measure for ``prepared``. It may wait: for phases of the job's other processes, 0.25 s at most."""
        newest = self._now()
        parts = self._phases.step()
        with self._lock:
            self._newest = newest
            for name, account in parts.items():
                self._parts[name] = _together(self._parts.get(name), account)

    def forget(self) -> None:
        """Have nothing prepared: what was measured last says nothing of now."""
        with self._lock:
            self._newest = {}

    def prepared(self, step: object) -> dict[str, float]:
        """Return the values at a step as they were prepared last, at once."""
        with self._lock:
            if step is None or step != self._step:
                parts, self._parts = self._parts, {}
                found = dict(self._newest)
                for name, account in parts.items():
                    found |= {f"{PHASE}{name}/{key}": value for key, value in _of_phase(account).items()}
                self._step = step
                self._values = {name: float(value) for name, value in found.items() if value is not None}
            return dict(self._values)

    def _now(self) -> dict[str, float | None]:
        view = self._monitor.cluster()
        current = bool(view.sequence) and not (view.problem is not None and (view.age_seconds or 0.0) > _STALE_SECONDS)
        values = _of_job(view) if current else _of_node(self._monitor.sample(), self._monitor.latest())
        found = {f"network/{name}": value for name, value in values.items()}
        if self._nodes and current:
            for node in view.nodes:
                if node.state == "live":
                    name = node.name.replace("/", "_")
                    found |= {f"network/node/{name}/{key}": getattr(node, key) for key in _NODE}
        return found


class _Own:
    """The phases that this process names by ``monitor.phase``: what its node's network did in them."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._lock = threading.Lock()
        self._seen: dict[str, Account] = {}
        with contextlib.suppress(Error):  # what was before is none of its steps'
            self._seen = self._now()

    def _now(self) -> dict[str, Account]:
        return {row.name: _account(row) for row in self._monitor.sample().phases or ()}

    def step(self) -> dict[str, Account]:
        """Return what is new since the last call."""
        with self._lock:
            now = self._now()
            before, self._seen = self._seen, now
        new = {name: account.since(before.get(name, Account())) for name, account in now.items()}
        return {name: _with_ratio(account) for name, account in new.items() if account.count > 0}


def _with_ratio(account: Account) -> Account:
    """Return an account whose utilization is a ratio, as those of ``Phases.step``."""
    ratio = None if account.utilization is None or not account.seconds else account.utilization / account.seconds
    return replace(account, utilization=ratio)


def _together(before: Account | None, after: Account) -> Account:
    """Return what two calls of ``step`` told of a phase."""
    if before is None:
        return after
    both = Account(before.count + after.count, before.seconds + after.seconds)
    for name in ("receive_bytes", "transmit_bytes"):
        known = [value for value in (getattr(before, name), getattr(after, name)) if value is not None]
        setattr(both, name, sum(known) if known else None)
    shares = [(one.utilization, one.seconds) for one in (before, after) if one.utilization is not None]
    seconds = sum(length for _, length in shares)
    both.utilization = sum(share * length for share, length in shares) / seconds if seconds else None
    return both


def _account(row: Phase) -> Account:
    share = row.utilization_ratio
    utilization = None if share is None else share * row.seconds_total
    return Account(row.count, row.seconds_total, row.receive_bytes_total, row.transmit_bytes_total, utilization)


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
    """Return the slowest node's delivery rate in terms of the middle one's: 1 where all are alike, of two the faster one's.

    A node's is the best that the kernel has seen of connections from its ranks to other nodes, where the application was not
    the limit; of a node that only receives, of connections to it.
    """
    there = {node.name for node in view.nodes if node.state != "gone"}
    sent: dict[str, float] = {}
    received: dict[str, float] = {}
    for rank in view.ranks:
        if rank.node not in there or rank.state == "gone":
            continue
        for way in rank.peers:
            rate = way.delivery_bytes_per_second
            if rate is None or way.node == rank.node:
                continue
            sent[rank.node] = max(sent.get(rank.node, 0.0), rate)
            if way.node in there:
                received[way.node] = max(received.get(way.node, 0.0), rate)
    rates = list((received | sent).values())
    middle = median_high(rates) if len(rates) > 1 else None
    return min(rates) / middle if middle else None


def _findings(found: Sequence[Finding] | None) -> int | None:
    """Return how many there are; that the network is clean is none of them. None: nothing can be said yet."""
    return sum(1 for one in found if one.class_ != _CLEAN) if found else None


def _known(rows: Iterable[Any], name: str) -> list[float]:
    return [value for row in rows if (value := getattr(row, name)) is not None]


def _middle(values: list[float]) -> float | None:
    return median(values) if values else None


def _largest(nodes: Iterable[ClusterNode], name: str) -> float | None:
    return max(_known(nodes, name), default=None)
