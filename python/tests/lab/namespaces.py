"""Single namespaces, and two of them joined by a veth link."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from lab import leftovers
from lab.leftovers import LabError, run

__all__ = ["LabError", "Link", "Namespace", "namespace", "veth_link"]


class Namespace:
    """A network namespace with loopback, one interface and one IPv4 address.

    Attributes:
        name: what ``ip netns`` calls it.
        interface: the name of its interface.
        address: its IPv4 address.
    """

    def __init__(self, name: str, interface: str, address: str) -> None:
        self.name = name
        self.interface = interface
        self.address = address
        self._started: list[subprocess.Popen[str]] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.interface!r}, {self.address!r})"

    def command(self, *command: str) -> list[str]:
        """Return the command that runs another one inside."""
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end, as subprocess.run does; text and captured output are the default, failure raises."""
        options = {"text": True, "capture_output": True, "check": True, "timeout": 60, **options}
        return subprocess.run(self.command(*command), **options)

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command inside, as subprocess.Popen does; text is the default.

        What still runs when the namespace is taken away is killed, and the pipes to it are closed.
        """
        process: subprocess.Popen[str] = subprocess.Popen(self.command(*command), **{"text": True, **options})
        self._started.append(process)
        return process

    def ip(self, *arguments: str) -> str:
        """Configure the namespace: ``ip -n NAME ...``."""
        return run("ip", "-n", self.name, *arguments)

    def sysctl(self, name: str, value: str | int | None = None) -> str:
        """Return a kernel setting of the namespace, as ``"net.ipv4.ip_forward"``, after changing it if a value is given."""
        path = "/proc/sys/" + name.replace(".", "/")
        if value is not None:
            run(*self.command("tee", path), given=f"{value}\n")
        return run(*self.command("cat", path)).strip()

    def link_counters(self, interface: str | None = None) -> Mapping[str, Mapping[str, int]]:
        """Return what ``ip -s link`` counts: ``{"rx": {"bytes", "packets", "errors", "dropped"...}, "tx": {...}}``."""
        counters: Mapping[str, Mapping[str, int]] = json.loads(
            self.ip("-s", "-j", "link", "show", "dev", interface or self.interface)
        )[0]["stats64"]
        return counters

    def processes(self) -> list[int]:
        """Return the processes inside, whoever started them."""
        return sorted(leftovers.processes_in(self.name))

    def reap(self) -> None:
        """Take note of the end of what was started here, after the namespace is gone."""
        for process in self._started:
            process.kill()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what was not written yet
                        pipe.close()
            process.wait()


class Link(NamedTuple):
    """Two namespaces that reach each other."""

    left: Namespace
    right: Namespace


def add(name: str) -> None:
    """Make a namespace with nothing but loopback, up. Its guardian removes it.

    IPv6 is off: it announces addresses and looks for neighbours at moments of its own, and tests that count need quiet.
    """
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")
    quiet = "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do test ! -w $f || echo 1 >$f; done"
    run("ip", "netns", "exec", name, "sh", "-c", quiet)


@contextmanager
def guarded() -> Iterator[str]:
    """Give a tag; all that has it is removed in the end."""
    tag = leftovers.new_tag()
    guardian = leftovers.Guardian(tag)
    try:
        yield tag
    finally:
        guardian.dismiss()


@contextmanager
def namespace(role: str = "ns") -> Iterator[str]:
    """Make a namespace with nothing but loopback, up and without IPv6, and give its name.

    Raises:
        LabError: the kernel or the user's rights do not allow it.
    """
    with guarded() as tag:
        name = f"{tag}-{role}"
        add(name)
        yield name


@contextmanager
def veth_link() -> Iterator[Link]:
    """Make two namespaces joined by a veth link, IPv4 only, offloads as the kernel sets them.

    Raises:
        LabError: the kernel or the user's rights do not allow it.
    """
    ends: tuple[Namespace, ...] = ()
    try:
        with guarded() as tag:
            left = Namespace(f"{tag}-left", "eth0", "198.18.0.1")
            right = Namespace(f"{tag}-right", "eth0", "198.18.0.2")
            ends = (left, right)
            for end in ends:
                add(end.name)
            left.ip("link", "add", left.interface, "type", "veth", "peer", "name", right.interface, "netns", right.name)
            for end in ends:
                end.ip("address", "add", f"{end.address}/24", "dev", end.interface)
                end.ip("link", "set", end.interface, "up")
            yield Link(left, right)
    finally:
        for end in ends:
            end.reap()
