"""One rank of a job that does to the timing of collectives what it can. Prints what came of it, as JSON.

The arguments are those of collectives_rank.py.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from typing import Any

import torch
import torch.distributed as dist
from collectives_rank import begin, end, main, more, ones, rank, recent, until, world_size

import netmon
from netmon.integrations.torch import _measure, _tracker, attach, measure_collectives


def records_of(monitor: netmon.Monitor) -> list[dict[str, Any]]:
    return list(json.loads(monitor._query({"view": "collectives"}))["recent"])


def point_to_point() -> dict[str, Any]:
    """Some ranks send to each other between collectives of all: three ranks or more."""
    begin()
    monitor = netmon.Monitor(interval=0.2)
    with attach(monitor) as handle:
        for i in range(4):
            if rank == 0:
                dist.send(ones(10 + i), 1)
            elif rank == 1:
                dist.recv(ones(10 + i), 0)
            dist.all_reduce(ones(100 + i))
        handle.flush()
        records = records_of(monitor)
    monitor.close()
    end()
    return {
        "all": [(r["bytes"], r["sequence"]) for r in records if r["op"] == "all_reduce"],
        "some": [r["sequence"] for r in records if r["op"] in ("send", "recv")],
    }


def monitors() -> dict[str, Any]:
    """Monitors come, and are closed without their handles, beside one that goes on."""
    waits, register, threads = dist.Work.wait, dist.distributed_c10d._register_process_group, threading.active_count()
    begin()
    found: dict[str, Any] = {}
    dead, alive = netmon.Monitor(interval=0.2), netmon.Monitor(interval=0.2)
    first, second = attach(dead), attach(alive)
    dead.close()
    group = dist.new_group(list(range(world_size)))  # the dead one cannot be told
    dist.all_reduce(ones(1), group=group)
    assert until(lambda: (second.flush(), len(second._tracker.sinks) == 1)[1])
    first.close()
    dist.all_reduce(ones(2), group=group)
    second.flush()
    found["alive"] = [record["bytes"] for record in records_of(alive)]
    alive.close()
    dist.all_reduce(ones(3))
    assert until(lambda: (second.flush(), not second._tracker.sinks)[1])
    quiet = dist.new_group(list(range(world_size)))  # nobody is told
    last = netmon.Monitor(interval=0.2)
    third = attach(last)
    dist.all_reduce(ones(4), group=quiet)
    dist.all_reduce(ones(5), group=group)
    second.close()
    dist.all_reduce(ones(6))
    third.flush()
    found["last"] = [record["bytes"] for record in records_of(last)]
    third.close()
    last.close()
    found["restored"] = dist.Work.wait is waits and dist.distributed_c10d._register_process_group is register
    found["threads"] = threading.active_count() - threads
    found["remaining"] = [first.remaining, second.remaining, third.remaining]
    end()
    return found


def refused() -> dict[str, Any]:
    """Calls that torch or the backend refuses."""
    begin()
    monitor = netmon.Monitor(interval=0.2)
    raised = []
    with attach(monitor) as handle:
        for call in (
            lambda: dist.all_reduce(ones(5).to(torch.complex64), op=dist.ReduceOp.MAX),
            lambda: dist.all_reduce(torch.zeros(6, dtype=torch.bool), op=dist.ReduceOp.AVG),
            lambda: dist.all_reduce(ones(4).to(torch.float8_e4m3fn)),
            lambda: dist.all_gather_into_tensor(ones(7), ones(7)),
        ):
            try:
                call()
            except Exception as error:  # noqa: BLE001
                raised.append(type(error).__name__)
            else:
                raised.append("")
        dist.all_reduce(ones(8))
        handle.flush()
        records = [(record["bytes"], record["end"]) for record in records_of(monitor)]
        kept = len(handle._tracker.live)
        problem = handle.problem
    monitor.close()
    end()
    return {"raised": raised, "records": records, "kept": kept, "problem": problem}


def sparse() -> dict[str, Any]:
    """Tensors whose bytes torch does not tell."""
    begin()
    monitor = netmon.Monitor(interval=0.2)
    with attach(monitor) as handle:
        tensor = torch.sparse_coo_tensor([[0, 2]], [1.0, 1.0], (4,)).coalesce()
        dist.all_reduce(tensor)
        handle.flush()
        records = [(record["op"], record["bytes"]) for record in records_of(monitor)]
        problem = handle.problem
    total = tensor.to_dense().tolist()
    monitor.close()
    end()
    return {"records": records, "problem": problem, "total": total}


def bad_hooks() -> dict[str, Any]:
    """Everything of netmon's that a call runs raises."""
    begin()
    monitor = netmon.Monitor(interval=0.2)
    handle = attach(monitor)

    def bad(*_: Any) -> Any:
        raise ValueError("bad")

    tracker = handle._tracker
    for name in ("began", "flush", "tell", "group"):
        setattr(tracker, name, bad)
    for name in ("now", "pack"):
        setattr(_tracker, name, bad)
    sums = []
    for i in range(300):
        tensor = ones(1 + i)
        work = dist.all_reduce(tensor, async_op=bool(i % 3))
        if work is not None and i % 3 == 1:
            work.wait()
        dist.barrier()
        sums.append(tensor[0].item())
    failing = ""
    try:
        dist.all_reduce(torch.zeros(6, dtype=torch.bool), op=dist.ReduceOp.AVG)
    except Exception as error:  # noqa: BLE001
        failing = type(error).__name__
    dist.all_reduce(ones(2), group=dist.new_group(list(range(world_size))))
    end()
    return {"sums": sorted(set(sums)), "problem": handle.problem is not None, "failing": failing}


