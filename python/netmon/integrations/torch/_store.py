"""The c10d store as an engine of the cluster view: digests and view travel by keys under ``netmon/cluster/``.

It speaks the store's own protocol over a connection of its own. torch's client would do, but for a guest it does too much:
when the store's host is gone it writes a stack to stderr, when it is frozen no timeout holds, and a thread that is inside of it
while the interpreter ends can take the process down. Here every wait can be given up at any time, and nothing is written
anywhere. The protocol is that of torch 2.4 to 2.15, with libuv and without; a store that does not answer the first question as
these do is left alone.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import struct
import sys
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..._cluster import Abandoned, BoardError

_PREFIX = "netmon/cluster/"
_PLACE = "netmon/place"

# torch/csrc/distributed/c10d/TCPStoreBackend.hpp
_VALIDATE, _SET, _COMPARE_SET, _GET, _CHECK, _DELETE, _MULTI_GET, _PING = (bytes([n]) for n in (0, 1, 2, 3, 5, 8, 10, 13))
_MAGIC = struct.pack("<I", 0x3C85F7CE)
_READY = 0
_LENGTH = struct.Struct("<Q")

_FIRST_TORCH = 2, 4
_SLICE_MILLISECONDS = 50
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 1.0  # that a request has at least: the last one may begin when the time is over
_MOST_AT_ONCE = 256  # keys in one request
_MOST_VALUE_BYTES = 16 << 20
_KEEPALIVE_SECONDS = 30
_FLAGS: int = getattr(socket, "MSG_NOSIGNAL", 0)  # the job may have SIGPIPE end it


class OtherProtocolError(BoardError):
    """What is there does not speak as a TCPStore does that is known here."""


class Connection:
    """A client of a TCPStore. Whatever goes wrong is a BoardError, and the end of it.

    Args:
        host: of the store.
        port: of the store.
        until: by time.monotonic, when to wait for its answers no more. Default: it is waited for.
    """

    def __init__(self, host: str, port: int, until: float = float("inf")) -> None:
        self._host, self._port = host, port
        self._until = self._limit = until
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._received = bytearray()
        self._abandoned = False
        self.waiting_since: float | None = None
        self.bytes_sent = self.bytes_received = 0

    def abandon(self) -> None:
        """Have what waits give up."""
        self._abandoned = True

    def close(self) -> None:
        """Close it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def open(self) -> None:
        """Connect, and see whether a store is there that speaks as is known here."""
        try:
            places = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise self._lost(error) from error
        failure: Exception | None = None
        for family, kind, protocol, _, address in places:
            try:
                self._connect(socket.socket(family, kind, protocol), address)
                break
            except OSError as error:
                failure = error
        else:
            raise self._lost(failure)
        nonce = secrets.token_bytes(4)
        self._send(_VALIDATE + _MAGIC + _PING + nonce)
        if self._receive(4) != nonce:
            self.close()
            raise OtherProtocolError(f"the store at {self._host}:{self._port} does not speak as those of torch 2.4 to 2.15 do")

    def _connect(self, own: socket.socket, address: Any) -> None:
        self._socket = own
        own.setblocking(False)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A host that lost its power says no good-bye.
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
        self._poll = select.poll()
        self._poll.register(own, select.POLLOUT)
        try:
            try:
                own.connect(address)
            except BlockingIOError:
                self._wait(select.POLLOUT, _CONNECT_SECONDS)
                number = own.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    raise OSError(number, os.strerror(number)) from None
        except BaseException:
            self.close()
            raise

    def _wait(self, event: int, most: float | None = None) -> None:
        assert self._socket is not None
        self._poll.modify(self._socket, event)
        begun = time.monotonic()
        try:
            while not self._poll.poll(_SLICE_MILLISECONDS):
                if self._abandoned:
                    raise Abandoned
                self.waiting_since = begun
                if most is not None and time.monotonic() - begun > most:
                    raise TimeoutError(f"no answer within {most:g} s")
                if time.monotonic() > self._limit:
                    self.close()
                    silent = time.monotonic() - begun
                    raise BoardError(f"the store at {self._host}:{self._port} has not answered for {silent:.1f} s")
        finally:
            self.waiting_since = None

    def _send(self, request: bytes) -> None:
        if self._abandoned:
            raise Abandoned
        if self._socket is None:
            raise BoardError("the connection to the store is closed")
        self._limit = max(self._until, time.monotonic() + _ANSWER_SECONDS)
        rest = memoryview(request)
        try:
            while rest:
                try:
                    rest = rest[self._socket.send(rest, _FLAGS) :]
                except BlockingIOError:
                    self._wait(select.POLLOUT)
        except OSError as error:
            raise self._lost(error) from error
        self.bytes_sent += len(request)

    def _receive(self, count: int) -> bytes:
        assert self._socket is not None
        while len(self._received) < count:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                self._wait(select.POLLIN)
                continue
            except OSError as error:
                raise self._lost(error) from error
            if not data:
                raise self._lost(None)
            self._received += data
            self.bytes_received += len(data)
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _lost(self, error: Exception | None) -> BoardError:
        self.close()
        return BoardError(f"the store at {self._host}:{self._port} is gone: {error or 'it closed the connection'}")

    def _value(self) -> bytes:
        (length,) = _LENGTH.unpack(self._receive(_LENGTH.size))
        if length > _MOST_VALUE_BYTES:
            self.close()
            raise BoardError(f"the store answered with {length} bytes where there cannot be so many")
        return self._receive(length)

    def set(self, key: str, value: bytes) -> None:
        """Set a value; the store does not answer."""
        self._send(_SET + _text(key) + _data(value))

    def set_at_once(self, key: str, value: bytes) -> None:
        """Set a value if the connection takes it without waiting."""
        if self._socket is not None and not self._abandoned:
            self._socket.send(_SET + _text(key) + _data(value), _FLAGS)

    def compare_set(self, key: str, expected: bytes, value: bytes) -> bytes:
        """Set a value if it is as expected (empty: if there is none), and return what it is then."""
        self._send(_COMPARE_SET + _text(key) + _data(expected) + _data(value))
        return self._value()

    def get(self, key: str) -> bytes:
        """Return a value, which must be there."""
        self._send(_GET + _text(key))
        return self._value()

    def delete(self, key: str) -> bool:
        """Take a value out, and tell whether there was one."""
        self._send(_DELETE + _text(key))
        return _LENGTH.unpack(self._receive(_LENGTH.size)) != (0,)

    def check(self, keys: Sequence[str]) -> list[str]:
        """Return which of some keys are there."""
        found: list[str] = []
        for some in _in_parts(keys):
            self._send(b"".join(_CHECK + _LENGTH.pack(1) + _text(key) for key in some))
            answers = self._receive(len(some))
            found.extend(key for key, answer in zip(some, answers, strict=True) if answer == _READY)
        return found

    def multi_get(self, keys: Sequence[str]) -> list[bytes]:
        """Return values, which must all be there."""
        values: list[bytes] = []
        for some in _in_parts(keys):
            self._send(_MULTI_GET + _LENGTH.pack(len(some)) + b"".join(map(_text, some)))
            values.extend(self._value() for _ in some)
        return values


