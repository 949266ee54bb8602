"""The laboratory itself: what it sets is what other tools see, and nothing of it stays."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lab
import pytest
from lab import leftovers

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "python/tests"), str(ROOT / "python")])}

MakeLab = Callable[..., lab.Lab]

# Sends numbered datagrams of a size to a port of an address, as fast as it can or with a pause after each.
SEND = """
import socket, struct, sys, time
address, port, count, size, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.setsockopt(socket.SOL_SOCKET, 32, 1 << 22)  # SO_SNDBUFFORCE
    for number in range(1, count + 1):
        s.sendto(struct.pack("!I", number).ljust(size, b"."), (address, port))
        if pause: time.sleep(pause)
"""

# Prints the numbers of the datagrams that came, after the one that says that it was the last.
RECEIVE = """
import json, socket, struct, sys
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
    s.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
    s.bind(("::", 5001))
    print("listening", flush=True)
    numbers = []
    while (number := struct.unpack("!I", s.recv(65536)[:4])[0]) != 0: numbers.append(number)
    print(json.dumps(numbers))
"""

LAST = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes(4), (sys.argv[1], 5001))"

# Prints when it was and how many bytes an interface had got, and again some seconds later.
COUNT = """
import json, os, sys, time
file = os.open(f"/sys/class/net/{sys.argv[1]}/statistics/rx_bytes", os.O_RDONLY)
def read():
    while True:
        begin = time.monotonic()
        count = int(os.pread(file, 32, 0))
        end = time.monotonic()
        if end - begin < 0.001: return end, count
first = read()
time.sleep(float(sys.argv[2]))
print(json.dumps([first, read()]))
"""

# Sends so many bytes over TCP from one host to another and prints the seconds until the receiver had all.
SERVE = """
import socket, time
with socket.create_server(("0.0.0.0", 5001)) as server:
    print("listening", flush=True)
    connection = server.accept()[0]
    began = time.monotonic()
    while connection.recv(1 << 20): pass
    print(time.monotonic() - began)
"""
TRANSFER = """
import socket, sys
with socket.create_connection((sys.argv[1], 5001), timeout=30) as s:
    s.sendall(bytes(int(sys.argv[2])))
