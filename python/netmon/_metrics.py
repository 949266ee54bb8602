"""What is told of a sample to Prometheus and OpenTelemetry: each metric with its kind, unit, help and labels, and its values.

Names follow from docs/metrics.md: ``netmon_SECTION_FIELD``, without the section for ``totals``. Rates whose counter is there
are left out: who stores counters makes rates over whatever time is looked at. What was not measured is absent.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from . import _node

if TYPE_CHECKING:
    from ._cluster_types import ClusterView
    from ._monitor import Monitor
    from ._types import Sample

Number = int | float
# Of one row of a section: further labels, and the value.
_Values = Iterable[tuple[Mapping[str, object], Number | bool | None]]

_DIRECTIONS = ("receive", "transmit")
_BITS = "_bits_per_second"
_RDMA = "rdma"  # the plane
_FINDING = ("class", "severity", "host", "peer")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as Prometheus has it; ends in ``_total`` where it is a counter.
        unit: in UCUM, as OpenTelemetry writes it.
        help: what it is, in a sentence.
        labels: their names, without those that all metrics of its level have.
        source: where docs/metrics.md has it: ``"tcp.established"``.
        namespace: what the names of its section begin with, after ``netmon``.
        of_node: whether it is of the whole node, the same for all of the node's processes.
        values: makes the values of one row of the section.
    """

    name: str
    unit: str
    help: str
    labels: tuple[str, ...]
    source: str
    namespace: str
    of_node: bool
    values: Callable[[Any], _Values] = field(repr=False)

    def is_of_node(self, labels: Mapping[str, object]) -> bool:
        """Tell whether a value with these labels is of the whole node, as bytes of RDMA ports beside those of connections."""
        return self.of_node or (labels.get("plane") == _RDMA and self.name.endswith("_transport_bytes_total"))

    @property
    def is_counter(self) -> bool:
        """Whether it only grows, as long as the monitor lives."""
        return self.name.endswith("_total")


@dataclass(frozen=True, slots=True)
class Family:
    """A metric and what is known of it now: labels and value, one after the other."""

    metric: Metric
    points: tuple[tuple[Mapping[str, str], Number], ...]


@dataclass(frozen=True, slots=True)
class _Section:
    rows: Callable[[Any], Iterable[tuple[Mapping[str, object], Any]]]  # of a sample: labels of a row, and the row
    metrics: tuple[Metric, ...]


def _one(section: Any) -> tuple[tuple[Mapping[str, object], Any], ...]:
    return () if section is None else (({}, section),)


def _counted(findings: Iterable[Any] | None) -> Iterable[tuple[Mapping[str, object], int]]:
    """Return how many findings there are of each kind."""
    counts: dict[tuple[object, ...], int] = {}
    for one in findings or ():
        key = (one.class_, one.severity, one.host, one.peer)
        counts[key] = counts.get(key, 0) + 1
    return ((dict(zip(_FINDING, key, strict=True)), number) for key, number in counts.items())


def _field(name: str, scale: float | None = None) -> Callable[[Any], _Values]:
    def values(row: Any) -> _Values:
        value = getattr(row, name)
        return (({}, value if value is None or scale is None else value * scale),)

    return values


def _planes(row: Any) -> _Values:
    return (({"plane": plane}, getattr(row, f"{plane}_bytes_total")) for plane in (_RDMA, "tcp", "loopback"))


def _known(*names: str) -> Callable[[Any], _Values]:
    """Return what makes 1 with words as labels, of a row that has them as attributes."""

    def values(row: Any) -> _Values:
        return (({name: getattr(row, name) for name in names}, 1),)

    return values


