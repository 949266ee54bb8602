"""``NetworkMetrics``: everything about the network at one moment, in rldk's names and units."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from ..._types import Sample, Totals
from . import _collectives, _occasions, _reading, _units
from ._identity import Identity
from ._measured import Source, Unmeasured
from ._reach import Reach, Value


@dataclass
class NetworkMetrics(Unmeasured):
    """The network at one moment.

    A value that was not measured is 0, as in rldk. Which those are is said beside the fields:

    Attributes:
        unmeasured: names of the fields that were not measured. Of an object made or filled by hand: those left at 0.
        reasons: name to the reason, for those, where one is known.
        sources: name to ``Source`` (source, target or interface, age in seconds), for those that were measured.
    """

    bandwidth_mbps: float = 0.0
    latency_ms: float = 0.0
    packet_loss_percent: float = 0.0
    world_size: int = 1
    rank: int = 0
    bandwidth_in_mbps: float = 0.0
    bandwidth_out_mbps: float = 0.0
    packets_in_per_sec: float = 0.0
    packets_out_per_sec: float = 0.0
    bytes_in_per_sec: float = 0.0
    bytes_out_per_sec: float = 0.0
    tcp_connections: int = 0
    udp_connections: int = 0
    active_connections: int = 0
    network_errors: int = 0
    dropped_packets: int = 0
    allreduce_bandwidth: float = 0.0
    broadcast_bandwidth: float = 0.0
    gather_bandwidth: float = 0.0
    scatter_bandwidth: float = 0.0
    dns_resolution_ms: float = 0.0
    tcp_connectivity_ms: float = 0.0
    udp_connectivity_ms: float = 0.0
    network_path_hops: int = 0
    network_path_latency: float = 0.0
    timestamp: float = 0.0

    def __post_init__(self) -> None:
        self.unmeasured = MEASURABLE
        self.reasons: Mapping[str, str] = {}
        self._origins: Mapping[str, tuple[str, str | None]] = {}
        # On the clock of time.monotonic: when the values were taken, of some apart, and when they were handed out.
        self._taken_at = self._handed_out_at = time.monotonic()
        self._measured_at: Mapping[str, float] = {}
        self._probed = False
        # How long an all-reduce of the job takes, or why that is not known.
        self._allreduce_time: Value | str = _reading.NOT_YET

    @property
    def sources(self) -> dict[str, Source]:
        """Name to source, target or interface, and age in seconds when the object was handed out."""
        return {
            name: Source(source, target, max(0.0, self._handed_out_at - self._measured_at.get(name, self._taken_at)))
            for name, (source, target) in self._origins.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return every field by its name, in order."""
        return {name: getattr(self, name) for name in _DEFAULTS}


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(NetworkMetrics)}
MEASURABLE = tuple(name for name in _DEFAULTS if name not in ("world_size", "rank", "timestamp"))


ERRORS = "totals.receive_errors_total + totals.transmit_errors_total"
DROPS = "totals.receive_drops_total + totals.transmit_drops_total"
NOTHING_BEFORE = "first measurement: nothing to count from yet"
NO_PACKET = "no packet passed since the previous measurement"


class Since(NamedTuple):
    """What was counted since the previous measurement of the same object."""

    errors: int
    receive_drops: int
    transmit_drops: int
    packets: int

    @property
    def drops(self) -> int:
        """Drops in both directions."""
        return self.receive_drops + self.transmit_drops

    @property
    def loss_percent(self) -> float | None:
        """Drops out of all packets; None where nothing was to be passed.

        The kernel counts a packet that it drops on receipt as received, one that it drops before sending not as sent.
        """
        handled = self.packets + self.transmit_drops
        return min(100.0, _units.percent(self.drops, handled)) if handled else None


class Sums(NamedTuple):
    """Counters that only grow, and which process's which monitor counted them."""

    errors: int
    receive_drops: int
    transmit_drops: int
    packets: int
    origin: tuple[int, int]

    def since(self, previous: Sums | None) -> Since | None:
        """Return what was counted since other sums, None where they are none to compare with.

        A forked child's monitor begins at zero, as does one that is made after a close.
        """
        if previous is None or previous.origin != self.origin:
            return None
        difference = Since(*(new - old for new, old in zip(self[:4], previous[:4], strict=True)))
        return None if min(difference) < 0 else difference


