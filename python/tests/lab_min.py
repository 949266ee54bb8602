"""Two network namespaces joined by a veth link, for tests that need a network of their own.

Everything is named after this process and taken away whatever happens. The addresses are those that RFC 2544 sets aside for
tests of networks.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

_numbers = itertools.count()


class LabError(Exception):
    """The kernel, or the rights of this user, do not allow what a test needs; the text is what the system said."""


def _ip(*arguments: str) -> str:
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError as error:
        raise LabError("there is no ip command: install iproute2") from error
    if done.returncode != 0:
        raise LabError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Namespace:
    """One end of the link: a namespace with loopback, one veth and one address."""

    name: str
    interface: str
    address: str

    def command(self, *command: str) -> list[str]:
        """Return the command that runs another one inside."""
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end, as subprocess.run does; text and captured output are the default, failure raises."""
        options = {"text": True, "capture_output": True, "check": True, "timeout": 60, **options}
        return subprocess.run(self.command(*command), **options)

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command inside. What still runs when the namespace is taken away is killed."""
        return subprocess.Popen(self.command(*command), **{"text": True, **options})

    def ip(self, *arguments: str) -> str:
        """Configure the namespace: ``ip -n NAME ...``."""
        return _ip("-n", self.name, *arguments)

    def link_counters(self, interface: str | None = None) -> Mapping[str, Mapping[str, int]]:
        """Return what ``ip -s link`` counts: ``{"rx": {"bytes", "packets", "errors", "dropped"...}, "tx": {...}}``."""
        counters: Mapping[str, Mapping[str, int]] = json.loads(
            self.ip("-s", "-j", "link", "show", "dev", interface or self.interface)
        )[0]["stats64"]
        return counters


@dataclass(frozen=True)
class Link:
    """Two namespaces that reach each other."""

    left: Namespace
    right: Namespace


def _remove(name: str) -> None:
    for pid in subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout.split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@contextmanager
def namespace(role: str = "ns") -> Iterator[str]:
    """Make a namespace with nothing but loopback, up, and give its name.

    Raises:
        LabError: the kernel or the user's rights do not allow it.
    """
    name = f"netmon-{os.getpid()}-{next(_numbers)}-{role}"
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        # IPv6 announces addresses and looks for neighbours at moments of its own; tests that count bytes need quiet.
        quiet = "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do test ! -w $f || echo 1 >$f; done"
        _ip("netns", "exec", name, "sh", "-c", quiet)
        yield name
    finally:
        _remove(name)


@contextmanager
def veth_link() -> Iterator[Link]:
    """Make two namespaces joined by a veth link, IPv4 only, offloads as the kernel sets them.

    Raises:
        LabError: the kernel or the user's rights do not allow it.
    """
    with ExitStack() as stack:
        left = Namespace(stack.enter_context(namespace("left")), "eth0", "198.18.0.1")
        right = Namespace(stack.enter_context(namespace("right")), "eth0", "198.18.0.2")
        left.ip("link", "add", left.interface, "type", "veth", "peer", "name", right.interface, "netns", right.name)
        for end in (left, right):
            end.ip("address", "add", f"{end.address}/24", "dev", end.interface)
            end.ip("link", "set", end.interface, "up")
        yield Link(left, right)
