"""OpenRLHF's loggers, and its trainers that log without them: what they log, they log with the network's values beside it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ... import _imports
from . import _state

_STEP = "train/global_step"  # of W&B's rows
_UNLOGGED = "the network is not logged"


def made(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the construction of a logger: the process that has one is the one that logs."""

    @functools.wraps(function)
    def construct(self: Any, *arguments: Any, **options: Any) -> None:
        function(self, *arguments, **options)
        _state.will_log()

    return construct


def tensorboard(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``TensorboardLogger.log_train``."""

    @functools.wraps(function)
    def log_train(self: Any, global_step: int, *arguments: Any, **options: Any) -> Any:
        _imports.guarded(_to_tensorboard, getattr(self, "writer", None), global_step, what=_UNLOGGED)
        return function(self, global_step, *arguments, **options)

    return log_train


def wandb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``WandbLogger.log_train``."""

    @functools.wraps(function)
    def log_train(self: Any, global_step: int, *arguments: Any, **options: Any) -> Any:
        handle = getattr(self, "handle", None)
        values: dict[str, float] = {}
        _imports.guarded(lambda: values.update(_for_wandb(handle, global_step)), what=_UNLOGGED)
        if not values:
            return function(self, global_step, *arguments, **options)
        self.handle = beside = _Beside(handle, values)
        try:
            return function(self, global_step, *arguments, **options)
        finally:
            if self.handle is beside:
                self.handle = handle

    return log_train


def trainer(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``save_logs_and_checkpoints`` of the SFT, RM and DPO trainers."""

    @functools.wraps(function)
    def save_logs_and_checkpoints(self: Any, args: Any, global_step: int, *arguments: Any, **options: Any) -> Any:
        _imports.guarded(_of_trainer, self, args, global_step, what=_UNLOGGED)
        return function(self, args, global_step, *arguments, **options)

    return save_logs_and_checkpoints


def _of_trainer(trainer: Any, args: Any, global_step: int) -> None:
    # As they do it themselves; before 0.11 args was flat.
    if global_step % getattr(args, "logger", args).logging_steps or not trainer.strategy.is_rank_0():
        return
    if trainer._wandb is not None:
        _to_wandb(trainer._wandb, global_step)
    elif trainer._tensorboard is not None:
        _to_tensorboard(trainer._tensorboard, global_step)


def _to_tensorboard(writer: Any, global_step: int) -> None:
    for name, value in _state.values(global_step).items():
        writer.add_scalar(name, value, global_step)


def _to_wandb(run: Any, global_step: int) -> None:
    values = _for_wandb(run, global_step)
    if values:
        # Not committed: the row is that of OpenRLHF's own values, which follow.
        run.log({**values, _STEP: global_step}, commit=False)


def _for_wandb(run: Any, global_step: int) -> dict[str, float]:
    values = _state.values(global_step)
    if values and run not in _defined:
        run.define_metric("network/*", step_metric=_STEP, step_sync=True)
        _defined.append(run)
    return values


_defined: list[Any] = []


class _Beside:
    """W&B for the time of one call: OpenRLHF's row of a step, one of several that it logs, has the network's values in it."""

    def __init__(self, handle: Any, values: dict[str, float]) -> None:
        self._handle, self._values = handle, values

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def log(self, row: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        return self._handle.log({**self._values, **row} if _STEP in row else row, *arguments, **options)