class _Table:
    """Writes down the metrics of one section."""

    def __init__(self, section: str, prefix: str, labels: tuple[str, ...] = (), *, of_node: bool) -> None:
        self._section, self._namespace, self._labels, self._of_node = section, prefix, labels, of_node
        self._prefix = f"netmon_{prefix}_" if prefix else "netmon_"
        self.metrics: list[Metric] = []

    def add(
        self,
        field: str,
        unit: str,
        text: str,
        *,
        name: str | None = None,
        labels: tuple[str, ...] = (),
        values: Callable[[Any], _Values] | None = None,
        of_node: bool | None = None,
    ) -> None:
        source = f"{self._section}.{field}" if self._section else field
        scale = None
        if name is None:
            name = self._prefix + field
        if field.endswith(_BITS):
            # Prometheus knows no bits.
            name, scale = f"{name.removesuffix(_BITS)}_bytes_per_second", 1 / 8
        of_node = self._of_node if of_node is None else of_node
        named = (name, unit, text, self._labels + labels, source, self._namespace, of_node)
        self.metrics.append(Metric(*named, values or _field(field, scale)))

    def add_both(self, field: str, unit: str, text: str, *, of_node: bool | None = None) -> None:
        for direction, done in zip(_DIRECTIONS, ("received", "sent"), strict=True):
            self.add(f"{direction}_{field}", unit, text.format(done=done), of_node=of_node)


def _totals() -> _Section:
    table = _Table("totals", "", of_node=True)
    table.add_both("bytes_total", "By", "Bytes {done} by the interfaces that count, link-layer headers included.")
    table.add_both("packets_total", "{packet}", "Packets {done} by the interfaces that count.")
    table.add_both("errors_total", "{packet}", "Faulty packets among those {done} by the interfaces that count.")
    table.add_both("drops_total", "{packet}", "Packets discarded among those {done} by the interfaces that count.")
    table.add("capacity_bits_per_second", "By/s", "Link speeds of counted interfaces that are up, summed.")
    table.add("utilization_ratio", "1", "Busier direction's share of the capacity, over the sample's window.")
    for direction, done in zip(_DIRECTIONS, ("receive", "send"), strict=True):
        text = f"Highest {done} rate of a window since the monitor started."
        table.add(f"{direction}_best_bytes_per_second", "By/s", text)
    return _Section(lambda sample: _one(sample.totals), tuple(table.metrics))


def _interfaces() -> _Section:
    table = _Table("interfaces", "interface", ("interface",), of_node=True)
    table.add_both("bytes_total", "By", "Bytes {done}, link-layer headers included.")
    table.add_both("packets_total", "{packet}", "Packets {done}.")
    table.add_both("errors_total", "{packet}", "Faulty packets among those {done}.")
    table.add_both("drops_total", "{packet}", "Packets discarded among those {done}.")
    table.add_both("fifo_errors_total", "{packet}", "Overruns of the device's queue, of packets {done}.")
    table.add_both("compressed_total", "{packet}", "Compressed packets {done}.")
    table.add("receive_frame_errors_total", "{packet}", "Length, overrun, CRC and frame errors.")
    table.add("receive_multicast_total", "{packet}", "Multicast packets received.")
    table.add("transmit_carrier_errors_total", "{packet}", "Carrier, aborted, window and heartbeat errors.")
    table.add("transmit_collisions_total", "{packet}", "Collisions.")
    table.add(
        "resets", "{event}", "How often the interface's counters went back or jumped.", name="netmon_interface_resets_total"
    )
    table.add("link_speed_bits_per_second", "By/s", "Nominal speed of the link, as the driver says.")
    table.add("mtu", "By", "Largest packet above the link layer.", name="netmon_interface_mtu_bytes")
    words = ("kind", "state", "counted", "primary", "master", "duplex")
    table.add("kind", "1", "1, with what the interface is.", name="netmon_interface_info", labels=words, values=_known(*words))
    return _Section(lambda sample: (({"interface": row.name}, row) for row in sample.interfaces or ()), tuple(table.metrics))


