"""Memory and processor figures beside the network's: only where they cost next to nothing, and off the training thread."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any

from . import _units

# Why a figure is missing.
NO_PSUTIL = "psutil is not installed"
NO_UTILIZATION = f"{NO_PSUTIL}, or there was no time to measure yet"
_SHORTEST_WINDOW_SECONDS = 0.5

_psutil: Any = None


def processor() -> dict[str, float]:
    """Return ``cpu_utilization`` (percent of the machine) and ``cpu_memory_used`` (GiB, the machine's).

    Without the first one until there was time to measure it; empty where psutil is not installed.
    """
    global _psutil
    if _psutil is None:
        try:
            import psutil  # type: ignore[import-not-found, import-untyped, unused-ignore]

            _psutil = psutil
        except Exception:  # noqa: BLE001 - whatever an optional module raises, training goes on
            _psutil = False
    if not _psutil:
        return {}
    try:
        found = {"cpu_memory_used": _units.gibibytes(_psutil.virtual_memory().used)}
        utilization = _utilization.percent(_psutil.cpu_times(), time.monotonic())
    except Exception:  # noqa: BLE001 - as above
        return {}
    return found if utilization is None else {"cpu_utilization": utilization, **found}


class _Utilization:
    """How busy the processors were since a look a moment ago, for all that ask, as often as they like.

    psutil.cpu_percent compares with its own previous call, by whomever: after a few microseconds that is noise.
    """

    def __init__(self) -> None:
        # When, and the seconds in work and in all states until then.
        self._before: tuple[float, float, float] | None = None
        self._percent: float | None = None

    def percent(self, times: Any, now: float) -> float | None:
        """Return percent, None until ``_SHORTEST_WINDOW_SECONDS`` after the first call.

        Args:
            times: as psutil.cpu_times() returns them.
            now: the monotonic clock.
        """
        # The time of guests is in that of the host already.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        busy = total - times.idle - getattr(times, "iowait", 0.0)
        before = self._before
        if before is None:
            self._before = (now, busy, total)
        elif now - before[0] >= _SHORTEST_WINDOW_SECONDS and total > before[2]:
            self._before = (now, busy, total)
            self._percent = min(100.0, max(0.0, _units.percent(busy - before[1], total - before[2])))
        return self._percent


_utilization = _Utilization()


def memory_percent() -> float | None:
    """Return how much of the machine's memory is in use, in percent; None where psutil is not installed."""
    try:
        return float(_psutil.virtual_memory().percent) if _psutil else None
    except Exception:  # noqa: BLE001 - as above
        return None


def cuda() -> Any:
    """Return torch.cuda where the job has imported torch and uses a GPU, else None. A GPU is never initialised from here."""
    module = sys.modules.get("torch.cuda") if "torch" in sys.modules else None
    try:
        return module if module is not None and module.is_initialized() else None
    except Exception:  # noqa: BLE001 - as above; torch may be half imported
        return None


def current_device() -> int | None:
    """Return the GPU of the calling thread, None where the job uses none."""
    module = cuda()
    try:
        return None if module is None else int(module.current_device())
    except Exception:  # noqa: BLE001 - as above
        return None


def gpu_memory(device: int) -> dict[str, float]:
    """Return ``gpu_memory_allocated`` and ``gpu_memory_used`` (what torch's allocator holds) of a GPU in GiB."""
    module = cuda()
    if module is None:
        return {}
    try:
        return {
            "gpu_memory_used": _units.gibibytes(module.memory_reserved(device)),
            "gpu_memory_allocated": _units.gibibytes(module.memory_allocated(device)),
        }
    except Exception:  # noqa: BLE001 - as above
        return {}


def gpu_count() -> int:
    """Return the number of GPUs that the job sees, 0 where it uses none."""
    module = cuda()
    try:
        return 0 if module is None else int(module.device_count())
    except Exception:  # noqa: BLE001 - as above
        return 0


class GPUMemoryMonitor:
    """The memory that torch's allocator holds on the GPUs of this process; empty where the job uses none."""

    def __init__(self) -> None:
        self.memory_history: deque[dict[str, Any]] = deque(maxlen=1000)

    def get_current_memory_usage(self) -> dict[str, Any]:
        """Return ``device_N`` to GiB used and allocated."""
        usage = {f"device_{device}": gpu_memory(device) for device in range(gpu_count())}
        if usage:
            self.memory_history.append(usage)
        return usage

    def get_memory_trends(self) -> dict[str, list[float]]:
        """Return ``device_N`` to the recorded GiB allocated, oldest first."""
        trends: dict[str, list[float]] = {}
        for usage in list(self.memory_history):
            for device, memory in usage.items():
                trends.setdefault(device, []).append(memory.get("gpu_memory_allocated", 0.0))
        return trends

    def get_memory_stats(self) -> dict[str, Any]:
        """Return ``device_N`` to mean, max and newest of the recorded GiB allocated."""
        return {
            device: {"mean": sum(values) / len(values), "max": max(values), "current": values[-1]}
            for device, values in self.get_memory_trends().items()
        }
