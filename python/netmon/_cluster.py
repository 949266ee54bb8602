"""This process's part in the view of its job: one daemon thread that says what the process knows, and fetches what all say.

How it travels is an engine's: a Board, on which each process leaves a digest and one of them a view made of all digests. The
thread looks for one in what the job has imported, and imports nothing. Nothing here is raised into the job: what goes wrong is
said by the view.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import queue
import sys
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ._cluster_types import ClusterView
from ._election import MOST_HEIRS, PATIENCE, Election
from ._errors import ClosedError, Error

if TYPE_CHECKING:
    from ._monitor import Monitor

# A view is fetched when somebody asked for one in the last intervals; and always where all ranks together fetch so little.
_ASKED_INTERVALS = 30
_LITTLE_BYTES = 256 << 10
_USUAL_SIZE = 16  # of a job whose engine does not know it
# For how long an engine may leave a call unanswered before the view says so.
_SILENT_SECONDS = 3.0
_CLOSE_SECONDS, _EXIT_SECONDS = 0.1, 1.0
_MOST_VIEW_BYTES = 8 << 20


class BoardError(Exception):
    """An engine cannot be used, or no more; the text says why."""


class Abandoned(Exception):  # noqa: N818 - it is no error
    """The board was abandoned while a call waited."""


class Board(Protocol):
    """Where the processes of a job leave their digests, and one of them the view.

    All but ``abandon`` is called by one thread. Calls may wait for as long as the engine is silent.
    """

    engine: str  # as the view names it
    number: int  # of this process
    rank: int | None
    numbers_are_ranks: bool
    world_size: int | None
    waiting_since: float | None  # since when a call waits for an answer, by time.monotonic

    def open(self) -> None:
        """Connect.

        Raises:
            BoardError: it cannot be used, as for all that follows.
            Abandoned: as for all that follows.
        """

    def exchange(self, digest: bytes | None) -> bytes:
        """Leave a digest, if there is one, and return the lease; empty: there is none yet."""

    def replace(self, before: bytes, after: bytes) -> bytes:
        """Replace the lease if it is ``before`` (empty: if there is none), and return what it is then."""

    def digests(self) -> Mapping[int, bytes]:
        """Return all digests by number; an empty one: the process said that it leaves."""

    def write_view(self, view: bytes) -> None:
        """Leave a view."""

    def read_view(self) -> bytes | None:
        """Return the newest view."""

    def write_note(self, note: bytes) -> None:
        """Leave what this process has to say to others beside its digest, in place of what it said before."""

    def read_notes(self) -> Mapping[int, bytes]:
        """Return all notes by number."""

    def leave(self) -> None:
        """Say that this process leaves, without waiting, and close the connection."""

    def abandon(self) -> None:
        """Have a call that waits raise Abandoned, and all later ones too. Any thread may call it."""

    def forget(self) -> None:
        """Close what a forked child inherited, without a word to anybody."""

    def is_over(self) -> bool:
        """Tell whether the job has given up what this board is on."""


class Speaker(Protocol):
    """Who knows what this process has to say: a monitor."""

    _cluster_interval: float  # that its digests say

    def _tell_rank(self, rank: int, world_size: int | None) -> None: ...

    def _digest(self) -> bytes: ...

    def _aggregate(self, request: Mapping[str, Any]) -> bytes: ...


class _Kept(NamedTuple):
    """The newest view, and what it came with."""

    view: ClusterView
    order: tuple[int, int]
    since: float


class Member:
    """One process's membership.

    It looks twice an interval, so that a rank that falls silent is seen to be late before five intervals have passed: three
    that it may be silent for, and the time until its last digest was noticed, the view made, and fetched.

    Args:
        find: looks for an engine: a board, or why there is none. It is called every interval until there is one.
        speaker: gives who speaks, None where nobody is left.
        interval: seconds between two digests.
    """

    def __init__(self, find: Callable[[], Board | str], speaker: Callable[[], Speaker | None], interval: float) -> None:
        self._find = find
        self._speaker = speaker
        self.interval = interval
        self._process = os.urandom(8).hex()
        self._closing = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.board: Board | None = None
        self._election: Election | None = None
        self._dead: Board | None = None  # which failed, until the job has another
        self._problem: str | None = "this process has just joined; there is no view yet"
        self._kept: _Kept | None = None
        self._asked = float("-inf")
        self._next_digest = 0.0
        self._last_round = self._rests_until = 0.0
        self._changed: dict[int, tuple[bytes, float]] = {}  # digests by number, and since when
        self._told: weakref.ref[Speaker] | None = None  # who knows the rank
        self._hurry = False
        self._note: bytes | None = None  # that is to be left
        self._readers: queue.SimpleQueue[queue.SimpleQueue[Mapping[int, bytes]]] = queue.SimpleQueue()

    def start(self) -> None:
        """Start the thread; where none can be started, the view says so."""
        thread = threading.Thread(target=self._run, name="netmon-cluster", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._problem = f"no thread can be started: {error}"
            return
        self._thread = thread

    def close(self, seconds: float) -> None:
        """End the thread, and wait for it so long at most; it ends by itself where it is held up."""
        self._closing = True
        self._wake.set()
        thread, board = self._thread, self.board
        if thread is None or thread is threading.current_thread():
            return
        if board is not None and board.waiting_since is not None:
            board.abandon()
        thread.join(seconds)
        if thread.is_alive() and board is not None:
            board.abandon()

    def forget(self) -> None:
        """Let go of what a forked child inherited."""
        self._closing = True
        if self.board is not None:
            self.board.forget()

    def view(self) -> ClusterView:
        """Return the newest view at once, and have newer ones fetched for a while."""
        now = time.monotonic()
        waited_for = now - self._asked > _ASKED_INTERVALS * self.interval
        self._asked = now
        if waited_for:
            self._hurry = True
            self._wake.set()
        kept, board = self._kept, self.board
        engine = board.engine if board is not None else None
        problem = self._problem
        if board is not None:
            since = board.waiting_since
            if since is not None and now - since >= min(_SILENT_SECONDS, 2 * self.interval):
                problem = f"the {engine} has not answered for {now - since:.1f} s"
        if kept is None:
            return ClusterView(None, None, problem or "no view was made yet, or it is being fetched", engine)
        age = now - kept.since
        if problem is None and age > 2 * PATIENCE * self.interval:
            problem = f"no process has made a new view for {age:.1f} s"
        return kept.view.again(age, problem)

    def leave_note(self, note: bytes) -> None:
        """Have a note left at once, without waiting for it."""
        self._note = note
        self._wake.set()

    def notes(self, seconds: float) -> Mapping[int, bytes]:
        """Return the notes of all processes, if they come in so many seconds; else none."""
        answer: queue.SimpleQueue[Mapping[int, bytes]] = queue.SimpleQueue()
        board = self.board
        if self._closing or self._thread is None or board is None or board.waiting_since is not None:
            return {}
        self._readers.put(answer)
        self._wake.set()
        try:
            return answer.get(timeout=seconds)
        except queue.Empty:
            return {}

    def _run(self) -> None:
        while not self._closing:
            try:
                self._step()
                self._rest()
            except Abandoned:
                break
            except Exception as error:  # noqa: BLE001 - a guest tells, and does not raise, in a thread of the job
                self._problem = f"a defect of netmon: {error!r}"
                self._wake.wait(self.interval / 2)
        board = self.board
        if board is not None:
            with contextlib.suppress(Exception):  # it leaves in any case
                board.leave()

    def _rest(self) -> None:
        """Wait for the next round, and carry notes meanwhile."""
        until = time.monotonic() + self.interval / 2
        while not self._closing and not self._hurry:
            left = until - time.monotonic()
            if left <= 0 or not self._wake.wait(left):
                break
            self._wake.clear()
            if self.board is not None:
                try:
                    self._carry(self.board)
                except BoardError as error:
                    self._lose(str(error))
        self._hurry = False

    def _carry(self, board: Board) -> None:
        note, self._note = self._note, None
        if note is not None:
            board.write_note(note)
        notes: Mapping[int, bytes] | None = None
        with contextlib.suppress(queue.Empty):
            while True:
                reader = self._readers.get_nowait()
                if notes is None:
                    notes = board.read_notes()
                reader.put(notes)

    def _step(self) -> None:
        speaker = self._speaker()
        if speaker is None:
            self._closing = True
            return
        if self.board is not None and self.board.is_over():
            self._lose("the job has given up what the view travelled by")
        if self.board is None and not self._join():
            return
        assert self.board is not None
        try:
            self._carry(self.board)  # what came before there was a board
            self._round(self.board, speaker)
        except BoardError as error:
            self._lose(str(error))
        except ClosedError:
            pass  # the next one speaks, or the thread ends
        except Error as error:
            self._problem = f"{type(error).__name__}: {error}"

    def _join(self) -> bool:
        if self._dead is not None:
            if not self._dead.is_over():
                return False  # one error is enough: what failed is not tried again
            self._dead = None
        found = self._find()
        if isinstance(found, str):
            self._problem = found
            return False
        # Known before it is opened, so that opening it can be abandoned.
        self.board = found
        if self._closing:
            raise Abandoned
        try:
            found.open()
        except BoardError as error:
            self._lose(str(error))
            return False
        self._problem = None
        self._election = Election(found.number, self._process, self.interval)
        self._changed.clear()
        self._next_digest = 0.0
        self._told = None
        self._last_round = time.monotonic()
        if self._kept is not None:
            self._kept = self._kept._replace(order=(0, 0))  # terms of another lease do not compare
        return True

    def _lose(self, why: str) -> None:
        board, self.board, self._election = self.board, None, None
        self._problem = why
        if board is not None:
            board.forget()
            self._dead = board

    def _round(self, board: Board, speaker: Speaker) -> None:
        assert self._election is not None
        election = self._election
        if speaker._cluster_interval != self.interval:
            # Its digests say how soon the next one comes.
            self.interval = election.interval = speaker._cluster_interval
            self._next_digest = 0.0
        if board.rank is not None and (self._told is None or self._told() is not speaker):
            speaker._tell_rank(board.rank, board.world_size)
            self._told = weakref.ref(speaker)
        due = time.monotonic() >= self._next_digest
        digest = speaker._digest() if due else None
        text = board.exchange(digest)
        now = time.monotonic()
        if now - self._last_round > 2 * self.interval:
            # The engine was silent, or this process was stopped: the others' digests may be as old as that.
            self._rests_until = now + self.interval
        self._last_round = now
        if due:
            # On a rhythm of its own, but never twice to make up for a pause.
            self._next_digest = max(self._next_digest + self.interval, now + self.interval / 2)
        election.see(text, now)
        if now >= self._rests_until:
            self._take_part(board, speaker, election)
        # A view whose maker was never seen to go on may be as old as the store.
        newest = election.lease
        if not election.holds and election.went_on and newest is not None and self._is_wanted(board, newest.view_bytes, now):
            self._fetch(board, newest.term)
        self._problem = None

    def _take_part(self, board: Board, speaker: Speaker, election: Election) -> None:
        if not election.is_due():
            if election.prepares:
                self._made(board, speaker)  # so that it has seen who fell silent when it takes over
            return
        packed = zlib.compress(self._made(board, speaker), 1)
        now = time.monotonic()
        lease = election.claim(len(packed), self._heirs(board.number, now))
        if election.claimed(board.replace(*lease), now):
            assert election.lease is not None
            order = (election.lease.term, election.lease.beat)
            board.write_view(b"%d %d\n" % order + packed)
            self._keep(packed, order)

    def _made(self, board: Board, speaker: Speaker) -> bytes:
        """Return a view of what all say now."""
        digests = board.digests()
        now = time.monotonic()
        self._changed = {number: known for number, known in self._changed.items() if number in digests}
        for number, digest in digests.items():
            known = self._changed.get(number)
            if known is None or known[0] != digest:
                self._changed[number] = (digest, now)
        request = {
            "engine": board.engine,
            "world_size": board.world_size,
            "rank": board.rank,
            "digests": [digest for digest in digests.values() if digest],
            "gone": [number for number, digest in digests.items() if not digest and board.numbers_are_ranks],
        }
        return speaker._aggregate({key: value for key, value in request.items() if value is not None})

    def _heirs(self, number: int, now: float) -> tuple[int, ...]:
        """Return who is to take over where this process, which makes the view, does not go on."""
        live = (
            other
            for other, (digest, since) in sorted(self._changed.items())
            if digest and other != number and now - since < PATIENCE * self.interval
        )
        return tuple(other for other, _ in zip(live, range(MOST_HEIRS), strict=False))

    def _is_wanted(self, board: Board, view_bytes: int, now: float) -> bool:
        return (
            view_bytes * (board.world_size or _USUAL_SIZE) <= _LITTLE_BYTES
            or now - self._asked <= _ASKED_INTERVALS * self.interval
        )

    def _fetch(self, board: Board, newest_term: int) -> None:
        view = board.read_view()
        if view is None or len(view) > _MOST_VIEW_BYTES:
            return
        head, _, packed = view.partition(b"\n")
        term, beat = map(int, head.split())
        # Who was stopped in the middle may leave an old view when it goes on.
        if term >= newest_term and (self._kept is None or (term, beat) > self._kept.order):
            self._keep(packed, (term, beat))

    def _keep(self, packed: bytes, order: tuple[int, int]) -> None:
        self._kept = _Kept(ClusterView(packed, None, None), order, time.monotonic())


ENGINES: Mapping[str, tuple[str, str]] = {
    # By name: the module of the job that has to be there, and ours.
    "store": ("torch.distributed", "netmon.integrations.torch._store"),
    "ray": ("ray", "netmon.integrations.ray._board"),
}


def _look(names: Sequence[str]) -> Board | str:
    """Return a board on the first engine that the job has, or why there is none. Imports nothing that is not netmon's own."""
    reasons = []
    for name in names:
        theirs, ours = ENGINES[name]
        if theirs not in sys.modules:
            reasons.append(f"{theirs} is not imported")
            continue
        found: Board | str = importlib.import_module(ours).find()
        if not isinstance(found, str):
            return found
        reasons.append(found)
    return "no way to the other processes yet: " + "; ".join(reasons)


