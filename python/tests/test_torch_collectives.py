"""The timing of a job's collectives: what is seen, how exact, and that the job does not feel it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab import Host, Lab

import netmon
from netmon.integrations.torch import attach

RANK = str(Path(__file__).with_name("collectives_rank.py"))
FLOAT = 4

# A torch of before 2.14, which has no hooks: the Python that has it.
OLD = os.environ.get("NETMON_OLD_TORCH_PYTHON")
old_torch = pytest.param((OLD, "old"), marks=pytest.mark.skipif(not OLD, reason="NETMON_OLD_TORCH_PYTHON names none"), id="old")
WAYS = [
    pytest.param((sys.executable, ""), id="hooks"),
    pytest.param((sys.executable, "library"), id="library"),
    old_torch,
]
pytestmark = pytest.mark.torch


def finish(ranks: list[subprocess.Popen[str]], returncodes: list[int] | None = None) -> list[Any]:
    """Wait for ranks and return what each found."""
    try:
        answers = [rank.communicate(timeout=180) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    errors = "".join(err for _, err in answers)
    assert [rank.returncode for rank in ranks] == (returncodes or [0] * len(ranks)), errors
    return [json.loads(out.splitlines()[-1]) if out else None for out, _ in answers]


def run(folder: Path, way: tuple[str, str], scenario: str, *more: str, returncodes: list[int] | None = None) -> list[Any]:
    """Run two ranks on loopback."""
    python, option = way
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            [python, RANK, scenario, str(rank), "2", str(folder / "store"), *filter(None, [option]), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    return finish(ranks, returncodes)


def run_in(hosts: list[Host], scenario: str, *more: str) -> list[Any]:
    """Run a rank on each host of a lab."""
    ranks = [
        host.start(
            sys.executable,
            RANK,
            scenario,
            str(rank),
            str(len(hosts)),
            f"{hosts[0].address}:29713",
            *more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "GLOO_SOCKET_IFNAME": "eth0"},
        )
        for rank, host in enumerate(hosts)
    ]
    return finish(ranks)


@pytest.fixture(scope="module", params=WAYS)
def calls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("torch")
    found = run(tmp_path_factory.mktemp("calls"), request.param, "calls")
    return {"way": request.param[1] or "hooks", "found": found}


# What each way to call a collective is recorded as: op, number of floats, and whether the end is exact.
N = 2
EXPECTED = {
    "all_reduce": [("all_reduce", 1000)],
    "broadcast": [("broadcast", 1001)],
    "reduce": [("reduce", 1002)],
    "all_gather": [("all_gather", 1003 * N)],
    "all_gather_into_tensor": [("all_gather", 1004 * N)],
    "reduce_scatter": [("reduce_scatter", 1005 * N)],
    "reduce_scatter_tensor": [("reduce_scatter", 1006 * N)],
    "all_to_all_single": [("all_to_all", 1007 * N)],
    "gather": [("gather", 1008 * N)],
    "scatter": [("scatter", 1009 * N)],
    "barrier": [],  # the one that ends each of these
    "async_op": [("all_reduce", 1010)],
    "overlapping": [("all_reduce", 2000 + i) for i in range(8)],
    "not waited for": [("all_reduce", 1011)],
    "functional": [("all_reduce", 1015), ("all_gather", 1016 * N)],
    "new groups": [("all_reduce", 1017), ("all_reduce", 1017)],
    "dtensor": [("all_gather", 1018 * N)],
    "fsdp": [("all_gather", 64 * 64), ("reduce_scatter", 64 * 64)],
    "batch": [("send", 1014), ("recv", 1014)],
}


def test_every_way_to_call_one(calls: Any) -> None:
    for rank, found in enumerate(calls["found"]):
        expected = dict(EXPECTED)
        there_and_back = [("send", 1012), ("recv", 1013)]
        expected["send and recv"] = there_and_back if rank == 0 else [("recv", 1012), ("send", 1013)]
        if calls["way"] == "old":
            del expected["reduce_scatter"], expected["fsdp"]
        for name, want in expected.items():
            got = [(record["op"], record["bytes"] / FLOAT) for record in found[name]]
            assert got == want, name
        assert found["problem"] is None
        assert found["dropped"] == 0


def test_ddp_and_objects(calls: Any) -> None:
    for found in calls["found"]:
        buckets = [record for record in found["ddp"] if record["op"] == "all_reduce"]
        assert sum(record["bytes"] for record in buckets) == 3 * found["parameters"]
        assert sum(r["bytes"] for r in found["ddp starts"] if r["op"] == "broadcast") >= found["parameters"]
        assert all(record["end"] in ("polled", "bound") for record in buckets), "C++ waits for them"
        assert [record["op"] for record in found["all_gather_object"]] == ["all_gather"] * 2


def test_groups_and_sequences(calls: Any) -> None:
    for found in calls["found"]:
        one, other = found["new groups"]
        assert one["group"] != other["group"]
        assert (one["group_size"], one["sequence"], other["sequence"]) == (2, 0, 0)
        assert found["all_reduce"][0]["group"] == "default_pg"
    # The same call has the same number everywhere: only so can ranks be compared.
    for name in ("all_reduce", "overlapping", "ddp", "functional"):
        first, second = ([(r["op"], r["bytes"], r["group"], r["sequence"]) for r in found[name]] for found in calls["found"])
        assert first == second, name


def test_durations_are_those_of_the_jobs_own_clock(calls: Any) -> None:
    for found in calls["found"]:
        timed = [record for record in found["timed"] if record["op"] == "all_reduce"]
        assert len(timed) == 5
        for record, (begun, took) in zip(timed, found["own"], strict=True):
            assert record["end"] == "exact"
            assert begun <= record["enter_seconds"]
            assert record["enter_seconds"] + record["duration_seconds"] <= begun + took
        # What is between is Python's own calls; another process may have had the processor now and then.
        assert min(took - r["duration_seconds"] for r, (_, took) in zip(timed, found["own"], strict=True)) < 0.001


def test_every_end_says_how_exact_it_is(calls: Any) -> None:
    for found in calls["found"]:
        for name in EXPECTED:
            for record in found.get(name, ()):
                assert record["end"] in ("exact", "polled", "bound"), (name, record)
                assert record["duration_error_seconds"] >= 0, (name, record)
                assert (record["end"] == "exact") == (record["duration_error_seconds"] == 0), (name, record)
        assert found["not waited for"][0]["end"] in ("polled", "bound")
        assert found["async_op"][0]["end"] in ("exact", "bound", "polled")


def test_tensors_are_not_kept(calls: Any) -> None:
    for found in calls["found"]:
        assert not found["kept after a synchronous call"]
        assert not found["kept after nobody waited"]


def test_the_section_of_the_sample(calls: Any) -> None:
    for found in calls["found"]:
        source = "torch hooks" if calls["way"] == "hooks" else "torch library"
        assert found["source"] == source
        rows = found["rows"]
        assert {row["source"] for row in rows} == {source}
        assert {row["op"] for row in rows} >= {"all_reduce", "broadcast", "all_gather", "barrier", "gather", "scatter"}
        assert all(
            row["size_bucket_bytes"] <= row["bytes_total"] / row["count"] < 2 * row["size_bucket_bytes"] + 1 for row in rows
        )
        assert found["unexplained"] == []
        assert "replays of CUDA graphs" in found["unseen"]
        assert found["ratio"] is not None


def test_close_restores(calls: Any) -> None:
    for found in calls["found"]:
        assert found["remaining"] is None
        assert found["after close"] == []
        assert found["still a list"]


@pytest.mark.parametrize("way", WAYS)
def test_attached_and_closed_again_and_again(tmp_path: Path, way: tuple[str, str]) -> None:
    pytest.importorskip("torch")
    for found in run(tmp_path, way, "again"):
        assert found["counts"] == [1] * 20
        assert found["remaining"] is None
        assert found["restored"]
        assert found["threads after"] == found["threads"]
        # Two monitors, and one that goes first.
        assert found["both"] == [[4, 8], [8, 12]]
        assert len(set(found["groups"])) == 1
        assert found["sinks of a closed monitor"] == 0


@pytest.mark.parametrize("way", WAYS)
def test_closed_while_other_threads_call(tmp_path: Path, way: tuple[str, str]) -> None:
    pytest.importorskip("torch")
    for found in run(tmp_path, way, "threads"):
        assert "other threads may be calling collectives" in found["remaining"]
        assert found["problem"] is None
        assert all(0 < count <= rounds for count, rounds in zip(sorted(found["counts"]), sorted(found["rounds"]), strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_where_there_is_no_time_to_look_for_ends(tmp_path: Path, way: tuple[str, str]) -> None:
    """All are counted and let go of; durations come when there is time."""
    pytest.importorskip("torch")
    for found in run(tmp_path, way, "poor"):
        poor, rich = found["poor"], found["rich"]
        total = [sum(row["bytes_total"] for row in state["rows"]) for state in (poor, rich)]
        assert total[0] >= (found["poor steps"] - 1) * found["parameters"], "the last may be under way"
        assert (found["steps"] - 1) * found["parameters"] <= total[1] <= found["steps"] * found["parameters"]
        assert found["live"] <= 3
        timed = [sum(row["duration_count"] for row in state["rows"]) for state in (poor, rich)]
        assert timed[1] > timed[0]
        assert any(row["p50_seconds"] is not None for row in rich["rows"])
        assert all(state["ratio"] is not None or "to spare the job" in state["why"] for state in (poor, rich))


@pytest.mark.parametrize("way", WAYS)
def test_a_rank_that_dies_in_the_middle(tmp_path: Path, way: tuple[str, str]) -> None:
    pytest.importorskip("torch")
    found, _ = run(tmp_path, way, "trouble", returncodes=[0, 7])
    assert found["raised"] == "RuntimeError", "as without netmon"
    assert [record["bytes"] for record in found["records"]] == [40, 44]
    assert found["records"][0]["end"] in ("exact", "bound")
    assert found["records"][1]["end"] == "failed"
    assert found["records"][1]["duration_seconds"] is None
    assert found["problem"] is None


@pytest.mark.parametrize("way", WAYS)
def test_ends_without_destroying_anything(tmp_path: Path, way: tuple[str, str]) -> None:
    pytest.importorskip("torch")
    assert run(tmp_path, way, "leave") == [{"left": True}] * 2  # no abort, no crash


@pytest.mark.parametrize("way", WAYS)
def test_forked_children(tmp_path: Path, way: tuple[str, str]) -> None:
    pytest.importorskip("torch")
    for found in run(tmp_path, way, "workers"):
        assert found["count"] == 32
        assert found["total"] == 2 * 2 * sum(range(64)) / 1
        assert found["child"] == 0


@pytest.mark.parametrize("way", WAYS)
def test_what_is_under_way(tmp_path: Path, way: tuple[str, str]) -> None:
    """While the other rank is stopped, or does not come, a sample names what waits for it."""
    pytest.importorskip("torch")
    found, _ = run(tmp_path, way, "pending")
    assert found["before"] == ["nothing is under way for long"]
    # all_gather_object and a barrier came first, before it was attached to and since.
    for name, op, size in (
        ("synchronous", "all_reduce", 4000),
        ("not waited for", "all_reduce", 4004),
        ("recv", "recv", 4008),
        ("barrier", "barrier", 0),
    ):
        got = found[name]
        assert (got["op"], got["bytes"], got["group"], got["group_size"]) == (op, size, "default_pg", 2), name
        assert got["count"] == 1, name
        assert 0.5 < got["first"] < got["first"] + 0.2 < got["seconds"], name
        assert got["vanishes"], name
    assert found["barrier"]["sequence"] > found["not waited for"]["sequence"] > found["synchronous"]["sequence"]
    assert found["child"] == 0
    assert found["of the parent"]
    assert found["late"]
    assert found["gone"]
    assert found["closed"] == "nobody records collectives any more"
    assert found["problem"] is None


def test_bus_bandwidth_is_bytes_by_time(tmp_path: Path) -> None:
    """Of 64 MiB, against the test's own clock."""
    pytest.importorskip("torch")
    size = 64 << 20
    for found in run(tmp_path, (sys.executable, ""), "speed", str(size), "5"):
        row, took = found["row"], sorted(found["took"])
        assert (row["count"], row["bytes_total"], row["size_bucket_bytes"]) == (5, 5 * size, size)
        assert row["end_exact_ratio"] == 1
        assert row["busbw_bytes_per_second"] == pytest.approx(size / took[2], rel=0.03)