def _data(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def _text(key: str) -> bytes:
    return _data(key.encode())


def _in_parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(keys), _MOST_AT_ONCE):
        yield keys[begin : begin + _MOST_AT_ONCE]


class StoreBoard:
    """A board on a TCPStore.

    Args:
        host: of the store.
        port: of the store.
        rank: of this process.
        world_size: of the job.
        store: the job's own handle, which is only looked at, to see which part of the store is the job's and when it lets go of
            it; None: all is, and it never does.
    """

    engine = "c10d store"
    numbers_are_ranks = True

    def __init__(self, host: str, port: int, rank: int, world_size: int, store: Any = None) -> None:
        self.number = self.rank = rank
        self.world_size: int | None = world_size
        self._size = world_size
        self.connection = Connection(host, port)
        self._store = weakref.ref(store) if store is not None else None
        self._prefix = _PREFIX
        self._has_lease = self._has_view = False
        self._there: list[int] = []  # ranks whose digest was seen: keys do not vanish
        self._missing = list(range(world_size))

    @property
    def waiting_since(self) -> float | None:
        """Since when a call waits for the store."""
        return self.connection.waiting_since

    def open(self) -> None:
        """Connect."""
        self.connection.open()
        store = self._store() if self._store is not None else None
        if store is not None:
            try:
                self._prefix = _PREFIX + place_of(store)
            except Exception as error:  # every kind of store has its own
                self.connection.close()
                raise BoardError(f"the job's store: {type(error).__name__}: {error}") from error

    def _digest_key(self, rank: int) -> str:
        return f"{self._prefix}digest/{rank}"

    def _note_key(self, rank: int) -> str:
        return f"{self._prefix}note/{rank}"

    def exchange(self, digest: bytes | None) -> bytes:
        """Leave a digest, and return the lease."""
        if digest is not None:
            self.connection.set(self._digest_key(self.rank), digest)
        # A get of a missing key would wait for it.
        lease = self._prefix + "lease"
        self._has_lease = self._has_lease or bool(self.connection.check([lease]))
        return self.connection.get(lease) if self._has_lease else b""

    def replace(self, before: bytes, after: bytes) -> bytes:
        """Replace the lease if it is what is expected."""
        return self.connection.compare_set(self._prefix + "lease", before, after)

    def digests(self) -> Mapping[int, bytes]:
        """Return all digests by rank."""
        if self._missing:
            keys = {self._digest_key(rank): rank for rank in self._missing}
            came = [keys[key] for key in self.connection.check(list(keys))]
            self._there = sorted([*self._there, *came])
            self._missing = sorted(set(self._missing).difference(came))
        values = self.connection.multi_get([self._digest_key(rank) for rank in self._there])
        return dict(zip(self._there, values, strict=True))

    def write_view(self, view: bytes) -> None:
        """Leave a view."""
        self.connection.set(self._prefix + "view", view)

    def read_view(self) -> bytes | None:
        """Return the newest view."""
        key = self._prefix + "view"
        self._has_view = self._has_view or bool(self.connection.check([key]))
        return self.connection.get(key) if self._has_view else None

    def write_note(self, note: bytes) -> None:
        """Leave a note."""
        self.connection.set(self._note_key(self.number), note)

    def read_notes(self) -> Mapping[int, bytes]:
        """Return all notes by rank."""
        keys = {self._note_key(rank): rank for rank in range(self._size)}
        there = self.connection.check(list(keys))
        return {keys[key]: note for key, note in zip(there, self.connection.multi_get(there), strict=True)}

    def leave(self) -> None:
        """Say so, and close."""
        try:
            self.connection.set_at_once(self._digest_key(self.rank), b"")
        except OSError:
            pass  # it is gone, or full: then others see it by the silence
        finally:
            self.connection.close()

    def abandon(self) -> None:
        """Have what waits give up."""
        self.connection.abandon()

    def forget(self) -> None:
        """Close the connection."""
        self.connection.close()

    def is_over(self) -> bool:
        """Tell whether the job has let go of its store: it destroyed its process group."""
        return self._store is not None and self._store() is None


