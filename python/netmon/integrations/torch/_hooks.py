"""Seeing collectives by the hooks of process groups: torch 2.14 and newer."""

from __future__ import annotations

import importlib
import itertools
import random
import sys
import threading
import weakref
from typing import Any

from ._cuda import Graphs
from ._gpu import starter
from ._measure import PURPOSE
from ._sizes import HOOKED, INPUT_PARTS, NONE, PARTS, bytes_of
from ._tracker import BETWEEN_TWO, FAILED, OP, UNKNOWN, Tracker, now

SOURCE = "torch hooks"
UNSEEN = (
    "calls on a backend itself; monitored_barrier; collectives of other libraries' own communicators; replays of CUDA graphs; "
    "on gloo, the end of a reduce_scatter that is not waited for in Python"
)


class Hooks:
    """The hooks of this process's groups. They stay where they cannot be taken away safely, and do nothing then.

    torch looks at a group's hooks without a lock. Taking one away while another thread calls a collective crashes the process,
    so it is done only where no other thread that has been seen to call any is still there.
    """

    def __init__(self, tracker: Tracker, graphs: Graphs) -> None:
        self._tracker, self._graphs = tracker, graphs
        names = importlib.import_module("torch._C._distributed_c10d").HookOpName.__members__
        # Others are hooked too, such as the splitting of a group; they are no collectives.
        self._table: list[tuple[int, int] | None] = [None] * (max(value.value for value in names.values()) + 1)
        for name, value in names.items():
            if name in HOOKED:
                op, made_of = HOOKED[name]
                self._table[value.value] = OP[op], made_of
        # The same id would silently replace somebody else's hook.
        self._id = random.SystemRandom().getrandbits(62)
        self._hooked: dict[int, tuple[weakref.ref[Any], int]] = {}  # by id: groups and their numbers
        self._home = threading.get_ident()
        self._foreign: set[int] = set()  # other threads that have called a collective
        self._register: Any = None  # as it was, and ours
        self._ours: Any = None

    @staticmethod
    def possible(distributed: Any) -> bool:
        """Tell whether this torch has hooks."""
        return hasattr(distributed.ProcessGroup, "register_pre_hook")

    def attach(self) -> None:
        """Hook the groups that there are, and those to come."""
        if not self._hooked:
            self._home = threading.get_ident()
            self._foreign.clear()
        c10d = _c10d()
        for group in list(c10d._world.pg_map):
            self._hook(group)
        if self._ours is not None:
            return
        original = self._register = c10d._register_process_group

        def register_process_group(name: str, group: Any) -> Any:
            answer = original(name, group)
            if self._tracker.sinks:
                self._hook(group)
            return answer

        c10d._register_process_group = self._ours = register_process_group

    def detach(self) -> str | None:
        """Take the hooks away; where that cannot be done, return why."""
        self._restore()
        why = why_not({self._home, *self._foreign})
        if why is not None:
            return f"hooks of process groups stay, and do nothing: {why}"
        for reference, _ in self._hooked.values():
            group = reference()
            if group is not None:
                group.unregister_pre_hook(self._id)
                group.unregister_post_hook(self._id)
        self._hooked.clear()
        return None

    def after_fork(self) -> None:
        """Begin anew in a child. torch is left alone: the hooks of the parent's groups stay there."""
        self._restore()
        self._home = threading.get_ident()
        self._foreign.clear()

    def _restore(self) -> None:
        c10d = _c10d()
        if self._ours is not None and c10d._register_process_group is self._ours:
            c10d._register_process_group = self._register
        self._register = self._ours = None

    def _gone(self) -> set[int]:
        """Forget groups that are no more, and return the numbers that no other has."""
        gone = {key: number for key, (reference, number) in list(self._hooked.items()) if reference() is None}
        for key in gone:
            self._hooked.pop(key, None)
        return set(gone.values()).difference(number for _, number in list(self._hooked.values()))

    def _hook(self, group: Any) -> None:
        try:
            key = id(group)
            known = self._hooked.get(key)
            if known is not None and known[0]() is group:
                return
            name, size = name_of(group), group.size()
            self._tracker.ended(self._gone(), but=(name, size))
            number = self._tracker.group(name, size) if is_the_jobs(group) else 0
            if number == 0:
                return
            pre, post = self._pair(number, size, starter(group, self._graphs))
            self._hooked[key] = weakref.ref(group), number
            group.register_pre_hook(self._id, pre)
            group.register_post_hook(self._id, post)
        except Exception as error:  # noqa: BLE001  (a guest does not raise into the job)
            self._tracker.problem = repr(error)

    def _pair(self, number: int, size: int, start: Any) -> tuple[Any, Any]:
        """Make the hooks of a group. They are called for every collective, so they do what they must and no more.

        They must not keep a module of torch alive, nor may anything else here: where groups are not destroyed, that changes the
        order in which the interpreter takes things down, and hooks that are left then end the process with a crash.
        """
        tracker, table = self._tracker, self._table
        sinks, live, began = tracker.sinks, tracker.live, tracker.began
        home, foreign, ident, clock = self._home, self._foreign, threading.get_ident, now
        pending: dict[int, tuple[int, int, int, Any]] = {}  # by thread: it calls one at a time
        numbered = itertools.count(1).__next__
        between = 0  # how many sends and receives torch has numbered

        def pre(call: Any) -> None:
            if not sinks:
                return
            try:
                thread = ident()
                if pending:
                    refused = pending.pop(thread, None)
                    if refused is not None:  # the last call did not get to post
                        tracker.emit((refused[0], number, refused[1], refused[2], UNKNOWN, False, None), FAILED)
                known = table[call.name.value]
                if known is None:
                    return
                op, made_of = known
                if made_of <= INPUT_PARTS:
                    tensors = call.input_tensors
                elif made_of != NONE:
                    tensors = call.output_tensors
                else:
                    tensors = ()
                try:
                    length = tensors[0].nbytes if len(tensors) == 1 else bytes_of(tensors)
                except RuntimeError:  # a sparse one
                    length = bytes_of(tensors)
                if made_of in PARTS:
                    length *= size
                if thread != home:
                    foreign.add(thread)
                marks = None if start is None else start(tensors, call.async_op)
                pending[thread] = op, length, clock(), marks
            except Exception as error:  # noqa: BLE001
                tracker.problem = repr(error)

        def post(call: Any) -> None:
            if not sinks:
                return
            try:
                known = pending.pop(ident(), None)
                if known is None:
                    return
                op, length, enter, marks = known
                free = call.async_op
                if op in BETWEEN_TWO:
                    nonlocal between
                    between, sequence = numbered(), UNKNOWN
                else:
                    sequence = call.op_id - between
                entry = op, number, length, enter, sequence, free, marks or None
                work = call.work if marks is not False else None
                # What began does, without calling it where nothing is the matter.
                if work is None or live.setdefault(work, entry) is not entry or free:
                    began(work, entry)
                if not sinks:  # closed meanwhile
                    live.pop(work, None)
            except Exception as error:  # noqa: BLE001
                tracker.problem = repr(error)

        return pre, post


def _c10d() -> Any:
    return sys.modules["torch.distributed.distributed_c10d"]


def why_not(callers: set[int]) -> str | None:
    """Return why what was put into torch cannot be taken away, None where it can.

    torch looks it up without a lock: taken away while a thread calls a collective, it would crash the process, or break
    the call.

    Args:
        callers: the threads that may call collectives. Those of C++, as autograd's, do so on behalf of one of Python's.
    """
    others = callers & {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
    if others:
        return f"{len(others)} other thread{'s' * (len(others) > 1)} may be calling collectives, and torch has no lock there"
    return None


def is_the_jobs(group: Any) -> bool:
    """Tell whether a group is the job's, and not that of a measurement of netmon's."""
    return getattr(group, "group_desc", "") != PURPOSE


def name_of(group: Any) -> str:
    """Return a name that tells a group from others: what it is for, and its own name."""
    purpose, name = getattr(group, "group_desc", ""), group.group_name
    if purpose == "default_pg":
        return str(purpose)
    return str(name) if purpose in ("", "undefined") else f"{purpose}:{name}"
