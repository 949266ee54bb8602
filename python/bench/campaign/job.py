"""The job that is watched: a lab of hosts, a store, a rank on each host, and what the ranks say."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import Lab

from .faults import RANK, limit

_HERE = Path(__file__).resolve().parent
_PORT = 29500

# A step of 0.15 to 0.2 s on two cores, half of it on the network.
WORK: Mapping[str, Any] = {
    "compute": 15,
    "pause_seconds": 0.03,
    "reduce_bytes": 2 << 20,
    "broadcast_bytes": 1 << 19,
    "look_seconds": 0.5,
    "views": False,
    "figures": False,
}


class JobError(Exception):
    """The job does not train."""


class Job:
    """A job that trains; ``lines`` has what each rank said so far, oldest first."""

    def __init__(self, lab: Lab, work: Mapping[str, Any]) -> None:
        self.lab = lab
        self.lines: list[list[dict[str, Any]]] = [[] for _ in lab.hosts]
        self._errors: list[list[str]] = [[] for _ in lab.hosts]
        self._readers: list[threading.Thread] = []
        world_size = len(lab.hosts)
        first = lab.hosts[0]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        store = first.start(sys.executable, str(_HERE / "store.py"), first.address, str(_PORT), str(world_size), **pipes)
        assert store.stdout is not None
        if store.stdout.readline() != "ready\n":
            raise JobError("the store does not start")
        self._store = store
        self._ranks = []
        for rank, host in enumerate(lab.hosts):
            environment = {
                "RANK": rank,
                "LOCAL_RANK": 0,
                "WORLD_SIZE": world_size,
                "LOCAL_WORLD_SIZE": 1,
                "MASTER_ADDR": first.address,
                "MASTER_PORT": _PORT,
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "GLOO_SOCKET_IFNAME": host.interface,
                "OMP_NUM_THREADS": 1,
                "PYTHONPATH": _HERE.parents[1],
            }
            words = [f"{name}={value}" for name, value in environment.items()]
            # A name of its own, so that findings can name it.
            named = ["unshare", "--uts", "sh", "-c", f'hostname {host.label}; exec "$@"', "sh"]
            command = [sys.executable, str(RANK), json.dumps({**WORK, **work})]
            process = host.start(*named, "env", *words, *command, **pipes)
            self._ranks.append(process)
            for read, stream in ((self._read, process.stdout), (self._read_errors, process.stderr)):
                reader = threading.Thread(target=read, args=[rank, stream], daemon=True)
                reader.start()
                self._readers.append(reader)

    def _read(self, rank: int, lines: Any) -> None:
        for line in lines:
            self.lines[rank].append(json.loads(line))

    def _read_errors(self, rank: int, lines: Any) -> None:
        for line in lines:
            self._errors[rank].append(line)

    def check(self) -> None:
        """Raise an error if a rank has ended."""
        for rank, process in enumerate(self._ranks):
            if process.poll() is not None:
                said = "".join(self._errors[rank][-20:])
                raise JobError(f"rank {rank} has ended with status {process.returncode}: {said}")

    def wait(self, seconds: float) -> None:
        """Let it train."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.2))

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Let it train until something holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise JobError(f"not within {seconds} s: {what}")
            self.wait(0.1)

    def trains(self) -> bool:
        """Tell whether all ranks have made some steps."""
        return all(lines and lines[-1]["steps"] >= 5 for lines in self.lines)

    def end(self) -> None:
        """Tell all ranks to end, and wait for it."""
        for process in self._ranks:
            process.stdin.close()
        for process in self._ranks:
            process.wait(30)
        for reader in self._readers:
            reader.join(5)


@contextmanager
def job(hosts: int, *, congestion_control: str = "cubic", **work: Any) -> Iterator[Job]:
    """Run a job on hosts of a lab whose links all have the same rate, and have it end with the context."""
    with Lab(hosts=hosts, ipv6=False, congestion_control=congestion_control) as lab:
        for host in lab.hosts:
            limit(host.egress)
            limit(host.ingress)
        running = Job(lab, work)
        running.wait_until(running.trains, "all ranks train", 90)
        yield running
        running.end()
