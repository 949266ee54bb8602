"""Traffic that is observed: what netmon says of it, and what somebody else counted of the same."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import passive
from lab import Lab

# Of these frames the kernel of a small machine can do so many, of those of 1500 bytes not.
LARGE_FRAMES_FROM, LARGE_MTU = 1e9, 9000
LOST_EVERY = 200
HELD_SECONDS = 0.005


def measure(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Have programs send over links whose rate, loss and delay are known, and let netmon watch.

    Args:
        plan: ``rates`` of links in bits per second, ``seconds`` of a transfer; ``bytes`` to lose some of; ``bandwidth_rates``
            of links that are measured on demand.

    Returns:
        What the functions of tests/passive.py return, as dictionaries.
    """
    found: dict[str, Any] = {"throughput": [], "retransmissions": {}, "bandwidth": []}
    seconds = plan["seconds"]
    for rate in plan["rates"]:
        _say(f"traffic at {rate / 1e6:g} Mbit/s")
        with _lab(rate) as lab:
            ends = passive.throughput(*lab.hosts, rate, seconds, interval=min(0.5, seconds / 8))
        found["throughput"] += [{"rate": rate, "way": way, **asdict(end)} for way, end in zip(_WAYS, ends, strict=True)]
    for control in passive.congestion_controls():
        _say(f"loss of 1 in {LOST_EVERY} under {control}")
        with Lab(2, ipv6=False, congestion_control=control) as lab:
            lost = passive.retransmissions(*lab.hosts, every=LOST_EVERY, amount=plan["bytes"])
        found["retransmissions"][control] = {**asdict(lost), "lost": lost.lost}
    _say("round trips of connections")
    with Lab(2, ipv6=False) as lab:
        found["round_trip"] = asdict(passive.round_trip(*lab.hosts, delay=HELD_SECONDS))
    for rate in plan["bandwidth_rates"]:
        _say(f"bandwidth of a link of {rate / 1e6:g} Mbit/s")
        with _lab(rate) as lab:
            found["bandwidth"] += [{"rate": rate, **asdict(one)} for one in passive.bandwidth(*lab.hosts, rate, seconds)]
    return found


_WAYS = ("transmit", "receive")


def _lab(rate: float) -> Lab:
    return Lab(2, ipv6=False, mtu=1500 if rate < LARGE_FRAMES_FROM else LARGE_MTU)


def _say(what: str) -> None:
    print(f"bench-truth: {what}", file=sys.stderr)
