"""One rank of a job whose collectives netmon times. Prints what came of it, as JSON.

collectives_rank.py SCENARIO RANK WORLD_SIZE STORE [ARGUMENT...]: STORE is a file, or HOST:PORT where rank 0 listens.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
import warnings
import weakref
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

import netmon
from netmon.integrations.torch import _measure, attach, measure_collectives

warnings.simplefilter("ignore")
scenario, rank, world_size, store = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
more = sys.argv[5:]
FLOAT = 4


def begin(again: str = "", **options: Any) -> None:
    method = f"file://{store}{again}" if store.startswith("/") else f"tcp://{store}"
    dist.init_process_group(
        "gloo", init_method=method, rank=rank, world_size=world_size, timeout=timedelta(seconds=60), **options
    )


def end() -> None:
    # Without it old torch hangs now and then where one rank is gone before the other, with netmon or without.
    dist.barrier()
    dist.destroy_process_group()


def recent(monitor: netmon.Monitor, handle: Any = None) -> list[dict[str, Any]]:
    """Return the records that came since the last call, once all that is under way has ended."""
    if handle is not None:
        for _ in range(2000):
            if not handle._tracker.live:
                break
            time.sleep(0.001)
        handle.flush()
    answer = json.loads(monitor._query({"view": "collectives"}))
    new = [record for record in answer["recent"] if record["enter_seconds"] > recent.after]
    new.sort(key=lambda record: record["enter_seconds"])  # they come as they end
    recent.after = max((record["enter_seconds"] for record in new), default=recent.after)
    return new


recent.after = 0.0


def ones(count: int) -> torch.Tensor:
    return torch.ones(count)


def kept(alive: weakref.ref[torch.Tensor]) -> bool:
    """Tell whether a tensor is alive after a while: the thread that looks, or gloo's, may have it for a moment."""
    limit = time.monotonic() + 5
    while alive() is not None and time.monotonic() < limit:
        time.sleep(0.001)
        gc.collect()
    return alive() is not None


