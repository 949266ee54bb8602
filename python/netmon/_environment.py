"""The environment variables that say which process of a job this is, and what its libraries send over.

The library reads them itself in C programs. It cannot see what Python changed after the process started (``os.environ``),
so they are handed over; what they mean is decided in one place, the library.
"""

from __future__ import annotations

import os

_NAMES = frozenset(
    {
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "NODE_RANK",
        "GROUP_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
        "MPI_LOCALRANKID",
        "MPI_LOCALNRANKS",
        "RAY_ADDRESS",
        "RAY_JOB_ID",
        "RAY_RAYLET_PID",
        # core/job/settings.go lists these:
        "NCCL_IB_DISABLE",
        "NCCL_IB_HCA",
        "NCCL_NET",
        "NCCL_SOCKET_IFNAME",
        "GLOO_SOCKET_IFNAME",
        "TP_SOCKET_IFNAME",
        "UCX_NET_DEVICES",
        "FI_PROVIDER",
    }
)
_PREFIXES = ("OMPI_COMM_WORLD_", "PMI_", "SLURM_", "RAY_LOCAL_")


def job_variables() -> dict[str, str]:
    """Return the variables of this process that concern the job."""
    variables = {}
    for name, value in os.environ.items():
        if name in _NAMES or name.startswith(_PREFIXES):
            try:
                value.encode()
            except UnicodeEncodeError:
                continue  # bytes that are no text cannot be a rank or an address
            variables[name] = value
    return variables
