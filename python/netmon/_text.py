"""Samples as text for people: units are chosen for reading here, and only here."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

from ._phase import PhaseRun
from ._types import (
    BandwidthTest,
    Collective,
    Finding,
    Interface,
    Interfaces,
    Path,
    Peer,
    Peers,
    Phases,
    Probe,
    Probes,
    RDMAPort,
    RDMAPorts,
    Sample,
)

_NONE = "-"
_WIDTH = 110
_MOST_ROWS = 16
_MOST_RANKS = 4

# What is shown, by its place in the document: only that is worth a word when it is not known.
_SHOWN = {
    "window_seconds": "",
    "host": "hostname kernel",
    "totals": "receive_bytes_per_second transmit_bytes_per_second capacity_bits_per_second",
    "tcp": "established retransmit_ratio timeouts_total listen_overflows_total",
    "udp": "receive_buffer_errors_total in_errors_total",
    "sockets": "tcp_in_use udp_in_use",
    "interfaces": "kind state link_speed_bits_per_second receive_errors_total transmit_errors_total receive_drops_total "
    "transmit_drops_total",
    "peers": "child_connections sent_bytes_per_second received_bytes_per_second rtt_seconds segments_retransmitted_total",
    "transport": "plane",
}


def bits_rate(bytes_per_second: float | None) -> str:
    """Write a rate in bits per second, in powers of a thousand as link speeds are."""
    if bytes_per_second is None:
        return _NONE
    value = bytes_per_second * 8
    for unit in ("bps", "kbps", "Mbps"):
        if value < 999.5:
            return f"{_three_digits(value)} {unit}"
        value /= 1000
    return f"{_three_digits(value)} Gbps"


def percent(ratio: float | None) -> str:
    """Write a share of one."""
    if ratio is None:
        return _NONE
    return "under 0.01 %" if 0 < ratio < 0.0001 else f"{_three_digits(ratio * 100)} %"


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if value < 99.95 else f"{value:.0f}"


def number(value: float | int | None) -> str:
    """Write a count."""
    return _NONE if value is None else str(value)


def duration(seconds: float | None) -> str:
    """Write a time in the unit that suits it."""
    if seconds is None:
        return _NONE
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        value = seconds * factor
        if value < 999.5:
            return f"{value:.3g} {unit}"
    return f"{seconds:.3g} s"


def amount(size: float | None) -> str:
    """Write a number of bytes, in powers of a thousand."""
    if size is None:
        return _NONE
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{_three_digits(size)} {unit}"
        size /= 1000
    return f"{_three_digits(size)} GB"


def printable(text: str) -> str:
    """Write a name that may hold anything, so that a terminal takes it for text."""
    return "".join(c if c.isprintable() else "?" for c in text)


def describe(sample: Sample, *, all_interfaces: bool = False) -> str:
    """Write a sample for people to read: every interface, or where there are many those that matter most."""
    host = sample.host
    window = "no window yet" if sample.window_seconds is None else f"over {sample.window_seconds:.2f} s"
    lines = [f"{printable(host.hostname or 'host unknown')} (Linux {host.kernel or 'unknown'}), {window}"]
    for name, said in (("job", _job(sample)), ("network", _network(sample)), *_protocols(sample), *_waiting(sample)):
        lines += [f"{name:<9} {said}"] if said else []
    lines += _transport(sample)
    lines += _findings(sample.findings or ())
    if sample.interfaces:
        lines += ["", *_table(sample.interfaces, None if all_interfaces else _MOST_ROWS, sample.self.uptime_seconds)]
    if sample.rdma:
        lines += ["", *_rdma(sample.rdma)]
    if sample.peers:
        lines += ["", *_peers(sample.peers, None if all_interfaces else _MOST_ROWS)]
    if sample.probes:
        lines += ["", *_probes(sample.probes)]
    if sample.collectives:
        lines += ["", *_collectives(sample.collectives, None if all_interfaces else _MOST_ROWS, sample.collective_ratio)]
    if sample.phases:
        lines += ["", *_phases(sample.phases)]
    cost = sample.self
    lines += ["", f"{'netmon':<9} {cost.health}; this sample took {cost.sample_seconds * 1e6:.0f} µs"]
    unknown = list(_unknown(sample))
    return "\n".join([*lines, *(["", "not known:", *unknown] if unknown else [])])


def _job(sample: Sample) -> str:
    job = sample.job
    if job is None:
        return ""
    said = [] if job.rank is None else [f"rank {job.rank}" + ("" if job.world_size is None else f" of {job.world_size}")]
    said += [] if job.node_rank is None else [f"node {job.node_rank}"]
    if job.master_address is not None:
        port = "" if job.master_port is None else f" port {job.master_port}"
        said.append(f"master {printable(job.master_address)}{port}")
    return ", ".join(said)


def _network(sample: Sample) -> str:
    totals = sample.totals
    if totals is None:
        reason = sample.reason("totals")
        return "" if reason in (None, "not in sources") else f"not known: {reason}"
    said = f"receive {bits_rate(totals.receive_bytes_per_second)}, transmit {bits_rate(totals.transmit_bytes_per_second)}"
    if totals.capacity_bits_per_second is None:
        return f"{said}, capacity not known"
    capacity = bits_rate(totals.capacity_bits_per_second / 8)
    return f"{said}, {percent(totals.utilization_ratio)} of {capacity}"


def _protocols(sample: Sample) -> Iterable[tuple[str, str]]:
    tcp, udp, sockets = sample.tcp, sample.udp, sample.sockets
    if tcp is not None:
        retransmitted = None if tcp.retransmit_ratio is None else percent(tcp.retransmit_ratio)
        yield (
            "tcp",
            _counts(
                (tcp.established, "connections"),
                (retransmitted, "of the segments retransmitted"),
                (tcp.timeouts_total, "timeouts"),
                (tcp.listen_overflows_total, "listen overflows"),
            ),
        )
    if udp is not None:
        yield "udp", _counts((udp.receive_buffer_errors_total, "receive buffer errors"), (udp.in_errors_total, "errors"))
    if sockets is not None:
        yield "sockets", _counts((sockets.tcp_in_use, "TCP"), (sockets.udp_in_use, "UDP"))


def _waiting(sample: Sample) -> Iterable[tuple[str, str]]:
    """Say which collective the job is stuck in."""
    pending = sample.collective_pending
    if pending is not None:
        call = "" if pending.sequence is None else f" {pending.sequence}"
        more = f", and {pending.count - 1} more" if pending.count > 1 else ""
        yield (
            "waiting",
            f"in {pending.op}{call} of {printable(pending.group)} ({pending.group_size} ranks, {amount(pending.bytes)}) "
            f"for {duration(pending.seconds)}{more}",
        )


def _counts(*counts: tuple[int | str | None, str]) -> str:
    return ", ".join(f"{value} {what}" for value, what in counts if value is not None)


def _transport(sample: Sample) -> Iterable[str]:
    """Say what carries the job's traffic, what is wrong with that, and what would change it."""
    transport = sample.transport
    if transport is None or transport.plane is None:
        return
    if transport.plane == "none" and not sample.rdma and not _job(sample):
        return  # nobody's job, and nothing it could use
    over = "" if transport.interface is None else f" over {transport.interface}"
    said = [f"{transport.plane}{over}" + ("" if transport.reason is None else f": {transport.reason}")]
    said += [] if transport.wrong_interface is None else [f"wrong interface: {transport.wrong_interface}"]
    # Without a port there is nothing to be idle.
    said += [f"RDMA is idle: {transport.rdma_idle_reason}"] if sample.rdma and transport.rdma_idle_reason else []
    said += [] if transport.advice is None else [f"advice: {transport.advice}"]
    for i, sentence in enumerate(said):
        yield _wrapped(printable(sentence), f"{'' if i else 'transport':<9} ", " " * 10)


