"""The board on an actor of Ray, where Ray is shut down or the process forks: on a stand-in that does as Ray 2.60 does there."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from functools import wraps
from types import SimpleNamespace
from typing import Any

import pytest

from netmon._cluster import Abandoned, BoardError
from netmon.integrations.ray import _board
from netmon.integrations.ray._board import RayBoard


def wrap_auto_init(function: Callable[..., Any], module: Ray | None = None) -> Callable[..., Any]:
    """As ray._private.auto_init_hook has it: of a function of the module, or of a method."""

    @wraps(function)
    def auto_init_wrapper(*arguments: Any, **options: Any) -> Any:
        ray = module or arguments[0].ray
        if not ray.up:
            ray.up, ray.started = True, ray.started + 1
        return function(*arguments, **options)

    return auto_init_wrapper


class Ray:
    """What the board uses of the module. What is called of it starts Ray where it is not up."""

    def __init__(self) -> None:
        self.up, self.started = True, 0
        self.answers = True
        self.handles_dropped: list[int] = []  # in which process
        self._private = SimpleNamespace(worker=SimpleNamespace(global_worker=SimpleNamespace(actors={})))
        self.get_runtime_context = wrap_auto_init(self._get_runtime_context, self)

    def is_initialized(self) -> bool:
        return self.up

    def _check(self) -> None:
        if not self.up:
            raise RuntimeError("Ray has not been started yet.")

    def _get_runtime_context(self) -> Any:
        self._check()
        return self

    def get_job_id(self) -> str:
        return "01"

    def remote(self, cls: type[Any]) -> Any:
        return _Class(self, cls)


class _Class:
    def __init__(self, ray: Ray, cls: type[Any]) -> None:
        self.ray, self.cls = ray, cls

    @wrap_auto_init
    def _remote(self, args: tuple[()], kwargs: dict[str, Any], **options: Any) -> Any:
        self.ray._check()
        assert options.get("num_cpus") == 0, "else it waits for a processor that the job has reserved"
        return _Handle(self.ray, self.cls())


class _Handle:
    def __init__(self, ray: Ray, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def __getattr__(self, name: str) -> Any:
        return _Method(self._ray, getattr(self._actor, name))

    def __del__(self) -> None:
        self._ray.handles_dropped.append(os.getpid())


class _Method:
    def __init__(self, ray: Ray, method: Any) -> None:
        self.ray, self.method = ray, method

    @wrap_auto_init
    def _remote(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.ray._check()
        answer: Future[Any] = Future()
        if self.ray.answers:
            answer.set_result(self.method(*args))
        return SimpleNamespace(future=lambda: answer)


def test_ray_that_was_shut_down_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Ray()
    board = RayBoard(ray)
    board.open()
    assert board.exchange(b"digest") == b""
    assert board.digests() == {0: b"digest"}
    assert not board.is_over()
    # The job shuts Ray down at any moment: also between two calls of one exchange, and behind a look whether it is up.
    looks, slices = ray.is_initialized, iter([True, False])

    def wait(futures: list[Any], timeout: float) -> Any:
        ray.up = next(slices)
        return real(futures, 0)

    real = _board.wait
    monkeypatch.setattr(_board, "wait", wait)
    ray.answers = False
    with pytest.raises(BoardError, match="it was shut down"):
        board.exchange(b"digest")
    with pytest.raises(BoardError, match="it was shut down"):
        board.exchange(b"digest")
    ray.is_initialized = lambda: True  # type: ignore[method-assign]
    assert board._job == "01"
    board._failed_at = None
    assert board.is_over()
    ray.is_initialized = looks  # type: ignore[method-assign]
    assert (ray.started, ray.up) == (0, False)
    board.leave()
    assert ray.started == 0


@pytest.mark.parametrize("moment", ["between two calls", "while it waits"])
def test_an_actor_that_ends_does_not_call_ray_any_more(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Ray frees what the call works with: the actor would end with SIGABRT or SIGSEGV, and its stack in the job's output."""
    ray = Ray()
    actors = ray._private.worker.global_worker.actors
    actors["id"] = object()
    board = RayBoard(ray)
    board.open()
    assert board.exchange(b"digest") == b""
    if moment == "while it waits":
        ray.answers = False
        real = _board.wait

        def wait(futures: list[Any], timeout: float) -> Any:
            actors.clear()
            return real(futures, 0)

        monkeypatch.setattr(_board, "wait", wait)
    else:
        actors.clear()
    with pytest.raises(Abandoned):
        board.exchange(b"digest")
    ray.up = False  # from here on a call of Ray fails
    ray.is_initialized = lambda: True  # type: ignore[method-assign]
    with pytest.raises(Abandoned):
        board.is_over()
    board.leave()


def test_a_forked_child_does_not_let_go_of_its_parents_actor() -> None:
    # Ray's handle then asks the core of a process that is not there, whose locks may be held for ever.
    ray = Ray()
    board = RayBoard(ray)
    board.open()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        board.forget()
        del board
        os.write(write, repr(ray.handles_dropped).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        assert told.read() == "[]"
    assert os.waitpid(child, 0)[1] == 0
    board.forget()
    assert ray.handles_dropped == [os.getpid()]


def test_processes_that_have_ended_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ray, now = Ray(), 0.0
    monkeypatch.setattr(_board, "time", SimpleNamespace(monotonic=lambda: now))
    first = RayBoard(ray)
    first.open()
    for number in range(1, 21):
        other = RayBoard(ray)
        other._actor, other._process = first._actor, f"{number}"
        other.number = other._call("join", other._process)
        assert other.number == number, "no two have the same"
        other.exchange(b"digest")
        if number % 2:
            other.leave()
    first.exchange(b"digest")
    assert len(first.digests()) == 11
    actor = first._actor._actor
    # The others were killed.
    now = 8000.0
    first.exchange(None)
    assert first.digests() == {0: b"digest"}
    assert (len(actor.numbers), len(actor.heard)) == (1, 1)
