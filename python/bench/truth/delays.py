"""Round trips over a link with a delay that is known: the lab's relay logs how long it really held each packet."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

from lab import Hold

from . import link, tools
from .link import Link

_ICMP, _TCP, _UDP = 1, 6, 17
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_SYN, _SYN_ACK = 0x02, 0x12

# What the headers of Ethernet, IPv4 and ICMP take.
_HEADERS = 14 + 20 + 8
_NETMON_SIZE = 56

MEASURED = (link.ICMP, link.TCP, link.UDP, link.PING, link.ECHO, link.FPING, link.PRO_BING, link.WALL_CLOCK)

# Of a question: protocol, port or identifier, port or sequence number.
_Key = tuple[int, int, int]


def held(there: Iterable[Hold], back: Iterable[Hold]) -> dict[str, list[float]]:
    """Find for each question its answer, and return by what measured it how long both were held together, in seconds.

    Args:
        there: packets to the host that answers, in the order they left the relay.
        back: packets from it.
    """
    asked: dict[_Key, deque[Hold]] = defaultdict(deque)
    for packet in there:
        if _is_question(packet):
            asked[packet.protocol, packet.source_port, packet.destination_port].append(packet)
    found: dict[str, list[float]] = defaultdict(list)
    for packet in back:
        first, second = packet.source_port, packet.destination_port
        questions = asked[(packet.protocol, first, second) if packet.protocol == _ICMP else (packet.protocol, second, first)]
        if questions and _is_answer(packet):
            question = questions.popleft()
            for name in _askers(question):
                found[name].append(question.seconds + packet.seconds)
    return found


def _is_question(packet: Hold) -> bool:
    return packet.protocol == _UDP or (packet.protocol, packet.kind) in ((_ICMP, _ECHO_REQUEST), (_TCP, _SYN))


def _is_answer(packet: Hold) -> bool:
    return packet.protocol == _UDP or (packet.protocol, packet.kind) in ((_ICMP, _ECHO_REPLY), (_TCP, _SYN_ACK))


def _askers(question: Hold) -> Iterable[str]:
    """Say what sent a question. The two that use TCP cannot be told apart: each gets what both found."""
    if question.protocol == _TCP:
        return (link.TCP, link.WALL_CLOCK)
    if question.protocol == _UDP:
        return (link.UDP,)
    sizes: Mapping[int, str] = {_NETMON_SIZE: link.ICMP, **{size: name for name, size in link.SIZES.items()}}
    return (sizes[question.length - _HEADERS],)


def measure(on: Link, added: float, count: int, interval: float) -> dict[str, Any]:
    """Hold what goes to the far host for a time, in seconds, and measure with everything.

    Returns:
        ``added``; ``found``, by what measured; ``held``, the seconds that the median of its packets was held, by the same.
    """
    far = on.there
    far.ingress.delay(added)
    before = len(far.ingress.holds()), len(far.egress.holds())
    everything = on.tools()
    found = tools.run({name: everything[name] for name in MEASURED}, count, interval)
    log = held(far.ingress.holds()[before[0] :], far.egress.holds()[before[1] :])
    counts = far.ingress.relay_counts(), far.egress.relay_counts()
    if any(way.dropped or way.missed for way in counts):
        raise RuntimeError(f"the relay lost packets: {counts}")
    far.ingress.lift_delay()
    return {"added": added, "found": found, "held": {name: tools.quantile(log[name], 0.50) for name in MEASURED}}
