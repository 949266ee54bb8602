"""DeepSpeed: the network's values in what its monitor writes.

    >>> from netmon.integrations import deepspeed      # does not import deepspeed

``watch(engine)``, and TensorBoard, W&B, CSV files or Comet, which of them the configuration enables, have ``network/...``
beside ``Train/Samples/...``. docs/trainers.md has the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from ._engine import EngineWatch, watch

__all__: Sequence[str] = ["EngineWatch", "watch"]

for _name in __all__:
    globals()[_name].__module__ = "netmon.integrations.deepspeed"
