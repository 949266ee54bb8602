"""``NetworkInterfaceMonitor``: rates and totals of one interface."""

from __future__ import annotations

import threading
import time
from typing import Any

from . import _reading, _units
from ._measured import Measured, Source
from ._sampling import Sampled, positive

# rldk's keys, and netmon's fields of an interface.
_KEYS = {
    "bytes_in_per_sec": "receive_bytes_per_second",
    "bytes_out_per_sec": "transmit_bytes_per_second",
    "packets_in_per_sec": "receive_packets_per_second",
    "packets_out_per_sec": "transmit_packets_per_second",
    "bytes_in_mbps": "receive_bytes_per_second",
    "bytes_out_mbps": "transmit_bytes_per_second",
    "total_bytes_recv": "receive_bytes_total",
    "total_bytes_sent": "transmit_bytes_total",
    "total_packets_recv": "receive_packets_total",
    "total_packets_sent": "transmit_packets_total",
    "dropin": "receive_drops_total",
    "dropout": "transmit_drops_total",
    "errin": "receive_errors_total",
    "errout": "transmit_errors_total",
}


class NetworkInterfaceMonitor(Sampled):
    """Rates and totals of one interface.

    Args:
        interface_name: which; default the primary one: that which routes to the job's master, or holds the default route. Where
            there is none, all interfaces that count are taken together.
        sampling_frequency: every Nth call of ``get_interface_stats`` measures, the others return what the last one found.

    Raises:
        ValueError: ``sampling_frequency`` is below 1.
    """

    def __init__(self, interface_name: str | None = None, sampling_frequency: int = 1) -> None:
        self._sample_every(positive("sampling_frequency", sampling_frequency))
        self._name = interface_name
        # Kept for callers that take it; nothing is measured under it.
        self._lock = threading.RLock()
        self._last_stats: Measured | None = None
        self._last_time: float | None = None

    @property
    def interface_name(self) -> str:
        """The interface that is read: the one given, else the primary one, found anew each time; empty where there is none."""
        return self._name or self._detect_primary_interface()

    @interface_name.setter
    def interface_name(self, name: str | None) -> None:
        self._name = name
        self._last_stats = None

    def _detect_primary_interface(self) -> str:
        sample = _reading.newest()
        return (_reading.primary(sample) if sample is not None else None) or ""

    def get_interface_stats(self) -> Measured:
        """Return rates over netmon's window (a second, or ``configure(interval=...)``), and totals since netmon started here.

        Returns:
            rldk's 14 keys. ``unmeasured`` names those that are 0 for want of a measurement, as the rates before a first window
            and everything of an interface that is not there; ``sources`` says where the others come from.
        """
        last = self._last_stats
        if not self._measures(found=last is not None and not last.unmeasured) and last is not None:
            return self._again(last)
        sample = _reading.measure()
        stats = self._empty_stats()
        reasons: dict[str, str] = {}
        sources: dict[str, Source] = {}
        name, values = self._choose(sample)
        prefix = f"interfaces.{name}" if self._one(sample) else "totals"
        age = 0.0 if sample is None else max(0.0, time.monotonic() - sample.monotonic_seconds)
        for key, field in _KEYS.items():
            value = values.get(field)
            if value is None:
                reasons[key] = self._why(sample, name, bool(values), field)
                continue
            stats[key] = _value(key, value)
            sources[key] = Source(f"{prefix}.{field}", name, age)
        if sample is not None:
            self._last_time = sample.monotonic_seconds
        self._last_stats = Measured(stats).beside(reasons, sources)
        return Measured(stats).beside(reasons, sources)

    def _again(self, last: Measured) -> Measured:
        older = time.monotonic() - self._last_time if self._last_time is not None else 0.0
        sources = {key: source._replace(age_seconds=older) for key, source in last.sources.items()}
        return Measured(last).beside(last.reasons, sources)

    def _one(self, sample: Any) -> bool:
        return bool(self._name or (sample is not None and _reading.primary(sample)))

    def _choose(self, sample: Any) -> tuple[str, dict[str, Any]]:
        if sample is None:
            return self._name or "", {}
        name = self._name or _reading.primary(sample)
        if name is not None:
            return name, _reading.interface(sample, name) or {}
        totals = sample.totals
        fields = {} if totals is None else {field: getattr(totals, field) for field in _KEYS.values()}
        return _reading.counted(sample), fields

    def _why(self, sample: Any, name: str, there: bool, field: str) -> str:
        if sample is None:
            return _reading.why(sample, "totals")
        if self._name and not there and _reading.interfaces(sample):
            return f"there is no interface {self._name!r}"
        return _reading.why(sample, f"{'interfaces' if self._one(sample) else 'totals'}.{field}")

    def _empty_stats(self) -> dict[str, Any]:
        return dict.fromkeys(_KEYS, 0.0)


def _value(key: str, value: float) -> float:
    if key.endswith("_mbps"):
        return _units.mbps(value)
    return float(value) if key.endswith("_per_sec") else value
