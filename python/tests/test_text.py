"""Samples for people: ``python -m netmon`` and ``str(sample)``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

import netmon
from netmon._text import amount, bits_rate, describe, percent, printable


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """A document with everything in it, whatever this machine has: two interfaces, one of them that of the job."""
    with netmon.Monitor(interval=3600) as monitor:
        document = monitor.sample().to_dict()
    lo = next(row for row in document["interfaces"] if row["name"] == "lo")
    rates = {f"{way}_{what}_per_second": 0.0 for way in ("receive", "transmit") for what in ("bytes", "packets")}
    totals = {name: 0 for name in lo if name.endswith("_total")}
    lo |= rates | totals | {"counted": False, "primary": False, "state": "unknown"}
    eth = {**lo, "name": "eth0", "kind": "physical", "state": "up", "counted": True, "primary": True}
    eth |= {"link_speed_bits_per_second": 25_000_000_000, "receive_bytes_per_second": 125e6, "receive_drops_total": 7}
    names = document["totals"] or netmon.Totals.__dataclass_fields__
    document["totals"] = dict.fromkeys(names, 0) | {
        "receive_bytes_per_second": 125e6,
        "transmit_bytes_per_second": 1250.0,
        "capacity_bits_per_second": 25_000_000_000,
        "utilization_ratio": 0.04,
    }
    document["tcp"] |= {"established": 12, "retransmit_ratio": 0.00123, "timeouts_total": 3, "listen_overflows_total": 0}
    document["udp"] |= {"receive_buffer_errors_total": 5, "in_errors_total": 6}
    document["sockets"] |= {"tcp_in_use": 14, "udp_in_use": 2}
    job = {"rank": 1, "world_size": 4, "node_rank": 0, "master_address": "10.0.0.2", "master_port": 29500}
    document["job"] = dict.fromkeys(netmon.Job.__dataclass_fields__) | job
    document["host"] |= {"hostname": "node7", "kernel": "6.18.0"}
    document["self"] |= {"sample_seconds": 0.000271, "uptime_seconds": 61.0, "health": "ok"}
    # What test_sections.py looks at.
    document |= dict.fromkeys(("peers", "rdma", "pcie", "nvlink", "transport"))
    return {**document, "interfaces": [lo, eth], "window_seconds": 1.0, "unavailable": {}}


def text(document: dict[str, Any], **changes: Any) -> str:
    return describe(netmon.Sample(json.loads(json.dumps({**document, **changes}))))


def test_everything(measured):
    assert text(measured) == str(netmon.Sample(measured))
    assert text(measured).splitlines() == [
        "node7 (Linux 6.18.0), over 1.00 s",
        "job       rank 1 of 4, node 0, master 10.0.0.2 port 29500",
        "network   receive 1 Gbps, transmit 10 kbps, 4 % of 25 Gbps",
        "tcp       12 connections, 0.123 % of the segments retransmitted, 3 timeouts, 0 listen overflows",
        "udp       5 receive buffer errors, 6 errors",
        "sockets   14 TCP, 2 UDP",
        "",
        "  interface  kind      state       link  receive  transmit  errors  drops",
        "  lo         loopback  unknown        -    0 bps     0 bps       0      0",
        "  eth0 *+    physical  up       25 Gbps   1 Gbps     0 bps       0      7",
        "  * primary, + counted above, errors and drops in the last 61 s",
        "",
        "netmon    ok; this sample took 271 µs",
    ]


def test_what_is_not_known_is_never_zero(measured):
    reason = "permission denied"
    unknown = {**measured, "window_seconds": None, "job": None, "unavailable": {}}
    for section in ("totals", "udp"):
        unknown[section] = None
        unknown["unavailable"][section] = reason
    for section in ("tcp", "sockets"):
        unknown[section] = dict.fromkeys(measured[section])
        unknown["unavailable"] |= {f"{section}.{name}": reason for name in measured[section]}
    rows = [{**row, **{n: None for n in row if n.endswith(("_total", "_second"))}} for row in measured["interfaces"]]
    unknown["interfaces"] = rows
    said = text(unknown)
    assert said.startswith("node7 (Linux 6.18.0), no window yet\nnetwork   not known: permission denied\n\n")
    table = said.partition("interface  ")[2].partition("  * primary")[0].splitlines()[1:]
    assert [line.split()[-5:] for line in table] == [["-"] * 5] * 2
    # A reason once, for all that is shown and no more.
    assert said.count(reason) == 2
    assert "tcp.established" in said
    assert "tcp.resets_sent_total" not in said
    assert max(map(len, said.splitlines())) <= 110


def test_of_many_interfaces_those_that_matter(measured):
    lo, eth = measured["interfaces"]
    idle = {**eth, "state": "down", "kind": "veth", "primary": False, "receive_bytes_per_second": 0.0, "receive_drops_total": 0}
    rows = [lo, *({**idle, "name": f"idle{i}"} for i in range(300))]
    rows += [{**idle, "name": f"moving{i}", "transmit_bytes_per_second": 1.0 + i, "state": "up"} for i in range(50)]
    rows += [{**idle, "name": "dropping", "transmit_drops_total": 1}, {**idle, "name": "job", "primary": True}]
    document = {**measured, "interfaces": rows}
    table = text(document).partition("interface  ")[2].partition("\n\n")[0].splitlines()[1:]
    names = [line.split()[0] for line in table[:-2]]
    # In the kernel's order: the job's, the one with trouble, and the busiest.
    assert names == [*(f"moving{i}" for i in range(36, 50)), "dropping", "job"]
    assert table[-2] == "  and 337 more: 300 veth down, 36 veth up, 1 loopback unknown"
    still = [{**row, "name": f"still{i}"} for i, row in enumerate([idle] * 20)]
    assert "  and 4 more: 4 veth down\n" in text(measured, interfaces=still)
    everything = describe(netmon.Sample(document), all_interfaces=True)
    assert "more:" not in everything
    assert all(f" {row['name']} " in everything for row in rows)


COLLECTIVE = {
    "op": "all_reduce",
    "group": "default_pg",
    "group_size": 4,
    "size_bucket_bytes": 1 << 25,
    "count": 12,
    "bytes_total": 12 * 40_000_000,
    "unfinished": 0,
    "p50_seconds": 0.0123,
    "p95_seconds": 0.02,
    "max_seconds": 0.03,
    "algbw_bytes_per_second": 3.25e9,
    "busbw_bytes_per_second": 4.88e9,
    "duration_count": 12,
    "end_exact_ratio": 1.0,
    "source": "torch hooks",
}
UNKNOWN = dict.fromkeys([name for name in COLLECTIVE if name.endswith(("_seconds", "_per_second"))])


def test_collectives(measured):
    barrier = COLLECTIVE | UNKNOWN | {"op": "barrier", "group": "mesh\n:1", "bytes_total": 0, "count": 3, "duration_count": 0}
    pending = {"op": "all_reduce", "group": "default_pg", "group_size": 4, "bytes": 40_000_000}
    pending |= {"sequence": 17, "seconds": 3.25, "count": 2}
    said = text(measured, collectives=[COLLECTIVE, barrier], collective_ratio=0.4, collective_pending=pending).splitlines()
    assert said[6] == "waiting   in all_reduce 17 of default_pg (4 ranks, 40 MB) for 3.25 s, and 1 more"
    assert said[-7:-1] == [
        "",
        "  collective  group       ranks   size  count      p50    p95      busbw",
        "  all_reduce  default_pg      4  40 MB     12  12.3 ms  20 ms  4.88 GB/s",
        "  barrier     mesh?:1         4      -      3        -      -          -",
        "  40 % of the time in collectives",
        "",
    ]
    pending |= {"sequence": None, "count": 1}
    assert (
        "waiting   in all_reduce of default_pg (4 ranks, 40 MB) for 3.25 s"
        in text(measured, collectives=[], collective_pending=pending).splitlines()
    )
    assert "collective" not in text(measured, collectives=[], collective_ratio=0.0)


def test_of_many_collectives_those_that_cost_most(measured):
    rows = [COLLECTIVE | {"op": f"op{i}", "p50_seconds": 0.001 * (i % 20)} for i in range(40)]
    said = text(measured, collectives=rows)
    assert "op39 " in said
    assert "op20 " not in said
    assert "  and 24 more" in said.splitlines()
    assert all(f"op{i} " in describe(netmon.Sample({**measured, "collectives": rows}), all_interfaces=True) for i in range(40))


@pytest.mark.parametrize(("size", "said"), [(4, "4 B"), (4096, "4.1 kB"), (64 << 20, "67.1 MB"), (3e9, "3 GB")])
def test_amounts(size, said):
    assert amount(size) == said


def test_names_are_only_text(measured):
    """An interface may be called nearly anything; a terminal must not obey it."""
    hostile = [{**row, "name": "\x1b[31m\u202e"} for row in measured["interfaces"]]
    said = text(measured, interfaces=hostile, host={**measured["host"], "hostname": "a\x07b"})
    assert all(c.isprintable() or c == "\n" for c in said)
    assert said.startswith("a?b (")
    assert printable("eth0") == "eth0"


@pytest.mark.parametrize(
    ("bytes_per_second", "said"),
    [
        (None, "-"),
        (0, "0 bps"),
        (0.04, "0.32 bps"),
        (124.9, "999 bps"),
        (125, "1 kbps"),
        (124_999, "1 Mbps"),
        (1.5e6, "12 Mbps"),
        (12_345_678, "98.8 Mbps"),
        (12_500_000, "100 Mbps"),
        (125e6, "1 Gbps"),
        (50e9, "400 Gbps"),
        (500e9, "4000 Gbps"),
    ],
)
def test_rates(bytes_per_second, said):
    assert bits_rate(bytes_per_second) == said


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (None, "-"),
        (0.0, "0 %"),
        (1.71e-7, "under 0.01 %"),
        (0.0001, "0.01 %"),
        (0.5, "50 %"),
        (1.0, "100 %"),
        (12.34, "1234 %"),
    ],
)
def test_shares(ratio, said):
    assert percent(ratio) == said


def command(*arguments: str, prefix: tuple[str, ...] = (), **variables: str) -> str:
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "netmon", "--seconds", "0.05", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_in_a_namespace_with_loopback_alone(namespace):
    inside = ("ip", "netns", "exec", namespace)
    said = command(prefix=inside)
    assert "network   not known: none of the interfaces here is chosen to count: lo (loopback)\n" in said
    assert "network   receive 0 bps, transmit 0 bps, capacity not known\n" in command("--interfaces", "lo", prefix=inside)


def test_all_interfaces_when_asked(namespace):
    links = "".join(f"link add veth{i} type veth peer name peer{i}\n" for i in range(10))
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input=links, text=True, check=True, timeout=60)
    inside = ("ip", "netns", "exec", namespace)
    assert "  lo         loopback" in command(prefix=inside)
    assert "  and 20 more: 20 veth down\n" in command(prefix=inside)
    assert "veth9 +" in command("--all", prefix=inside)


def test_without_rights():
    """The kernel shows its counters to everybody."""
    if os.geteuid() != 0:
        pytest.skip("only root can give its rights away")
    prefix = ("setpriv", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
    said = command(prefix=prefix)
    assert "netmon    ok;" in said


def test_in_an_encoding_that_lacks_letters():
    assert "this sample took" in command(PYTHONIOENCODING="ascii")


def test_phases(measured):
    unknown = dict.fromkeys(netmon.Phase.__dataclass_fields__) | {
        "count": 0,
        "running": 1,
        "seconds_total": 0.0,
        "name": "ev\nal",
    }
    sync = unknown | {"name": "weight_sync", "count": 12, "running": 0, "seconds_total": 12.5, "verdict": "link-bound"}
    sync |= {"receive_bytes_total": 508_267, "transmit_bytes_total": 26_139_828, "peak_bytes_per_second": 25e6}
    sync |= {"busy_ratio": 1.0, "utilization_ratio": 0.0198}
    lines = text(measured, phases=[sync, unknown]).splitlines()
    at = next(i for i, line in enumerate(lines) if "held up by" in line)
    assert [line.split(maxsplit=1)[1] for line in lines[at : at + 2]] == [
        "held up by  times    took  received     sent      peak   busy  of capacity",
        "link-bound     12  12.5 s    508 kB  26.1 MB  200 Mbps  100 %       1.98 %",
    ]
    assert lines[at + 2].split() == ["ev?al", "-,", "running", "0", "0", "µs", "-", "-", "-", "-", "-"]
    assert "held up by" not in text(measured, phases=[])
