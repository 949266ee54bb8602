"""What reading this process's own connections costs, against ``ss -tinp`` and psutil, and what memory it takes.

``python -m bench.sockets`` takes a JSON object of ``plan`` (pairs of connections and rounds), ``readings`` and ``private`` on
its standard input and prints a JSON object: for each number of connections the seconds of a reading by side, and what processes
with and without a monitor hold. ``python -m bench.sockets accept`` is the other end of the connections, ``... cost`` a process
with some of them.
"""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from . import loop, namespace, timing

NETMON, SS, PSUTIL = "netmon", "ss -tinp", "psutil.net_connections"

_BLOCK_SECONDS = 0.01
_OTHER_DESCRIPTORS = 256
_AT_A_TIME = 1000  # the kernel lets 4096 wait, by default


def allow_descriptors(count: int) -> None:
    """Let this process, and those it starts, open so many descriptors.

    Raises:
        ValueError: this user may not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard if hard == resource.RLIM_INFINITY else max(hard, count)))


def accept() -> None:
    """Accept connections and keep them, until the input ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        print(server.getsockname()[1], flush=True)
        kept = []
        for line in sys.stdin:
            kept += [server.accept()[0].detach() for _ in range(int(line))]
            print(len(kept), flush=True)


@contextmanager
def other_end() -> Iterator[tuple[int, Callable[[int], None]]]:
    """Run the other end; give its port, and what has it accept so many more connections."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.sockets", "accept"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        streams = process.stdin, process.stdout

        def take(count: int) -> None:
            streams[0].write(f"{count}\n")
            streams[0].flush()
            if not streams[1].readline():
                raise RuntimeError("the other end died")

        yield int(streams[1].readline()), take
        process.stdin.close()


def connect(port: int, count: int) -> None:
    """Open so many connections to the other end; they stay open as long as this process is there."""
    for _ in range(count):
        socket.create_connection(("127.0.0.1", port)).detach()


def open_connections(count: int, connecting: Callable[[int], object], take: Callable[[int], None]) -> None:
    """Open so many connections, as many at a time as may wait at the other end."""
    for done in range(0, count, _AT_A_TIME):
        some = min(_AT_A_TIME, count - done)
        connecting(some)
        take(some)


class Readings:
    """The readings of own connections that a monitor makes, in its samples or beside them."""

    def __init__(self, monitor: Any, sockets: int) -> None:
        self._monitor = monitor
        self._sockets = sockets
        self._newest = 0.0

    def next(self) -> float:
        """Wait for a reading of all connections that was not returned before, and return how long it took."""
        while True:
            sample = self._monitor.sample().to_dict()
            told = sample["self"]
            if told["peers_age_seconds"] is not None and told["peers_sockets"] >= self._sockets:
                read_at = sample["monotonic_seconds"] - told["peers_age_seconds"]
                if read_at > self._newest + 1e-5:
                    self._newest = read_at
                    return float(told["peers_read_seconds"])
            time.sleep(0.01)  # made beside the samples: leave it the processor


def _alone(count: int, rounds: int) -> str:
    """Measure the cost in a process that has these connections only."""
    command = [sys.executable, "-m", "bench.sockets", "cost", str(count), str(rounds)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _cost(count: int, rounds: int) -> dict[str, Any]:
    """Let netmon, ss and psutil take turns in a process with so many connections."""
    import psutil

    import netmon

    with other_end() as (port, take), netmon.Monitor(interval=0.1) as monitor:
        open_connections(count, lambda some: connect(port, some), take)
        sides = {
            NETMON: timing.prepared(lambda: None, Readings(monitor, count).next),
            SS: timing.calls(_ss),
            PSUTIL: timing.calls(psutil.net_connections, "tcp"),
        }
        return {"connections": count, "seconds": timing.take_turns(sides, rounds, _BLOCK_SECONDS)}


def _ss() -> None:
    subprocess.run(["ss", "-tinp"], stdout=subprocess.DEVNULL, check=True)


def _memory(count: int, readings: int) -> dict[str, Any]:
    """Open so many connections in a process with a monitor and in one without, and look at both, before and after."""
    with ExitStack() as stack:
        ends = {who: stack.enter_context(other_end()) for who in ("with", "without")}
        hosts = {who: loop.Host() for who in ends}
        for who, (port, _) in ends.items():
            hosts[who].tell("import")
            hosts[who].tell(f"connect {port} 0")
        hosts["with"].tell("monitor 0.1")
        hosts["with"].tell("readings 0 10")
        stages = {"before": {who: asdict(loop.footprint(host.pid)) for who, host in hosts.items()}}
        for who, (port, take) in ends.items():
            open_connections(count, lambda some, who=who, port=port: hosts[who].tell(f"connect {port} {some}"), take)
        hosts["with"].tell(f"readings {count} {readings}")
        stages["after"] = {who: asdict(loop.footprint(host.pid)) for who, host in hosts.items()}
        for host in hosts.values():
            host.close()
    return {"connections": count, "readings": readings, "stages": stages}


def measure(plan: Sequence[Sequence[int]], readings: int, private: bool) -> dict[str, Any]:
    """Measure the cost of readings for each number of connections, and the memory of the largest.

    Args:
        plan: pairs of connections, and rounds in which all sides take turns.
        readings: how many of them before memory is looked at.
        private: this is a network namespace of its own, whose loopback interface is down.
    """
    most = max(count for count, _ in plan)
    try:
        allow_descriptors(most + _OTHER_DESCRIPTORS)
    except (ValueError, OSError) as error:
        return {"missing": f"this user may not open {most:,} connections ({error})"}
    if private:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    memory = _memory(most, readings)
    namespace.pin()
    cost = []
    for count, rounds in plan:
        print(f"bench: {count:,} connections", file=sys.stderr)
        cost.append(json.loads(_alone(count, rounds)))
    return {"cost": cost, "memory": memory}


if __name__ == "__main__":
    if sys.argv[1:] == ["accept"]:
        accept()
    elif sys.argv[1:2] == ["cost"]:
        json.dump(_cost(*map(int, sys.argv[2:])), sys.stdout)
    else:
        arguments: Mapping[str, Any] = json.load(sys.stdin)
        json.dump(measure(**arguments), sys.stdout)