def _tcp() -> _Section:
    table = _Table("tcp", "tcp", of_node=True)
    table.add("established", "{connection}", "Connections in ESTABLISHED or CLOSE-WAIT.")
    table.add("segments_sent_total", "{segment}", "Segments sent, without those that only repeat data.")
    table.add("segments_received_total", "{segment}", "Segments received.")
    table.add("segments_retransmitted_total", "{segment}", "Segments sent again: evidence of loss, not loss.")
    table.add("retransmit_ratio", "1", "Segments sent again / sent, over the sample's window.")
    table.add("timeouts_total", "{event}", "Retransmission timeouts.")
    table.add("syn_retransmits_total", "{segment}", "Connection attempts repeated.")
    table.add("listen_overflows_total", "{event}", "Connections refused because a listener's queue was full.")
    table.add("listen_drops_total", "{event}", "Connections dropped by listeners for any reason.")
    table.add("resets_sent_total", "{segment}", "Resets sent.")
    table.add("in_errors_total", "{segment}", "Bad segments received.")
    table.add("memory_pressures_total", "{event}", "Times that TCP ran short of memory.")
    table.add("out_of_order_queued_total", "{segment}", "Segments that came before others.")
    return _Section(lambda sample: _one(sample.tcp), tuple(table.metrics))


def _udp() -> _Section:
    table = _Table("udp", "udp", of_node=True)
    table.add("datagrams_sent_total", "{datagram}", "Datagrams sent.")
    table.add("datagrams_received_total", "{datagram}", "Datagrams received.")
    table.add("in_errors_total", "{datagram}", "Datagrams received and not delivered.")
    table.add("receive_buffer_errors_total", "{datagram}", "Datagrams dropped because a socket's buffer was full.")
    table.add("send_buffer_errors_total", "{datagram}", "Datagrams not sent for want of buffer.")
    table.add("no_ports_total", "{datagram}", "Datagrams to ports on which nobody listened.")
    return _Section(lambda sample: _one(sample.udp), tuple(table.metrics))


def _ip() -> _Section:
    table = _Table("ip", "ip", of_node=True)
    for direction in ("in", "out"):
        table.add(f"{direction}_discards_total", "{packet}", "Packets dropped although nothing was wrong with them.")
    table.add("in_address_errors_total", "{packet}", "Packets received that were not for this host.")
    table.add("out_no_routes_total", "{packet}", "Packets without a route to their destination.")
    table.add("fragments_failed_total", "{packet}", "Packets too large and not to be fragmented.")
    return _Section(lambda sample: _one(sample.ip), tuple(table.metrics))


def _sockets() -> _Section:
    table = _Table("sockets", "sockets", of_node=True)
    table.add("tcp_in_use", "{socket}", "TCP sockets of the namespace.")
    table.add("tcp_orphaned", "{socket}", "TCP sockets closed by their process and not yet gone, of the whole machine.")
    table.add("tcp_time_wait", "{socket}", "TCP sockets in TIME-WAIT.")
    table.add("tcp_memory_bytes", "By", "Memory held by TCP's buffers, of the whole machine.")
    table.add("udp_in_use", "{socket}", "UDP sockets of the namespace.")
    return _Section(lambda sample: _one(sample.sockets), tuple(table.metrics))


def _rdma() -> _Section:
    def events(row: Any) -> _Values:
        return (({"counter": name}, value) for name, value in (row.counters or {}).items())

    table = _Table("rdma", "rdma", ("device", "port"), of_node=True)
    table.add_both("bytes_total", "By", "Bytes {done} by the port, all processes of the node.")
    text = "Counters of the port that mean trouble, by the kernel's names."
    table.add("counters", "{event}", text, name="netmon_rdma_events_total", labels=("counter",), values=events)
    table.add("rate_bits_per_second", "By/s", "Nominal rate of the port, as the driver says.")
    words = ("driver", "link_layer", "state", "physical_state", "interface")
    table.add("state", "1", "1, with what the port is.", name="netmon_rdma_info", labels=words, values=_known(*words))
    rows = lambda sample: (({"device": row.device, "port": row.port}, row) for row in sample.rdma or ())  # noqa: E731
    return _Section(rows, tuple(table.metrics))