"""


def python(host: lab.Namespace, script: str, *arguments: str) -> str:
    return host.run(sys.executable, "-c", script, *arguments).stdout


def transfer(one: lab.Host, other: lab.Host, amount: int) -> float:
    server = other.start(sys.executable, "-c", SERVE, stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == "listening\n"
    python(one, TRANSFER, other.address, str(amount))
    return float(server.communicate(timeout=30)[0])


def datagrams(one: lab.Host, other: lab.Host, address: str, count: int, size: int = 100) -> list[int]:
    """Send numbered datagrams and return the numbers of those that came."""
    server = other.start(sys.executable, "-c", RECEIVE, stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == "listening\n"
    python(one, SEND, address, "5001", str(count), str(size), "0")
    for direction in (one.egress, other.ingress):
        direction.lose_nothing()
    python(one, LAST, other.address)
    numbers: list[int] = json.loads(server.communicate(timeout=30)[0])
    return numbers


def ping(host: lab.Host, address: str, count: int = 3, interval: float = 0.005, wait: float = 0.1) -> dict[int, float]:
    """Return the round trips that ping prints, in seconds, by sequence number."""
    command = ["ping", "-n", "-c", str(count), "-i", str(interval), "-W", str(wait), address]
    said = host.run(*command, check=False).stdout
    rows = re.findall(r"icmp_seq=(\d+) .*time=([\d.]+) ms", said)
    assert f"{count} packets transmitted, {len(rows)} received" in said, said
    return {int(number): float(milliseconds) / 1e3 for number, milliseconds in rows}


def allowed_without_labs() -> set[str]:
    """Return the congestion controls that the system allows, without those that labs added, other processes' labs too.

    A lab that did not take back what it added, or kept its claim to it, is found by it.
    """
    with leftovers._claims(make=False) as claims:
        living = {name for tag, names in claims.items() if tag != "added" and leftovers.owner_lives(tag) for name in names}
        return set(ALLOWED.read_text().split()) - (living & set(claims.get("added", [])))


def wait_for(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.005)


# What is there


def test_hosts_reach_each_other_by_address_and_name(make_lab: MakeLab) -> None:
    hosts = make_lab(3).hosts
    for host in hosts:
        for other in hosts:
            for target in (other.address, other.address6, other.label):
                assert len(ping(host, target, count=1)) == 1, f"{host} to {target}"
    assert [host.address for host in hosts] == ["198.18.0.1", "198.18.0.2", "198.18.0.3"]
    assert hosts[0].name in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    initial = subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True).stdout
    assert "br0" not in {row["ifname"] for row in json.loads(initial)}


def test_nothing_moves_that_no_test_sent(make_lab: MakeLab) -> None:
    hosts = make_lab(3).hosts
    before = [host.link_counters() for host in hosts]
    time.sleep(1.2)  # IPv6 would announce its multicast groups within a second
    assert [host.link_counters() for host in hosts] == before
    ping(hosts[0], hosts[1].address, count=5)
    after = [host.link_counters() for host in hosts]
    for host in (0, 1):
        assert after[host]["tx"]["packets"] - before[host]["tx"]["packets"] == 5
        assert after[host]["rx"]["packets"] - before[host]["rx"]["packets"] == 5
        assert after[host]["tx"]["bytes"] - before[host]["tx"]["bytes"] == 5 * 98
    assert after[2] == before[2]  # nor does it hear of others


def test_names_inside(make_lab: MakeLab) -> None:
    network = make_lab(2, ipv6=False)
    one, two = network.hosts
    assert one.run("getent", "ahostsv4", "h2").stdout.split()[0] == two.address
    reader = one.start("sh", "-c", "head -n 1 /etc/resolv.conf; read line; cat /etc/resolv.conf", stdin=-1, stdout=-1)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "# of a lab\n"
    one.set_dns([two.address, "127.0.0.9"], names={"storage": "198.18.9.9"}, options="timeout:1 attempts:1")
    said = reader.communicate("\n", timeout=10)[0].splitlines()
    assert said == ["# of a lab", f"nameserver {two.address}", "nameserver 127.0.0.9", "options timeout:1 attempts:1"]
    assert one.run("getent", "hosts", "storage").stdout.split() == ["198.18.9.9", "storage"]
    assert two.run("getent", "hosts", "storage", check=False).returncode == 2
    network.close()
    assert not list(leftovers.VIEWS.glob(f"{leftovers.tag_of(one.name)}*"))


# Rate


@pytest.mark.parametrize(("megabits", "direction"), [(20, "egress"), (200, "ingress"), (200, "egress")])
def test_rate_against_the_counters_of_the_link(make_lab: MakeLab, megabits: int, direction: str) -> None:
    """A flood of UDP through a limit: ip -s link counts what passes."""
    one, two = make_lab(2).hosts
    queue = one.egress if direction == "egress" else two.ingress
    queue.limit_rate(megabits * 1e6, queue_bytes=int(megabits * 1e6 / 8 / 2))  # half a second, should the sender not run
    pause = 14_000 * 8 / (megabits * 3e6)  # faster than the limit, but not all that this machine can
    flood = one.start(sys.executable, "-c", SEND, two.address, "9", "1000000000", "14000", str(pause))
    wait_for(lambda: two.link_counters()["rx"]["bytes"] > megabits * 1e6 / 8 / 10, "a tenth of a second's bytes")

    begin, end = json.loads(python(two, COUNT, two.interface, "1"))
    flood.kill()
    assert (end[1] - begin[1]) * 8 / (end[0] - begin[0]) == pytest.approx(megabits * 1e6, rel=0.02)
    assert direction == "egress" or queue.queue_dropped() > 0  # a sender's own socket waits before its queue is full
    queue.lift_rate()
    assert queue.queue_dropped() == 0


def test_rate_of_a_transfer(make_lab: MakeLab) -> None:
    one, two = make_lab(2, congestion_control="cubic").hosts
    two.ingress.limit_rate(100e6)
    amount = 15_000_000
    passed = amount / 1448 * 1514
    before = two.link_counters()["rx"]["bytes"]
    seconds = transfer(one, two, amount)
    assert two.link_counters()["rx"]["bytes"] - before == pytest.approx(passed, rel=0.02)
    assert passed * 8 / seconds == pytest.approx(100e6, rel=0.03)


# Loss


@pytest.mark.parametrize("every", [1, 3, 10])
def test_loss_counted_is_what_ping_misses(make_lab: MakeLab, every: int) -> None:
    one, two = make_lab(2).hosts
    count = 60
    for direction, address in ((two.ingress, two.address), (two.egress, two.address6)):
        direction.lose(every=every)
        came = ping(one, address, count, interval=0.002, wait=0.05)
        assert direction.dropped().packets == count - len(came) == count // every
        assert direction.seen().packets == count
        assert set(range(1, count + 1)) - set(came) == set(range(every, count + 1, every))
        direction.lose_nothing()
        assert len(ping(one, address, 3)) == 3
        assert direction.dropped().packets == count // every
    assert one.egress.dropped() == one.ingress.dropped() == (0, 0)


def test_loss_counted_is_what_a_receiver_misses(make_lab: MakeLab) -> None:
    one, two = make_lab(2).hosts
    one.egress.lose(every=7)
    came = datagrams(one, two, two.address, 5000)
    assert set(range(1, 5001)) - set(came) == set(range(7, 5001, 7))
    assert one.egress.dropped() == (5000 // 7, 5000 // 7 * 128)

    # Both ends of the way together: what the first drops never comes to the second.
    one.egress.lose(every=2)
    two.ingress.lose(every=5)
    came = datagrams(one, two, two.address6, 1000)
    assert len(came) == 1000 - 500 - 100
    assert two.ingress.seen().packets == 500


def test_loss_at_random(make_lab: MakeLab) -> None:
    one, two = make_lab(2).hosts
    two.ingress.lose(ratio=0.05, only="udp dport 5001")
    assert len(ping(one, two.address, 50, interval=0.002)) == 50
    count = 10_000
    came = datagrams(one, two, two.address, count)
    assert two.ingress.dropped().packets == count - len(came)
    assert two.ingress.seen().packets == count
    assert two.ingress.dropped().packets == pytest.approx(500, abs=5 * (count * 0.05 * 0.95) ** 0.5)
    wrong: dict[str, Any]
    for wrong in ({}, {"every": 0}, {"ratio": 1.5}, {"every": 2, "ratio": 0.5}):
        with pytest.raises(ValueError, match=r"every|ratio"):
            two.ingress.lose(**wrong)


def test_lost_segments_are_repeated_one_by_one(make_lab: MakeLab) -> None:
    """Offloads are off, so a dropped packet is one segment, and TCP repeats exactly as many under CUBIC.

    What it repeats too early the receiver reports as a duplicate.
    """
    one, two = make_lab(2, congestion_control="cubic").hosts
    two.ingress.lose(every=100, only="tcp dport 5001 meta length > 500")

    def repeated() -> int:
        rows = [row.split() for row in one.run("cat", "/proc/net/snmp", "/proc/net/netstat").stdout.splitlines()]
        counts: dict[str, str] = {}
        for names, values in zip(rows[::2], rows[1::2], strict=True):
            counts.update(zip(names, values, strict=True))
        return int(counts["RetransSegs"]) - int(counts["TCPDSACKRecv"])

    before = repeated()
    transfer(one, two, 5_000_000)
    assert two.ingress.dropped().packets > 30
    assert repeated() - before == pytest.approx(two.ingress.dropped().packets, abs=3)


def test_black_hole_one_way(make_lab: MakeLab) -> None:
    one, two = make_lab(2).hosts
    two.egress.black_hole()
    before = two.link_counters()
    said = one.run("ping", "-c", "5", "-i", "0.01", "-W", "0.1", two.address, check=False).stdout
    assert "5 packets transmitted, 0 received, 100% packet loss" in said
    assert "nreachable" not in said
    after = two.link_counters()
    assert after["rx"]["packets"] - before["rx"]["packets"] == 5
    assert two.egress.dropped() == (5, 5 * 84)
    two.egress.clear()
    assert len(ping(one, two.address)) == 3


# Refusals and paths


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("refused", "ConnectionRefusedError"),
        ("no_route", "Network is unreachable"),
        ("host_unreachable", "No route to host"),
        ("prohibited", "No route to host|Permission denied"),
    ],
)
def test_reject(make_lab: MakeLab, how: Any, error: str) -> None:
    one, two = make_lab(2).hosts
    connect = "import socket, sys; socket.create_connection((sys.argv[1], 5001), timeout=5)"
    two.reject(how, only="tcp dport 5001")
    for address in (two.address, two.address6):
        said = one.run(sys.executable, "-c", connect, address, check=False).stderr
        assert re.search(error, said.splitlines()[-1]), said
    assert len(ping(one, two.address)) == 3
    two.reject(how)
    assert not ping(one, two.address, count=1)
    two.accept()
    assert len(ping(one, two.address)) == 3


def test_a_path_of_routers(make_lab: MakeLab) -> None:
    network = make_lab(5)
    one, *routers, last = network.hosts
    network.route_through(network.hosts, mtu=1300)
    for address, seen in ((last.address, "address"), (last.address6, "address6")):
        for ttl, router in enumerate(routers, 1):
            said = one.run("ping", "-n", "-c", "1", "-W", "1", "-t", str(ttl), address, check=False).stdout
            assert f"From {getattr(router, seen)} icmp_seq=1 Time" in said
        assert len(ping(one, address, count=1)) == 1
        said = one.run("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", "1400", address, check=False).stdout
        assert re.search(r"mtu ?= ?1300", said), said
    assert len(ping(last, one.address)) == 3


# Delay


def test_holds_against_ping(make_lab: MakeLab) -> None:
    one, two = make_lab(2).hosts
    without = statistics.median(ping(one, two.address, 40).values())
    two.ingress.delay(0.003)
    two.egress.delay(0.001)
    trips = ping(one, two.address, 40)
    assert len(trips) == 40
    requests = {hold.destination_port: hold for hold in two.ingress.holds() if hold.kind == 8}
    answers = {hold.destination_port: hold for hold in two.egress.holds() if hold.kind == 0}
    assert requests.keys() == answers.keys() == trips.keys()
    for number, trip in trips.items():
        request, answer = requests[number], answers[number]
        assert request.seconds >= 0.003  # never early
        assert answer.seconds >= 0.001
        assert request.left_ns < answer.arrived_ns
        assert request.seconds + answer.seconds < trip
        assert (request.egress, request.length, request.protocol) == (False, 98, 1)
    # What the log does not explain is what the link takes without a relay, within ping's resolution and what is cold then.
    rest = [trip - requests[number].seconds - answers[number].seconds for number, trip in trips.items()]
    assert statistics.median(rest) == pytest.approx(without, abs=150e-6)
    late = [hold.seconds - 0.003 for hold in requests.values()]
    assert statistics.median(late) < 100e-6
    counts = two.ingress.relay_counts()
    assert (counts.carried, counts.dropped, counts.missed, counts.held) == (40, 0, 0, 0)
    array = two.ingress.holds_array()
    assert list(array["left_ns"] - array["arrived_ns"]) == [hold.left_ns - hold.arrived_ns for hold in two.ingress.holds()]
    assert len(one.egress.holds()) == len(one.egress.holds_array()) == 0


def test_jitter(make_lab: MakeLab) -> None:
    one, two = make_lab(2).hosts
    one.egress.delay(0.004, jitter_seconds=0.002)
    ping(one, two.address6, 150, interval=0.007, wait=1)
    holds = [hold.seconds for hold in one.egress.holds() if hold.protocol == 58 and hold.kind == 128]
    assert len(holds) == 150
    assert 0.002 <= min(holds) < 0.0024
    assert 0.0056 < max(holds) < 0.0064
    assert statistics.mean(holds) == pytest.approx(0.004, abs=0.0005)
    assert statistics.stdev(holds) == pytest.approx(0.004 / 12**0.5, rel=0.2)
    order = [hold.destination_port for hold in one.egress.holds() if hold.protocol == 58 and hold.kind == 128]
    assert order == sorted(order)


def test_a_change_of_delay_loses_nothing_and_a_relay_goes_as_it_came(make_lab: MakeLab) -> None:
    network = make_lab(2)
    one, two = network.hosts
    one.egress.delay(0)
    running = one.start("ping", "-q", "-c", "100", "-i", "0.005", "-W", "1", two.address, stdout=subprocess.PIPE)
    wait_for(lambda: one.egress.relay_counts().carried > 20, "20 packets")
    one.egress.delay(0.01)
    one.ingress.delay(0.002)
    wait_for(lambda: one.egress.relay_counts().carried > 60, "60 packets")
    one.egress.delay(0)
    assert "100 packets transmitted, 100 received" in running.communicate(timeout=30)[0]
    assert any(hold.seconds >= 0.01 for hold in one.egress.holds())
    assert len(network.switch.processes()) == 1
    one.egress.clear()
    assert len(network.switch.processes()) == 1  # for the other direction
    one.ingress.clear()
    assert network.switch.processes() == []
    carried = one.egress.relay_counts().carried
    assert len(ping(one, two.address)) == 3
    assert one.egress.relay_counts().carried == carried
    # It may come back, and its log goes on.
    one.egress.delay(0.001)
    assert len(ping(one, two.address)) == 3
    assert one.egress.relay_counts().carried == carried + 3


@pytest.mark.parametrize("offloads", [False, True])
def test_frames_through_the_relay(make_lab: MakeLab, offloads: bool) -> None:
    """One packet is one frame without offloads; with them, unfinished checksums and aggregates pass whole."""
    one, two = make_lab(2, offloads=offloads).hosts
    one.egress.delay(0.001)
    transfer(one, two, 5_000_000)
    largest = max(hold.length for hold in one.egress.holds())
    assert largest > 10_000 if offloads else largest == 1514
    assert sum(hold.length for hold in one.egress.holds()) > 5_000_000
    features = dict(re.findall(r"^([\w-]+): (on|off)", one.run("ethtool", "-k", one.interface).stdout, re.MULTILINE))
    assert features["tcp-segmentation-offload"] == ("on" if offloads else "off")
    one.set_offloads(tx=False)
    assert "tx-checksumming: off" in one.run("ethtool", "-k", one.interface).stdout


# Processes and interfaces


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_load_and_freeze(make_lab: MakeLab) -> None:
    one, two = make_lab(2).hosts
    assert one.processes() == []
    with one.load(2):
        wait_for(lambda: [Path(f"/proc/{pid}/comm").read_text() for pid in one.processes()] == ["sh\n", "sh\n"], "two shells")
        busy = one.processes()

        def used() -> float:
            times = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11] for pid in busy]
            return sum(int(ticks) for ticks in times) / os.sysconf("SC_CLK_TCK")

        before = used()
        wait_for(lambda: used() > before + 0.2, "0.2 s of processor time")
        one.freeze()
        wait_for(lambda: [state(pid) for pid in busy] == ["T", "T"], "both stopped")
        one.thaw(busy[:1])
        wait_for(lambda: [state(pid) for pid in busy] == ["R", "T"], "one going on")
        one.thaw()
        wait_for(lambda: [state(pid) for pid in busy] == ["R", "R"], "both going on")
        assert two.processes() == []
    assert one.processes() == []


def test_interface_and_address(make_lab: MakeLab) -> None:
    one, two = make_lab(2).hosts

    def operstate() -> str:
        return str(json.loads(two.ip("-j", "link", "show", "dev", two.interface))[0]["operstate"])

    two.down()
    assert operstate() == "DOWN"
    assert not ping(one, two.address, count=1)
    two.up()
    for address in (two.address, two.address6):
        assert len(ping(one, address, count=1)) == 1, address
    two.unplug()
    wait_for(lambda: operstate() != "UP", "no carrier")
    assert "NO-CARRIER" in two.ip("link", "show", "dev", two.interface)
    assert not ping(one, two.address, count=1)
    two.plug()
    wait_for(lambda: operstate() == "UP", "a carrier")
    assert len(ping(one, two.address6, count=1)) == 1

    old, old6 = two.address, two.address6
    two.change_address("198.19.7.7", "fd00:c612::7:7")
    for address in (two.address, two.address6, "h2"):
        assert len(ping(one, address, count=1)) == 1, address
    assert one.run("getent", "ahostsv4", "h2").stdout.split()[0] == "198.19.7.7"
    for address in (old, old6):
        assert not ping(one, address, count=1)
    assert two.sysctl("net.ipv4.ip_default_ttl", 33) == "33"
    assert "ttl=33" in one.run("ping", "-c", "1", two.address).stdout


# Beside each other, and afterwards


def test_two_labs_at_once(make_lab: MakeLab) -> None:
    algorithm = "import socket; print(socket.socket().getsockopt(6, socket.TCP_CONGESTION, 16))"
    allowed = allowed_without_labs()
    first = make_lab(2, congestion_control="cubic")
    second = make_lab(2, congestion_control="cubic")
    third = make_lab(2)
    assert "cubic" in ALLOWED.read_text().split()
    for network in (first, second):
        assert "b'cubic" in python(network.hosts[0], algorithm)
    assert (
        third.hosts[0].sysctl("net.ipv4.tcp_congestion_control")
        == Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    )
    first.hosts[1].ingress.black_hole()
    second.hosts[1].ingress.delay(0.001)
    assert not ping(first.hosts[0], first.hosts[1].address, count=1)
    assert len(ping(second.hosts[0], second.hosts[1].address)) == 3
    assert first.hosts[1].ingress.dropped().packets == 1
    assert second.hosts[1].ingress.dropped().packets == 0
    first.close()
    assert "cubic" in ALLOWED.read_text().split()
    assert len(ping(second.hosts[0], second.hosts[1].address)) == 3
    second.close()
    second.close()
    assert not {leftovers.tag_of(network.switch.name) for network in (first, second)} & leftovers.tags()
    assert allowed_without_labs() == allowed
    with pytest.raises(lab.LabError, match="nonsense cannot be allowed"):
        lab.Lab(congestion_control="nonsense")
    assert allowed_without_labs() == allowed


# Makes a lab with all that could stay, says what there is, and waits.
BUSY = """
import json, time
from lab import Lab
network = Lab(2, congestion_control="cubic")
one, two = network.hosts
one.egress.delay(0.001)
two.ingress.lose(every=2)
one.start("sh", "-c", "while :; do :; done")
two.start("sh", "-c", "trap '' TERM HUP INT; sleep 1000 & setsid sleep 1000 & wait")
while len(one.processes() + two.processes()) < 4: time.sleep(0.01)
two.freeze()
print(json.dumps([one.name, one.processes() + two.processes() + network.switch.processes()]), flush=True)
time.sleep(1000)
"""


def start_busy() -> tuple[subprocess.Popen[str], str, list[int]]:
    """Start a process that makes a lab; return it, the tag of the lab and all processes but the guardian."""
    process = subprocess.Popen([sys.executable, "-c", BUSY], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    name, pids = json.loads(process.stdout.readline())
    process.stdout.close()
    tag = leftovers.tag_of(name)
    assert tag is not None
    return process, tag, pids


def guardian(tag: str) -> int | None:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if tag in words:
                return int(entry.name)
    return None


def gone(tag: str, pids: list[int]) -> bool:
    running = [pid for pid in pids if Path(f"/proc/{pid}").exists() and state(pid) not in "ZX"]
    return not running and tag not in leftovers.tags() and not list(leftovers.VIEWS.glob(f"{tag}*")) and guardian(tag) is None


@pytest.mark.namespaces
def test_nothing_stays_when_the_process_is_killed(make_lab: MakeLab) -> None:
    other = make_lab(2)  # says why, if there can be no lab; and stays
    allowed = allowed_without_labs()
    process, tag, pids = start_busy()
    assert "cubic" in ALLOWED.read_text().split()
    assert len(pids) == 5
    assert guardian(tag) is not None
    assert not gone(tag, pids)
    process.kill()
    process.wait(10)
    wait_for(lambda: gone(tag, pids), "the guardian's work")
    assert allowed_without_labs() == allowed
    assert len(ping(other.hosts[0], other.hosts[1].address)) == 3


def test_clean_removes_what_a_guardian_could_not(make_lab: MakeLab) -> None:
    other = make_lab(2)
    allowed = allowed_without_labs()
    process, tag, pids = start_busy()
    killed = guardian(tag)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    def command(name: str) -> str:
        done = subprocess.run([sys.executable, "-m", "lab", name], env=ENVIRONMENT, capture_output=True, text=True, check=True)
        return done.stdout

    assert f"removed {tag}" not in command("clean"), "its process runs"
    assert not gone(tag, pids)
    assert f"{tag}: process {process.pid}, running" in command("list")
    assert f"{tag}-h2: 3 processes" in command("list")
    process.kill()
    process.wait(10)
    command("clean")  # or that of another run of the tests
    assert gone(tag, pids)
    assert allowed_without_labs() == allowed
    assert len(ping(other.hosts[0], other.hosts[1].address)) == 3


def test_nothing_stays_when_a_test_fails() -> None:
    try:
        with lab.veth_link() as link:
            names = {link.left.name, link.right.name}
            assert names <= set(os.listdir(leftovers.NAMESPACES))
            sleeper = link.left.start("sleep", "600")
            raise ZeroDivisionError
    except lab.LabError as error:
        pytest.skip(f"no network namespaces here: {error}")
    except ZeroDivisionError:
        pass
    assert not leftovers.NAMESPACES.exists() or not names & set(os.listdir(leftovers.NAMESPACES))
    assert sleeper.wait(timeout=10) == -9


def test_a_forked_child_takes_nothing_down(make_lab: MakeLab) -> None:
    network = make_lab(2)
    child = os.fork()
    if child == 0:
        network.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(ping(network.hosts[0], network.hosts[1].address)) == 3


# Two namespaces only, skips, the command line, the page


def test_the_two_ends_of_a_link_reach_each_other(namespaces: lab.Link) -> None:
    left, right = namespaces.left, namespaces.right
    before = left.link_counters()
    server = right.start(sys.executable, "-c", SERVE, stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == "listening\n"
    python(left, TRANSFER, "198.18.0.2", "100000")
    assert float(server.communicate(timeout=10)[0]) < 10
    assert left.link_counters()["tx"]["bytes"] - before["tx"]["bytes"] > 100_000


@pytest.mark.parametrize("fixture", ["namespaces", "namespace", "make_lab"])
@pytest.mark.parametrize(("require", "outcome"), [("1", "failed|error"), ("0", "skipped")])
def test_a_skip_fails_where_namespaces_are_required(tmp_path: Path, fixture: str, require: str, outcome: str) -> None:
    (tmp_path / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text())
    shutil.copytree(Path(__file__).parent / "lab", tmp_path / "lab")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = namespaces: x\n")
    use = "make_lab(2)" if fixture == "make_lab" else "pass"
    (tmp_path / "test_inner.py").write_text(f"def test_it({fixture}): {use}\n")
    (tmp_path / "bin").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "NETMON_REQUIRE_NAMESPACES": require, "PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert re.search(f"1 ({outcome})", done.stdout), done.stdout
    assert "install iproute2" in done.stdout
    assert done.returncode == (0 if outcome == "skipped" else 1)


def test_command_line(make_lab: MakeLab) -> None:
    make_lab(1)  # says why, if there can be no lab

    def command(*words: str, given: str = "") -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "lab", *words],
            env=ENVIRONMENT,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout

    ten = ("ping", "-q", "-c", "10", "-i", "0.01", "-W", "0.1")
    status, said = command("run", "--do", "h2.ingress.lose(every=5)", "--", *ten, "h2")
    assert "10 packets transmitted, 8 received" in said
    assert status == 0
    assert command("run", "--hosts", "3", "--host", "h3", "--", "sh", "-c", "hostname -I 2>/dev/null; exit 7")[0] == 7
    status, said = command("run", "--host", "h9", "--", "true")
    assert (status, said) == (1, "lab: no host h9: the hosts are h1, h2\n")
    assert command("console", given="print(lab.hosts[1].address, h1.label)\n") == (0, "198.18.0.2 h1\n")
    status, said = command("run", "--hosts", "0", "--", "true")
    assert (status, said) == (1, "lab: 0 hosts: 1 to 250\n")


def test_the_page(make_lab: MakeLab, tmp_path: Path) -> None:
    """Every example of docs/lab.md runs."""
    make_lab(1)
    page = (ROOT / "docs/lab.md").read_text()
    examples = re.findall(r"^```(python|sh)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert {kind for kind, _ in examples} == {"python", "sh"}
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "python3").symlink_to(sys.executable)
    environment = {**ENVIRONMENT, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    for kind, text in examples:
        if "def test_" in text:
            text = (
                text
                + "\n\nfrom lab import Lab\n"
                + "\n".join(
                    f"with Lab() as _made: {name}(lambda *a, **k: Lab(*a, **k))" for name in re.findall(r"def (test_\w+)", text)
                )
            )
        runner = [sys.executable, "-W", "error", "-c", text] if kind == "python" else ["bash", "-ec", text]
        done = subprocess.run(runner, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
