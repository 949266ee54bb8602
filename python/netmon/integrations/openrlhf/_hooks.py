"""Which of OpenRLHF's functions are wrapped, and how.

Actors of Ray travel by value from the driver, with the methods that their base classes had when they were decorated; what is
wrapped in the worker is not in them. So plain classes are wrapped, which workers import themselves: the same wraps work in the
driver, in a worker and in a rank of torchrun. Wrapping twice is fine.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from ... import _imports
from . import _loggers, _state

KNOWN = "0.11."

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def _in_phase(name: str) -> Wrap:
    """Return what makes a function one that runs in a phase."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):
            # Ray and asyncio look whether it is one.
            @functools.wraps(function)
            async def asynchronous(*arguments: Any, **options: Any) -> Any:
                with _state.phase(name):
                    return await function(*arguments, **options)

            return asynchronous

        @functools.wraps(function)
        def synchronous(*arguments: Any, **options: Any) -> Any:
            with _state.phase(name):
                return function(*arguments, **options)

        return synchronous

    return wrap


WRAPS: Mapping[str, Mapping[str, Wrap]] = {
    "openrlhf.trainer.ppo_utils.samples_generator": {"SamplesGenerator.generate_samples": _in_phase("generation")},
    "openrlhf.utils.agent": {
        # In the engines' processes, one call for each sample.
        "SingleTurnAgentExecutor.execute": _in_phase("generation"),
        "MultiTurnAgentExecutor.execute": _in_phase("generation"),
    },
    "openrlhf.trainer.ppo_utils.experience_maker": {
        "RemoteExperienceMaker.make_experience_batch": _in_phase("make_experience"),
    },
    "openrlhf.trainer.ray.ppo_actor": {
        "ActorPPOTrainer.ppo_train": _in_phase("ppo_train"),
        "ActorPPOTrainer.broadcast_to_vllm": _in_phase("broadcast"),
    },
    "openrlhf.trainer.ray.ppo_critic": {"CriticPPOTrainer.ppo_train": _in_phase("ppo_train")},
    "openrlhf.trainer.ray.vllm_worker_wrap": {
        # In the engines' processes, one call for each parameter.
        "WorkerWrap.update_weight": _in_phase("broadcast"),
        "WorkerWrap.update_weight_cuda_ipc": _in_phase("broadcast"),
    },
    "openrlhf.utils.deepspeed.deepspeed": {
        "DeepspeedStrategy.save_ckpt": _in_phase("checkpoint"),
        "DeepspeedStrategy.save_model": _in_phase("checkpoint"),
    },
    "openrlhf.utils.logging_utils": {
        "TensorboardLogger.__init__": _loggers.made,
        "TensorboardLogger.log_train": _loggers.tensorboard,
        "WandbLogger.__init__": _loggers.made,
        "WandbLogger.log_train": _loggers.wandb,
    },
    "openrlhf.trainer.sft_trainer": {"SFTTrainer.save_logs_and_checkpoints": _loggers.trainer},
    "openrlhf.trainer.rm_trainer": {"RewardModelTrainer.save_logs_and_checkpoints": _loggers.trainer},
    "openrlhf.trainer.dpo_trainer": {"DPOTrainer.save_logs_and_checkpoints": _loggers.trainer},
}

_checked = False


def install() -> None:
    """Wrap what OpenRLHF has imported, and what it imports from now on. Installing twice is fine."""
    _imports.install()


def imported(module: ModuleType) -> None:
    """Wrap a module of OpenRLHF's that has just been loaded."""
    _imports.guarded(_check_version)
    for place, wrap in WRAPS.get(module.__name__, {}).items():
        owner, _, name = place.partition(".")
        cls = getattr(module, owner, None)
        function = None if cls is None else cls.__dict__.get(name)
        if not inspect.isfunction(function) or hasattr(function, "__netmon__"):
            continue  # what is missing was named by _check_version
        wrapper = wrap(function)
        wrapper.__netmon__ = function  # type: ignore[attr-defined]
        setattr(cls, name, wrapper)


def _check_version() -> None:
    global _checked
    if _checked:
        return
    _checked = True
    try:
        installed = version("openrlhf")
    except PackageNotFoundError:
        installed = "of no known version"
    gone = missing()
    if gone:
        _imports.warn(
            f"netmon knows OpenRLHF {KNOWN}x; in OpenRLHF {installed} it cannot hook {', '.join(gone)}; the rest is hooked"
        )


def missing() -> list[str]:
    """Return what the installed OpenRLHF has not, of what is wrapped, without importing it."""
    gone = []
    for name, places in WRAPS.items():
        there = _methods(name)
        gone += [f"{name.rpartition('.')[2]}.{place}" for place in places if place not in there]
    return gone


def _methods(module: str) -> set[str]:
    # Its place is told by the package's: to ask for a module's own is to import the packages that it is in.
    *packages, name = module.split(".")
    loaded = sys.modules.get(packages[0])
    spec = find_spec(packages[0]) if loaded is None else None
    folders = spec.submodule_search_locations if spec is not None else getattr(loaded, "__path__", None)
    for folder in folders or ():
        file = Path(folder, *packages[1:], f"{name}.py")
        if file.is_file():
            tree = ast.parse(file.read_text(encoding="utf-8"))
            break
    else:
        return set()
    return {
        f"{cls.name}.{function.name}"
        for cls in tree.body
        if isinstance(cls, ast.ClassDef)
        for function in cls.body
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    }
