"""``NetworkBandwidthMonitor``: what the interfaces carry or, where a caller says so, what a tool can push through."""

from __future__ import annotations

import threading
import time
from collections import deque

from ..._errors import Error
from ..._types import BandwidthTest
from . import _reading, _tools, _units
from ._measured import Measured, statistics
from ._sampling import Sampled, positive
from ._tools import Request, Running, Tools
from ._trouble import process

HISTORY = 100
_IPERF3_SECONDS, _IPERF3_TIMEOUT_SECONDS = 5, 15
_SPEEDTEST_TIMEOUT_SECONDS = 30


class NetworkBandwidthMonitor(Tools, Sampled):
    """Bandwidth in Mbps, one quantity an object: what passes, or what a tool measures.

    As it is made by default it sends nothing: the value is the throughput of the interfaces that count, both directions added.
    With ``speedtest=True`` it is the download of speedtest-cli; else with ``iperf3_server`` what iperf3's receiver got. Such a
    test runs in netmon's background, at most one at a time in a process; ``measure_bandwidth`` starts it and returns at once.

    Args:
        sampling_frequency: every Nth call of ``measure_bandwidth`` measures.
        iperf3_server: an ``iperf3 --server`` that iperf3 may measure with, ``"10.0.0.2"`` or ``"10.0.0.2:5201"``.
        iperf3_reverse: measure what it sends to here, instead of what goes there.
        iperf3_parallel: connections of iperf3, 1 to 8.
        speedtest: whether speedtest-cli may measure with a server on the internet.

    Attributes:
        last_tests: what came of the newest test, a ``netmon.BandwidthTest`` for each direction.
        problem: why the newest measurement gave no value, None where it gave one.

    Raises:
        ValueError: ``sampling_frequency`` or ``iperf3_parallel`` is below 1.
    """

    def __init__(
        self,
        sampling_frequency: int = 1,
        *,
        iperf3_server: str | None = None,
        iperf3_reverse: bool = False,
        iperf3_parallel: int = 1,
        speedtest: bool = False,
    ) -> None:
        self._sample_every(positive("sampling_frequency", sampling_frequency))
        self._allow(iperf3_server, iperf3_reverse, iperf3_parallel, speedtest)
        self._lock = threading.RLock()
        self.max_history_size = HISTORY
        self.bandwidth_history: deque[float] = deque(maxlen=self.max_history_size)
        self._last_measurement = 0.0
        self.measurement_interval = 10.0
        self.last_tests: tuple[BandwidthTest, ...] = ()
        self.problem: str | None = None
        self._running: list[Running] = []
        self._quantity: object = None  # that the history is of

    def measure_bandwidth(self) -> float:
        """Return Mbps: measured now, or the last value, within ``measurement_interval`` seconds and between sampled calls.

        A tool takes its time: its value is returned by the first call after its end, and the next test begins
        ``measurement_interval`` seconds after that at the earliest. 0.0 until something was measured, and ``problem`` says why;
        what failed enters no history.
        """
        own = [name for name in _METHODS if self._is_replaced(name)]
        request = self._request()
        self._measure_only("a program's own" if own else request or "interfaces")
        self._take_over()
        history = list(self.bandwidth_history)
        measures = self._measures(found=bool(history))
        recent = bool(self._last_measurement) and time.monotonic() - self._last_measurement < self.measurement_interval
        if not measures or (recent and (history or request)):
            pass
        elif own:
            # A program, or a test of one, measures in its own way.
            values = (float(getattr(self, name)()) for name in own)
            self._remember(next((value for value in values if value > 0), "none of the program's own methods found any"))
        elif request is not None:
            self._start(request)
        else:
            self._remember(_throughput())
        history = list(self.bandwidth_history)
        return history[-1] if history else 0.0

    def _measure_only(self, quantity: object) -> None:
        """Forget values of another quantity: what passes, and what a tool can push through, are nothing to compare."""
        if quantity != self._quantity:
            if self._quantity is not None:
                self.bandwidth_history.clear()
                self._last_measurement = 0.0
                self.last_tests = ()
            self._quantity = quantity

    def _is_replaced(self, name: str) -> bool:
        return getattr(getattr(self, name), "__func__", None) is not getattr(NetworkBandwidthMonitor, name)

    def _request(self) -> Request | None:
        """Return the request for the tool that measures here, None for none."""
        return self._speedtest("receive", _SPEEDTEST_TIMEOUT_SECONDS) or self._iperf3(_IPERF3_SECONDS, _IPERF3_TIMEOUT_SECONDS)

    def _start(self, request: Request) -> None:
        source = _reading.monitor()
        if source is None:
            self.problem = _reading.why(None, "bandwidth_tests")
        elif not self._running:
            try:
                self._running.append(Running(source, request))
            except Error as error:
                self.problem = str(error)

    def _take_over(self) -> None:
        """Take over what came of a test that has ended."""
        try:
            running = self._running.pop()  # of threads that call at the same time one has it
        except IndexError:
            return
        found = running.result()
        if found is None:
            self._running.append(running)
        elif running.request == self._request():
            self._remember(self._figure(found))
            self._last_measurement = time.monotonic()  # also where it failed: it is not tried again at once

    def _figure(self, found: tuple[BandwidthTest, ...] | str) -> float | str:
        """Return what came of a test in Mbps, or why nothing did."""
        self.last_tests = () if isinstance(found, str) else found
        figures = [value for value in map(_tools.mbps, self.last_tests) if value is not None]
        if figures:
            process.settle("bandwidth")
            return figures[0]
        errors = found if isinstance(found, str) else "; ".join(test.error or "nothing was measured" for test in found)
        process.tell("bandwidth", f"a bandwidth test gave nothing: {errors}")
        return errors

    def _remember(self, found: float | str) -> None:
        """Keep a value, or why there is none."""
        if isinstance(found, str):
            self.problem = found
            return
        self.problem = None
        self.bandwidth_history.append(found)
        self._last_measurement = time.monotonic()

    def _measure_with_speedtest(self) -> float:
        """Run speedtest-cli, if it may be, and wait for its end, 30 s at most; Mbps received, 0.0 where it gave nothing."""
        request = self._speedtest("receive", _SPEEDTEST_TIMEOUT_SECONDS)
        return self._waited(request, _tools.SPEEDTEST_NOT_ASKED)

    def _measure_with_iperf(self) -> float:
        """Run iperf3, if it may be, for 5 s, and wait for its end, 15 s at most; Mbps, 0.0 where it gave nothing."""
        return self._waited(self._iperf3(_IPERF3_SECONDS, _IPERF3_TIMEOUT_SECONDS), _tools.IPERF3_NOT_ASKED)

    def _waited(self, request: Request | None, otherwise: str) -> float:
        found = otherwise if request is None else self._figure(_tools.wait(request))
        self.problem = found if isinstance(found, str) else None
        return 0.0 if isinstance(found, str) else found

    def _estimate_from_interface(self) -> float:
        found = _throughput()
        return 0.0 if isinstance(found, str) else found

    def get_bandwidth_stats(self) -> Measured:
        """Return mean, std, min, max and median in Mbps of what was measured, zeros where nothing was."""
        values = list(self.bandwidth_history)
        stats = statistics(values)
        reason = self.problem or "nothing was measured yet"
        if not values:
            return Measured(stats).beside(dict.fromkeys(stats, reason))
        figures = [test for test in self.last_tests if _tools.mbps(test) is not None]
        age = max(0.0, time.monotonic() - self._last_measurement)
        return Measured(stats).beside(sources=dict.fromkeys(stats, _tools.source_of(figures[0], age)) if figures else None)


# In rldk's order.
_METHODS = ("_measure_with_speedtest", "_measure_with_iperf", "_estimate_from_interface")


def _throughput() -> float | str:
    """Return what the interfaces that count carry, or why it is not known."""
    sample = _reading.measure()
    totals = sample.totals if sample is not None else None
    if totals is None or totals.receive_bytes_per_second is None or totals.transmit_bytes_per_second is None:
        return _reading.why(sample, "totals.receive_bytes_per_second")
    return _units.mbps(totals.receive_bytes_per_second + totals.transmit_bytes_per_second)
