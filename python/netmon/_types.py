"""What netmon returns: frozen types with the names and units of the sample document (docs/metrics.md).

Everything that was not measured is None, never 0. Durations end in ``_seconds``, counters in ``_total``, shares of one in
``_ratio``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from types import MappingProxyType
from typing import Any, TypeVar, overload

from . import _abi
from ._document import Document

T = TypeVar("T")
N = TypeVar("N")


@dataclass(frozen=True, slots=True)
class Host:
    """Where a sample was taken."""

    hostname: str | None
    os: str
    kernel: str | None
    boot_id: str | None
    network_namespace: int | None


@dataclass(frozen=True, slots=True)
class Job:
    """Which process of which training job this is."""

    rank: int | None
    local_rank: int | None
    world_size: int | None
    local_world_size: int | None
    node_rank: int | None
    master_address: str | None
    master_port: int | None
    source: str | None


@dataclass(frozen=True, slots=True)
class Totals:
    """The interfaces that count, summed, each byte once."""

    receive_bytes_total: int | None
    transmit_bytes_total: int | None
    receive_packets_total: int | None
    transmit_packets_total: int | None
    receive_errors_total: int | None
    transmit_errors_total: int | None
    receive_drops_total: int | None
    transmit_drops_total: int | None
    receive_bytes_per_second: float | None
    transmit_bytes_per_second: float | None
    receive_packets_per_second: float | None
    transmit_packets_per_second: float | None
    capacity_bits_per_second: int | None
    utilization_ratio: float | None
    receive_best_bytes_per_second: float | None
    transmit_best_bytes_per_second: float | None
    fine_interval_seconds: float | None
    receive_peak_bytes_per_second: float | None
    transmit_peak_bytes_per_second: float | None
    receive_p95_bytes_per_second: float | None
    transmit_p95_bytes_per_second: float | None
    busy_ratio: float | None


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface of the namespace."""

    name: str
    index: int | None
    kind: str | None
    counted: bool | None
    primary: bool | None
    master: str | None
    state: str | None
    mtu: int | None
    duplex: str | None
    link_speed_bits_per_second: int | None
    addresses: tuple[str, ...] | None
    resets: int | None
    receive_bytes_total: int | None
    transmit_bytes_total: int | None
    receive_packets_total: int | None
    transmit_packets_total: int | None
    receive_errors_total: int | None
    transmit_errors_total: int | None
    receive_drops_total: int | None
    transmit_drops_total: int | None
    receive_bytes_per_second: float | None
    transmit_bytes_per_second: float | None
    receive_packets_per_second: float | None
    transmit_packets_per_second: float | None
    receive_fifo_errors_total: int | None
    receive_frame_errors_total: int | None
    receive_multicast_total: int | None
    receive_compressed_total: int | None
    transmit_fifo_errors_total: int | None
    transmit_carrier_errors_total: int | None
    transmit_collisions_total: int | None
    transmit_compressed_total: int | None


@dataclass(frozen=True, slots=True)
class TCP:
    """The kernel's TCP counters, IPv4 and IPv6 together."""

    established: int | None
    segments_sent_total: int | None
    segments_received_total: int | None
    segments_retransmitted_total: int | None
    retransmit_ratio: float | None
    timeouts_total: int | None
    syn_retransmits_total: int | None
    listen_overflows_total: int | None
    listen_drops_total: int | None
    resets_sent_total: int | None
    in_errors_total: int | None
    memory_pressures_total: int | None
    out_of_order_queued_total: int | None


@dataclass(frozen=True, slots=True)
class UDP:
    """The kernel's UDP counters, IPv4 and IPv6 added."""

    datagrams_sent_total: int | None
    datagrams_received_total: int | None
    in_errors_total: int | None
    receive_buffer_errors_total: int | None
    send_buffer_errors_total: int | None
    no_ports_total: int | None


