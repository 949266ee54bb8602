"""Collectives in rldk's fields: those that the job runs anyway, timed as they pass; none of netmon's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rldk_support import answer, run

from netmon._types import Collective
from netmon.integrations.rldk import _collectives, _diagnostics

SEEN = Collective(
    op="all_reduce",
    group="default_pg",
    group_size=4,
    size_bucket_bytes=1 << 20,
    count=10,
    bytes_total=20_000_000,
    unfinished=0,
    p50_seconds=0.0001,
    p95_seconds=0.0002,
    max_seconds=0.0003,
    algbw_bytes_per_second=20e9,
    busbw_bytes_per_second=30e9,
    duration_count=10,
    end_exact_ratio=1.0,
    source="torch hooks",
)

# One process is a whole job, and its collectives go nowhere; what is tested is whose figure comes to be where.
ALONE = """
import torch, torch.distributed as dist
rldk.configure(interfaces=["lo"], interval=0.05)
dist.init_process_group("gloo", init_method="file://" + sys.argv[1] + "/meet", rank=0, world_size=1)
handle = rldk.time_collectives()
def job(size=1000):
    for _ in range(4):
        dist.all_reduce(torch.zeros(size, size))
        dist.broadcast(torch.zeros(100, 100), 0)
        dist.all_gather([torch.zeros(100, 100)], torch.zeros(100, 100))
        dist.scatter(torch.zeros(100, 100), [torch.zeros(100, 100)], 0)
job()
from netmon._shared import shared_monitor
FIELDS = [op + "_bandwidth" for op in ("allreduce", "broadcast", "gather", "scatter")]
def rows():
    found = {row.op: row for row in shared_monitor().sample().collectives or () if row.algbw_bytes_per_second}
    return found if {"all_reduce", "broadcast", "all_gather", "scatter"} <= set(found) else None
rows = wait_for(rows, "the collectives")
"""


def seen(*rows: Collective, reason: str = "nobody records them") -> dict[str, Any]:
    class Sample:
        collectives = rows or None
        monotonic_seconds = 1.0

        def reason(self, name: str) -> str:
            return reason

    return _collectives.seen(Sample())  # type: ignore[arg-type]


def test_d14_nothing_is_too_fast_to_be_told() -> None:
    """rldk calls everything under a millisecond a measurement error, and shows 0.0."""
    found = seen(SEEN)["allreduce"]
    assert found.speed.value == 20e9 * 8 / 1e6
    assert found.seconds.value == 0.0001
    assert found.size_bytes == 2_000_000


def test_the_size_that_moves_most_is_the_one_that_is_shown() -> None:
    small = replace(SEEN, size_bucket_bytes=1, count=1000, bytes_total=4000, algbw_bytes_per_second=1e6)
    for rows in ((small, SEEN), (SEEN, small)):
        assert seen(*rows)["allreduce"].speed.value == 160_000.0
    # Of the others nothing has ended, or nothing in the last 60 s.
    unfinished = replace(SEEN, bytes_total=1 << 40, p50_seconds=None, algbw_bytes_per_second=None, duration_count=0)
    assert seen(SEEN, unfinished)["allreduce"].speed.value == 160_000.0


def test_small_messages_tell_nothing_of_bandwidth() -> None:
    tiny = replace(SEEN, size_bucket_bytes=8, bytes_total=80, algbw_bytes_per_second=5e4, p50_seconds=0.0002)
    found = seen(tiny)["allreduce"]
    assert found.speed == "the job's all_reduce moves 8 bytes at a time, which tells nothing of bandwidth"
    assert (found.seconds.value, found.size_bytes) == (0.0002, 8)
    many = replace(tiny, count=10**9, bytes_total=8 * 10**9)
    assert seen(many, SEEN)["allreduce"].speed.value == 160_000.0
    test = _diagnostics._collective_test(found)
    assert dict(test) == {"time_ms": 0.2, "tensor_size_mb": 8 / 2**20, "bandwidth_mbps": 0.0, "error": found.speed}
    assert test.unmeasured == ("bandwidth_mbps",)


def test_what_was_not_seen_has_a_reason() -> None:
    nobody = seen()
    assert set(nobody) == {"allreduce", "broadcast", "gather", "scatter"}
    assert "nobody records them" in nobody["allreduce"]
    assert "time_collectives" in nobody["allreduce"]
    found = seen(SEEN)
    assert found["broadcast"] == "the job ran no broadcast whose duration is known in the last 60 s"
    assert found["gather"] == "the job ran no all_gather whose duration is known in the last 60 s"


@pytest.mark.torch
def test_d15_d51_the_jobs_own_collectives_are_in_every_shape(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = answer(
        ALONE
        + """
