"""Samples as text for people: units are chosen for reading here, and only here."""

from __future__ import annotations

from ._types import Interface, Path, Probe, Sample

_NONE = "-"


def bits_rate(bytes_per_second: float | None) -> str:
    """Write a rate in bits per second, in powers of a thousand as link speeds are."""
    if bytes_per_second is None:
        return _NONE
    value = bytes_per_second * 8
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if value < 1000:
            return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.3g} Gbit/s" if value < 100 else f"{value:.0f} Gbit/s"


def amount(value: int | None) -> str:
    """Write a number of bytes in powers of a thousand."""
    if value is None:
        return _NONE
    number = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def percent(ratio: float | None) -> str:
    """Write a share of one."""
    return _NONE if ratio is None else f"{ratio * 100:.3g} %"


def number(value: float | int | None) -> str:
    """Write a count."""
    return _NONE if value is None else str(value)


def duration(seconds: float | None) -> str:
    """Write a time in the unit that suits it."""
    if seconds is None:
        return _NONE
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        value = seconds * factor
        if value < 999.5:
            return f"{value:.3g} {unit}"
    return f"{seconds:.3g} s"


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _interface_row(i: Interface) -> list[str]:
    marks = ("*" if i.primary else "") + ("+" if i.counted else "")
    speed = None if i.link_speed_bits_per_second is None else i.link_speed_bits_per_second / 8
    return [
        i.name + (f" {marks}" if marks else ""),
        i.kind or _NONE,
        i.state or _NONE,
        bits_rate(speed),
        bits_rate(i.receive_bytes_per_second),
        bits_rate(i.transmit_bytes_per_second),
        number(_sum(i.receive_errors_total, i.transmit_errors_total)),
        number(_sum(i.receive_drops_total, i.transmit_drops_total)),
    ]


def _lost(p: Probe) -> str:
    return _NONE if p.loss_ratio is None else f"{p.lost} of {p.sent}"


def _probe_row(p: Probe) -> list[str]:
    times = (p.rtt_min_seconds, p.rtt_p50_seconds, p.rtt_p99_seconds, p.jitter_seconds)
    return [p.target, p.method or _NONE, *(duration(time) for time in times), _lost(p), p.error or ""]


def describe_probe(p: Probe) -> str:
    """Write what came of probing a target, for people to read."""
    where = f" ({p.address})" if p.address not in (None, p.target) else ""
    lines = [
        f"{p.target}{where} by {p.method or 'no method'}: {p.received} of {p.sent} answered, {percent(p.loss_ratio)} lost",
        f"  round trip min {duration(p.rtt_min_seconds)}, p50 {duration(p.rtt_p50_seconds)}, "
        f"p99 {duration(p.rtt_p99_seconds)}, jitter {duration(p.jitter_seconds)}",
    ]
    if p.error is not None:
        lines.append(f"  {p.error}")
    lines += [f"  not by {method}: {reason}" for method, reason in p.methods_refused.items()]
    return "\n".join(lines)


def describe_path(path: Path) -> str:
    """Write the hops to a target, for people to read."""
    where = f" ({path.address})" if path.address not in (None, path.target) else ""
    end = {True: "reached", False: "not reached", None: "not known whether reached"}[path.reached]
    mtu = "path MTU not known" if path.path_mtu_bytes is None else f"path MTU {path.path_mtu_bytes} bytes"
    lines = [f"path to {path.target}{where}: {len(path.hops)} hops, {end}, {mtu}"]
    if path.hops:
        rows = [
            [
                f"{hop.ttl:2}",
                hop.address or "no answer",
                f"{hop.received} of {hop.sent}",
                duration(hop.rtt_min_seconds),
                duration(hop.rtt_p50_seconds),
                hop.error or "",
            ]
            for hop in path.hops
        ]
        lines += _table([["hop", "address", "answered", "rtt min", "p50", ""], *rows])
    if path.error is not None:
        lines.append(f"  {path.error}")
    return "\n".join(lines)


def describe(sample: Sample) -> str:
    """Write a sample for people to read."""
    host, job, totals, tcp = sample.host, sample.job, sample.totals, sample.tcp
    window = f"over {sample.window_seconds:.2f} s" if sample.window_seconds is not None else "no window yet"
    lines = [f"{host.hostname or 'host unknown'} (Linux {host.kernel or '?'}), {window}"]
    if job is not None and job.rank is not None:
        lines.append(
            f"rank {job.rank} of {number(job.world_size)}, node {number(job.node_rank)}, "
            f"master {job.master_address or _NONE}:{number(job.master_port)}"
        )
    if totals is not None:
        lines.append(
            f"network   receive {bits_rate(totals.receive_bytes_per_second)}, "
            f"transmit {bits_rate(totals.transmit_bytes_per_second)}, "
            f"{percent(totals.utilization_ratio)} of {_capacity(totals.capacity_bits_per_second)}"
        )
    if tcp is not None:
        lines.append(
            f"tcp       {number(tcp.established)} connections, {percent(tcp.retransmit_ratio)} retransmitted, "
            f"{number(tcp.timeouts_total)} timeouts, {number(tcp.listen_overflows_total)} listen overflows since the start"
        )
    if sample.udp is not None:
        lines.append(
            f"udp       {number(sample.udp.receive_buffer_errors_total)} receive buffer errors, "
            f"{number(sample.udp.in_errors_total)} errors since the start"
        )
    if sample.interfaces:
        header = ["interface", "kind", "state", "link", "receive", "transmit", "errors", "drops"]
        lines += ["", *_table([header, *(_interface_row(i) for i in sample.interfaces)])]
        lines.append("  * primary, + counted above; errors and drops since the start")
    if sample.probes:
        header = ["target", "method", "rtt min", "p50", "p99", "jitter", "lost", ""]
        lines += ["", *_table([header, *(_probe_row(p) for p in sample.probes)])]
    cost = sample.self
    lines += ["", f"netmon    {cost.health}; this sample took {cost.sample_seconds * 1e6:.0f} us"]
    missing = {k: v for k, v in sample.unavailable.items() if v not in ("not measured by this version", "not in sources")}
    if missing:
        lines += ["", "not known:", *(f"  {name}: {reason}" for name, reason in sorted(missing.items()))]
    return "\n".join(lines)


def _capacity(bits_per_second: int | None) -> str:
    return "an unknown capacity" if bits_per_second is None else bits_rate(bits_per_second / 8)
