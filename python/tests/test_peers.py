"""The job's own connections: ranks of a gloo job by name, also after a restart, and TCP's numbers against those of ss."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab import Host, Lab

MakeLab = Callable[..., Lab]
TESTS = Path(__file__).parent
JOB = str(TESTS / "peers_job.py")


class Rank:
    """A process of the job on a host, which trains a round when it is told who it is."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.process = host.start(sys.executable, JOB, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def tell(self, **job: Any) -> None:
        print(json.dumps(job), file=self.process.stdin, flush=True)

    def said(self) -> Any:
        """Return the document that it prints next."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError(self.process.communicate(timeout=10)[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def train(ranks: list[Rank], order: list[int], port: int) -> list[dict[str, Any]]:
    """Train a round, the process at place ``order[rank]`` being that rank, and return what each process found, by place."""
    master = ranks[order[0]].host.address
    for rank, place in enumerate(order):
        ranks[place].tell(master=master, port=port, rank=rank, world_size=len(order))
    return [rank.said() for rank in ranks]


def check(found: list[dict[str, Any]], ranks: list[Rank], order: list[int]) -> None:
    """Each process knows the others by the ranks that they have in this round, and nobody else."""
    for place, answer in enumerate(found):
        assert answer["problem"] is None
        names = {peer["address"]: (peer["rank"], peer["ranks"]) for peer in answer["peers"]}
        others = {ranks[other].host.address: (rank, [rank]) for rank, other in enumerate(order) if other != place}
        assert {address: name for address, name in names.items() if address != ranks[place].host.address} == others, place
        for peer in answer["peers"]:
            if peer["address"] in others:
                assert peer["process"] == "own"
                assert peer["interface"] == "eth0"
                assert peer["sent_bytes_total"] > 0
                assert peer["received_bytes_total"] > 0
                assert 0 < peer["rtt_min_seconds"] <= peer["rtt_seconds"] < 1
                assert peer["segments_sent_total"] > 0
            else:
                assert peer["ranks"] == [], "the own rank is no peer"


@pytest.mark.torch
def test_ranks_are_named_also_when_they_restart(make_lab: MakeLab) -> None:
    """Four hosts with a rank each. One process is killed, and all get other ranks, as an elastic launcher does it."""
    pytest.importorskip("torch")
    lab = make_lab(4, ipv6=False)
    ranks = [Rank(host) for host in lab.hosts]
    try:
        order = [0, 1, 2, 3]
        found = train(ranks, order, 29711)
        check(found, ranks, order)
        assert [answer["plane"] for answer in found] == [["tcp", "eth0"]] * 4

        # The process on the last host dies; the new one there, and those that live, go on under other ranks and another master.
        ranks[3].kill()
        ranks[3] = Rank(lab.hosts[3])
        order = [1, 3, 0, 2]
        check(train(ranks, order, 29712), ranks, order)

        # All of them die, the master's too, and come back.
        for place, rank in enumerate(ranks):
            rank.kill()
            ranks[place] = Rank(lab.hosts[place])
        order = [2, 0, 3, 1]
        check(train(ranks, order, 29713), ranks, order)
    finally:
        for rank in ranks:
            rank.kill()


@pytest.mark.torch
def test_several_ranks_of_a_host(make_lab: MakeLab) -> None:
    """Two hosts with two ranks each: nobody's address is taken for one rank's."""
    pytest.importorskip("torch")
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    ranks = [Rank(host) for host in (one, one, two, two)]
    try:
        found = train(ranks, [0, 1, 2, 3], 29714)
    finally:
        for rank in ranks:
            rank.kill()
    for place, answer in enumerate(found):
        names = {peer["address"]: (peer["rank"], peer["ranks"]) for peer in answer["peers"]}
        here, there = (one, two) if place < 2 else (two, one)
        assert names[there.address] == (None, [2, 3] if place < 2 else [0, 1]), place
        other = {0: 1, 1: 0, 2: 3, 3: 2}[place]
        assert names[here.address] == (other, [other]), place


# Against ss


SENDER = """
import json, os, re, socket, subprocess, sys, time
import netmon

peer, port = sys.argv[1], int(sys.argv[2])

