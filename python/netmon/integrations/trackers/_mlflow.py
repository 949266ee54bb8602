"""MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..._errors import ConfigError
from .._guest import package
from ._logger import WritingLogger

if TYPE_CHECKING:
    from ..._monitor import Monitor


class MlflowLogger(WritingLogger):
    """Writes the network's values as metrics of an MLflow run, one batch a step.

    Args:
        run_id: the run; None: the active one, which ``mlflow.start_run()`` has begun.
        monitor: as of ``Logger``.
        tracking_uri: where the run is; None: where MLflow looks.
        nodes: as of ``Logger``.

    Raises:
        UnsupportedError: mlflow is not installed.
        ConfigError: no run was given, and none is active.
    """

    _tracker = "netmon's MLflow logger"

    def __init__(
        self,
        run_id: str | None = None,
        monitor: Monitor | None = None,
        *,
        tracking_uri: str | None = None,
        nodes: bool | None = None,
    ) -> None:
        mlflow = package("mlflow", "mlflow", self._tracker)
        self._metric = package("mlflow.entities", "mlflow", self._tracker).Metric
        if run_id is None:
            active = mlflow.active_run()
            if active is None:
                raise ConfigError(f"{self._tracker}: no run is active; call mlflow.start_run() first, or give run_id")
            run_id = active.info.run_id
        self._run_id = run_id
        super().__init__(monitor, nodes=nodes)
        self._client: Any = self._guest.ask(lambda: mlflow.MlflowClient(tracking_uri))

    def log(self, step: int) -> None:
        """Log the network's values at a step."""
        if self._client is not None:
            super().log(step)

    def _write(self, values: Mapping[str, float], step: int, when: float) -> None:
        metrics = [self._metric(name, value, int(when * 1000), step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)