class Hold:
    """A monitor's wish that its process takes part, until ``release``."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = weakref.ref(monitor)
        self._member: Member | None = None

    def monitor(self) -> Monitor | None:
        """Return the monitor while it can speak."""
        monitor = self._monitor()
        return monitor if monitor is not None and not monitor.closed else None

    def view(self) -> ClusterView:
        """Return the newest view at once."""
        member = self._member
        if member is None:
            return ClusterView(None, None, _child or "this process takes no part in the view of its job any more")
        return member.view()

    def leave_note(self, note: bytes) -> None:
        """Leave a note for the other processes of the job, without waiting for it."""
        member = self._member
        if member is not None:
            member.leave_note(note)

    def notes(self, seconds: float) -> Mapping[int, bytes]:
        """Return the newest notes of the job's processes, if they come in so many seconds; else none."""
        member = self._member
        return member.notes(seconds) if member is not None else {}

    def release(self) -> None:
        """Wish it no more; the last one ends the thread."""
        global _member
        with _lock:
            member, self._member = self._member, None
            # Those of monitors that were dropped are not released.
            _holds[:] = [hold for hold in _holds if hold is not self and hold.monitor() is not None]
            ending = member is not None and member is _member and not _holds
            if ending:
                _member = None
        if member is not None and ending:
            member.close(_CLOSE_SECONDS)


