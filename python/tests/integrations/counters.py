"""counters.py INTERFACE: what the kernel has counted of an interface, many times a second: "SECONDS RECEIVED SENT".

netmon's phases are compared with them, and they know nothing of phases.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

_SECONDS = 0.05


class Reading(NamedTuple):
    """At one moment, of the monotonic clock."""

    seconds: float
    receive_bytes: int
    transmit_bytes: int


def readings(lines: Sequence[str]) -> list[Reading]:
    """Return what was printed."""
    rows = [line.split() for line in lines]
    return [Reading(float(row[0]), int(row[1]), int(row[2])) for row in rows if len(row) == 3]


def sent_in_bursts(found: Sequence[Reading], least_bytes_per_second: float) -> int:
    """Return the bytes sent while at least so much was sent a second."""
    steps = [(other.seconds - one.seconds, other.transmit_bytes - one.transmit_bytes) for one, other in pairwise(found)]
    return sum(count for seconds, count in steps if count >= least_bytes_per_second * seconds)


def main(interface: str) -> None:
    while True:
        with open("/proc/net/dev", encoding="ascii") as file:
            (row,) = [line.partition(":")[2].split() for line in file if line.strip().startswith(f"{interface}:")]
        print(time.monotonic(), row[0], row[8], flush=True)
        time.sleep(_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
