"""Lets the unmodified OpenRLHF, which asks for CUDA by name, run on processors: in every Python process that finds it.

Nothing is loaded before torch is. It stands for a sitecustomize of the user's: netmon's has to make way for it.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class _Processor(str):
    """``"cpu"`` as a device, and 0 where a number of a GPU is asked for: ``f"cuda:{device}"``."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return "0"


def _without_cuda(torch: Any) -> None:
    if torch.cuda.is_available():
        return
    torch.cuda.current_device = lambda: _Processor("cpu")
    for name in ("set_device", "synchronize", "empty_cache", "current_stream"):
        setattr(torch.cuda, name, lambda *arguments, **options: None)
    import torch.distributed.device_mesh as meshes

    real = meshes.init_device_mesh

    def init_device_mesh(device_type: str, *arguments: Any, **options: Any) -> Any:
        return real("cpu" if device_type == "cuda" else device_type, *arguments, **options)

    meshes.init_device_mesh = torch.distributed.init_device_mesh = init_device_mesh


class _AfterTorch:
    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _without_cuda(module)

            spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _AfterTorch())
