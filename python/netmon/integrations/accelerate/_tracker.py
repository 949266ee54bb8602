"""The tracker, and the two methods of Accelerator that are wrapped while it runs."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from ... import _imports
from .. import _watch
from .._wraps import Shared, Wrap

if TYPE_CHECKING:
    from ..._monitor import Monitor


class NetmonTracker(GeneralTracker):  # type: ignore[misc]  # of a package without types here
    """A tracker that keeps nothing: the others of its Accelerator get the network's values beside what is logged.

    ``Accelerator(log_with=["tensorboard", NetmonTracker()])``, wherever in the list. It works from ``init_trackers`` to
    ``end_training``: each ``accelerator.log(values, step)`` of the main process has the flat keys too (docs/trainers.md); where
    there are several at one step, the first has them, and later ones what came to be known since. ``save_state`` is the phase
    ``checkpoint``; ``accelerator.get_tracker("netmon").phase(name)`` names others, in every process.

    Args:
        monitor: who measures; None: the process's shared monitor. It is also ``get_tracker("netmon", unwrap=True)``.
        nodes: whether every node's own values are wanted too; None: as ``netmon run`` was told.
        collectives: whether the job's collectives are timed.

    Raises:
        UnsupportedError: accelerate is not installed.
    """

    name = "netmon"
    requires_logging_directory = False
    main_process_only = False

    def __init__(self, monitor: Monitor | None = None, *, nodes: bool | None = None, collectives: bool = True) -> None:
        super().__init__()
        self.watch = _watch.Watch(monitor, nodes=nodes, collectives=collectives)

    @property
    def tracker(self) -> Monitor | None:
        """Who measures."""
        return self.watch.monitor

    def start(self) -> None:
        """Begin, in every process: ``init_trackers`` calls it."""
        self.watch.start()
        _imports.guarded(_wraps.add, self)

    def finish(self) -> None:
        """End, and leave the Accelerator's methods as they were: ``end_training`` calls it."""
        _imports.guarded(_wraps.remove, self)
        self.watch.close()

    def phase(self, name: str) -> Any:
        """Return a ``with`` block in which the job is in a phase of this name."""
        return self.watch.phase(name)


def _log(method: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    accelerator, *rest = arguments
    values = rest[0] if rest else options.get("values")
    tracker = _of(accelerator)
    if tracker is None or not isinstance(values, dict) or not accelerator.is_main_process:
        return method(*arguments, **options)
    step = rest[1] if len(rest) > 1 else options.get("step")
    # The caller's dictionary stays as it is. What it has itself by the same name is what is logged.
    values = {**tracker.watch.new_values(step), **values}
    if rest:
        return method(accelerator, values, *rest[1:], **options)
    return method(accelerator, **{**options, "values": values})


def _save(method: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    tracker = _of(arguments[0])
    with nullcontext() if tracker is None else tracker.phase("checkpoint"):
        return method(*arguments, **options)


def _of(accelerator: Any) -> Any:
    users = _wraps.users
    return next((tracker for tracker in accelerator.trackers if any(tracker is user for user in users)), None)


_wraps = Shared(lambda: [Wrap(Accelerator, "log", _log), Wrap(Accelerator, "save_state", _save)])


def add_to(accelerator: Any) -> None:
    """Give an Accelerator a tracker, if it has none of these: what ``netmon run`` does."""
    if not any(isinstance(tracker, NetmonTracker) for tracker in accelerator.log_with):
        accelerator.log_with = [*accelerator.log_with, NetmonTracker()]
