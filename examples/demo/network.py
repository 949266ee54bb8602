"""Where the two ranks run, and what the kernel counts there: a veth link of the demo's own, or loopback.

The namespaces have no name: each is the rank's own, made by unshare(1), and the kernel takes it away with the last process in
it, however that ends. So there is nothing to clean up, an ordinary user may have them too, inside a user namespace, and they
are not named ones, as those of the tests are, which need a writable /run/netns and somebody who removes them.
"""

from __future__ import annotations

import abc
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from account import Headers

_INSIDE = "NETMON_DEMO_IN_USER_NAMESPACE"
_PORT = 29500
_TIME_STAMPS = "/proc/sys/net/ipv4/tcp_timestamps"


class Counters(NamedTuple):
    """What the kernel counted on a rank's interface."""

    sent_bytes: int
    sent_packets: int
    received_bytes: int
    received_packets: int


class Network(abc.ABC):
    """A network for two ranks.

    Attributes:
        text: what it is, for people.
        interface: the interface that their traffic passes.
        shared: whether it is the same interface for both, so that each byte of either is counted there.
        addresses: of each rank.
        port: at which rank 0 can listen.
        source: who says what the kernel counted.
        prefix: the command that runs a rank.
    """

    text: str
    interface: str
    shared: bool
    addresses: Sequence[str]
    port: int
    source: str
    prefix: Sequence[str]

    @abc.abstractmethod
    def connect(self, processes: Sequence[int]) -> None:
        """Make the network between the processes of the ranks, which run by now."""

    @abc.abstractmethod
    def counters(self, rank: int) -> Counters:
        """Return what the kernel has counted on a rank's interface."""

    @abc.abstractmethod
    def headers(self) -> Headers:
        """Return what the interface counts beside the data of a packet."""


class Link(Network):
    """A network namespace for each rank, and a veth link between them. The addresses are set aside for tests (RFC 2544)."""

    interface = "eth0"
    shared = False
    addresses = ("198.18.0.1", "198.18.0.2")
    port = _PORT
    source = "ip -s link"
    prefix = ("unshare", "--net", "--")

    def __init__(self) -> None:
        self.text = "a veth link between two network namespaces" + (", in a user namespace" if _INSIDE in os.environ else "")
        self._processes: Sequence[int] = ()

    def connect(self, processes: Sequence[int]) -> None:
        """Join the namespaces of two processes."""
        self._processes = processes
        self._ip(0, "link", "add", self.interface, "type", "veth", "peer", "name", self.interface, "netns", str(processes[1]))
        for rank, address in enumerate(self.addresses):
            self._ip(rank, "address", "add", f"{address}/24", "dev", self.interface)
            for interface in ("lo", self.interface):
                self._ip(rank, "link", "set", interface, "up")

    def counters(self, rank: int) -> Counters:
        """Read them with ip, in the rank's namespace."""
        return _counters(self._ip(rank, "-s", "-j", "link", "show", "dev", self.interface))

    def headers(self) -> Headers:
        """Return them, with the link's own."""
        return Headers(14, _time_stamps(_run(*self._inside(0), "cat", _TIME_STAMPS)))

    def _inside(self, rank: int) -> tuple[str, ...]:
        return ("nsenter", "--net", f"--target={self._processes[rank]}", "--")

    def _ip(self, rank: int, *arguments: str) -> str:
        return _run(*self._inside(rank), "ip", *arguments)


class Loopback(Network):
    """The loopback interface that is there, which all programs of the machine share."""

    text = "loopback, counted because it is named; what other programs send over it is in the figures"
    interface = "lo"
    shared = True
    addresses = ("127.0.0.1", "127.0.0.1")
    prefix = ()

    def __init__(self) -> None:
        with socket.create_server((self.addresses[0], 0)) as free:
            self.port = free.getsockname()[1]
        self.source = "ip -s link" if shutil.which("ip") else "/proc/net/dev"

    def connect(self, processes: Sequence[int]) -> None:
        """Do nothing: it is there."""

    def counters(self, rank: int) -> Counters:
        """Read them with ip, or from the kernel's file where there is no ip."""
        if self.source == "ip -s link":
            return _counters(_run("ip", "-s", "-j", "link", "show", "dev", self.interface))
        rows = (row.split(":") for row in Path("/proc/self/net/dev").read_text("ascii").splitlines() if ":" in row)
        (row,) = (counts.split() for name, counts in rows if name.strip() == self.interface)
        return Counters(int(row[8]), int(row[9]), int(row[0]), int(row[1]))

    def headers(self) -> Headers:
        """Return them; loopback takes the link's own off before it counts."""
        return Headers(0, _time_stamps(Path(_TIME_STAMPS).read_text("ascii")))


def choose(wanted: str) -> tuple[Network, str]:
    """Return the network to use, and why it is not a link of its own, if it is not.

    An ordinary user comes to a link by starting this program anew inside a user namespace, so that this may not return.

    Args:
        wanted: ``"link"``, ``"loopback"``, or ``"auto"``: the first that is possible.

    Raises:
        SystemExit: a link was wanted and is not possible.
    """
    if wanted == "loopback":
        return Loopback(), ""
    reason = _refusal()
    if not reason:
        return Link(), ""
    user_namespace = ["unshare", "--user", "--map-root-user"]
    if _INSIDE not in os.environ and not _refusal(*user_namespace[1:]):
        os.environ[_INSIDE] = "1"
        sys.stdout.flush()
        os.execvp(user_namespace[0], [*user_namespace, "--", sys.executable, *sys.argv])  # noqa: S606 - it is no shell that is wanted
    if wanted == "link":
        raise SystemExit(f"demo: no link of its own is possible here: {reason}")
    return Loopback(), reason


def _refusal(*user_namespace: str) -> str:
    """Return why namespaces with a veth link cannot be made; empty where they can."""
    for program, package in (("ip", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            return f"there is no {program} command (install {package})"
    trial = ("ip", "link", "add", "trial0", "type", "veth", "peer", "name", "trial1")
    done = subprocess.run(["unshare", *user_namespace, "--net", "--", *trial], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or f"unshare ended with status {done.returncode}"


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _time_stamps(setting: str) -> int:
    return 0 if setting.strip() == "0" else 12


def _counters(text: str) -> Counters:
    (link,) = json.loads(text)
    sent, received = link["stats64"]["tx"], link["stats64"]["rx"]
    return Counters(sent["bytes"], sent["packets"], received["bytes"], received["packets"])
