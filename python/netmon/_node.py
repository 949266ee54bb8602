"""Which process of a node tells others what is of the whole node, so that it is told once."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._monitor import Monitor
    from ._types import Job

_lock = threading.Lock()
_held: dict[str, int] = {}  # descriptors of sockets by name; held until the process ends


def tells(monitor: Monitor, job: Job | None) -> bool:
    """Tell whether this process is the one of its node that tells.

    That is its first rank, as the launcher numbers them, else as the job's view has them. Where neither says it, of ranks that
    were told their number by an argument alone, as of ``torch.multiprocessing.spawn``, the one that asked first. A process that
    has no rank, and was not started by ``multiprocessing``, is taken to be alone.
    """
    if job is not None and job.local_rank is not None:
        return job.local_rank == 0
    if job is not None and job.world_size == 1:
        return True
    processes: Any = sys.modules.get("multiprocessing.process")  # which its children have imported
    is_child = processes is not None and processes.parent_process() is not None
    if not is_child and (job is None or job.world_size is None):
        return True
    if job is not None and job.rank is not None:
        first = _first_rank(monitor, job.rank)
        if first is not None:
            return first == job.rank
    if job is not None and job.master_address is not None:
        return _is_first(f"{job.master_address}:{job.master_port}")
    return _is_first(f"parent {os.getppid()}" if is_child or job is None else f"world {job.world_size}")


def _first_rank(monitor: Monitor, rank: int) -> int | None:
    """Return the lowest rank of this node that has not gone, by the job's view; nothing is started for that."""
    if monitor._hold is None:
        return None
    ranks = monitor.cluster().ranks
    node = next((row.node for row in ranks if row.rank == rank), None)
    there = [row.rank for row in ranks if row.node == node and row.rank is not None and row.state != "gone"]
    return min(there, default=None) if node is not None else None


def _is_first(job: str) -> bool:
    """Tell whether this process is the first of its job in this network namespace that asks, of those that live.

    An abstract socket is a lock of the namespace, which the kernel takes away with its holder.
    """
    name = f"\0netmon-node-{job}"
    with _lock:
        if name in _held:
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
            try:
                lock.bind(name)
            except OSError:
                return False
            _held[name] = lock.detach()
        return True


def _after_fork_in_child() -> None:
    # The parent's alone: a child that lives longer must not keep others from telling.
    global _lock
    _lock = threading.Lock()
    for lock in _held.values():
        with contextlib.suppress(OSError):
            os.close(lock)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
