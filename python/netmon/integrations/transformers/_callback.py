"""The callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from ... import _imports
from .. import _watch
from . import _hooks

if TYPE_CHECKING:
    from ..._monitor import Monitor


class NetmonCallback(TrainerCallback):  # type: ignore[misc]  # of a package without types here
    """Logs what the network does beside all that a Trainer of transformers, or one of TRL's, logs itself.

    ``Trainer(..., callbacks=[NetmonCallback()])``. It works from the beginning of ``train`` to its end: every log of the main
    process has the flat keys (docs/trainers.md) when callbacks get it, so they are in every tracker of ``report_to``, but
    neither on the console nor in ``state.log_history``, which checkpoints keep. Where there are several logs at one step, the
    first has them, and later ones what came to be known since. Evaluations, checkpoints, and with GRPO and RLOO generation and
    the way of the weights to vLLM, are phases, in every process. It can be pickled and copied.

    Args:
        monitor: who measures; None: the process's shared monitor.
        nodes: whether every node's own values are wanted too; None: as ``netmon run`` was told.
        collectives: whether the job's collectives are timed.

    Raises:
        UnsupportedError: transformers is not installed.
    """

    def __init__(self, monitor: Monitor | None = None, *, nodes: bool | None = None, collectives: bool = True) -> None:
        self.watch = _watch.Watch(monitor, nodes=nodes, collectives=collectives)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin."""
        self.watch.start()
        _imports.guarded(_hooks.wraps.add, self)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End, and leave the Trainer's methods as they were."""
        _imports.guarded(_hooks.wraps.remove, self)
        self.watch.close()

    def phase(self, name: str) -> Any:
        """Return a ``with`` block in which the job is in a phase of this name."""
        return self.watch.phase(name)
