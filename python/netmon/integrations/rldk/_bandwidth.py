"""``NetworkBandwidthMonitor``: what the interfaces carry. Tools are not run by this version."""

from __future__ import annotations

import threading
import time
from collections import deque

from . import _reading
from ._measured import Measured, statistics
from ._metrics import mbps
from ._sampling import Sampled, positive

HISTORY = 100


class NetworkBandwidthMonitor(Sampled):
    """The throughput of the interfaces that count, both directions added, in Mbps: what passes, not what could pass.

    rldk puts the result of a speed test into the same value; netmon never runs one unless it is asked for in so many words, and
    this version cannot.

    Args:
        sampling_frequency: every Nth call of ``measure_bandwidth`` measures.

    Raises:
        ValueError: ``sampling_frequency`` is below 1.
    """

    def __init__(self, sampling_frequency: int = 1) -> None:
        self._sample_every(positive("sampling_frequency", sampling_frequency))
        self._lock = threading.RLock()
        self.max_history_size = HISTORY
        self.bandwidth_history: deque[float] = deque(maxlen=self.max_history_size)
        self._last_measurement = 0.0
        self.measurement_interval = 10.0

    def measure_bandwidth(self) -> float:
        """Return Mbps: measured now, or the last value, within ``measurement_interval`` seconds and between sampled calls.

        0.0 until a first window exists; such a call enters no history.
        """
        history = list(self.bandwidth_history)
        now = time.monotonic()
        recent = bool(self._last_measurement) and now - self._last_measurement < self.measurement_interval
        if not self._measures(found=bool(history)) or (history and recent):
            return history[-1]
        value = _throughput()
        if value is None:
            return history[-1] if history else 0.0
        self.bandwidth_history.append(value)
        self._last_measurement = now
        return value

    def _measure_with_speedtest(self) -> float:
        return 0.0

    def _measure_with_iperf(self) -> float:
        return 0.0

    def _estimate_from_interface(self) -> float:
        return _throughput() or 0.0

    def get_bandwidth_stats(self) -> Measured:
        """Return mean, std, min, max and median in Mbps of what was measured, zeros where nothing was."""
        values = list(self.bandwidth_history)
        stats = statistics(values)
        return Measured(stats).beside({} if values else dict.fromkeys(stats, "nothing was measured yet"))


def _throughput() -> float | None:
    sample = _reading.measure()
    totals = sample.totals if sample is not None else None
    if totals is None or totals.receive_bytes_per_second is None or totals.transmit_bytes_per_second is None:
        return None
    return mbps(totals.receive_bytes_per_second + totals.transmit_bytes_per_second)
