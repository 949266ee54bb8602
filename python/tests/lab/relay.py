"""The process that holds a host's packets for a set time, and its log of how long each was really held."""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from lab.leftovers import LabError, run
from lab.namespaces import Namespace

_SOURCE = Path(__file__).with_name("relay.c")
_BUILD = Path(__file__).resolve().parents[3] / "build" / "lab"
_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")

# The layout of relay.c.
_HEADER_BYTES = 512
_WAY_BYTES = 64
_RECORD = struct.Struct("<qqIBBBxHHxxxx")
_ROOM = 1 << 23


class Hold(NamedTuple):
    """How long one packet was really held.

    The times are of the monotonic clock, as ``time.monotonic_ns()``: when the kernel got the packet from the interface it came
    by, and just before it was given to the one it left by.
    """

    arrived_ns: int
    left_ns: int
    length: int  #: with the Ethernet header
    egress: bool  #: the host sent it; else the host got it
    protocol: int  #: of IP: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6; 0 for what is no IP, as ARP
    kind: int  #: ICMP type, TCP flags
    source_port: int  #: of an ICMP echo the identifier
    destination_port: int  #: of an ICMP echo the sequence number

    @property
    def seconds(self) -> float:
        """How long it was held."""
        return (self.left_ns - self.arrived_ns) / 1e9


class RelayCounts(NamedTuple):
    """What a relay did with the packets of one direction."""

    held: int  #: are held now
    carried: int  #: left
    dropped: int  #: for want of room in the relay's queue, or in the queue of the interface they were to leave by
    missed: int  #: that the kernel dropped because the relay did not read fast enough
    unstamped: int  #: whose arrival the kernel did not say: taken as the time they were read at, a little late
    realtime: bool  #: the relay runs before all ordinary processes (SCHED_FIFO), so that load does not make it late


def program() -> Path:
    """Return the relay, compiled on first use into build/lab.

    Raises:
        LabError: there is no C compiler, or it fails.
    """
    compiler = os.environ.get("CC", "gcc")
    key = hashlib.sha256("\0".join([compiler, *_FLAGS, _SOURCE.read_text()]).encode()).hexdigest()[:16]
    made = _BUILD / f"relay-{key}"
    if not made.exists():
        _BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_BUILD) as folder:
            run(compiler, *_FLAGS, str(_SOURCE), "-o", f"{folder}/relay")
            os.replace(f"{folder}/relay", made)  # two labs may do this at a time
    return made


class Log:
    """The memory that a host's relay reads its orders from and writes its log to; it outlives the relay."""

    def __init__(self) -> None:
        size = _HEADER_BYTES + _ROOM * _RECORD.size  # pages come into being when they are written
        self.descriptor = os.memfd_create("netmon-lab-relay")
        os.ftruncate(self.descriptor, size)
        self._memory = mmap.mmap(self.descriptor, size)

    def close(self) -> None:
        self._memory.close()
        os.close(self.descriptor)

    def order(self, direction: int, hold_ns: int, jitter_ns: int) -> None:
        struct.pack_into("<QQ", self._memory, direction * _WAY_BYTES, hold_ns, jitter_ns)

    def orders(self, direction: int) -> tuple[int, int]:
        hold_ns, jitter_ns = struct.unpack_from("<QQ", self._memory, direction * _WAY_BYTES)
        return hold_ns, jitter_ns

    def counts(self, direction: int) -> RelayCounts:
        held, carried, dropped, missed, unstamped = struct.unpack_from("<5Q", self._memory, direction * _WAY_BYTES + 16)
        (realtime,) = struct.unpack_from("<Q", self._memory, 2 * _WAY_BYTES + 16)
        return RelayCounts(held, carried, dropped, missed, unstamped, bool(realtime))

    def records(self) -> bytes:
        """Return the records, 32 bytes each.

        Raises:
            LabError: there was no room for some.
        """
        logged, unlogged = struct.unpack_from("<QQ", self._memory, 2 * _WAY_BYTES)
        if unlogged:
            raise LabError(f"the relay's log was full after {logged} packets: {unlogged} are missing")
        return self._memory[_HEADER_BYTES : _HEADER_BYTES + logged * _RECORD.size]

    def holds(self, direction: int) -> list[Hold]:
        return [
            Hold(arrived, left, length, way == 0, protocol, kind, source, destination)
            for arrived, left, length, way, protocol, kind, source, destination in _RECORD.iter_unpack(self.records())
            if way == direction
        ]


def as_array(records: bytes, direction: int) -> Any:
    """Return the records of a direction as a structured array of numpy, with the fields of Hold."""
    import numpy as np

    fields = [("arrived_ns", "<i8"), ("left_ns", "<i8"), ("length", "<u4")]
    fields += [("way", "u1"), ("protocol", "u1"), ("kind", "u1"), ("", "u1")]
    fields += [("source_port", "<u2"), ("destination_port", "<u2"), ("pad", "<u4")]
    found = np.frombuffer(records, dtype=fields)
    return found[found["way"] == direction]


class Relay:
    """A running relay between two interfaces of a namespace."""

    def __init__(self, namespace: Namespace, host_interface: str, switch_interface: str, log: Log, seed: int) -> None:
        self._log = log
        self._process = namespace.start(
            *(str(program()), str(log.descriptor), host_interface, switch_interface, str(seed)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[log.descriptor],
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise LabError(f"the relay does not run: {self._end()}")

    def _end(self) -> str:
        said = self._process.communicate()[1]
        return said.strip() or f"status {self._process.returncode}"

    def empty(self, seconds: float) -> None:
        """Hold nothing any more, and wait until nothing is held.

        Raises:
            LabError: something still is after that many seconds.
        """
        for direction in (0, 1):
            self._log.order(direction, 0, 0)
        deadline = time.monotonic() + seconds
        while any(self._log.counts(direction).held for direction in (0, 1)):
            if time.monotonic() > deadline:
                raise LabError(f"the relay still holds packets after {seconds} s")
            time.sleep(0.0005)

    def close(self) -> None:
        """End it. What it still holds is lost."""
        self._end()
