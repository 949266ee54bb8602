"""W&B."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._guest import package
from ._logger import Logger

if TYPE_CHECKING:
    from ..._monitor import Monitor


_STEP = "network/step"


class WandbLogger(Logger):
    """Adds the network's values to the rows of a W&B run that the training writes, and no rows of its own.

    A training that leaves the numbers of rows to W&B, by ``run.log(row)``, calls ``log(step)`` before that, and has the values
    in the row that this completes. One that gives them, by ``run.log(row, step=step)``, says ``explicit_steps=True`` and gives
    ``log`` the same number, before or after: the values are in the row of that number.

    Args:
        run: the run; None: the process's current one (``wandb.run``), and where there is none, one that is begun here and
            finished by ``close``. Where that fails, for nobody is logged in, the reason is a warning, and nothing is logged.
        monitor: as of ``Logger``.
        step_metric: what ``network/*`` is plotted over: ``network/step``, the step that ``log`` was given; or one of the
            training's own, such as ``"train/global_step"``, to have both over the same axis: the training alone writes that.
        explicit_steps: whether the training gives ``run.log`` the step.
        nodes: as of ``Logger``.
        options: arguments of ``wandb.init``, where a run is begun here.

    Raises:
        UnsupportedError: wandb is not installed.
    """

    _tracker = "netmon's W&B logger"

    def __init__(
        self,
        run: Any = None,
        monitor: Monitor | None = None,
        *,
        step_metric: str = _STEP,
        explicit_steps: bool = False,
        nodes: bool | None = None,
        **options: Any,
    ) -> None:
        wandb = package("wandb", "wandb", self._tracker)
        super().__init__(monitor, nodes=nodes)
        self._step_metric, self._explicit_steps = step_metric, explicit_steps
        self._run = run if run is not None else wandb.run
        self._own = self._run is None
        if self._values is None:
            return
        if self._own:
            try:
                self._run = wandb.init(**options)
            except Exception as error:  # noqa: BLE001 - the training goes on without it
                self._guest.tell(f"{error} Nothing is logged: call wandb login, or set WANDB_MODE=offline")
        if self._run is not None:
            self._guest.ask(self._define)

    def _define(self) -> None:
        if self._step_metric == _STEP:
            self._run.define_metric(_STEP, hidden=True)
        self._run.define_metric("network/*", step_metric=self._step_metric)

    def log(self, step: int) -> None:
        """Log the network's values at a step: in the row of that step, or, without ``explicit_steps``, the next ``run.log``."""
        if self._run is not None:
            super().log(step)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        # Of the training's own step metric there is a value in its row already, which must not be replaced.
        row = {**values, _STEP: step} if self._step_metric == _STEP else values
        if self._explicit_steps:
            self._run.log(row, step=step)  # W&B completes the row when it is given a later step
        else:
            self._run.log(row, commit=False)

    def _finish(self) -> None:
        if self._own and self._run is not None:
            self._run.finish()