def _pcie() -> _Section:
    table = _Table("pcie", "pcie", ("address", "kind"), of_node=True)
    table.add("current_lanes", "{lane}", "Lanes of the PCI Express link.")
    table.add("maximum_lanes", "{lane}", "Lanes that the device could use.")
    table.add(
        "current_capacity_bits_per_second",
        "By/s",
        "What the PCI Express link carries in one direction, without packets' headers.",
    )
    table.add("limited", "1", "1: the device could use more lanes, or faster ones, than it has.")
    rows = lambda sample: (({"address": row.address, "kind": row.kind}, row) for row in sample.pcie or ())  # noqa: E731
    return _Section(rows, tuple(table.metrics))


def _nvlink() -> _Section:
    table = _Table("nvlink", "nvlink", ("gpu",), of_node=True)
    table.add_both("bytes_total", "By", "Data {done} by all NVLinks of the GPU together.")
    table.add("links_active", "{link}", "NVLinks that are up.")
    return _Section(lambda sample: (({"gpu": row.gpu}, row) for row in sample.nvlink or ()), tuple(table.metrics))


def _probes() -> _Section:
    table = _Table("probes", "probe", ("target",), of_node=False)
    table.add("sent", "{probe}", "Probes of the last 60 s that ended.")
    table.add("lost", "{probe}", "Probes of the last 60 s that were not answered.")
    table.add("loss_ratio", "1", "Probes lost / sent in the last 60 s.")
    table.add("rtt_min_seconds", "s", "Least round trip of the last 60 s.")
    table.add("rtt_p50_seconds", "s", "Median round trip of the last 60 s.")
    table.add("rtt_p99_seconds", "s", "99th percentile of the round trips of the last 60 s.")
    table.add("rtt_last_seconds", "s", "Newest round trip.")
    table.add("jitter_seconds", "s", "Mean absolute difference of round trips that followed each other.")
    table.add("age_seconds", "s", "Time since the newest probe ended.")
    return _Section(lambda sample: (({"target": row.target}, row) for row in sample.probes or ()), tuple(table.metrics))


def _peers() -> _Section:
    table = _Table("peers", "peer", ("peer", "process"), of_node=False)
    table.add("connections", "{connection}", "Connections of this process to the peer.")
    table.add("sent_bytes_total", "By", "Data sent to the peer, each byte once.")
    table.add("received_bytes_total", "By", "Data received from the peer.")
    table.add("rtt_seconds", "s", "Smoothed round trip of the connection that moved most.")
    table.add("rtt_min_seconds", "s", "Least round trip of all connections, as the kernel remembers it.")
    table.add("rtt_variation_seconds", "s", "Mean deviation of the round trip.")
    table.add("segments_sent_total", "{segment}", "Segments sent to the peer, with what was sent again.")
    table.add("segments_retransmitted_total", "{segment}", "Segments sent again to the peer.")
    table.add("duplicates_reported_total", "{segment}", "Segments that the peer said it had got already.")
    table.add("delivery_bytes_per_second", "By/s", "Most recent rate at which data was delivered.")
    table.add("receive_window_limited_ratio", "1", "Share of the time in which the peer's window held the sender up.")
    table.add("send_buffer_limited_ratio", "1", "Share of the time in which the own send buffer was too small.")
    table.add("unsent_bytes", "By", "Written by the program and not sent yet.")
    table.add("idle_seconds", "s", "Time since data was sent or received last.")
    rows = lambda sample: (({"peer": row.address, "process": row.process}, row) for row in sample.peers or ())  # noqa: E731
    return _Section(rows, tuple(table.metrics))


