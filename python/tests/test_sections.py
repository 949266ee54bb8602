"""Peers, RDMA, PCIe, NVLink, transport and bandwidth tests: types, names and texts, from documents made by hand."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

import netmon
from netmon._rows import flat
from netmon._text import describe

ROOT = Path(__file__).resolve().parents[2]

PEER: dict[str, Any] = {
    "address": "10.0.0.2",
    "rank": 1,
    "ranks": [1],
    "process": "own",
    "interface": "eth0",
    "connections": 4,
    "child_connections": 2,
    "sent_bytes_total": 2**63,
    "received_bytes_total": 70,
    "sent_bytes_per_second": 125_000_000,
    "received_bytes_per_second": 12_500.0,
    "rtt_seconds": 0.00042,
    "rtt_min_seconds": 0.000018,
    "rtt_variation_seconds": 0.0001,
    "segments_sent_total": 30420,
    "segments_retransmitted_total": 12,
    "duplicates_reported_total": 2,
    "delivery_bytes_per_second": 1e8,
    "delivery_app_limited": True,
    "receive_window_limited_ratio": 0.0,
    "send_buffer_limited_ratio": 0.25,
    "unsent_bytes": 0,
    "idle_seconds": 0.001,
}
RAY = {
    **PEER,
    "process": "ray",
    "rank": None,
    "ranks": [1, 2],
    "connections": 1,
    "child_connections": 0,
    "interface": None,
}
UNKNOWN = dict.fromkeys(PEER) | {"address": "fe80::1%eth0", "process": "own", "connections": 1, "child_connections": 0}
PORT: dict[str, Any] = {
    "device": "mlx5_0",
    "port": 1,
    "driver": "mlx5_core",
    "link_layer": "InfiniBand",
    "state": "active",
    "physical_state": "link_up",
    "rate_bits_per_second": 400_000_000_000,
    "interface": "ib0",
    "gids": [{"index": 0, "gid": "fe80::2", "type": "IB/RoCE v1", "interface": None}],
    "receive_bytes_total": 7,
    "transmit_bytes_total": 8,
    "receive_bytes_per_second": 1_250_000_000,
    "transmit_bytes_per_second": None,
    "counters": {"out_of_sequence": 3, "symbol_error": 0},
    "counters_per_second": {"out_of_sequence": 1.5, "symbol_error": 0.0},
    "window_seconds": 1.0,
}
CARD: dict[str, Any] = {
    "address": "0000:3b:00.0",
    "kind": "network",
    "names": ["eth0", "mlx5_0"],
    "current_transfers_per_second": 8e9,
    "maximum_transfers_per_second": 16e9,
    "current_lanes": 8,
    "maximum_lanes": 16,
    "current_capacity_bits_per_second": 63_015_384_615,
    "limited": True,
}
GPU: dict[str, Any] = {
    "gpu": 0,
    "uuid": "GPU-1",
    "links_active": 18,
    "receive_bytes_total": 1,
    "transmit_bytes_total": 2,
    "receive_bytes_per_second": 3,
    "transmit_bytes_per_second": 4.0,
    "window_seconds": 1.0,
}
TRANSPORT: dict[str, Any] = {
    "plane": "tcp",
    "interface": "docker0",
    "reason": "the job's TCP connections carried 1.2 GB in the last 60 s",
    "rdma_bytes_total": 0,
    "tcp_bytes_total": 1_200_000_000,
    "loopback_bytes_total": 0,
    "rdma_bytes_per_second": 0.0,
    "tcp_bytes_per_second": 20_000_000,
    "loopback_bytes_per_second": 0.0,
    "rdma_idle_reason": "NCCL_IB_DISABLE=1 tells NCCL not to use it",
    "shares": [{"interface": "eth0", "ratio": 0.99}, {"interface": "eth1", "ratio": None}],
    "wrong_interface": "docker0 is a bridge between containers of this host",
    "advice": "before the ranks start, set GLOO_SOCKET_IFNAME=eth0",
}
TEST: dict[str, Any] = {
    "tool": "iperf3",
    "target": "10.0.0.2:5201",
    "direction": "transmit",
    "parallel": 2,
    "timestamp_seconds": 1.7e9,
    "seconds": 2,
    "bytes": 250_000_000,
    "sender_bytes_per_second": 126e6,
    "receiver_bytes_per_second": 125_000_000,
    "segments_retransmitted": 3,
    "rtt_seconds": 0.0042,
    "error": None,
}
FAILED = {
    **dict.fromkeys(TEST),
    "tool": "netmon",
    "target": "10.0.0.3",
    "direction": "receive",
    "error": "busy\x1b[2J",
}
SECTIONS: dict[str, Any] = {
    "peers": [PEER, UNKNOWN, RAY],
    "rdma": [PORT, {**PORT, "port": 2, "gids": None, "counters": {}, "counters_per_second": None, "state": "down"}],
    "pcie": [CARD],
    "nvlink": [GPU],
    "transport": TRANSPORT,
    "bandwidth_tests": [TEST, FAILED],
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    with netmon.Monitor(interval=3600) as monitor:
        measured = monitor.sample().to_dict()
    return {**measured, **SECTIONS}


@pytest.fixture
def sample(document: dict[str, Any]) -> netmon.Sample:
    return netmon.Sample(json.dumps(document).encode())


def go_fields(struct: str) -> set[str]:
    """The JSON names of a struct of core/sample, in Go."""
    for path in (ROOT / "core" / "sample").glob("*.go"):
        found = re.search(rf"^type {struct} struct {{\n(.*?)^}}", path.read_text(), re.MULTILINE | re.DOTALL)
        if found:
            return set(re.findall(r'`json:"(\w+)"`', found[1]))
    raise AssertionError(f"core/sample has no {struct}")


@pytest.mark.parametrize(
    ("cls", "struct", "rows"),
    [
        (netmon.Peer, "Peer", SECTIONS["peers"]),
        (netmon.RDMAPort, "RDMAPort", SECTIONS["rdma"]),
        (netmon.RDMAGID, "RDMAGID", PORT["gids"]),
        (netmon.PCIe, "PCIe", [CARD]),
        (netmon.NVLink, "NVLink", [GPU]),
        (netmon.Transport, "Transport", [TRANSPORT]),
        (netmon.InterfaceShare, "InterfaceShare", TRANSPORT["shares"]),
        (netmon.BandwidthTest, "BandwidthTest", [TEST, FAILED]),
    ],
)
def test_types_are_those_of_the_library(cls: type[Any], struct: str, rows: list[dict[str, Any]]) -> None:
    assert {f.name for f in dataclasses.fields(cls)} == go_fields(struct)
    assert all(set(row) == go_fields(struct) for row in rows)


def test_sections_are_the_documents(sample: netmon.Sample, document: dict[str, Any]) -> None:
    for name in ("peers", "rdma", "pcie", "nvlink", "bandwidth_tests"):
        rows = getattr(sample, name)
        assert [row.to_dict() for row in rows] == document[name], name
        assert getattr(sample, name) is rows, "decoded once"
        for row in rows:
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(row, dataclasses.fields(row)[0].name, None)
            for field in dataclasses.fields(row):
                if str(field.type).startswith("float"):
                    assert isinstance(getattr(row, field.name), (float, type(None))), f"{name}.{field.name}"
        assert pickle.loads(pickle.dumps(rows)) == rows
        assert hash(rows) == hash(pickle.loads(pickle.dumps(rows)))
    assert sample.transport is not None
    assert sample.transport.to_dict() == document["transport"]
    assert sample.transport.shares is not None
    assert sample.transport.shares[0] == netmon.InterfaceShare("eth0", 0.99)


def test_sections_that_were_not_measured(document: dict[str, Any]) -> None:
    unknown = netmon.Sample({**document, **dict.fromkeys(SECTIONS), "unavailable": {"rdma": "no /sys/class/infiniband"}})
    empty = netmon.Sample({**document, **{name: [] for name in SECTIONS if name != "transport"}})
    for name in SECTIONS:
        assert getattr(unknown, name) is None
        if name != "transport":
            assert len(getattr(empty, name)) == 0
    assert unknown.reason("rdma") == unknown.reason("rdma.receive_bytes_per_second") == "no /sys/class/infiniband"


def test_peers_by_address_and_place(sample: netmon.Sample) -> None:
    peers = sample.peers
    assert peers is not None
    assert [peer.process for peer in peers] == ["own", "own", "ray"]
    assert peers["10.0.0.2"] is peers[0], "the own row, not Ray's"
    assert peers.addresses == ("10.0.0.2", "fe80::1%eth0")
    assert len(peers) == 3
    assert "10.0.0.2" in peers
    assert peers[2] in peers
    assert "10.0.0.3" not in peers
    assert peers.get("10.0.0.3") is None
    with pytest.raises(KeyError, match=r"there is no peer '10\.0\.0\.3'; there are 10\.0\.0\.2, fe80::1%eth0"):
        peers["10.0.0.3"]


def test_rdma_ports_by_name(sample: netmon.Sample) -> None:
    ports = sample.rdma
    assert ports is not None
    assert ports.names == ("mlx5_0/1", "mlx5_0/2")
    assert ports["mlx5_0/1"].gids == (netmon.RDMAGID(0, "fe80::2", "IB/RoCE v1", None),)
    assert ports["mlx5_0/2"].gids is None
    with pytest.raises(KeyError, match="there is no RDMA port 'mlx5_0'"):
        ports["mlx5_0"]


def test_rows_of_numbers(sample: netmon.Sample) -> None:
    """By the names that the library's statistics have."""
    row = flat(sample.to_dict())
    assert row["peers.10.0.0.2.rtt_seconds"] == 0.00042
    assert row["peers.10.0.0.2.connections"] == 4, "the own row, not Ray's"
    assert row["peers.fe80::1%eth0.rtt_seconds"] is None
    assert row["rdma.mlx5_0.1.receive_bytes_per_second"] == 1_250_000_000
    assert row["rdma.mlx5_0.1.counters_per_second.out_of_sequence"] == 1.5
    assert row["nvlink.0.links_active"] == 18
    assert row["transport.tcp_bytes_total"] == 1_200_000_000
    for name in row:
        last = name.rpartition(".")[2]
        assert last not in ("address", "interface", "ranks", "process", "plane", "gids", "delivery_app_limited", "uuid"), name
    assert all(value is None or type(value) in (int, float) for value in row.values())