def calls() -> dict[str, Any]:
    """Every way to call a collective, one after the other."""
    begin()
    monitor = netmon.Monitor(interval=0.2)
    handle = attach(monitor)
    found: dict[str, Any] = {"source": handle.source}
    n = world_size

    def done(name: str) -> None:
        dist.barrier()  # and then all have ended everywhere
        records = recent(monitor, handle)
        assert records.pop()["op"] == "barrier"
        found[name] = records

    found["own"] = own = []
    for _ in range(5):
        dist.barrier()
        tensor = ones(1 << 20)
        begun = time.monotonic()
        dist.all_reduce(tensor)
        own.append((begun, time.monotonic() - begun))
    done("timed")
    dist.all_reduce(ones(1000))
    done("all_reduce")
    dist.broadcast(ones(1001), 0)
    done("broadcast")
    dist.reduce(ones(1002), 0)
    done("reduce")
    dist.all_gather([ones(1003) for _ in range(n)], ones(1003))
    done("all_gather")
    dist.all_gather_into_tensor(ones(1004 * n), ones(1004))
    done("all_gather_into_tensor")
    if "old" not in more:  # gloo had none before
        dist.reduce_scatter(ones(1005), [ones(1005) for _ in range(n)])
    done("reduce_scatter")
    dist.reduce_scatter_tensor(ones(1006), ones(1006 * n))
    done("reduce_scatter_tensor")
    dist.all_to_all_single(ones(1007 * n), ones(1007 * n))
    done("all_to_all_single")
    dist.gather(ones(1008), [ones(1008) for _ in range(n)] if rank == 0 else None, 0)
    done("gather")
    dist.scatter(ones(1009), [ones(1009) for _ in range(n)] if rank == 0 else None, 0)
    done("scatter")
    done("barrier")

    dist.all_reduce(ones(1010), async_op=True).wait()
    done("async_op")
    works = [dist.all_reduce(ones(2000 + i), async_op=True) for i in range(8)]
    for work in works:
        work.wait()
    done("overlapping")
    work = dist.all_reduce(ones(1011), async_op=True)  # and never wait
    del work
    done("not waited for")

    peer = 1 - rank
    if rank == 0:
        dist.send(ones(1012), peer)
        dist.recv(ones(1013), peer)
    elif rank == 1:
        dist.recv(ones(1012), 0)
        dist.send(ones(1013), 0)
    done("send and recv")
    if rank < 2:
        batch = [dist.P2POp(dist.isend, ones(1014), peer), dist.P2POp(dist.irecv, ones(1014), peer)]
        for work in dist.batch_isend_irecv(batch):
            work.wait()
    done("batch")
    dist.all_gather_object([None] * n, {"rank": rank})
    done("all_gather_object")

    import torch.distributed._functional_collectives as functional

    group = dist.group.WORLD
    functional.all_reduce(ones(1015), "sum", group) + 0
    functional.all_gather_tensor(ones(1016), 0, group) + 0
    done("functional")

    pair = dist.new_group([0, 1])
    other = dist.new_group([0, 1])
    if rank < 2:
        dist.all_reduce(ones(1017), group=pair)
        dist.all_reduce(ones(1017), group=other)
    done("new groups")

    model = torch.nn.Sequential(torch.nn.Linear(100, 100), torch.nn.Linear(100, 10))
    parameters = sum(p.nbytes for p in model.parameters())
    ddp = torch.nn.parallel.DistributedDataParallel(model)
    done("ddp starts")
    for _ in range(3):
        ddp(torch.ones(4, 100)).sum().backward()
    done("ddp")
    found["parameters"] = parameters
    del ddp

    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (n,))
    try:
        from torch.distributed.tensor import DTensor, Replicate, Shard
    except ImportError:
        from torch.distributed._tensor import DTensor, Replicate, Shard
    done("mesh")
    sharded = DTensor.from_local(ones(1018), mesh, [Shard(0)])
    sharded.redistribute(mesh, [Replicate()]).to_local() + 0
    done("dtensor")
    if "old" not in more:
        from torch.distributed.fsdp import fully_shard

        layer = torch.nn.Linear(64, 64, bias=False)
        fully_shard(layer, mesh=mesh)
        done("fsdp starts")
        layer(torch.ones(2, 64)).sum().backward()
        done("fsdp")

    tensor = ones(1019)
    alive = weakref.ref(tensor)
    dist.all_reduce(tensor)
    del tensor
    found["kept after a synchronous call"] = kept(alive)
    tensor = ones(1020)
    alive = weakref.ref(tensor)
    work = dist.all_reduce(tensor, async_op=True)
    del tensor, work
    dist.barrier()
    found["kept after nobody waited"] = kept(alive)
    done("weakref")

    time.sleep(0.3)
    handle.flush()
    sample = monitor.sample()
    assert sample.collectives is not None
    found["rows"] = [row.to_dict() for row in sample.collectives]
    found["ratio"] = sample.collective_ratio
    found["unseen"] = sample.unavailable.get("collectives.unseen")
    found["unexplained"] = [
        field
        for row in sample.collectives
        for field, value in row.to_dict().items()
        if value is None and sample.reason(f"collectives.{field}") is None
    ]
    found["dropped"] = sample.self.collectives_dropped_total
    found["problem"] = handle.problem
    handle.close()
    found["remaining"] = handle.remaining
    dist.all_reduce(ones(1))
    found["after close"] = recent(monitor)
    found["still a list"] = monitor.sample().collectives is not None
    monitor.close()
    end()
    return found


