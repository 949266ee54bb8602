"""One rank of the job that the campaign watches: trains until its standard input ends, and prints what it sees.

rank.py OPTIONS: a JSON object with `compute` (matrix products a step), `pause_seconds`, `reduce_bytes`, `broadcast_bytes`,
`look_seconds` (between two looks at the view), `views` (print whole ones too) and `figures` (name the parts of a step as
phases, and print what there is beside the view). The rest is said as torchrun says it.

Each line printed is a JSON object: `time` (CLOCK_MONOTONIC, which all hosts of the lab share), `steps`, `findings` of the
cluster view, or null where there is no view yet, `problem` of the view, and, where asked for and new, the whole `view`. With
`figures` also `values`, what trackers get, `own`, the process's own findings, and `phases`, those that have ended since the
line before.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

import netmon
from netmon.integrations._flat import FlatValues
from netmon.integrations.torch import attach, find_peers

_BROADCAST_EVERY = 3
_FLOAT_BYTES = 4
_SIDE = 256


class Progress:
    """How far the training is."""

    def __init__(self) -> None:
        self.steps = 0
        self.ending = threading.Event()  # the rank was told to


class Figures:
    """What is told beside the view: values as trackers get them, own findings, and the parts of the steps."""

    def __init__(self, monitor: netmon.Monitor) -> None:
        self._monitor = monitor
        self._values = FlatValues(monitor)
        self._ended: list[netmon.PhaseRun] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Be in a part of a step."""
        with self._monitor.phase(name) as run:
            yield
        self._ended.append(run)

    def take(self) -> dict[str, Any]:
        """Return what there is now."""
        ended, self._ended = self._ended, []
        findings = self._monitor.sample().findings
        return {
            "values": self._values.at(None),
            "own": None if findings is None else [finding.to_dict() for finding in findings],
            "phases": [run.to_dict() for run in ended],
        }


Part = Callable[[str], AbstractContextManager[None]]


def train(options: dict[str, Any], progress: Progress, part: Part) -> None:
    """Compute, wait as if for a GPU, reduce, now and then broadcast, and meet at a barrier: until a rank is told to end."""
    gradients = torch.ones(options["reduce_bytes"] // _FLOAT_BYTES)
    weights = torch.ones(options["broadcast_bytes"] // _FLOAT_BYTES)
    matrix = torch.ones(_SIDE, _SIDE)
    world_size = dist.get_world_size()
    while gradients[0].item() < world_size + 0.5:
        with part("compute"):
            for _ in range(options["compute"]):
                torch.mm(matrix, matrix)
            time.sleep(options["pause_seconds"])
        gradients.fill_(1.0)
        gradients[0] += progress.ending.is_set()
        with part("reduce"):
            dist.all_reduce(gradients)
        if progress.steps % _BROADCAST_EVERY == 0:
            with part("broadcast"):
                dist.broadcast(weights, (progress.steps // _BROADCAST_EVERY) % world_size)
        with part("barrier"):
            dist.barrier()
        progress.steps += 1


def look(monitor: netmon.Monitor, options: dict[str, Any], progress: Progress, figures: Figures | None) -> None:
    """Print what is seen, for ever."""
    printed = None
    while True:
        time.sleep(options["look_seconds"])
        line: dict[str, Any] = {"time": time.monotonic(), "steps": progress.steps}
        document = monitor.cluster().to_dict()
        line["findings"] = document["findings"]
        line["problem"] = document["unavailable"].get("view")
        if options["views"] and printed != (identity := (document.get("aggregator_rank"), document["sequence"])):
            line["view"] = document
            printed = identity
        if figures is not None:
            line |= figures.take()
        print(json.dumps(line), flush=True)


def wait_for_end(progress: Progress) -> None:
    """Note the end of the standard input."""
    sys.stdin.read()
    progress.ending.set()


def main() -> None:
    """Train, watched."""
    warnings.simplefilter("ignore")
    options = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method="env://", timeout=timedelta(seconds=120))
    progress = Progress()
    with netmon.Monitor() as monitor, attach(monitor), find_peers(monitor):
        threading.Thread(target=wait_for_end, args=[progress], daemon=True).start()
        figures = Figures(monitor) if options["figures"] else None
        threading.Thread(target=look, args=[monitor, options, progress, figures], daemon=True).start()
        train(options, progress, (lambda _: nullcontext()) if figures is None else figures.part)
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # the thread that prints may be at it


if __name__ == "__main__":
    main()
