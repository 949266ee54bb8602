"""What of verl's is wrapped: what all its trainers log by, and what they take the time of a step's parts by.

Both are plain, and imported by the process that logs itself, so the same wraps work in Ray's worker and in a rank of torchrun.
Wrapping twice is fine.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ... import _imports
from ..openrlhf import _state  # what a process of a job on Ray has of phases and values

# verl's names of parts of a step, where other trainers' differ.
_PHASES: Mapping[str, str] = {
    "gen": "generation",
    "save_checkpoint": "checkpoint",
    "testing": "evaluate",
    "update_weights": "broadcast",
    "sync_rollout_weights": "broadcast",
}
_NO_PHASES = frozenset({"start_profile", "stop_profile"})
_TIMER = "marked_timer"
_TIMERS = frozenset(f"verl.utils.profiler.{name}" for name in ("performance", "nvtx_profile", "mstx_profile"))
_TRACKING = "verl.utils.tracking"
_CHECKPOINTS = "verl.utils.checkpoint.checkpoint_handler"  # of its SFT trainers


def install() -> None:
    """Wrap what verl has imported, and what it imports from now on. Installing twice is fine."""
    _imports.install()


def imported(module: ModuleType) -> None:
    """Wrap a module of verl's that has just been loaded."""
    if module.__name__ == _TRACKING:
        _replace(getattr(module, "Tracking", None), "log", _logging)
    elif module.__name__ == _CHECKPOINTS:
        _replace(getattr(module, "CheckpointHandler", None), "save_checkpoint", _checkpoint)
    elif module.__name__ in _TIMERS:
        before = getattr(module, _TIMER, None)
        if _replace(module, _TIMER, _in_phase):
            _bind(before, getattr(module, _TIMER))


def _replace(owner: Any, name: str, wrap: Callable[[Any], Any]) -> bool:
    function = getattr(owner, name, None)
    if function is None:
        _imports.warn(f"netmon knows verl 0.9; this one has no {name} where that has it, so what it is for is not there")
        return False
    if hasattr(function, "__netmon__"):
        return False
    wrapper: Any = functools.wraps(function)(wrap(function))
    wrapper.__netmon__ = function
    setattr(owner, name, wrapper)
    return True


def _bind(before: object, after: object) -> None:
    """Give it to modules that have it by name already."""
    for name, module in list(sys.modules.items()):
        if name.startswith("verl.") and vars(module).get(_TIMER) is before:
            setattr(module, _TIMER, after)


def _logging(function: Callable[..., Any]) -> Callable[..., Any]:
    def log(self: Any, data: Any, step: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(data, dict):
            data = {**_state.values(step), **data}
        return function(self, data, step, *arguments, **options)

    return log


def _checkpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    def save_checkpoint(*arguments: Any, **options: Any) -> Any:
        with _state.phase("checkpoint"):
            return function(*arguments, **options)

    return save_checkpoint


def _in_phase(function: Callable[..., Any]) -> Callable[..., Any]:
    @contextmanager
    def marked_timer(name: str, *arguments: Any, **options: Any) -> Iterator[Any]:
        with function(name, *arguments, **options) as timed:
            if name in _NO_PHASES:
                yield timed
                return
            with _state.phase(_PHASES.get(name, name.replace("/", "_"))):
                yield timed

    return marked_timer
