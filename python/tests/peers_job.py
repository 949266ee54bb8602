"""A process of a gloo job that restarts: one round of training for each line of standard input.

A line is the JSON of {"master", "port", "rank", "world_size"}; what the peers are called after the round is printed, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

import netmon
from netmon.integrations.torch import find_peers

os.environ["GLOO_SOCKET_IFNAME"] = "eth0"
print("ready", flush=True)
with netmon.Monitor(interval=0.1) as monitor:
    for line in sys.stdin:
        job = json.loads(line)
        if dist.is_initialized():
            # Of the round before, in which another process may have been killed.
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()
        dist.init_process_group(
            "gloo",
            init_method=f"tcp://{job['master']}:{job['port']}",
            rank=job["rank"],
            world_size=job["world_size"],
            timeout=timedelta(seconds=60),
        )
        monitor.set_job(rank=job["rank"], world_size=job["world_size"], master_address=job["master"])
        search = find_peers(monitor)
        tensor = torch.ones(100_000)
        for _ in range(20):
            dist.all_reduce(tensor)
        found = search.wait(60)
        dist.barrier()
        # Everybody else is known by now; when names and interfaces reach the samples, no event tells.
        deadline = time.monotonic() + 10
        while True:
            sample = monitor.sample()
            peers = [peer for peer in sample.peers or () if peer.connections]
            plane = None if sample.transport is None else [sample.transport.plane, sample.transport.interface]
            named = sorted(rank for peer in peers for rank in peer.ranks or ())
            known = len(named) == job["world_size"] - 1 and all(peer.interface for peer in peers) and plane and plane[1]
            if known or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        dist.barrier()  # nobody's connections end before all have looked
        answer = {
            "problem": search.problem if found else "the search has not ended",
            "peers": [peer.to_dict() for peer in peers],
            "plane": plane,
        }
        print(json.dumps(answer), flush=True)
