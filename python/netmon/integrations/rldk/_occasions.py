"""What no background probe tells: a question now and then, for whose answer no call waits; a later one finds it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ..._errors import Error
from . import _questions, _reading, _units
from ._reach import Host, Reach, Value
from ._worker import in_forked_child

_PERIOD_SECONDS = {"tcp": 30.0, "dns": 30.0, "path": 60.0}
_TIMEOUT_SECONDS = 1.0
_MOST_HOSTS = 3  # are asked
_MOST_KEPT = 64
_ASKED = "asked just now; a later call finds the answer"


class _Occasion:
    """A question, when it was asked last, and the newest answer."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.request = {"timeout_seconds": _TIMEOUT_SECONDS, **request, "wait_seconds": 0}
        self.number: int | None = None
        self.asked_at = -float("inf")
        self.origin: tuple[int, int] | None = None
        self.answer: Mapping[str, Any] | None = None
        self.ended_at = 0.0

    def look(self, period: float) -> None:
        """Take the answer if it has come, and ask anew where it is time."""
        source, now = _reading.monitor(), time.monotonic()
        if source is None:
            return
        if self.origin != _reading.origin():
            self.origin, self.number, self.answer, self.asked_at = _reading.origin(), None, None, -float("inf")
        try:
            if self.number is not None:
                number, self.number = self.number, None
                self._take(source._answer(source._library.probe, {"id": number, "wait_seconds": 0}), now)
            elif now - self.asked_at >= period:
                self.asked_at = now
                self._take(source._answer(source._library.probe, self.request), now)
        except Error:
            return  # all requests that the monitor takes are under way; or this one was forgotten

    def _take(self, answer: Mapping[str, Any], now: float) -> None:
        if not answer["done"]:
            self.number = answer["id"]
            return
        self.answer = answer
        age = answer.get("age_seconds")
        self.ended_at = self.asked_at if age is None else now - age


_lock = threading.Lock()
_occasions: dict[tuple[str, str], _Occasion] = {}


@contextlib.contextmanager
def _alone() -> Iterator[bool]:
    """Keep other threads out; whoever would have to wait does without."""
    got = _lock.acquire(blocking=False)
    try:
        yield got
    finally:
        if got:
            _lock.release()


def _newest(kind: str, target: str, request: Mapping[str, Any]) -> _Occasion:
    """Return what is known of a question."""
    with _alone() as alone:
        occasion = _occasions.get((kind, target))
        if occasion is None:
            occasion = _Occasion(request)
        if alone:
            _occasions[kind, target] = occasion
            occasion.look(_PERIOD_SECONDS[kind])
            while len(_occasions) > _MOST_KEPT:
                del _occasions[min(_occasions, key=lambda key: _occasions[key].asked_at)]
    return occasion


def handshake(reach: Reach) -> Value | str:
    """Return the mean time of a TCP handshake with the first hosts, in ms; or why there is none."""
    hosts = _to_ask(reach)
    requests = {host.host: {"target": _questions.tcp_target(host.host)} for host in hosts}
    return _mean("tcp", requests) if hosts else reach.nobody


def resolution(reach: Reach) -> Value | str:
    """Return the mean time that the first names take to resolve, in ms; or why there is none."""
    hosts = _to_ask(reach)
    names = [_questions.bare(host.host) for host in hosts if _questions.is_name(host.host)]
    requests = {name: {"target": name, "method": "dns"} for name in names[:_MOST_HOSTS]}
    if not requests:
        return "no host that is probed is known by a name: there is nothing to resolve" if hosts else reach.nobody
    return _mean("dns", requests)


def path(reach: Reach) -> tuple[Value, Value] | str:
    """Return the hops to the first host and the round trip to its last in ms; or why they are not known."""
    hosts = _to_ask(reach)
    if not hosts:
        return reach.nobody
    host = hosts[0].host
    occasion = _newest("path", host, _questions.path_request(host))
    answer = occasion.answer
    if answer is None:
        return f"{host}: {_ASKED}"
    if not answer["reached"]:
        return f"{host}: {answer['error'] or 'the way to it was not found'}"
    hops, last = answer["hops"], answer["hops"][-1]
    latency = _units.milliseconds(last["rtt_p50_seconds"] or 0.0)
    return (
        Value(len(hops), "trace.hops", host, occasion.ended_at),
        Value(latency, "trace.hops.rtt_p50_seconds", host, occasion.ended_at),
    )


def _to_ask(reach: Reach) -> list[Host]:
    if _reading.why_no_probes() is not None:
        return []
    return [host for host in reach.hosts if not host.resolves][:_MOST_HOSTS]


def _mean(kind: str, requests: Mapping[str, Mapping[str, Any]]) -> Value | str:
    times, reasons, targets, ended = [], [], [], []
    for host, request in requests.items():
        occasion = _newest(kind, host, request)
        answer = occasion.answer
        if answer is not None and answer["received"]:
            times.append(_units.milliseconds(answer["rtt_last_seconds"]))
            targets.append(f"{host} by {answer['method']}")
            ended.append(occasion.ended_at)
        else:
            reasons.append(f"{host}: {_ASKED if answer is None else answer['error'] or 'no answer'}")
    if not times:
        return "; ".join(reasons)
    return Value(sum(times) / len(times), "probe.rtt_last_seconds", ", ".join(targets), min(ended))


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held the lock.
    global _lock
    _lock = threading.Lock()


in_forked_child(_after_fork_in_child)