def _findings(findings: Sequence[Finding]) -> Iterable[str]:
    """Say what is wrong, with what to do about it."""
    for i, finding in enumerate(findings):
        said = finding.text if finding.class_ == "network_clean" else f"{finding.severity}: {finding.text}"
        yield _wrapped(printable(said), f"{'' if i else 'findings':<9} ", " " * 10)
        if finding.class_ != "network_clean" and finding.advice:
            yield _wrapped(printable(finding.advice), " " * 10, " " * 10)


def _wrapped(text: str, first: str, other: str) -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=first, subsequent_indent=other, break_long_words=False, break_on_hyphens=False
    )


def _columns(rows: Sequence[Sequence[str]], words: int) -> list[str]:
    """Write rows below each other: columns of words, the first ones, begin so, and columns of numbers end so."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        columns = enumerate(zip(row, widths, strict=True))
        cells = (cell.ljust(width) if i < words else cell.rjust(width) for i, (cell, width) in columns)
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def _table(interfaces: Interfaces, most: int | None, uptime_seconds: float) -> list[str]:
    shown = list(interfaces) if most is None else _those_that_matter(interfaces, most)
    head = ("interface", "kind", "state", "link", "receive", "transmit", "errors", "drops")
    lines = _columns([head, *map(_row, shown)], words=3)
    left = set(interfaces) - set(shown)
    if left:
        kinds = Counter(f"{i.kind or 'unknown'} {i.state or ''}".strip() for i in left)
        lines.append(f"  and {len(left)} more: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))
    notes = ["* primary"] if any(i.primary for i in shown) else []
    notes += ["+ counted above"] if any(i.counted for i in shown) else []
    return [*lines, "  " + ", ".join([*notes, f"errors and drops in the last {uptime_seconds:.3g} s"])]


def _probes(probes: Probes) -> list[str]:
    rows: list[tuple[str, ...]] = [("target", "method", "rtt min", "p50", "p99", "jitter", "lost")]
    for p in probes:
        times = (p.rtt_min_seconds, p.rtt_p50_seconds, p.rtt_p99_seconds, p.jitter_seconds)
        lost = _NONE if p.loss_ratio is None else f"{p.lost} of {p.sent}"
        rows.append((printable(p.target), p.method or _NONE, *map(duration, times), lost))
    head, *lines = _columns(rows, words=2)
    errors = (f"  {printable(p.error)}" if p.error else "" for p in probes)
    return [head, *(line + error for line, error in zip(lines, errors, strict=True))]


def _phases(phases: Phases) -> list[str]:
    rows: list[tuple[str, ...]] = [("phase", "held up by", "times", "took", "received", "sent", "peak", "busy", "of capacity")]
    for p in phases:
        rows.append(
            (
                printable(p.name),
                (p.verdict or _NONE) + (", running" if p.running else ""),
                str(p.count),
                duration(p.seconds_total),
                amount(p.receive_bytes_total),
                amount(p.transmit_bytes_total),
                bits_rate(p.peak_bytes_per_second),
                percent(p.busy_ratio),
                percent(p.utilization_ratio),
            )
        )
    return _columns(rows, words=2)


def describe_run(run: PhaseRun) -> str:
    """Write what came of one phase, for people to read."""
    if run.seconds is None:
        return f"{printable(run.name)}: {printable(run.problem or 'running' if run.running or run.problem else 'not begun')}"
    figures = [duration(run.seconds)]
    figures += [] if run.verdict is None else [run.verdict]
    figures += [] if run.receive_bytes is None else [f"{amount(run.receive_bytes)} received, {amount(run.transmit_bytes)} sent"]
    figures += [] if run.peak_bytes_per_second is None else [f"peak {bits_rate(run.peak_bytes_per_second)}"]
    figures += [] if run.utilization_ratio is None else [f"{percent(run.utilization_ratio)} of the capacity"]
    figures += [] if run.retransmit_ratio is None else [f"{percent(run.retransmit_ratio)} of the segments retransmitted"]
    return f"{printable(run.name)}: {', '.join(figures)}"


def _rdma(ports: RDMAPorts) -> list[str]:
    head = ("RDMA port", "link layer", "state", "interface", "rate", "receive", "transmit")
    counted, *lines = _columns([head, *map(_port, ports)], words=4)
    # The kernel's names of what means trouble: only those that count now.
    trouble = ({n: v for n, v in (p.counters_per_second or {}).items() if v > 0} for p in ports)
    said = (", ".join(f"{n} {v:.3g}/s" for n, v in sorted(t.items())) for t in trouble)
    return [counted, *(f"{line}  {printable(t)}".rstrip() for line, t in zip(lines, said, strict=True))]


def _port(p: RDMAPort) -> tuple[str, ...]:
    return (
        printable(f"{p.device}/{p.port}"),
        p.link_layer or _NONE,
        p.state or _NONE,
        printable(p.interface or _NONE),
        bits_rate(None if p.rate_bits_per_second is None else p.rate_bits_per_second / 8),
        bits_rate(p.receive_bytes_per_second),
        bits_rate(p.transmit_bytes_per_second),
    )


def _collectives(rows: Sequence[Collective], most: int | None, ratio: float | None) -> list[str]:
    shown = list(rows)
    if most is not None and len(shown) > most:

        def weight(i: int) -> tuple[float, int]:
            return (shown[i].p50_seconds or 0) * shown[i].duration_count, shown[i].count

        costliest = set(sorted(range(len(shown)), key=weight, reverse=True)[:most])
        shown = [row for i, row in enumerate(shown) if i in costliest]
    head = ("collective", "group", "ranks", "size", "count", "p50", "p95", "busbw")
    lines = _columns([head, *map(_collective, shown)], words=2)
    left = len(rows) - len(shown)
    notes = [f"and {left} more"] if left else []
    notes += [] if ratio is None else [f"{percent(ratio)} of the time in collectives"]
    return [*lines, "  " + ", ".join(notes)] if notes else lines


def _collective(c: Collective) -> tuple[str, ...]:
    busbw = c.busbw_bytes_per_second
    return (
        c.op,
        printable(c.group),
        str(c.group_size),
        amount(c.bytes_total / c.count) if c.bytes_total else _NONE,
        str(c.count),
        duration(c.p50_seconds),
        duration(c.p95_seconds),
        _NONE if busbw is None else f"{busbw / 1e9:.3g} GB/s",
    )


def _peers(peers: Peers, most: int | None) -> list[str]:
    shown = list(peers)
    if most is not None and len(shown) > most:

        def weight(p: Peer) -> tuple[float, int]:
            return (p.sent_bytes_per_second or 0) + (p.received_bytes_per_second or 0), p.connections + p.child_connections

        busiest = set(sorted(range(len(shown)), key=lambda i: weight(shown[i]), reverse=True)[:most])
        shown = [p for i, p in enumerate(shown) if i in busiest]
    head = ("peer", "rank", "interface", "connections", "sent", "received", "rtt", "rtt min", "retransmitted")
    lines = _columns([head, *map(_peer, shown)], words=3)
    left = len(peers) - len(shown)
    return [*lines, f"  and {left} more"] if left else lines


def _peer(p: Peer) -> tuple[str, ...]:
    ranks = "-" if not p.ranks else ",".join(map(str, p.ranks)) if len(p.ranks) <= _MOST_RANKS else f"{len(p.ranks)} ranks"
    # Those that only children have are told apart: they are not this process's to use.
    connections = f"{p.connections}+{p.child_connections}" if p.child_connections else str(p.connections)
    again = p.segments_retransmitted_total
    return (
        printable(p.address) + ("" if p.process == "own" else f" {printable(p.process)}"),
        ranks,
        printable(p.interface or _NONE),
        connections,
        bits_rate(p.sent_bytes_per_second),
        bits_rate(p.received_bytes_per_second),
        duration(p.rtt_seconds),
        duration(p.rtt_min_seconds),
        _NONE if again is None or p.segments_sent_total is None else f"{again} of {p.segments_sent_total}",
    )


def describe_bandwidth(test: BandwidthTest) -> str:
    """Write what came of a test of throughput, for people to read."""
    way = {"transmit": "to", "receive": "from"}.get(test.direction, test.direction)
    whom = printable(test.target) or "a server of its choice"
    figures = []
    rate = test.sender_bytes_per_second if test.receiver_bytes_per_second is None else test.receiver_bytes_per_second
    if rate is not None:
        amount = [] if test.bytes is None else [f"{test.bytes / 1e6:.4g} MB"]
        amount += [] if test.seconds is None else [f"in {duration(test.seconds)}"]
        said = [" ".join(amount)] if amount else []
        said += [] if test.receiver_bytes_per_second is not None else ["by the sender's figure"]
        figures = [bits_rate(rate) + (f" ({', '.join(said)})" if said else "")]
        figures += [] if test.parallel is None else [f"{test.parallel} connection{'s' * (test.parallel != 1)}"]
        figures += [] if test.segments_retransmitted is None else [f"{test.segments_retransmitted} segments retransmitted"]
        figures += [] if test.rtt_seconds is None else [f"round trip {duration(test.rtt_seconds)}"]
    figures += [] if test.error is None else [printable(test.error)]
    return f"{test.tool} {way} {whom}: {', '.join(figures) or 'nothing was measured'}"


def describe_probe(p: Probe) -> str:
    """Write what came of probing a target, for people to read."""
    where = f" ({p.address})" if p.address not in (None, p.target) else ""
    lines = [
        f"{printable(p.target)}{where} by {p.method or 'no method'}: {p.received} of {p.sent} answered, "
        f"{percent(p.loss_ratio)} lost",
        f"  round trip min {duration(p.rtt_min_seconds)}, p50 {duration(p.rtt_p50_seconds)}, "
        f"p99 {duration(p.rtt_p99_seconds)}, jitter {duration(p.jitter_seconds)}",
    ]
    if p.error is not None:
        lines.append(f"  {printable(p.error)}")
    lines += [f"  not by {method}: {printable(reason)}" for method, reason in p.methods_refused.items()]
    return "\n".join(lines)


def describe_path(path: Path) -> str:
    """Write the hops to a target, for people to read."""
    where = f" ({path.address})" if path.address not in (None, path.target) else ""
    end = {True: "reached", False: "not reached", None: "not known whether reached"}[path.reached]
    mtu = "path MTU not known" if path.path_mtu_bytes is None else f"path MTU {path.path_mtu_bytes} bytes"
    lines = [f"path to {printable(path.target)}{where}: {len(path.hops)} hops, {end}, {mtu}"]
    if path.hops:
        rows: list[tuple[str, ...]] = [("hop", "address", "answered", "rtt min", "p50")]
        for hop in path.hops:
            times = (duration(hop.rtt_min_seconds), duration(hop.rtt_p50_seconds))
            rows.append((str(hop.ttl), hop.address or "no answer", f"{hop.received} of {hop.sent}", *times))
        head, *below = _columns(rows, words=2)
        errors = (f"  {printable(hop.error)}" if hop.error else "" for hop in path.hops)
        lines += [head, *(line + error for line, error in zip(below, errors, strict=True))]
    if path.error is not None:
        lines.append(f"  {printable(path.error)}")
    return "\n".join(lines)


def _those_that_matter(interfaces: Sequence[Interface], most: int) -> list[Interface]:
    if len(interfaces) <= most:
        return list(interfaces)

    def weight(i: Interface) -> tuple[bool, bool, float, bool]:
        trouble = (i.receive_errors_total, i.transmit_errors_total, i.receive_drops_total, i.transmit_drops_total)
        moving = (i.receive_bytes_per_second or 0) + (i.transmit_bytes_per_second or 0)
        return bool(i.primary), any(trouble), moving, i.state in ("up", "unknown")

    heaviest = sorted(interfaces, key=weight, reverse=True)[:most]
    chosen = {i for i in heaviest if any(weight(i))} or set(heaviest)
    return [i for i in interfaces if i in chosen]


def _row(i: Interface) -> tuple[str, ...]:
    marks = ("*" if i.primary else "") + ("+" if i.counted else "")
    return (
        printable(i.name) + (f" {marks}" if marks else ""),
        i.kind or _NONE,
        i.state or _NONE,
        bits_rate(None if i.link_speed_bits_per_second is None else i.link_speed_bits_per_second / 8),
        bits_rate(i.receive_bytes_per_second),
        bits_rate(i.transmit_bytes_per_second),
        number(_sum(i.receive_errors_total, i.transmit_errors_total)),
        number(_sum(i.receive_drops_total, i.transmit_drops_total)),
    )


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _unknown(sample: Sample) -> Iterable[str]:
    """Say why what is shown is not known, a reason once."""
    names: dict[str, list[str]] = {}
    for name, reason in sorted(sample.unavailable.items()):
        section, _, field = name.partition(".")
        # Why there are no totals the network's own line says.
        shown = section in _SHOWN and name != "totals" and (not field or field in _SHOWN[section].split())
        if shown and reason != "not in sources":
            names.setdefault(reason, []).append(name)
    for reason, about in names.items():
        yield _wrapped(f"{', '.join(about)}: {printable(reason)}", "  ", "    ")