@dataclass(frozen=True, slots=True)
class IP:
    """The kernel's IP counters that explain trouble, IPv4 and IPv6 added."""

    in_discards_total: int | None
    out_discards_total: int | None
    in_address_errors_total: int | None
    out_no_routes_total: int | None
    fragments_failed_total: int | None


@dataclass(frozen=True, slots=True)
class Sockets:
    """The sockets in use."""

    tcp_in_use: int | None
    tcp_orphaned: int | None
    tcp_time_wait: int | None
    tcp_memory_bytes: int | None
    udp_in_use: int | None


@dataclass(frozen=True, slots=True)
class Probe:
    """Round trips to one target, over a window. Times are seconds, None where nothing was measured."""

    target: str
    peer: bool
    address: str | None
    port: int | None
    method: str | None
    methods_refused: Mapping[str, str] = field(hash=False)
    sent: int
    received: int
    lost: int
    loss_ratio: float | None
    rtt_min_seconds: float | None
    rtt_p50_seconds: float | None
    rtt_p99_seconds: float | None
    rtt_last_seconds: float | None
    jitter_seconds: float | None
    window_seconds: float | None
    age_seconds: float | None
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the element of the document's ``probes``."""
        return _document(self)

    def __str__(self) -> str:
        from ._text import describe_probe

        return describe_probe(self)


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop of a path. ``address`` is None where nobody answered."""

    ttl: int
    address: str | None
    sent: int
    received: int
    rtt_min_seconds: float | None
    rtt_p50_seconds: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Path:
    """The hops on the way to a target, as far as they answered."""

    target: str
    address: str | None
    hops: tuple[Hop, ...]
    reached: bool | None
    path_mtu_bytes: int | None
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as the library gave it."""
        return _document(self)

    def __str__(self) -> str:
        from ._text import describe_path

        return describe_path(self)


@dataclass(frozen=True, slots=True)
class Peer:
    """What this process's own TCP connections to one address tell, without a probe.

    Round trip and delivery are those of the connection that moved most bytes in the window; counters and ratios cover all.
    """

    address: str
    rank: int | None
    ranks: tuple[int, ...] | None
    process: str
    interface: str | None
    connections: int
    child_connections: int
    sent_bytes_total: int | None
    received_bytes_total: int | None
    sent_bytes_per_second: float | None
    received_bytes_per_second: float | None
    rtt_seconds: float | None
    rtt_min_seconds: float | None
    rtt_variation_seconds: float | None
    segments_sent_total: int | None
    segments_retransmitted_total: int | None
    duplicates_reported_total: int | None
    delivery_bytes_per_second: float | None
    delivery_app_limited: bool | None
    receive_window_limited_ratio: float | None
    send_buffer_limited_ratio: float | None
    unsent_bytes: int | None
    idle_seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the element of the document's ``peers``."""
        return _document(self)


@dataclass(frozen=True, slots=True)
class RDMAGID:
    """One address of an RDMA port."""

    index: int
    gid: str
    type: str | None
    interface: str | None


@dataclass(frozen=True, slots=True)
class RDMAPort:
    """One port of an RDMA device. Its counters are the node's, not this process's."""

    device: str
    port: int
    driver: str | None
    link_layer: str | None
    state: str | None
    physical_state: str | None
    rate_bits_per_second: int | None
    interface: str | None
    gids: tuple[RDMAGID, ...] | None
    receive_bytes_total: int | None
    transmit_bytes_total: int | None
    receive_bytes_per_second: float | None
    transmit_bytes_per_second: float | None
    counters: Mapping[str, int] | None = field(hash=False)
    counters_per_second: Mapping[str, float] | None = field(hash=False)
    window_seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the element of the document's ``rdma``."""
        return _document(self)


@dataclass(frozen=True, slots=True)
class PCIe:
    """The link of a network device or GPU to its machine."""

    address: str
    kind: str
    names: tuple[str, ...] | None
    current_transfers_per_second: float | None
    maximum_transfers_per_second: float | None
    current_lanes: int | None
    maximum_lanes: int | None
    current_capacity_bits_per_second: int | None
    limited: bool | None

    def to_dict(self) -> dict[str, Any]:
        """Return the element of the document's ``pcie``."""
        return _document(self)


