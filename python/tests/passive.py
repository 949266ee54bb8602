"""What netmon says of traffic that it did not make, each time beside somebody else who counts the same.

The tests judge what these functions return, and ``make bench-truth`` writes it into docs/accuracy.md.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import traffic
from agent import Agent, agent
from counted import Counted, counting, rates_inside
from lab import Host, Namespace

_IPERF3_PORT = 5201

# What of a full Ethernet frame is TCP's data: 20 bytes of IP, 32 of TCP with time stamps, 14 of Ethernet.
DATA_RATIO = 1448 / 1514


def congestion_controls() -> list[str]:
    """Return which of CUBIC and BBR this kernel has."""
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text(encoding="ascii").split()
    return [name for name in ("cubic", "bbr") if name in available]


# iperf3


@contextmanager
def iperf3_server(where: Namespace) -> Iterator[None]:
    """Run an iperf3 server in a namespace."""
    server = where.start("iperf3", "-s", "-p", str(_IPERF3_PORT), "--forceflush", stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        while "listening" not in (line := server.stdout.readline()):
            assert line, "the iperf3 server died"
        yield
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def iperf3(here: Namespace, there: Namespace, seconds: float, *options: str) -> float:
    """Send from here to the iperf3 server there (``-R``: the other way), and return the bytes per second that came."""
    words = (
        "-c",
        there.address,
        "-p",
        str(_IPERF3_PORT),
        "-t",
        f"{seconds:g}",
        "--json",
        "--connect-timeout",
        "5000",
        *options,
    )
    done = here.run("iperf3", *words, check=False, timeout=seconds + 60)
    found = json.loads(done.stdout)
    assert "error" not in found, found["error"]
    return float(found["end"]["sum_received"]["bits_per_second"]) / 8


# Throughput


@dataclass(frozen=True)
class Throughput:
    """Bytes per second of one end, by netmon and by the kernel's counters, over the windows inside a transfer."""

    netmon: float
    counted: float
    best: float  # netmon's highest rate of a window
    best_of_windows: float  # the highest of the rates in its history
    total: int  # all bytes since before the transfer, by netmon
    total_counted: int  # by ip -s link, read when the link was quiet


def throughput(here: Host, there: Host, bits_per_second: float, seconds: float, interval: float = 0.5) -> list[Throughput]:
    """Send over a link with a set rate, and return what its sender and its receiver saw."""
    here.egress.limit_rate(bits_per_second)
    ends = ((here, "transmit", "tx"), (there, "receive", "rx"))
    with iperf3_server(there), agent(here, interval=interval) as sender, agent(there, interval=interval) as receiver:
        agents = (sender, receiver)
        before = [host.link_counters()[words]["bytes"] for host, _, words in ends]
        first = [monitor.sample()["totals"] for monitor in agents]
        with counting(here) as sent, counting(there) as received:
            iperf3(here, there, seconds)
        last = [monitor.sample()["totals"] for monitor in agents]
        after = [host.link_counters()[words]["bytes"] for host, _, words in ends]
        histories = [monitor.history() for monitor in agents]
    return [
        Throughput(
            *rates_inside(history, counted, direction),
            best=late[f"{direction}_best_bytes_per_second"],
            best_of_windows=max(s["totals"][f"{direction}_bytes_per_second"] for s in history if s["window_seconds"]),
            total=late[f"{direction}_bytes_total"] - early[f"{direction}_bytes_total"],
            total_counted=end - begin,
        )
        for (_, direction, _), counted, history, early, late, begin, end in zip(
            ends, (sent, received), histories, first, last, before, after, strict=True
        )
    ]


# Peaks


@dataclass(frozen=True)
class Fine:
    """What a window's fine intervals say, by netmon, and between which values it is, wherever those intervals begin."""

    name: str
    netmon: float
    least: float
    most: float


