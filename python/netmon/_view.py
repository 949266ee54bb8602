"""The view of a whole job: the document ``netmon.cluster/1`` (docs/cluster.md) with types."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ._types import _build

T = TypeVar("T")

SCHEMA = "netmon.cluster/1"


@dataclass(frozen=True, slots=True)
class ClusterWay:
    """What a rank says of the way to another one."""

    rank: int | None
    node: str | None
    address: str
    sent_bytes: int | None
    retransmitted_ratio: float | None
    rtt_seconds: float | None
    rtt_min_seconds: float | None
    delivery_bytes_per_second: float | None
    probe_rtt_min_seconds: float | None
    probe_loss_ratio: float | None


@dataclass(frozen=True, slots=True)
class ClusterRank:
    """One process of the job. ``state``: ``"live"``, ``"late"``, ``"gone"`` or ``"missing"`` (never heard of)."""

    rank: int | None
    local_rank: int | None
    node: str | None
    state: str
    age_seconds: float | None
    restarts: int
    joined_sequence: int | None
    collective_ratio: float | None
    collectives_total: int | None
    busbw_bytes_per_second: float | None
    waiting_seconds: float | None
    waiting_ratio: float | None
    last_ratio: float | None
    pending_seconds: float | None
    pending_sequence: int | None
    pending_op: str | None
    phase: str | None
    peers: tuple[ClusterWay, ...] | None


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """One network namespace of one host. Its numbers are the node's, never a sum over its ranks."""

    name: str
    ranks: tuple[int, ...]
    state: str
    age_seconds: float | None
    receive_bytes_total: int | None
    transmit_bytes_total: int | None
    receive_bytes_per_second: float | None
    transmit_bytes_per_second: float | None
    receive_best_bytes_per_second: float | None
    transmit_best_bytes_per_second: float | None
    capacity_bits_per_second: float | None
    utilization_ratio: float | None
    retransmit_ratio: float | None
    drops: int | None
    errors: int | None
    rtt_p50_seconds: float | None
    loss_ratio: float | None
    rdma_bytes_per_second: float | None
    plane: str | None
    interface: str | None
    wrong_interface: bool | None


@dataclass(frozen=True, slots=True)
class ClusterTotals:
    """How many ranks there are in which state, and sums over the nodes that are live or late, each node once."""

    nodes: int
    live_ranks: int
    late_ranks: int
    gone_ranks: int
    missing_ranks: int
    receive_bytes_total: int | None
    transmit_bytes_total: int | None
    receive_bytes_per_second: float | None
    transmit_bytes_per_second: float | None
    capacity_bits_per_second: float | None
    drops: int | None
    errors: int | None


@dataclass(frozen=True, slots=True)
class ClusterSpread:
    """Smallest, median and largest of a number over nodes or ranks, and whose they are."""

    count: int
    min: float
    min_at: str
    median: float
    max: float
    max_at: str


@dataclass(frozen=True, slots=True)
class ClusterSkew:
    """How far apart ranks come to their collectives."""

    compared: int
    transfer_p50_seconds: float | None
    waiting_p50_seconds: float | None
    last_rank: int | None
    last_ratio: float | None