def again() -> dict[str, Any]:
    """Attach and close again and again, also with two monitors."""
    waits, register = dist.Work.wait, dist.distributed_c10d._register_process_group
    begin()
    found: dict[str, Any] = {"counts": [], "threads": threading.active_count()}
    monitor = netmon.Monitor(interval=0.2)
    for i in range(20):
        with attach(monitor) as handle:
            dist.all_reduce(ones(100 + i))
            found["counts"].append(len(recent(monitor, handle)))
        dist.all_reduce(ones(100 + i))
        handle.close()
        found["remaining"] = handle.remaining
    late = netmon.Monitor(interval=0.2)
    first = attach(monitor)
    dist.new_group(list(range(world_size)))  # known to one only
    dist.all_reduce(ones(1))
    second = attach(late)
    group = dist.new_group(list(range(world_size)))
    dist.all_reduce(ones(2), group=group)
    first.close()
    dist.all_reduce(ones(3), group=group)
    second.flush()
    both = [[record["bytes"] for record in json.loads(m._query({"view": "collectives"}))["recent"]] for m in (monitor, late)]
    found["both"] = [both[0][-2:], both[1]]
    found["groups"] = [record["group"] for record in json.loads(late._query({"view": "collectives"}))["recent"]]
    second.close()
    monitor.close()
    # A monitor that was closed is left alone.
    gone = attach(late)
    late.close()
    for _ in range(300):
        dist.all_reduce(ones(1))
    found["sinks of a closed monitor"] = len(gone._tracker.sinks)
    gone.close()
    found["restored"] = dist.Work.wait is waits and dist.distributed_c10d._register_process_group is register
    found["threads after"] = threading.active_count()
    end()
    return found


def threads() -> dict[str, Any]:
    """Close, and attach again, while another thread calls collectives."""
    begin()
    monitor = netmon.Monitor(interval=0.2)
    groups = [dist.new_group(list(range(world_size))) for _ in range(2)]
    stop = False
    rounds = [0, 0]

    def call(place: int) -> None:
        flag = torch.zeros(1)
        while flag.item() == 0:
            flag.fill_(float(stop and rank == 0))
            dist.all_reduce(flag, group=groups[place])
            rounds[place] += 1

    callers = [threading.Thread(target=call, args=(i,)) for i in range(2)]
    handles = [attach(monitor)]
    for thread in callers:
        thread.start()
    while min(rounds) < 20:
        time.sleep(0.001)
    for _ in range(20):
        handles[-1].close()
        time.sleep(0.01)
        handles.append(attach(monitor))
        time.sleep(0.01)
    stop = True
    for thread in callers:
        thread.join(30)
    handles[-1].flush()
    sample = monitor.sample()
    assert sample.collectives is not None
    counts = [row.count for row in sample.collectives]
    handles[-1].close()
    end()
    return {"remaining": handles[0].remaining, "counts": counts, "rounds": rounds, "problem": handles[-1].problem}


def trouble() -> dict[str, Any]:
    """Rank 1 raises in the middle; the others' collective fails."""
    begin()
    monitor = netmon.Monitor(interval=0.2)
    handle = attach(monitor)
    dist.all_reduce(ones(10))
    if rank == 1:
        os._exit(7)
    found: dict[str, Any] = {}
    try:
        dist.all_reduce(ones(11))
    except RuntimeError as error:
        found["raised"] = type(error).__name__
    try:
        dist.all_reduce(ones(12), group=object())
    except Exception as error:  # noqa: BLE001
        found["of no group"] = type(error).__name__
    handle.flush()
    found["records"] = recent(monitor, handle)
    found["problem"] = handle.problem
    handle.close()
    return found


def leave() -> dict[str, Any]:
    """End without destroying the group, and without closing anything, with collectives under way."""
    begin()
    monitor = netmon.Monitor(interval=0.2)
    attach(monitor)
    for i in range(50):
        dist.all_reduce(ones(100 + i))
    leave.kept = [dist.all_reduce(ones(1000), async_op=True) for _ in range(20)], monitor
    return {"left": True}


def workers() -> dict[str, Any]:
    """DataLoader workers are forked from a process that times collectives."""
    begin()
    monitor = netmon.Monitor(interval=0.2)
    handle = attach(monitor)
    loader = torch.utils.data.DataLoader(torch.arange(64).float(), batch_size=4, num_workers=2)
    total = 0.0
    for _ in range(2):
        for batch in loader:
            dist.all_reduce(batch)
            total += batch.sum().item()
    pid = os.fork()
    if pid == 0:
        # A child of the job's own: nothing of it is the parent's.
        status = 0 if handle._tracker.sinks == [] else 1
        handle.flush()
        handle.close()
        os._exit(status)
    _, status = os.waitpid(pid, 0)
    handle.flush()
    sample = monitor.sample()
    assert sample.collectives is not None
    found = {"count": sum(row.count for row in sample.collectives), "total": total, "child": status}
    handle.close()
    end()
    return found


