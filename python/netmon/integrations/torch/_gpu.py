"""Which groups may have collectives on a GPU, and marking their beginning."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

from ._cuda import Graphs, Marks

# What a call begins with: marks of its beginning; None: it does not run on a GPU; False: on one, and it cannot be marked now.
Start = Callable[[Sequence[Any], bool], "Marks | Literal[False] | None"]


def starter(group: Any, graphs: Graphs) -> Start | None:
    """Return what marks the beginnings of a group's collectives; None where none runs on a GPU."""
    modules = sys.modules
    torch: Any = modules["torch"]
    if not torch.cuda.is_available() or all(device.type != "cuda" for device in group._device_types):
        return None
    only_gpu = all(device.type == "cuda" for device in group._device_types)

    def start(tensors: Sequence[Any], overlaps: bool) -> Marks | Literal[False] | None:
        if tensors:
            device = tensors[0].device
            if device.type != "cuda":
                return None
        elif only_gpu:
            device = None  # a barrier: the current one
        else:
            return None
        cuda: Any = modules["torch"].cuda  # not kept: see Hooks
        if graphs.capturing or cuda.is_current_stream_capturing():
            return False
        return Marks(graphs, cuda, device, overlaps)

    return start
