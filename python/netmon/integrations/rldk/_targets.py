"""Whom the process's monitor probes, beside the training's peers, because objects of this package name hosts.

Its engine probes a host once, however many objects name it, until none of them is left. A monitor for each set of hosts would
bring a thread and a limit of the rate for each; probes that each call starts would forget from one to the next which method
works at a host, and have no window to count losses in.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Iterable, Sequence

from ..._errors import ConfigError, Error
from .. import torch as _torch
from ..torch import PeerSearch
from . import _reading
from ._identity import master_address
from ._trouble import process
from ._worker import in_forked_child

# Of the 256 that a monitor probes: the others are for the job's own hosts.
MOST = 192
NOBODY = "nobody is probed: no training peer on another host is known, and no target is named"


class Hosts:
    """A list of hosts: those that a caller named, or, until he does, whom the monitor probes by itself.

    A caller names hosts when he makes the object that has the list, when he replaces it, and when he changes it.
    """

    def __init__(self, named: Iterable[str] | None = None) -> None:
        self._list = _texts(named) if named else master_address()
        self._default: list[str] | None = None if named else list(self._list)

    @property
    def texts(self) -> list[str]:
        """The list itself."""
        return self._list

    @texts.setter
    def texts(self, hosts: Iterable[str]) -> None:
        self._list = _texts(hosts)
        self._default = None

    @property
    def named(self) -> tuple[str, ...] | None:
        """The hosts that a caller named; None: the default."""
        return None if self._list == self._default else tuple(dict.fromkeys(map(str, self._list)))

    def default_is(self, hosts: Sequence[str]) -> None:
        """Say what the default is now."""
        if self.named is None:
            self._list[:] = hosts
            self._default = list(hosts)


def _texts(hosts: Iterable[str]) -> list[str]:
    return [hosts] if isinstance(hosts, str) else list(hosts)


_lock = threading.RLock()  # a signal handler may come in between and measure
_watched: weakref.WeakKeyDictionary[object, tuple[str, ...]] = weakref.WeakKeyDictionary()
# What the monitor of a process was told last.
_told: tuple[tuple[int, int], tuple[str, ...]] | None = None
_refused: dict[str, str] = {}


def watch(holder: object, hosts: Sequence[str]) -> None:
    """Have hosts probed in the background from now on, once a second each, as long as their holder lives.

    Args:
        holder: whose hosts they are; they replace those it named before.
        hosts: as targets are written.
    """
    source = _reading.monitor()
    if source is None:
        return
    global _told
    with _lock:
        if hosts:
            _watched[holder] = tuple(hosts)
        else:
            _watched.pop(holder, None)
        configured = _reading.targets()
        before = configured if _told is None or _told[0] != _reading.origin() else _told[1]
        while True:
            named = (host for texts in list(_watched.values()) for host in texts)
            wanted = tuple(dict.fromkeys((*configured, *(host for host in named if host not in _refused))))[
                : max(MOST, len(configured))
            ]
            if wanted == before:
                return
            try:
                source.set_job(targets=wanted)
            except ConfigError as error:
                if not _refuse(str(error), wanted):
                    process.tell("targets", f"netmon could not be told whom to probe: {error}")
                    return
                continue
            except Error as error:
                process.tell("targets", f"netmon could not be told whom to probe: {error}")
                return
            _told = (_reading.origin(), wanted)
            return


def _refuse(sentence: str, wanted: Sequence[str]) -> bool:
    """Leave out the entry that a sentence says is wrong, and tell whether it names one."""
    named = re.search(r"entry (\d+)(?:: (.*))?", sentence, re.DOTALL)
    if named is None or not 0 < int(named[1]) <= len(wanted):
        return False
    _refused[wanted[int(named[1]) - 1]] = named[2] or sentence
    return True


def why_not(host: str) -> str:
    """Return why the monitor does not know a host that it was told, or knows nothing of it yet."""
    if host in _refused:
        return _refused[host]
    told = _told
    if told is not None and host not in told[1]:
        return f"not probed: {MOST} targets at most, beside the job's hosts"
    return "no probe has ended yet"


def find_peers(*, seconds: float = 60.0, most: int = 64) -> PeerSearch | None:
    """Find the hosts of the job's ranks through the store of torch.distributed, and have the process's one monitor probe them.

    To be called on every rank, after ``torch.distributed.init_process_group``. It returns at once; the search goes on beside
    the training, without a collective, and raises nothing (``netmon.integrations.torch.find_peers`` says more).

    Args:
        seconds: how long to wait for the other ranks.
        most: how many hosts to probe.

    Returns:
        The search; None where netmon cannot measure.
    """
    source = _reading.monitor()
    return None if source is None else _torch.find_peers(source, seconds=seconds, most=most)


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held the lock.
    global _lock
    _lock = threading.RLock()


in_forked_child(_after_fork_in_child)
