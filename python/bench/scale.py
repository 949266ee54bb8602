"""What the view of a large job costs: ``PYTHONPATH=python python -m bench.scale [RANKS...]``.

A real TCPStore of torch in a process of its own; simulated ranks in a few processes, each rank with its own connection and its
own thread, as in a job, and digests of a real monitor in its name; and rank 0, which makes the view, in a process of its own.
What is scaled down: all of it shares the processors of one machine, so that times are upper bounds, and all ranks are of one
node.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Mapping
from typing import Any

import netmon
from netmon._cluster import Member
from netmon.integrations.torch._store import StoreBoard

_PROCESSES = 4

_HOST = """
import resource, sys
import torch.distributed as dist
store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
for line in sys.stdin:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(used.ru_utime + used.ru_stime, used.ru_maxrss, flush=True)
"""


class Simulated:
    """Speaks for one rank: a real monitor's digest in the name of that rank."""

    _one_at_a_time = threading.Lock()

    def __init__(self, monitor: netmon.Monitor, rank: int) -> None:
        self._monitor, self._rank = monitor, rank
        self._cluster_interval = monitor._cluster_interval

    def _tell_rank(self, rank: int, world_size: int | None) -> None:
        pass

    def _digest(self) -> bytes:
        with self._one_at_a_time:
            self._monitor.set_job(rank=self._rank)
            return self._monitor._digest()

    def _aggregate(self, request: Mapping[str, Any]) -> bytes:
        return self._monitor._aggregate(request)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _raise_limits() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def simulate(port: int, first: int, count: int, size: int, interval: float) -> None:
    """Be some ranks until the input ends; answer each line with what they cost."""
    _raise_limits()
    threading.stack_size(256 << 10)
    boards, members = [], []
    monitor = netmon.Monitor(job={"world_size": size}, cluster_interval=interval)
    for rank in range(first, first + count):
        board = StoreBoard("127.0.0.1", port, rank, size)
        speaker = Simulated(monitor, rank)
        member = Member(lambda board=board: board, lambda speaker=speaker: speaker, interval)
        boards.append(board)
        members.append(member)
        member.start()
        time.sleep(interval / count)
    print("ready", flush=True)
    for _ in sys.stdin:
        # Two ranks of each process look at the view, as a person or a collector of rank 0 would; the others do not ask.
        views = [member.view() for member in members[:2]]
        ages = [view.age_seconds for view in views if view.age_seconds is not None]
        print(
            json.dumps(
                {
                    "cpu": _cpu(),
                    "sent": sum(board.connection.bytes_sent for board in boards),
                    "received": sum(board.connection.bytes_received for board in boards),
                    "ages": ages,
                    "problems": sorted({view.problem or "" for view in views}),
                }
            ),
            flush=True,
        )


class Answering:
    """A process that answers lines."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("bench.scale: a process ended")
        return line

    def ask(self) -> str:
        """Return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.line()

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


def measure(size: int, seconds: float, interval: float) -> dict[str, Any]:
    """Return what a job of so many ranks costs, over so many seconds."""
    _raise_limits()
    host = Answering(sys.executable, "-c", _HOST)
    others: list[Answering] = []
    try:
        port = int(host.line())
        board = StoreBoard("127.0.0.1", port, 0, size)
        with netmon.Monitor(job={"rank": 0, "world_size": size}, cluster_interval=interval) as monitor:
            member = Member(lambda: board, lambda: monitor, interval)
            member.start()
            per = -(-(size - 1) // _PROCESSES)
            for first in range(1, size, per):
                count = min(per, size - first)
                others.append(
                    Answering(*(sys.executable, "-m", "bench.scale", "--be"), json.dumps([port, first, count, size, interval]))
                )
            for other in others:
                other.line()
            limit = time.monotonic() + 120
            while _heard(member) < size:
                if time.monotonic() > limit:
                    raise SystemExit(f"bench.scale: {_heard(member)} of {size} ranks in the view")
                time.sleep(interval)
            result = _watch(size, seconds, interval, host, others, board, member)
        member.close(5)
        return result
    finally:
        for process in (host, *others):
            process.end()


def _heard(member: Member) -> int:
    """Return how many digests the aggregator has seen."""
    return len(member._changed)


def _watch(
    size: int, seconds: float, interval: float, host: Answering, others: list[Answering], board: StoreBoard, member: Member
) -> dict[str, Any]:
    before = _moment(host, others, board)
    begun = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begun
    after = _moment(host, others, board)
    ages = [age for one in after["others"] for age in one["ages"]]
    view = member.view()
    document = json.dumps(view.to_dict()).encode()
    ranks = size - 1
    spent = {
        name: sum(one[name] for one in after["others"]) - sum(one[name] for one in before["others"])
        for name in ("cpu", "sent", "received")
    }
    steps = took / interval * ranks
    return {
        "ranks": size,
        "seconds": took,
        "interval": interval,
        "sent_bytes_per_rank_and_step": spent["sent"] / steps,
        "received_bytes_per_rank_and_step": spent["received"] / steps,
        "follower_cpu_ratio": spent["cpu"] / took / ranks,
        "aggregator_cpu_ratio": (after["cpu"] - before["cpu"]) / took,
        "aggregator_received_bytes_per_second": (after["received"] - before["received"]) / took,
        "store_cpu_ratio": (after["host"][0] - before["host"][0]) / took,
        "store_memory_bytes": after["host"][1] * 1024,
        "aggregator_memory_bytes": after["memory"],
        "view_bytes": len(document),
        "view_packed_bytes": len(zlib.compress(document, 1)),
        "view_age_seconds": [statistics.median(ages), max(ages)] if ages else None,
        "rank_0_makes_the_view": member._election is not None and member._election.holds,
        "problems": sorted({problem for one in after["others"] for problem in one["problems"] if problem}),
    }


def _moment(host: Answering, others: list[Answering], board: StoreBoard) -> dict[str, Any]:
    cpu, memory = host.ask().split()
    return {
        "host": (float(cpu), int(memory)),
        "others": [json.loads(other.ask()) for other in others],
        "cpu": _cpu(),
        "received": board.connection.bytes_received,
        "memory": _memory(),
    }


def _memory() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description="measure what the view of a large job costs")
    parser.add_argument("ranks", nargs="*", type=int, default=[256, 1024])
    parser.add_argument("--seconds", type=float, default=30.0, help="for how long each is watched (default %(default)s)")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between two digests (default %(default)s)")
    parser.add_argument("--be", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        simulate(*json.loads(options.be))
        return
    for size in options.ranks:
        print(json.dumps({**measure(size, options.seconds, options.interval), "processors": os.cpu_count()}), flush=True)


if __name__ == "__main__":
    main()
