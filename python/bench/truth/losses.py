"""Loss that is known: a filter of the lab drops exactly every so many-th packet, and counts."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from agent import Agent, agent
from lab import Host, Lab

from . import link, tools

STREAMS = 8  # addresses of each host, probed at the same time: the rate to one of them is limited
INTERVAL = 0.02  # the least that netmon allows
TIMEOUT = 0.5

# What of the traffic of a method is one packet a probe, as a match of nft.
_ECHO_REQUESTS = "icmp type echo-request"
_SYNS = "tcp flags & (syn | ack) == syn"

# Waits for the end of what was started, and returns how many probes were sent and lost.
Counts = Callable[[], tuple[int, int]]


def _netmon(monitor: Agent, target: str) -> Callable[[Sequence[str], int], Counts]:
    def begin(addresses: Sequence[str], count: int) -> Counts:
        targets = [target.format(address) for address in addresses]
        probe = f"monitor.probe(target, {count}, timeout={TIMEOUT}, interval={INTERVAL}).to_dict()"
        monitor.tell(f"together(*[lambda target=target: {probe} for target in {targets!r}])")

        def wait() -> tuple[int, int]:
            answers = monitor.answer()
            return sum(a["sent"] for a in answers), sum(a["lost"] for a in answers)

        return wait

    return begin


def _fping(here: Host) -> Callable[[Sequence[str], int], Counts]:
    def begin(addresses: Sequence[str], count: int) -> Counts:
        period, timeout = str(round(INTERVAL * 1e3)), str(round(TIMEOUT * 1e3))
        wait = tools.start(here, "fping", "-q", "-c", str(count), "-p", period, "-i", "1", "-t", timeout, *addresses)

        def counted() -> tuple[int, int]:
            found = [(int(sent), int(received)) for sent, received in re.findall(r"= (\d+)/(\d+)/", wait())]
            return sum(sent for sent, _ in found), sum(sent - received for sent, received in found)

        return counted

    return begin


def _that_prints(here: Host, command: Callable[[Sequence[str], int], Sequence[str]]) -> Callable[[Sequence[str], int], Counts]:
    """Count with a program that prints what connect.py and pro-bing alone print."""

    def begin(addresses: Sequence[str], count: int) -> Counts:
        wait = tools.start(here, *command(addresses, count))

        def counted() -> tuple[int, int]:
            found = json.loads(wait()).values()
            return sum(f["sent"] for f in found), sum(f["sent"] - len(f["seconds"]) for f in found)

        return counted

    return begin


def _pro_bing(addresses: Sequence[str], count: int) -> list[str]:
    options = (f"-count={count}", f"-interval={INTERVAL}s", f"-timeout={TIMEOUT}s")
    return [str(tools.probing()), *options, *addresses]


def _connect(addresses: Sequence[str], count: int) -> list[str]:
    return tools.connect_command(link.PORT, count, INTERVAL, TIMEOUT, *addresses)


def measure(plan: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Lose packets on the way to hosts, one for each program, and let all count at the same time.

    Args:
        plan: pairs: one of how many is lost, and how many probes are sent to each of the ``STREAMS`` addresses of a host.

    Returns:
        For each pair and program: ``every``, ``what``, ``sent`` and ``lost`` as the program says, ``seen`` and ``dropped`` as
        the filter says.
    """
    with Lab(hosts=8, ipv6=False) as lab, ExitStack() as running:
        # Others do not probe from netmon's host: a raw socket gets a copy of all answers.
        here, beside, *hosts = lab.hosts
        beside.sysctl("net.ipv4.ping_group_range", "0 0")
        icmp, tcp, udp = (running.enter_context(agent(here, interval=60)) for _ in range(3))
        programs: list[tuple[str, str, Callable[[Sequence[str], int], Counts]]] = [
            ("`icmp`", _ECHO_REQUESTS, _netmon(icmp, "icmp://{}")),
            ("`tcp`", _SYNS, _netmon(tcp, f"tcp://{{}}:{link.PORT}")),
            ("`udp`", "meta l4proto udp", _netmon(udp, "udp://{}")),
            (link.FPING, _ECHO_REQUESTS, _fping(beside)),
            (link.PRO_BING, _ECHO_REQUESTS, _that_prints(beside, _pro_bing)),
            (link.WALL_CLOCK, _SYNS, _that_prints(beside, _connect)),
        ]
        addresses = [addresses_of(host, STREAMS) for host in hosts]
        link.accept(hosts[1])
        link.accept(hosts[5])
        running.enter_context(agent(hosts[2], interval=60, udp_responder={"address": "0.0.0.0"}))  # noqa: S104 (a host of the lab)
        results = []
        for every, count in plan:
            print(f"bench-truth: loss of 1 in {every}", file=sys.stderr)
            before = [(host.ingress.seen().packets, host.ingress.dropped().packets) for host in hosts]
            for host, (_, match, _) in zip(hosts, programs, strict=True):
                host.ingress.lose(every=every, only=match)
            waiting = [begin(found, count) for found, (_, _, begin) in zip(addresses, programs, strict=True)]
            told = [wait() for wait in waiting]
            for host, was, (what, _, _), (sent, lost) in zip(hosts, before, programs, told, strict=True):
                host.ingress.lose_nothing()
                seen, dropped = host.ingress.seen().packets - was[0], host.ingress.dropped().packets - was[1]
                results.append({"every": every, "what": what, "sent": sent, "lost": lost, "seen": seen, "dropped": dropped})
    return results


def addresses_of(host: Host, count: int) -> list[str]:
    """Give a host so many addresses beside its own, and return them."""
    addresses = [f"198.18.{100 + host.number}.{i}" for i in range(1, count + 1)]
    for address in addresses:
        host.ip("address", "add", f"{address}/32", "dev", host.interface)
    return addresses
