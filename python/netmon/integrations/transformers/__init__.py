"""transformers and TRL: the network's values in what a Trainer logs.

    >>> from netmon.integrations.transformers import NetmonCallback     # imports transformers, if it is there

``Trainer(..., callbacks=[NetmonCallback()])``, or ``netmon run -- python train.py`` without an edit: every tracker of
``report_to`` then has ``network/...`` beside the loss. docs/trainers.md has the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._callback import NetmonCallback

__all__: Sequence[str] = ["NetmonCallback"]


def __getattr__(name: str) -> Any:
    if name != "NetmonCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .._packages import class_of

    return class_of(_load, name, "transformers", "transformers")


def _load() -> Any:
    from ._callback import NetmonCallback

    NetmonCallback.__module__ = "netmon.integrations.transformers"
    return NetmonCallback
