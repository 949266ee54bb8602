"""What the background knows of round trips to some hosts at one moment: a pure reading of a sample's ``probes``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..._types import Sample
from . import _reading, _targets, _units
from ._targets import Hosts

RTT = "probes.rtt_last_seconds"
LOSS = "probes.lost / probes.sent"


class Value(NamedTuple):
    """A value of some hosts, with where it comes from, and when its oldest part was measured (as ``time.monotonic``)."""

    value: float
    source: str
    target: str
    measured_at: float


class Host(NamedTuple):
    """What is known of one host.

    Attributes:
        host: as it was named.
        milliseconds: its newest round trip; None while it does not answer, or nothing is known.
        reason: why that is None.
        method: what it was probed by.
        address: whom the probes went to.
        known: whether something is known of it: a probe has ended, or cannot be sent.
        measured_at: when its newest probe ended, as ``time.monotonic``.
        sent: its probes that ended in the last 60 s.
        lost: those without an answer.
    """

    host: str
    milliseconds: float | None
    reason: str
    method: str | None = None
    address: str | None = None
    known: bool = False
    measured_at: float = 0.0
    sent: int = 0
    lost: int = 0

    @property
    def measured(self) -> bool:
        """Whether it was tried: a probe has ended, or the name does not resolve."""
        return self.sent > 0 or (self.known and self.address is None)

    @property
    def resolves(self) -> bool:
        """Whether what is measured is the resolving of a name, and no round trip to a host."""
        return self.method == "dns"

    @property
    def target(self) -> str:
        """Whom the probes went to, by which method."""
        return f"{self.host} by {self.method}"


class Reach:
    """What is known of some hosts.

    Attributes:
        hosts: those, in order.
        nobody: why there are none.
    """

    def __init__(self, hosts: Iterable[Host], nobody: str = _targets.NOBODY) -> None:
        self.hosts = list(hosts)
        self.nobody = nobody

    def round_trip(self, *methods: str) -> Value | str:
        """Return the mean, over the hosts that answer now, of their newest round trips in milliseconds; or why there is none.

        Args:
            methods: count only hosts probed by one of these; default all but the resolving of names.
        """
        asked = [host for host in self.hosts if (host.method in methods if methods else not host.resolves)]
        if not asked:
            return self.nobody
        answering = [host for host in asked if host.milliseconds is not None]
        if not answering:
            return _reading.listed([f"{host.host}: {host.reason}" for host in asked], "; ")
        mean = sum(host.milliseconds or 0.0 for host in answering) / len(answering)
        names = _reading.listed([host.target for host in answering])
        return Value(mean, RTT, names, min(host.measured_at for host in answering))

    def loss(self) -> Value | str:
        """Return the probes that were lost in the last 60 s in percent of those sent, of all hosts together; or why not."""
        asked = [host for host in self.hosts if not host.resolves]
        if not asked:
            return self.nobody
        sent = sum(host.sent for host in asked)
        if not sent:
            return _reading.listed([f"{host.host}: {host.reason}" for host in asked], "; ")
        ended = [host for host in asked if host.sent]
        lost = _units.percent(sum(host.lost for host in asked), sent)
        return Value(lost, LOSS, _reading.listed([host.target for host in ended]), min(host.measured_at for host in ended))

    def has(self, *methods: str) -> bool:
        """Return whether a host is probed by one of some methods."""
        return any(host.method in methods for host in self.hosts)

    @property
    def probed(self) -> bool:
        """Whether there is a host that packets are sent to."""
        return any(not host.resolves for host in self.hosts)


def reach(holder: object, hosts: Hosts, sample: Sample | None) -> Reach:
    """Return what is known of an object's hosts, and have them probed from now on where it named them.

    Args:
        holder: the object.
        hosts: its hosts.
        sample: the newest.
    """
    named = hosts.named
    if sample is not None:
        _targets.watch(holder, named or ())
    found = known(sample, named)
    if sample is not None and sample._decoded()["probes"] is not None:
        hosts.default_is([host.host for host in found.hosts if not host.resolves])
    return found


def known(sample: Sample | None, named: Sequence[str] | None) -> Reach:
    """Return what a sample says of hosts.

    Args:
        sample: None where netmon cannot measure.
        named: which; None for those that the monitor probes by itself: the training's peers and the configured targets.
    """
    rows = sample._decoded()["probes"] if sample is not None else None
    if sample is None or rows is None:
        why = _reading.why(sample, "probes")
        return Reach([Host(host, None, why) for host in named or ()], why)
    if named is None:
        configured = _reading.targets()
        return Reach(_host(row, sample) for row in rows if row["peer"] or row["target"] in configured)
    by_target: dict[str, Mapping[str, Any]] = {row["target"]: row for row in rows}
    return Reach(
        _host(by_target[host], sample) if host in by_target else Host(host, None, _targets.why_not(host)) for host in named
    )


def _host(row: Mapping[str, Any], sample: Sample) -> Host:
    error, last, sent = row["error"], row["rtt_last_seconds"], row["sent"]
    answers = error is None and last is not None
    return Host(
        row["target"],
        _units.milliseconds(last) if answers else None,
        "" if answers else error or "no probe has ended yet",
        row["method"],
        row["address"],
        bool(sent) or error is not None,
        sample.monotonic_seconds - (row["age_seconds"] or 0.0),
        sent,
        row["lost"],
    )