metrics = rldk.RealNetworkMonitor().get_comprehensive_metrics()
speeds = {name: [getattr(metrics, name), list(metrics.sources[name])[:2]] for name in FIELDS}
tests = rldk.NetworkMonitor(1).test_distributed_network()
collector = rldk.DistributedMetricsCollector()
total = collector._collect_distributed_metrics()
times = {op: getattr(total, op + "_time") for op in ("allreduce", "broadcast", "gather", "scatter")}
callback = rldk.DistributedTrainingMonitor(output_dir=sys.argv[1], run_id="r", network_sampling_frequency=1)
callback._collect_network_metrics()
callback.on_step_end(None, 1)
step = callback.current_metrics
callback.on_train_end(None)
print(json.dumps({
    "speeds": speeds, "tests": tests, "told": tests.unmeasured, "times": times, "unmeasured": metrics.unmeasured,
    "total": [total.unmeasured, list(total.sources["allreduce_time"])[:2]],
    "step": [step.allreduce_time, step.allreduce_bandwidth, step.unmeasured, list(step.sources["allreduce_time"])[:2]],
    "rows": {op: [row.algbw_bytes_per_second, row.p50_seconds, row.bytes_total / row.count, row.group]
             for op, row in rows.items()},
}))
""",
        str(tmp_path),
    )
    ops = {"allreduce": "all_reduce", "broadcast": "broadcast", "gather": "all_gather", "scatter": "scatter"}
    for name, op in ops.items():
        algbw, p50, size, group = found["rows"][op]
        speed, source = found["speeds"][f"{name}_bandwidth"]
        assert speed == pytest.approx(algbw * 8 / 1e6)
        assert source[0] == "collectives.algbw_bytes_per_second"
        assert source[1].startswith(f"{op} of {group}, 1 rank, {size:.0f} bytes")
        assert found["times"][name] == pytest.approx(p50)
        assert f"{name}_bandwidth" not in found["unmeasured"]
    assert found["total"][1][0] == "collectives.p50_seconds"
    assert "allreduce_time" not in found["total"][0]
    time_, speed, unmeasured, source = found["step"]
    assert time_ == pytest.approx(found["rows"]["all_reduce"][1])
    assert speed == pytest.approx(found["rows"]["all_reduce"][0] / 1e9), "GB/s"
    assert not {"allreduce_time", "allreduce_bandwidth"} & set(unmeasured)
    assert source[0] == "collectives.p50_seconds"
    tests = found["tests"]
    assert (tests["world_size"], tests["rank"], found["told"]) == (1, 0, [])
    for name in ("allreduce", "broadcast"):
        algbw, p50, size, _ = found["rows"][ops[name]]
        assert tests[f"{name}_test"] == pytest.approx(
            {"time_ms": p50 * 1e3, "tensor_size_mb": size / 2**20, "bandwidth_mbps": algbw * 8 / 1e6}
        )


@pytest.mark.torch
def test_d15_a_benchmark_that_was_asked_for_comes_first(tmp_path: Path) -> None:
    """With enable_distributed_measurements; its gather is an all_gather, as rldk's."""
    pytest.importorskip("torch")
    found = answer(
        ALONE
        + """
monitor = rldk.DistributedNetworkMonitor(enable_distributed_measurements=True)
metrics = monitor.measure_distributed_metrics()
print(json.dumps({name: [getattr(metrics, name), metrics.sources[name].source] for name in FIELDS}
                 | {"times": [len(getattr(monitor, op + "_times")) for op in ("allreduce", "gather")]}))
""",
        str(tmp_path),
    )
    assert found.pop("times") == [1, 1]
    for name, (speed, source) in found.items():
        assert speed > 0, name
        assert source == "measure_collectives: algbw"


def test_without_torch_time_collectives_says_so() -> None:
    told = run(
        """
        import netmon
        sys.modules["torch"] = None
        try:
            rldk.time_collectives()
        except netmon.UnsupportedError as error:
            print(error)
        """
    )
    assert "torch is not installed" in told
