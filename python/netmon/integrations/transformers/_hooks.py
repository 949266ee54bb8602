"""Which methods of trainers are wrapped while one of them trains with the callback.

A callback of the Trainer's gets a log when the trackers have had it, and is not told when something begins.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ... import _imports
from .._wraps import Around, Shared, Wrap

# By the module's name, where it is imported by then: a class's method, and the phase that it is. What a version has not is not
# wrapped.
_PHASES: Mapping[str, Mapping[str, str]] = {
    "transformers.trainer": {"Trainer.evaluate": "evaluate", "Trainer._save_checkpoint": "checkpoint"},
    "trl.trainer.grpo_trainer": {"GRPOTrainer._generate": "generation"},
    "trl.trainer.rloo_trainer": {"RLOOTrainer._generate": "generation"},
    "trl.generation.vllm_generation": {"VLLMGeneration.sync_weights": "broadcast"},
}


def _in_phase(name: str) -> Around:
    def around(method: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        callback = _of(arguments[0]) if arguments else None
        if callback is None:
            return method(*arguments, **options)
        with callback.phase(name):
            return method(*arguments, **options)

    return around


def _log(method: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Log with the network's values. The trainer's own dictionary has them only meanwhile: it is what ``train`` returns too."""
    trainer = arguments[0]
    logs = arguments[1] if len(arguments) > 1 else options.get("logs")
    if not isinstance(logs, dict):
        return method(*arguments, **options)
    added: dict[str, float] = {}
    _imports.guarded(lambda: added.update(_values(trainer, logs)))
    logs.update(added)
    try:
        return method(*arguments, **options)
    finally:
        for name in added:
            logs.pop(name, None)


def _values(trainer: Any, logs: dict[str, Any]) -> dict[str, float]:
    callback = _of(trainer)
    if callback is None or not trainer.state.is_world_process_zero:
        return {}
    values: dict[str, float] = callback.watch.new_values(trainer.state.global_step)
    return {name: value for name, value in values.items() if name not in logs}


def _of(trainer: Any) -> Any:
    """Return the callback of a trainer; of what is part of one, the newest one's."""
    users = wraps.users
    handler = getattr(trainer, "callback_handler", None)
    if handler is None:
        return users[-1] if users else None
    return next((callback for callback in handler.callbacks if any(callback is user for user in users)), None)


def _put_on() -> list[Wrap]:
    made = [Wrap(sys.modules["transformers.trainer"].Trainer, "log", _log)]
    for module, places in _PHASES.items():
        for place, phase in places.items():
            owner, _, name = place.partition(".")
            cls = getattr(sys.modules.get(module), owner, None)
            if cls is not None and name in vars(cls):
                made.append(Wrap(cls, name, _in_phase(phase)))
    return made


wraps = Shared(_put_on)


def add_to(trainer: Any) -> None:
    """Give a Trainer that is about to train a callback, if it has none: what ``netmon run`` does."""
    from ._callback import NetmonCallback

    if not any(isinstance(callback, NetmonCallback) for callback in trainer.callback_handler.callbacks):
        trainer.add_callback(NetmonCallback())
