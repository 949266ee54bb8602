"""torch.distributed: which hosts the job's ranks are on.

    >>> from netmon.integrations import torch          # does not import torch

torch itself is imported when something is used, and only what is used by the job already: no process group is touched, no
collective called, and the job's own connection to the store left alone.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..._cluster import Abandoned, BoardError
from ..._errors import ClosedError
from ._client import connect, let_go
from ._store import place_of

if TYPE_CHECKING:
    from ..._monitor import Monitor

_PREFIX = "netmon/peers"
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class PeerSearch:
    """The search that ``find_peers`` started. It ends by itself; ``close`` ends it early.

    Attributes:
        peers: the hosts of other nodes that were found, by the lowest of their ranks.
        problem: why not all were found, None while and where nothing is wrong.
    """

    def __init__(self, monitor: Monitor, seconds: float, most: int, has_group: bool) -> None:
        self.peers: Mapping[int, str] = {}
        self.problem: str | None = None
        self._monitor = monitor
        self._seconds = seconds
        self._most = most
        self._has_group = has_group  # whether the ranks look for those of the default group, or for those of the environment
        self._client: Any = None
        self._closing = threading.Event()
        self._ended = threading.Event()

    @property
    def done(self) -> bool:
        """Whether the search has ended."""
        return self._ended.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait for the end of the search, ``timeout`` seconds at most, and tell whether it has ended."""
        return self._ended.wait(timeout)

    def close(self) -> None:
        """End the search. What was found stays known to the monitor."""
        self._closing.set()
        abandon = getattr(self._client, "abandon", None)
        if abandon is not None:
            abandon()

    def __enter__(self) -> PeerSearch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = self.problem or ("done" if self.done else "searching")
        return f"<netmon PeerSearch: {len(self.peers)} peers, {state}>"

    def _run(self) -> None:
        try:
            self._search()
        except ClosedError:
            self.problem = "the monitor was closed"
        except Abandoned:
            self.problem = "the search was closed"
        except BoardError as error:
            self.problem = str(error)
        except Exception as error:  # noqa: BLE001  (a guest tells, and does not raise, in a thread of the job)
            self.problem = f"{type(error).__name__}: {error}"
        finally:
            let_go(self._client)
            self._ended.set()

    def _search(self) -> None:
        where = _rendezvous(self._has_group)
        if isinstance(where, str):
            self.problem = where
            return
        host, port, rank, world_size, group = where
        # A client of its own: on the job's one, a waiting call of ours would hold up a call of the job.
        self._client = store = connect(host, port, _PREFIX + _attempt(), self._seconds)
        if self._closing.is_set():
            raise Abandoned
        own = _own_address(host, port)
        store.set(str(rank), own)  # for those who called this before they had a group
        place = place_of(group) if group is not None else ""
        if place:
            store.set(f"{place}{rank}", own)
        found = self._collect(store, place, world_size)
        own = found.pop(rank)
        self.peers = _nodes(found, own, rank, world_size, self._most)
        # All the ranks of these hosts, and of the own one, which is not probed: connections are told by the ranks at their end.
        there = {own, *self.peers.values()}
        named = [{"rank": r, "address": a} for r, a in sorted(found.items()) if a in there]
        if named and not self._closing.is_set():
            self._monitor.set_job(peers=named)

    def _collect(self, store: Any, place: str, world_size: int) -> dict[int, str]:
        """Return the addresses by rank, of all ranks or of those that said theirs in time."""
        keys = {f"{place}{rank}": rank for rank in range(world_size)}
        pause, left = _FIRST_PAUSE_SECONDS, self._seconds
        while not store.check(list(keys)) and left > 0 and not self._closing.wait(min(pause, left)):
            left -= pause
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        # A get of a missing key would block.
        there = list(keys) if store.check(list(keys)) else [key for key in keys if store.check([key])]
        if len(there) < world_size:
            self.problem = f"{world_size - len(there)} of {world_size} ranks said no address within {self._seconds:g} s"
        return {keys[key]: value.decode() for key, value in zip(there, store.multi_get(there), strict=True)}