def models() -> dict[str, Any]:
    """DDP with unused parameters, with a static graph, and with a sparse embedding; the gradients are those without netmon."""
    begin()

    class Branches(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = torch.nn.Linear(10, 10), torch.nn.Linear(10, 10)

        def forward(self, x: torch.Tensor, left: bool) -> torch.Tensor:
            return (self.left if left else self.right)(x)

    def train(**options: Any) -> list[float]:
        torch.manual_seed(0)
        model = torch.nn.parallel.DistributedDataParallel(Branches(), **options)
        for step in range(4):
            model(torch.full((2, 10), float(rank + step)), step % 2 == 0 or "static_graph" in options).sum().backward()
        return [p.grad.sum().item() for p in model.parameters() if p.grad is not None]

    kinds = {"unused": {"find_unused_parameters": True}, "static": {"static_graph": True}}
    without = {name: train(**options) for name, options in kinds.items()}
    monitor = netmon.Monitor(interval=0.2)
    found: dict[str, Any] = {}
    with attach(monitor) as handle:
        for name, options in kinds.items():
            recent(monitor, handle)
            assert train(**options) == without[name]
            dist.barrier()
            found[name] = [(r["op"], r["bytes"], r["end"]) for r in recent(monitor, handle)]
        found["problem"] = handle.problem
        found["live"] = until(lambda: not handle._tracker.live)
    monitor.close()
    end()
    return found


def crossing() -> dict[str, Any]:
    """Overlapping ones of two groups, waited for in another order than called, each in its own thread too."""
    begin()
    monitor = netmon.Monitor(interval=0.2)
    groups = [dist.new_group(list(range(world_size))) for _ in range(2)]
    with attach(monitor) as handle:
        works = [dist.all_reduce(ones(1000 + i), group=groups[i % 2], async_op=True) for i in range(40)]
        for work in reversed(works):
            work.wait()
        threads = [
            threading.Thread(target=lambda i=i: [dist.all_reduce(ones(5000 + i), group=groups[i]) for _ in range(50)])
            for i in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        del works, work
        handle.flush()
        records = records_of(monitor)
        problem = handle.problem
    by_group: dict[str, list[list[int]]] = {}
    for record in sorted(records, key=lambda r: r["sequence"]):
        by_group.setdefault(record["group"], []).append([record["sequence"], record["bytes"]])
    monitor.close()
    end()
    return {"groups": by_group, "problem": problem, "remaining": handle.remaining}


def flat() -> dict[str, Any]:
    """A hundred thousand, on a backend that does nothing."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    monitor = netmon.Monitor(interval=0.2)
    tensor = ones(1024)
    calls = 100_000

    def memory() -> int:
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    with attach(monitor) as handle:
        for i in range(20_000):
            dist.all_reduce(tensor, async_op=i % 2 == 0)
        before = memory()
        for i in range(calls):
            work = dist.all_reduce(tensor, async_op=i % 2 == 0)
            if i % 4 == 0:
                work.wait()
        del work
        # Of the fake backend before torch 2.14 those that nobody waits for never end.
        ended = "old" in more or until(lambda: not handle._tracker.live)
        handle.flush()
        sample = monitor.sample()
        grown = memory() - before
        kept = len(handle._tracker.packed), len(handle._tracker.waiting)
        problem = handle.problem
    monitor.close()
    assert sample.collectives is not None
    dist.destroy_process_group()
    return {
        "counted": sum(row.count for row in sample.collectives) + sample.self.collectives_dropped_total,
        "calls": calls + 20_000,
        "ended": ended,
        "kept": kept,
        "grown": grown,
        "problem": problem,
        "unfinished": sum(row.unfinished for row in sample.collectives),
    }


def many_groups() -> dict[str, Any]:
    """Groups are made and destroyed again and again, and the default one too."""
    found: dict[str, Any] = {"counts": []}
    monitor = netmon.Monitor(interval=0.2)
    handle = attach(monitor)
    for time_ in range(3):
        begin(again=str(time_))
        for i in range(10):
            group = dist.new_group(list(range(world_size)))
            dist.all_reduce(ones(100 + i), group=group)
            dist.barrier(group=group)
            dist.destroy_process_group(group)
            del group
        handle.flush()
        found["counts"].append(len(recent(monitor)))
        end()
    gc.collect()
    seeing = handle._process.seeing
    groups = getattr(seeing, "_hooked", None) or getattr(seeing, "_groups", {})
    found["known"] = len(groups)
    found["problem"] = handle.problem
    handle.close()
    found["remaining"] = handle.remaining
    monitor.close()
    return found


def measuring() -> dict[str, Any]:
    """A measurement in which one rank cannot do its part."""
    begin()
    found: dict[str, Any] = {}
    original = _measure._call
    if rank == 1:

        def no_memory(*_: Any) -> Any:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] not enough memory")

        _measure._call = no_memory
    begun = time.monotonic()
    try:
        found["rows"] = [(row.op, row.seconds, row.error) for row in measure_collectives(["all_reduce", "broadcast"], [4096])]
    except netmon.Error as error:
        found["rows"] = str(error)
    found["took"] = time.monotonic() - begun
    _measure._call = original
    found["after"] = len(measure_collectives(["all_reduce"], [4096]))
    end()
    return found


def lost_early() -> dict[str, Any]:
    """Rank 1 dies when the ranks have agreed, before there is a group."""
    begin()
    if rank == 1:
        _measure._new_group = lambda *_: os._exit(7)
    _measure._GROUP_SECONDS = 3.0
    try:
        measure_collectives(["all_reduce"], [4096])
    except netmon.Error as error:
        return {"error": [type(error).__name__, str(error)]}
    except Exception as error:  # noqa: BLE001
        return {"error": [type(error).__name__, str(error)]}
    return {}


if __name__ == "__main__":
    main(globals())
    sys.exit()
