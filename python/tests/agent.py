"""A process with a monitor inside a namespace, and how tests and benches drive it.

As a program it is that process. Each line read is a Python expression over ``monitor``; its value is printed as one line of
JSON. What it binds (``:=``) is there in later lines too. In it, ``together(f, g...)`` calls functions at the same time, each in
a thread, and returns what they return; ``slowest(f, 100)`` calls a function so often, 5 ms apart, and returns the seconds of
the call that took longest; ``traffic`` is the module that makes connections of this process and sends on them.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import traffic

if TYPE_CHECKING:
    from lab import Namespace

NOBODY = 65534


class Agent:
    """A monitor in a namespace; arguments are those of Monitor.

    Args:
        where: the namespace.
        user: the user, and group, that the process becomes before it makes the monitor; it has no rights then.
    """

    def __init__(self, where: Namespace, *, user: int | None = None, **arguments: Any) -> None:
        as_user = [] if user is None else [str(user)]
        self.process = where.start(
            *(sys.executable, __file__, json.dumps(arguments), *as_user), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.answer() == "ready"

    def tell(self, expression: str) -> None:
        """Have an expression evaluated, without waiting for its value."""
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for the value of what was told first."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the agent died"
        return json.loads(line)

    def ask(self, expression: str) -> Any:
        """Evaluate an expression."""
        self.tell(expression)
        return self.answer()

    def sample(self) -> dict[str, Any]:
        """Take a sample."""
        document: dict[str, Any] = self.ask("monitor.sample().to_dict()")
        return document

    def probes(self) -> dict[str, dict[str, Any]]:
        """Return what the background found out so far, by target."""
        return {probe["target"]: probe for probe in self.sample()["probes"]}

    def history(self) -> list[dict[str, Any]]:
        """Return the loop's samples."""
        documents: list[dict[str, Any]] = self.ask("[s.to_dict() for s in monitor.history()]")
        return documents

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@contextmanager
def agent(where: Namespace, *, user: int | None = None, **arguments: Any) -> Iterator[Agent]:
    """Run an agent as long as the context lasts."""
    running = Agent(where, user=user, **arguments)
    try:
        yield running
    finally:
        running.close()


def _become(user: int) -> None:
    """Become an ordinary user, for good."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    # A process that changed its user may not look at itself; one that such a user started may.
    set_dumpable = 4  # PR_SET_DUMPABLE
    ctypes.CDLL(None).prctl(set_dumpable, 1, 0, 0, 0)


def _together(*functions: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(functions)) as pool:
        return [running.result() for running in [pool.submit(function) for function in functions]]


def _slowest(function: Callable[[], Any], times: int) -> float:
    most = 0.0
    for _ in range(times):
        began = time.monotonic()
        function()
        most = max(most, time.monotonic() - began)
        time.sleep(0.005)
    return most


def _main(arguments: str = "{}", user: str | None = None) -> None:
    import netmon

    if user is not None:
        from netmon import _loader

        _loader.load()  # which that user may not be able to reach
        _become(int(user))
    with netmon.Monitor(**json.loads(arguments)) as monitor:
        print(json.dumps("ready"), flush=True)
        names = {"monitor": monitor, "netmon": netmon, "together": _together, "slowest": _slowest, "traffic": traffic}
        for line in sys.stdin:
            value = eval(line, names)
            print(json.dumps(value), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
