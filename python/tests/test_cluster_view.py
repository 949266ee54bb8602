"""Digests and the view of a job, by hand: what engines carry from process to process is handed over here."""

from __future__ import annotations

import json
import pickle
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from ctypes import byref, c_uint32, c_void_p
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import traffic
from agent import Agent, agent
from lab import Lab

import netmon
from netmon import _abi

MakeLab = Callable[..., Lab]
ROOT = Path(__file__).resolve().parents[2]


def aggregate(reader: netmon.Monitor, digests: list[bytes], **request: Any) -> netmon.ClusterView:
    return netmon.ClusterView.from_dict(json.loads(reader._aggregate({"digests": digests, **request})))


def view_of(reader: netmon.Monitor, *monitors: netmon.Monitor, **request: Any) -> netmon.ClusterView:
    return aggregate(reader, [m._digest() for m in monitors], **request)


def digest_of(running: Agent) -> bytes:
    digest = bytes.fromhex(running.ask("monitor._digest().hex()"))
    assert len(digest) <= 512
    return digest


def test_two_ranks_of_one_node() -> None:
    with netmon.Monitor(job={"rank": 0, "world_size": 3}) as zero, netmon.Monitor(job={"rank": 1, "world_size": 3}) as one:
        view = view_of(one, zero, one, engine="by hand", rank=1)
        assert (view.schema, view.sequence, view.engine, view.aggregator_rank) == ("netmon.cluster/1", 1, "by hand", 1)
        assert [(rank.rank, rank.state) for rank in view.ranks] == [(0, "live"), (1, "live"), (2, "missing")]
        assert view.world_size == 3
        assert view.rank(2).age_seconds is None
        with pytest.raises(KeyError, match="no rank 3"):
            view.rank(3)
        (node,) = view.nodes
        assert node.name == socket.gethostname()[:32]
        assert node.ranks == (0, 1)
        assert view.nodes[node.name] is node
        assert view.totals.nodes == 1
        assert view.skew is None
        assert "attach(monitor)" in view.unavailable["skew"]

        # What anybody says who is not understood changes nothing for the others.
        view = aggregate(one, [b"", zero._digest(), b"garbage" * 9, one._digest()], gone=[0])
        assert [rank.state for rank in view.ranks] == ["gone", "live", "missing"]
        assert view.unavailable["digests"].startswith("2 of 4 are not understood")


def test_types_are_those_of_the_document() -> None:
    with netmon.Monitor(job={"rank": 0, "world_size": 2}) as monitor:
        view = view_of(monitor, monitor)
        document = view.to_dict()
    assert pickle.loads(pickle.dumps(view)) == view
    document["nodes"].clear()
    assert view.to_dict()["nodes"], "what is handed out is the caller's"
    page = (ROOT / "docs/cluster.md").read_text()

    def check(thing: Any, said: dict[str, Any]) -> None:
        assert is_dataclass(thing)
        names = {f.name for f in fields(thing)}
        assert names == set(said), type(thing).__name__
        for name in names:
            assert f"`{name}`" in page, name
        with pytest.raises((AttributeError, TypeError)):
            thing.state = "live"

    said = view.to_dict()
    for name in said:
        assert f"`{name}`" in page, name
        getattr(view, name)
    check(view.nodes[0], said["nodes"][0])
    check(view.ranks[0], said["ranks"][0])
    check(view.totals, said["totals"])
    for name, spread in view.spread.items():
        check(spread, said["spread"][name])
        assert f"`{name}`" in page, name


def test_wrong_calls() -> None:
    monitor = netmon.Monitor()
    with pytest.raises(netmon.InvalidArgumentError, match="world_size"):
        monitor._aggregate({"world_size": -1})
    with pytest.raises(netmon.InvalidArgumentError, match="digest_list"):
        monitor._aggregate({"digest_list": []})
    monitor.close()
    with pytest.raises(netmon.ClosedError):
        monitor._digest()
    with pytest.raises(netmon.ClosedError):
        monitor._aggregate({})