@dataclass(frozen=True, slots=True)
class NVLink:
    """The traffic of one GPU's NVLinks, all of them together."""

    gpu: int
    uuid: str | None
    links_active: int | None
    receive_bytes_total: int | None
    transmit_bytes_total: int | None
    receive_bytes_per_second: float | None
    transmit_bytes_per_second: float | None
    window_seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the element of the document's ``nvlink``."""
        return _document(self)


@dataclass(frozen=True, slots=True)
class InterfaceShare:
    """One interface's part of the traffic of those that count and are up."""

    interface: str
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Transport:
    """Which plane carries the job's traffic: ``"rdma"``, ``"tcp"``, ``"loopback"``, or ``"none"`` that can be seen."""

    plane: str | None
    interface: str | None
    reason: str | None
    rdma_bytes_total: int | None
    tcp_bytes_total: int | None
    loopback_bytes_total: int | None
    rdma_bytes_per_second: float | None
    tcp_bytes_per_second: float | None
    loopback_bytes_per_second: float | None
    rdma_idle_reason: str | None
    shares: tuple[InterfaceShare, ...] | None
    wrong_interface: str | None
    advice: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the document's ``transport``."""
        return _document(self)


@dataclass(frozen=True, slots=True)
class BandwidthTest:
    """One direction of a test of throughput that somebody asked for. ``receiver_bytes_per_second`` is what arrived."""

    tool: str
    target: str
    direction: str
    parallel: int | None
    timestamp_seconds: float | None
    seconds: float | None
    bytes: int | None
    sender_bytes_per_second: float | None
    receiver_bytes_per_second: float | None
    segments_retransmitted: int | None
    rtt_seconds: float | None
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the element of the document's ``bandwidth_tests``."""
        return _document(self)

    def __str__(self) -> str:
        from ._text import describe_bandwidth

        return describe_bandwidth(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that holds the job up, or that nothing does: whose, since when, how sure, by which numbers, what to do.

    ``class_`` is ``slow_link``, ``lossy_link``, ``high_latency``, ``slow_host``, ``stalled_rank``, ``wrong_interface`` or
    ``network_clean``; ``direction`` (``transmit`` or ``receive``) is the host's. ``evidence`` maps names with units to numbers.
    docs/findings.md says what each class means, and what it cannot tell.
    """

    class_: str
    severity: str
    host: str | None
    rank: int | None
    interface: str | None
    peer: str | None
    direction: str | None
    onset_seconds: float
    confidence: float
    evidence: Mapping[str, float] = field(hash=False)
    advice: str
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return the element of the document's ``findings``."""
        return _document(self)

    def __str__(self) -> str:
        return f"{self.text} ({self.confidence * 100:.0f} % sure). {self.advice}"


@dataclass(frozen=True, slots=True)
class FineSampling:
    """For how long counters are read between samples too, and how often."""

    seconds: float
    interval_seconds: float


@dataclass(frozen=True, slots=True)
class Collective:
    """What is known of the job's collectives of one operation, group and size, as this process saw them.

    Quantiles are over those of the last 60 s whose end is known, the newest 512 of them.
    """

    op: str
    group: str
    group_size: int
    size_bucket_bytes: int
    count: int
    bytes_total: int
    unfinished: int
    p50_seconds: float | None
    p95_seconds: float | None
    max_seconds: float | None
    algbw_bytes_per_second: float | None
    busbw_bytes_per_second: float | None
    duration_count: int
    end_exact_ratio: float | None
    source: str

    def to_dict(self) -> dict[str, Any]:
        """Return the row as the document has it."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class CollectivePending:
    """The oldest collective that is under way for long and has not ended.

    Attributes:
        op: ``"all_reduce"`` and so on.
        group: its group.
        group_size: ranks in it.
        bytes: S of nccl-tests, of the whole array.
        sequence: number of the call in its group; the ranks that are in it have the same. None: not known.
        seconds: since this process called it.
        count: how many are under way for long, this one included.
    """

    op: str
    group: str
    group_size: int
    bytes: int
    sequence: int | None
    seconds: float
    count: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as the document has it."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class Phase:
    """What the network did in all parts of the job of one name (``Monitor.phase``) that have ended."""

    name: str
    count: int
    running: int
    seconds_total: float
    receive_bytes_total: int | None
    transmit_bytes_total: int | None
    rdma_bytes_total: int | None
    loopback_bytes_total: int | None
    tcp_bytes_total: int | None
    peak_bytes_per_second: float | None
    peak_ratio: float | None
    utilization_ratio: float | None
    busy_ratio: float | None
    full_ratio: float | None
    plateau_bytes_per_second: float | None
    steady_ratio: float | None
    waiting_ratio: float | None
    segments_sent_total: int | None
    segments_retransmitted_total: int | None
    retransmit_ratio: float | None
    verdict: str | None
    last_seconds: float | None
    last_receive_bytes: int | None
    last_transmit_bytes: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as the document has it."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class SelfCost:
    """What the monitor itself cost."""

    version: str
    uptime_seconds: float
    cpu_seconds_total: float | None
    sample_seconds: float
    samples_total: int
    dropped_total: int
    probe_bytes_total: int
    peers_read_seconds: float | None
    peers_age_seconds: float | None
    peers_sockets: int | None
    health: str
    collectives_dropped_total: int
    collectives_unlisted_total: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an interface or its counters."""

    timestamp_seconds: float
    monotonic_seconds: float
    class_: str
    interface: str | None
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Health:
    """How a monitor is doing."""

    status: str
    problems: tuple[str, ...]
    interval_seconds: float
    uptime_seconds: float
    cpu_seconds_total: float | None
    samples_total: int
    dropped_total: int
    probe_bytes_total: int
    last_sample_age_seconds: float | None
    history_samples: int
    history_bytes: int
    history_span_seconds: float
    events_total: Mapping[str, int]
    events: tuple[Event, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as the library gave it."""
        return _document(self)


@dataclass(frozen=True, slots=True)
class Stats:
    """The recorded values of one metric, in its own unit. All but ``count`` are None when nothing was recorded."""

    metric: str
    window_seconds: float | None
    count: int
    min: float | None
    max: float | None
    mean: float | None
    stddev: float | None
    p50: float | None
    p95: float | None
    p99: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as the library gave it."""
        return _document(self)


@dataclass(frozen=True, slots=True)
class AlertRule:
    """A rule, and how it stands. Times are seconds since 1970, None where there is none."""

    name: str
    metric: str
    above: float | None
    below: float | None
    clear: float
    for_seconds: float
    rate: bool
    increase: bool
    severity: str
    state: str
    value: float | None
    onset_seconds: float | None
    fired_seconds: float | None
    fired_total: int
    unmeasured_since_seconds: float | None
    unmeasured_reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as the library gave it."""
        return _document(self)


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """An alert began (``event`` is ``"fired"``) or ended (``"resolved"``)."""

    sequence: int
    event: str
    name: str
    metric: str
    severity: str
    direction: str
    threshold: float
    value: float | None
    onset_seconds: float
    timestamp_seconds: float
    monotonic_seconds: float
    active_seconds: float | None
    sample_sequence: int
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return the event as the library gave it."""
        return _document(self)

    def __str__(self) -> str:
        return f"{self.severity}: {self.name} {self.event}: {self.text}"


@dataclass(frozen=True, slots=True)
class Alerts:
    """The rules of a monitor as they stand, and what happened, oldest first."""

    sample_sequence: int
    rules: tuple[AlertRule, ...] | None
    events: tuple[AlertEvent, ...]
    events_total: int
    events_dropped_total: int

    @property
    def on(self) -> tuple[AlertRule, ...]:
        """The rules whose alert is on."""
        return tuple(rule for rule in self.rules or () if rule.state == "on")

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as the library gave it."""
        return _document(self)


# The fields that are tuples of further classes.
_ELEMENTS: Mapping[tuple[type[Any], str], type[Any]] = {
    (Path, "hops"): Hop,
    (RDMAPort, "gids"): RDMAGID,
    (Transport, "shares"): InterfaceShare,
    (Health, "events"): Event,
    (Alerts, "rules"): AlertRule,
    (Alerts, "events"): AlertEvent,
}


def _build(cls: type[T], data: Mapping[str, Any]) -> T:
    """Make an instance of a section's class. Fields that a newer library adds are left to ``to_dict``."""
    values: list[Any] = []
    for f in fields(cls):  # type: ignore[arg-type]
        value = data.get(f.name.rstrip("_"))
        if isinstance(value, list):
            element = _ELEMENTS.get((cls, f.name))
            value = tuple(value) if element is None else tuple(_build(element, row) for row in value)
        elif type(value) is int and str(f.type).startswith("float"):
            value = float(value)  # JSON writes a whole number without a point
        values.append(value)
    return cls(*values)


def _document(thing: Any) -> dict[str, Any]:
    """Write what ``_build`` made as it was."""
    return {f.name.rstrip("_"): _written(getattr(thing, f.name)) for f in fields(thing)}


def _written(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_written(element) for element in value]
    if is_dataclass(value):
        return _document(value)
    return dict(value) if isinstance(value, Mapping) else value


class _Named(Sequence[T]):
    """Results found by place or by name."""

    __slots__ = ("_by_name", "_items")

    _what = "element"  # in errors

    def __init__(self, items: Iterable[T]) -> None:
        self._items = tuple(items)
        self._by_name: dict[str, T] = {}
        for item in self._items:
            self._by_name.setdefault(self._name(item), item)

    @staticmethod
    def _name(item: Any) -> str:
        raise NotImplementedError

    @overload
    def __getitem__(self, key: int | str) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[T]: ...
    def __getitem__(self, key: int | str | slice) -> T | Sequence[T]:
        if isinstance(key, str):
            try:
                return self._by_name[key]
            except KeyError:
                there = ", ".join(self._by_name) or "none"
                raise KeyError(f"there is no {self._what} {key!r}; there are {there}") from None
        return self._items[key]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._by_name if isinstance(key, str) else key in self._items

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._by_name)})"

    def get(self, name: str) -> T | None:
        """Return the one of that name, or None."""
        return self._by_name.get(name)


