"""What the kernel counts on an interface, moment by moment: the truth that rates and peaks are compared with.

As a program (``counted.py INTERFACE SECONDS``) it reads the interface's two byte counters at that interval, the numbers of
``ip -s link``, until its input ends, and then prints all readings. It runs beside netmon and shares no code with it.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lab import Namespace


class Reading(NamedTuple):
    """Bytes that were counted at a moment of the monotonic clock, in seconds."""

    moment: float
    receive: int
    transmit: int


class Counted:
    """The readings of a while."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []

    def at(self, moment: float, direction: str) -> float:
        """Return the bytes at a moment, between two readings in proportion.

        Raises:
            ValueError: nothing was read before or after it.
        """
        moments = [reading.moment for reading in self.readings]
        after = bisect_right(moments, moment)
        if not 0 < after < len(moments):
            raise ValueError(f"{moment} is outside of what was counted, {moments[:1]} to {moments[-1:]}")
        low, high = self.readings[after - 1], self.readings[after]
        part = (moment - low.moment) / (high.moment - low.moment)
        begin: int = getattr(low, direction)
        end: int = getattr(high, direction)
        return begin + part * (end - begin)

    def rate(self, begin: float, end: float, direction: str) -> float:
        """Return the bytes per second between two moments."""
        return (self.at(end, direction) - self.at(begin, direction)) / (end - begin)

    def busy(self, direction: str, part: float = 0.01) -> tuple[float, float]:
        """Return between which moments all bytes passed but the first and the last 1 % (or another part) of them."""
        first, last = (getattr(self.readings[i], direction) for i in (0, -1))
        passed = [(getattr(r, direction) - first) / max(1, last - first) for r in self.readings]
        begin = next(r.moment for r, share in zip(self.readings, passed, strict=True) if share >= part)
        end = next(r.moment for r, share in zip(self.readings, passed, strict=True) if share >= 1 - part)
        return begin, end


@contextmanager
def counting(where: Namespace, interval: float = 0.005) -> Iterator[Counted]:
    """Count what passes the interface of a namespace; the readings are there when the context has ended."""
    counted = Counted()
    process = where.start(
        *(sys.executable, __file__, where.interface, str(interval)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "counting\n"
    try:
        yield counted
    finally:
        printed, _ = process.communicate(timeout=30)
        counted.readings = [Reading(*row) for row in json.loads(printed)]


def rates_inside(history: Iterable[Mapping[str, Any]], counted: Counted, direction: str) -> tuple[float, float]:
    """Return the mean rate of the windows that lie inside a transfer, by netmon and as it was counted over the same time.

    Args:
        history: successive samples of a monitor's loop, as documents.
        counted: what passed meanwhile, the transfer and hardly anything else.
        direction: ``"receive"`` or ``"transmit"``.
    """
    begin, end = counted.busy(direction)
    windows = [
        (s["monotonic_seconds"] - s["window_seconds"], s["monotonic_seconds"], s["totals"][f"{direction}_bytes_per_second"])
        for s in history
        if s["window_seconds"]
    ]
    inside = [window for window in windows if begin <= window[0] and window[1] <= end]
    assert len(inside) > 2, (begin, end, windows)
    moved = sum(rate * (to - since) for since, to, rate in inside)
    return moved / (inside[-1][1] - inside[0][0]), counted.rate(inside[0][0], inside[-1][1], direction)


def main(arguments: Sequence[str]) -> None:
    """Count until the input ends."""
    interface, interval = arguments[0], float(arguments[1])
    files = [os.open(f"/sys/class/net/{interface}/statistics/{name}", os.O_RDONLY) for name in ("rx_bytes", "tx_bytes")]
    readings = []
    print("counting", flush=True)
    while not select.select([sys.stdin], [], [], interval)[0]:
        before = time.monotonic()
        receive, transmit = (int(os.pread(file, 32, 0)) for file in files)
        after = time.monotonic()
        if after - before < 0.001:  # else this process lost its processor on the way, and when it read is not known
            readings.append(((before + after) / 2, receive, transmit))
    print(json.dumps(readings))


if __name__ == "__main__":
    main(sys.argv[1:])
