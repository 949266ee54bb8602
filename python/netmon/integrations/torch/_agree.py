"""Agreeing, through the job's store, that every rank is there before a collective is called.

A rank that calls a collective alone hangs, and takes the others' next one with it. So the ranks first meet in the store, each
by a connection of its own, never by a collective. Rank 0 opens a meeting; the others say that they are there, and what they
want to do; and what comes of it, go or not, is written once (``compare_set``), so that whoever gives up and whoever goes ahead
learn the same.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
import uuid
from collections import deque
from typing import Any

from ..._cluster import BoardError
from ..._errors import InvalidArgumentError, TimedOutError, UnreachableError, UnsupportedError
from ._client import connect, let_go
from ._store import place_of

_PREFIX = "netmon/meeting"
_OPEN = "open"
_GO, _OFF = "go", "off"
_LEAST_PAUSE, _MOST_PAUSE = 0.001, 0.05
_KEPT_SECONDS = 60.0  # for how long what was written at a meeting stays in the store; who visited it has long read it then
_GRACE_SECONDS = 3.0  # how long after the timeout a store that keeps none, or a name that is looked up, is waited for

_past: deque[tuple[float, list[str]]] = deque()  # the keys of meetings that this process opened, and when they ended


class Meeting:
    """What this rank tries to agree on with the others.

    Args:
        rank: this one.
        size: how many there are.
        what: what is to be done, in a text; all ranks must want the same.
        name: of the function that was called, for errors.
    """

    def __init__(self, rank: int, size: int, what: str, name: str) -> None:
        self._rank, self._size, self._what, self._name = rank, size, what, name
        self._place = ""  # of the group on its store
        self._given_up = False
        self._agreed = False
        self._error: BaseException | None = None
        self._missing = f"{size - 1} of {size} ranks"

    def attend(self, timeout: float) -> None:
        """Return when all ranks are there.

        Raises:
            TimedOutError: not all came in time.
            InvalidArgumentError: they want to do different things.
            UnreachableError: the store cannot be reached.
            UnsupportedError: the job's store is of a kind that one cannot connect to.
        """
        deadline = time.monotonic() + timeout
        # A name that is looked up, or a store spoken to by torch's client, keeps no timeout: the thread is left to itself.
        thread = threading.Thread(target=self._run, args=(deadline,), name="netmon-meeting", daemon=True)
        thread.start()
        try:
            while thread.is_alive() and time.monotonic() < deadline + _GRACE_SECONDS:
                thread.join(0.05)  # Ctrl-C works in between
        finally:
            self._given_up = True
        if thread.is_alive():
            raise UnreachableError(f"{self._name}: the job's store did not answer within {timeout + _GRACE_SECONDS:g} s")
        if self._error is not None:
            raise self._error
        if not self._agreed:
            raise TimedOutError(
                f"{self._name}: {self._missing} did not call it within {timeout:g} s; it measures only where every rank "
                "calls it in the same step, with the same arguments, and nothing was measured"
            )

    def _run(self, deadline: float) -> None:
        store: Any = None
        try:
            store, self._place = _connect(deadline - time.monotonic())
            self._agreed = self._host(store, deadline) if self._rank == 0 else self._visit(store, deadline)
        except (InvalidArgumentError, UnsupportedError) as error:
            self._error = error
        except BoardError as error:
            self._error = UnreachableError(f"{self._name}: {error}")
        except Exception as error:  # noqa: BLE001  (every kind of store has its own)
            self._error = UnreachableError(f"{self._name}: the job's store: {type(error).__name__}: {error}")
        finally:
            let_go(store)

    def _is_over(self, deadline: float) -> bool:
        return self._given_up or time.monotonic() >= deadline

    def _host(self, store: Any, deadline: float) -> bool:
        """Open a meeting, and say what comes of it: rank 0."""
        meeting = uuid.uuid4().hex
        store.set(self._place + _OPEN, meeting)
        _forget_past(store)
        try:
            return self._wait_for_all(store, meeting, deadline)
        finally:
            _past.append((time.monotonic(), [_outcome(meeting), *(_there(meeting, rank) for rank in range(1, self._size))]))

    def _wait_for_all(self, store: Any, meeting: str, deadline: float) -> bool:
        waited_for = list(range(1, self._size))
        pause = _LEAST_PAUSE
        while True:
            came = [rank for rank in waited_for if store.check([_there(meeting, rank)])]
            if came:
                pause = _LEAST_PAUSE
            for rank in came:
                wants = store.get(_there(meeting, rank)).decode()
                if wants != self._what:
                    _decide(store, meeting, f"rank {rank} wants {wants}, rank 0 wants {self._what}")
                    raise self._different(f"rank {rank} wants {wants}, rank 0 wants {self._what}")
            waited_for = [rank for rank in waited_for if rank not in came]
            if not waited_for and not self._given_up:
                return _decide(store, meeting, _GO) == _GO
            if self._is_over(deadline):
                self._missing = _ranks(waited_for)
                return _decide(store, meeting, _OFF) == _GO
            time.sleep(pause)
            pause = min(2 * pause, _MOST_PAUSE)

    def _visit(self, store: Any, deadline: float) -> bool:
        """Come to a meeting that rank 0 opened, as often as it takes."""
        seen = ""  # the newest meeting
        came = False  # to it; else it was over already
        pause = _LEAST_PAUSE
        self._missing = "rank 0"
        while not self._is_over(deadline):
            meeting = store.get(self._place + _OPEN).decode() if store.check([self._place + _OPEN]) else ""
            # In this order: rank 0 opens the next one when the last has come to something.
            if came and store.check([_outcome(seen)]):
                outcome = store.get(_outcome(seen)).decode()
                if outcome == _GO:
                    return True
                if outcome != _OFF:
                    raise self._different(outcome)
                came = False
            if meeting and meeting != seen:
                seen, pause = meeting, _LEAST_PAUSE
                came = not store.check([_outcome(meeting)])
                if came:
                    store.set(_there(meeting, self._rank), self._what)
            time.sleep(pause)
            pause = min(2 * pause, _MOST_PAUSE)
        if came:
            self._missing = "another rank"
            return _decide(store, seen, _OFF) == _GO
        return False

    def _different(self, how: str) -> InvalidArgumentError:
        return InvalidArgumentError(f"{self._name}: ranks called it with different arguments: {how}; nothing was measured")


def _forget_past(store: Any) -> None:
    """Take out of the store what is left of meetings: jobs may measure in every step."""
    for _ in range(2):  # more than come to be
        if not _past or time.monotonic() - _past[0][0] < _KEPT_SECONDS:
            return
        _, keys = _past.popleft()
        for key in keys:
            with contextlib.suppress(Exception):  # not every kind of store can
                store.delete_key(key)


def _there(meeting: str, rank: int) -> str:
    return f"{meeting}/{rank}"


def _outcome(meeting: str) -> str:
    return f"{meeting}/outcome"


def _decide(store: Any, meeting: str, outcome: str) -> str:
    """Say what comes of a meeting, unless somebody has said it; return what holds."""
    return str(store.compare_set(_outcome(meeting), "", outcome).decode())


def _ranks(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:8])) + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")
    return f"rank{'s' * (len(ranks) > 1)} {shown}"


def _connect(seconds: float) -> tuple[Any, str]:
    """Return a connection of our own to the job's store, and the place of the default group on it.

    On the job's connection a waiting call would hold up the job's.
    """
    distributed: Any = importlib.import_module("torch.distributed")
    outer: Any = distributed.distributed_c10d._get_default_store()
    store = outer
    while hasattr(store, "underlying_store"):
        store = store.underlying_store
    if isinstance(store, distributed.TCPStore):
        return connect(store.host, store.port, _PREFIX, seconds), place_of(outer)
    if isinstance(store, distributed.FileStore):
        return distributed.PrefixStore(_PREFIX, distributed.FileStore(store.path, -1)), ""
    raise UnsupportedError(f"the job's store is a {type(store).__name__}; ranks can agree through a TCPStore or a FileStore")
