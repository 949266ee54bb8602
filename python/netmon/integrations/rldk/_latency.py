"""``NetworkLatencyMonitor``: round trips to hosts, as the background found them."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable

from ..._types import Sample
from . import _questions, _reach, _reading, _targets
from ._measured import Measured, Source, statistics
from ._reach import Host, Reach
from ._sampling import Sampled, positive

HISTORY = 100
WINDOW_SECONDS = 60.0
_FIRST_SECONDS = 0.1
_FIRST_TIMEOUT_SECONDS = 0.03  # of ICMP, and then of TCP
_ONE_SECONDS = 1.0
_NOTHING_YET = "nothing was measured in the last 60 s"
_NO_ANSWER = "no host answered in the last 60 s"


def look(monitor: object, sample: Sample | None) -> Reach:
    """Return what is known of the hosts of a latency monitor; of one of a program's own, of the default hosts."""
    return monitor._look(sample) if isinstance(monitor, NetworkLatencyMonitor) else _reach.known(sample, None)


class NetworkLatencyMonitor(Sampled):
    """Round-trip times to some hosts, which netmon's background probes once a second.

    Args:
        target_hosts: which, as targets of ``netmon.Monitor`` are written; default (also for an empty list) whom the monitor
            probes anyway: the job's other hosts that are known, and ``configure(targets=...)``. Never a public host.
        sampling_frequency: every Nth call measures, the others return what was found last.

    Raises:
        ValueError: ``sampling_frequency`` is below 1.
    """

    def __init__(self, target_hosts: list[str] | None = None, sampling_frequency: int = 1) -> None:
        self._sample_every(positive("sampling_frequency", sampling_frequency))
        self._hosts = _targets.Hosts(target_hosts)
        self._lock = threading.RLock()
        self.max_history_size = HISTORY
        self.latency_history: dict[str, deque[float]] = {host: self._new_history() for host in self.target_hosts}
        # When what was put into the history here was measured.
        self._measured_at: dict[str, deque[float]] = {}
        self._first_asked: set[str] = set()
        self._last: Measured | None = None
        self._last_at: dict[str, float] = {}

    @property
    def target_hosts(self) -> list[str]:
        """Whom to measure to; may be replaced or changed, and then those hosts are probed from the next measurement on."""
        return self._hosts.texts

    @target_hosts.setter
    def target_hosts(self, hosts: list[str]) -> None:
        self._hosts.texts = hosts

    def _new_history(self) -> deque[float]:
        return deque(maxlen=self.max_history_size)

    def measure_latency(self) -> Measured:
        """Return host to milliseconds: the newest round trip, infinite where the host does not answer.

        It returns what the background knows, at once. Only hosts that this object never measured to before, and that nothing is
        known of, are asked beside it, and waited for 0.1 s. ``reasons`` says why a value is infinite; those of which nothing is
        known at all are ``unmeasured``.
        """
        last = self._last
        if not self._measures(found=last is not None) and last is not None:
            return self._again(last)
        if "_ping_host" in self.__dict__ or type(self)._ping_host is not NetworkLatencyMonitor._ping_host:
            # A program, or a test of one, pings in its own way.
            return Measured({host: self._ping_host(host) for host in self.target_hosts})
        reach = self._look(_reading.measure())
        found = self._first_answers(reach)
        now = time.monotonic()
        values: dict[str, float] = {}
        reasons: dict[str, str] = {}
        sources: dict[str, Source] = {}
        measured_at: dict[str, float] = {}
        for host in reach.hosts:
            if host.host in found:
                values[host.host] = found[host.host]["latency"]
                sources[host.host] = found[host.host].sources["latency"]
                measured_at[host.host] = now
                continue
            values[host.host] = math.inf if host.milliseconds is None else host.milliseconds
            if host.milliseconds is None:
                reasons[host.host] = host.reason
            if host.measured:
                sources[host.host] = Source(_reach.RTT, host.target, max(0.0, now - host.measured_at))
                measured_at[host.host] = host.measured_at
        if not reach.hosts:
            reasons["target_hosts"] = reach.nobody
        self._last, self._last_at = Measured(values).beside(reasons, sources), measured_at
        return Measured(values).beside(reasons, sources)

    def _again(self, last: Measured) -> Measured:
        now = time.monotonic()
        sources = {
            host: source._replace(age_seconds=now - self._last_at.get(host, now)) for host, source in last.sources.items()
        }
        return Measured(last).beside(last.reasons, sources)

    def _first_answers(self, reach: Reach) -> dict[str, Measured]:
        """Ask the hosts of which nothing is known, once each, so that a first call finds those that answer at once."""
        new = [host.host for host in reach.hosts if not host.known and host.host not in self._first_asked]
        self._first_asked.update(new)
        answers = _questions.ask({host: _questions.once(host, _FIRST_TIMEOUT_SECONDS) for host in new}, _FIRST_SECONDS)
        # That nothing came within so little time tells nothing.
        return {host: answer for host, answer in answers.items() if math.isfinite(answer["latency"])}

    def _look(self, sample: Sample | None) -> Reach:
        """Return what is known of the hosts, and keep it for the statistics."""
        reach = _reach.reach(self, self._hosts, sample)
        for host in reach.hosts:
            if host.measured:
                self._keep(host)
        return reach

    def _keep(self, host: Host) -> None:
        """Put a value into the history, once a probe."""
        history = self.latency_history.setdefault(host.host, self._new_history())
        times = self._measured_at.setdefault(host.host, self._new_history())
        # Samples count the age of a probe: the same one ended at slightly different times.
        if not times or host.measured_at - times[-1] > 0.001:
            history.append(math.inf if host.milliseconds is None else host.milliseconds)
            times.append(host.measured_at)

    def _ping_host(self, host: str) -> float:
        """Return the newest round trip to a host in ms, infinite where it does not answer.

        A host that the background does not know is probed now, which takes 1 s at most.
        """
        for known in _reach.known(_reading.measure(), [host]).hosts:
            if known.known:
                return math.inf if known.milliseconds is None else known.milliseconds
        answer = _questions.ask({host: _questions.once(host)}, _ONE_SECONDS).get(host)
        return math.inf if answer is None else float(answer["latency"])

    def get_average_latency(self) -> float:
        """Return the mean of the finite values in ``latency_history`` of the last 60 s, 0.0 where there is none."""
        return statistics(self._values())["mean"]

    def get_latency_stats(self) -> Measured:
        """Return mean, std, min, max and median in milliseconds of these values, zeros where there is none."""
        values = list(self._values())
        stats = statistics(values)
        if any(map(math.isfinite, values)):
            return Measured(stats)
        return Measured(stats).beside(dict.fromkeys(stats, _NO_ANSWER if values else _NOTHING_YET))

    def _values(self) -> Iterable[float]:
        oldest = time.monotonic() - WINDOW_SECONDS
        for host, history in list(self.latency_history.items()):
            values, times = list(history), list(self._measured_at.get(host, ()))
            if len(values) == len(times):
                values = [value for value, when in zip(values, times, strict=True) if when >= oldest]
            yield from values
