"""Ranks find each other's hosts through the job's store, beside the training."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab import Link

import netmon
from netmon.integrations.torch import _client, _peers, find_peers
from netmon.integrations.torch._peers import _nodes

RANK = str(Path(__file__).with_name("peers_rank.py"))
PORT = "29712"


def train(link: Link, *options: str) -> list[dict[str, Any]]:
    """Run four ranks, two on each side of the link, and return what each found."""
    ranks = [
        (link.left if rank < 2 else link.right).start(
            sys.executable,
            RANK,
            link.left.address,
            PORT,
            str(rank),
            "4",
            *options,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(4)
    ]
    try:
        answers = [rank.communicate(timeout=60) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * 4, "".join(err for _, err in answers)
    return [json.loads(out.splitlines()[-1]) for out, _ in answers]


@pytest.mark.torch
def test_four_ranks_on_two_hosts(namespaces: Link) -> None:
    pytest.importorskip("torch")
    left, right = namespaces.left.address, namespaces.right.address
    found = train(namespaces)
    assert [f["problem"] for f in found] == [None] * 4
    # Each host once, by the first of its ranks that follows, and never the own one.
    assert [f["peers"] for f in found] == [{"2": right}, {"2": right}, {"0": left}, {"0": left}]
    assert [f["probed"] for f in found] == [[right], [right], [left], [left]]


@pytest.mark.torch
def test_ranks_that_do_not_look_are_not_waited_for(namespaces: Link) -> None:
    pytest.importorskip("torch")
    found = train(namespaces, "--alone")
    assert found[0] == {"peers": {}, "problem": "3 of 4 ranks said no address within 1 s", "done": True, "probed": []}


@pytest.mark.torch
def test_without_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with netmon.Monitor(interval=60) as monitor:
        search = find_peers(monitor)
        assert search.wait(60)
    assert search.problem is not None
    assert search.problem.startswith("no process group is initialised")


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with netmon.Monitor(interval=60) as monitor, find_peers(monitor) as search:
        assert search.wait(60)
    assert search.problem == "torch is not installed"


def test_hosts_of_the_ranks_that_follow() -> None:
    addresses = {rank: f"10.0.0.{rank // 2}" for rank in range(12) if rank != 5}
    assert _nodes(addresses, "10.0.0.2", 5, 12, 2) == {6: "10.0.0.3", 8: "10.0.0.4"}
    assert _nodes(addresses, "10.0.0.5", 11, 12, 64) == {
        0: "10.0.0.0",
        2: "10.0.0.1",
        4: "10.0.0.2",
        6: "10.0.0.3",
        8: "10.0.0.4",
    }
    assert _nodes({0: "10.0.0.1"}, "10.0.0.1", 0, 1, 64) == {}


@pytest.mark.torch
def test_addresses_of_an_earlier_start_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun's store outlives a restart of the job, after which a rank may be on another host."""
    pytest.importorskip("torch")
    distributed = importlib.import_module("torch.distributed")
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    client = _client.connect("127.0.0.1", store.port, _peers._PREFIX + _peers._attempt(), 5)
    client.set("1", "127.0.0.9")
    _client.let_go(client)
    for restart, found in (("0", {1: "127.0.0.9"}), ("1", {})):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restart)
        with netmon.Monitor(cluster=False) as monitor, _peers.find_peers(monitor, seconds=1.0) as search:
            assert search.wait(30)
            assert dict(search.peers) == found