@pytest.mark.parametrize(
    "name",
    [
        "peers.10.0.0.2.rtt_seconds",
        "rdma.mlx5_0.1.counters.out_of_sequence",
        "nvlink.0.receive_bytes_per_second",
        "transport.tcp_bytes_total",
        "totals.busy_ratio",
        "self.peers_read_seconds",
    ],
)
def test_statistics_know_the_same_names(name: str) -> None:
    with netmon.Monitor(interval=3600) as monitor:
        assert monitor.stats(name).metric == name


# For people


def text(document: dict[str, Any], **changes: Any) -> str:
    return describe(netmon.Sample({**document, "unavailable": {}, **changes}))


def table(said: str, head: str) -> list[str]:
    lines = said.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith(f"  {head}"))
    return [line.rstrip() for line in lines[begin : lines.index("", begin)]]


def test_peers_for_people(document: dict[str, Any]) -> None:
    assert table(text(document), "peer") == [
        "  peer          rank  interface  connections    sent  received     rtt  rtt min  retransmitted",
        "  10.0.0.2      1     eth0               4+2  1 Gbps  100 kbps  420 µs    18 µs    12 of 30420",
        "  fe80::1%eth0  -     -                    1       -         -       -        -              -",
        "  10.0.0.2 ray  1,2   -                    1  1 Gbps  100 kbps  420 µs    18 µs    12 of 30420",
    ]