def fine(here: Host, there: Host, bits_per_second: float, interval: float, spells: int) -> list[Fine]:
    """Send for a quarter of a second at a set rate and pause as long, by turns, while netmon samples finely."""
    here.egress.limit_rate(bits_per_second, burst_bytes=max(20_000, int(bits_per_second / 8 * 0.001)))
    spell = 0.25
    with traffic.serving(there), agent(here, interval=4 * spell) as monitor, counting(here, 0.002) as counted:
        (connection,) = monitor.ask(f"traffic.connect({there.address!r})")
        monitor.ask(f"bool(monitor.sample_finely(seconds={2 * spell * spells + 5}, interval={interval}))")
        amount = int(bits_per_second / 8 * DATA_RATIO * spell)
        monitor.ask(f"traffic.send_by_turns({connection}, {amount}, {spell}, {spells})")
        history = monitor.history()
    begin, end = counted.busy("transmit", 0.0001)
    found = []
    for sample in history:
        totals, to, window = sample["totals"], sample["monotonic_seconds"], sample["window_seconds"]
        if window and begin <= to - window and to <= end:
            said = {name: totals[f"transmit_{name}_bytes_per_second"] for name in ("peak", "p95")}
            said["busy_ratio"] = totals["busy_ratio"]
            if "no processor free" in sample["unavailable"].get("totals.busy_ratio", ""):
                continue
            assert None not in said.values(), sample["unavailable"]
            capacity = totals["capacity_bits_per_second"]
            threshold = 0.01 * (capacity / 8 if capacity else totals["transmit_best_bytes_per_second"])
            replayed = [_replay(counted, to - window + phase / 10 * interval, to, interval, threshold) for phase in range(10)]
            found += [
                Fine(name, value, *(select(replay[name] for replay in replayed) for select in (min, max)))
                for name, value in said.items()
            ]
    assert found, (begin, end, [s["monotonic_seconds"] for s in history])
    return found


def _replay(counted: Counted, begin: float, end: float, interval: float, threshold: float) -> dict[str, float]:
    """Do with what was counted what netmon says it does."""
    cells = int((end - begin) / interval)
    rates = [counted.rate(begin + i * interval, begin + (i + 1) * interval, "transmit") for i in range(cells)]
    busy = sum(rate >= threshold for rate in rates) / len(rates)
    return {"peak": max(rates), "p95": statistics.quantiles(rates, n=20, method="inclusive")[-1], "busy_ratio": busy}


# Own connections


def row(sample: Mapping[str, Any], address: str, process: str = "own") -> dict[str, Any] | None:
    """Return what a sample says of the connections to an address."""
    rows: list[dict[str, Any]] = [p for p in sample["peers"] or () if (p["address"], p["process"]) == (address, process)]
    assert len(rows) < 2, rows
    return rows[0] if rows else None


def settled(monitor: Agent, address: str, holds: Callable[[dict[str, Any]], bool] = lambda row: True) -> dict[str, Any]:
    """Wait until something holds of the row of an address and two readings of it are the same, and return it.

    Sockets are not always read for the sample: what counts are readings from now on.
    """
    moving = ("age", "idle", "per_second", "ratio")

    def still(row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if not any(word in name for word in moving)}

    asked = time.monotonic()
    before: tuple[float, dict[str, Any]] | None = None
    while True:
        sample = monitor.sample()
        found = row(sample, address)
        if found is not None and holds(found):
            read_at = sample["monotonic_seconds"] - sample["self"]["peers_age_seconds"]
            if read_at > asked and (before is None or before[1] != still(found)):
                before = read_at, still(found)
            elif before is not None and read_at > before[0] + 0.05:
                return found
        assert time.monotonic() < asked + 30, f"not settled within 30 s: {before}, {found}"
        time.sleep(0.06)


@dataclass(frozen=True)
class Retransmissions:
    """Segments of one connection, by netmon and by ss, and the packets of it that a filter dropped."""

    sent: int
    retransmitted: int
    duplicates: int
    dropped: int
    by_ss: tuple[int, ...]  # sent, retransmitted, duplicates

    @property
    def lost(self) -> int:
        """How many packets netmon says were lost."""
        return self.retransmitted - self.duplicates


def retransmissions(here: Host, there: Host, every: int, amount: int) -> Retransmissions:
    """Send so many bytes, of whose packets exactly every so many-th is dropped on its way."""
    with traffic.serving(there), agent(here, interval=1) as monitor:
        (connection,) = monitor.ask(f"traffic.connect({there.address!r})")
        before = there.ingress.dropped().packets
        there.ingress.lose(every=every, only=f"tcp dport {traffic.PORT} meta length > 500")
        monitor.ask(f"traffic.send({connection}, {amount})")
        there.ingress.lose_nothing()
        found = settled(monitor, there.address)
        shown = by_ss(here, monitor.ask(f"traffic.port_of({connection})"))
        dropped = there.ingress.dropped().packets - before
    names = ("segments_sent_total", "segments_retransmitted_total", "duplicates_reported_total")
    return Retransmissions(*(found[name] for name in names), dropped, tuple(round(shown[name]) for name in names))


