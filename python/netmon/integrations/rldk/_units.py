"""The units of rldk's names, made from netmon's base units: the only conversions of this package.

1 Mbps is 1e6 bit/s; 1 GB/s is 1e9 bytes/s, so 1 Gbps reads 0.125 GB/s.
"""

from __future__ import annotations

_MBPS_PER_GIGABYTE_PER_SECOND = 8000.0


def mbps(bytes_per_second: float) -> float:
    """Return a rate in Mbps."""
    return bytes_per_second * 8 / 1e6


def mbps_from_bits(bits_per_second: float) -> float:
    """Return a link speed in Mbps."""
    return bits_per_second / 1e6


def gigabytes_per_second(mbps: float) -> float:
    """Return GB/s from Mbps."""
    return mbps / _MBPS_PER_GIGABYTE_PER_SECOND


def milliseconds(seconds: float) -> float:
    """Return milliseconds."""
    return seconds * 1e3


def percent(part: float, whole: float) -> float:
    """Return a share of a whole in percent."""
    return 100.0 * part / whole


def mebibytes(number_of_bytes: float) -> float:
    """Return MiB, which rldk calls MB where it is a tensor."""
    return number_of_bytes / 2**20


def gibibytes(number_of_bytes: float) -> float:
    """Return GiB, which rldk calls GB where it is memory."""
    return number_of_bytes / 2**30
