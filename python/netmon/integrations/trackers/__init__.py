"""W&B, TensorBoard and MLflow: the network beside the loss, without waiting for it.

    >>> from netmon.integrations import trackers       # imports no tracker, starts nothing

Each has ``log(step)``. docs/trackers.md lists the keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from ._logger import Logger
from ._mlflow import MlflowLogger
from ._tensorboard import TensorboardLogger
from ._wandb import WandbLogger

__all__: Sequence[str] = ["Logger", "MlflowLogger", "TensorboardLogger", "WandbLogger"]

for _name in __all__:
    globals()[_name].__module__ = "netmon.integrations.trackers"
