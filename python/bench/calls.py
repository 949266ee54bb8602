"""The cost of calls, measured in the network namespace this process is in.

``python -m bench.calls`` takes a JSON object of ``size`` (null where it is not in a namespace of its own), ``rounds`` and
``block_seconds`` on its standard input, and prints a JSON object of what it measured.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from ctypes import byref, c_int64, c_uint32, c_uint64, c_void_p
from typing import Any

import netmon
from netmon import _abi, _loader

from . import gather, namespace, native, timing

_SAMPLE_SECONDS = b'"sample_seconds":'


class Reader:
    """The C program that only reads, run by a pipe."""

    def __init__(self, *files: str) -> None:
        self._process = subprocess.Popen(
            [str(native.reader()), "rounds", *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()

    def block(self, count: int) -> float:
        """Read so often and return the seconds of one reading, as the program timed them itself."""
        os.write(self._input, count.to_bytes(4, sys.byteorder))
        answer = os.read(self._output, 8)
        if len(answer) != 8:
            raise RuntimeError("the reader ended")
        return int.from_bytes(answer, sys.byteorder) / max(count, 1) / 1e9

    def close(self) -> None:
        """End the program."""
        self._process.communicate()


def fresh_sample(monitor: netmon.Monitor) -> Callable[[], bytes]:
    """Return the least Python that gets a fresh sample's JSON out of the library: call, copy, free."""
    library, handle = _loader.load(), monitor.handle
    sample, free, copy = library.sample, library.free, ctypes.string_at

    def call() -> bytes:
        text, error = c_void_p(), c_void_p()
        if sample(handle, byref(text), byref(error)) != _abi.OK:
            raise RuntimeError("netmon_sample failed")
        json_text = copy(text.value or 0)
        free(text)
        return json_text

    return call


def read_some(monitor: netmon.Monitor) -> None:
    """Take a sample and read what a training loop would log."""
    sample = monitor.sample()
    if sample.totals is not None:
        _ = sample.totals.receive_bytes_per_second, sample.totals.transmit_bytes_per_second
    if sample.tcp is not None:
        _ = sample.tcp.retransmit_ratio, sample.tcp.established


_SECTIONS = ("host", "job", "totals", "tcp", "udp", "ip", "sockets", "self", "unavailable")
_INTERFACE_FIELDS = tuple(field.name for field in dataclasses.fields(netmon.Interface))


def read_all(monitor: netmon.Monitor) -> None:
    """Take a sample and read every section, and every field of every interface."""
    sample = monitor.sample()
    for name in _SECTIONS:
        getattr(sample, name)
    for interface in sample.interfaces or ():
        for name in _INTERFACE_FIELDS:
            getattr(interface, name)


class FromC:
    """The library's functions timed by C code in this process."""

    def __init__(self) -> None:
        path = str(native.calls_library())
        self._calls = ctypes.CDLL(path)
        self._calls.bench_samples.restype = self._calls.bench_latest.restype = c_int64
        self._calls.bench_samples.argtypes = [c_void_p, c_void_p, c_uint64, c_uint32]
        self._calls.bench_latest.argtypes = [c_void_p, c_uint64, c_uint32]
        self.empty = ctypes.PyDLL(path).bench_empty
        self.empty.restype, self.empty.argtypes = _abi.PROTOTYPES["netmon_latest"]
        self._library = _loader.load()

    def samples(self, monitor: netmon.Monitor) -> timing.Block:
        """Make a side of netmon_sample and netmon_free."""
        sample, free = (ctypes.cast(f, c_void_p) for f in (self._library.sample, self._library.free))
        return lambda count: _seconds(self._calls.bench_samples(sample, free, monitor.handle, count), count)

    def latest(self, monitor: netmon.Monitor) -> timing.Block:
        """Make a side of netmon_latest."""
        latest = ctypes.cast(self._library.latest, c_void_p)
        return lambda count: _seconds(self._calls.bench_latest(latest, monitor.handle, count), count)


