"""What the background loop costs a process that does nothing else: CPU time, memory, threads, descriptors.

``python -m bench.loop`` takes a JSON object of ``size``, ``seconds`` and ``samples`` on its standard input and prints a JSON
object of what it measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from . import namespace, native

INTERVALS = (1.0, 0.1)

# Each slice holds several samples of every interval, so that where it begins makes no difference.
_SLICES = 10
_LEAST_SLICE_SECONDS = 2.0


class Host:
    """A process with a monitor, or without one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.host"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline().strip()
        if not answer:
            raise RuntimeError("the watched process ended")
        return answer

    def tell(self, line: str) -> str:
        """Have the process do something and return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


class PeriodicReader:
    """The C program that only reads, at an interval."""

    def __init__(self, interval: float) -> None:
        self._process = subprocess.Popen(
            [str(native.reader()), "every", str(round(interval * 1e9)), *native.FILES], stdout=subprocess.PIPE
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        self._process.stdout.read(1)

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.communicate()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, ended ones too, to the nanosecond.

    Source: the process's CPU-time clock, as clock_getcpuclockid(3) makes its number: utime of /proc counts ticks.
    """
    return time.clock_gettime(~pid << 3 | 2)


@dataclass(frozen=True)
class Footprint:
    """What a process holds."""

    rss_bytes: int
    private_bytes: int
    threads: int
    descriptors: int


def footprint(pid: int) -> Footprint:
    """Look at a process from outside."""
    pages = {}
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file.readlines()[1:]:
            name, value, _ = line.split()
            pages[name] = int(value) * 1024
    return Footprint(
        rss_bytes=pages["Rss:"],
        private_bytes=pages["Private_Clean:"] + pages["Private_Dirty:"],
        threads=len(os.listdir(f"/proc/{pid}/task")),
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
    )


def measure(size: int | None, seconds: float, samples: int) -> dict[str, Any]:
    """Watch processes with a monitor, one without, and C programs that read as often, all at the same time."""
    if size is not None:
        namespace.furnish(size)
    hosts = {interval: Host() for interval in INTERVALS}
    idle = Host()
    readers = {interval: PeriodicReader(interval) for interval in INTERVALS}
    watched = hosts[1.0]
    stages = {"started": footprint(watched.pid)}
    for host in (*hosts.values(), idle):
        host.tell("import")
    stages["netmon imported"] = footprint(watched.pid)
    for interval, host in hosts.items():
        host.tell("monitor" if interval == 1.0 else f"monitor {interval}")  # 1.0 is the default
    stages["monitor made"] = footprint(watched.pid)
    time.sleep(min(2.0, seconds / 4))  # past the first samples, which cost more

    pids = {"idle": idle.pid}
    pids.update({f"monitor {interval}": host.pid for interval, host in hosts.items()})
    pids.update({f"reader {interval}": reader.pid for interval, reader in readers.items()})
    own = {interval: -float(host.tell("cpu")) for interval, host in hosts.items()}
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    cpu: dict[str, list[float]] = {name: [] for name in pids}
    due = time.monotonic()
    slices = max(1, min(_SLICES, int(seconds / _LEAST_SLICE_SECONDS)))
    for _ in range(slices):
        due += seconds / slices
        time.sleep(max(0.0, due - time.monotonic()))
        for name, pid in pids.items():
            now = cpu_seconds(pid)
            cpu[name].append((now - before[name]) / (seconds / slices))
            before[name] = now
    for interval, host in hosts.items():
        own[interval] = (own[interval] + float(host.tell("cpu"))) / seconds
    stages[f"after {seconds:.0f} s"] = footprint(watched.pid)
    if samples:
        watched.tell(f"sample {samples}")
        stages[f"after {samples:,} samples on demand"] = footprint(watched.pid)
    for host in (*hosts.values(), idle):
        host.close()
    for reader in readers.values():
        reader.close()
    return {
        "size": size,
        "seconds": seconds,
        "cpu": cpu,
        "own": {str(interval): share for interval, share in own.items()},
        "stages": {name: asdict(stage) for name, stage in stages.items()},
    }


if __name__ == "__main__":
    json.dump(measure(**json.load(sys.stdin)), sys.stdout)
