"""One rank of a job that logs its network: tracked_rank.py FOLDER STEPS; who it is says the environment, as torchrun would.

After its steps, and when it sees the whole job live, it prints what a tracker gets and what Prometheus does.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

import netmon
from netmon.integrations.prometheus import Textfile
from netmon.integrations.trackers import Logger

FLOATS = 1_000_000


def main() -> None:
    """Train, log, and wait for the end of the input."""
    folder, steps = sys.argv[1], int(sys.argv[2])
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    monitor = netmon.Monitor(interval=0.1, interfaces=["eth0"], cluster=True, cluster_interval=0.2)
    with Textfile(monitor, folder, 1) as textfile, Logger(monitor, nodes=True) as logger:
        first = monitor.sample().interfaces["eth0"]  # type: ignore[index]
        for _ in range(steps):
            with monitor.phase("sync"):
                dist.all_reduce(torch.ones(FLOATS))
        while monitor.cluster().totals.live_ranks != dist.get_world_size():
            time.sleep(0.05)
        time.sleep(0.5)  # a digest and a view after the last step
        logger._prepare(logger._values)  # type: ignore[arg-type]
        told = {"values": logger.values(steps), "text": monitor.prometheus(), "file": textfile.path.name}
        told["before"] = [first.receive_bytes_total, first.transmit_bytes_total]
        print(json.dumps(told), flush=True)
        sys.stdin.read()  # all are there until all have told
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