def _transport() -> _Section:
    def wrong(row: Any) -> _Values:
        return (({}, row.wrong_interface is not None),)

    table = _Table("transport", "transport", of_node=False)
    text = "Bytes by what carried them, both ways: own TCP connections to other hosts, in this one, and RDMA ports of the node."
    table.add("PLANE_bytes_total", "By", text, name="netmon_transport_bytes_total", labels=("plane",), values=_planes)
    words = ("plane", "interface")
    text = "1, with what carries the job's traffic."
    table.add("plane", "1", text, name="netmon_transport_info", labels=words, values=_known(*words))
    table.add("wrong_interface", "1", "1: the interface in use, or a variable that chooses one, seems wrong.", values=wrong)
    return _Section(lambda sample: _one(sample.transport), tuple(table.metrics))


def _collectives() -> _Section:
    table = _Table("collectives", "collective", ("op", "group", "size_bucket_bytes"), of_node=False)
    table.add("count", "{collective}", "Collectives called.", name="netmon_collectives_total")
    table.add("bytes_total", "By", "Sizes of collectives added up, as nccl-tests counts them.")
    table.add(
        "unfinished",
        "{collective}",
        "Collectives whose end is not known, or was an error.",
        name="netmon_collective_unfinished_total",
    )
    table.add("p50_seconds", "s", "Median time from call to end, in the last 60 s.")
    table.add("p95_seconds", "s", "95th percentile of the time from call to end, in the last 60 s.")
    table.add("max_seconds", "s", "Longest time from call to end, in the last 60 s.")
    table.add("algbw_bytes_per_second", "By/s", "Size / median time.")
    table.add("busbw_bytes_per_second", "By/s", "algbw x the factor of nccl-tests.")
    names = ("op", "group", "size_bucket_bytes")
    rows = lambda sample: (({n: getattr(row, n) for n in names}, row) for row in sample.collectives or ())  # noqa: E731
    return _Section(rows, tuple(table.metrics))


def _pending() -> _Section:
    table = _Table("collective_pending", "collective_pending", ("op", "group"), of_node=False)
    table.add("seconds", "s", "Since the oldest collective that is under way for long was called.")
    rows = lambda sample: (({"op": row.op, "group": row.group}, row) for _, row in _one(sample.collective_pending))  # noqa: E731
    return _Section(rows, tuple(table.metrics))


def _phases() -> _Section:
    def verdict(row: Any) -> _Values:
        return () if row.verdict is None else (({"verdict": row.verdict}, 1),)

    table = _Table("phases", "phase", ("phase",), of_node=False)
    table.add("count", "{part}", "Parts of the job of this name that have ended.", name="netmon_phase_parts_total")
    table.add("running", "{part}", "Parts under way, which are in nothing else.")
    table.add("seconds_total", "s", "Time from beginning to end.")
    table.add_both("bytes_total", "By", "Bytes {done} by the interfaces that count, meanwhile.", of_node=True)
    text = "Bytes by what carried them, both directions, meanwhile."
    table.add("PLANE_bytes_total", "By", text, name="netmon_phase_transport_bytes_total", labels=("plane",), values=_planes)
    table.add("segments_sent_total", "{segment}", "TCP segments sent meanwhile, of the namespace.", of_node=True)
    text = "TCP segments sent again meanwhile, of the namespace."
    table.add("segments_retransmitted_total", "{segment}", text, of_node=True)
    table.add("utilization_ratio", "1", "Mean rate of the direction that moved more / capacity.")
    table.add("peak_bytes_per_second", "By/s", "Highest rate of one direction in some 20 ms.")
    table.add("busy_ratio", "1", "Share of the time in which the busier direction carried 1 % or more of what it can.")
    table.add("full_ratio", "1", "Share of the time in which it carried 80 % of the capacity or more.")
    table.add("plateau_bytes_per_second", "By/s", "Rate at which the direction that moved more stayed longest.")
    table.add("steady_ratio", "1", "Share of the time in which it did.")
    table.add("waiting_ratio", "1", "Share of the time in which own connections waited for the network.")
    table.add("verdict", "1", "1, with what held it up.", name="netmon_phase_info", labels=("verdict",), values=verdict)
    return _Section(lambda sample: (({"phase": row.name}, row) for row in sample.phases or ()), tuple(table.metrics))