def test_of_many_peers_those_that_matter(document: dict[str, Any]) -> None:
    many = [{**PEER, "address": f"10.0.1.{i}", "ranks": list(range(8)), "sent_bytes_per_second": 1000.0 * i} for i in range(40)]
    said = table(text(document, peers=many), "peer")
    assert [line.split()[0] for line in said[1:-1]] == [f"10.0.1.{i}" for i in range(24, 40)]
    assert "8 ranks" in said[1]
    assert said[-1] == "  and 24 more"
    assert len(table(describe(netmon.Sample({**document, "peers": many}), all_interfaces=True), "peer")) == 41


def test_rdma_for_people(document: dict[str, Any]) -> None:
    assert table(text(document), "RDMA port") == [
        "  RDMA port  link layer  state   interface      rate  receive  transmit",
        "  mlx5_0/1   InfiniBand  active  ib0        400 Gbps  10 Gbps         -  out_of_sequence 1.5/s",
        "  mlx5_0/2   InfiniBand  down    ib0        400 Gbps  10 Gbps         -",
    ]
    assert "RDMA" not in text(document, rdma=[], transport=None)
    assert "RDMA" not in text(document, rdma=None, unavailable={"rdma": "no /sys/class/infiniband"}, transport=None)


def test_transport_for_people(document: dict[str, Any]) -> None:
    said = text(document)
    assert (
        "transport tcp over docker0: the job's TCP connections carried 1.2 GB in the last 60 s\n"
        "          wrong interface: docker0 is a bridge between containers of this host\n"
        "          RDMA is idle: NCCL_IB_DISABLE=1 tells NCCL not to use it\n"
        "          advice: before the ranks start, set GLOO_SOCKET_IFNAME=eth0\n"
    ) in said
    assert "RDMA is idle" not in text(document, rdma=[]), "where there is none, nothing is idle"
    none = {**TRANSPORT, "plane": "none", "interface": None}
    assert "transport none: the job's" in text(document, transport=none, job={**document["job"], "rank": 0})
    assert "transport" not in text(document, transport=none, job=dict.fromkeys(document["job"]), rdma=[]), "there is no job"
    long = {**TRANSPORT, "reason": "word " * 100}
    assert max(map(len, text(document, transport=long).splitlines())) <= 110
    unknown = {**TRANSPORT, "plane": None}
    said = text(document, transport=unknown, unavailable={"transport.plane": "the job's connections are not known"})
    assert "\n  transport.plane: the job's connections are not known" in said


