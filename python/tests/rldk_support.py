"""What the tests of the rldk-compatible classes share: scripts in processes of their own, traffic, the kernel's counts."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lab

SOURCE = Path(__file__).resolve().parents[1]
SECONDS = 20.0


def environment(**variables: str) -> dict[str, str]:
    """Return this environment without a job's variables, and with others."""
    jobs = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in jobs and not name.startswith(("SLURM_", "OMPI_", "PMI_", "RLDK_"))
    }
    path = os.pathsep.join(filter(None, (str(SOURCE), str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))))
    return {**kept, "PYTHONPATH": path, **variables}


def run(script: str, *arguments: str, prefix: tuple[str, ...] = (), fails: bool = False, **variables: str) -> str:
    """Run a script in a new interpreter and return what it printed.

    Args:
        script: its text; ``rldk`` and the functions of this module are there.
        arguments: its arguments.
        prefix: a command to run it with, as ``ip netns exec NAME``.
        fails: whether it is to end with another status than 0.
        variables: added to the environment.
    """
    text = "import json, os, sys, threading, time\nfrom netmon.integrations import rldk\nfrom rldk_support import *\n"
    done = subprocess.run(
        [*prefix, sys.executable, "-W", "ignore::DeprecationWarning", "-c", text + textwrap.dedent(script), *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode != 0) is fails, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr if fails else done.stdout


def answer(script: str, *arguments: str, **options: Any) -> Any:
    """Run a script and return the JSON document of its last line."""
    return json.loads(run(script, *arguments, **options).splitlines()[-1])


def wait_for(condition: Callable[[], Any], what: str = "it") -> Any:
    """Wait until a condition holds and return its value, where another thread or process has no event to wait for."""
    deadline = time.monotonic() + SECONDS
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come in {SECONDS} s"
        time.sleep(0.005)


def pass_windows(count: int = 2) -> None:
    """Wait until the shared monitor's loop took some more samples."""
    from netmon._shared import shared_monitor

    monitor = shared_monitor()
    sequence = monitor.latest().sequence
    wait_for(lambda: monitor.latest().sequence >= sequence + count, "a sample of the loop")


def kernel_counts(interface: str) -> tuple[int, int]:
    """Return the bytes received and sent by an interface as ``ip -s link`` has them."""
    shown = subprocess.run(["ip", "-s", "-j", "link", "show", interface], capture_output=True, check=True).stdout
    counts = json.loads(shown)[0]["stats64"]
    return counts["rx"]["bytes"], counts["tx"]["bytes"]


def proc_counts(interface: str) -> tuple[int, int]:
    """Return the bytes received and sent by an interface as /proc/net/dev has them."""
    for row in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counts = row.partition(":")
        if name.strip() == interface:
            fields = counts.split()
            return int(fields[0]), int(fields[8])
    raise AssertionError(f"no {interface}")


def send(address: str, port: int, amount: int, seconds: float = 0.0) -> None:
    """Send bytes over TCP, all at once or evenly over a time."""
    with socket.create_connection((address, port), timeout=SECONDS) as connection:
        piece = 1 << 16
        start = time.monotonic()
        for done in range(0, amount, piece):
            connection.sendall(bytes(min(piece, amount - done)))
            ahead = start + seconds * done / amount - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)  # paces the traffic; nothing is waited for
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


@contextlib.contextmanager
def sink(address: str = "127.0.0.1") -> Iterator[int]:
    """Take what is sent over TCP to a port, in a thread; gives the port."""
    with socket.create_server((address, 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        while connection.recv(1 << 20):
                            pass

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def over_loopback(amount: int, seconds: float = 0.0) -> None:
    """Send bytes to this process over loopback."""
    with sink() as port:
        send("127.0.0.1", port, amount, seconds)


def lines(path: Path | str) -> list[dict[str, Any]]:
    """Return the documents of a file with one a line."""
    text = Path(path).read_text()
    assert not text or text.endswith("\n")
    return [json.loads(row, parse_constant=_refuse) for row in text.splitlines()]


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@contextlib.contextmanager
def namespace(*commands: str) -> Iterator[tuple[str, ...]]:
    """Make a network namespace, run commands in it, and give the prefix of further ones; it is removed at the end."""
    with lab.namespace() as name:
        prefix = ("ip", "netns", "exec", name)
        for command in commands:
            subprocess.run([*prefix, *command.split()], check=True)
        yield prefix


def may_make_namespaces() -> bool:
    """Return whether namespaces can be made here."""
    try:
        with lab.namespace():
            return True
    except lab.LabError:
        return False