class Interfaces(_Named[Interface]):
    """The interfaces of a sample, in the kernel's order, found by place or by name: ``sample.interfaces["eth0"].mtu``."""

    __slots__ = ()

    _what = "interface"

    @staticmethod
    def _name(item: Interface) -> str:
        return item.name

    @property
    def names(self) -> tuple[str, ...]:
        """The interfaces' names."""
        return tuple(self._by_name)

    @property
    def primary(self) -> Interface | None:
        """The interface that routes to the master address, or holds the default route."""
        return next((item for item in self._items if item.primary), None)


class Probes(_Named[Probe]):
    """The probes of a sample, found by place or by target as it was given: ``sample.probes["10.0.0.2"].rtt_p50_seconds``."""

    __slots__ = ()

    _what = "target"

    @staticmethod
    def _name(item: Probe) -> str:
        return item.target

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets, as they were given."""
        return tuple(self._by_name)


class Peers(_Named[Peer]):
    """The peers of a sample, found by place or by address: ``sample.peers["10.0.0.2"].rtt_seconds``.

    An address may have two rows, of this process and its children, and of Ray's daemons of this node: by address it is the
    first, the process's own, where there is one.
    """

    __slots__ = ()

    _what = "peer"

    @staticmethod
    def _name(item: Peer) -> str:
        return item.address

    @property
    def addresses(self) -> tuple[str, ...]:
        """The peers' addresses, each once."""
        return tuple(self._by_name)