def record(monitor: netmon.Monitor, durations: dict[int, float], group: str = '{"name": "default_pg", "size": 2}') -> None:
    """Record an all_reduce by sequence for as long."""
    library, number, error = monitor._library, c_uint32(), c_void_p()
    assert library.collective_group(monitor.handle, group.encode(), byref(number), byref(error)) == 0
    packing = struct.Struct("=" + "".join(code for _, code in _abi.COLLECTIVE_FIELDS))
    for sequence, seconds in durations.items():
        duration = int(seconds * 1e9)
        entered = time.monotonic_ns() - duration
        one = packing.pack(packing.size, 1, number.value, 1, 1 << 20, entered, duration, 0, sequence)
        assert library.collectives_record(monitor.handle, one, 1) == 0


def test_who_comes_last_waits_least() -> None:
    with netmon.Monitor(job={"rank": 0}) as zero, netmon.Monitor(job={"rank": 1}) as one:
        record(zero, dict.fromkeys(range(100, 110), 0.058))
        record(one, dict.fromkeys(range(100, 110), 0.008))
        record(one, dict.fromkeys(range(100, 110), 5.0), '{"name": "another", "size": 2}')
        view = view_of(zero, zero, one)
    assert view.skew is not None
    assert (view.skew.ranks, view.skew.compared, view.skew.last_rank, view.skew.last_ratio) == (2, 10, 1, 1)
    assert view.skew.transfer_p50_seconds == pytest.approx(0.008, rel=1e-4)
    assert view.rank(0).waiting_seconds == pytest.approx(0.050, rel=1e-4)
    assert view.rank(0).waiting_ratio == pytest.approx(50 / 58, rel=1e-4)
    assert view.rank(1).waiting_seconds == 0
    assert view.spread["rank.waiting_seconds"].max_at == "0"


def test_a_digest_is_small_whatever_is_in_it() -> None:
    """Sixty peers, 5,000 collectives of many kinds, long names: 512 bytes."""
    with ExitStack() as stack:
        peers = [{"rank": i, "address": f"127.0.1.{i}"} for i in range(1, 61)]
        job = {"rank": 0, "world_size": 4096, "peers": peers}
        monitor = stack.enter_context(
            netmon.Monitor(interval=0.05, job=job, sources=["interfaces", "peers", "tcp", "collectives"])
        )
        connections = []
        for peer in peers:
            listener = stack.enter_context(socket.create_server((peer["address"], 0)))
            client = stack.enter_context(socket.create_connection(listener.getsockname()))
            connections.append((client, stack.enter_context(listener.accept()[0]), 100 * peer["rank"]))
        record(monitor, {2**40 + i: 0.001 * (i % 60) for i in range(4000)})
        deadline = time.monotonic() + 60
        while True:
            for client, server, amount in connections:
                client.sendall(bytes(amount))
                assert server.recv(1 << 16)
            digest = monitor._digest()
            assert len(digest) <= 512
            ways = aggregate(monitor, [digest]).rank(0).peers
            # To whom most is sent is told of, once the sockets were read at both ends of a window.
            if any(way.address == "127.0.1.60" and way.sent_bytes for way in ways):
                break
            assert time.monotonic() < deadline, ways
            time.sleep(0.05)
    assert len(digest) > 300
    ends = {"127.0.0.1"}  # the other ends of these connections, which are this process's too
    assert all(way.rank == int(way.address.rpartition(".")[2]) for way in ways if way.address not in ends)


