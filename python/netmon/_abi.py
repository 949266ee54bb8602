"""The C ABI of include/netmon.h for ctypes: the only mirror of that header in Python."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int32, c_uint32, c_uint64, c_void_p
from typing import Any

ABI_VERSION = 1

OK = 0
CLOSED = -3
FORKED = -4
UNKNOWN_U64 = 2**64 - 1
DIGEST_BYTES = 512
PLANES = ("none", "loopback", "tcp", "rdma")  # by the values of transport_plane

# Names, result types and argument types of the functions. Text that the library hands out is c_void_p: ctypes would turn a
# c_char_p into bytes and lose the pointer that has to be freed.
PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "netmon_abi_version": (c_int32, []),
    "netmon_version": (c_char_p, []),
    "netmon_init": (c_int32, [c_char_p, POINTER(c_uint64), POINTER(c_void_p)]),
    "netmon_close": (c_int32, [c_uint64]),
    "netmon_set_job": (c_int32, [c_uint64, c_char_p, POINTER(c_void_p)]),
    "netmon_sample": (c_int32, [c_uint64, POINTER(c_void_p), POINTER(c_void_p)]),
    "netmon_free": (None, [c_void_p]),
    "netmon_latest": (c_int32, [c_uint64, c_void_p]),
    "netmon_query": (c_int32, [c_uint64, c_char_p, POINTER(c_void_p), POINTER(c_void_p)]),
    "netmon_probe": (c_int32, [c_uint64, c_char_p, POINTER(c_void_p), POINTER(c_void_p)]),
    "netmon_bandwidth": (c_int32, [c_uint64, c_char_p, POINTER(c_void_p), POINTER(c_void_p)]),
    "netmon_collective_group": (c_int32, [c_uint64, c_char_p, POINTER(c_uint32), POINTER(c_void_p)]),
    "netmon_collectives_record": (c_int32, [c_uint64, c_char_p, c_uint32]),
    "netmon_digest": (c_int32, [c_uint64, c_void_p, c_uint32, POINTER(c_uint32), POINTER(c_void_p)]),
    "netmon_aggregate": (c_int32, [c_uint64, c_char_p, POINTER(c_void_p), POINTER(c_void_p)]),
    "netmon_collective_pending": (c_int32, [c_uint64, c_char_p, c_uint32]),
}

# The fields of netmon_snapshot after struct_size and the reserved bytes.
SNAPSHOT_FIELDS: tuple[tuple[str, Any], ...] = (
    ("sequence", c_uint64),
    ("wall_time_ns", c_uint64),
    ("monotonic_time_ns", c_uint64),
    ("window_ns", c_uint64),
    ("receive_bytes_total", c_uint64),
    ("transmit_bytes_total", c_uint64),
    ("receive_bytes_per_second", c_double),
    ("transmit_bytes_per_second", c_double),
    ("primary_receive_bytes_per_second", c_double),
    ("primary_transmit_bytes_per_second", c_double),
    ("errors_in_window", c_uint64),
    ("drops_in_window", c_uint64),
    ("tcp_retransmit_ratio", c_double),
    ("tcp_established", c_uint64),
    ("rtt_p50_ns", c_uint64),
    ("loss_ratio", c_double),
    ("utilization_ratio", c_double),
    ("peer_connections", c_uint64),
    ("peer_sent_bytes_per_second", c_double),
    ("peer_received_bytes_per_second", c_double),
    ("peer_rtt_p50_ns", c_uint64),
    ("peer_retransmit_ratio", c_double),
    ("rdma_receive_bytes_per_second", c_double),
    ("rdma_transmit_bytes_per_second", c_double),
    ("transport_plane", c_uint64),
)


# The fields of netmon_collective, for struct.Struct: they are packed without gaps.
COLLECTIVE_FIELDS: tuple[tuple[str, str], ...] = (
    ("struct_size", "I"),
    ("op", "I"),
    ("group", "I"),
    ("end", "I"),
    ("bytes", "Q"),
    ("enter_ns", "Q"),
    ("duration_ns", "Q"),
    ("duration_error_ns", "Q"),
    ("sequence", "Q"),
)
# The values of op: NETMON_COLLECTIVE_ and the name in capitals.
COLLECTIVES = {
    "all_reduce": 1,
    "broadcast": 2,
    "reduce": 3,
    "all_gather": 4,
    "reduce_scatter": 5,
    "all_to_all": 6,
    "gather": 7,
    "scatter": 8,
    "barrier": 9,
    "send": 10,
    "recv": 11,
    "other": 12,
}
# The values of end: NETMON_END_ and the name in capitals.
ENDS = {"unknown": 0, "exact": 1, "polled": 2, "bound": 3, "failed": 4}


class SnapshotStruct(ctypes.Structure):
    """netmon_snapshot, its values under names with an underscore: Snapshot gives them their meaning."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("_reserved", c_uint32),
        *((f"_{name}", kind) for name, kind in SNAPSHOT_FIELDS),
    ]