def _findings() -> _Section:
    table = _Table("findings", "findings", _FINDING, of_node=False)
    text = "Findings of this process's own connections; class network_clean: nothing is wrong."
    table.add("class", "1", text, name="netmon_findings", values=lambda number: (({}, number),))
    return _Section(lambda sample: _counted(sample.findings), tuple(table.metrics))


def _self() -> _Section:
    def healthy(row: Any) -> _Values:
        return (({}, row.health == "ok"),)

    table = _Table("self", "self", of_node=False)
    table.add("uptime_seconds", "s", "Time since the monitor was made.")
    table.add("cpu_seconds_total", "s", "CPU time of the monitor.")
    table.add("sample_seconds", "s", "Time that the newest sample took.")
    table.add("samples_total", "{sample}", "Samples taken.")
    table.add("dropped_total", "{sample}", "Samples of the loop that did not happen when they were due.")
    table.add("probe_bytes_total", "By", "Bytes sent by probes.")
    table.add("peers_read_seconds", "s", "Time that the reading of sockets took.")
    table.add("peers_age_seconds", "s", "Time since it began.")
    table.add("peers_sockets", "{connection}", "Connections of this process that it found.")
    table.add("collectives_dropped_total", "{record}", "Records of collectives that were lost.")
    table.add("collectives_unlisted_total", "{record}", "Records of collectives in no row, because there are 128 already.")
    table.add("health", "1", "1: nothing is wrong with the monitor.", name="netmon_self_healthy", values=healthy)
    return _Section(lambda sample: _one(sample.self), tuple(table.metrics))


def _top() -> _Section:
    table = _Table("", "", of_node=False)
    table.add("window_seconds", "s", "Time that ratios over the sample's window cover.")
    table.add("collective_ratio", "1", "Share of the sample's window in which a collective was under way.")
    return _Section(lambda sample: _one(sample), tuple(table.metrics))


def _job() -> _Section:
    table = _Table("job", "job", of_node=False)
    table.add("world_size", "{rank}", "Ranks of the job, as the launcher says.", name="netmon_world_size")
    return _Section(lambda sample: _one(sample.job), tuple(table.metrics))


SECTIONS = (
    _totals(), _interfaces(), _tcp(), _udp(), _ip(), _sockets(), _rdma(), _pcie(), _nvlink(),
    _transport(), _phases(), _collectives(), _pending(), _probes(), _peers(), _findings(), _job(), _self(), _top(),
)  # fmt: skip


def _view() -> _Section:
    """Return what is told of the whole job, by the process that makes its view: so once."""

    def ranks(view: ClusterView) -> _Values:
        totals = view.totals
        states = ("live", "late", "gone", "missing")
        return (({"state": state}, getattr(totals, f"{state}_ranks")) for state in states)

    def nodes(view: ClusterView) -> _Values:
        return (({}, view.totals.nodes),)

    def findings(view: ClusterView) -> _Values:
        return _counted(view.findings)

    table = _Table("view", "job", of_node=False)
    table.add("totals.nodes", "{node}", "Nodes of the job.", name="netmon_job_nodes", values=nodes)
    table.add(
        "totals.STATE_ranks", "{rank}", "Ranks of the job by state.", name="netmon_job_ranks", labels=("state",), values=ranks
    )
    text = "Findings of the whole job; class network_clean: nothing is wrong."
    table.add("findings", "1", text, name="netmon_job_findings", labels=_FINDING, values=findings)
    return _Section(_one, tuple(table.metrics))


VIEW = _view()
_WHERE = ("version", "hostname", "kernel", "network_namespace")
INFO = Metric("netmon_info", "1", "1, with what measures where.", _WHERE, "host", "", False, lambda row: ())
START = Metric("netmon_start_time_seconds", "s", "When counters began, since 1970.", (), "self", "", False, lambda row: ())

