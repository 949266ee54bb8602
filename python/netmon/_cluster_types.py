"""The view of a whole job: frozen types with the names and units of the document ``netmon.cluster/1`` (docs/cluster.md).

Everything that nobody knows is None, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from ._types import _build, _Named


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

    nodes: int
    live_ranks: int
    late_ranks: int
    gone_ranks: int
    missing_ranks: int
    unranked_processes: int
    receive_bytes_total: int | None
    transmit_bytes_total: int | None
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


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The whole job as its processes said it, made by ``aggregator_rank``.

    ``ranks`` are in their order, processes without a rank last.
    """

    schema: str
    sequence: int
    timestamp_seconds: float
    engine: str | None
    aggregator_rank: int | None
    world_size: int | None
    nodes: ClusterNodes
    ranks: tuple[ClusterRank, ...]
    totals: ClusterTotals
    spread: Mapping[str, ClusterSpread]
    skew: ClusterSkew | None
    findings: tuple[Mapping[str, Any], ...]
    unavailable: Mapping[str, str]
    _raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ClusterView:
        """Make a view of the document that ``to_dict`` returns."""
        values: dict[str, Any] = {f.name: document.get(f.name) for f in fields(cls) if f.name != "_raw"}
        values["nodes"] = ClusterNodes(_build(ClusterNode, node) for node in document["nodes"])
        values["ranks"] = tuple(_rank(rank) for rank in document["ranks"])
        values["totals"] = _build(ClusterTotals, document["totals"])
        values["spread"] = MappingProxyType({name: _build(ClusterSpread, of) for name, of in document["spread"].items()})
        values["skew"] = None if document["skew"] is None else _build(ClusterSkew, document["skew"])
        values["findings"] = tuple(MappingProxyType(finding) for finding in document["findings"])
        values["unavailable"] = MappingProxyType(document["unavailable"])
        return cls(**values, _raw=document)

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
        return deepcopy(dict(self._raw))

    def __reduce__(self) -> tuple[Callable[[Mapping[str, Any]], ClusterView], tuple[Mapping[str, Any]]]:
        return ClusterView.from_dict, (self._raw,)


def _rank(document: Mapping[str, Any]) -> ClusterRank:
    peers = [_build(ClusterWay, way) for way in document["peers"]]
    return _build(ClusterRank, {**document, "peers": peers})
