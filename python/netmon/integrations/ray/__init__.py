"""Ray: hooks that attach netmon to the actors that train, and an engine of the cluster view.

>>> from netmon.integrations import ray            # does not import ray

On a cluster that is up already, without an edit to the job: ``RAY_RUNTIME_ENV_HOOK=netmon.integrations.ray.runtime_env_hook``
in the driver's environment, or ``{"worker_process_setup_hook": "netmon.integrations.ray.setup"}`` in the runtime environment of
``ray job submit``; ``netmon run`` sets the first. For the view nothing is to be called: ``Monitor(cluster=True)``, or
``Monitor.cluster()``, finds Ray where the process has initialised it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ._hooks import runtime_env_hook, setup

__all__: Sequence[str] = ["runtime_env_hook", "setup"]

for _name in __all__:
    globals()[_name].__module__ = "netmon.integrations.ray"