def ss():
    command = ["ss", "-tinH", "dst", peer, "and", "dport", "=", str(port)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

def measure(monitor):
    # What ss says, netmon's row of a reading after that, and what ss says then. On a busy machine sockets are read beside the
    # samples.
    before, begun = ss(), time.monotonic()
    while True:
        sample = monitor.sample()
        if sample.monotonic_seconds - sample.self.peers_age_seconds >= begun:
            return before, sample.peers[peer].to_dict(), ss()

def state(text):
    # Without the times since something was sent or received, which always go on.
    return re.sub(r"last\\w+:\\d+", "", text)

with netmon.Monitor(interval=0.05) as monitor, socket.create_connection((peer, port)) as connection:
    still, moving = [], []
    for number in range(20):
        for _ in range(number % 5 + 1):
            connection.sendall(bytes(40_000))
            time.sleep(0.002)
            moving.append(measure(monitor))
        # The echo of the last byte means that all of it has arrived; acknowledgments move the numbers a last time.
        connection.sendall(b".")
        assert connection.recv(1) == b"."
        while True:
            before, row, after = measure(monitor)
            if "unacked" not in before and state(before) == state(after):
                break
        still.append([before, row])
    print(json.dumps([still, moving]))
"""
SINK = """
import socket, sys
server = socket.create_server((sys.argv[1], 0))
print(server.getsockname()[1], flush=True)
connection, _ = server.accept()
while data := connection.recv(1 << 16):
    if data.endswith(b"."):
        connection.sendall(b".")
"""


def numbers(text: str) -> dict[str, float]:
    """Return what ``ss -ti`` says of a connection, in the units of netmon."""
    found: dict[str, float] = {}
    for name in ("minrtt", "bytes_sent", "bytes_retrans", "bytes_received", "segs_out", "dsack_dups"):
        match = re.search(rf"\b{name}:([\d.]+)", text)
        found[name] = float(match[1]) if match else 0.0
    rtt = re.search(r"\brtt:([\d.]+)/([\d.]+)", text)
    assert rtt is not None, text
    found["rtt"], found["rttvar"] = float(rtt[1]), float(rtt[2])
    retrans = re.search(r"\bretrans:\d+/(\d+)", text)
    found["retrans"] = float(retrans[1]) if retrans else 0.0
    return found


def test_against_ss(make_lab: MakeLab) -> None:
    """Round trip, bytes, segments and retransmissions of the same socket at the same moment, on a link with delay and loss."""
    lab = make_lab(2, ipv6=False, congestion_control="cubic")
    one, two = lab.hosts
    server = two.start(sys.executable, "-c", SINK, two.address, stdout=subprocess.PIPE)
    assert server.stdout is not None
    port = server.stdout.readline().strip()
    two.ingress.delay(0.005, jitter_seconds=0.002)
    two.ingress.lose(every=50)
    done = one.run(sys.executable, "-c", SENDER, two.address, port, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    still, moving = json.loads(done.stdout.splitlines()[-1])
    assert len(still) == 20
    for text, row in still:
        ss = numbers(text)
        # ss prints milliseconds with three decimals, the kernel has microseconds: the very same number.
        assert row["rtt_seconds"] == pytest.approx(ss["rtt"] / 1e3, abs=1e-9)
        assert row["rtt_variation_seconds"] == pytest.approx(ss["rttvar"] / 1e3, abs=1e-9)
        assert row["rtt_min_seconds"] == pytest.approx(ss["minrtt"] / 1e3, abs=1e-9)
        assert row["sent_bytes_total"] == ss["bytes_sent"] - ss["bytes_retrans"]
        assert row["received_bytes_total"] == ss["bytes_received"]
        assert row["segments_sent_total"] == ss["segs_out"]
        assert row["segments_retransmitted_total"] == ss["retrans"]
        assert row["duplicates_reported_total"] == ss["dsack_dups"]
        assert row["unsent_bytes"] == 0
        assert row["connections"] == 1
    last = numbers(still[-1][0])
    assert last["retrans"] > 0, "something was lost"
    assert 5 < last["rtt"] < 50
    for before, row, after in moving:
        low, high = numbers(before), numbers(after)
        assert low["bytes_sent"] - low["bytes_retrans"] <= row["sent_bytes_total"] <= high["bytes_sent"] - high["bytes_retrans"]
        assert low["retrans"] <= row["segments_retransmitted_total"] <= high["retrans"]
        assert low["segs_out"] <= row["segments_sent_total"] <= high["segs_out"]