# What ss prints of a socket, and what netmon calls it: a pattern, and the factor to netmon's unit. Where the socket is the only
# one of its peer, sums over connections are its own numbers.
SS = {
    "rtt_seconds": (r"\brtt:([\d.]+)/", 1e-3),
    "rtt_variation_seconds": (r"\brtt:[\d.]+/([\d.]+)", 1e-3),
    "rtt_min_seconds": (r"\bminrtt:([\d.]+)", 1e-3),
    "segments_sent_total": (r"\bsegs_out:(\d+)", 1),
    "segments_retransmitted_total": (r"\bretrans:\d+/(\d+)", 1),
    "duplicates_reported_total": (r"\bdsack_dups:(\d+)", 1),
    "delivery_bytes_per_second": (r"\bdelivery_rate (\d+)bps", 1 / 8),
    "received_bytes_total": (r"\bbytes_received:(\d+)", 1),
    "unsent_bytes": (r"\bnotsent:(\d+)", 1),
}


def by_ss(where: Namespace, port: int) -> dict[str, float]:
    """Return what ``ss -ti`` says of the connection with a local port, by netmon's names; it leaves out what is 0."""
    shown = where.run("ss", "-tinH", "sport", "=", f":{port}").stdout
    assert shown.count("minrtt:") == 1, shown
    found = {name: (re.search(pattern, shown), factor) for name, (pattern, factor) in SS.items()}
    return {name: float(match[1]) * factor if match else 0.0 for name, (match, factor) in found.items()}


@dataclass(frozen=True)
class RoundTrip:
    """What netmon and ss say of the same connection, and what the relay held of it at least."""

    netmon: dict[str, Any]
    ss: dict[str, float]
    held_least: float


def round_trip(here: Host, there: Host, delay: float, sends: int = 40) -> RoundTrip:
    """Send over a link that is delayed, one way, and look at the connection when it rests."""
    there.ingress.delay(delay)
    with traffic.serving(there), agent(here, interval=1) as monitor:
        (connection,) = monitor.ask(f"traffic.connect({there.address!r})")
        for _ in range(sends):
            monitor.ask(f"traffic.send({connection}, 20000)")
        port = monitor.ask(f"traffic.port_of({connection})")
        netmon = settled(monitor, there.address)
        ss = by_ss(here, port)
        assert ss == by_ss(here, port), "it does not rest"
    holds = [h.seconds for h in there.ingress.holds() if h.protocol == 6 and h.source_port == port]
    return RoundTrip(netmon, ss, min(holds))


# Bandwidth on demand


@dataclass(frozen=True)
class Bandwidth:
    """Bytes per second that came, by netmon's own test and by iperf3, one after the other on the same link."""

    direction: str
    netmon: float
    iperf3: float


def bandwidth(here: Host, there: Host, bits_per_second: float, seconds: float) -> list[Bandwidth]:
    """Measure a link whose two directions have the same rate."""
    for direction in (here.egress, here.ingress):
        # Long enough to make up for what a busy machine misses.
        direction.limit_rate(bits_per_second, burst_bytes=max(64_000, int(bits_per_second / 8 * 0.02)))
    server = {"address": there.address, "port": 29542}
    with iperf3_server(there), agent(there, interval=60, bandwidth_server=server), agent(here, interval=60) as monitor:
        call = f"monitor.measure_bandwidth({there.address!r}, seconds={seconds}, direction='both')"
        tests = monitor.ask(f"[(test.direction, test.error, test.receiver_bytes_per_second) for test in {call}]")
        assert all(error is None for _, error, _ in tests), tests
        options: dict[str, tuple[str, ...]] = {"transmit": (), "receive": ("-R",)}
        return [Bandwidth(way, rate, iperf3(here, there, seconds, *options[way])) for way, _, rate in tests]