_lock = threading.RLock()  # a signal handler that closes may run where its thread has it
_holds: list[Hold] = []
_member: Member | None = None
_child: str | None = None  # why a forked child takes no part


def join(monitor: Monitor, engine: str | None, interval: float) -> Hold:
    """Have this process take part. A process does so once: the engine is that of the first that asks."""
    global _member
    hold = Hold(monitor)
    names = tuple(ENGINES) if engine is None else (engine,)
    for name in names:
        # Not left to the thread: a process that forks meanwhile would leave its child the locks of an import.
        importlib.import_module(ENGINES[name][1])
    with _lock:
        if _child is not None:
            return hold
        _holds.append(hold)  # first: a thread that finds nobody who speaks ends
        if _member is None or _member._closing:
            _member = Member(lambda: _look(names), _speaker, interval)
            _member.start()
        hold._member = _member
    return hold


def _speaker() -> Monitor | None:
    for hold in list(_holds):
        monitor = hold.monitor()
        if monitor is not None:
            return monitor
    return None


def _at_exit() -> None:
    member = _member
    if member is not None:
        member.close(_EXIT_SECONDS)


def _after_fork_in_child() -> None:
    # The parent speaks for this rank. What it had not begun a child may begin for itself: launchers fork ranks.
    global _lock, _member, _child
    _lock = threading.RLock()
    member, _member = _member, None
    for hold in _holds:
        hold._member = None
    _holds.clear()
    if member is not None:
        if member.board is not None:
            _child = "this is a forked child: the process that it was forked from takes part in the view of the job"
        member.forget()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
