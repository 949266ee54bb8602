"""What is attached to a process that trains, by ``netmon run`` or by Ray's hooks: the shared monitor, once, raising nothing.

It is called from inside of the job's own calls, through ``_imports.guarded``: on the thread that makes them.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from . import _shared
from ._environment import job_variables
from ._options import RunOptions

if TYPE_CHECKING:
    from ._monitor import Monitor

# Of OpenRLHF.
_WITHOUT_RANK = frozenset({"CriticModelActor", "ReferenceModelActor", "RewardModelActor"})
_RANKS = frozenset({"RANK", "LOCAL_RANK", "WORLD_SIZE"})

_attachment: Any = None  # of collectives; kept, so that it stays


def training_begins() -> Monitor:
    """Return the process's monitor, and start it where it does not run yet.

    Raises:
        Error: it cannot be started.
        ValueError: what ``netmon run`` said is no good.
    """
    monitor = _shared.existing_monitor()
    if monitor is None:
        options = RunOptions.from_environment()
        monitor = _shared.start_shared(**options.monitor(), **_engine(options), **_identity())
    return monitor


def trainer_begins(trainer: Any) -> None:
    """Have a Trainer of transformers, or of TRL, log the network's values too.

    Raises:
        Error: as ``training_begins``.
    """
    training_begins()
    from .integrations.transformers._hooks import add_to

    add_to(trainer)


def trackers_begin(accelerator: Any) -> None:
    """Have the trackers of an Accelerator, if it has any, get the network's values too.

    Raises:
        Error: as ``training_begins``.
    """
    if accelerator.log_with:
        training_begins()
        from .integrations.accelerate._tracker import add_to

        add_to(accelerator)


def fit_begins(trainer: Any) -> None:
    """Have the loggers of a Trainer of Lightning's get the network's values too.

    Raises:
        Error: as ``training_begins``.
    """
    training_begins()
    from .integrations.lightning._callback import add_to

    add_to(trainer)


def engine_made(engine: Any) -> None:
    """Have the monitor of an engine of DeepSpeed's, where it is on, write the network's values too.

    Raises:
        Error: as ``training_begins``.
    """
    if engine.monitor.enabled:
        training_begins()
        from .integrations.deepspeed._engine import add_to

        add_to(engine)


def process_group_made() -> None:
    """Time the job's collectives, where torch.distributed has just been initialised by this thread.

    Raises:
        Error: as ``training_begins``, and where collectives cannot be seen.
    """
    global _attachment
    monitor = training_begins()
    options = RunOptions.from_environment()
    if _attachment is None and options.collectives:
        from .integrations.torch import attach

        _attachment = attach(monitor, cluster=options.cluster)
    elif options.cluster:
        monitor.cluster()


def _engine(options: RunOptions) -> dict[str, Any]:
    """Return how the view of the job is to travel: in a job of Ray by Ray, for there each group of actors has a store."""
    ray: Any = sys.modules.get("ray")
    if not options.cluster:
        return {"cluster": False}
    return {"cluster": "ray"} if ray is not None and ray.is_initialized() else {}


def _identity() -> dict[str, Any]:
    """Return what a monitor is to know of the job instead of what the environment says.

    In a job of Ray each group of actors has ranks from 0. Those of the view are the ranks of the policy that is trained.
    """
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return {}
    context = ray.get_runtime_context()
    # Ray logs a warning where a driver asks for its task.
    if getattr(getattr(context, "worker", None), "mode", None) != ray.WORKER_MODE:
        return {}
    actor = str(context.get_task_name() or "").partition(".")[0]
    if actor not in _WITHOUT_RANK:
        return {}
    return {"job": {"environment": {name: value for name, value in job_variables().items() if name not in _RANKS}}}


def _after_fork_in_child() -> None:
    # A child that trains itself begins anew; one that loads data never comes here again.
    global _attachment
    _attachment = None


os.register_at_fork(after_in_child=_after_fork_in_child)
