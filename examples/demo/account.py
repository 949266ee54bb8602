"""The bytes that the gradients needed, with all that TCP added to them, beside those that were seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

# How far what was seen may be from what was needed and what TCP added.
ALLOWED_RATIO = 0.02

# What a packet carries at the usual MTU of 1500.
_USUAL_SEGMENT_BYTES = 1448


def ring_all_reduce_bytes(size: int, ranks: int) -> int:
    """Return the bytes that each rank sends, and receives, in a ring all-reduce: 2(n-1)/n of the array."""
    return round(size * 2 * (ranks - 1) / ranks)


class Headers(NamedTuple):
    """The bytes of each header that an interface counts with each packet of TCP over IPv4."""

    ethernet: int
    time_stamps: int  # an option of TCP; Linux fills its 10 bytes up to 12
    ip: int = 20
    tcp: int = 20

    @property
    def text(self) -> str:
        """Say what they are."""
        parts = {"Ethernet": self.ethernet, "IPv4": self.ip, "TCP": self.tcp, "its time stamps": self.time_stamps}
        return ", ".join(f"{name} {size}" for name, size in parts.items() if size)


@dataclass(frozen=True)
class Flow:
    """What passed an interface in one direction between two moments.

    Attributes:
        name: which direction of which rank.
        needed_bytes: of the gradients, in this direction.
        answered_bytes: of the gradients, in the other one; acknowledged in this one.
        headers: of each packet.
        packets: how many the interface counted.
        mtu: of the interface, in bytes; None: not known.
        resent_segments: how many TCP says that it sent again; None: not known.
        netmon_bytes: as netmon saw it; None: it did not.
        kernel_bytes: as the interface counted it.
    """

    name: str
    needed_bytes: int
    answered_bytes: int
    headers: Headers
    packets: int
    mtu: int | None
    resent_segments: int | None
    netmon_bytes: int | None
    kernel_bytes: int

    @property
    def header_bytes(self) -> int:
        """The headers of the packets that the interface counted, pure acknowledgements included.

        How many packets there are is the kernel's choice: with segmentation offload a packet is what it hands on in one piece,
        up to 64 kB. But even without offload, and with each segment acknowledged by itself, no more than one goes each way
        for 1448 bytes: what is beyond that is not the gradients'.
        """
        most = -(-self.needed_bytes // _USUAL_SEGMENT_BYTES) + -(-self.answered_bytes // _USUAL_SEGMENT_BYTES)
        return min(self.packets, most) * sum(self.headers)

    @property
    def resent_bytes(self) -> int:
        """What TCP sent again, without headers.

        TCP counts segments, of which none is larger than the MTU allows. So the bytes that neither the gradients nor headers
        explain are put down to them as far as that goes, and no further.
        """
        if self.mtu is None or self.resent_segments is None:
            return 0  # nothing can be put down to them
        segment = self.mtu - self.headers.ip - self.headers.tcp - self.headers.time_stamps
        return max(0, min(self.resent_segments * segment, self.kernel_bytes - self.needed_bytes - self.header_bytes))

    @property
    def resent_text(self) -> str:
        """Write how many segments TCP sent again."""
        return "unknown" if self.resent_segments is None else f"{self.resent_segments:,}"

    @property
    def expected_bytes(self) -> int:
        """The gradients and what TCP added."""
        return self.needed_bytes + self.header_bytes + self.resent_bytes

    @property
    def off_ratio(self) -> float:
        """The largest difference between any two of: expected, seen by netmon, counted by the interface."""
        if self.netmon_bytes is None:
            return float("inf")
        three = (self.expected_bytes, self.netmon_bytes, self.kernel_bytes)
        return (max(three) - min(three)) / self.expected_bytes


def agree(flows: Sequence[Flow]) -> bool:
    """Return whether all agree within what is allowed."""
    return all(flow.off_ratio <= ALLOWED_RATIO for flow in flows)


def table(flows: Sequence[Flow], source: str) -> list[str]:
    """Write the flows as a table, in MB.

    Args:
        flows: its rows.
        source: who says what the kernel counted.
    """
    rows = [["MB", "gradients", "+ headers", "+ sent again", "= expected", "netmon", source, "off by"]]
    for flow in flows:
        amounts = (
            flow.needed_bytes,
            flow.header_bytes,
            flow.resent_bytes,
            flow.expected_bytes,
            flow.netmon_bytes,
            flow.kernel_bytes,
        )
        rows.append([flow.name, *map(_megabytes, amounts), percent(flow.off_ratio)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]


def _megabytes(amount: int | None) -> str:
    return "unknown" if amount is None else f"{amount / 1e6:.3f}"


def percent(ratio: float) -> str:
    """Write a share of one."""
    return "unknown" if ratio == float("inf") else f"{100 * ratio:.2f} %"
