"""Which rank of the job this process is: the environment first, then torch.distributed where the job has set it up.

torch is never imported: it is looked at only where the job has imported it. No collective is ever called.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any, NamedTuple

from ..._types import Sample
from . import _reading

NAMES = ("rank", "local_rank", "world_size", "node_id")


class Identity(NamedTuple):
    """A rank, with rldk's defaults where nothing is known, and which are known."""

    rank: int
    local_rank: int
    world_size: int
    node_id: str
    known: frozenset[str]


def torch_distributed() -> Any:
    """Return torch.distributed if the job has imported and initialised it, else None."""
    module = sys.modules.get("torch.distributed") if "torch" in sys.modules else None
    try:
        # Another thread may be in the middle of importing it.
        if module is not None and module.is_available() and module.is_initialized():
            return module
    except Exception:  # noqa: BLE001 - whatever a foreign module raises, training goes on
        return None
    return None


def torch_ranks() -> tuple[int, int] | None:
    """Return rank and world size as torch.distributed has them."""
    module = torch_distributed()
    try:
        return None if module is None else (int(module.get_rank()), int(module.get_world_size()))
    except Exception:  # noqa: BLE001 - as above; the process group may be destroyed at this moment
        return None


def identify(sample: Sample | None) -> Identity:
    """Return what is known of this process, and tell the monitor what torch.distributed knows beyond the environment.

    Args:
        sample: the newest sample; without one, torchrun's variables are read here.
    """
    job = sample.job if sample is not None else None
    if job is not None:
        rank, local_rank, world_size = job.rank, job.local_rank, job.world_size
        node = None if job.node_rank is None else str(job.node_rank)
    else:
        rank, local_rank, world_size, node_rank = map(_variable, ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK"))
        node = None if node_rank is None else str(node_rank)
    if rank is None or world_size is None:
        ranks = torch_ranks()
        if ranks is not None:
            _reading.tell_ranks(*ranks)
            rank = ranks[0] if rank is None else rank
            world_size = ranks[1] if world_size is None else world_size
    if node is None:
        node = (sample.host.hostname if sample is not None else None) or socket.gethostname()
    found = {"rank": rank, "local_rank": local_rank, "world_size": world_size, "node_id": node}
    return Identity(
        rank or 0,
        local_rank or 0,
        1 if world_size is None else world_size,
        node,
        frozenset(name for name, value in found.items() if value is not None),
    )


def _variable(name: str) -> int | None:
    try:
        return int(os.environ[name])
    except (KeyError, ValueError):
        return None


def master_address() -> list[str]:
    """Return the job's master as a list of one target, or an empty list: the only peer that is known without measuring."""
    address = os.environ.get("MASTER_ADDR", "").strip()
    return [address] if address else []
