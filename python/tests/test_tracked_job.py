"""A job of three ranks on two hosts of the lab: what its tracker and its Prometheus are told is told once, and true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

pytest.importorskip("prometheus_client")
from test_prometheus import named, parsed

pytestmark = pytest.mark.torch

RANK = str(Path(__file__).with_name("tracked_rank.py"))
PORT = 29771
STEPS, BYTES = 20, 4_000_000  # of each step
WAYS = ("receive", "transmit")


def test_a_job_is_told_once(make_lab: Callable[..., Lab], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    lab = make_lab(2, ipv6=False)
    ranks = []
    for rank, (host, local) in enumerate(((0, 0), (0, 1), (1, 0))):
        who = {"RANK": rank, "LOCAL_RANK": local, "WORLD_SIZE": 3, "LOCAL_WORLD_SIZE": 2 - host, "NODE_RANK": host}
        environment = {**os.environ, **{name: str(value) for name, value in who.items()}, "GLOO_SOCKET_IFNAME": "eth0"}
        environment |= {"MASTER_ADDR": lab.hosts[0].address, "MASTER_PORT": str(PORT), "OMP_NUM_THREADS": "1"}
        folder = tmp_path / str(host)
        folder.mkdir(exist_ok=True)
        command = [sys.executable, RANK, str(folder), str(STEPS)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        ranks.append(lab.hosts[host].start(*command, env=environment, **pipes))
    try:
        told = [json.loads(rank.stdout.readline()) for rank in ranks]
        files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.prom"))
    finally:
        for rank in ranks:
            rank.stdin.close()
    assert [rank.wait(60) for rank in ranks] == [0, 0, 0]

    # A tracker, at the rank that logs.
    values = told[0]["values"]
    assert values["network/nodes"] == 2
    assert values["network/phase/sync/seconds"] > 0
    assert BYTES * STEPS <= values["network/phase/sync/bytes"] <= 6 * BYTES * STEPS
    nodes = {name.split("/")[2] for name in values if name.startswith("network/node/")}
    assert len(nodes) == 2
    assert values["network/drops"] == 0
    assert {"network/receive_bytes_per_second", "network/retransmit_ratio", "network/rtt_p50_seconds"} <= values.keys()

    # Prometheus: of a node its first rank, of the job the one that makes the view.
    texts = [parsed(one["text"])[0] for one in told]
    for rank, of_node in enumerate((True, False, True)):
        names = {name for name, _ in texts[rank]}
        assert ("netmon_receive_bytes_total" in names) is of_node
        (info,) = [dict(labels) for name, labels in texts[rank] if name == "netmon_info"]
        assert info["rank"] == str(rank)
        assert named(texts[rank], "netmon_phase_parts_total", phase="sync") == [STEPS]
    makers = [rank for rank, series in enumerate(texts) if named(series, "netmon_job_nodes")]
    assert len(makers) == 1
    assert named(texts[makers[0]], "netmon_job_ranks", state="live") == [3]
    # What one host sent the other has got.
    there = {
        way: [named(texts[rank], f"netmon_interface_{way}_bytes_total", interface="eth0")[0] for rank in (0, 2)] for way in WAYS
    }
    for sender, receiver in ((0, 1), (1, 0)):
        assert there["transmit"][sender] == pytest.approx(there["receive"][receiver], rel=0.02)
        assert BYTES * STEPS <= there["transmit"][sender] <= 6 * BYTES * STEPS
    # Each rank had a file of its own, and none is left.
    assert files == ["0/netmon-rank0.prom", "0/netmon-rank1.prom", "1/netmon-rank2.prom"]
    assert list(tmp_path.rglob("*.prom")) == []
