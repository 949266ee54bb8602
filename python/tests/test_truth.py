"""What netmon says of a link, against what the test set and what ``ip -s link`` counts."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import lab
import pytest
from agent import Agent, agent
from counted import counting, rates_inside

SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 5001), timeout=30) as s:
    left = int(sys.argv[2])
    block = bytes(1 << 16)
    while left > 0:
        left -= s.send(block[:left])
    s.shutdown(socket.SHUT_WR)
    s.recv(1)
"""

RECEIVE = """
import socket
with socket.create_server(("0.0.0.0", 5001)) as server:
    print("listening", flush=True)
    with server.accept()[0] as s:
        while s.recv(1 << 20): pass
"""


def transfer(link: lab.Link, amount: int) -> None:
    """Send bytes from left to right."""
    server = link.right.start(sys.executable, "-c", RECEIVE, stdout=subprocess.PIPE)
    try:
        assert server.stdout.readline() == "listening\n"
        link.left.run(sys.executable, "-c", SEND, link.right.address, str(amount), timeout=120)
        server.wait(10)
    finally:
        server.kill()
        server.wait(10)
        server.stdout.close()


@contextmanager
def rate_limit(link: lab.Link, bits_per_second: int) -> Iterator[None]:
    for end in (link.left, link.right):
        end.run("ethtool", "-K", end.interface, "tso", "off", "gso", "off", "gro", "off")
    # 5 ms of the rate may pass at once: with less, a busy machine comes too late to the queue to reach the rate.
    burst = max(64_000, bits_per_second // 8 // 200)
    bucket = ("tbf", "rate", str(bits_per_second), "burst", str(burst), "latency", "20ms")
    link.left.run("tc", "qdisc", "add", "dev", link.left.interface, "root", *bucket)
    yield


@pytest.mark.parametrize("megabits", [50, 400])
def test_rates_and_totals_at_a_set_rate(namespaces, megabits):
    rate = megabits * 1e6 / 8
    amount = int(rate * 3)
    interval = 0.1
    with rate_limit(namespaces, megabits * 1_000_000), agent(namespaces.left, interval=interval) as monitor:
        before, ip_before = monitor.sample(), namespaces.left.link_counters()
        with counting(namespaces.left) as counted_meanwhile:
            transfer(namespaces, amount)
        after, ip_after = monitor.sample(), namespaces.left.link_counters()
        history = monitor.history()

    # Totals, each direction and unit, against ip -s link: the link is quiet when they are read.
    for ours, direction, theirs in (
        ("transmit_bytes_total", "tx", "bytes"),
        ("receive_bytes_total", "rx", "bytes"),
        ("transmit_packets_total", "tx", "packets"),
        ("receive_packets_total", "rx", "packets"),
        ("transmit_drops_total", "tx", "dropped"),
    ):
        counted = after["totals"][ours] - before["totals"][ours]
        kernel = ip_after[direction][theirs] - ip_before[direction][theirs]
        assert counted == pytest.approx(kernel, rel=0.01), ours
    sent = after["totals"]["transmit_bytes_total"] - before["totals"]["transmit_bytes_total"]
    assert sent > amount

    # Rates of the windows that lie wholly inside the transfer, against what the kernel counted in them, and against the set
    # rate, which counts whole frames, if the link reached it: a busy machine sends less.
    netmon, kernel = rates_inside(history, counted_meanwhile, "transmit")
    assert netmon == pytest.approx(kernel, rel=0.01)
    assert netmon < 1.01 * rate
    if kernel > 0.99 * rate:
        assert netmon == pytest.approx(rate, rel=0.01)

    # The sum of rate times window is the total: no byte is lost between windows, none counted twice.
    integral = sum(s["totals"]["transmit_bytes_per_second"] * s["window_seconds"] for s in history if s["window_seconds"])
    assert integral == pytest.approx(history[-1]["totals"]["transmit_bytes_total"], rel=1e-6)

    # The lone veth of a namespace is what counts, and where the default route would lead.
    rows = {row["name"]: row for row in after["interfaces"]}
    assert rows["eth0"]["kind"] == "veth"
    assert rows["eth0"]["counted"]
    assert rows["eth0"]["primary"]
    assert not rows["lo"]["counted"]
    assert f"{namespaces.left.address}/24" in rows["eth0"]["addresses"]


def test_stats_of_the_loop_agree_with_the_set_rate(namespaces):
    rate = 100e6 / 8
    with rate_limit(namespaces, 100_000_000), agent(namespaces.left, interval=0.05) as monitor:
        transfer(namespaces, int(rate * 2))
        ask = 'monitor.stats("totals.transmit_bytes_per_second", seconds=1.0).to_dict()'
        read = "[s.totals.transmit_bytes_per_second for s in monitor.history(seconds=1.0)]"
        stats, rates, again = monitor.ask(f"[{ask}, {read}, {ask}]")
        while again != stats:  # the loop took a sample meanwhile
            stats, rates, again = monitor.ask(f"[{ask}, {read}, {ask}]")
    assert stats["p50"] == pytest.approx(rate, rel=0.02)
    assert (stats["count"], stats["max"], stats["p50"]) == (len(rates), max(rates), pytest.approx(statistics.median(rates)))


def test_drops_and_retransmissions(namespaces):
    """A filter drops every tenth segment on its way in: TCP repeats them, and the counters say how many."""
    namespaces.right.run("nft", "add table inet t")
    namespaces.right.run("nft", "add chain inet t in { type filter hook input priority 0 ; }")
    namespaces.right.run("nft", "add rule inet t in tcp dport 5001 meta length > 500 numgen inc mod 50 == 0 counter drop")
    for end in (namespaces.left, namespaces.right):
        end.run("ethtool", "-K", end.interface, "tso", "off", "gso", "off", "gro", "off")
    snmp = "cat /proc/net/snmp"

    def kernel() -> tuple[int, int]:
        lines = [line.split() for line in namespaces.left.run("sh", "-c", snmp).stdout.splitlines() if line.startswith("Tcp:")]
        row = dict(zip(lines[0], lines[1], strict=True))
        return int(row["OutSegs"]), int(row["RetransSegs"])

    with agent(namespaces.left, interval=3600) as monitor:
        before = kernel()
        transfer(namespaces, 3_000_000)
        tcp = monitor.sample()["tcp"]
        after = kernel()
        dropped = json.loads(namespaces.right.run("nft", "-j", "list", "table", "inet", "t").stdout)
    counter = next(
        e["counter"]["packets"] for item in dropped["nftables"] for e in item.get("rule", {}).get("expr", []) if "counter" in e
    )
    assert counter > 20
    assert tcp["segments_retransmitted_total"] == pytest.approx(after[1] - before[1], abs=1)
    assert tcp["segments_sent_total"] == pytest.approx(after[0] - before[0], abs=2)
    assert tcp["segments_retransmitted_total"] >= counter


def test_interfaces_come_and_go(namespaces):
    with agent(namespaces.left, interval=0.05) as monitor:
        assert {r["name"] for r in monitor.sample()["interfaces"]} == {"lo", "eth0"}
        namespaces.left.ip("link", "add", "extra", "type", "veth", "peer", "name", "other")
        rows = {r["name"]: r for r in monitor.sample()["interfaces"]}
        assert rows["extra"]["kind"] == "veth"
        assert rows["extra"]["receive_bytes_total"] == 0
        namespaces.left.ip("link", "set", "extra", "name", "renamed")
        assert "renamed" in {r["name"] for r in monitor.sample()["interfaces"]}
        namespaces.left.ip("link", "set", "renamed", "mtu", "9000")
        assert {r["name"]: r for r in monitor.sample()["interfaces"]}["renamed"]["mtu"] == 9000
        namespaces.left.ip("link", "del", "renamed")
        assert {r["name"] for r in monitor.sample()["interfaces"]} == {"lo", "eth0"}
        health = monitor.ask("monitor.health().to_dict()")
        assert health["events_total"] == {"interface_appeared": 2, "interface_renamed": 1, "interface_vanished": 2}
        assert health["status"] == "ok"

        # The link itself goes down and comes back, and then it is taken away under the monitor.
        namespaces.right.ip("link", "set", "eth0", "down")
        deadline = time.monotonic() + 5
        while (state := {r["name"]: r for r in monitor.sample()["interfaces"]}["eth0"]["state"]) == "up":
            assert time.monotonic() < deadline
        assert state == json.loads(namespaces.left.ip("-j", "link", "show", "dev", "eth0"))[0]["operstate"].lower()
        totals = monitor.sample()
        assert totals["totals"]["capacity_bits_per_second"] is None
        assert totals["unavailable"]["totals.capacity_bits_per_second"] == "no counted interface is up"
        namespaces.left.ip("link", "del", "eth0")
        gone = monitor.sample()
        assert {r["name"] for r in gone["interfaces"]} == {"lo"}
        assert gone["totals"]["transmit_bytes_total"] == totals["totals"]["transmit_bytes_total"]
        assert gone["totals"]["transmit_bytes_per_second"] is None


def test_primary_interface_routes_to_the_master(namespaces):
    left = namespaces.left
    left.ip("link", "add", "fabric0", "type", "veth", "peer", "name", "far0", "netns", namespaces.right.name)
    left.ip("address", "add", "198.19.0.1/24", "dev", "fabric0")
    left.ip("link", "set", "fabric0", "up")
    namespaces.right.ip("link", "set", "far0", "up")
    left.ip("route", "add", "default", "dev", "eth0")

    def primary(monitor: Agent) -> str | None:
        return next((r["name"] for r in monitor.sample()["interfaces"] if r["primary"]), None)

    for job, expected in (
        ({}, "eth0"),
        ({"master_address": "198.19.0.9"}, "fabric0"),
        ({"master_address": "198.19.0.1"}, "fabric0"),  # it is here
        ({"master_address": namespaces.right.address}, "eth0"),
        ({"master_address": "127.0.0.1"}, "eth0"),
        ({"master_address": "localhost"}, "eth0"),
    ):
        with agent(left, interval=60, job=job) as monitor:
            assert primary(monitor) == expected, job
    with agent(left, interval=60) as monitor:
        assert primary(monitor) == "eth0"
        monitor.ask("monitor.set_job(master_address='198.19.0.9')")
        assert primary(monitor) == "fabric0"
        left.ip("route", "replace", "198.19.0.9", "dev", "eth0")
        assert primary(monitor) == "eth0", "the route to the master changed"


def test_another_namespace_than_the_one_sysfs_shows(namespaces):
    """A thread may enter a namespace of its own; /sys and /proc/net then still show the process's first one."""
    code = (
        "import ctypes, json, netmon, os\n"
        f"fd = os.open('/run/netns/{namespaces.left.name}', os.O_RDONLY)\n"
        "assert ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000) == 0\n"
        "with netmon.Monitor(interval=60) as m: print(m.sample().to_json())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    sample = json.loads(done.stdout)
    assert {r["name"]: r["kind"] for r in sample["interfaces"]} == {"lo": "loopback", "eth0": "veth"}
    inode = namespaces.left.run("stat", "-L", "-c", "%i", "/proc/self/ns/net").stdout.strip()
    assert str(sample["host"]["network_namespace"]) == inode
