"""rldk's collectors on top of the view of the job, with two ranks on each of two hosts that train meanwhile (D34 to D39)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab import Lab
from test_cluster import PORT, Rank, complaints, until

import netmon
from netmon.integrations import rldk
from netmon.integrations.rldk import _job_view

pytestmark = pytest.mark.torch


@pytest.fixture
def ranks(make_lab: Callable[..., Lab], tmp_path: Path) -> Any:
    pytest.importorskip("torch")
    pytest.importorskip("pandas")
    lab = make_lab(3, ipv6=False)
    place = f"{lab.hosts[2].address}:{PORT}"
    started = [Rank(lab.hosts[2], -1, 4, place)]
    try:
        assert started[0].line() == "ready\n"
        started += [
            Rank(lab.hosts[rank // 2], rank, 4, place, "rldk", "interval=0.5", errors=tmp_path / f"{rank}.txt")
            for rank in range(4)
        ]
        for rank in started[1:]:
            assert rank.line(180) == "ready\n"
        yield started[1:]
    finally:
        for rank in started:
            rank.end()


def test_d34_d36_d37_d39_collectors_tell_of_the_whole_job(ranks: list[Rank]) -> None:
    def told(rank: Rank) -> Any:
        found = rank.ask("rldk")
        latest = found["latest"]
        if not latest or latest["node_count"] != 2 or len(found["nodes"]) != 2:
            return None
        # Both nodes have been there for long enough to have rates.
        both = latest["network_bandwidth_total"] == pytest.approx(2 * latest["network_bandwidth_mean"])
        return found if both and latest["network_bandwidth_total"] > 0 else None

    for rank in ranks:
        found, _ = until(lambda rank=rank: told(rank), 60)
        latest, view = found["latest"], rank.ask("view")["view"]
        # D34: something is collected although the process group is initialised.
        assert found["history"] > 0
        # D36: what is a node's counts once a node, not once a rank.
        assert (latest["world_size"], latest["node_count"]) == (4, 2)
        speeds = [node["network_bandwidth"] for node in found["nodes"].values()]
        assert 0 < latest["network_bandwidth_max"] < latest["network_bandwidth_total"]
        assert all(speed > 0 for speed in speeds)
        assert [len(node["ranks"]) for node in view["nodes"]] == [2, 2]
        # D37: all columns; what nobody measured is said to be unmeasured.
        assert {"network_bandwidth_mean", "network_bandwidth_max", "max_network_latency"} <= set(found["frame"])
        assert {"broadcast_time", "gather_time", "scatter_time"} <= set(latest["unmeasured"])
        assert "allreduce_time" not in latest["unmeasured"]
        assert latest["allreduce_time"] > 0
        # D39: network metrics of every node.
        until(lambda rank=rank: len(rank.ask("rldk")["node_metrics"]) == 2, 20)
    # D38: rank 0 aggregates alone, and nobody else does.
    rows, _ = until(lambda: (rows := ranks[0].ask("rldk")["aggregated"]) and rows[0]["node_count"] == 2 and rows, 20)
    assert len(rows[0]["node_metrics"]) == 2
    assert all("network_bandwidth" in row for row in rows[0]["node_metrics"].values())
    assert ranks[1].ask("rldk")["aggregated"] == []
    # D35: the job's own collectives go on, and bring what they should: none is netmon's.
    before = [rank.ask("threads") for rank in ranks]
    until(lambda: all(rank.ask("threads")["steps"] > found["steps"] + 5 for rank, found in zip(ranks, before, strict=True)), 60)
    for rank in ranks:
        after = rank.ask("threads")
        assert after["raised"] is None
        assert after["sum"] == 4000.0 * after["steps"] or after["sum"] == 4000.0 * (after["steps"] + 1)
        assert complaints(rank) == []


def test_a_process_that_is_alone_gets_no_thread() -> None:
    collector = rldk.DistributedMetricsCollector()
    metrics = collector._collect_distributed_metrics()
    assert metrics.node_count == 1
    assert "process group" in str(_job_view.newest())


def view_of(**receive_rates: float | None) -> Any:
    """Return a view of nodes and what they receive, each with one rank."""
    nodes = [
        {"name": name, "ranks": [rank], "processes": 1, "state": "live", "age_seconds": 0.0, "wrong_interface": False}
        | {"receive_bytes_per_second": rate}
        for rank, (name, rate) in enumerate(receive_rates.items(), 1)
    ]
    return netmon.ClusterView.from_dict(
        {"sequence": 1, "engine": "table", "timestamp_seconds": 1.0, "world_size": None}
        | {"nodes": nodes, "ranks": [], "unavailable": {}}
    )


def test_nodes_that_are_gone_are_not_kept_and_history_is_not_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    views: list[Any] = [view_of(b=1e6, c=1e6), view_of(b=2e6, c=None), view_of(b=3e6), "the store is gone"]
    monitor, collector = rldk.MultiNodeMonitor(), rldk.DistributedMetricsCollector()
    rows, known = [], []
    for view in views:
        monkeypatch.setattr(_job_view, "newest", lambda view=view: view)
        monitor._monitoring_loop()
        collector._collection_loop()
        nodes = monitor.get_node_metrics()
        rows.append({name: row.get("network_bandwidth") for name, row in nodes.items() if name in ("b", "c")})
        known.append(sorted(name for name in collector.node_metrics if name in ("b", "c")))
    assert rows == [{"b": 8.0, "c": 8.0}, {"b": 16.0, "c": None}, {"b": 24.0}, {}]
    assert known == [["b", "c"], ["b", "c"], ["b"], []]
    aggregated = monitor.get_aggregated_metrics()
    assert [row["node_count"] for row in aggregated] == [3, 3, 2, 1]
    assert [row["node_metrics"].get("b", {}).get("network_bandwidth") for row in aggregated] == [8.0, 16.0, 24.0, None]
