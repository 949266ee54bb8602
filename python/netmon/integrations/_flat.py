"""What the network did, as the flat keys that all trackers get: ``network/receive_bytes_per_second`` and so on.

Those of the whole job where its view is there, else this node's. What was not measured has no key.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2s
from statistics import median, median_high
from typing import TYPE_CHECKING

from .._errors import Error
from ._phases import Account

if TYPE_CHECKING:
    from .._cluster_types import ClusterNode, ClusterView
    from .._monitor import Monitor
    from .._types import Finding, Phase, Sample
    from ._phases import Phases

PHASE = "network/phase/"  # what the keys of phases begin with
_CLEAN = "network_clean"
# A view that is older, and that no newer one follows, says nothing of now.
_STALE_SECONDS = 15.0
_REFUSED = re.compile(r"[^A-Za-z0-9_.\- :/]")  # in names of metrics, by one tracker or another
_WAYS = ("receive", "transmit")
_RATES = tuple(f"{way}_bytes_per_second" for way in _WAYS)
_NODE = (
    *_RATES,
    "utilization_ratio",
    "retransmit_ratio",
    "rtt_p50_seconds",
    "loss_ratio",
    "drops",
    "errors",
)  # of a node, beside the whole job


@lru_cache(maxsize=1024)
def _phase_word(name: str) -> str:
    """Return the name of a phase as all trackers take it: MLflow refuses a whole row for one character."""
    parts = name.split("/")
    if _REFUSED.search(name) or any(part in ("", ".", "..") for part in parts):
        return _replaced(name)
    return name


@lru_cache(maxsize=1024)
def _node_word(name: str) -> str:
    """Return the name of a node so; ``host#2`` of the view, where several have a name, is ``host:2``."""
    host, mark, number = name.rpartition("#")
    if mark and number.isdecimal() and not _REFUSED.search(host) and not re.search("[/:]", host):
        return f"{host}:{number}"
    return _replaced(name) if _REFUSED.search(name) or re.search("[/:]", name) or name in (".", "..") else name


