"""The view of a whole job: frozen types with the names and units of the document ``netmon.cluster/1`` (docs/cluster.md).

Everything that nobody knows is None, never 0.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ._document import Document
from ._types import Finding, _build, _Named

_SCHEMA = "netmon.cluster/1"
_FIELDS = (
    "timestamp_seconds", "engine", "aggregator_rank", "world_size", "nodes", "ranks", "totals", "spread", "skew", "findings",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClusterWay:
    """What a rank says of the way to another one, in its window."""

    rank: int | None
    node: str | None
    address: str
    sent_bytes: int | None
    segments_sent: int | None
    segments_retransmitted: int | None
    retransmitted_ratio: float | None
    rtt_seconds: float | None
    rtt_min_seconds: float | None
    delivery_bytes_per_second: float | None
    probe_rtt_min_seconds: float | None
    probe_rtt_last_seconds: float | None
    probe_sent: int | None
    probe_lost: int | None
    probe_loss_ratio: float | None


@dataclass(frozen=True, slots=True)
class ClusterRank:
    """One process of the job. ``state`` is ``"live"``, ``"late"``, ``"gone"`` or ``"missing"``."""

    rank: int | None
    local_rank: int | None
    node: str | None
    state: str
    age_seconds: float | None
    restarts: int
    joined_sequence: int | None
    digest_sequence: int | None
    sampled_sequence: int | None
    ended: bool
    window_seconds: float | None
    collective_ratio: float | None
    collectives_total: int | None
    collective_bytes: int | None
    busbw_bytes_per_second: float | None
    waiting_seconds: float | None
    waiting_ratio: float | None
    last_ratio: float | None
    pending_seconds: float | None
    pending_sequence: int | None
    pending_op: str | None
    pending_count: int | None
    phase: str | None
    peers: tuple[ClusterWay, ...]


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """One node of the job: its values once, however many ranks it has."""

    name: str
    ranks: tuple[int, ...]
    processes: int
    state: str
    age_seconds: float
    receive_bytes_total: int | None
    transmit_bytes_total: int | None
    drops_total: int | None
    errors_total: int | None
    counted_seconds: float | None
    window_seconds: float | None
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
    wrong_interface: bool


@dataclass(frozen=True, slots=True)
class ClusterTotals:
    """Nodes added up, each once."""

    nodes: int | None
    live_ranks: int | None
    late_ranks: int | None
    gone_ranks: int | None
    missing_ranks: int | None
    unranked_processes: int | None
    receive_bytes_total: int | None
    transmit_bytes_total: int | None
    drops_total: int | None
    errors_total: int | None
    receive_bytes_per_second: float | None
    transmit_bytes_per_second: float | None
    capacity_bits_per_second: float | None
    drops: int | None
    errors: int | None


@dataclass(frozen=True, slots=True)
class ClusterSpread:
    """The least, the middle and the largest of a number over nodes or ranks, with who has the ends."""

    count: int
    min: float
    min_at: str
    median: float
    max: float
    max_at: str


@dataclass(frozen=True, slots=True)
class ClusterSkew:
    """How far apart ranks come to collectives."""

    ranks: int
    compared: int
    transfer_p50_seconds: float | None
    waiting_p50_seconds: float | None
    last_rank: int | None
    last_ratio: float | None


class ClusterNodes(_Named[ClusterNode]):
    """Nodes by place, or by name: ``view.nodes["host"]``."""

    __slots__ = ()

    _what = "node"

    @staticmethod
    def _name(item: ClusterNode) -> str:
        return item.name


class ClusterView(Document):
    """The whole job as its processes said it, made by ``aggregator_rank``. Sections are decoded when they are first asked for.

    Where there is no view, ``sequence`` is 0, nodes and ranks are none, what else there is is None, and ``problem`` says why.
    """

    __slots__ = ("_age", "_problem")

    def __init__(self, packed: bytes | None, age: float | None, problem: str | None, engine: str | None = None) -> None:
        if packed is None:
            nothing = {"schema": _SCHEMA, "sequence": 0, "engine": engine, "unavailable": {}}
            super().__init__({**dict.fromkeys(_FIELDS), **nothing})
        else:
            super().__init__(packed)
        self._age = age
        self._problem = problem

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ClusterView:
        """Make a view of the document that ``to_dict`` returns."""
        view = cls(None, None, document["unavailable"].get("view"))
        view._document = document
        return view

    def again(self, age: float | None, problem: str | None) -> ClusterView:
        """Return the same view as of now. What was decoded is not decoded twice."""
        view = ClusterView(self._text, age, problem)
        view._document, view._sections = self._document, self._sections
        return view

    @staticmethod
    def _read(text: bytes) -> Mapping[str, Any]:
        return Document._read(zlib.decompress(text))

    @property
    def age_seconds(self) -> float | None:
        """For how long this process had had this view, and no newer one, when ``Monitor.cluster`` returned it."""
        return self._age

    @property
    def problem(self) -> str | None:
        """Why there is no view, or none that is new; None: nothing is wrong."""
        return self._problem

    @property
    def sequence(self) -> int:
        """The number of this view among those of its aggregator, from 1; 0: there is no view."""
        return int(self._decoded()["sequence"])

    @property
    def timestamp_seconds(self) -> float | None:
        """When it was made, by the wall clock of the process that made it."""
        when: float | None = self._decoded()["timestamp_seconds"]
        return when

    @property
    def engine(self) -> str | None:
        """How the digests came: ``"c10d store"`` or ``"ray"``."""
        engine: str | None = self._decoded()["engine"]
        return engine

    @property
    def aggregator_rank(self) -> int | None:
        """The rank that made it, None for a process without one."""
        rank: int | None = self._decoded()["aggregator_rank"]
        return rank

    @property
    def world_size(self) -> int | None:
        """How many ranks the job has."""
        size: int | None = self._decoded()["world_size"]
        return size

    @property
    def nodes(self) -> ClusterNodes:
        """The nodes, each once."""
        return self._made("nodes", lambda rows: ClusterNodes(_build(ClusterNode, row) for row in rows or ()))

    @property
    def ranks(self) -> tuple[ClusterRank, ...]:
        """The ranks in their order, also those that are gone or missing; processes without a rank last."""
        return self._made("ranks", lambda rows: tuple(_rank(row) for row in rows or ()))

    @property
    def totals(self) -> ClusterTotals:
        """How many ranks are in which state, and nodes added up."""
        return self._made("totals", lambda row: _build(ClusterTotals, row or {}))

    @property
    def spread(self) -> Mapping[str, ClusterSpread]:
        """The least, the middle and the largest of what nodes (``"node.<field>"``) and ranks (``"rank.<field>"``) say."""
        return self._made(
            "spread", lambda rows: MappingProxyType({name: _build(ClusterSpread, row) for name, row in (rows or {}).items()})
        )

    @property
    def skew(self) -> ClusterSkew | None:
        """How far apart ranks come to collectives."""
        return self._made("skew", lambda row: None if row is None else _build(ClusterSkew, row))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the job's network, or that it is clean."""
        return self._made("findings", lambda rows: tuple(_build(Finding, row) for row in rows or ()))

    @property
    def unavailable(self) -> Mapping[str, str]:
        """Why something is None; ``"view"``: the ``problem``."""
        reasons = dict(self._decoded()["unavailable"])
        return MappingProxyType(reasons if self._problem is None else {**reasons, "view": self._problem})

    def rank(self, number: int) -> ClusterRank:
        """Return a rank.

        Raises:
            KeyError: nobody knows of it.
        """
        for rank in self.ranks:
            if rank.rank == number:
                return rank
        raise KeyError(f"there is no rank {number} in this view")

    def to_dict(self) -> dict[str, Any]:
        """Return the document, also what a newer library has added to it."""
        return {**deepcopy(dict(self._decoded())), "unavailable": dict(self.unavailable)}

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, ClusterView) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not self.sequence:
            return f"<netmon ClusterView: none: {self.problem}>"
        return f"<netmon ClusterView {self.sequence}: {len(self.nodes)} nodes, {self.totals.live_ranks} ranks live>"

    def __reduce__(self) -> tuple[Callable[[Mapping[str, Any]], ClusterView], tuple[Mapping[str, Any]]]:
        return ClusterView.from_dict, (self.to_dict(),)


def _rank(document: Mapping[str, Any]) -> ClusterRank:
    peers = [_build(ClusterWay, way) for way in document["peers"]]
    return _build(ClusterRank, {**document, "peers": peers})