class Counts:
    """Turns counters that only grow into counts since the previous measurement of the same object."""

    def __init__(self) -> None:
        self._previous: list[Sums] = []

    def since(self, now: Sums | None) -> Since | None:
        """Return what was counted since the previous call, None where there is none to compare with.

        Of threads that call at the same time none gets a count that another got: the later ones get None.
        """
        if now is None:
            return None
        try:
            previous = self._previous.pop()
        except IndexError:
            previous = None
        self._previous = [now]
        return now.since(previous)


def sums(sample: Sample | None) -> Sums | None:
    """Return the sums that a sample holds."""
    totals = sample.totals if sample is not None else None
    if totals is None:
        return None
    errors = _sum(totals.receive_errors_total, totals.transmit_errors_total)
    packets = _sum(totals.receive_packets_total, totals.transmit_packets_total)
    parts = (errors, totals.receive_drops_total, totals.transmit_drops_total, packets)
    known = [part for part in parts if part is not None]
    return Sums(known[0], known[1], known[2], known[3], _reading.origin()) if len(known) == len(parts) else None


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def network_metrics(
    sample: Sample | None,
    counts: Counts,
    identity: Identity,
    reach: Reach,
    collectives: Mapping[str, Value | str] | None = None,
) -> NetworkMetrics:
    """Return the metrics that a sample holds.

    Args:
        sample: None where netmon cannot measure.
        counts: what the same object counted before.
        identity: the rank.
        reach: what is known of round trips.
        collectives: what benchmarks of the caller's measured, by the name of the field; or why they did not. Without, it is
            what the job's own collectives show.
    """
    metrics = NetworkMetrics(world_size=identity.world_size, rank=identity.rank)
    metrics.timestamp = time.time() if sample is None else sample.timestamp_seconds
    fill = _Filling(metrics, sample)
    if sample is not None:
        metrics._taken_at = sample.monotonic_seconds
        _fill_rates(fill, sample.totals)
        _fill_counts(fill, counts.since(sums(sample)))
        _fill_reach(fill, reach)
        established = sample.tcp.established if sample.tcp is not None else None
        fill.set("tcp_connections", established, "tcp.established", target=None)
        fill.set("active_connections", established, "tcp.established", target=None)
        sockets = sample.sockets
        fill.set("udp_connections", sockets.udp_in_use if sockets is not None else None, "sockets.udp_in_use", target=None)
    _fill_collectives(fill, collectives or {})
    rest = _reading.why(sample, "totals") if sample is None else _reading.NOT_YET
    unmeasured = tuple(name for name in MEASURABLE if name not in fill.origins)
    reasons = {name: fill.reasons.get(name, rest) for name in unmeasured}
    global _last
    said, before = (unmeasured, reasons, fill.origins), _last
    if said == before:
        said = before
    else:
        _last = said
    metrics.unmeasured, metrics.reasons, metrics._origins = said
    metrics._measured_at, metrics._probed = fill.measured_at, reach.probed
    return metrics


# What is said beside the values is nearly always what was said the last time: histories share it.
_last: tuple[tuple[str, ...], dict[str, str], dict[str, tuple[str, str | None]]] = ((), {}, {})


class _Filling:
    def __init__(self, metrics: NetworkMetrics, sample: Sample | None) -> None:
        self.metrics = metrics
        self.sample = sample
        self.reasons: dict[str, str] = {}
        self.counted = _reading.counted(sample) if sample is not None else ""
        self.totals = sample.totals if sample is not None else None
        self.origins: dict[str, tuple[str, str | None]] = {}
        self.measured_at: dict[str, float] = {}

    def take(self, name: str, found: Value | str) -> None:
        """Take a value over, or why there is none."""
        if isinstance(found, str):
            setattr(self.metrics, name, _DEFAULTS[name])
            self.origins.pop(name, None)
            self.reasons[name] = found
            return
        setattr(self.metrics, name, type(_DEFAULTS[name])(found.value))
        self.origins[name] = (found.source, found.target)
        self.measured_at[name] = found.measured_at

    def set(self, name: str, value: float | None, source: str, target: str | None = "") -> None:
        if value is None:
            self.reasons[name] = _reading.why(self.sample, source.split(" ")[0])
            return
        # JSON writes a rate of zero without a fraction.
        setattr(self.metrics, name, type(_DEFAULTS[name])(value))
        self.origins[name] = (source, self.counted if target == "" else target)


