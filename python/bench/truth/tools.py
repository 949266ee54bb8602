"""Programs that measure round trips, netmon among them, each started alike and able to run beside the others."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent import Agent
from lab import Host

from .. import native

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[2]


@dataclass(frozen=True)
class Trips:
    """What a program found: seconds, None where there was no answer."""

    sent: int
    received: int
    p50: float | None
    p99: float | None


# Starts so many probes, at an interval in seconds; what it returns waits for their end.
Tool = Callable[[int, float], Callable[[], Trips]]


def quantile(values: Sequence[float], q: float) -> float:
    """Return a quantile, by the definition that netmon has (type 7 of Hyndman and Fan)."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    return ordered[below] + (position - below) * (ordered[min(below + 1, len(ordered) - 1)] - ordered[below])


def trips(sent: int, seconds: Sequence[float]) -> Trips:
    """Summarise round trips."""
    found = [quantile(seconds, q) if seconds else None for q in (0.50, 0.99)]
    return Trips(sent, len(seconds), *found)


# No two programs have the same interval, so none has another's probe beside each of its own.
_APART = 0.001


def run(tools: Mapping[str, Tool], count: int, interval: float) -> dict[str, dict[str, Any]]:
    """Run all at the same time, and return what each found, as dictionaries."""
    running = {name: tool(count, interval + i * _APART) for i, (name, tool) in enumerate(tools.items())}
    return {name: asdict(wait()) for name, wait in running.items()}


def start(host: Host, *command: str) -> Callable[[], str]:
    """Start a program in a host; what is returned waits for its end and returns its output, errors too."""
    output = tempfile.TemporaryFile("w+")  # noqa: SIM115 (a pipe could fill up before it is read)
    process = host.start(*command, stdout=output, stderr=subprocess.STDOUT)

    def wait() -> str:
        process.wait()
        with output:
            output.seek(0)
            return output.read()

    return wait


def netmon(monitor: Agent, target: str, timeout: float = 1.0) -> Tool:
    """Probe with netmon; quantiles are its own."""

    def begin(count: int, interval: float) -> Callable[[], Trips]:
        monitor.tell(f"monitor.probe({target!r}, {count}, timeout={timeout}, interval={interval}).to_dict()")

        def wait() -> Trips:
            found = monitor.answer()
            return Trips(found["sent"], found["received"], found["rtt_p50_seconds"], found["rtt_p99_seconds"])

        return wait

    return begin


def ping(host: Host, address: str, size: int = 56) -> Tool:
    """Probe with ping of iputils: the kernel stamps the reply's arrival, the start is taken before the call that sends."""

    def begin(count: int, interval: float) -> Callable[[], Trips]:
        wait = start(host, "ping", "-n", "-c", str(count), "-i", f"{interval:.3f}", "-s", str(size), address)
        return lambda: trips(count, [float(found) / 1e3 for found in re.findall(r"time=([\d.]+) ms", wait())])

    return begin


def fping(host: Host, address: str, size: int = 56) -> Tool:
    """Probe with fping, which has the kernel stamp arrivals too."""

    def begin(count: int, interval: float) -> Callable[[], Trips]:
        options = ("-q", "-C", str(count), "-p", str(round(interval * 1e3)), "-t", "1000", "-b", str(size))
        wait = start(host, "fping", *options, address)

        def end() -> Trips:
            (values,) = re.findall(rf"^{re.escape(address)} +: (.*)$", wait(), re.MULTILINE)
            return trips(count, [float(found) / 1e3 for found in values.split() if found != "-"])

        return end

    return begin


def echo(host: Host, address: str, size: int = 56) -> Tool:
    """Probe by ICMP echo, stamped by the kernel at both ends: echo.py."""

    def begin(count: int, interval: float) -> Callable[[], Trips]:
        wait = start(host, sys.executable, str(_HERE / "echo.py"), address, str(count), str(interval), str(size))
        return lambda: _trips_of(json.loads(wait()))

    return begin


def pro_bing(host: Host, address: str, size: int = 56) -> Tool:
    """Probe with pro-bing alone."""

    def begin(count: int, interval: float) -> Callable[[], Trips]:
        options = ("-raw", f"-count={count}", f"-interval={interval}s", f"-size={size}")
        wait = start(host, str(probing()), *options, address)
        return lambda: _trips_of(json.loads(wait())[address])

    return begin


def wall_clock(host: Host, address: str, port: int) -> Tool:
    """Connect by TCP and take the time around it: connect.py."""

    def begin(count: int, interval: float) -> Callable[[], Trips]:
        wait = start(host, *connect_command(port, count, interval, 1.0, address))
        return lambda: _trips_of(json.loads(wait())[address])

    return begin


def _trips_of(found: Mapping[str, Any]) -> Trips:
    return trips(found["sent"], found["seconds"])


def connect_command(port: int, count: int, interval: float, timeout: float, *addresses: str) -> list[str]:
    """Return the command that connects to several addresses at the same time and prints what it found of each."""
    return [sys.executable, str(_HERE / "connect.py"), str(port), str(count), str(interval), str(timeout), *addresses]


def accept_command(port: int) -> list[str]:
    """Return the command that accepts TCP connections."""
    return [sys.executable, str(_HERE / "accept.py"), str(port)]


def probing() -> Path:
    """Return the program that probes with pro-bing alone."""
    return native.BUILD / "probing"


def build() -> None:
    """Compile it.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    package = f"./{(_HERE / 'probing').relative_to(_ROOT)}"
    subprocess.run(
        ["go", "build", "-o", str(probing()), package], cwd=_ROOT, env={**os.environ, "CGO_ENABLED": "0"}, check=True
    )
