"""The store of the job, in a process of its own as torchrun has it: a stopped rank does not stop it."""

from __future__ import annotations

import sys
from datetime import timedelta

import torch.distributed as dist

address, port, world_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = dist.TCPStore(address, port, world_size, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=300))
print("ready", flush=True)
sys.stdin.read()
