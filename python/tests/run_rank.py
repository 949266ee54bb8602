"""A training script that knows nothing of netmon: two gloo ranks by default, told by what launches it.

At its end each rank prints one line of JSON: what there is of netmon in it, in its launcher and in its data loader's workers.
"""

from __future__ import annotations

import json
import os
import sys
import threading

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils.data import DataLoader


def traces(pid: int | str) -> list[str]:
    """Return what there is of netmon in a process: its library."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
        return sorted({line.split("/")[-1].strip() for line in maps if "libnetmon" in line})


class Squares:
    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> torch.Tensor:
        info = torch.utils.data.get_worker_info()
        assert info is not None
        mine = [thread for thread in threading.enumerate() if thread.name.startswith("netmon")]
        return torch.tensor([float(i * i), float(len(mine)), 0.0])


def train(rank: int | None = None) -> None:
    if rank is not None:  # by mp.spawn
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    dist.init_process_group("gloo")
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    worker_threads = set()
    for batch in DataLoader(Squares(), batch_size=2, num_workers=2, multiprocessing_context="fork"):
        worker_threads |= set(batch[:, 1].tolist())
        model(batch).sum().backward()
        optimizer.step()
    dist.all_reduce(torch.ones(4))

    shared = sys.modules.get("netmon._shared")
    monitor = shared.existing_monitor() if shared is not None else None
    collectives = {}
    if monitor is not None:
        sys.modules["netmon._training"]._attachment.flush()
        collectives = {row.op: row.count for row in monitor.sample().collectives}
    answer = {
        "rank": dist.get_rank(),
        "traces": traces("self"),
        "monitor": monitor is not None,
        "job": None if monitor is None else monitor.sample().job.rank,
        "collectives": collectives,
        "launcher": traces(os.getppid()),
        "worker_threads": sorted(worker_threads),
        "loader": type(dist.distributed_c10d.__loader__).__name__,
        "path": [folder for folder in sys.path if "_site" in folder],
    }
    # In one write: the ranks share the pipe.
    os.write(1, (json.dumps(answer) + "\n").encode())
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    if sys.argv[1:] == ["spawn"]:
        mp.spawn(train, nprocs=2)
    else:
        train()
