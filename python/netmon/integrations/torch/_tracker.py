"""What is known of each collective between its call and its end, and how the end is found out.

A way of seeing calls (``_hooks``, ``_library``) tells of each one. Its end is seen where the job waits for it in
Python (``Work.wait``), and looked for by a thread where it does not: closely for as many as it may spend time on
(``_ration``), and now and then for the others, of which the next call lets go. Nothing here may raise into the job,
hold it up, or keep its tensors for long.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from struct import Struct
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ... import _abi

if TYPE_CHECKING:
    from ._cuda import Marks
    from ._sink import Sink

now = time.monotonic_ns

UNKNOWN = _abi.UNKNOWN_U64
RECORD = Struct("=" + "".join(code for _, code in _abi.COLLECTIVE_FIELDS))
# A record with its four small numbers two by two: struct_size and op, group and end.
pack = Struct("=QQQQQQQ").pack
OP = {name: RECORD.size | value << 32 for name, value in _abi.COLLECTIVES.items()}
_END = {name: value << 32 for name, value in _abi.ENDS.items()}
EXACT, POLLED, BOUND, FAILED, NO_END = (_END[name] for name in ("exact", "polled", "bound", "failed", "unknown"))

# Ops of two ranks: the others of the group do not count them, so they have no number that ranks share.
BETWEEN_TWO = frozenset(OP[name] for name in ("send", "recv"))
# Ops whose Work says that it is complete only once somebody has waited for it (gloo; reduce_scatter since torch 2.15).
_TELLS_LATE = frozenset(OP[name] for name in ("send", "recv", "reduce_scatter"))

BATCH = 256  # records that are handed over at once
MOST_GROUPS = 1000
_MOST_LIVE = 4096
# Between two looks when nothing is followed, on average, and between two times that records are handed over. They are at random
# moments, so that the share of them at which something is under way is that of the time.
_IDLE_NS, _SPREAD_NS, _MOST_IDLE_NS = 250_000_000, 100_000_000, 1_000_000_000
_LEAST_NS, _MOST_NS = 1_000_000, 50_000_000  # between two looks at what is followed
_KEPT_NS = 50_000_000  # and before one is expected to end: longer, or a tenth of its duration, none is kept that ended before
_LINGERS = 2  # looks after the last one that ended, as far apart as the next can wait: it need not wake the thread then
_MOST_KINDS = 1024
_MOST_RECENT = 16  # durations of a kind: those of a step, if possible, since the last of a step may have a short one
_SOON_NS = 5_000_000  # who waits at once has begun to by then
_AT_ONCE_NS = 20_000  # who waits so soon did nothing else before
_WAITED_NS = 100_000  # who waited for longer than this waited for the end, and not only for the answer
_UNWANTED_NS = 1_000_000_000
_LONG_NS = 500_000_000  # what has been under way for longer, the monitors are told of
_FORGET_NS = 3600 * 1_000_000_000  # no backend waits longer for a collective

# What the thread may spend. Where it is more than that, it follows not all collectives but blocks of them: those whose sequence
# is by less than _BLOCK above a multiple of a power of two, so that ranks which can afford different ones share the larger's.
_SHARE = 2000  # of that many nanoseconds one may be processor time of the thread
_SAVED_NS = 20_000_000  # processor time that may be saved up, and that there is at first
_RICH_NS = 2_000_000  # having run out of it, none is followed until so much is there again
_BLOCK = 16
_LEAST_MASK, _MOST_MASK = 2 * _BLOCK - 1, (1 << 20) - 1
_MOST_DEBT_NS = 5_000_000
_PATIENCE_NS = 10_000_000  # one that is older and has not ended does not keep others from being let go of

# A collective that was called. A plain tuple: every one of the job makes one.
#   op        of OP
#   group     number of the group in this process
#   bytes
#   enter
#   sequence  of the collectives of the group, the same on all its ranks; UNKNOWN for one of two ranks
#   free      0: the job waits for it at once; 1: it may do something else before; above 1: it may, from then on
#   marks     of one on a GPU, else None
Call: TypeAlias = "tuple[int, int, int, int, int, int, Marks | None]"
ENTER_: Literal[3] = 3
SEQUENCE_: Literal[4] = 4
FREE_: Literal[5] = 5

# Collectives that may take alike: op, group, and the size to a power of two.
Kind: TypeAlias = tuple[int, int, int]


class Tracker:
    """The collectives of this process that are under way, and the records of those that have ended."""

    def __init__(self) -> None:
        # Threads that call collectives, and the one that looks, share what follows without a lock: each of their steps is one
        # of dict's and list's own.
        self.live: dict[Any, Call] = {}  # by their Work, or by their marks once somebody has waited
        self.waiting: dict[Any, Call] = {}  # those that a thread is waiting for in Python, by their Work
        self.packed: list[bytes] = []
        self.sinks: list[Sink] = []
        self.groups: list[tuple[str, int] | None] = []  # by number less 1; None: it has ended, and its number is not used again
        self.problem: str | None = None  # the newest thing that went wrong
        self.looked = 0  # when the thread looked last
        self.dozing = False  # it will not look soon
        self.looks_at = 0  # but then
        self._numbers: dict[tuple[str, int], int] = {}
        # How many looks are still to come where nothing is under way, and how far apart.
        self._lingers, self._apart = 0, _LEAST_NS
        self._restore: list[Callable[[], None]] = []
        self._inherited: list[Any] = []
        self._begin()

    def _begin(self) -> None:
        """Make what belongs to the threads of this process."""
        self._naming = threading.Lock()
        # Which are followed: all where mask is 0, else those of which sequence & mask is less than block, 0 or _BLOCK.
        self.mask, self.block = 0, _BLOCK
        self._credit, self._counted, self._spent = _SAVED_NS, 0, 0
        self._random = Random()  # noqa: S311  (not the one of the job, and nothing secret)
        self._cost = 0  # of a look at which nothing is followed
        self._next = 0  # when the next one is due that has nothing to do with the job
        self._looks = self._busy = 0  # how many there were, and at how many something was under way
        self._flushing = threading.Lock()
        self._telling = threading.RLock()
        self._told: tuple[Call, int] | None = None  # what is under way for long, as the monitors know it
        self._wake = threading.Lock()  # let go of to wake the thread: an Event takes twice as long, here and there
        self._wake.acquire()
        self._unfinished: dict[int, Call] = {}  # what had not ended when the thread looked last, by the call's id
        # When after the call it is time to look for the end, and the last durations: as tuples, so they need no lock.
        self._kinds: dict[Kind, tuple[int, tuple[int, ...]]] = {}
        self._thread: threading.Thread | None = None  # the one that looks; others end

    def after_fork(self) -> None:
        """Begin anew in a child.

        It has no thread that looks, locks may be held by threads that it does not have, and its parent's collectives are not
        its own. What is under way is kept as it is: it belongs to threads of the parent.
        """
        self._inherited.append((dict(self.live), dict(self.waiting)))
        for shared in (self.live, self.waiting, self.packed, self.sinks):
            shared.clear()
        while self._restore:
            self._restore.pop()()
        self._begin()

    def add(self, sink: Sink) -> None:
        """Hand records to a monitor, from now on, and have it know the groups, and what is under way for long."""
        self.flush()  # what was recorded is not its own
        with self._naming:
            sink.name_groups(self.groups)
            self.sinks.append(sink)
        with self._telling:
            self._tell([sink])

    def remove(self, sink: Sink) -> None:
        """Hand no more to a monitor; to it nothing is under way."""
        with self._telling:
            if sink in self.sinks:
                self.sinks.remove(sink)
            sink.tell(None, 0)
            sink.leave()

    def group(self, name: str, size: int) -> int:
        """Return the number of a group; 0 where there are too many."""
        with self._naming:
            number = self._numbers.get((name, size), 0)
            if number == 0 and len(self._numbers) < MOST_GROUPS:
                self.groups.append((name, size))
                for sink in list(self.sinks):
                    with self._noting():
                        sink.name_groups(self.groups)
                number = self._numbers[name, size] = len(self.groups)
        if number == 0:
            self.problem = f"collectives of {name} are not seen: there are more than {MOST_GROUPS} groups"
        return number

    def ended(self, numbers: Iterable[int], but: tuple[str, int]) -> None:
        """Make room: the job has no such groups any more, unless it is about to have one of that name and size again."""
        with self._naming:
            for number in numbers:
                group = self.groups[number - 1] if number > 0 else None
                if group is None or group == but:
                    continue
                self.groups[number - 1] = None
                del self._numbers[group]
                for sink in list(self.sinks):
                    with self._noting():
                        sink.end_group(number, *group)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Note what goes wrong with one of several monitors, for the others' sake."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  (a guest does not raise into the job)
            self.problem = repr(error)

    # Calls and their ends

    def began(self, work: Any, call: Call) -> None:
        """Take note of a collective that was called. Without a Work of its own, its end will not be known."""
        if work is None or self.live.setdefault(work, call) is not call:
            self.emit(call, NO_END)
        elif call[FREE_]:
            sooner = self.dozing and self._followed(call)
            if sooner and call[ENTER_] + self._rest(call, 0) < self.looks_at:
                self._rouse()
            self._let_go(call)

    def _followed(self, call: Call) -> bool:
        return not self.mask or call[SEQUENCE_] & self.mask < self.block

    def _let_go(self, newest: Call) -> None:
        """Let go of the oldest that have ended: while the job calls, none is kept for long, and no thread is woken."""
        try:
            for _ in range(2):
                work, call = next(iter(self.live.items()))
                if call is newest:
                    return
                result = None
                if call[FREE_]:
                    marks = call[-1]
                    known = self.looked if id(call) in self._unfinished else call[ENTER_]
                    result = _look_at(work, call, known) if marks is None else marks.look(work, known)
                if result is not None:
                    if self.live.pop(work, None) is not None:
                        self._found(call, result)
                elif newest[ENTER_] - call[ENTER_] <= _PATIENCE_NS:
                    return
                elif self.live.pop(work, None) is not None:
                    self.live[work] = call  # the others may have ended: their turn
        except (StopIteration, RuntimeError):
            pass  # there is none, or another thread changed them, or it cannot be asked: the thread will note that

    def _found(self, call: Call, result: tuple[int, int, int]) -> None:
        """Record one that was found to have ended. Of one that is not followed only a bound is known."""
        end, duration, error = result
        self.emit(call, BOUND if end == POLLED and not self._followed(call) else end, duration, error)

    def emit(self, call: Call, end: int, duration: int = UNKNOWN, error: int = UNKNOWN) -> None:
        """Record a collective."""
        try:
            op, group, size, enter, sequence, _, _ = call
            self.packed.append(pack(op, group | end, size, enter, duration, error, sequence))
            if len(self.packed) >= BATCH:
                self.flush(watched=False)
        except Exception as error_:  # noqa: BLE001  (a guest does not raise into the job)
            self.problem = repr(error_)

    def _rouse(self) -> None:
        """Have the thread look now."""
        self.dozing = False
        self._lingers, self._apart = _LINGERS, _LEAST_NS
        with contextlib.suppress(RuntimeError):  # somebody else just did
            self._wake.release()

    def _rest(self, call: Call, age: int) -> int:
        """Return how long one that has not ended need not be looked at."""
        known = self._kinds.get((call[0], call[1], call[2].bit_length()))
        early = (_LEAST_NS if known is None else known[0]) - age
        # A hundredth of a duration is exact enough.
        return min(early, max(_KEPT_NS, age // 10)) if early > 0 else age // 200

    def _learn(self, call: Call, duration: int) -> None:
        """Take note of how long one took, or at least took."""
        kind = call[0], call[1], call[2].bit_length()
        known = self._kinds.get(kind)
        if known is None and len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()  # what goes on is known again soon
        recent = (duration,) if known is None else (*known[1][1 - _MOST_RECENT :], duration)
        self._kinds[kind] = max(_LEAST_NS, min(recent) * 9 // 10), recent

    def _wrap_wait(self, work_class: Any) -> Callable[[], None]:
        """See where the job waits for a Work in Python; what is returned undoes it."""
        original = work_class.wait
        pop, packed, record, clock = self.live.pop, self.packed, self.packed.append, now
        waiting, waited = self.waiting, self.waiting.pop

        def completed(work: Any) -> bool:
            try:
                return bool(work.is_completed())
            except Exception as error:  # noqa: BLE001
                self.problem = repr(error)
                return False

        def wait(self_: Any, *arguments: Any, **options: Any) -> Any:
            looked = self.looked  # when it had not ended, if it was under way: later looks do not find it
            call = pop(self_, None)
            if call is None:
                return original(self_, *arguments, **options)
            op, group, size, enter, sequence, free, marks = call
            begun = done = 0
            try:
                waiting[self_] = call
                if free and marks is None:
                    # One that has not ended when the wait begins ends with it.
                    begun = clock()
                    done = begun - free > _AT_ONCE_NS and (op in _TELLS_LATE or completed(self_))
                answer = original(self_, *arguments, **options)
            except BaseException:
                waited(self_, None)
                self.emit(call, FAILED)
                raise
            try:
                waited(self_, None)
                if marks is None:
                    ended = clock()
                    if not done:
                        end, error = EXACT, 0
                    elif op not in _TELLS_LATE:
                        end, error = BOUND, ended - max(enter, looked)
                        if self.dozing and looked < enter and self._followed(call):
                            self._learn(call, (ended - enter) // 2)  # it was to be looked at later
                    elif ended - begun > _WAITED_NS:
                        end, error = EXACT, 0
                    else:
                        end, error = BOUND, ended - enter
                    record(pack(op, group | end, size, enter, ended - enter, error, sequence))
                    if len(packed) >= BATCH:
                        self.flush(watched=False)
                elif marks.waited():
                    self.live[marks] = call
                else:
                    self.emit(call, NO_END)
            except Exception as error_:  # noqa: BLE001
                self.problem = repr(error_)
            return answer

        wait.__doc__ = original.__doc__
        work_class.wait = wait

        def restore() -> None:
            # Where somebody wrapped it since, ours stays below his, and passes everything on.
            if work_class.__dict__.get("wait") is wait:
                work_class.wait = original

        return restore

    # Records

    def flush(self, *, watched: bool = True) -> None:
        """Hand over what was recorded. Where another thread is at it, it is left to that one.

        Args:
            watched: whether to tell too up to when that is all, and what looks found. It takes longer, and waits for samples.
        """
        if not self._flushing.acquire(False):
            return
        try:
            complete = now()
            for call in (*self.live.values(), *self.waiting.values()):
                if call[0] not in _TELLS_LATE and call[ENTER_] < complete:
                    complete = call[ENTER_]
            count = len(self.packed)
            if count:
                batch = b"".join(self.packed[:count])
                del self.packed[:count]
                for sink in list(self.sinks):
                    with self._noting():
                        if not sink.take(batch, count) and sink in self.sinks:
                            self.sinks.remove(sink)
            if watched and self._thread is not None:
                for sink in list(self.sinks):
                    with self._noting():
                        sink.watched(complete, self._looks, self._busy)
        except Exception as error:  # noqa: BLE001
            self.problem = repr(error)
        finally:
            self._flushing.release()

    # What is under way for long

    def tell(self, found: tuple[Call, int] | None) -> None:
        """Have the monitors know what is under way for long: the oldest, and how many; None for nothing."""
        with self._telling:
            told, self._told = self._told, found
            if found != told:
                self._tell(self.sinks)

    def _tell(self, sinks: Sequence[Sink]) -> None:
        oldest, count = self._told or (None, 0)
        record = None
        if oldest is not None:
            op, group, size, enter, sequence, _, _ = oldest
            record = pack(op, group | NO_END, size, enter, UNKNOWN, UNKNOWN, sequence)
        for sink in list(sinks):
            with self._noting():
                sink.tell(record, count)

    # The thread that looks for ends

    def start(self, work_class: Any) -> None:
        """Begin to look for ends, by the thread and at waits."""
        self._restore = [self._wrap_wait(cls) for cls in _that_wait(work_class)]
        self._counted = 0
        thread = threading.Thread(target=self._run, name="netmon-collectives", daemon=True)
        self._thread = thread
        thread.start()

    def stop(self) -> None:
        """End looking for ends, and let go of what is under way."""
        thread, self._thread = self._thread, None
        self._rouse()
        if thread is not None and thread.ident is not None:
            thread.join(0.5)
        while self._restore:
            self._restore.pop()()
        for key in list(self.live):
            call = self.live.pop(key, None)
            if call is not None:
                self.emit(call, NO_END)
        self.tell(None)
        self.flush()

    def _run(self) -> None:
        pause, this = _IDLE_NS, threading.current_thread()
        while self._thread is this:
            self._wake.acquire(True, self._settle(pause) / 1e9)
            self.dozing = False
            try:
                pause = self._turn()
            except Exception as error:  # noqa: BLE001
                self.problem = repr(error)
                pause = _IDLE_NS

    def _turn(self) -> int:
        """Do what is due, and return the nanoseconds until the next look."""
        this = now()
        due = this >= self._next
        if due:
            self._sample(this)
        pause = self._look()
        if due:
            self.flush()
        self._ration(due and not self._unfinished)
        return min(pause, max(self._next - now(), 0))

    def _sample(self, this: int) -> None:
        """Take note whether something is under way at the moment that was due, which has nothing to do with the job."""
        late, at = this - self._next, self._next
        idle = min(max(2 * _SHARE * self._cost, _IDLE_NS), _MOST_IDLE_NS)  # looking alone does not spend more than half
        self._next = this + idle + round(self._random.uniform(-_SPREAD_NS, _SPREAD_NS))
        if late > _IDLE_NS:
            return  # who knows what was then
        try:
            busy = self._was_busy(at)
        except RuntimeError:  # they changed meanwhile
            return
        self._looks += 1
        self._busy += busy

    def _was_busy(self, at: int) -> bool:
        """Tell whether something was under way at a moment that has just been."""
        for work, call in (*self.waiting.items(), *self.live.items()):
            op, _, _, enter, _, free, marks = call
            if enter > at or (op in _TELLS_LATE and work not in self.waiting):
                continue
            if (
                not free
                or work in self.waiting
                or (_look_at(work, call, enter) if marks is None else marks.look(work, enter)) is None
            ):
                return True
        for record in self.packed[-_MOST_RECENT:]:  # what has ended since
            enter, duration, error = RECORD.unpack(record)[5:8]
            if enter <= at < enter + duration and error <= duration // 10:
                return True
        return False

    def _settle(self, pause: int) -> int:
        """Say when the next look is, for those who may need one earlier, and return the nanoseconds until then."""
        self._wake.acquire(False)
        self.looks_at = now() + pause
        self.dozing = pause > _LEAST_NS
        # A call between the last look and this woke nobody.
        return _LEAST_NS if self._has_news() else pause

    def _has_news(self) -> bool:
        try:
            newest: Call = next(reversed(self.live.values()))
        except (StopIteration, RuntimeError):
            return False
        return bool(newest[FREE_]) and newest[ENTER_] > self.looked and self._followed(newest)

    def _ration(self, idle: bool) -> None:
        """Count the processor time of this thread, and follow more or fewer collectives by what is left of it.

        Args:
            idle: whether nothing was followed at this look, which was due.
        """
        this, spent = now(), time.thread_time_ns()
        if self._counted:
            cost = spent - self._spent
            if idle:
                self._cost += (cost - self._cost) // 4
            self._credit = max(min(self._credit + (this - self._counted) // _SHARE, _SAVED_NS) - cost, -_MOST_DEBT_NS)
        self._counted, self._spent = this, spent
        if self._credit < 0:
            if self.block:
                self.block, self.mask = 0, min(max(2 * self.mask + 1, _LEAST_MASK), _MOST_MASK)
        elif not self.block:
            if self._credit >= _RICH_NS:
                self.block = _BLOCK
        elif self.mask and self._credit >= _SAVED_NS - _RICH_NS:
            self.mask = 0 if self.mask == _LEAST_MASK else self.mask >> 1
            self._credit = _RICH_NS  # the next step not before as much has been saved again

    def _look(self) -> int:
        """Record what has ended, and return the nanoseconds until the next look."""
        before, this = self.looked, now()
        try:
            items = list(self.live.items())
            long = [call for call in list(self.waiting.values()) if this - call[ENTER_] > _LONG_NS]
        except RuntimeError:  # it changed while it was copied
            return _LEAST_NS
        known, unfinished = self._unfinished, {}
        pause, followed = _MOST_NS, False
        crowded = len(items) - _MOST_LIVE
        for place, (work, call) in enumerate(items):
            op, _, _, enter, _, free, marks = call
            age = this - enter
            if not free and age < _SOON_NS:
                continue  # the job is about to wait for it
            last = before if known.pop(id(call), None) else enter  # since then it may have ended
            try:
                result = _look_at(work, call, last) if marks is None else marks.look(work, last)
            except Exception as error:  # noqa: BLE001  (of a communicator that was aborted, and not of the others)
                self.problem = repr(error)
                result = NO_END, UNKNOWN, UNKNOWN
            if result is None:
                unwanted = age > _UNWANTED_NS and op in _TELLS_LATE and _references(items, place) <= _OURS
                if not (unwanted or age > _FORGET_NS or place < crowded):
                    if self._followed(call):
                        followed = True
                        unfinished[id(call)] = call
                        pause = min(pause, self._rest(call, age))
                    # One that tells late may have ended.
                    if age > _LONG_NS and (marks is not None or op not in _TELLS_LATE):
                        long.append(call)
                    continue
                result = NO_END, UNKNOWN, UNKNOWN
            if self.live.pop(work, None) is not None:
                self._found(call, result)
                if not self._followed(call):
                    continue
                self._lingers, self._apart = _LINGERS, self._rest(call, 0)
                if result[0] != NO_END:
                    self._learn(call, (max(last, enter) + this) // 2 - enter)  # so early, where nobody looked, that the next is
        for call in known.values():  # somebody waited for it: it took so long at least
            self._learn(call, before - call[ENTER_])
        self._unfinished = unfinished
        self.looked = this
        self.tell((min(long, key=_by_enter), len(long)) if long else None)
        if followed:
            return max(_LEAST_NS, pause)
        self._lingers -= 1
        return self._apart if self._lingers >= 0 else _MOST_IDLE_NS


def _that_wait(work_class: Any) -> list[Any]:
    """Return the classes of Work that have a wait of their own."""
    classes, found = [work_class], []
    while classes:
        cls = classes.pop()
        classes += cls.__subclasses__()
        if "wait" in cls.__dict__:
            found.append(cls)
    return found


def _by_enter(call: Call) -> int:
    return call[ENTER_]


def _look_at(work: Any, call: Call, before: int) -> tuple[int, int, int] | None:
    """Return how one ended, with duration and error; None: it has not.

    Whether it ended with an error is not asked: what tells that is deprecated, and prints.
    """
    if not work.is_completed():
        return None
    found, enter = now(), call[ENTER_]
    return POLLED, found - enter, found - max(enter, before)


def _references(items: Sequence[tuple[Any, Any]], place: int) -> int:
    return sys.getrefcount(items[place][0])


def _own_references() -> int:
    """Return how many references a Work has that only the dict and a look at it know."""
    items = list({object(): None}.items())
    by_work = dict(items)
    for place, (_work, _) in enumerate(items):
        count = _references(items, place)
    return count if by_work else 0


_OURS = _own_references()