def speed() -> dict[str, Any]:
    """Large all_reduces, timed by netmon and here."""
    begin()
    size, rounds = int(more[0]), int(more[1])
    tensor = torch.zeros(size // FLOAT)
    monitor = netmon.Monitor(interval=0.2)
    dist.all_reduce(tensor)
    dist.barrier()
    with attach(monitor) as handle:
        took = []
        for _ in range(rounds):
            dist.barrier()
            begun = time.perf_counter()
            dist.all_reduce(tensor)
            took.append(time.perf_counter() - begun)
        handle.flush()
        sample = monitor.sample()
    assert sample.collectives is not None
    (row,) = [row.to_dict() for row in sample.collectives if row.op == "all_reduce"]
    end()
    return {"row": row, "took": took}


def poor() -> dict[str, Any]:
    """DDP while the thread that looks for ends has no time to spend, and when it has again."""
    from netmon.integrations.torch import _tracker

    begin()
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(*[torch.nn.Linear(1024, 1024) for _ in range(6)]))
    monitor = netmon.Monitor(interval=0.2)

    def train(steps: int) -> int:
        for _ in range(steps):
            model(torch.ones(4, 1024)).sum().backward()
        dist.barrier()
        return steps

    def state() -> dict[str, Any]:
        handle.flush()
        sample = monitor.sample()
        rows = [row.to_dict() for row in sample.collectives or () if row.op == "all_reduce"]
        return {"rows": rows, "ratio": sample.collective_ratio, "why": sample.unavailable.get("collective_ratio")}

    with attach(monitor) as handle:
        tracker = handle._tracker
        tracker._credit, share, _tracker._SHARE = -1, _tracker._SHARE, 10**9
        time.sleep(0.6)  # it looks each 0.25 s, and counts then
        dist.barrier()
        poor_steps = train(20)
        live, poor = len(tracker.live), state()
        _tracker._SHARE = 1
        time.sleep(0.6)
        dist.barrier()
        steps = poor_steps + train(20)
        rich = state()
        _tracker._SHARE = share
    end()
    parameters = sum(parameter.numel() for parameter in model.parameters()) * FLOAT
    return {"poor": poor, "rich": rich, "live": live, "poor steps": poor_steps, "steps": steps, "parameters": parameters}


def pending() -> dict[str, Any]:
    """Rank 1 does not come, or is stopped, while rank 0 waits, in Python, in C++ or not at all."""
    begin()
    pids: list[Any] = [None] * world_size
    dist.all_gather_object(pids, os.getpid())
    monitor = netmon.Monitor(interval=0.1)
    handle = attach(monitor)
    found: dict[str, Any] = {"before": [reason_for_none(monitor)]}
    kinds = {
        "synchronous": lambda: dist.all_reduce(ones(1000)),
        "not waited for": lambda: pending.kept.append(dist.all_reduce(ones(1001), async_op=True)),
        "recv": lambda: dist.recv(ones(1002), 1) if rank == 0 else dist.send(ones(1002), 0),
        "barrier": dist.barrier,
    }
    pending.kept = []
    dist.barrier()
    for name, call in kinds.items():
        if rank == 0:
            if name == "synchronous":
                os.kill(pids[1], signal.SIGSTOP)
                watcher = Watcher(monitor, lambda: os.kill(pids[1], signal.SIGCONT))
            else:
                watcher = Watcher(monitor, release)
            watcher.start()
            call()
            watcher.join(60)
            found[name] = watcher.found
        else:
            if name != "synchronous":
                wait_for_release()
            call()
        dist.barrier()
    # A child that is forked meanwhile has nothing of it.
    if rank == 0:
        work = dist.all_reduce(ones(1003), async_op=True)
        assert until(lambda: monitor.sample().collective_pending is not None)
        pid = os.fork()
        if pid == 0:
            signal.alarm(30)
            with netmon.Monitor(interval=0.1) as own, attach(own):
                os._exit(int(own.sample().collective_pending is not None or monitor.sample().collective_pending is not None))
        found["child"] = os.waitpid(pid, 0)[1]
        found["of the parent"] = monitor.sample().collective_pending is not None
        # A monitor that comes late is told, one that goes first is not left with it.
        late = netmon.Monitor(interval=0.1)
        second = attach(late)
        found["late"] = until(lambda: late.sample().collective_pending is not None)
        second.close()
        found["gone"] = late.sample().collective_pending is None
        late.close()
        handle.close()
        found["closed"] = reason_for_none(monitor)
        release()
        work.wait()
    else:
        wait_for_release()
        dist.all_reduce(ones(1003))
    found["problem"] = handle.problem
    monitor.close()
    end()
    return found


