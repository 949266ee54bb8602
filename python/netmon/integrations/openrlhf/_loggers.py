"""OpenRLHF's loggers, and its trainers that log without them: what they log, they log with the network's values beside it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ... import _imports
from . import _state

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
        _imports.guarded(_to_wandb, getattr(self, "handle", None), global_step, what=_UNLOGGED)
        return function(self, global_step, *arguments, **options)

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
    values = _state.values(global_step)
    if not values:
        return
    if run not in _defined:
        run.define_metric("network/*", step_metric="train/global_step", step_sync=True)
        _defined.append(run)
    # Not committed: the row is that of OpenRLHF's own values, which follow.
    run.log({**values, "train/global_step": global_step}, commit=False)


_defined: list[Any] = []