class ClusterView:
    """The whole job as its processes said it, at one moment.

    Sections are decoded when they are first asked for. What is not known is None; where there is no view at all, everything is,
    ``sequence`` is 0, and ``problem`` says why.
    """

    __slots__ = ("_age", "_document", "_packed", "_problem", "_sections")

    def __init__(self, packed: bytes | None, age: float | None, problem: str | None, engine: str | None = None) -> None:
        self._packed = packed
        self._age = age
        self._problem = problem
        self._sections: dict[str, Any] = {}
        self._document: Mapping[str, Any] | None = None
        if packed is None:
            self._document = {**dict.fromkeys(_FIELDS), "schema": SCHEMA, "sequence": 0, "engine": engine, "unavailable": {}}

    def _decoded(self) -> Mapping[str, Any]:
        if self._document is None:
            assert self._packed is not None
            document: dict[str, Any] = json.loads(zlib.decompress(self._packed))
            self._document = document
        return self._document

    @property
    def sequence(self) -> int:
        """The number of this view, from 1 on for each process that makes them; 0 where there is none."""
        return int(self._decoded()["sequence"])

    @property
    def age_seconds(self) -> float | None:
        """For how long this process has had this view and no newer one, when ``cluster()`` returned it."""
        return self._age

    @property
    def problem(self) -> str | None:
        """Why there is no view, or none that is new; None for nothing. Nothing is raised into the job."""
        return self._problem

    @property
    def timestamp_seconds(self) -> float | None:
        """When it was made, by the wall clock of the process that made it."""
        when: float | None = self._decoded()["timestamp_seconds"]
        return when

    @property
    def engine(self) -> str | None:
        """How the digests travel: ``"c10d store"`` or ``"ray"``."""
        engine: str | None = self._decoded()["engine"]
        return engine

    @property
    def aggregator_rank(self) -> int | None:
        """The rank that made the view."""
        rank: int | None = self._decoded()["aggregator_rank"]
        return rank

    @property
    def world_size(self) -> int | None:
        """How many ranks the job has."""
        size: int | None = self._decoded()["world_size"]
        return size

    def _list(self, name: str, element: type[T]) -> tuple[T, ...] | None:
        if name not in self._sections:
            rows = self._decoded().get(name)
            self._sections[name] = None if rows is None else tuple(_build(element, row) for row in rows)
        found: tuple[T, ...] | None = self._sections[name]
        return found

    def _one(self, name: str, element: type[T]) -> T | None:
        data = self._decoded().get(name)
        return None if data is None else _build(element, data)

    @property
    def nodes(self) -> tuple[ClusterNode, ...] | None:
        """The nodes, each once."""
        return self._list("nodes", ClusterNode)

    @property
    def ranks(self) -> tuple[ClusterRank, ...] | None:
        """The ranks, those that are gone or missing too."""
        if "ranks" not in self._sections:
            rows = self._decoded()["ranks"]
            self._sections["ranks"] = None if rows is None else tuple(map(_rank, rows))
        found: tuple[ClusterRank, ...] | None = self._sections["ranks"]
        return found

    @property
    def totals(self) -> ClusterTotals | None:
        """Counts of ranks by state, and sums over nodes."""
        return self._one("totals", ClusterTotals)

    @property
    def spread(self) -> Mapping[str, ClusterSpread] | None:
        """Minimum, median and maximum of what nodes (``"node.<field>"``) and ranks (``"rank.<field>"``) say."""
        rows = self._decoded()["spread"]
        return None if rows is None else {name: _build(ClusterSpread, row) for name, row in rows.items()}

    @property
    def skew(self) -> ClusterSkew | None:
        """How far apart ranks come to their collectives."""
        return self._one("skew", ClusterSkew)

    @property
    def findings(self) -> tuple[Mapping[str, Any], ...] | None:
        """What is wrong with the job's network, or that it is clean, as in ``sample.findings``."""
        rows = self._decoded()["findings"]
        return None if rows is None else tuple(rows)

    @property
    def unavailable(self) -> Mapping[str, str]:
        """Why fields are None; ``"view"``: why there is no view, or none that is new."""
        reasons = dict(self._decoded()["unavailable"] or {})
        return reasons if self._problem is None else {**reasons, "view": self._problem}

    def node(self, name: str) -> ClusterNode:
        """Return a node by its name.

        Raises:
            KeyError: there is none of this name; the text says which there are.
        """
        nodes = self.nodes or ()
        for node in nodes:
            if node.name == name:
                return node
        raise KeyError(f"{name!r}: the nodes are {', '.join(node.name for node in nodes) or 'not known'}")

    def rank(self, rank: int) -> ClusterRank:
        """Return a rank by its number.

        Raises:
            KeyError: there is none of this number.
        """
        for found in self.ranks or ():
            if found.rank == rank:
                return found
        raise KeyError(f"rank {rank} is not in the view")

    def to_dict(self) -> dict[str, Any]:
        """Return the document."""
        return {**self._decoded(), "unavailable": dict(self.unavailable)}

    def __repr__(self) -> str:
        if not self.sequence:
            return f"<netmon ClusterView: none: {self._problem}>"
        totals = self.totals
        counts = "" if totals is None else f", {totals.nodes} nodes, {totals.live_ranks} ranks live"
        return f"<netmon ClusterView {self.sequence} by {self.engine}{counts}>"


# The fields of a document.
_FIELDS = (
    "schema", "sequence", "timestamp_seconds", "engine", "aggregator_rank", "world_size", "nodes", "ranks", "totals", "spread",
    "skew", "findings", "unavailable",
)  # fmt: skip


def _rank(row: Mapping[str, Any]) -> ClusterRank:
    ways = row.get("peers")
    return _build(ClusterRank, {**row, "peers": None if ways is None else [_build(ClusterWay, way) for way in ways]})


__all__: Sequence[str] = [
    "ClusterNode", "ClusterRank", "ClusterSkew", "ClusterSpread", "ClusterTotals", "ClusterView", "ClusterWay",
]  # fmt: skip
