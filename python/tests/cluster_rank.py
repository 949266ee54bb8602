"""One rank of a job that trains, watched by netmon or not. It answers each line on its standard input with a line of JSON.

cluster_rank.py RANK WORLD_SIZE STORE [OPTION...]: STORE is HOST:PORT of a store that runs already; rank -1
is that store. Options: ``without`` netmon; ``steps=N`` ends after so many; ``interval=S`` of the digests;
``fake``: no other rank is needed; ``bare``: it does not train;
``linger``: do not destroy the group in the end;
``rldk``: rldk's collectors run too.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

rank, world_size, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
options = dict(option.partition("=")[::2] for option in sys.argv[4:])
PAUSE = 0.05


def serve() -> None:
    """Keep a store until the input ends, as the agent of torchrun does."""
    port = int(place.rpartition(":")[2])
    store = dist.TCPStore("0.0.0.0", port, is_master=True, wait_for_workers=False)
    print("ready", flush=True)
    sys.stdin.read()
    del store


class Training:
    """Steps with a collective each, in the main thread, until all ranks want to end."""

    def __init__(self) -> None:
        self.steps = 0
        self.sum = 0.0
        self.raised: str | None = None
        self.ended = False
        self.longest = 0.0

    def run(self, most: float) -> None:
        try:
            while self.steps < most and not self.ended:
                tensor = torch.ones(1000)
                begun = time.monotonic()
                dist.all_reduce(tensor)
                self.longest = max(self.longest, time.monotonic() - begun)
                self.sum += tensor.sum().item()
                self.steps += 1
                time.sleep(PAUSE)
        except RuntimeError as error:
            self.raised = type(error).__name__


def answer(line: str, training: Training, monitor: Any, collectors: Any) -> dict[str, Any]:
    """Do what a line says."""
    begun = time.monotonic()
    found: dict[str, Any] = {"steps": training.steps, "raised": training.raised, "sum": training.sum}
    if monitor is not None and line == "view":
        view = monitor.cluster()
        found |= {"took": time.monotonic() - begun, "view": view.to_dict(), "age": view.age_seconds, "problem": view.problem}
    if line == "threads":
        found["threads"] = sorted(thread.name for thread in threading.enumerate())
    if line == "close":
        monitor.close()
        found["took"] = time.monotonic() - begun
    if line == "fork":
        found["child"] = forked(monitor)
    if line == "rldk":
        collector, nodes = collectors
        latest = collector.get_latest_metrics()
        found["latest"] = None if latest is None else {**vars(latest), "unmeasured": latest.unmeasured}
        found["nodes"] = {name: vars(node) for name, node in collector.node_metrics.items()}
        found["aggregated"] = [dict(row) for row in nodes.get_aggregated_metrics()[-1:]]
        found["node_metrics"] = {name: dict(row) for name, row in nodes.get_node_metrics().items()}
        found["history"] = len(collector.metrics_history)
        found["frame"] = list(collector.get_metrics_dataframe().columns)
    return found


def forked(monitor: Any) -> list[Any]:
    """Return what a forked child finds."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        view = monitor.cluster()
        threads = sorted(thread.name for thread in threading.enumerate())
        os.write(writing, json.dumps([view.sequence, view.problem, threads]).encode())
        os._exit(0)
    os.wait()
    return list(json.loads(os.read(reading, 1 << 16)))


def obey(training: Training, monitor: Any, collectors: Any) -> None:
    """Answer lines until the input ends, then have training end."""
    for line in sys.stdin:
        print(json.dumps(answer(line.strip(), training, monitor, collectors), default=str), flush=True)
    training.ended = True


def main() -> None:
    """Train."""
    host, _, port = place.rpartition(":")
    store = dist.PrefixStore("attempt", dist.TCPStore(host, int(port), is_master=False, wait_for_workers=False))
    if "fake" in options:
        import torch.testing._internal.distributed.fake_pg  # noqa: F401
    dist.init_process_group(
        "fake" if "fake" in options else "gloo",
        store=store,
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=60),
    )
    monitor, collectors = None, None
    if "without" not in options:
        import netmon
        from netmon.integrations.torch import attach

        interval = float(options.get("interval", 2))
        if "rldk" in options:
            from netmon.integrations import rldk
            from netmon.integrations.rldk import _reading

            rldk.configure(cluster_interval=interval, interfaces=["eth0"])
            monitor = _reading.monitor()
            collectors = rldk.DistributedMetricsCollector(0.5), rldk.MultiNodeMonitor()
            collectors[0].start_collection()
            collectors[1].start_monitoring()
        else:
            monitor = netmon.Monitor(cluster=True, cluster_interval=interval, job={"rank": rank, "world_size": world_size})
        attach(monitor)
    training = Training()
    print("ready", flush=True)
    if "steps" in options:
        training.run(float(options["steps"]))
        print(json.dumps({"steps": training.steps, "sum": training.sum, "raised": training.raised}), flush=True)
        if "linger" not in options and training.raised is None:
            dist.destroy_process_group()
        return
    listener = threading.Thread(target=obey, args=(training, monitor, collectors))
    listener.start()
    if "bare" not in options:
        training.run(float("inf"))
    listener.join()


if __name__ == "__main__":
    serve() if rank < 0 else main()
