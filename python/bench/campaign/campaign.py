"""Running faults: one job for several of them in turn, with pauses in which it recovers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .faults import KINDS, Fault
from .job import Job, job
from .score import Episode, claims

# For how long a fault is there, and how long there is none before it.
SECONDS = 13.0
PAUSES = (9.0, 12.0)


def run(
    faults: Sequence[Fault], hosts: int, *, views: bool = False, **work: Any
) -> Iterator[tuple[Episode, list[dict[str, Any]]]]:
    """Run a job, put in fault after fault, and give an episode for each, and one before for the healthy job.

    Args:
        faults: in order.
        hosts: how many; a rank runs on each.
        views: whether to give every view that was read in the episode too.
        work: what is different from ``job.WORK``.
    """
    # Who reads is drawn too: any rank's view is to be right. Not from the seed of the faults, which are the same whoever reads.
    chance = random.Random(str(faults))  # noqa: S311  (to be repeated, not secret)
    with job(hosts, views=views, **work) as running:
        began, since = time.monotonic(), Fault("none", 0, None, 0.0)
        lasted = faults[0].pause_seconds if faults else SECONDS
        for fault in [*faults, None]:
            running.wait(fault.pause_seconds if fault else PAUSES[0])
            now = time.monotonic()
            yield _episode(running, since, began, lasted, now, chance)
            if fault is None:
                return
            began, since = time.monotonic(), fault
            with KINDS[fault.kind].put(running.lab.hosts[fault.host], fault.direction):
                running.wait(SECONDS)
                lasted = time.monotonic() - began


def _episode(
    running: Job, fault: Fault, began: float, lasted: float, until: float, chance: random.Random
) -> tuple[Episode, list[dict[str, Any]]]:
    stopped = [fault.host] if KINDS[fault.kind].finding == "stalled_rank" else []
    reader = chance.choice([rank for rank in range(len(running.lines)) if rank not in stopped])
    lines = _between(running.lines[reader], began, until)
    looks = [(line["time"] - began, line["findings"]) for line in lines if line["findings"] is not None]
    about = {
        "steps_per_second": [_speed(_between(lines, began, began + lasted)) for lines in running.lines],
        "problems": sorted({line["problem"] for line in lines if line["problem"] is not None}),
    }
    episode = Episode(fault, running.lab.hosts[fault.host].label, lasted, reader, len(looks), claims(looks), about)
    return episode, [{"seconds": line["time"] - began, **line} for line in lines if "view" in line]


def _between(lines: Sequence[Mapping[str, Any]], begin: float, end: float) -> list[Mapping[str, Any]]:
    return [line for line in lines if begin <= line["time"] < end]


def _speed(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Return steps per second, None where a rank said less than two things."""
    if len(lines) < 2:
        return None
    first, last = lines[0], lines[-1]
    return round((last["steps"] - first["steps"]) / (last["time"] - first["time"]), 3)
