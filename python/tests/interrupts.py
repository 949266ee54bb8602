"""A process that is interrupted (SIGINT, as by Ctrl-C) again and again while it calls netmon; says in JSON what came of it.

    interrupts.py ROUNDS SECONDS CALL...

Each call is repeated until it is interrupted, ROUNDS times, each time at a random moment of the first SECONDS.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

import netmon

MOST_MONITORS = 64


class Interrupter:
    """A process that interrupts this one when it is asked to: a thread would have to wait for the interpreter's lock."""

    def __init__(self, within: float) -> None:
        asked, self._ask = os.pipe()
        self._told, tell = os.pipe()
        parent = os.getpid()
        if os.fork() != 0:
            os.close(asked)
            os.close(tell)
            return
        os.close(self._ask)
        while os.read(asked, 1):
            time.sleep(random.uniform(0, within))
            os.write(tell, struct.pack("d", time.monotonic()))
            os.kill(parent, signal.SIGINT)
        os._exit(0)

    def ask(self) -> None:
        os.write(self._ask, b".")

    def sent(self) -> float:
        """When it did, on the clock of ``time.monotonic``."""
        at: float = struct.unpack("d", os.read(self._told, 8))[0]
        return at


def main(rounds: int, within: float, names: list[str]) -> None:
    interrupter = Interrupter(within)
    kept = netmon.Monitor(interval=0.01)
    while kept.latest().sequence < 50:  # a history worth fetching
        time.sleep(0.01)

    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    target = f"udp://127.0.0.1:{silent.getsockname()[1]}"
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)  # takes connections and says nothing
    mute = f"127.0.0.1:{listener.getsockname()[1]}"

    def with_block() -> None:
        with netmon.Monitor(interval=3600) as monitor:
            monitor.latest()

    def phases() -> None:
        with kept.phase("outer"), kept.phase("inner"):
            pass

    def bandwidth(target: str) -> None:
        # One that was interrupted may take a moment to end, on a busy machine.
        with contextlib.suppress(netmon.ResourceError):
            kept.measure_bandwidth(target, timeout=60)

    calls = {
        "sample": kept.sample,
        "latest": kept.latest,
        "history": kept.history,
        "stats": lambda: kept.stats("tcp.established"),
        "health": kept.health,
        "set_job": lambda: kept.set_job(rank=0),
        "probe": lambda: kept.probe("127.0.0.1", count=1),
        "probe that waits": lambda: kept.probe(target, timeout=60),
        "bandwidth": lambda: bandwidth("127.0.0.1:1"),
        "bandwidth that waits": lambda: bandwidth(mute),
        "trace": lambda: kept.trace("127.0.0.1", count=1),
        "phase": phases,
        "with": with_block,
        "close": lambda: netmon.Monitor(interval=3600).close(),
        "drop": lambda: netmon.Monitor(interval=3600),
    }
    thrown_away: list[str] = []
    sys.unraisablehook = lambda problem: thrown_away.append(repr(problem.exc_value))

    def repeat(call: Callable[[], object]) -> None:
        # A function of its own: CPython 3.13 does not cover a loop's way back with the handlers around it.
        interrupter.ask()
        end = time.monotonic() + within + 5
        while time.monotonic() < end:
            call()

    answer: dict[str, object] = {}
    for name in names:
        delays = []
        for _ in range(rounds):
            try:
                repeat(calls[name])
                thrown_away.append(f"{name}: the interrupt never came")
            except KeyboardInterrupt:
                delays.append(time.monotonic() - interrupter.sent())
            # It goes on as if nothing had been.
            assert kept.latest().sequence >= 1
            assert kept.sample().sequence > 1
        answer[name] = sorted(delays)
    gc.collect()
    # What an interrupt kept from ending has ended with its object.
    assert [phase.running for phase in kept.sample().phases or ()] in ([], [0, 0])
    free: list[netmon.Monitor] = []
    with contextlib.suppress(netmon.ResourceError):
        while True:
            free.append(netmon.Monitor(interval=3600, sources=[]))
    answer["lost"] = MOST_MONITORS - 1 - len(free)
    answer["thrown away"] = thrown_away
    print(json.dumps(answer))


main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