class RDMAPorts(_Named[RDMAPort]):
    """The RDMA ports of a sample, found by place or by device and port: ``sample.rdma["mlx5_0/1"].state``."""

    __slots__ = ()

    _what = "RDMA port"

    @staticmethod
    def _name(item: RDMAPort) -> str:
        return f"{item.device}/{item.port}"

    @property
    def names(self) -> tuple[str, ...]:
        """The ports' names."""
        return tuple(self._by_name)


class Phases(_Named[Phase]):
    """The phases of a sample, in the order of their first beginning, found by place or by name."""

    __slots__ = ()

    _what = "phase"

    @staticmethod
    def _name(item: Phase) -> str:
        return item.name

    @property
    def names(self) -> tuple[str, ...]:
        """The phases' names."""
        return tuple(self._by_name)


class Sample(Document):
    """What was measured at one moment: the sample document with types.

    Sections are decoded when they are first asked for. One that was not measured is None, and ``reason`` says why.
    """

    __slots__ = ()

    def _section(self, name: str, cls: type[T]) -> T | None:
        return self._made(name, lambda row: None if row is None else _build(cls, row))

    @property
    def sequence(self) -> int:
        """The number of this sample, from 1."""
        return int(self._decoded()["sequence"])

    @property
    def timestamp_seconds(self) -> float:
        """When it was taken, wall clock, since 1970-01-01 UTC."""
        return float(self._decoded()["timestamp_seconds"])

    @property
    def monotonic_seconds(self) -> float:
        """When it was taken, on the clock of ``time.monotonic``."""
        return float(self._decoded()["monotonic_seconds"])

    @property
    def window_seconds(self) -> float | None:
        """The time that its rates cover."""
        window: float | None = self._decoded()["window_seconds"]
        return window

    @property
    def host(self) -> Host:
        """Where it was taken."""
        host = self._section("host", Host)
        assert host is not None
        return host

    @property
    def job(self) -> Job | None:
        """The training job."""
        return self._section("job", Job)

    @property
    def totals(self) -> Totals | None:
        """The interfaces that count, summed."""
        return self._section("totals", Totals)

    def _list(self, name: str, cls: Callable[[Iterable[Any]], N], element: type[Any]) -> N | None:
        return self._made(name, lambda rows: None if rows is None else cls(_build(element, row) for row in rows))

    @property
    def interfaces(self) -> Interfaces | None:
        """All interfaces of the namespace."""
        return self._list("interfaces", Interfaces, Interface)

    @property
    def tcp(self) -> TCP | None:
        """TCP counters."""
        return self._section("tcp", TCP)

    @property
    def udp(self) -> UDP | None:
        """UDP counters."""
        return self._section("udp", UDP)

    @property
    def ip(self) -> IP | None:
        """IP counters."""
        return self._section("ip", IP)

    @property
    def sockets(self) -> Sockets | None:
        """Sockets in use."""
        return self._section("sockets", Sockets)

    @property
    def probes(self) -> Probes | None:
        """Round trips to the training peers and the targets; empty where there is nobody to probe."""
        return self._list("probes", Probes, Probe)

    @property
    def peers(self) -> Peers | None:
        """Whom this process has TCP connections to, and what these tell."""
        return self._list("peers", Peers, Peer)

    @property
    def rdma(self) -> RDMAPorts | None:
        """The ports of RDMA devices."""
        return self._list("rdma", RDMAPorts, RDMAPort)

    @property
    def pcie(self) -> tuple[PCIe, ...] | None:
        """The PCI Express links of network devices and GPUs."""
        return self._list("pcie", tuple, PCIe)

    @property
    def nvlink(self) -> tuple[NVLink, ...] | None:
        """The traffic of the GPUs' NVLinks, an element a GPU."""
        return self._list("nvlink", tuple, NVLink)

    @property
    def collectives(self) -> tuple[Collective, ...] | None:
        """The collectives that the job ran, by operation, group and size. None where nobody records them."""
        return self._list("collectives", tuple, Collective)

    @property
    def collective_ratio(self) -> float | None:
        """The share of the window in which collectives were under way, as far as they have ended."""
        ratio: float | None = self._decoded()["collective_ratio"]
        return ratio

    @property
    def collective_pending(self) -> CollectivePending | None:
        """What is under way for long. None: nothing is, or nobody tells; ``reason("collective_pending")`` says which."""
        return self._section("collective_pending", CollectivePending)

    @property
    def phases(self) -> Phases | None:
        """The parts of the job that were given names: ``sample.phases["weight_sync"].verdict``. Empty where there are none."""
        return self._list("phases", Phases, Phase)

    @property
    def transport(self) -> Transport | None:
        """Which plane carries the job's traffic, and what is wrong with that."""
        return self._section("transport", Transport)

    @property
    def bandwidth_tests(self) -> tuple[BandwidthTest, ...] | None:
        """The newest tests of throughput that this monitor was asked for, oldest first."""
        return self._list("bandwidth_tests", tuple, BandwidthTest)

    @property
    def findings(self) -> tuple[Finding, ...] | None:
        """What own connections show to be wrong, or that nothing is. Those of the job: ``cluster().findings``."""
        return self._list("findings", tuple, Finding)

    @property
    def self(self) -> SelfCost:
        """What the monitor itself cost."""
        cost = self._section("self", SelfCost)
        assert cost is not None
        return cost

    @property
    def unavailable(self) -> Mapping[str, str]:
        """Why sections and fields are None: ``section`` or ``section.field`` to the reason."""
        return MappingProxyType(self._decoded()["unavailable"])

    def reason(self, name: str) -> str | None:
        """Return why a section (``"probes"``) or field (``"totals.utilization_ratio"``) is None, or None if nothing is said."""
        reasons = self._decoded()["unavailable"]
        section = name.partition(".")[0]
        found: str | None = reasons.get(name) or reasons.get(section)
        if found is None and name.endswith(("_per_second", "_ratio")):
            found = reasons.get("window_seconds")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the sample document: a copy, free to be changed."""
        copy: dict[str, Any] = json.loads(self.to_json())
        return copy

    def to_json(self) -> str:
        """Return the sample document as JSON text."""
        text = self._text  # another thread may decode it meanwhile
        return text.decode() if text is not None else json.dumps(self._decoded(), ensure_ascii=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sample) and self._decoded() == other._decoded()

    def __hash__(self) -> int:
        return hash((self.sequence, self.timestamp_seconds))

    def __reduce__(self) -> tuple[type[Sample], tuple[dict[str, Any]]]:
        return Sample, (self.to_dict(),)

    def __repr__(self) -> str:
        return f"<netmon.Sample {self.sequence} at {self.timestamp_seconds:.3f}>"

    def __str__(self) -> str:
        from ._text import describe

        return describe(self)


class Snapshot(_abi.SnapshotStruct):
    """The values of the newest sample that programs read often, copied without waiting. None: not measured."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Snapshot({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and bytes(self) == bytes(other)

    def __hash__(self) -> int:
        return hash(bytes(self))

    def to_dict(self) -> dict[str, int | float | str | None]:
        """Return the values by their names."""
        return {name: getattr(self, name) for name, _ in _abi.SNAPSHOT_FIELDS}

    @property
    def sequence(self) -> int:
        """The number of the sample, from 1."""
        return int(self._sequence)

    @property
    def wall_time_ns(self) -> int:
        """When it was taken, wall clock, since 1970-01-01 UTC."""
        return int(self._wall_time_ns)

    @property
    def monotonic_time_ns(self) -> int:
        """When it was taken, on the clock of ``time.monotonic_ns``."""
        return int(self._monotonic_time_ns)

    @property
    def window_ns(self) -> int | None:
        """The time the rates cover."""
        return _count(self._window_ns)

    @property
    def receive_bytes_total(self) -> int | None:
        """Bytes received by counted interfaces since the monitor started."""
        return _count(self._receive_bytes_total)

    @property
    def transmit_bytes_total(self) -> int | None:
        """Bytes sent by counted interfaces since the monitor started."""
        return _count(self._transmit_bytes_total)

    @property
    def receive_bytes_per_second(self) -> float | None:
        """Receive rate of counted interfaces."""
        return _real(self._receive_bytes_per_second)

    @property
    def transmit_bytes_per_second(self) -> float | None:
        """Send rate of counted interfaces."""
        return _real(self._transmit_bytes_per_second)

    @property
    def primary_receive_bytes_per_second(self) -> float | None:
        """Receive rate of the primary interface."""
        return _real(self._primary_receive_bytes_per_second)

    @property
    def primary_transmit_bytes_per_second(self) -> float | None:
        """Send rate of the primary interface."""
        return _real(self._primary_transmit_bytes_per_second)

    @property
    def errors_in_window(self) -> int | None:
        """Errors of counted interfaces in the window, both directions."""
        return _count(self._errors_in_window)

    @property
    def drops_in_window(self) -> int | None:
        """Drops of counted interfaces in the window, both directions."""
        return _count(self._drops_in_window)

    @property
    def tcp_retransmit_ratio(self) -> float | None:
        """TCP segments retransmitted / sent in the window."""
        return _real(self._tcp_retransmit_ratio)

    @property
    def tcp_established(self) -> int | None:
        """Established TCP connections of the namespace."""
        return _count(self._tcp_established)

    @property
    def rtt_p50_ns(self) -> int | None:
        """Median of the round trips to all targets in the last 60 s."""
        return _count(self._rtt_p50_ns)

    @property
    def loss_ratio(self) -> float | None:
        """Probes lost / sent in the last 60 s, all targets."""
        return _real(self._loss_ratio)

    @property
    def utilization_ratio(self) -> float | None:
        """Share of the capacity of counted interfaces that is in use, in the busier direction."""
        return _real(self._utilization_ratio)

    @property
    def peer_connections(self) -> int | None:
        """The job's own TCP connections: this process and its children."""
        return _count(self._peer_connections)

    @property
    def peer_sent_bytes_per_second(self) -> float | None:
        """Send rate over the job's own TCP connections."""
        return _real(self._peer_sent_bytes_per_second)

    @property
    def peer_received_bytes_per_second(self) -> float | None:
        """Receive rate over the job's own TCP connections."""
        return _real(self._peer_received_bytes_per_second)

    @property
    def peer_rtt_p50_ns(self) -> int | None:
        """Median over the peers of the kernel's round trip estimate."""
        return _count(self._peer_rtt_p50_ns)

    @property
    def peer_retransmit_ratio(self) -> float | None:
        """TCP segments (retransmitted - reported as duplicates) / sent to peers in the window."""
        return _real(self._peer_retransmit_ratio)

    @property
    def rdma_receive_bytes_per_second(self) -> float | None:
        """Receive rate of all RDMA ports of this node."""
        return _real(self._rdma_receive_bytes_per_second)

    @property
    def rdma_transmit_bytes_per_second(self) -> float | None:
        """Send rate of all RDMA ports of this node."""
        return _real(self._rdma_transmit_bytes_per_second)

    @property
    def transport_plane(self) -> str | None:
        """What carries the job's traffic: "rdma", "tcp", "loopback", or "none" that can be seen."""
        plane = self._transport_plane
        return _abi.PLANES[plane] if plane < len(_abi.PLANES) else None


def _count(value: int) -> int | None:
    return None if value == _abi.UNKNOWN_U64 else value


def _real(value: float) -> float | None:
    return value if value == value else None