def test_names_are_only_text(document: dict[str, Any]) -> None:
    """A device, interface or address may be called nearly anything, and reasons quote them; a terminal must not obey."""
    evil = "\x1b[31m\u202e\n"
    said = text(
        document,
        peers=[{**PEER, "address": evil, "interface": evil, "process": evil}],
        rdma=[{**PORT, "device": evil, "interface": evil, "counters_per_second": {evil: 1.0}}],
        transport={**TRANSPORT, "interface": evil, "reason": evil, "wrong_interface": evil, "advice": evil},
    )
    tests = [netmon.Sample({**document, "bandwidth_tests": [{**TEST, "target": evil, "error": evil}]}).bandwidth_tests]
    assert all(c.isprintable() or c == "\n" for c in said)
    assert all(c.isprintable() for c in str(tests[0][0]))  # type: ignore[index]


def test_bandwidth_tests_for_people(sample: netmon.Sample) -> None:
    assert sample.bandwidth_tests is not None
    sent = dataclasses.replace(sample.bandwidth_tests[0], receiver_bytes_per_second=None, bytes=None, parallel=None)
    assert (
        str(sent)
        == "iperf3 to 10.0.0.2:5201: 1.01 Gbps (in 2 s, by the sender's figure), 3 segments retransmitted, round trip 4.2 ms"
    )
    assert [str(test) for test in sample.bandwidth_tests] == [
        "iperf3 to 10.0.0.2:5201: 1 Gbps (250 MB in 2 s), 2 connections, 3 segments retransmitted, round trip 4.2 ms",
        "netmon from 10.0.0.3: busy?[2J",
    ]


# Arguments


def test_without_peers() -> None:
    with netmon.Monitor(interval=3600, peers=False) as monitor:
        sample = monitor.sample()
    assert sample.peers is None
    assert sample.reason("peers") == "not in sources"
    assert sample.tcp is not None
    with netmon.Monitor(interval=3600, peers=False, sources=["tcp"]) as monitor:
        assert monitor.sample().reason("udp") == "not in sources"
    with pytest.raises(netmon.ConfigError, match='peers=False contradicts sources, which has "peers"'):
        netmon.Monitor(peers=False, sources=["tcp", "peers"])


def test_sources_are_those_of_the_library() -> None:
    from netmon._monitor import _SOURCES

    with pytest.raises(netmon.ConfigError) as caught:
        netmon.Monitor(sources=["nothing"])
    assert f"is none of {', '.join(_SOURCES)}" in str(caught.value)


def test_fine_sampling() -> None:
    with netmon.Monitor(interval=0.2, interfaces=["lo"]) as monitor:
        assert monitor.sample_finely(5) == netmon.FineSampling(5.0, 0.02)
        held = monitor.sample_finely(seconds=1, interval=0.05)
        assert (4 < held.seconds <= 5, held.interval_seconds) == (True, 0.02), "the later end and the shorter interval"
        assert monitor.sample_finely(0).seconds == 0
        with pytest.raises(netmon.InvalidArgumentError, match="seconds"):
            monitor.sample_finely(61)
        with pytest.raises(netmon.InvalidArgumentError, match="interval_seconds"):
            monitor.sample_finely(interval=1)
