"""An engine of DeepSpeed's, watched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ... import _imports
from ..._errors import InvalidArgumentError
from .._guest import package
from .._watch import Watch
from .._wraps import Wrap

if TYPE_CHECKING:
    from ..._monitor import Monitor

_ADDED = "_netmon_watch"  # by netmon run
_OFF = (
    "nothing of the network is logged: DeepSpeed's own monitor is off; "
    "enable tensorboard, wandb, csv_monitor or comet in DeepSpeed's configuration"
)


class EngineWatch(Watch):
    """What ``watch`` returns. ``close``, or the end of a ``with`` block, leaves the engine as it was."""

    def __init__(self, engine: Any, monitor: Monitor | None, nodes: bool | None, collectives: bool) -> None:
        super().__init__(monitor, nodes=nodes, collectives=collectives)
        self._engine = engine
        self._wraps: list[Wrap] = []

    def start(self) -> None:
        """Begin: ``watch`` has called it."""
        super().start()
        if not self._wraps:
            _imports.guarded(self._wrap)

    def _wrap(self) -> None:
        if self._engine.monitor.enabled:
            self._wraps.append(Wrap(self._engine.monitor, "write_events", self._write))
        else:
            _imports.warn(_OFF)
        self._wraps.append(Wrap(self._engine, "save_checkpoint", self._save))

    def close(self) -> None:
        """End. Closing twice is fine."""
        wraps, self._wraps = self._wraps, []
        for wrap in wraps:
            wrap.undo()
        super().close()

    def _write(self, method: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if arguments and self._engine.global_rank == 0:
            events, *rest = arguments
            arguments = ([*events, *self._events(events)], *rest)
        return method(*arguments, **options)

    def _events(self, events: Any) -> list[tuple[str, float, int]]:
        """Return what is to be written beside others, at their number of samples."""
        found: list[tuple[str, float, int]] = []
        if events:
            samples = events[-1][2]
            _imports.guarded(lambda: found.extend((name, value, samples) for name, value in self.new_values(samples).items()))
        return found

    def _save(self, method: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        with self.phase("checkpoint"):
            return method(*arguments, **options)

    __copy__ = __deepcopy__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("what watches an engine cannot be copied or pickled; watch the other engine instead")


def watch(engine: Any, monitor: Monitor | None = None, *, nodes: bool | None = None, collectives: bool = True) -> EngineWatch:
    """Have DeepSpeed's monitor write what the network does beside all that it writes, from now on.

        engine, optimizer, _, _ = deepspeed.initialize(model=model, config=config)
        netmon.integrations.deepspeed.watch(engine)

    Call it in every rank, after ``deepspeed.initialize``. Whenever ``engine.monitor`` writes events, rank 0 adds the flat keys
    (docs/trainers.md) at the same number of samples, and so it does for events that the training code writes itself by
    ``engine.monitor.write_events``. ``save_checkpoint`` is the phase ``checkpoint``; ``phase`` of what is returned names
    others.

    Args:
        engine: what ``deepspeed.initialize`` returned first.
        monitor: who measures; None: the process's shared monitor.
        nodes: whether every node's own values are wanted too; None: as ``netmon run`` was told.
        collectives: whether the job's collectives are timed.

    Raises:
        InvalidArgumentError: it is no engine.
        UnsupportedError: deepspeed is not installed.
    """
    package("deepspeed", "deepspeed", "netmon.integrations.deepspeed")
    if not all(hasattr(engine, name) for name in ("monitor", "global_rank", "save_checkpoint")):
        raise InvalidArgumentError(f"engine is a {type(engine).__name__}; it must be what deepspeed.initialize returned first")
    before = vars(engine).pop(_ADDED, None)
    if before is not None:
        before.close()
    watched = EngineWatch(engine, monitor, nodes, collectives)
    watched.start()
    return watched


def add_to(engine: Any) -> None:
    """Watch an engine that has just been made, until somebody else does: what ``netmon run`` does."""
    setattr(engine, _ADDED, watch(engine))