def reason_for_none(monitor: netmon.Monitor) -> str | None:
    sample = monitor.sample()
    assert sample.collective_pending is None
    return sample.reason("collective_pending")


def until(condition: Any) -> bool:
    limit = time.monotonic() + 30
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def release() -> None:
    """Let the other rank go on."""
    release.times += 1
    with open(f"{store}.{release.times}", "w"):
        pass


def wait_for_release() -> None:
    release.times += 1
    assert until(lambda: os.path.exists(f"{store}.{release.times}"))


release.times = 0


class Watcher(threading.Thread):
    """Sees what a monitor says is under way, grow and go."""

    def __init__(self, monitor: netmon.Monitor, let_go: Any) -> None:
        super().__init__(daemon=True)
        self.monitor, self.let_go = monitor, let_go
        self.found: dict[str, Any] = {}

    def look(self) -> Any:
        return self.monitor.sample().collective_pending

    def run(self) -> None:
        try:
            until(lambda: self.look() is not None)
            first = self.look()
            until(lambda: self.look().seconds > first.seconds + 0.2)
            self.found = {**self.look().to_dict(), "first": first.seconds}
        finally:
            self.let_go()
        self.found["vanishes"] = until(lambda: self.look() is None)


def measure() -> dict[str, Any]:
    """Measure, alone and together, and train on."""
    begin()
    found: dict[str, Any] = {"rows": [asdict(row) for row in measure_collectives(sizes=[1000, 1 << 20])]}

    def attempt(*arguments: Any, **options: Any) -> list[str]:
        try:
            measure_collectives(*arguments, **options)
        except netmon.Error as error:
            return [type(error).__name__, str(error)]
        return []

    with netmon.Monitor(interval=0.2) as monitor, attach(monitor) as handle:
        for alone in range(world_size):
            if rank == alone:
                begun = time.monotonic()
                found["alone"] = attempt(timeout=0.5)
                found["alone took"] = time.monotonic() - begun
            tensor = ones(1000)
            dist.all_reduce(tensor)  # of the training: right after it, and meanwhile on the others
            found["trains on"] = tensor[0].item() == world_size
            found["together"] = len(measure_collectives(["all_reduce"], [4096]))
        found["different"] = attempt(["broadcast" if rank else "all_reduce"], timeout=5)
        found["after"] = len(measure_collectives(["all_reduce"], [4096]))
        records = recent(monitor, handle)
        found["passive"] = [record["op"] for record in records]
    found["arguments"] = [attempt(["all_reduc"]), attempt(sizes=[3]), attempt(sizes=[1 << 31]), attempt(timeout=0)]
    end()
    found["no group"] = attempt()
    return found


def late() -> dict[str, Any]:
    """Rank 1 comes when rank 0 has given up, and again and again; both end up together."""
    begin()
    outcomes = []
    for i in range(30):
        time.sleep((0.004 * i * (1 - 2 * rank)) % 0.1)  # at times of their own
        try:
            outcomes.append(len(measure_collectives(["all_reduce"], [4096], timeout=0.03 if i % 2 == rank else 0.06)))
        except netmon.TimedOutError:
            outcomes.append(0)
    dist.barrier()
    tensor = ones(10)
    dist.all_reduce(tensor)
    outcomes.append(len(measure_collectives(["all_reduce"], [4096])))
    end()
    return {"outcomes": outcomes, "sum": tensor[0].item()}


