"""Probes on demand: questions about hosts, asked side by side and waited for no longer than is said.

A question is a generator. It yields requests of ``netmon_probe`` and is sent the answer to each; what it returns is the answer
to the question. One whose time is up is sent what there is so far, with ``cut``, and returns.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import time
from collections import deque
from collections.abc import Generator, Hashable, Mapping
from ctypes import c_void_p
from typing import Any, NamedTuple, TypeVar

from ..._errors import Error, InvalidArgumentError, ResourceError
from ..._monitor import Monitor, _decode
from . import _reading, _units
from ._measured import Measured, Source, statistics

Answer = dict[str, Any]
Key = TypeVar("Key", bound=Hashable)
Question = Generator[Mapping[str, Any], Answer, Measured]

# A probe without an answer is lost after this. A host that is silent is asked twice: by ICMP, then by TCP.
TIMEOUT_SECONDS = 0.75
_MOST_AT_A_TIME = 16  # requests that a monitor takes
_SLICE_SECONDS = 0.02
_PINGS = 4
_PROBES_PER_HOP = 2
_NOTHING: Answer = {"sent": 0, "received": 0, "lost": 0, "error": None, "hops": [], "cut": True}


def ask(questions: Mapping[Key, Question], seconds: float) -> dict[Key, Measured]:
    """Ask questions side by side and return the answers; those that could not be begun in time have none.

    Args:
        questions: by what their answers are to be found by.
        seconds: how long this may take in all. Ctrl-C ends it at once.
    """
    source = _reading.monitor() if questions and _reading.why_no_probes() is None else None
    if source is None:
        return {}
    asking = _Asking(source, questions)
    try:
        asking.go_on(time.monotonic() + seconds)
        asking.cut()
    except Error:
        pass  # the monitor was closed meanwhile, or cannot be used in this process
    finally:
        asking.give_up()
    return asking.answers


class _Waiting(NamedTuple):
    key: Any
    question: Question
    request: Mapping[str, Any]
    begun: bool


class _Asking:
    def __init__(self, source: Monitor, questions: Mapping[Any, Question]) -> None:
        self.answers: dict[Any, Measured] = {}
        self._source = source
        self._waiting: deque[_Waiting] = deque()
        self._under_way: dict[int, _Waiting] = {}
        # The first answers stay in the library's hands to the end: an interrupt that comes before Python has read one finds
        # there what is to be cancelled.
        self._first: list[c_void_p] = []
        self._ended: set[int] = set()
        for key, question in questions.items():
            self._waiting.append(_Waiting(key, question, next(question), False))

    def go_on(self, end: float) -> None:
        """Ask until all is answered, or the time is up."""
        while self._waiting or self._under_way:
            while self._waiting and len(self._under_way) < _MOST_AT_A_TIME and time.monotonic() < end:
                if not self._start(self._waiting[0]):
                    break
            if time.monotonic() >= end:
                return
            if not self._under_way:
                time.sleep(_SLICE_SECONDS)  # others have all the requests that the monitor takes
            wait = _SLICE_SECONDS
            for number in list(self._under_way):
                answer = self._source._answer(self._source._library.probe, {"id": number, "wait_seconds": wait})
                wait = 0.0
                if answer["done"]:
                    self._ended.add(number)
                    self._answered(self._under_way.pop(number), answer)

    def _start(self, first: _Waiting) -> bool:
        """Send the request that waits longest, and tell whether the monitor took it."""
        text = c_void_p()
        self._first.append(text)
        try:
            self._source._request(self._source._library.probe, {**first.request, "wait_seconds": 0}, text)
        except ResourceError:
            self._first.pop()
            return False
        except InvalidArgumentError as error:
            self._first.pop()
            answer = {**_NOTHING, "error": str(error), "done": True}
        else:
            answer = _decode(text)
        self._waiting.popleft()
        if answer["done"]:
            self._ended.add(answer.get("id", 0))
            self._answered(first, answer)
        else:
            self._under_way[answer["id"]] = first._replace(begun=True)
        return True

    def _answered(self, one: _Waiting, answer: Answer) -> None:
        try:
            request = one.question.send(answer)
        except StopIteration as stop:
            self.answers[one.key] = stop.value
        else:
            # Before others are begun with.
            self._waiting.appendleft(one._replace(request=request, begun=True))

    def cut(self) -> None:
        """Have the questions that are begun answered with what is known so far."""
        for number, one in list(self._under_way.items()):
            del self._under_way[number]
            answer = self._source._answer(self._source._library.probe, {"id": number, "cancel": True})
            self._ended.add(number)
            self._answered(one, {**answer, "cut": True})
        for one in list(self._waiting):
            if one.begun:
                self._answered(one, _NOTHING)

    def give_up(self) -> None:
        """End what is under way."""
        for first in self._first:
            number = _decode(first)["id"] if first.value is not None else None
            if number is not None and number not in self._ended:
                with contextlib.suppress(Error):
                    self._source._answer(self._source._library.probe, {"id": number, "cancel": True})
            self._source._library.free(first)


def ping(host: str) -> Question:
    """Ask for four round trips: their mean, minimum, maximum and standard deviation in ms, and the loss in percent."""
    answer = yield {"target": host, "timeout_seconds": TIMEOUT_SECONDS}
    if not answer["received"]:
        return _ping_failed(answer, host)
    times, sent = [answer["rtt_last_seconds"]], answer["sent"]
    method, address = answer["method"], answer["address"]
    again: Mapping[str, Any] = {"target": address, "method": "icmp"}
    if method != "icmp":
        filtered = answer["methods_refused"].get("icmp", "")
        again, by_icmp = {"target": host}, again
        if filtered.startswith("no answer") and not answer.get("cut"):
            # One echo may be lost on the way; a host that answers none does not answer echoes.
            second = yield {**by_icmp, "timeout_seconds": TIMEOUT_SECONDS}
            if second["received"]:
                answer, again, method, times, sent = second, by_icmp, "icmp", [second["rtt_last_seconds"]], 2
    while sent < _PINGS and not answer.get("cut"):
        answer = yield {**again, "timeout_seconds": TIMEOUT_SECONDS}
        sent += answer["sent"]
        if answer["received"] and answer["method"] == method:
            times.append(answer["rtt_last_seconds"])
    stats = statistics(map(_units.milliseconds, times))
    values = {
        "latency": stats["mean"],
        "min_latency": stats["min"],
        "max_latency": stats["max"],
        "std_latency": stats["std"],
        "packet_loss": _units.percent(sent - len(times), sent),
    }
    return Measured(values, success=True).beside(sources=dict.fromkeys(values, _source(method, address)))


def once(target: str, timeout: float = TIMEOUT_SECONDS) -> Question:
    """Ask for one round trip, in ms."""
    answer = yield {"target": target, "timeout_seconds": timeout}
    if not answer["received"]:
        return _failed(answer, target, "latency", latency=math.inf)
    found = Measured(latency=_units.milliseconds(answer["rtt_last_seconds"]), success=True)
    return found.beside(sources={"latency": _source(answer["method"], answer["address"])})


def resolve(name: str) -> Question:
    """Ask how long the system's resolver takes for a name, in ms."""
    answer = yield {"target": bare(name), "method": "dns", "timeout_seconds": TIMEOUT_SECONDS}
    if not answer["received"]:
        return _failed(answer, name, "resolution_time_ms", resolution_time_ms=math.inf, success=False)
    milliseconds = _units.milliseconds(answer["rtt_last_seconds"])
    found = Measured(resolved_ip=answer["address"], resolution_time_ms=milliseconds, success=True)
    return found.beside(sources={"resolution_time_ms": _source("dns", name)})


