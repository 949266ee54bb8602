"""Seeing collectives by a kernel in front of torch's own operators: torch before 2.14, which has no hooks."""

from __future__ import annotations

import importlib
import itertools
import threading
import weakref
from typing import Any

from ._cuda import Graphs
from ._gpu import Start, starter
from ._hooks import is_the_jobs, name_of, why_not
from ._sizes import NONE, OPERATORS, PARTS, bytes_of
from ._tracker import BETWEEN_TWO, EXACT, FAILED, OP, UNKNOWN, Tracker, now

SOURCE = "torch library"
UNSEEN = (
    "calls on a backend itself; collectives of other libraries' own communicators; replays of CUDA graphs; "
    "on gloo, the end of a reduce_scatter that is not waited for in Python"
)


class _Group:
    """What is known of a group: it is not kept alive."""

    def __init__(self, group: Any, tracker: Tracker, graphs: Graphs) -> None:
        self.reference = weakref.ref(group)
        self.size: int = group.size()
        self.number = tracker.group(name_of(group), self.size) if is_the_jobs(group) else 0
        self.start: Start | None = starter(group, graphs)
        self.sequence = itertools.count().__next__


def _gone(groups: dict[int, _Group]) -> set[int]:
    """Forget groups that are no more, and return the numbers that no other has."""
    gone = {key: known.number for key, known in list(groups.items()) if known.reference() is None}
    for key in gone:
        groups.pop(key, None)
    return set(gone.values()).difference(known.number for known in list(groups.values()))


class Operators:
    """Kernels at the dispatch key BackendSelect of c10d's operators, which every collective passes on its way to the backend.

    They stay where they cannot be taken away safely, and pass everything on then: torch looks them up without a lock.
    """

    def __init__(self, tracker: Tracker, graphs: Graphs) -> None:
        self._tracker, self._graphs = tracker, graphs
        self._groups: dict[int, _Group] = {}
        self._library: Any = None
        self._home = threading.get_ident()
        self._foreign: set[int] = set()  # other threads that have called a collective

    def attach(self) -> None:
        """Put the kernels there."""
        if self._library is not None:
            return  # it could not be taken away
        torch: Any = importlib.import_module("torch")
        self._home = threading.get_ident()
        self._foreign.clear()
        self._library = torch.library.Library("c10d", "IMPL")
        for name, (op, made_of, place) in OPERATORS.items():
            overload = getattr(getattr(torch.ops.c10d, name, None), "default", None)
            if overload is not None:
                kernel = self._kernel(overload, OP[op], made_of, place)
                self._library.impl(name, kernel, "BackendSelect", with_keyset=True)

    def detach(self) -> str | None:
        """Take the kernels away; where that cannot be done, return why."""
        why = why_not({self._home, *self._foreign})
        if why is not None:
            return f"kernels in front of c10d's operators stay, and pass everything on: {why}"
        if self._library is not None:
            self._library._destroy()
        self._library = None
        self._groups.clear()
        return None

    def after_fork(self) -> None:
        """Begin anew in a child. torch is left alone: the kernels stay there."""
        self._home = threading.get_ident()
        self._foreign.clear()

    def _kernel(self, overload: Any, op: int, made_of: int, place: int) -> Any:
        torch: Any = importlib.import_module("torch")
        tracker, ident, clock = self._tracker, threading.get_ident, now
        home, foreign, groups, graphs = self._home, self._foreign, self._groups, self._graphs
        sinks, live, began = tracker.sinks, tracker.live, tracker.began
        group_of, work_of = torch.distributed.ProcessGroup.unbox, torch.distributed.Work.unbox
        parameters = overload._schema.arguments
        group_place = next(i for i, p in enumerate(parameters) if "ProcessGroup" in str(p.type))
        free_place = next((i for i, p in enumerate(parameters) if p.name == "asyncOp"), -1)
        one, parts = str(parameters[place].type) == "Tensor", made_of in PARTS
        returns = len(overload._schema.returns)
        # What overload.redispatch does, which is not there in every version.
        redispatch = getattr(getattr(overload, "_handle", None), "redispatch_boxed", None) or overload.redispatch
        select = torch._C.DispatchKey.BackendSelect
        onward: dict[int, Any] = {}  # keys without ours

        def kernel(keys: Any, *arguments: Any) -> Any:
            number = enter = 0
            raw = keys.raw_repr()
            below = onward.get(raw)
            if below is None:
                below = onward[raw] = keys.remove(select)
            if sinks:
                try:
                    thread = ident()
                    if thread != home:
                        foreign.add(thread)
                    unboxed = group_of(arguments[group_place])
                    group = groups.get(id(unboxed))
                    if group is None or group.reference() is not unboxed:
                        tracker.ended(_gone(groups), but=(name_of(unboxed), unboxed.size()))
                        group = groups[id(unboxed)] = _Group(unboxed, tracker, graphs)
                    tensors: Any = () if made_of == NONE else (arguments[place],) if one else arguments[place]
                    try:
                        length = tensors[0].nbytes if len(tensors) == 1 else bytes_of(tensors)
                    except RuntimeError:  # a sparse one
                        length = bytes_of(tensors)
                    if parts:
                        length *= group.size
                    # Older operators do not say whether the caller waits at once.
                    free = 1 if free_place < 0 or arguments[free_place] else 0
                    marks: Any = None if group.start is None else group.start(tensors, bool(free))
                    sequence = UNKNOWN if op in BETWEEN_TWO else group.sequence()
                    number = 0 if marks is False else group.number
                    enter = clock()
                except Exception as error:  # noqa: BLE001  (a guest does not raise into the job)
                    tracker.problem, number = repr(error), 0
            if number == 0:
                return redispatch(below, *arguments)
            try:
                answer = redispatch(below, *arguments)
            except BaseException:
                tracker.emit((op, number, length, enter, sequence, free, None), FAILED)
                raise
            try:
                if returns == 0:  # monitored_barrier, which waits itself
                    tracker.emit((op, number, length, enter, sequence, free, None), EXACT, clock() - enter, 0)
                    return answer
                work = work_of(answer[-1] if returns > 1 else answer)
                entry = (op, number, length, enter, sequence, free and clock(), marks)
                if live.setdefault(work, entry) is not entry or free:
                    began(work, entry)
                if not sinks:  # closed meanwhile
                    live.pop(work, None)
            except Exception as error:  # noqa: BLE001
                tracker.problem = repr(error)
            return answer

        return kernel
