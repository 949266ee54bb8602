"""One rank of the job that the campaign watches: trains until its standard input ends, and prints what it sees.

rank.py OPTIONS: a JSON object with `compute` (matrix products a step), `pause_seconds`, `reduce_bytes`, `broadcast_bytes`,
`view_seconds` (between two looks at the view) and `samples` (print them too). The rest is said as torchrun says it.

Each line printed is a JSON object: `time` (CLOCK_MONOTONIC, which all hosts of the lab share), `steps`, `slowest_seconds` and
`step_seconds` (of the steps since the line before, of all of them), `view` (of the cluster, or null) and, if asked, `sample`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import warnings
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

import netmon
from netmon.integrations.torch import attach, find_peers

_BROADCAST_EVERY = 3
_FLOAT_BYTES = 4
_SIDE = 256


class Steps:
    """How many steps there were, and how long they took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._recent: list[float] = []

    def add(self, seconds: float) -> None:
        """Count a step."""
        with self._lock:
            self._count += 1
            self._recent.append(seconds)

    def take(self) -> dict[str, Any]:
        """Return the count, and the steps since the last call."""
        with self._lock:
            recent, self._recent = self._recent, []
            return {"steps": self._count, "slowest_seconds": max(recent, default=None), "step_seconds": sum(recent)}


def train(rank: int, world_size: int, options: dict[str, Any], ending: threading.Event, steps: Steps) -> None:
    """Compute, wait as if for a GPU, reduce, now and then broadcast, and meet at a barrier: until a rank is told to end."""
    gradients = torch.ones(options["reduce_bytes"] // _FLOAT_BYTES)
    weights = torch.ones(options["broadcast_bytes"] // _FLOAT_BYTES)
    matrix = torch.ones(_SIDE, _SIDE)
    number = 0
    while gradients[0].item() < world_size + 0.5:
        began = time.monotonic()
        for _ in range(options["compute"]):
            torch.mm(matrix, matrix)
        time.sleep(options["pause_seconds"])
        gradients.fill_(1.0)
        gradients[0] += ending.is_set()
        dist.all_reduce(gradients)
        if number % _BROADCAST_EVERY == 0:
            dist.broadcast(weights, (number // _BROADCAST_EVERY) % world_size)
        dist.barrier()
        number += 1
        steps.add(time.monotonic() - began)


def look(monitor: netmon.Monitor, options: dict[str, Any], steps: Steps) -> None:
    """Print what is seen, for ever."""
    while True:
        time.sleep(options["view_seconds"])
        line: dict[str, Any] = {"time": time.monotonic(), **steps.take()}
        try:
            view = monitor.cluster() if hasattr(monitor, "cluster") else None
            line["view"] = None if view is None else view.to_dict()
        except netmon.Error as error:
            line["view"] = None
            line["problem"] = str(error)
        if options["samples"]:
            line["sample"] = monitor.sample().to_dict()
        print(json.dumps(line), flush=True)


def wait_for_end(ending: threading.Event) -> None:
    """Note the end of the standard input."""
    sys.stdin.read()
    ending.set()


def main() -> None:
    """Train, watched."""
    warnings.simplefilter("ignore")
    options = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method="env://", timeout=timedelta(seconds=120))
    rank, world_size = dist.get_rank(), dist.get_world_size()
    ending, steps = threading.Event(), Steps()
    with netmon.Monitor() as monitor, attach(monitor), find_peers(monitor):
        threading.Thread(target=wait_for_end, args=[ending], daemon=True).start()
        threading.Thread(target=look, args=[monitor, options, steps], daemon=True).start()
        train(rank, world_size, options, ending, steps)
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # the thread that prints may be at it


if __name__ == "__main__":
    main()
