"""What a phase costs, beginning and end together: ``PYTHONPATH=python python -m bench.phases``.

In blocks, by the CPU time of the calling thread, since another process may have the processor now and then; from C and from
Python, without own connections (``peers=False``), with none, with 10 and with 50.
"""

from __future__ import annotations

import ctypes
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable
from ctypes import c_int64, c_uint32, c_uint64, c_void_p

import netmon
from netmon import _loader

from . import native

_PHASES, _BLOCKS = 300, 21


def _from_python(monitor: netmon.Monitor) -> float:
    begun = time.thread_time_ns()
    for _ in range(_PHASES):
        with monitor.phase("step"):
            pass
    return (time.thread_time_ns() - begun) / 1e3 / _PHASES


def _from_c(calls: ctypes.CDLL, monitor: netmon.Monitor) -> float:
    library = _loader.load()
    begin, end = (ctypes.cast(f, c_void_p) for f in (library.phase_begin, library.phase_end))
    taken: int = calls.bench_phases(begin, end, monitor.handle, _PHASES)
    if taken < 0:
        raise RuntimeError("a call from C failed")
    return taken / 1e3 / _PHASES


def _connect(count: int) -> list[socket.socket]:
    """Open so many connections to another process, which ends with them."""
    with socket.create_server(("127.0.0.1", 0), backlog=count) as server:
        if os.fork() == 0:
            accepted = [server.accept()[0] for _ in range(count)]
            accepted[0].recv(1)
            os._exit(0)
        return [socket.create_connection(server.getsockname()) for _ in range(count)]


def _measure(what: str, block: Callable[[], float]) -> None:
    blocks = [block() for _ in range(_BLOCKS)]
    print(f"{what}: {statistics.median(blocks):.0f} us (least {min(blocks):.0f}, most {max(blocks):.0f} of {_BLOCKS} blocks)")


def main() -> None:
    """Measure and print."""
    native.build()
    calls = ctypes.CDLL(str(native.calls_library()))
    calls.bench_phases.restype = c_int64
    calls.bench_phases.argtypes = [c_void_p, c_void_p, c_uint64, c_uint32]
    print(f"Python {sys.version.split()[0]}, Linux {os.uname().release}, {os.cpu_count()} processors")
    for connections in (None, 0, 10, 50):
        what = "peers=False" if connections is None else f"{connections} connections"
        opened = _connect(connections) if connections else []
        with netmon.Monitor(peers=connections is not None) as monitor:
            _from_python(monitor)
            _measure(f"begin and end, {what}, C", lambda m=monitor: _from_c(calls, m))  # type: ignore[misc]
            _measure(f"begin and end, {what}, Python", lambda m=monitor: _from_python(m))  # type: ignore[misc]
        for one in opened:
            one.close()


if __name__ == "__main__":
    main()
