"""What timing a job's collectives adds to each of them: ``PYTHONPATH=python python -m bench.collectives``.

On torch's fake backend, which does nothing, in blocks with and without; by the CPU time of the calling thread, since another
process may have the processor now and then.
"""

from __future__ import annotations

import statistics
import time

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

import netmon
from netmon.integrations.torch import attach

_CALLS, _BLOCKS = 20_000, 9


def _block(tensor: torch.Tensor) -> float:
    """Return the microseconds of one dist.all_reduce."""
    call = dist.all_reduce
    begun = time.thread_time()
    for _ in range(_CALLS):
        call(tensor)
    return (time.thread_time() - begun) / _CALLS * 1e6


def main() -> None:
    """Measure and print."""
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    tensor = torch.ones(1024)
    _block(tensor)
    without, attached = [], []
    with netmon.Monitor() as monitor:
        for _ in range(_BLOCKS):
            without.append(_block(tensor))
            with attach(monitor) as handle:
                attached.append(_block(tensor))
    base, timed = statistics.median(without), statistics.median(attached)
    print(f"torch {torch.__version__}, {handle.source}: {base:.2f} us without, {timed:.2f} attached, {timed - base:.2f} added")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
