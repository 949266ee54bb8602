"""What every trainer's integration is made of: a monitor, the job's collectives, phases, and what to log at a step.

Nothing is raised into the training. Where it does not work there is one warning, no phase and no value.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import _imports, _training
from .._options import RunOptions
from ._flat import PHASE, FlatValues
from ._phases import Phases

if TYPE_CHECKING:
    from .._monitor import Monitor


@contextmanager
def within(phases: Phases | None, name: str) -> Iterator[None]:
    """Be in a phase, where that can be measured. Nothing of netmon's is raised."""
    if phases is None:
        yield
        return
    _imports.guarded(phases.begin, name)
    try:
        yield
    finally:
        _imports.guarded(phases.end, name)


class Watch:
    """What the network does while this process trains. ``start`` begins, ``close`` ends; both may be called again.

    Args:
        monitor: who measures; None: the process's shared monitor, which ``netmon run`` has started, or which is started with
            the defaults. It is never closed here.
        nodes: whether every node's own values are wanted too, under ``network/node/<name>/``; None: as ``netmon run`` was told.
        collectives: whether the job's collectives are timed, and this process takes part in the view of the whole job.
    """

    def __init__(self, monitor: Monitor | None = None, *, nodes: bool | None = None, collectives: bool = True) -> None:
        self._given = monitor
        self._nodes = nodes
        self._collectives = collectives
        self._forget()

    def _forget(self) -> None:
        self._process = 0  # the one that it was started in
        self._monitor: Monitor | None = None
        self._phases: Phases | None = None
        self._values: FlatValues | None = None
        self._attachment: Any = None
        self._step: object = None
        self._logged: set[str] = set()  # at that step
        self._count = 0

    @property
    def monitor(self) -> Monitor | None:
        """Who measures; None where nobody does."""
        return self._monitor

    def start(self) -> None:
        """Begin to measure, on the thread that trains, once torch.distributed is initialised if it will be."""
        if self._process != os.getpid():  # a forked child that trains begins anew
            self._forget()
            self._process = os.getpid()
            _imports.guarded(self._start)

    def _start(self) -> None:
        options = RunOptions.from_environment()
        monitor = self._given if self._given is not None else _training.training_begins()
        phases = Phases(monitor)
        nodes = options.nodes if self._nodes is None else self._nodes
        self._monitor, self._phases, self._values = monitor, phases, FlatValues(monitor, phases, nodes=nodes)
        if self._collectives and options.collectives and _has_processes():
            from .torch import attach

            self._attachment = attach(monitor, cluster=options.cluster)
        elif options.cluster:
            monitor.cluster()

    def close(self) -> None:
        """End: collectives are timed no more, and nothing is told. Closing twice is fine."""
        attachment = self._attachment
        self._forget()
        if attachment is not None:
            _imports.guarded(attachment.close)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Be in a part of the job that has a name."""
        return within(self._phases, name)

    def begin(self, name: str) -> None:
        """Begin a phase, where a ``with`` statement cannot."""
        if self._phases is not None:
            _imports.guarded(self._phases.begin, name)

    def end(self, name: str) -> None:
        """End it. One that was not begun is passed over."""
        if self._phases is not None:
            _imports.guarded(self._phases.end, name)

    def values(self, step: object = None) -> dict[str, float]:
        """Return what is to be logged at a step, by its flat keys; asked again at the same step, the same.

        In the process that logs: of the whole job where its view is there, else of this node. What was not measured has no
        key, and where nothing is measured there is none.
        """
        return self._at(step, goes_on=False)

    def _at(self, step: object, *, goes_on: bool) -> dict[str, float]:
        found: dict[str, float] = {}
        if self._values is not None:
            values = self._values
            _imports.guarded(lambda: found.update(values.at(step, goes_on=goes_on)))
        return found

    def new_values(self, step: object) -> dict[str, float]:
        """Return what is to be logged at a step, where a trainer logs several times at one: what it does not have yet.

        That is all at first, and then phases that ended since.
        """
        goes_on = step is not None and step == self._step
        if not goes_on:
            self._step, self._logged = step, set()
        self._count += 1
        values = self._at((step, self._count), goes_on=goes_on)
        found = {name: value for name, value in values.items() if name not in self._logged or name.startswith(PHASE)}
        self._logged.update(found)
        return found

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # A copy is not started. Who measures stays here where it goes to another process: monitors do not travel.

    def __copy__(self) -> Watch:
        return Watch(self._given, nodes=self._nodes, collectives=self._collectives)

    def __deepcopy__(self, memo: dict[int, object]) -> Watch:
        return self.__copy__()

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickled, (self._nodes, self._collectives)

    def __repr__(self) -> str:
        state = "not started" if not self._process else "measures nothing" if self._monitor is None else repr(self._monitor)
        return f"<netmon Watch: {state}>"


def _unpickled(nodes: bool | None, collectives: bool) -> Watch:
    return Watch(nodes=nodes, collectives=collectives)


def _has_processes() -> bool:
    """Tell whether torch.distributed is initialised; it is not imported for that."""
    distributed: Any = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and bool(distributed.is_initialized())