METRICS: tuple[Metric, ...] = (INFO, START, *(metric for section in (*SECTIONS, VIEW) for metric in section.metrics))
_PEERS = frozenset(metric.name for metric in METRICS if metric.source.startswith("peers."))


_lock = threading.Lock()
_starts: WeakKeyDictionary[Monitor, tuple[int, float]] = WeakKeyDictionary()


def _start_of(monitor: Monitor, uptime_seconds: float) -> float:
    """Return when its counters began, the same each time: in a forked child they begin anew."""
    with _lock:
        pid, start = _starts.get(monitor, (None, 0.0))
        if pid != os.getpid():
            start = round(time.time() - uptime_seconds, 3)
            _starts[monitor] = (os.getpid(), start)
    return start


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held the lock.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def read(
    monitor: Monitor, *, node: bool | None = None, peers: bool = False, labels: Mapping[str, str] | None = None
) -> list[Family]:
    """Measure now, and return what is known, family by family.

    Args:
        monitor: who measures.
        node: whether the values of the whole node are wanted; None: where this is the process of the node that tells them.
        peers: whether connections are told peer by peer.
        labels: further labels of all values.

    Raises:
        ClosedError: the monitor was closed.
    """
    sample = monitor.sample()
    job = sample.job
    if node is None:
        node = _node.tells(monitor, job)
    of_node = _labels({**(labels or {}), "node": sample.host.hostname})
    of_process = of_node if job is None else _labels({**of_node, "rank": job.rank})
    families = [
        Family(INFO, ((of_process | _labels(_info(sample)), 1),)),
        Family(START, ((of_process, _start_of(monitor, sample.self.uptime_seconds)),)),
    ]
    for section in SECTIONS:
        rows = [(_labels(own), row) for own, row in section.rows(sample)]
        for metric in section.metrics:
            if peers or metric.name not in _PEERS:
                families.append(Family(metric, _points(metric, rows, of_process, of_node if node else None)))
    view = _made_here(monitor, None if job is None else job.rank)
    if view is not None:
        families += [Family(metric, _points(metric, [({}, view)], of_process, None)) for metric in VIEW.metrics]
    return [family for family in families if family.points]


def _points(
    metric: Metric,
    rows: Iterable[tuple[Mapping[str, str], Any]],
    of_process: Mapping[str, str],
    of_node: Mapping[str, str] | None,
) -> tuple[tuple[Mapping[str, str], Number], ...]:
    """Return what is known of a metric; of two rows that cannot be told apart the first: two would spoil it all.

    What is of the node has its labels; None: another process tells that.
    """
    found: dict[frozenset[tuple[str, str]], tuple[Mapping[str, str], Number]] = {}
    for own, row in rows:
        for more, value in metric.values(row):
            common = of_node if metric.is_of_node(more) else of_process
            if value is not None and common is not None:
                labels = {**common, **own, **_labels(more)}
                found.setdefault(frozenset(labels.items()), (labels, int(value) if isinstance(value, bool) else value))
    return tuple(found.values())


def _labels(values: Mapping[str, object]) -> dict[str, str]:
    """Write labels; what is not known has none."""
    return {name: _word(value) for name, value in values.items() if value is not None and value != ""}


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _info(sample: Sample) -> Mapping[str, object]:
    host = sample.host
    return {
        "version": sample.self.version,
        "hostname": host.hostname,
        "kernel": host.kernel,
        "network_namespace": host.network_namespace,
    }


def _made_here(monitor: Monitor, rank: int | None) -> ClusterView | None:
    """Return the view of the job, where this process makes it; nothing is started for that."""
    if monitor._hold is None or rank is None:
        return None
    view = monitor.cluster()
    return view if view.sequence and view.aggregator_rank == rank else None
