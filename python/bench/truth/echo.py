"""ICMP echo stamped by the kernel at both ends: when the interface got the request, and when the reply came by it.

That is what ping(8) would say if it asked for the stamp of sending too. It owes netmon nothing, so it can contradict it.

``echo.py ADDRESS COUNT INTERVAL SIZE`` prints a JSON object: ``{"sent": 3, "seconds": [0.00002, ...]}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import sys
import time

# linux/net_tstamp.h; Python's socket module has none of it.
_SO_TIMESTAMPING = 37
_TX_SOFTWARE, _RX_SOFTWARE, _SOFTWARE, _OPT_TSONLY = 1 << 1, 1 << 3, 1 << 4, 1 << 11
_SOL_RAW, _ICMP_FILTER = 255, 1
_REQUEST, _REPLY = 8, 0
_CONTROL_BYTES = 512
_TIMEOUT = 1.0


def checksum(packet: bytes) -> int:
    """Return the checksum of RFC 1071 over a packet of an even length."""
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def request(identifier: int, number: int, size: int) -> bytes:
    """Write an echo request."""
    blank = struct.pack("!BBHHH", _REQUEST, 0, 0, identifier, number) + bytes(size)
    return blank[:2] + struct.pack("!H", checksum(blank)) + blank[4:]


def stamp(control: list[tuple[int, int, bytes]]) -> int | None:
    """Return the kernel's stamp in control messages, nanoseconds of CLOCK_REALTIME."""
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPING):
            seconds, nanoseconds = struct.unpack_from("qq", data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return None


def round_trip(sock: socket.socket, address: str, packet: bytes) -> float | None:
    """Send one echo request and return the seconds until its reply came, None without a reply."""
    sock.sendto(packet, (address, 0))
    sent = None
    deadline = time.monotonic() + _TIMEOUT
    while (left := deadline - time.monotonic()) > 0:
        select.select([sock], [], [], left)  # a stamp makes it ready too
        with contextlib.suppress(BlockingIOError):
            sent = stamp(sock.recvmsg(0, _CONTROL_BYTES, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)[1])
        try:
            data, control, _, _ = sock.recvmsg(2048, _CONTROL_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        received = stamp(control)
        if data[24:28] == packet[4:8] and sent is not None and received is not None:
            return (received - sent) / 1e9
    return None


def main(address: str, count: str, interval: str, size: str) -> None:
    """Probe and print what was found."""
    seconds = []
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("I", 0xFFFFFFFF ^ 1 << _REPLY))
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _TX_SOFTWARE | _RX_SOFTWARE | _SOFTWARE | _OPT_TSONLY)
        due = time.perf_counter()
        for number in range(int(count)):
            time.sleep(max(0.0, due - time.perf_counter()))
            due = max(due, time.perf_counter() - float(interval)) + float(interval)
            found = round_trip(sock, address, request(os.getpid() & 0xFFFF, number & 0xFFFF, int(size)))
            if found is not None:
                seconds.append(found)
    print(json.dumps({"sent": int(count), "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
