"""Two ranks of a small training on gloo over loopback, watched by netmon; run by test_rldk_job.py.

Arguments: what to do, a folder, the rank. Prints one JSON document.
"""

from __future__ import annotations

import json
import os
import sys

import torch
import torch.distributed as dist
from rldk_support import pass_windows, proc_counts, wait_for

from netmon._shared import shared_monitor
from netmon.integrations import rldk

INTERVAL = 0.2


def count_collectives() -> list[str]:
    """Note which threads call collectives through torch.distributed, from now on."""
    import threading

    called: list[str] = []
    for name in ("all_reduce", "broadcast", "all_gather", "scatter", "gather", "all_gather_object", "barrier", "reduce"):

        def noting(*args: object, _call: object = getattr(dist, name), **kwargs: object) -> object:
            called.append(threading.current_thread().name)
            return _call(*args, **kwargs)  # type: ignore[operator]

        setattr(dist, name, noting)
    return called


def main() -> None:
    how, folder, rank = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    # In one of the cases the background is not to look before the first step.
    rldk.configure(interfaces=["lo"], interval=30.0 if how == "without an environment" else INTERVAL)
    answer: dict[str, object] = {}
    callback = rldk.DistributedTrainingMonitor(
        output_dir=os.path.join(folder, f"rank{rank}"),
        run_id="ddp",
        network_monitoring=True,
        enable_distributed_monitoring=True,
        network_sampling_frequency=1,
    )
    callback.on_train_begin(None)
    if how == "without an environment":
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
        callback.on_step_end(None, 0)
        answer["first_rank"] = callback.current_metrics.global_rank
        rldk.RealNetworkMonitor().get_comprehensive_metrics()
        job = shared_monitor().sample().job
        assert job is not None
        answer["job"] = [job.rank, job.world_size, job.source]
    else:
        dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1000, 2000))
    called = count_collectives()
    if how == "one rank asks":
        if rank == 0:
            real = rldk.RealNetworkMonitor(enable_distributed_measurements=True)
            real.get_comprehensive_metrics()
            real.get_network_health_report()
            answer["diagnosis"] = real.run_network_diagnostics()["distributed_tests"]
            for op in ("allreduce", "broadcast", "gather", "scatter"):
                getattr(real.distributed_monitor, f"_measure_{op}_bandwidth")()
            collector, nodes = rldk.DistributedMetricsCollector(0.1), rldk.MultiNodeMonitor()
            collector.start_collection()
            nodes.start_monitoring()
            wait_for(lambda: len(collector.metrics_history) >= 2 and nodes.get_aggregated_metrics(), "collections")
            answer["collected"] = len(collector.metrics_history)
            rldk.NetworkMonitor(1).test_distributed_network()
        own = len(called)
        tensor = torch.tensor([1.0 + rank])
        dist.all_reduce(tensor)
        answer["sum"] = float(tensor)
        answer["collectives"] = own
    elif how == "train":
        interface = rldk.NetworkInterfaceMonitor("lo")
        dist.barrier()
        called.clear()
        pass_windows()
        before, start = interface.get_interface_stats(), proc_counts("lo")[0]
        steps = 60
        for step in range(steps):
            callback.on_step_begin(None, step)
            model(torch.randn(8, 1000)).square().mean().backward()
            model.zero_grad()
            callback.on_step_end(None, step, loss=0.0)
        after, end = interface.get_interface_stats(), proc_counts("lo")[0]
        answer["collectives"] = len(called)
        # Until the last of the bytes is in a window of the loop that a step can show.
        for step in range(steps, steps + 4):
            run = callback._run
            newest = run.newest
            wait_for(lambda: run.newest is not newest, "a look")  # noqa: B023
            callback.on_step_end(None, step)
        answer["steps"] = steps + 4
        answer["gradient_bytes"] = 2 * steps * sum(4 * p.numel() for p in model.parameters())
        answer["kernel_bytes"] = end - start
        answer["netmon_bytes"] = after["total_bytes_recv"] - before["total_bytes_recv"]
        answer["interval"] = INTERVAL
    callback.on_train_end(None)
    metrics = callback.current_metrics
    answer |= {"global_rank": metrics.global_rank, "world_size": metrics.world_size, "problems": callback.health()["problems"]}
    dist.barrier()
    dist.destroy_process_group()
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