def lost() -> dict[str, Any]:
    """Rank 1 dies in the middle of a measurement."""
    begin()
    if rank == 1:
        _measure._measure = lambda *_: os._exit(7)
    try:
        measure_collectives(["all_reduce"], [4096])
    except netmon.Error as error:
        return {"error": [type(error).__name__, str(error)]}
    return {}


def frozen() -> dict[str, Any]:
    """The host of the store is stopped, and goes on later."""
    begin()
    pids: list[Any] = [None] * world_size
    dist.all_gather_object(pids, os.getpid())
    found: dict[str, Any] = {}
    if rank == 1:
        os.kill(pids[0], signal.SIGSTOP)
        begun = time.monotonic()
        try:
            measure_collectives(["all_reduce"], [4096], timeout=0.5)
        except netmon.Error as error:
            found["error"] = [type(error).__name__, str(error)]
        found["took"] = time.monotonic() - begun
        os.kill(pids[0], signal.SIGCONT)
    dist.all_reduce(ones(10))
    found["after"] = len(measure_collectives(["all_reduce"], [4096]))
    end()
    return found


def link() -> dict[str, Any]:
    """Figures over a link of a known rate, and by the test's own clock."""
    begin()
    count = int(more[0]) // FLOAT
    whole, part = torch.zeros(count), torch.zeros(count // world_size)
    parts = list(torch.zeros(count).chunk(world_size))
    own = {
        "all_reduce": lambda: dist.all_reduce(whole),
        "broadcast": lambda: dist.broadcast(whole, 0),
        "all_gather": lambda: dist.all_gather(parts, part),
        "reduce_scatter": lambda: dist.reduce_scatter(part, parts),
    }
    found: dict[str, Any] = {}
    for op, call in own.items():
        (row,) = measure_collectives([op], [int(more[0])])
        call()
        took = []
        for _ in range(3):
            dist.barrier()
            begun = time.perf_counter()
            call()
            took.append(time.perf_counter() - begun)
        slowest = torch.tensor(took)
        dist.all_reduce(slowest, dist.ReduceOp.MAX)
        found[op] = {**asdict(row), "own": slowest.median().item()}
    end()
    return found


def rldk() -> dict[str, Any]:
    """The rldk class with its benchmark collectives enabled: together, and rank 0 alone."""
    from netmon.integrations.rldk import DistributedNetworkMonitor

    begin()
    names = [f"{op}_bandwidth" for op in ("allreduce", "broadcast", "gather", "scatter")]
    monitor = DistributedNetworkMonitor(enable_distributed_measurements=True)
    metrics = monitor.measure_distributed_metrics()
    found: dict[str, Any] = {
        "speeds": {name: getattr(metrics, name) for name in names},
        "unmeasured": [name for name in names if name in metrics.unmeasured],
        "source": metrics.sources["allreduce_bandwidth"].source,
        "times": [len(monitor.allreduce_times), len(monitor.scatter_times)],
        "summary": monitor.get_performance_summary()["distributed_metrics"],
        "one": monitor._measure_gather_bandwidth(),
        "off": DistributedNetworkMonitor()._measure_gather_bandwidth(),
    }
    if rank == 0:
        begun = time.monotonic()
        alone = monitor.measure_distributed_metrics()
        found["alone took"] = time.monotonic() - begun
        found["alone"] = [alone.allreduce_bandwidth, alone.reasons["allreduce_bandwidth"]]
    tensor = ones(1)
    dist.all_reduce(tensor)
    found["sum"] = tensor.item()
    end()
    return found


def main(scenarios: dict[str, Any]) -> None:
    """Run the scenario, and print what it found."""
    if "library" in more:  # as with a torch that has no hooks
        from netmon.integrations.torch._hooks import Hooks

        Hooks.possible = staticmethod(lambda distributed: False)
    answer = scenarios[scenario]()
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(globals())