def test_bus_bandwidth_names_the_rate_of_the_link(make_lab: Callable[..., Lab]) -> None:
    """Four ranks on four hosts, each behind a limit: TCP's data gets 1448 of 1514 bytes of a frame."""
    pytest.importorskip("torch")
    lab = make_lab(4, congestion_control="cubic")
    rate = 200e6
    for host in lab.hosts:
        host.egress.limit_rate(rate)
    for found in run_in(lab.hosts, "speed", str(16 << 20), "3"):
        row = found["row"]
        assert (row["group_size"], row["count"], row["bytes_total"]) == (4, 3, 3 * (16 << 20))
        assert row["busbw_bytes_per_second"] * 8 == pytest.approx(rate * 1448 / 1514, rel=0.05)


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "torch.distributed", None)
    with netmon.Monitor(interval=60) as monitor, pytest.raises(netmon.UnsupportedError, match="torch is not installed"):
        attach(monitor)


def test_monitors_that_take_no_records() -> None:
    pytest.importorskip("torch")
    with netmon.Monitor(interval=60, sources=["tcp"]) as monitor, pytest.raises(netmon.UnsupportedError, match="sources"):
        attach(monitor)
    with pytest.raises(netmon.ClosedError):
        attach(monitor)
    with netmon.Monitor(interval=60) as monitor:
        assert monitor.sample().collectives is None
        with attach(monitor):  # no group yet
            assert monitor.sample().collectives == ()
        assert monitor.sample().collectives == ()


def test_a_monitor_that_is_attached_twice_counts_once() -> None:
    pytest.importorskip("torch")
    code = """
import torch, netmon
import torch.distributed as dist
from netmon.integrations.torch import attach
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
with netmon.Monitor(interval=60) as monitor:
    def count(handle):
        for _ in range(10):
            dist.all_reduce(torch.ones(4))
        handle.flush()
        return [row.count for row in monitor.sample().collectives]
    first, second = attach(monitor), attach(monitor)
    assert count(first) == [10], "attached twice"
    second.close()
    second.close()
    assert count(first) == [20], "once"
    wait = dist.Work.wait
    first.close()
    assert dist.Work.wait is not wait
    assert first.remaining is None
    with attach(monitor) as third:
        assert count(third) == [30], "anew"
dist.destroy_process_group()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
