"""torch.distributed: the collectives that the job runs, and which hosts its ranks are on.

    >>> from netmon.integrations import torch          # does not import torch

``watch()`` is all of it for a training loop of one's own, with phases and values to log. ``attach(monitor)`` times the job's
own collectives, without one of netmon's; ``measure_collectives()`` runs some, where every rank asks for it; ``find_peers``
finds the ranks' hosts. torch itself is imported when something is used, and only what is used by the job already; the job's
own connection to the store is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from .._watch import Watch
from ._attach import Attachment, attach
from ._measure import CollectiveMeasurement, measure_collectives
from ._peers import PeerSearch, find_peers
from ._watch import watch

__all__: Sequence[str] = [
    "Attachment",
    "CollectiveMeasurement",
    "PeerSearch",
    "Watch",
    "attach",
    "find_peers",
    "measure_collectives",
    "watch",
]

for _name in __all__:
    globals()[_name].__module__ = "netmon.integrations.torch"
