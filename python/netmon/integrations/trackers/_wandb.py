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
    """Adds the network's values to the rows of a W&B run: to that which the training's next ``run.log`` completes.

    So it adds no rows and moves no step; ``network/*`` is plotted over the step that ``log`` was given.

    Args:
        run: the run; None: the process's current one (``wandb.run``), and where there is none, one that is begun here and
            finished by ``close``. Where that fails, for nobody is logged in, the reason is a warning, and nothing is logged.
        monitor: as of ``Logger``.
        step_metric: the name under which the step is in the rows; that of the training's own, such as
            ``"train/global_step"``, puts both over the same axis.
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
        nodes: bool | None = None,
        **options: Any,
    ) -> None:
        wandb = package("wandb", "wandb", self._tracker)
        super().__init__(monitor, nodes=nodes)
        self._step_metric = step_metric
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
        """Log the network's values at a step: in the row that the next ``run.log`` completes."""
        if self._run is not None:
            super().log(step)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, self._step_metric: step}, commit=False)

    def _finish(self) -> None:
        if self._own and self._run is not None:
            self._run.finish()