def _fill_rates(fill: _Filling, totals: Totals | None) -> None:
    received = totals.receive_bytes_per_second if totals is not None else None
    sent = totals.transmit_bytes_per_second if totals is not None else None
    down, up = "totals.receive_bytes_per_second", "totals.transmit_bytes_per_second"
    fill.set("bytes_in_per_sec", received, down)
    fill.set("bytes_out_per_sec", sent, up)
    fill.set("bandwidth_in_mbps", mbps(received), down)
    fill.set("bandwidth_out_mbps", mbps(sent), up)
    fill.set("bandwidth_mbps", None if received is None or sent is None else mbps(received + sent), f"{down} + {up}")
    packets = "totals.receive_packets_per_second", "totals.transmit_packets_per_second"
    fill.set("packets_in_per_sec", totals.receive_packets_per_second if totals is not None else None, packets[0])
    fill.set("packets_out_per_sec", totals.transmit_packets_per_second if totals is not None else None, packets[1])


def _fill_counts(fill: _Filling, since: Since | None) -> None:
    fill.set("network_errors", since.errors if since is not None else None, ERRORS)
    fill.set("dropped_packets", since.drops if since is not None else None, DROPS)
    fill.set("packet_loss_percent", since.loss_percent if since is not None else None, DROPS)
    if since is None and fill.totals is not None:
        fill.reasons.update(dict.fromkeys(_COUNTED, NOTHING_BEFORE))
    elif since is not None and since.loss_percent is None:
        fill.reasons["packet_loss_percent"] = NO_PACKET


def _fill_reach(fill: _Filling, reach: Reach) -> None:
    fill.take("latency_ms", reach.round_trip())
    if reach.probed:
        # Drops of the own interfaces are no loss on the way; where it is probed, that is what counts.
        fill.take("packet_loss_percent", reach.loss())
    for name, methods, otherwise in _CONNECTIVITY:
        fill.take(name, reach.round_trip(*methods) if reach.has(*methods) else otherwise(reach))
    path = _occasions.path(reach)
    hops, latency = (path, path) if isinstance(path, str) else path
    fill.take("network_path_hops", hops)
    fill.take("network_path_latency", latency)


def _fill_collectives(fill: _Filling, benchmarks: Mapping[str, Value | str]) -> None:
    for name, found in _collectives.seen(fill.sample).items():
        field = f"{name}_bandwidth"
        own = found if isinstance(found, str) else found.speed
        benchmark = benchmarks.get(field, own)
        fill.take(field, own if isinstance(benchmark, str) and not isinstance(own, str) else benchmark)
        if name == "allreduce":
            fill.metrics._allreduce_time = found if isinstance(found, str) else found.seconds


def _no_echo(reach: Reach) -> str:
    if not reach.hosts:
        return reach.nobody
    return "no udp:// target is named; a UDP echo needs a monitor with udp_responder at the other end"


# By which methods' probes, else from where.
_CONNECTIVITY: tuple[tuple[str, tuple[str, ...], Callable[[Reach], Value | str]], ...] = (
    ("tcp_connectivity_ms", ("tcp", "tcp_refused"), _occasions.handshake),
    ("udp_connectivity_ms", ("udp",), _no_echo),
    ("dns_resolution_ms", ("dns",), _occasions.resolution),
)

_COUNTED = ("network_errors", "dropped_packets", "packet_loss_percent")


def mbps(bytes_per_second: float | None) -> float | None:
    """Return a rate in Mbps, None where it is unknown."""
    return None if bytes_per_second is None else _units.mbps(bytes_per_second)
