"""Two hosts of a lab with all that answers and all that asks, for round trips."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from agent import NOBODY, Agent, agent
from lab import Host, Lab

from . import tools
from .tools import Tool

PORT, CLOSED_PORT = 5000, 9

# How the report calls what measures. Those of netmon come first.
ICMP, ICMP_RAW, TCP, TCP_REFUSED, UDP = "`icmp`, without root", "`icmp`, raw socket", "`tcp`", "`tcp_refused`", "`udp`"
NETMON = (ICMP, ICMP_RAW, TCP, TCP_REFUSED, UDP)
PING, ECHO, FPING, PRO_BING, WALL_CLOCK = "ping", "echo stamped at both ends", "fping", "pro-bing alone", "TCP, wall clock"

# Bytes behind the ICMP header: by the length of a packet the relay's log tells whose it is. netmon's have 56.
SIZES = {PING: 48, ECHO: 50, FPING: 52, PRO_BING: 54}


@dataclass(frozen=True)
class Link:
    """A link with monitors at one end, and at the other what they probe."""

    here: Host
    there: Host
    monitors: dict[str, Agent]  # by method

    def tools(self) -> dict[str, Tool]:
        """Return all that can measure round trips on the link, by name."""
        there = self.there.address
        targets = {
            ICMP: f"icmp://{there}",
            ICMP_RAW: f"icmp://{there}",
            TCP: f"tcp://{there}:{PORT}",
            TCP_REFUSED: f"tcp://{there}:{CLOSED_PORT}",
            UDP: f"udp://{there}",
        }
        return {
            **{name: tools.netmon(self.monitors[name], target) for name, target in targets.items()},
            PING: tools.ping(self.here, there, SIZES[PING]),
            ECHO: tools.echo(self.here, there, SIZES[ECHO]),
            FPING: tools.fping(self.here, there, SIZES[FPING]),
            PRO_BING: tools.pro_bing(self.here, there, SIZES[PRO_BING]),
            WALL_CLOCK: tools.wall_clock(self.here, there, PORT),
        }


@contextmanager
def link() -> Iterator[Link]:
    """Make a lab with two hosts. A monitor measures one method, so that none is sent beside another's probe."""
    with Lab(hosts=2, ipv6=False) as lab, ExitStack() as running:
        here, there = lab.hosts
        # Who is root is in no such group and gets a raw socket; who is nobody is, and may have no other.
        here.sysctl("net.ipv4.ping_group_range", f"{NOBODY} {NOBODY}")
        accept(there)
        running.enter_context(agent(there, interval=60, udp_responder={"address": there.address}))
        monitors = {
            name: running.enter_context(agent(here, user=NOBODY if name == ICMP else None, interval=60)) for name in NETMON
        }
        rights = monitors[ICMP].ask("open('/proc/self/status').read()")
        if not re.search(r"^CapEff:\t0+$", rights, re.MULTILINE):
            raise RuntimeError(f"the monitor without root has rights:\n{rights}")
        yield Link(here, there, monitors)


def accept(host: Host) -> None:
    """Have a host accept TCP connections as long as it is there."""
    listener = host.start(*tools.accept_command(PORT), stdout=subprocess.PIPE)
    assert listener.stdout is not None
    if not listener.stdout.readline():
        raise RuntimeError("nothing accepts connections")
