"""TCP traffic whose every byte is known: what a process with a monitor sends (agent.py calls it), and the other end.

As a program (``traffic.py PORT``) it is the other end: it takes any number of connections, and answers each so many bytes,
told by the eight before them, with one byte.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab import Namespace

PORT = 5001
_OTHERS = 256  # descriptors that are no connections
_LENGTH = struct.Struct("!Q")
_BLOCK = bytes(1 << 16)

# What send() sends beside the bytes it is told to send, and what comes back.
OVERHEAD_BYTES, ANSWER_BYTES = _LENGTH.size, 1

# A reset instead of a handshake at the end: no TIME_WAIT, of which a storm would leave tens of thousands.
_NO_LINGER = struct.pack("ii", 1, 0)

_open: dict[int, socket.socket] = {}


def serve(where: Namespace, port: int = PORT) -> subprocess.Popen[str]:
    """Have a namespace be the other end, as long as it is there."""
    process = where.start(sys.executable, __file__, str(port), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    return process


@contextmanager
def serving(where: Namespace, port: int = PORT) -> Iterator[None]:
    """Have a namespace be the other end as long as the context lasts."""
    process = serve(where, port)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def most_connections() -> int:
    """Return how many connections a process may have here, 10,000 at most."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 10_000 if hard == resource.RLIM_INFINITY else min(10_000, hard - _OTHERS)


def _allow(connections: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < connections + _OTHERS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (connections + _OTHERS, hard))


def connect(address: str, port: int = PORT, count: int = 1) -> list[int]:
    """Open so many connections, and return their descriptors."""
    descriptors = []
    _allow(count)
    for _ in range(count):
        opened = socket.create_connection((address, port), timeout=60)
        _open[opened.fileno()] = opened
        descriptors.append(opened.fileno())
    return descriptors


def port_of(descriptor: int) -> int:
    """Return the local port of a connection."""
    port: int = _open[descriptor].getsockname()[1]
    return port


def send(descriptor: int, amount: int) -> int:
    """Send so many bytes, wait until the other end has them all, and return how many went out with those that tell it so."""
    opened = _open[descriptor]
    opened.sendall(_LENGTH.pack(amount))
    left = amount
    while left > 0:
        left -= opened.send(_BLOCK[:left])
    assert opened.recv(1) == b"."
    return OVERHEAD_BYTES + amount


def send_by_turns(descriptor: int, amount: int, pause: float, times: int) -> None:
    """Send so many bytes and be silent for a time, by turns."""
    for _ in range(times):
        send(descriptor, amount)
        time.sleep(pause)


def close(*descriptors: int) -> None:
    """Close connections."""
    for descriptor in descriptors:
        opened = _open.pop(descriptor)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        opened.close()


def become_file(descriptor: int) -> None:
    """Close a connection by putting a file under its number."""
    _open.pop(descriptor).detach()
    file = os.open(os.devnull, os.O_RDONLY)
    os.dup2(file, descriptor)
    os.close(file)


def become_connection(descriptor: int, address: str, port: int = PORT) -> None:
    """Put a new connection under a number that a file has."""
    with socket.create_connection((address, port)) as opened:
        os.dup2(opened.fileno(), descriptor)
    _open[descriptor] = socket.socket(fileno=descriptor)


def storm(address: str, port: int, seconds: float, a_second: int, amount: int) -> int:
    """Open a connection, send some bytes and close it, so many times a second, and return how often."""
    done, began = 0, time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        if done >= at * a_second:
            time.sleep(0.0005)
            continue
        with socket.socket() as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            opened.connect((address, port))
            opened.send(_BLOCK[:amount])
        done += 1
    return done


def repeat(function: Callable[[], Any], seconds: float, pause: float) -> list[Any]:
    """Call a function for a time, again and again, and return what it returned."""
    found, began = [], time.monotonic()
    while time.monotonic() - began < seconds:
        found.append(function())
        time.sleep(pause)
    return found


class _Receiver:
    """The other end of one connection."""

    def __init__(self, accepted: socket.socket) -> None:
        self._socket = accepted
        self._head = b""
        self._left = 0

    def receive(self) -> bool:
        """Take what is there; return whether there may be more."""
        try:
            if self._left:
                got = len(self._socket.recv(min(self._left, 1 << 20)))
                self._left -= got
            else:
                taken = self._socket.recv(_LENGTH.size - len(self._head))
                got = len(taken)
                self._head += taken
                if len(self._head) == _LENGTH.size:
                    (self._left,) = _LENGTH.unpack(self._head)
                else:
                    return got > 0
            if got and self._left == 0:
                self._head = b""
                self._socket.send(b".")
        except OSError:
            return False
        return got > 0


def main(port: int) -> None:
    """Be the other end, until killed."""
    _allow(most_connections())
    with socket.create_server(("", port), backlog=4096) as server, selectors.DefaultSelector() as selector:
        server.setblocking(False)
        selector.register(server, selectors.EVENT_READ)
        print("listening", flush=True)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    with contextlib.suppress(OSError):
                        while True:
                            accepted, _ = server.accept()
                            accepted.setblocking(True)
                            selector.register(accepted, selectors.EVENT_READ, _Receiver(accepted))
                elif not key.data.receive():
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]


if __name__ == "__main__":
    main(int(sys.argv[1]))
