"""Which nodes of a Ray cluster a job is on. A cluster may have more: those of other jobs, and those that have left it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ._board import NAME, up


def other_addresses(ray: Any) -> list[str]:
    """Return the addresses of the nodes, but for this one, on which actors of this process's job run now."""
    state = import_module("ray._private.state")
    with up(ray):
        here = ray.util.get_node_ip_address()
        job = ray.get_runtime_context().get_job_id()
        actors = state.actors(job_id=ray.JobID.from_hex(job), actor_state_name="ALIVE")
    # Ray puts netmon's own one on any node of the cluster.
    addresses = {actor["Address"]["IPAddress"] for actor in actors.values() if actor["Name"] != NAME}
    return sorted(addresses - {"", here})
