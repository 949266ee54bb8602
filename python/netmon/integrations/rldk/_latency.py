"""``NetworkLatencyMonitor``: the surface of rldk's; nothing is sent by this version."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable

from . import _reading
from ._identity import master_address
from ._metrics import Measured, statistics
from ._sampling import Sampled, positive

HISTORY = 100


class NetworkLatencyMonitor(Sampled):
    """Round-trip times to some hosts. This version of netmon measures none: no packet is sent, and nothing waits.

    Args:
        target_hosts: which; default (also for an empty list) the job's master, where one is known. Never a public host.
        sampling_frequency: every Nth call measures.

    Raises:
        ValueError: ``sampling_frequency`` is below 1.
    """

    def __init__(self, target_hosts: list[str] | None = None, sampling_frequency: int = 1) -> None:
        self._sample_every(positive("sampling_frequency", sampling_frequency))
        self.target_hosts = list(target_hosts) if target_hosts else master_address()
        self._lock = threading.RLock()
        self.max_history_size = HISTORY
        self.latency_history: dict[str, deque[float]] = {
            host: deque(maxlen=self.max_history_size) for host in self.target_hosts
        }

    def measure_latency(self) -> Measured:
        """Return host to milliseconds: infinite for all of them, because nothing is measured yet."""
        self._measures(found=False)
        values = {host: self._ping_host(host) for host in self.target_hosts}
        return Measured(values).beside(dict.fromkeys(values, _reading.NOT_YET))

    def _ping_host(self, host: str) -> float:
        return math.inf

    def get_average_latency(self) -> float:
        """Return the mean of the finite values in ``latency_history``, 0.0 where there is none."""
        return statistics(self._values())["mean"]

    def get_latency_stats(self) -> Measured:
        """Return mean, std, min, max and median in milliseconds of ``latency_history``, zeros where there is none."""
        values = list(self._values())
        stats = statistics(values)
        return Measured(stats).beside({} if values else dict.fromkeys(stats, _reading.NOT_YET))

    def _values(self) -> Iterable[float]:
        return [value for history in list(self.latency_history.values()) for value in list(history) if math.isfinite(value)]
