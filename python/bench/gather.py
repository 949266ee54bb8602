"""What a program without netmon would do in Python to learn the same: psutil, and the kernel's files split into numbers."""

from __future__ import annotations

from typing import Any

import psutil


def interfaces() -> dict[str, Any]:
    """Read the counters of all interfaces."""
    return dict(psutil.net_io_counters(pernic=True))


def five_sources() -> dict[str, Any]:
    """Read interfaces, IP, TCP and UDP counters of IPv4 and IPv6, and sockets in use."""
    return {
        "interfaces": psutil.net_io_counters(pernic=True),
        "snmp": _pairs("/proc/net/snmp"),
        "netstat": _pairs("/proc/net/netstat"),
        "snmp6": _numbers("/proc/net/snmp6"),
        "sockstat": _words("/proc/net/sockstat"),
    }


def _pairs(path: str) -> dict[str, dict[str, int]]:
    """Read a file of pairs of lines: names, then values."""
    with open(path, encoding="ascii") as file:
        lines = file.read().splitlines()
    found = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol, _, rest = names.partition(":")
        found[protocol] = dict(zip(rest.split(), map(int, values.split()[1:]), strict=True))
    return found


def _numbers(path: str) -> dict[str, int]:
    """Read a file of a name and a value a line."""
    with open(path, encoding="ascii") as file:
        return {name: int(value) for name, value in (line.split() for line in file)}


def _words(path: str) -> dict[str, dict[str, int]]:
    """Read a file of lines of names and values after a protocol."""
    with open(path, encoding="ascii") as file:
        rows = [line.split() for line in file]
    return {row[0].rstrip(":"): dict(zip(row[1::2], map(int, row[2::2]), strict=True)) for row in rows}