def _replaced(name: str) -> str:
    """Return a name without what is refused, and with a word of its own: no other name becomes the same."""
    word = blake2s(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{_REFUSED.sub('_', name).replace('/', '_').replace(':', '_')}-{word}"


@dataclass(frozen=True, slots=True)
class _Counted:
    """What a node has counted since its monitor started, and over which time; None: not known."""

    seconds: float | None
    receive_bytes: int | None
    transmit_bytes: int | None
    drops: int | None
    errors: int | None
    ranks: frozenset[int] = frozenset()  # of the node

    def since(self, before: _Counted, name: str) -> float | None:
        """Return by how much one of them has grown; None: nobody knows, or it was counted anew."""
        now, then = getattr(self, name), getattr(before, name)
        return now - then if now is not None and then is not None and now >= then else None

    def goes_on_from(self, before: _Counted) -> bool:
        """Tell whether the same monitor has counted both: in a forked child it begins anew."""
        return self.since(before, "seconds") is not None


_NOTHING = _Counted(0.0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Node:
    """A node as it is now: values of its newest window, by name, and what it has counted."""

    values: Mapping[str, float | None]
    counted: _Counted
    window_seconds: float | None
    capacity_bits_per_second: float | None

    def at_step(self, before: _Counted) -> dict[str, float | None]:
        """Return its values: drops and errors since the last step, and mean rates, where that is longer ago than the window."""
        if before.ranks and self.counted.ranks and before.ranks.isdisjoint(self.counted.ranks):
            return {**self.values, "drops": None, "errors": None}  # another node, as another process numbers those of one name
        found = dict(self.values)
        for name in ("drops", "errors"):
            found[name] = self.counted.since(before, name)
        seconds = self.counted.since(before, "seconds")
        if not seconds or (self.window_seconds is not None and seconds < self.window_seconds):
            return found
        rates = [self.counted.since(before, f"{way}_bytes") for way in _WAYS]
        if None in rates:
            return found
        means = [grown / seconds for grown in rates if grown is not None]
        found |= {f"{way}_bytes_per_second": mean for way, mean in zip(_WAYS, means, strict=True)}
        if self.capacity_bits_per_second:
            found["utilization_ratio"] = 8 * max(means) / self.capacity_bits_per_second
        return found


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was measured at one moment.

    Attributes:
        own: the node of this process, as it says itself.
        own_name: what the view of the job calls it, where that is known.
        nodes: those of the job, by name; None: there is no view, or only an old one.
        adding: the names of those whose rates add up to the job's.
        live: the names of those whose own values are told.
        values: what needs no other reading.
    """

    own: _Node
    own_name: str | None = None
    nodes: Mapping[str, _Node] | None = None
    adding: frozenset[str] = frozenset()
    live: tuple[str, ...] = ()
    values: Mapping[str, float | None] = field(default_factory=dict)


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
        self._newest: _Reading | None = None
        self._own = _NOTHING  # what this node had counted at the last step
        self._counted: dict[str, _Counted] = {}  # what others had, by name
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
        newest = self._read()
        parts = self._phases.step()
        with self._lock:
            self._newest = newest
            for name, account in parts.items():
                self._parts[name] = _together(self._parts.get(name), account)

    def forget(self) -> None:
        """Have nothing prepared: what was measured last says nothing of now."""
        with self._lock:
            self._newest = None

    def prepared(self, step: object) -> dict[str, float]:
        """Return the values at a step as they were prepared last, at once."""
        with self._lock:
            if step is None or step != self._step:
                parts, self._parts = self._parts, {}
                found = {} if self._newest is None else self._at_step(self._newest)
                for name, account in parts.items():
                    found |= {f"{PHASE}{_phase_word(name)}/{key}": value for key, value in _of_phase(account).items()}
                self._step = step
                self._values = {name: float(value) for name, value in found.items() if value is not None}
            return dict(self._values)

    def _read(self) -> _Reading:
        sample = self._monitor.sample()
        view = self._monitor.cluster()
        if not view.sequence or (view.problem is not None and (view.age_seconds or 0.0) > _STALE_SECONDS):
            return _Reading(_own_node(sample), values={"findings": _findings(sample.findings)})
        rank = None if sample.job is None else sample.job.rank
        there = [node for node in view.nodes if node.state != "gone"]
        return _Reading(
            _own_node(sample),
            own_name=next((row.node for row in view.ranks if rank is not None and row.rank == rank), None),
            nodes={node.name: _node(node) for node in view.nodes},
            adding=frozenset(node.name for node in there),
            live=tuple(node.name for node in there if node.state == "live"),
            values=_of_job(view),
        )

    def _at_step(self, reading: _Reading) -> dict[str, float | None]:
        """Return the values by their keys, and remember what was counted until now. The caller holds the lock."""
        own = reading.own.counted
        own_before, self._own = self._own if own.goes_on_from(self._own) else _NOTHING, own
        if reading.nodes is None:
            found = {**reading.own.at_step(own_before), **reading.values}
            return {f"network/{name}": value for name, value in found.items()}
        nodes = {}
        for name, node in reading.nodes.items():
            if name == reading.own_name:  # as at steps without a view, so that nothing is told twice
                nodes[name] = replace(node, counted=own).at_step(own_before)
            else:
                nodes[name] = node.at_step(self._counted.get(name, _NOTHING))
                self._counted[name] = node.counted
        there = [values for name, values in nodes.items() if name in reading.adding]
        found = {name: _sum(there, name) for name in _RATES}
        found |= {name: _sum(nodes.values(), name) for name in ("drops", "errors")}
        found |= {name: _largest(there, name) for name in ("utilization_ratio", "retransmit_ratio", "loss_ratio")}
        found["rtt_p50_seconds"] = _middle(_known(there, "rtt_p50_seconds"))
        keyed = {f"network/{name}": value for name, value in {**found, **reading.values}.items()}
        if self._nodes:
            for name in reading.live:
                keyed |= {f"network/node/{_node_word(name)}/{key}": nodes[name].get(key) for key in _NODE}
        return keyed


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
    """Return what is of the job and not of its nodes."""
    return {
        "nodes": view.totals.nodes,
        "slowest_node_ratio": _slowest(view),
        "findings": _findings(view.findings),
    }


def _node(row: ClusterNode) -> _Node:
    bytes_ = row.receive_bytes_total, row.transmit_bytes_total
    counted = _Counted(row.counted_seconds, *bytes_, row.drops_total, row.errors_total, frozenset(row.ranks))
    values = {name: getattr(row, name) for name in _NODE}
    return _Node(values, counted, row.window_seconds, row.capacity_bits_per_second)


def _own_node(sample: Sample) -> _Node:
    totals, tcp, probes = sample.totals, sample.tcp, sample.probes
    found: dict[str, float | None] = {}
    counted = _Counted(sample.self.uptime_seconds, None, None, None, None)
    if totals is not None:
        for name in (*_RATES, "utilization_ratio"):
            found[name] = getattr(totals, name)
        counted = replace(
            counted,
            receive_bytes=totals.receive_bytes_total,
            transmit_bytes=totals.transmit_bytes_total,
            drops=_both(totals.receive_drops_total, totals.transmit_drops_total),
            errors=_both(totals.receive_errors_total, totals.transmit_errors_total),
        )
    if tcp is not None:
        found["retransmit_ratio"] = tcp.retransmit_ratio
    if probes is not None:
        found["rtt_p50_seconds"] = _middle([one.rtt_p50_seconds for one in probes if one.rtt_p50_seconds is not None])
        sent = sum(one.sent for one in probes)
        found["loss_ratio"] = sum(one.lost for one in probes) / sent if sent else None
    return _Node(found, counted, sample.window_seconds, None if totals is None else totals.capacity_bits_per_second)


def _both(received: int | None, sent: int | None) -> int | None:
    return None if received is None or sent is None else received + sent


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


def _known(rows: Iterable[Mapping[str, float | None]], name: str) -> list[float]:
    return [value for row in rows if (value := row.get(name)) is not None]


def _middle(values: list[float]) -> float | None:
    return median(values) if values else None


def _largest(rows: Iterable[Mapping[str, float | None]], name: str) -> float | None:
    return max(_known(rows, name), default=None)


def _sum(rows: Iterable[Mapping[str, float | None]], name: str) -> float | None:
    known = _known(rows, name)
    return sum(known) if known else None
