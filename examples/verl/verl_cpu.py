"""A platform of verl's for processors: by its own plug-in, VERL_USE_EXTERNAL_MODULES=verl_cpu and VERL_PLATFORM=cpu."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import Any

import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """Processors, which need hardly anything of what verl asks of a device."""

    device_name = vendor_name = "cpu"
    device_module = torch.cpu

    def _nothing(self, *arguments: Any, **options: Any) -> None:
        return None

    def _yes(self, *arguments: Any, **options: Any) -> bool:
        return True

    is_available = is_platform_available = _yes
    is_ipc_supported = set_device = synchronize = manual_seed = manual_seed_all = set_allocator_settings = _nothing
    empty_cache = profiler_start = profiler_stop = cudart = _nothing

    def current_device(self) -> str:
        """Return what tensors are made on."""
        return "cpu"

    def device_count(self) -> int:
        """Return how many there are for a rank."""
        return 1

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        """Return nothing."""
        return None, None

    def communication_backend_name(self) -> str:
        """Return what collectives go over."""
        return "gloo"

    def visible_devices_envvar(self) -> str:
        """Return a variable that means nothing here."""
        return "CUDA_VISIBLE_DEVICES"

    def nvtx_range(self, msg: str) -> Any:
        """Return a block without a mark."""
        return nullcontext()

    def ray_resource_name(self) -> str:
        """Return what a worker of Ray takes."""
        return "CPU"

    def ray_noset_envvars(self) -> list[str]:
        """Return nothing."""
        return []


def _one_backend(initialize: Any) -> Any:
    @functools.wraps(initialize)
    def init_process_group(backend: str | None = None, *arguments: Any, **options: Any) -> None:
        # verl names one for the processor and one for the platform's device, which is the processor too.
        initialize("gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *arguments, **options)

    return init_process_group


torch.distributed.init_process_group = _one_backend(torch.distributed.init_process_group)

# What verl asks every device for, and a processor does not tell.
for _name in ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved", "reset_peak_memory_stats"):
    setattr(torch.cpu, _name, lambda *arguments: 0)
torch.cpu.empty_cache = torch.cpu.ipc_collect = lambda: None
torch.cpu.mem_get_info = lambda *arguments: (0, 0)
