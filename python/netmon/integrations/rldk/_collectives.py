"""Collectives in rldk's names: those that the job runs anyway, where they are timed. None is called from here."""

from __future__ import annotations

from typing import NamedTuple

from ..._types import Collective, Sample
from .. import torch as _torch
from ..torch import Attachment
from . import _reading, _units
from ._reach import Value

# rldk's names and those of torch; rldk's gather is an all_gather.
OPS = {"allreduce": "all_reduce", "broadcast": "broadcast", "gather": "all_gather", "scatter": "scatter"}
SPEED = "collectives.algbw_bytes_per_second"
SECONDS = "collectives.p50_seconds"
# Smaller ones show how long a message takes, whatever the link can carry; rldk's own tests move 40 kB and 4 MB.
SMALLEST_BYTES = 32_768
_TIME_THEM = "netmon.integrations.rldk.time_collectives() times the job's own"


class Seen(NamedTuple):
    """What is known of the job's collectives of one operation, of the size that moved most.

    Attributes:
        speed: Mbps of algbw, as rldk counts: S / t; why there is none, where all are too small for one.
        seconds: the median duration of the last 60 s, waiting for the last rank included.
        size_bytes: the mean of S, the whole array.
    """

    speed: Value | str
    seconds: Value
    size_bytes: float


def seen(sample: Sample | None) -> dict[str, Seen | str]:
    """Return what a sample knows of the job's collectives by rldk's names, or why nothing."""
    rows = sample.collectives if sample is not None else None
    if sample is None or rows is None:
        return dict.fromkeys(OPS, f"{_reading.why(sample, 'collectives')}; {_TIME_THEM}")
    return {name: _seen(op, rows, sample.monotonic_seconds) for name, op in OPS.items()}


def _seen(op: str, rows: tuple[Collective, ...], measured_at: float) -> Seen | str:
    known = [row for row in rows if row.op == op and row.p50_seconds is not None and row.algbw_bytes_per_second is not None]
    if not known:
        return f"the job ran no {op} whose duration is known in the last 60 s"
    row = max(known, key=lambda row: (row.bytes_total / row.count >= SMALLEST_BYTES, row.bytes_total))
    size = row.bytes_total / row.count
    ranks = f"{row.group_size} rank" + ("s" if row.group_size != 1 else "")
    target = f"{op} of {row.group}, {ranks}, {size:.0f} bytes"
    seconds = Value(row.p50_seconds or 0.0, SECONDS, target, measured_at)
    if size < SMALLEST_BYTES:
        return Seen(f"the job's {op} moves {size:.0f} bytes at a time, which tells nothing of bandwidth", seconds, size)
    return Seen(Value(_units.mbps(row.algbw_bytes_per_second or 0.0), SPEED, target, measured_at), seconds, size)


def time_collectives() -> Attachment | None:
    """Time the collectives that the job runs with torch.distributed, from now on, for the process's one monitor.

    Call it on every rank after ``torch.distributed.init_process_group``, by the thread that trains. It runs no collective; what
    it costs is in docs/collectives.md. ``netmon run`` does the same by itself.

    Returns:
        What switches it off again (``close``); None where netmon cannot measure.

    Raises:
        UnsupportedError: torch or its distributed package is not there, or ``configure(sources=...)`` leaves collectives out.
    """
    source = _reading.monitor()
    return None if source is None else _torch.attach(source)