def connect(host: str, port: int) -> Question:
    """Ask whether a TCP port accepts, and how long the handshake, or the refusal, takes in ms."""
    answer = yield {"target": tcp_target(host, port), "timeout_seconds": TIMEOUT_SECONDS}
    if not answer["received"]:
        return _failed(answer, host, "connected", connected=False, success=False)
    time_ms = {"connect_time_ms": _units.milliseconds(answer["rtt_last_seconds"])}
    if answer["method"] == "tcp":
        found = Measured(connected=True, **time_ms, success=True)
    else:
        found = Measured(error="connection refused", connected=False, success=False, **time_ms)
    return found.beside(sources={"connect_time_ms": _source(answer["method"], answer["address"])})


def echo(host: str) -> Question:
    """Ask for a UDP echo of a monitor with a ``udp_responder``, and how long it takes in ms."""
    target = host if host.startswith("udp://") else f"udp://{_in_brackets(bare(host))}"
    answer = yield {"target": target, "timeout_seconds": TIMEOUT_SECONDS}
    if not answer["received"]:
        return _failed(answer, host, "success", success=False)
    found = Measured(connect_time_ms=_units.milliseconds(answer["rtt_last_seconds"]), success=True)
    return found.beside(sources={"connect_time_ms": _source("udp", answer["address"])})


