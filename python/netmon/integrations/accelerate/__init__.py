"""accelerate: the network's values in what an Accelerator logs.

    >>> from netmon.integrations.accelerate import NetmonTracker        # imports accelerate, if it is there

``Accelerator(log_with=["tensorboard", NetmonTracker()])``, and every tracker then has ``network/...`` beside what
``accelerator.log`` is given. docs/trainers.md has the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._tracker import NetmonTracker

__all__: Sequence[str] = ["NetmonTracker"]


def __getattr__(name: str) -> Any:
    if name != "NetmonTracker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .._packages import class_of

    return class_of(_load, name, "accelerate", "accelerate")


def _load() -> Any:
    from ._tracker import NetmonTracker

    NetmonTracker.__module__ = "netmon.integrations.accelerate"
    return NetmonTracker
