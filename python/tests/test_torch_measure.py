"""Measuring collectives: where all ranks ask for it, and what happens where one does alone."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import Lab
from test_torch_collectives import RANK, WAYS, finish, run, run_in

import netmon
from netmon.integrations.torch import attach, measure_collectives
from netmon.integrations.torch._measure import FACTORS
from netmon.integrations.torch._tracker import EXACT, OP, now

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("way", WAYS)
def test_alone_and_together(tmp_path: Path, way: tuple[str, str]) -> None:
    pytest.importorskip("torch")
    ranks = run(tmp_path, way, "measure")
    assert ranks[0]["rows"] == ranks[1]["rows"], "the same on all ranks"
    for rank, found in enumerate(ranks):
        rows = found["rows"]
        assert [(row["op"], row["size_bytes"]) for row in rows] == [(op, size) for op in FACTORS for size in (1000, 1 << 20)]
        for row in rows:
            if way[1] == "old" and row["op"] == "reduce_scatter":
                assert "does not support" in row["error"]
                assert row["seconds"] is None
                continue
            assert row["error"] is None
            assert row["runs"] >= 1
            assert row["algbw_bytes_per_second"] == pytest.approx(row["size_bytes"] / row["seconds"])
            assert row["busbw_bytes_per_second"] == pytest.approx(row["algbw_bytes_per_second"] * FACTORS[row["op"]](2))
        assert min(row["seconds"] or 1 for row in rows) < 0.001, "nothing is too fast to be measured"
        kind, sentence = found["alone"]
        assert kind == "TimedOutError"
        assert f"rank {1 - rank} did not call it within 0.5 s" in sentence
        assert found["alone took"] < 2
        assert found["trains on"]
        assert found["together"] == found["after"] == 1
        assert found["different"][0] == "InvalidArgumentError"
        assert "different arguments" in found["different"][1]
        # What is passive counts the job's own, and not the measurement's.
        assert found["passive"] == ["all_reduce"] * 2
        assert [kind for kind, _ in found["arguments"]] == ["InvalidArgumentError"] * 4
        assert found["no group"][0] == "UnsupportedError"


@pytest.mark.parametrize("store", ["file", "tcp"])
def test_ranks_that_come_and_go(tmp_path: Path, store: str) -> None:
    """Whoever gives up and whoever goes ahead learn the same: nobody is left in a collective."""
    pytest.importorskip("torch")
    ranks = run(tmp_path, (sys.executable, ""), "late") if store == "file" else run_tcp("late")
    assert [found["sum"] for found in ranks] == [2, 2]
    assert ranks[0]["outcomes"].count(1) == ranks[1]["outcomes"].count(1)
    assert ranks[0]["outcomes"][-1] == 1


def run_tcp(scenario: str, returncodes: list[int] | None = None) -> list[dict[str, object]]:
    """Run two ranks on loopback whose store is a TCPStore."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, RANK, scenario, str(rank), "2", f"127.0.0.1:{port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    return finish(ranks, returncodes)


def test_a_rank_that_is_lost_in_the_middle() -> None:
    pytest.importorskip("torch")
    found, _ = run_tcp("lost", returncodes=[0, 7])
    kind, sentence = found["error"]  # type: ignore[misc]
    assert kind == "UnreachableError"
    assert "a rank may be gone" in sentence


def test_a_store_that_is_frozen() -> None:
    pytest.importorskip("torch")
    for found in run_tcp("frozen"):
        assert found["after"] == 1
        if "error" in found:
            assert found["error"][0] in ("UnreachableError", "TimedOutError")  # type: ignore[index]
            assert found["took"] < 6  # type: ignore[operator]


def test_figures_over_a_link_of_a_known_rate(make_lab: Callable[..., Lab]) -> None:
    pytest.importorskip("torch")
    lab = make_lab(2, congestion_control="cubic")
    rate, size = 200e6, 8 << 20
    for host in lab.hosts:
        host.egress.limit_rate(rate)
    goodput = rate * 1448 / 1514 / 8
    for found in run_in(lab.hosts, "link", str(size)):
        for op, row in found.items():
            assert row["seconds"] == pytest.approx(row["own"], rel=0.1), op
        # Of the others gloo does not send and receive at once.
        for op in ("all_reduce", "broadcast"):
            assert found[op]["busbw_bytes_per_second"] == pytest.approx(goodput, rel=0.05), op


def test_factors_are_those_of_the_library() -> None:
    pytest.importorskip("torch")
    with netmon.Monitor(interval=60) as monitor, attach(monitor) as handle:
        tracker = handle._tracker
        for ranks in (1, 2, 3, 64):
            group = tracker.group(f"of {ranks}", ranks)
            for op in FACTORS:
                tracker.emit((OP[op], group, 1 << 20, now(), 0, 0, None), EXACT, 1_000_000, 0)
        handle.flush()
        rows = monitor.sample().collectives
    assert rows is not None
    assert len(rows) == 4 * len(FACTORS)
    for row in rows:
        assert row.algbw_bytes_per_second is not None
        assert row.busbw_bytes_per_second == pytest.approx(row.algbw_bytes_per_second * FACTORS[row.op](row.group_size)), row.op


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "torch.distributed", None)
    with pytest.raises(netmon.UnsupportedError, match="torch is not installed"):
        measure_collectives()


def test_rldk_monitor_follows_these_rules(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    ranks = run(tmp_path, (sys.executable, ""), "rldk")
    assert ranks[0]["speeds"] == ranks[1]["speeds"]
    for found in ranks:
        assert all(speed > 0 for speed in found["speeds"].values())
        assert found["unmeasured"] == []
        assert found["source"] == "measure_collectives: algbw"
        assert found["times"] == [1, 1]
        assert found["summary"]["avg_scatter_bandwidth"] == found["speeds"]["scatter_bandwidth"]
        assert found["one"] > 0
        assert found["off"] == 0.0
        assert found["sum"] == 2
    assert ranks[0]["alone"][0] == 0.0
    assert "rank 1 did not call it within 5 s" in ranks[0]["alone"][1]
    assert ranks[0]["alone took"] < 8
