"""Memory and processor figures beside the network's: only where they cost next to nothing, and off the training thread."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

from . import _units

_psutil: Any = None


def processor() -> dict[str, float]:
    """Return ``cpu_utilization`` (percent of the machine since the previous call) and ``cpu_memory_used`` (GiB, the machine's).

    Empty where psutil is not installed.
    """
    global _psutil
    if _psutil is None:
        try:
            import psutil  # type: ignore[import-not-found, import-untyped, unused-ignore]

            _psutil = psutil
            psutil.cpu_percent(interval=None)  # the first call has nothing to compare with
        except Exception:  # noqa: BLE001 - whatever an optional module raises, training goes on
            _psutil = False
    if not _psutil:
        return {}
    try:
        return {
            "cpu_utilization": float(_psutil.cpu_percent(interval=None)),
            "cpu_memory_used": _units.gibibytes(_psutil.virtual_memory().used),
        }
    except Exception:  # noqa: BLE001 - as above
        return {}


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