def place_of(store: Any) -> str:
    """Return a beginning of keys that the ranks of the group on this store have in common, and no group under another prefix.

    What a PrefixStore puts before its keys cannot be read from Python. So the first rank leaves a word under it, by a clone of
    the store with a connection of its own, once a process and store; call it when the store has just answered, since it is
    torch's client. Before torch 2.7 there are no clones: all groups on a store have one place.
    """
    if not hasattr(store, "underlying_store") or not hasattr(store, "clone"):
        return ""
    known = _places.get(store)
    if known is None:
        word = secrets.token_hex(8)
        known = _places[store] = store.clone().compare_set(_PLACE, "", word).decode() + "/"
    return known


_places: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def is_too_old(version: str) -> bool:
    """Tell whether the stores of a version of torch may not be spoken to."""
    # Before 2.1 the first byte of what is sent would be taken for another request.
    try:
        major, minor = version.split(".")[:2]
        return (int(major), int(minor)) < _FIRST_TORCH
    except ValueError:
        return False  # built by hand: the first question tells


def find() -> StoreBoard | str:
    """Return a board on the store of the job's default group, not yet open, or why there is none."""
    distributed: Any = sys.modules.get("torch.distributed")
    version = str(getattr(sys.modules.get("torch"), "__version__", ""))
    if is_too_old(version):
        return f"the store of torch {version} is not known, those from 2.4 on are"
    try:
        # Another thread may be importing it, or making or destroying the group, at this moment.
        if distributed is None or not distributed.is_available() or not distributed.is_initialized():
            return "torch.distributed is not initialised"
        outer: Any = distributed.distributed_c10d._get_default_store()
        store = outer
        while hasattr(store, "underlying_store"):
            store = store.underlying_store
        if not isinstance(store, distributed.TCPStore):
            kind = type(store).__name__
            why = "a file that grows with everything that is set" if kind == "FileStore" else "which one cannot connect to"
            return f"the job's store is a {kind}, {why}; the view travels by a TCPStore"
        return StoreBoard(store.host, store.port, distributed.get_rank(), distributed.get_world_size(), outer)
    except Exception as error:  # noqa: BLE001 - whatever a foreign module raises, training goes on
        return f"torch.distributed's store: {type(error).__name__}: {error}"