def test_a_forked_child_says_its_own() -> None:
    script = """
import json, os, netmon
with netmon.Monitor(job={"rank": 0}) as monitor:
    view = monitor._aggregate({"digests": [monitor._digest()]})
    child = os.fork()
    if child == 0:
        view = json.loads(monitor._aggregate({"digests": [monitor._digest()]}))
        os._exit(0 if view["sequence"] == 1 and view["ranks"][0]["state"] == "live" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", script], check=True, timeout=60)


def test_nodes_count_what_ip_counts(make_lab: MakeLab) -> None:
    """Three processes on two hosts: each host once, and as many bytes as its link has moved."""
    here, there = make_lab(2, ipv6=False).hosts
    traffic.serve(there)
    with ExitStack() as stack:
        ranks = []
        for rank, host in enumerate([here, here, there]):
            job = {
                "rank": rank,
                "world_size": 3,
                "peers": [{"rank": 0, "address": here.address}, {"rank": 2, "address": there.address}],
            }
            ranks.append(stack.enter_context(agent(host, interval=0.1, job=job, sources=["interfaces", "tcp", "peers"])))
        with netmon.Monitor() as reader:

            def look(**request: Any) -> netmon.ClusterView:
                return aggregate(reader, [digest_of(rank) for rank in ranks], **request)

            before, counted = look(), [host.link_counters() for host in (here, there)]
            assert [node.ranks for node in before.nodes] == [(0, 1), (2,)]
            assert len({node.name for node in before.nodes}) == 2
            (connection,) = ranks[0].ask(f"traffic.connect({there.address!r})")
            sent = ranks[0].ask(f"traffic.send({connection}, 5000000)")

            def moved(view: netmon.ClusterView) -> list[tuple[int, int]]:
                return [
                    (
                        (now.receive_bytes_total or 0) - (then.receive_bytes_total or 0),
                        (now.transmit_bytes_total or 0) - (then.transmit_bytes_total or 0),
                    )
                    for now, then in zip(view.nodes, before.nodes, strict=True)
                ]

            deadline = time.monotonic() + 30
            while True:
                after = look()
                (_, out), (into, _) = moved(after)
                ways = [way for way in after.rank(0).peers if way.address == there.address and way.sent_bytes]
                if min(out, into) >= sent and ways and after.nodes[0].interface:
                    break
                assert time.monotonic() < deadline, (moved(after), sent)
                time.sleep(0.1)
            for (received, transmitted), host, then in zip(moved(after), (here, there), counted, strict=True):
                now = host.link_counters()
                # Acknowledgements and address resolution of the moments in between are all that may be missing.
                assert received == pytest.approx(now["rx"]["bytes"] - then["rx"]["bytes"], rel=0.01, abs=3000)
                assert transmitted == pytest.approx(now["tx"]["bytes"] - then["tx"]["bytes"], rel=0.01, abs=3000)
            assert after.totals.receive_bytes_total == sum(node.receive_bytes_total or 0 for node in after.nodes)
            assert (after.nodes[0].plane, after.nodes[0].interface) == ("tcp", "eth0"), "of the rank that has connections"
            assert after.nodes[1].interface is None

            # The way to the other node is known by rank, node and bytes.
            (way,) = ways
            assert (way.rank, way.node) == (2, after.nodes[1].name)
            assert way.rtt_min_seconds is not None
            assert 0 < way.rtt_min_seconds < 0.1

            # A rank ends and comes back: nothing is lost, nothing counted twice.
            ranks[2].close()
            ranks[2] = stack.enter_context(agent(there, interval=0.1, job={"rank": 2, "world_size": 3}, sources=["interfaces"]))
            again = look()
            assert again.rank(2).restarts == 1
            assert [rank.state for rank in again.ranks] == ["live"] * 3
            for now, then in zip(again.nodes, after.nodes, strict=True):
                assert (now.receive_bytes_total or 0) >= (then.receive_bytes_total or 0)
                assert (now.receive_bytes_total or 0) <= (then.receive_bytes_total or 0) + 3000
            look(gone=[2])
            assert look(gone=[2]).nodes[1].state == "gone"


def test_the_page_says_only_what_there_is() -> None:
    page = (ROOT / "docs/cluster.md").read_text()
    for section, kind in (
        ("nodes[]", netmon.ClusterNode),
        ("ranks[]", netmon.ClusterRank),
        ("ranks[].peers[]", netmon.ClusterWay),
        ("totals", netmon.ClusterTotals),
        ("spread", netmon.ClusterSpread),
        ("skew", netmon.ClusterSkew),
    ):
        found = re.search(rf"^## `?{re.escape(section)}`?\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert found, section
        told = set()
        for line in found[1].splitlines():
            if line.startswith("| `"):
                told |= set(re.findall(r"`([a-z0-9_]+)`", line.split("|")[1]))
        assert told == {f.name for f in fields(kind)}, section
