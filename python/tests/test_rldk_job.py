"""Ranks, real two-process training over loopback, and forked children."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rldk_support import answer, environment, lines, proc_counts, run

RANKS = """
import tempfile
callback = rldk.DistributedTrainingMonitor(output_dir=tempfile.mkdtemp(), run_id="r")
callback.on_train_begin(None)
callback.on_step_end(None, 1)
step, metrics = callback.current_metrics, rldk.RealNetworkMonitor().get_comprehensive_metrics()
collector = rldk.DistributedMetricsCollector()._collect_current_node_metrics()
print(json.dumps([[step.global_rank, step.local_rank, step.world_size, step.node_id], [metrics.rank, metrics.world_size],
                  [collector.rank, collector.local_rank, collector.node_id],
                  [name for name in ("world_size", "global_rank", "local_rank") if name in step.unmeasured]]))
"""


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "NODE_RANK": "2"},
        {
            "SLURM_PROCID": "5",
            "SLURM_LOCALID": "1",
            "SLURM_NTASKS": "8",
            "SLURM_NODEID": "2",
        },
    ],
)
def test_d50_ranks_come_from_the_environment(variables: dict[str, str]) -> None:
    assert answer(RANKS, **variables) == [[5, 1, 8, "2"], [5, 8], [5, 1, "2"], []]


def test_d50_without_a_job_the_ranks_are_unmeasured_and_the_node_is_the_host() -> None:
    found = answer(RANKS)
    assert found == [
        [0, 0, 1, socket.gethostname()],
        [0, 1],
        [0, 0, socket.gethostname()],
        ["world_size", "global_rank", "local_rank"],
    ]


def test_d33_an_environment_that_is_set_later_is_seen() -> None:
    found = answer(
        """
        import tempfile
        real = rldk.RealNetworkMonitor()
        callback = rldk.DistributedTrainingMonitor(output_dir=tempfile.mkdtemp(), run_id="r")
        first = real.get_comprehensive_metrics()
        os.environ.update(RANK="3", WORLD_SIZE="4", LOCAL_RANK="3")
        callback.on_train_begin(None)
        callback.on_step_end(None, 1)
        second = real.get_comprehensive_metrics()
        print(json.dumps([first.rank, second.rank, second.world_size, callback.current_metrics.global_rank,
                          real.distributed_monitor.rank]))
        """
    )
    assert found == [0, 3, 4, 3, 3]


def test_an_explicit_rank_wins() -> None:
    script = """
    metrics = rldk.DistributedNetworkMonitor(world_size=16, rank=9).measure_distributed_metrics()
    print(json.dumps([metrics.world_size, metrics.rank]))
    """
    assert answer(script, RANK="3", WORLD_SIZE="4") == [16, 9]


def test_a_module_called_torch_that_is_something_else_hurts_nobody() -> None:
    found = answer(
        """
        import types
        torch, distributed = types.ModuleType("torch"), types.ModuleType("torch.distributed")
        def broken(*args): raise RuntimeError("half imported")
        distributed.is_available = distributed.is_initialized = distributed.get_rank = broken
        cuda = types.ModuleType("torch.cuda"); cuda.is_initialized = broken
        sys.modules.update({"torch": torch, "torch.distributed": distributed, "torch.cuda": cuda})
        metrics = rldk.RealNetworkMonitor().get_comprehensive_metrics()
        rldk.GPUMemoryMonitor().get_memory_stats()
        print(json.dumps([metrics.rank, rldk.NetworkDiagnostics()._run_distributed_diagnostics()]))
        """
    )
    assert found == [0, {"error": "PyTorch distributed not available or initialized"}]


# Forked children.


def test_a_forked_child_goes_on_measuring_and_writing_its_own_files(tmp_path: Path) -> None:
    found = answer(
        """
        from netmon._shared import shared_monitor
        rldk.configure(interfaces=["lo"], interval=0.05)
        folder = sys.argv[1]
        callback = rldk.DistributedTrainingMonitor(output_dir=folder, run_id="r", network_sampling_frequency=1)
        real, network, interface = rldk.RealNetworkMonitor(), rldk.NetworkMonitor(1), rldk.NetworkInterfaceMonitor("lo")
        callback.on_train_begin(None)
        pass_windows()
        for step in range(5):
            callback.on_step_end(None, step)
        real.get_comprehensive_metrics()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                parent = shared_monitor().latest().sequence
                over_loopback(1 << 20)
                first = real.get_comprehensive_metrics(); network.get_current_metrics()
                assert first.network_errors == 0 and "network_errors" in first.unmeasured, first
                wait_for(lambda: "bandwidth_mbps" not in real.get_comprehensive_metrics().unmeasured)
                before = interface.get_interface_stats()["total_bytes_recv"]
                over_loopback(4 << 20)
                assert interface.get_interface_stats()["total_bytes_recv"] - before > 4 << 20
                for step in range(100, 104):
                    callback.on_step_end(None, step)
                callback.on_train_end(None)
                assert callback.current_metrics.step == 103
                assert callback.health()["problems"] == [], callback.health()
                status = 0
            except BaseException:
                import traceback; traceback.print_exc()
            os._exit(status)
        _, status = os.waitpid(child, 0)
        for step in range(5, 8):
            callback.on_step_end(None, step)
        callback.on_train_end(None)
        print(json.dumps([status, child, callback.health()["problems"]]))
        """,
        str(tmp_path),
    )
    status, child, problems = found
    assert status == 0
    assert problems == []
    assert [row["step"] for row in lines(tmp_path / "events_r.jsonl")] == list(range(8))
    assert [row["step"] for row in lines(tmp_path / f"events_r_pid{child}.jsonl")] == [100, 101, 102, 103]


def test_children_like_those_of_a_dataloader_hurt_nobody(tmp_path: Path) -> None:
    """Forked while the thread works, they use nothing of netmon, and end by themselves or are killed."""
    found = answer(
        """
        import signal
        rldk.configure(interfaces=["lo"], interval=0.05)
        callback = rldk.DistributedTrainingMonitor(output_dir=sys.argv[1], run_id="r", network_sampling_frequency=1)
        callback.on_train_begin(None)
        statuses = []
        for step in range(40):
            callback.on_step_begin(None, step)
            child = os.fork()
            if child == 0:
                if step % 4 == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                os._exit(0) if step % 2 else sys.exit(0)
            statuses.append(os.waitpid(child, 0)[1])
            callback.on_step_end(None, step)
        callback.on_train_end(None)
        print(json.dumps([sorted(set(statuses)), sorted(os.listdir(sys.argv[1]))]))
        """,
        str(tmp_path),
        fails=False,
    )
    assert found[0] == [0, 9]
    assert not [name for name in found[1] if "pid" in name], found[1]
    assert [row["step"] for row in lines(tmp_path / "events_r.jsonl")] == list(range(40))


def test_collectors_can_be_started_again_in_a_forked_child() -> None:
    run(
        """
        rldk.configure(interfaces=["lo"], interval=0.05)
        collector, nodes = rldk.DistributedMetricsCollector(0.1), rldk.MultiNodeMonitor()
        collector.start_collection(); nodes.start_monitoring()
        collector.start_collection(); nodes.start_monitoring()
        assert [thread.name for thread in threading.enumerate()].count("netmon-rldk") == 1
        wait_for(lambda: collector.metrics_history and nodes.get_aggregated_metrics(), "the parent's figures")
        child = os.fork()
        if child == 0:
            before = len(collector.metrics_history), len(nodes.get_aggregated_metrics())
            collector.start_collection(); nodes.start_monitoring()
            wait_for(lambda: len(collector.metrics_history) > before[0], "the child's figures")
            wait_for(lambda: len(nodes.get_aggregated_metrics()) > before[1], "the child's node")
            collector.stop_collection(); nodes.stop_monitoring()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        collector.stop_collection(); nodes.stop_monitoring()
        """
    )


def test_a_fork_while_locks_are_held_leaves_the_child_free(tmp_path: Path) -> None:
    found = answer(
        """
        from netmon.integrations.rldk import _worker
        callback = rldk.DistributedTrainingMonitor(output_dir=sys.argv[1], run_id="r")
        callback._get_network_monitor_lock()
        held, release = threading.Event(), threading.Event()
        def hold():
            with _worker.worker._lock, callback._class_lock, callback._network_monitor_lock:
                held.set(); release.wait()
        holder = threading.Thread(target=hold); holder.start(); held.wait()
        child = os.fork()
        if child == 0:
            import faulthandler; faulthandler.dump_traceback_later(20, exit=True)
            callback.on_train_begin(None); callback.on_step_end(None, 1); callback._collect_network_metrics()
            callback.on_train_end(None)
            os._exit(0 if callback.health()["problems"] == [] else 2)
        status = os.waitpid(child, 0)[1]
        release.set(); holder.join()
        print(json.dumps(status))
        """,
        str(tmp_path),
    )
    assert found == 0


# torch: two processes on gloo over loopback.

TRAIN = Path(__file__).parent / "rldk_train.py"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def train(folder: Path, how: str, **variables: str) -> list[dict[str, Any]]:
    """Run the training script as two ranks and return what each printed."""
    pytest.importorskip("torch")
    port = str(free_port())
    ranks = []
    for rank in range(2):
        job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
        if how != "without an environment":
            job |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
        ranks.append(
            subprocess.Popen(
                [sys.executable, TRAIN, how, folder, str(rank)],
                env=environment(OMP_NUM_THREADS="1", **job, **variables),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    answers = []
    try:
        for process in ranks:
            out, err = process.communicate(timeout=150)
            assert process.returncode == 0, out + err
            answers.append(json.loads(out.splitlines()[-1]))
    finally:
        for process in ranks:
            process.kill()
    return answers


@pytest.mark.torch
def test_a_real_training_shows_the_bytes_that_passed(tmp_path: Path) -> None:
    start = proc_counts("lo")
    answers = train(tmp_path, "train")
    end = proc_counts("lo")
    for rank, found in enumerate(answers):
        assert found["global_rank"] == rank
        assert found["world_size"] == 2
        assert found["collectives"] == 0, "netmon called a collective"
        # Two ranks on a ring of two each send the gradients once: the kernel counts both, and headers on top.
        assert found["kernel_bytes"] > found["gradient_bytes"]
        assert found["kernel_bytes"] <= end[0] - start[0]
        assert found["netmon_bytes"] == pytest.approx(found["kernel_bytes"], rel=0.02)
        rows = lines(tmp_path / f"rank{rank}" / "events_ddp.jsonl")
        assert len(rows) == found["steps"]
        assert {row["global_rank"] for row in rows} == {rank}
        # What the steps show, times the loop's window, once for each sample: the same bytes.
        samples = {round(row["wall_time"] - row["network_age_seconds"], 2): row for row in rows if row["bandwidth_mbps"]}
        shown = sum(row["bandwidth_download_mbps"] for row in samples.values()) * 1e6 / 8 * found["interval"]
        assert shown == pytest.approx(found["kernel_bytes"], rel=0.3)
        assert found["problems"] == []


@pytest.mark.torch
def test_d50_ranks_come_from_torch_where_the_environment_says_nothing(tmp_path: Path) -> None:
    answers = train(tmp_path, "without an environment")
    for rank, found in enumerate(answers):
        assert (found["global_rank"], found["world_size"]) == (rank, 2)
        assert found["first_rank"] == rank, "the first step after init_process_group already knows"
        assert found["job"][:2] == [rank, 2]
        assert found["job"][2].endswith("torch.distributed")


@pytest.mark.torch
def test_d13_d26_d34_d35_d38_no_call_of_one_rank_is_a_collective(tmp_path: Path) -> None:
    answers = train(tmp_path, "one rank asks")
    assert [found["sum"] for found in answers] == [3.0, 3.0]
    assert all(found["collectives"] == 0 for found in answers)
    assert answers[0]["collected"] >= 2
    assert answers[0]["diagnosis"]["world_size"] == 2
    assert "never runs a collective" in answers[0]["diagnosis"]["allreduce_test"]["error"]


@pytest.mark.torch
def test_a_tensor_is_a_number_and_dataloader_workers_are_fine(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = answer(
        """
        import torch
        rldk.configure(interfaces=["lo"], interval=0.05)
        callback = rldk.DistributedTrainingMonitor(output_dir=sys.argv[1], run_id="r")
        callback.on_train_begin(None)
        for epoch in range(2):
            loader = torch.utils.data.DataLoader(list(range(32)), batch_size=4, num_workers=2)
            for step, batch in enumerate(loader):
                callback.on_step_begin(None, step)
                loss = (batch.float() * torch.ones((), requires_grad=True)).sum()
                callback.on_step_end(None, step, loss=loss, reward_mean=batch)
        callback.on_train_end(None)
        print(json.dumps([callback.current_metrics.loss, callback.current_metrics.reward_mean, callback.health()["problems"],
                          "gpu_memory_used" in callback.current_metrics.unmeasured]))
        """,
        str(tmp_path),
    )
    assert found == [28.0 + 29 + 30 + 31, 0.0, [], True]
    assert not [name for name in os.listdir(tmp_path) if "pid" in name]


@pytest.mark.torch
def test_torch_is_not_imported_for_us() -> None:
    out = run(
        """
        rldk.RealNetworkMonitor().get_comprehensive_metrics()
        rldk.GPUMemoryMonitor().get_current_memory_usage()
        callback = rldk.DistributedTrainingMonitor(output_dir="/tmp", enable_jsonl_logging=False)
        callback._collect_distributed_metrics()
        print([name for name in sys.modules if name.split(".")[0] in ("torch", "numpy")])
        """
    )
    assert out.strip() == "[]"
