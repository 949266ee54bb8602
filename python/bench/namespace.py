"""Private network namespaces with a known number of interfaces.

A process enters a new one by executing itself under unshare(1); it disappears with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Sequence

# Sizes that the report names, in interfaces.
SIZES = (4, 400)

# An EtherType kept for experiments (IEEE 802): no protocol takes such a frame.
_ETHERTYPE = 0x88B5


def prefix() -> list[str] | None:
    """Return the command that runs another in a new network namespace, None where this user may not have one."""
    unshare = shutil.which("unshare")
    if unshare is None or shutil.which("ip") is None:
        return None
    for options in (["--net"], ["--user", "--map-root-user", "--net"]):
        trial = [unshare, *options, "ip", "link", "add", "trial0", "type", "veth", "peer", "name", "trial1"]
        if subprocess.run(trial, capture_output=True, check=False).returncode == 0:
            return [unshare, *options]
    return None


def furnish(size: int) -> list[str]:
    """Make the interfaces of a size in this process's own namespace and bring them up.

    4 is the loopback interface, a veth pair and a bridge over one of its ends; 400 is 200 veth pairs, beside the loopback
    interface.

    Returns:
        The interfaces to send on so that all of them count.
    """
    # Without addresses of their own making they stay idle: IPv6 sends for seconds after an interface came up.
    with contextlib.suppress(OSError), open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w", encoding="ascii") as file:
        file.write("1")
    lines = ["link set lo up"]
    for i in range(1 if size == 4 else size // 2):
        lines += [
            f"link add veth{i}a type veth peer name veth{i}b",
            f"addr add 10.{i // 64}.{i % 64 * 4}.1/30 dev veth{i}a",
        ]
        if size != 4:
            lines.append(f"addr add 10.{i // 64}.{i % 64 * 4}.2/30 dev veth{i}b")
        lines += [f"link set veth{i}a up", f"link set veth{i}b up"]
    if size == 4:
        lines += ["link add br0 type bridge", "link set veth0b master br0", "addr add 10.0.0.2/30 dev br0", "link set br0 up"]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
    return ["lo", *(f"veth{i}a" for i in range(1 if size == 4 else size // 2))]


def traffic(interfaces: Sequence[str]) -> Callable[[], None]:
    """Return a function that sends a broadcast frame on each interface, which counts on both ends of a pair and on a bridge."""
    frame = b"\xff" * 6 + b"\x02\x00\x00\x00\x00\x01" + struct.pack("!H", _ETHERTYPE) + b"\x00" * 46
    senders = []
    for name in interfaces:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)  # of no protocol: receives nothing
        opened.bind((name, 0))
        senders.append(opened.send)

    def send() -> None:
        for sender in senders:
            sender(frame)

    return send


def moved_by(action: Callable[[], None]) -> tuple[int, int]:
    """Return how many interfaces there are, and how many of them count anything while an action runs."""
    before = _rows()
    action()
    after = _rows()
    return len(after), sum(before.get(name) != row for name, row in after.items())


def _rows() -> dict[str, str]:
    with open("/proc/thread-self/net/dev", encoding="ascii") as file:
        return dict(line.rsplit(":", 1) for line in file.readlines()[2:])


def pin() -> int | None:
    """Bind this thread, and all that it starts, to one core, and return it; None where that is not possible.

    Threads of Go and children inherit it, so what collects garbage beside a call is counted in that call's time.
    """
    try:
        core = max(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {core})
    except OSError:
        return None
    return core
