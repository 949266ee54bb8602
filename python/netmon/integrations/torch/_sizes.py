"""Which collective is which, and how many bytes it is of: S as nccl-tests counts it, of the whole array.

Of an all_gather or reduce_scatter a rank gives or gets a part; S is the number of ranks times that, also where parts differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# Which tensors S is made of: those that go in or come out, and whether they are a rank's part of it.
INPUTS, INPUT_PARTS, OUTPUTS, OUTPUT_PARTS, NONE = range(5)

# By the name in HookOpName.
HOOKED = {
    "ALLREDUCE": ("all_reduce", INPUTS),
    "ALLREDUCE_COALESCED": ("all_reduce", INPUTS),
    "BROADCAST": ("broadcast", INPUTS),
    "REDUCE": ("reduce", INPUTS),
    "ALLGATHER": ("all_gather", INPUT_PARTS),
    "ALLGATHER_BASE": ("all_gather", INPUT_PARTS),
    "ALLGATHER_COALESCED": ("all_gather", INPUT_PARTS),
    "ALLGATHER_INTO_TENSOR_COALESCED": ("all_gather", INPUT_PARTS),
    "REDUCE_SCATTER": ("reduce_scatter", OUTPUT_PARTS),
    "REDUCE_SCATTER_BASE": ("reduce_scatter", OUTPUT_PARTS),
    "REDUCE_SCATTER_TENSOR_COALESCED": ("reduce_scatter", OUTPUT_PARTS),
    "ALLTOALL": ("all_to_all", INPUTS),
    "ALLTOALL_BASE": ("all_to_all", INPUTS),
    "GATHER": ("gather", INPUT_PARTS),
    "SCATTER": ("scatter", OUTPUT_PARTS),
    "BARRIER": ("barrier", NONE),
    "SEND": ("send", INPUTS),
    "RECV": ("recv", OUTPUTS),
    "UNKNOWN": ("other", INPUTS),
}

# By the name of the operator in c10d, with the argument that holds the tensors.
OPERATORS = {
    "allreduce_": ("all_reduce", INPUTS, 0),
    "allreduce_coalesced_": ("all_reduce", INPUTS, 0),
    "broadcast_": ("broadcast", INPUTS, 0),
    "reduce_": ("reduce", INPUTS, 0),
    "allgather_": ("all_gather", INPUT_PARTS, 1),
    "_allgather_base_": ("all_gather", INPUT_PARTS, 1),
    "allgather_coalesced_": ("all_gather", INPUT_PARTS, 1),
    "allgather_into_tensor_coalesced_": ("all_gather", INPUT_PARTS, 1),
    "reduce_scatter_": ("reduce_scatter", OUTPUT_PARTS, 0),
    "_reduce_scatter_base_": ("reduce_scatter", OUTPUT_PARTS, 0),
    "reduce_scatter_tensor_coalesced_": ("reduce_scatter", OUTPUT_PARTS, 0),
    "alltoall_": ("all_to_all", INPUTS, 1),
    "alltoall_base_": ("all_to_all", INPUTS, 1),
    "gather_": ("gather", INPUT_PARTS, 1),
    "scatter_": ("scatter", OUTPUT_PARTS, 0),
    "barrier": ("barrier", NONE, 0),
    "monitored_barrier_": ("barrier", NONE, 0),
    "send": ("send", INPUTS, 0),
    "recv_": ("recv", OUTPUTS, 0),
    "recv_any_source_": ("recv", OUTPUTS, 0),
}
PARTS = frozenset((INPUT_PARTS, OUTPUT_PARTS))


def bytes_of(tensors: Iterable[Any]) -> int:
    """Return the bytes of tensors; of sparse ones those of what they are made of."""
    size = 0
    for tensor in tensors:
        try:
            size += tensor.nbytes
        except RuntimeError:
            size += tensor._values().nbytes + tensor._indices().nbytes
    return size
