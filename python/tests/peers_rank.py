"""One rank of a job whose ranks find each other's hosts: prints what it found, as JSON.

peers_rank.py MASTER PORT RANK WORLD_SIZE [--alone]: with --alone no other rank looks for peers.
"""

from __future__ import annotations

import json
import os
import sys

import torch
import torch.distributed as dist

import netmon
from netmon.integrations.torch import find_peers

master, port, rank, world_size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
os.environ["GLOO_SOCKET_IFNAME"] = "eth0"
dist.init_process_group("gloo", init_method=f"tcp://{master}:{port}", rank=rank, world_size=world_size)
tensor = torch.ones(1000)
answer = {}
with netmon.Monitor(interval=0.1, job={"rank": rank}) as monitor:
    search = None
    if "--alone" not in sys.argv or rank == 0:
        search = find_peers(monitor, seconds=1.0 if "--alone" in sys.argv else 60.0)
    # The training goes on beside it.
    for _ in range(50):
        dist.all_reduce(tensor)
    if search is not None:
        search.wait(60)
        answer = {"peers": dict(search.peers), "problem": search.problem, "done": search.done}
        probes = monitor.sample().probes
        answer["probed"] = None if probes is None else [probe.address for probe in probes]
    dist.all_reduce(tensor)  # and nothing of the job was disturbed
    dist.barrier()
dist.destroy_process_group()
print(json.dumps(answer))