def _attempt() -> str:
    """Return what tells this start of the job from earlier ones: torchrun's store outlives it, with the addresses in it."""
    words = [os.environ.get(f"TORCHELASTIC_{name}", "") for name in ("RUN_ID", "RESTART_COUNT")]
    return "".join(f"/{word}" for word in words if word)


def find_peers(monitor: Monitor, *, seconds: float = 60.0, most: int = 64) -> PeerSearch:
    """Find the hosts of the job's ranks through the store of torch.distributed, and have the monitor probe them.

    Each rank that calls this says in the store which address of its own leads to the master, and reads what the others say.
    That happens on a daemon thread with its own connection to the store, beside the training; it takes a few messages to the
    store and never a collective. Nothing is raised: ``problem`` of the result tells.

    Call it after ``torch.distributed.init_process_group``, or with torchrun's variables in the environment, on every rank.

    Args:
        monitor: it probes the hosts of the peers from then on (``set_job(peers=...)``), but for its own, and names the ranks at
            the other end of this process's connections (``sample.peers``).
        seconds: how long to wait for the other ranks.
        most: how many hosts to probe, those of the ranks that follow this one. A job of a thousand hosts is still covered,
            since each is followed by others.

    Returns:
        The search, which goes on in the background.
    """
    # Told now: a group that is made meanwhile is known to some ranks' threads and not to others'.
    search = PeerSearch(monitor, seconds, most, _has_group())
    try:
        threading.Thread(target=search._run, name="netmon-find-peers", daemon=True).start()
    except RuntimeError as error:  # no thread is left
        search.problem = str(error)
        search._ended.set()
    return search


def _has_group() -> bool:
    distributed: Any = sys.modules.get("torch.distributed")
    try:
        return distributed is not None and bool(distributed.is_available() and distributed.is_initialized())
    except AttributeError:  # it is being imported
        return False


def _rendezvous(has_group: bool) -> tuple[str, int, int, int, Any] | str:
    """Return the store's host and port, this process's rank and world size, and the default group's store, None without one.

    Or a text that says why they are not known.
    """
    try:
        from torch import distributed
    except ImportError:
        return "torch is not installed"
    if not distributed.is_available():
        return "this torch has no torch.distributed"
    variables = [os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")]
    if distributed.is_initialized() and (has_group or None in variables):
        outer: Any = distributed.distributed_c10d._get_default_store()
        store = outer
        while not hasattr(store, "port") and hasattr(store, "underlying_store"):
            store = store.underlying_store
        if not hasattr(store, "port"):
            return f"the job's store is a {type(store).__name__}; ranks are found through a TCPStore only"
        return store.host, store.port, distributed.get_rank(), distributed.get_world_size(), outer
    try:
        host, port, rank, size = (os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"))
        return host, int(port), int(rank), int(size), None
    except (KeyError, ValueError) as error:
        return f"no process group is initialised, and the environment does not name one ({error})"


def _own_address(host: str, port: int) -> str:
    """Return the address by which this host reaches another. Connecting a UDP socket sends nothing."""
    family, kind, protocol, _, to = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(to)
        return str(probe.getsockname()[0])


def _nodes(addresses: Mapping[int, str], own: str, rank: int, world_size: int, most: int) -> dict[int, str]:
    """Return each other host once, those of the ranks that follow this one first, as many as are wanted."""
    seen = {own}
    nodes: dict[int, str] = {}
    for step in range(1, world_size):
        other = (rank + step) % world_size
        address = addresses.get(other)
        if address is not None and address not in seen and len(nodes) < most:
            seen.add(address)
            nodes[other] = address
    return dict(sorted(nodes.items()))


__all__: Sequence[str] = ["PeerSearch", "find_peers"]
