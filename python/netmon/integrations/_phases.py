"""The parts of a job that an integration names: measured in each process, told to all, added up over nodes."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    from .._monitor import Monitor
    from .._phase import PhaseRun

# How long a process that logs waits for what others say; it does so only where phases of its own have ended.
_NOTES_SECONDS = 0.25


@dataclass(slots=True)
class Account:
    """What the network did in all of a process's runs of one phase so far; what was not measured is left out of it."""

    count: int = 0
    seconds: float = 0.0
    receive_bytes: int | None = None  # by the node's counted interfaces
    transmit_bytes: int | None = None
    utilization: float | None = None  # utilization_ratio x seconds

    def add(self, run: PhaseRun) -> None:
        """Add a run that has ended."""
        if run.seconds is None:
            return
        self.count += 1
        self.seconds += run.seconds
        self.receive_bytes = _sum(self.receive_bytes, run.receive_bytes)
        self.transmit_bytes = _sum(self.transmit_bytes, run.transmit_bytes)
        if run.utilization_ratio is not None:
            self.utilization = _sum(self.utilization, run.utilization_ratio * run.seconds)

    @property
    def bytes(self) -> int | None:
        """Of the direction that moved more: over all nodes of a job, what goes from one to another is counted once."""
        most: int | None = _most(self.receive_bytes, self.transmit_bytes)
        return most

    def as_list(self) -> list[float | None]:
        """Return the fields in their order, for a note."""
        return [self.count, self.seconds, self.receive_bytes, self.transmit_bytes, self.utilization]

    def since(self, before: Account) -> Account:
        """Return what came after an earlier state."""
        return Account(
            self.count - before.count,
            self.seconds - before.seconds,
            _difference(self.receive_bytes, before.receive_bytes),
            _difference(self.transmit_bytes, before.transmit_bytes),
            _difference(self.utilization, before.utilization),
        )


@dataclass(slots=True)
class _Open:
    run: PhaseRun
    users: int = 1


class _Ledger:
    """What this process has measured of its phases with one monitor, whoever asks for it."""

    def __init__(self, monitor: Monitor) -> None:
        self.lock = threading.Lock()
        host = monitor.sample().host
        self.process = os.urandom(8).hex()
        self.node = f"{host.boot_id}/{host.network_namespace}" if host is not None else self.process
        self.open: dict[str, _Open] = {}
        self.accounts: dict[str, Account] = {}
        self.readers: WeakSet[Phases] = WeakSet()

    def note(self) -> bytes:
        """Return what others are told."""
        accounts = {name: account.as_list() for name, account in self.accounts.items()}
        return json.dumps({"process": self.process, "node": self.node, "phases": accounts}, separators=(",", ":")).encode()


_ledgers: WeakKeyDictionary[Monitor, _Ledger] = WeakKeyDictionary()
_ledgers_lock = threading.Lock()


def _ledger_of(monitor: Monitor) -> _Ledger:
    with _ledgers_lock:
        if monitor not in _ledgers:
            _ledgers[monitor] = _Ledger(monitor)
        return _ledgers[monitor]


def _after_fork_in_child() -> None:
    # A child that trains is another process to those who read its notes.
    global _ledgers, _ledgers_lock
    _ledgers, _ledgers_lock = WeakKeyDictionary(), threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


class Phases:
    """The phases of this process, and by notes those of the job's others.

    A phase that several threads, or coroutines, are in at a time is one, from the first that comes to the last that goes. A
    process may have several of these with one monitor: a phase is measured once, and each of them tells it, by its own steps.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._ledger = _ledger_of(monitor)
        self._seen: dict[tuple[str, str], Account] = {}
        self._ended = False  # since the last step
        with self._ledger.lock:
            # What was before is none of its steps'.
            for name, account in self._ledger.accounts.items():
                self._seen[self._ledger.process, name] = replace(account)
            self._ledger.readers.add(self)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Be in a phase."""
        self.begin(name)
        try:
            yield
        finally:
            self.end(name)

    def begin(self, name: str) -> None:
        """Begin a phase."""
        ledger = self._ledger
        with ledger.lock:
            opened = ledger.open.get(name)
            if opened is not None:
                opened.users += 1
                return
            run = self._monitor.phase(name)
            run.begin()
            ledger.open[name] = _Open(run)

    def end(self, name: str) -> None:
        """End a phase, and tell the others."""
        ledger = self._ledger
        with ledger.lock:
            opened = ledger.open.get(name)
            if opened is None:
                return
            opened.users -= 1
            if opened.users:
                return
            del ledger.open[name]
            opened.run.end()
            ledger.accounts.setdefault(name, Account()).add(opened.run)
            for reader in ledger.readers:
                reader._ended = True
            note = ledger.note()
        self._monitor._leave_note(note)

    def step(self) -> dict[str, Account]:
        """Return what the network did in each phase since the last call, in the whole job.

        Seconds are those of the process that took longest. Bytes are added up over the nodes on which a process was in it, each
        node once: its processes see the same interfaces, so it is the most that one of them saw. Utilization is that of the
        busiest node.
        """
        with self._ledger.lock:
            ended, self._ended = self._ended, False
            own = self._ledger.note()
        others = self._monitor._notes(_NOTES_SECONDS).values() if ended else ()
        nodes: dict[str, dict[str, Account]] = {}
        for node, name, account in self._new((own, *others)):
            here = nodes.setdefault(name, {}).setdefault(node, Account())
            here.count = max(here.count, account.count)
            here.seconds = max(here.seconds, account.seconds)
            here.receive_bytes = _most(here.receive_bytes, account.receive_bytes)
            here.transmit_bytes = _most(here.transmit_bytes, account.transmit_bytes)
            here.utilization = _most(here.utilization, _ratio(account))
        return {name: _all(accounts) for name, accounts in nodes.items()}

    def _new(self, notes: Iterable[bytes]) -> Iterator[tuple[str, str, Account]]:
        """Yield node, phase and what is new of it, once for each process, of which there may be an older note too."""
        newest: dict[tuple[str, str], tuple[str, Account]] = {}
        for note in notes:
            for process, node, name, account in _read(note):
                before = newest.get((process, name))
                if before is None or account.count > before[1].count:
                    newest[process, name] = node, account
        for (process, name), (node, account) in newest.items():
            seen = self._seen.get((process, name), Account())
            # A note of before, read once more, has nothing new.
            if account.count > seen.count:
                self._seen[process, name] = account
                yield node, name, account.since(seen)


def _read(note: bytes) -> list[tuple[str, str, str, Account]]:
    """Return process, node, phase and account of all phases in a note."""
    try:
        said: Mapping[str, Any] = json.loads(note)
        process, node = str(said["process"]), str(said["node"])
        return [(process, node, str(name), Account(*values)) for name, values in said["phases"].items()]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []  # of another version of netmon


def _sum(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else one + other


def _difference(after: Any, before: Any) -> Any:
    return None if after is None else after - (before or 0)


def _most(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else max(one, other)


def _ratio(account: Account) -> float | None:
    return None if account.utilization is None or not account.seconds else account.utilization / account.seconds


def _all(nodes: Mapping[str, Account]) -> Account:
    """Return one phase over all nodes, with the busiest one's ratio as utilization."""
    found = Account()
    for account in nodes.values():
        found.count = max(found.count, account.count)
        found.seconds = max(found.seconds, account.seconds)
        found.receive_bytes = _sum(found.receive_bytes, account.receive_bytes)
        found.transmit_bytes = _sum(found.transmit_bytes, account.transmit_bytes)
        found.utilization = _most(found.utilization, account.utilization)
    return found
