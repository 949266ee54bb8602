"""Tests of throughput by iperf3 and speedtest-cli: run only where a caller said so, and never in the calling thread."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import c_void_p
from typing import Any

from ..._errors import Error, InvalidArgumentError
from ..._monitor import Monitor, _decode
from ..._types import BandwidthTest, _build
from . import _reading, _units
from ._measured import Source
from ._sampling import positive

IPERF3_NOT_ASKED = "not run: it makes traffic, so its server has to be named (iperf3_server=...)"
SPEEDTEST_NOT_ASKED = "not run: it makes traffic to the internet, so it has to be asked for (speedtest=True)"

Request = Mapping[str, Any]


class Tools:
    """Which tools an object may run, as its caller said. The attributes may be changed at any time.

    Attributes:
        iperf3_server: an ``iperf3 --server`` to measure with, ``"10.0.0.2"`` or ``"10.0.0.2:5201"``; None: iperf3 is not run.
        iperf3_reverse: measure what the server sends to here, instead of what goes there.
        iperf3_parallel: connections, 1 to 8.
        speedtest: whether speedtest-cli may measure with a server on the internet that it chooses.
    """

    iperf3_server: str | None
    iperf3_reverse: bool
    iperf3_parallel: int
    speedtest: bool

    def _allow(self, iperf3_server: str | None, iperf3_reverse: bool, iperf3_parallel: int, speedtest: bool) -> None:
        self.iperf3_server = iperf3_server
        self.iperf3_reverse = iperf3_reverse
        self.iperf3_parallel = positive("iperf3_parallel", iperf3_parallel)
        self.speedtest = speedtest

    def _iperf3(self, seconds: int, timeout: int) -> Request | None:
        """Return the request for a test by iperf3, None where it may not be run."""
        if self.iperf3_server is None:
            return None
        return {
            "tool": "iperf3",
            "target": self.iperf3_server,
            "direction": "receive" if self.iperf3_reverse else "transmit",
            "seconds": seconds,
            "parallel": self.iperf3_parallel,
            "timeout_seconds": timeout,
        }

    def _speedtest(self, direction: str, timeout: int) -> Request | None:
        """Return the request for a test by speedtest-cli, None where it may not be run."""
        if not self.speedtest:
            return None
        return {"tool": "speedtest-cli", "direction": direction, "timeout_seconds": timeout}


class Running:
    """A test that goes on in the background of netmon, whoever asks for it, in the process that started it.

    Raises:
        Error: it cannot be started.
    """

    def __init__(self, source: Monitor, request: Request) -> None:
        self.request = request
        self._source = source
        self._origin = _reading.origin()
        # Where the answer waits too long to be fetched, it is still among the samples' newest tests.
        self._before = _tests(source, request)
        first = c_void_p()
        try:
            source._request(source._library.bandwidth, {**request, "wait_seconds": 0}, first)
            self._id = _decode(first)["id"]
        finally:
            source._library.free(first)

    def result(self) -> tuple[BandwidthTest, ...] | str | None:
        """Return what came of it, one direction after the other, or why nothing did; None: it goes on."""
        if self._origin != _reading.origin():
            return "the test belongs to a process or monitor before this one"
        try:
            answer = self._source._answer(self._source._library.bandwidth, {"id": self._id, "wait_seconds": 0})
            return _built(answer) if answer["done"] else None
        except InvalidArgumentError:
            return self._from_samples()
        except Error as error:
            return str(error)

    def _from_samples(self) -> tuple[BandwidthTest, ...] | str:
        try:
            tests = _tests(self._source, self.request)
        except Error as error:
            return str(error)
        return tuple(test for test in tests if test not in self._before) or _FORGOTTEN


_FORGOTTEN = "nobody asked for the result of the test for too long"


def _tests(source: Monitor, request: Request) -> tuple[BandwidthTest, ...]:
    tests = source.sample().bandwidth_tests or ()
    return tuple(test for test in tests if test.tool == request["tool"] and test.target == request.get("target", test.target))


def _built(answer: Mapping[str, Any]) -> tuple[BandwidthTest, ...]:
    return tuple(_build(BandwidthTest, test) for test in answer["tests"])


def wait(request: Request) -> tuple[BandwidthTest, ...] | str:
    """Run a test and wait for its end, which its timeout bounds; return what came of it, or why nothing did.

    Ctrl-C ends it within 0.1 s.
    """
    source = _reading.monitor()
    if source is None:
        return _reading.why(None, "bandwidth_tests")
    try:
        return _built(source._on_demand(source._library.bandwidth, request))
    except Error as error:
        return str(error)


def mbps(test: BandwidthTest) -> float | None:
    """Return the figure of a test in Mbps: the receiver's, or where only the sender's is known, that."""
    rate = test.sender_bytes_per_second if test.receiver_bytes_per_second is None else test.receiver_bytes_per_second
    return None if rate is None else _units.mbps(rate)


def source_of(test: BandwidthTest, age_seconds: float = 0.0) -> Source:
    """Say where the figure of a test comes from: tool, direction, which end's figure, over what time; and whom it is about."""
    end = "sender" if test.receiver_bytes_per_second is None else "receiver"
    over = "" if test.seconds is None else f" over {test.seconds:.3g} s"
    return Source(f"{test.tool} {test.direction}, {end}'s figure{over}", test.target, age_seconds)