def _seconds(nanoseconds: int, count: int) -> float:
    if nanoseconds < 0:
        raise RuntimeError("a call from C failed")
    return nanoseconds / count / 1e9


def measuring(sample: Callable[[], bytes]) -> timing.Block:
    """Make a side of what a sample says of its own cost: reading the kernel and making the sample, without its JSON."""

    def block(count: int) -> float:
        total = 0.0
        for _ in range(count):
            text = sample()
            total += float(text[text.rindex(_SAMPLE_SECONDS) + len(_SAMPLE_SECONDS) :].partition(b",")[0])
        return total / count

    return block


def await_window(*monitors: netmon.Monitor) -> None:
    """Wait until samples have rates, as nearly all in a monitor's life have."""
    deadline = time.monotonic() + 10
    while any(monitor.sample().window_seconds is None for monitor in monitors):
        if time.monotonic() > deadline:
            raise RuntimeError("no sample has a window after 10 s")
        time.sleep(0.05)


def measure(size: int | None, rounds: int, block_seconds: float) -> dict[str, Any]:
    """Run all sides: while nothing moves and, in a namespace of our own, while every interface counts between two calls."""
    core = namespace.pin()
    senders = namespace.furnish(size) if size is not None else []
    reader, reader_of_interfaces = Reader(*native.FILES), Reader(native.INTERFACES_FILE)
    with netmon.Monitor() as monitor, netmon.Monitor(sources=["interfaces"]) as of_interfaces:
        await_window(monitor, of_interfaces)
        from_c = FromC()
        snapshot = monitor.latest()
        sample, sample_of_interfaces = fresh_sample(monitor), fresh_sample(of_interfaces)
        functions: dict[str, Callable[[], object]] = {
            "sample": sample,
            "sample of interfaces": sample_of_interfaces,
            "psutil": gather.interfaces,
            "five sources in Python": gather.five_sources,
            "Monitor.sample": monitor.sample,
            "Monitor.sample, totals and tcp read": lambda: read_some(monitor),
            "Monitor.sample, all read": lambda: read_all(monitor),
        }
        sample_from_c, own_account = from_c.samples(monitor), measuring(sample)
        idle = timing.take_turns(
            {
                "latest": timing.calls(monitor.latest),
                "empty call": timing.calls(from_c.empty, monitor.handle, byref(snapshot)),
                "latest from C": from_c.latest(monitor),
                "sample from C": sample_from_c,
                "sample's own account": own_account,
                "reader": reader.block,
                "reader of interfaces": reader_of_interfaces.block,
                **{name: timing.calls(function) for name, function in functions.items()},
            },
            rounds,
            block_seconds,
        )
        result: dict[str, Any] = {
            "size": size,
            "core": core,
            "interfaces": len(monitor.sample().interfaces or ()),
            "document_bytes": len(sample()),
            "idle": idle,
        }
        if senders:
            send = namespace.traffic(senders)

            def prepare() -> None:
                send()
                reader.block(0)  # what is timed comes after a switch of processes on either side

            result["moved"] = namespace.moved_by(send)
            result["busy"] = timing.take_turns(
                {
                    "reader": timing.prepared(prepare, lambda: reader.block(1)),
                    "sample from C": timing.prepared(prepare, lambda: sample_from_c(1)),
                    "sample's own account": timing.prepared(prepare, lambda: own_account(1)),
                    **{name: timing.prepared(prepare, _timed(function)) for name, function in functions.items()},
                },
                rounds,
                block_seconds,
            )
    reader.close()
    reader_of_interfaces.close()
    return result


def _timed(function: Callable[[], object]) -> Callable[[], float]:
    def once() -> float:
        began = time.perf_counter_ns()
        function()
        return (time.perf_counter_ns() - began) / 1e9

    return once


if __name__ == "__main__":
    json.dump(measure(**json.load(sys.stdin)), sys.stdout)
