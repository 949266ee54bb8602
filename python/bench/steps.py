"""What a step of training costs more under DistributedTrainingMonitor than under a callback that does nothing.

``python -m bench.steps`` takes a JSON object of ``size``, ``rounds`` and ``block_seconds`` on its standard input and prints a
JSON object: the seconds of a step by side, or the reason why there are none.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
from typing import Any

from . import namespace, timing


class EmptyCallback:
    """The hooks of a callback, with nothing in them."""

    def on_step_begin(self, trainer: object, step: int, **kwargs: Any) -> None:
        """Do nothing."""

    def on_step_end(self, trainer: object, step: int, **kwargs: Any) -> None:
        """Do nothing."""


def steps(callback: Any) -> timing.Block:
    """Make a side of a callback: both hooks of a step, with numbers that go on counting."""
    trainer = object()
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        callback.on_step_begin(trainer, done)
        callback.on_step_end(trainer, done)

    return timing.calls(step)


def measure(size: int | None, rounds: int, block_seconds: float) -> dict[str, Any]:
    """Let an empty callback and the monitor in its usual settings take turns, and the monitor without its log of every step."""
    try:
        from netmon.integrations.rldk import DistributedTrainingMonitor
    except ImportError as error:
        return {"size": size, "missing": f"{error}"}
    if size is not None:
        namespace.furnish(size)
    namespace.pin()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        monitors = {
            "step": DistributedTrainingMonitor(output_dir=os.path.join(folder, "usual"), network_monitoring=True),
            "step without its log": DistributedTrainingMonitor(
                output_dir=os.path.join(folder, "quiet"), network_monitoring=True, enable_jsonl_logging=False
            ),
        }
        for monitor in monitors.values():
            monitor.on_train_begin(object())
        sides = {"empty": steps(EmptyCallback()), **{name: steps(monitor) for name, monitor in monitors.items()}}
        result = timing.take_turns(sides, rounds, block_seconds)
        for monitor in monitors.values():
            monitor.on_train_end(object())
    return {"size": size, "steps": result}


if __name__ == "__main__":
    answer = measure(**json.load(sys.stdin))
    json.dump(answer, sys.stdout)