def trace(host: str) -> Question:
    """Ask for the hops on the way to a host; an unanswered one has no ``ip`` and no ``latency_ms``."""
    answer = yield path_request(host)
    hops, asked = answer["hops"], bool(answer["hops"])
    while hops and not answer["reached"] and hops[-1]["address"] is None:
        hops = hops[:-1]
    table = [{"hop": hop["ttl"], "ip": hop["address"], "latency_ms": _hop_ms(hop)} for hop in hops]
    if not answer.get("reached"):
        silent = f"nobody answers behind hop {len(hops)}" if hops else "nobody answers on the way"
        answer = {
            **answer,
            "error": answer["error"] or silent,
            "sent": asked or (answer["error"] is not None and not answer.get("cut")),
        }
        found = _failed(answer, host, "final_latency_ms", success=False)
        found.update(hops=table, total_hops=len(table), final_latency_ms=math.inf)
        return found
    found = Measured(hops=table, total_hops=len(table), final_latency_ms=table[-1]["latency_ms"], success=True)
    source = Source("trace", f"{host} ({answer['address']})", 0.0)
    return found.beside(sources=dict.fromkeys(("total_hops", "final_latency_ms"), source))


def path_request(host: str) -> Mapping[str, Any]:
    """Return the request for the path to a host."""
    return {"target": bare(host), "method": "path", "count": _PROBES_PER_HOP, "timeout_seconds": TIMEOUT_SECONDS}


def _hop_ms(hop: Mapping[str, Any]) -> float | None:
    seconds = hop["rtt_p50_seconds"]
    return None if seconds is None else _units.milliseconds(seconds)


def _source(method: str, target: str) -> Source:
    return Source(f"probe by {method}", target, 0.0)


def _failed(answer: Answer, host: str, key: str, **values: Any) -> Measured:
    """Return rldk's shape of a failure. That nobody answered, or a name did not resolve, is a measurement."""
    unresolved = answer["error"] is not None and answer.get("address", "") is None
    measured = bool(answer["sent"]) or unresolved
    error = answer["error"] or (f"no answer within {TIMEOUT_SECONDS:g} s" if measured else "no probe has ended yet")
    source = Source(f"probe by {answer.get('method') or 'no method'}", host, 0.0)
    return Measured(error=error, **values).beside({key: error}, {key: source} if measured else {})


def _ping_failed(answer: Answer, host: str) -> Measured:
    """Return rldk's shape of a ping without an answer, in rldk's words."""
    found = _failed(answer, host, "latency", latency=math.inf)
    words = "Ping timeout" if found["error"].startswith("no answer") else "Ping failed"
    found["error"] = f"{words}: {found['error']}"
    return found


def bare(host: str) -> str:
    """Return the address or name in a target, without scheme, brackets and port."""
    rest = host.partition("://")[2] or host
    if rest.startswith("["):
        return rest[1:].partition("]")[0]
    return rest.partition(":")[0] if rest.count(":") == 1 else rest


def tcp_target(host: str, port: int | None = None) -> str:
    """Return the target for TCP handshakes with a host; without a port the one that netmon chooses."""
    return f"tcp://{_in_brackets(bare(host))}" + ("" if port is None else f":{port}")


def _in_brackets(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def is_name(host: str) -> bool:
    """Return whether a target is written with a name, which has to be resolved."""
    text = bare(host)
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return text != "gateway"
    return False
