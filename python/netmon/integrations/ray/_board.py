"""A named actor of Ray that takes no processor as an engine of the cluster view: it keeps the digests, the lease and the view.

Whoever comes first makes it, in the job's own namespace. It ends with the job, or with the process that made it; then the next
process that misses it makes another. Its class travels by value, so that netmon need not be installed where it runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from importlib import import_module
from typing import Any

from ..._cluster import Abandoned, BoardError

NAME = "netmon-cluster"
_SLICE_SECONDS = 0.05
_FORGET_SECONDS = 7200.0  # a process that was not heard of for two of the longest intervals has ended without a word
# Where a job's runtime environment has it, as OpenRLHF's, each worker of Ray's imports torch. The actor has no use for it.
_TORCH_VARIABLE = "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS"
_LOST_SECONDS = 60.0  # an actor that does not answer for so long is given up


def _actor_class() -> type[Any]:
    # Classes that are made in a function are pickled with their code.
    class NetmonBoard:
        def __init__(self) -> None:
            self.numbers: dict[str, int] = {}
            self.given = 0  # numbers
            self.kept: dict[int, bytes] = {}
            self.heard: dict[int, float] = {}  # when
            self.lease = b""
            self.view: bytes | None = None
            self.notes: dict[int, bytes] = {}

        def join(self, process: str) -> int:
            if process not in self.numbers:
                self.numbers[process] = self.given
                self.given += 1
            self.heard[self.numbers[process]] = time.monotonic()
            return self.numbers[process]

        def exchange(self, number: int, digest: bytes | None) -> bytes:
            self.heard[number] = time.monotonic()
            if digest:
                self.kept[number] = digest
            elif digest is not None:
                self.forget(number)
            return self.lease

        def forget(self, number: int) -> None:
            self.kept.pop(number, None)
            self.notes.pop(number, None)
            self.heard.pop(number, None)
            self.numbers = {process: other for process, other in self.numbers.items() if other != number}

        def replace(self, before: bytes, after: bytes) -> bytes:
            if self.lease == before:
                self.lease = after
            return self.lease

        def digests(self) -> dict[int, bytes]:
            # Each task of a job may be a process: what they leave must not become more and more.
            for number in [n for n, at in self.heard.items() if time.monotonic() - at > _FORGET_SECONDS]:
                self.forget(number)
            return self.kept

        def write_view(self, view: bytes) -> None:
            self.view = view

        def read_view(self) -> bytes | None:
            return self.view

        def write_note(self, number: int, note: bytes) -> None:
            self.notes[number] = note

        def read_notes(self) -> dict[int, bytes]:
            return self.notes

    return NetmonBoard


class RayBoard:
    """A board on the actor of this job.

    Args:
        ray: the job's module.
    """

    engine = "ray"
    numbers_are_ranks = False
    number = 0
    rank: int | None = None
    world_size: int | None = None

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._actor: Any = None
        self._abandoned = False
        self._job = _job(ray)
        self._pid = os.getpid()
        self._process = os.urandom(8).hex()
        self._in_actor = False
        self._failed_at: float | None = None
        self.waiting_since: float | None = None

    def open(self) -> None:
        """Find the actor, or make it."""
        # get_if_exists: whoever else makes it at this moment, there is one.
        options: dict[str, Any] = {"name": NAME, "get_if_exists": True, "num_cpus": 0, "max_restarts": 0}
        if _TORCH_VARIABLE in os.environ:
            options["runtime_env"] = import_module("ray.runtime_env").RuntimeEnv(env_vars={_TORCH_VARIABLE: "0"})
        self._actor = self._safely(_remote, self._ray.remote(_actor_class()), **options)
        self.number = int(self._call("join", self._process))

    def _safely(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if self._abandoned or self._actor_ends():
            raise Abandoned
        try:
            with up(self._ray):
                return function(*arguments, **options)
        except Exception as error:
            self._failed_at = time.monotonic()
            text = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BoardError(f"Ray: {type(error).__name__}: {text}") from error

    def _actor_ends(self) -> bool:
        """Tell whether this process is an actor of Ray's that is about to end: what then calls Ray may crash."""
        worker = getattr(getattr(self._ray, "_private", None), "worker", None)
        # Ray takes the instance out of them first.
        actors = getattr(getattr(worker, "global_worker", None), "actors", None)
        self._in_actor = self._in_actor or bool(actors)
        return self._in_actor and not actors

    def _call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the actor, in slices, so that the wait can be given up.

        It is not waited inside of Ray: where an actor ends, what its threads wait for there is freed under them.
        """
        answer: Future[Any] = self._safely(lambda: _remote(getattr(self._actor, method), *arguments).future())
        begun = time.monotonic()
        try:
            while not wait([answer], _SLICE_SECONDS).done:
                if self._abandoned or self._actor_ends():
                    raise Abandoned
                self.waiting_since = begun
                if _job(self._ray) != self._job:  # the answer will not come
                    self._failed_at = time.monotonic()
                    raise BoardError("Ray: it was shut down")
                if time.monotonic() - begun > _LOST_SECONDS:
                    self._failed_at = time.monotonic()
                    raise BoardError(f"Ray: the actor {NAME} has not answered for {_LOST_SECONDS:g} s")
        finally:
            self.waiting_since = None
        return self._safely(answer.result)

    def exchange(self, digest: bytes | None) -> bytes:
        """Leave a digest, and return the lease."""
        return bytes(self._call("exchange", self.number, digest))

    def replace(self, before: bytes, after: bytes) -> bytes:
        """Replace the lease if it is what is expected."""
        return bytes(self._call("replace", before, after))

    def digests(self) -> Mapping[int, bytes]:
        """Return all digests by number."""
        found: Mapping[int, bytes] = self._call("digests")
        return found

    def write_view(self, view: bytes) -> None:
        """Leave a view."""
        self._call("write_view", view)

    def read_view(self) -> bytes | None:
        """Return the newest view."""
        view: bytes | None = self._call("read_view")
        return view

    def write_note(self, note: bytes) -> None:
        """Leave a note."""
        self._call("write_note", self.number, note)

    def read_notes(self) -> Mapping[int, bytes]:
        """Return all notes by number."""
        notes: Mapping[int, bytes] = self._call("read_notes")
        return notes

    def leave(self) -> None:
        """Say so, without waiting for an answer."""
        if self._actor is not None and not self._abandoned and not self._actor_ends() and self._ray.is_initialized():
            with contextlib.suppress(Exception), up(self._ray):
                _remote(self._actor.exchange, self.number, b"")
        self._actor = None

    def abandon(self) -> None:
        """Have what waits give up."""
        self._abandoned = True

    def forget(self) -> None:
        """Let go of the actor; in a forked child keep it: its end would call Ray, of which the child has no thread."""
        if os.getpid() != self._pid:
            _inherited.append(self._actor)
        self._actor = None

    def is_over(self) -> bool:
        """Tell whether the job has shut Ray down, or an actor that failed has been given time to be replaced."""
        if self._actor_ends():
            raise Abandoned
        if self._failed_at is not None:
            return time.monotonic() - self._failed_at > 2.0
        return _job(self._ray) != self._job


_inherited: list[Any] = []


@contextlib.contextmanager
def up(ray: Any) -> Iterator[None]:
    """Have Ray stay up meanwhile: who calls it while the job shuts it down ends the process.

    Raises:
        ConnectionError: it is not up, or is being started or shut down.
    """
    # Ray's own. Where a version has none, what remains is that it was up a moment ago.
    lock: Any = getattr(sys.modules.get("ray._private.worker"), "_connect_or_shutdown_lock", None) or threading.RLock()
    if not lock.acquire(timeout=_SLICE_SECONDS):
        raise ConnectionError("it is being started or shut down")
    try:
        if not ray.is_initialized():
            raise ConnectionError("it was shut down")
        yield
    finally:
        lock.release()


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of Ray without what starts Ray where it is not up: the job may have shut it down a moment ago."""
    code = getattr(function, "__code__", None)
    inner = getattr(function, "__wrapped__", None)
    return inner if inner is not None and code is not None and code.co_name == "auto_init_wrapper" else function


def _remote(callee: Any, *arguments: Any, **options: Any) -> Any:
    """Have Ray make an actor of a class, or call a method of one, unless it was shut down."""
    return _plain(type(callee)._remote)(callee, args=arguments, kwargs={}, **options)


def _job(ray: Any) -> str | None:
    """Return which job of Ray this process is of, None where it is of none."""
    try:
        with up(ray):
            return str(_plain(ray.get_runtime_context)().get_job_id())
    except Exception:  # noqa: BLE001 - it may be shut down at this moment
        return None


def find() -> RayBoard | str:
    """Return a board on Ray, not yet open, or why there is none."""
    ray = sys.modules.get("ray")
    try:
        if ray is None or not ray.is_initialized():
            return "ray is not initialised"
        return RayBoard(ray)
    except Exception as error:  # noqa: BLE001 - another thread may be importing it at this moment
        return f"ray: {type(error).__name__}: {error}"
