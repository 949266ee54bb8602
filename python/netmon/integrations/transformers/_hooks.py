"""Which methods of trainers are wrapped while one of them trains with the callback.

A callback of the Trainer's gets a log when the trackers have had it, and is not told when something begins. Trackers are
callbacks themselves, so the values are put into a log on its way to all of them, when the Trainer has it in its history
already; those that only print get it without.
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
# Those that print logs on the console, by the module's name.
_PRINTERS: Mapping[str, tuple[str, ...]] = {
    "transformers.trainer_callback": ("PrinterCallback", "ProgressCallback"),
    "transformers.utils.notebook": ("NotebookProgressCallback",),
    "trl.trainer.callbacks": ("RichProgressCallback",),
}
_added: dict[int, dict[str, float]] = {}  # to logs that callbacks are being given, by the logs' id


def _in_phase(name: str) -> Around:
    def around(method: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        callback = _of(arguments[0]) if arguments else None
        if callback is None:
            return method(*arguments, **options)
        with callback.phase(name):
            return method(*arguments, **options)

    return around


def _tell(method: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Tell callbacks of a log with the network's values. The dictionary has them only meanwhile: ``train`` may return it."""
    handler, _, state, _, *rest = arguments
    logs = rest[0] if rest else options.get("logs")
    if not isinstance(logs, dict):
        return method(*arguments, **options)
    added: dict[str, float] = {}
    _imports.guarded(lambda: added.update(_values(handler, state, logs)))
    logs.update(added)
    _added[id(logs)] = added
    try:
        return method(*arguments, **options)
    finally:
        _added.pop(id(logs), None)
        for name in added:
            logs.pop(name, None)


def _print(method: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Print a log as the Trainer made it."""
    logs = options.get("logs")
    added = _added.get(id(logs), {})
    held = {name: logs.pop(name) for name in added if name in logs} if logs is not None else {}
    try:
        return method(*arguments, **options)
    finally:
        if logs is not None:
            logs.update(held)


def _values(handler: Any, state: Any, logs: dict[str, Any]) -> dict[str, float]:
    callback = _among(handler.callbacks)
    if callback is None or not state.is_world_process_zero:
        return {}
    values: dict[str, float] = callback.watch.new_values(state.global_step)
    return {name: value for name, value in values.items() if name not in logs}


def _of(trainer: Any) -> Any:
    """Return the callback of a trainer; of what is part of one, the newest one's."""
    users = wraps.users
    handler = getattr(trainer, "callback_handler", None)
    if handler is None:
        return users[-1] if users else None
    return _among(handler.callbacks)


def _among(callbacks: Any) -> Any:
    users = wraps.users
    return next((callback for callback in callbacks if any(callback is user for user in users)), None)


def _put_on() -> list[Wrap]:
    made = [Wrap(sys.modules["transformers.trainer_callback"].CallbackHandler, "on_log", _tell)]
    for module, owners in _PRINTERS.items():
        for owner in owners:
            printer = getattr(sys.modules.get(module), owner, None)
            if printer is not None and "on_log" in vars(printer):
                made.append(Wrap(printer, "on_log", _print))
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
