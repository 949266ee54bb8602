"""The callback."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ... import _imports
from .. import _watch
from .._wraps import Wrap

if TYPE_CHECKING:
    from ..._monitor import Monitor


def _bases() -> tuple[Any, ...]:
    """Return the classes of callbacks: of the packages that the job has imported, else of the first that is installed."""
    names = ("lightning.pytorch", "pytorch_lightning")
    used: list[Any] = [module for name in names if (module := sys.modules.get(name)) is not None]
    if used:
        return tuple(module.Callback for module in used)
    try:
        return (import_module(names[0]).Callback,)
    except ModuleNotFoundError as error:
        try:
            return (import_module(names[1]).Callback,)
        except ModuleNotFoundError:
            raise error from None


class NetmonCallback(*_bases()):  # type: ignore[misc]  # of a package without types here
    """Logs what the network does in all loggers of a Trainer of Lightning's.

    ``Trainer(..., callbacks=[NetmonCallback()])``, of ``lightning`` or ``pytorch_lightning``. It works from the beginning of
    ``fit`` to its end: whenever Lightning logs a step (``log_every_n_steps``) the main process adds the flat keys
    (docs/trainers.md), and at the end those of the phases that ended since. Validation is the phase ``evaluate``,
    ``save_checkpoint`` the phase ``checkpoint``, in every process. It can be pickled and copied, as for ``ddp_spawn``.

    Args:
        monitor: who measures; None: the process's shared monitor.
        nodes: whether every node's own values are wanted too; None: as ``netmon run`` was told.
        collectives: whether the job's collectives are timed.

    Raises:
        UnsupportedError: neither lightning nor pytorch_lightning is installed.
    """

    def __init__(self, monitor: Monitor | None = None, *, nodes: bool | None = None, collectives: bool = True) -> None:
        super().__init__()
        self.watch = _watch.Watch(monitor, nodes=nodes, collectives=collectives)
        self._wraps: list[Wrap] = []
        self._step: int | None = None  # the last that was logged

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_wraps": []}

    def phase(self, name: str) -> Any:
        """Return a ``with`` block in which the job is in a phase of this name."""
        return self.watch.phase(name)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin."""
        self.watch.start()
        if not self._wraps:
            self._step = None
            _imports.guarded(lambda: self._wraps.append(Wrap(trainer, "save_checkpoint", self._save)))

    def _save(self, method: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        with self.phase("checkpoint"):
            return method(*arguments, **options)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any, **options: Any) -> None:
        """Log, where Lightning logs its own."""
        _imports.guarded(self._log_step, trainer)

    def _log_step(self, trainer: Any) -> None:
        # Batches that gradients are gathered from are one step.
        step: int = trainer.fit_loop.epoch_loop._batches_that_stepped
        every = trainer.log_every_n_steps
        if step != self._step and every and (step + 1) % every == 0:
            self._step = step
            self._log(trainer)

    def _log(self, trainer: Any) -> None:
        if not trainer.is_global_zero or not trainer.loggers or self._step is None:
            return
        values = self.watch.new_values(self._step)
        for logger in trainer.loggers if values else ():
            logger.log_metrics(values, step=self._step)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin the phase; Lightning's trial of it before the training is none."""
        if not trainer.sanity_checking:
            self.watch.begin("evaluate")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """End it."""
        self.watch.end("evaluate")

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Log what ended since the last step."""
        _imports.guarded(self._log, trainer)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """End, after an exception too, and leave the Trainer's method as it was."""
        wraps, self._wraps = self._wraps, []
        for wrap in wraps:
            wrap.undo()
        self.watch.close()


def add_to(trainer: Any) -> None:
    """Give a Trainer that is about to train a callback, if it has none: what ``netmon run`` does."""
    if not any(isinstance(callback, NetmonCallback) for callback in trainer.callbacks):
        trainer.callbacks.append(NetmonCallback())
