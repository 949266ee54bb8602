"""A job of Ray on three local nodes, each process of which takes part in the view. Prints what each of them saw, as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray.cluster_utils import Cluster

import netmon

INTERVAL = 0.5


@ray.remote(num_cpus=1)
class Worker:
    """An actor that trains, so to speak."""

    def __init__(self) -> None:
        self._monitor = netmon.Monitor(cluster="ray", cluster_interval=INTERVAL)

    def view(self) -> dict[str, Any]:
        return self._monitor.cluster().to_dict()

    def process(self) -> int:
        return os.getpid()


def processes(view: dict[str, Any]) -> int:
    """Return how many live processes a view has."""
    return sum(row["state"] == "live" for row in view["ranks"] or ())


def until(what: Any, seconds: float = 60) -> Any:
    limit = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > limit:
            raise SystemExit(f"not within {seconds} s: {found}")
        time.sleep(0.1)


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "node_ip_address": sys.argv[1]})
    for _ in range(2):
        cluster.add_node(num_cpus=1, node_ip_address=sys.argv[1])
    with netmon.Monitor(cluster=True, cluster_interval=INTERVAL) as monitor:
        before = until(lambda: (problem := monitor.cluster().problem) and "ray" in problem and problem)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        workers = [Worker.options(scheduling_strategy="SPREAD").remote() for _ in range(3)]
        pids = ray.get([worker.process.remote() for worker in workers])

        def whole(view: dict[str, Any]) -> dict[str, Any] | None:
            return view if processes(view) == 4 else None

        views = [until(lambda: whole(monitor.cluster().to_dict()))]
        views += [until(lambda worker=worker: whole(ray.get(worker.view.remote()))) for worker in workers]
        os.kill(pids[0], 9)
        left = until(lambda: (view := monitor.cluster().to_dict()) and processes(view) == 3 and view)
        resources = {name: amount for name, amount in ray.available_resources().items() if name == "CPU"}
        found = {"before": before, "views": views, "left": left, "nodes": len(ray.nodes()), "free": resources}
        begun = time.monotonic()
        ray.shutdown()
        found["shutdown_seconds"] = time.monotonic() - begun
        found["after"] = until(lambda: monitor.cluster().problem)
    cluster.shutdown()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
