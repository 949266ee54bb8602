"""The board on an actor of Ray, where Ray is shut down or the process forks: on a stand-in that does as Ray 2.60 does there."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import Any

import pytest

from netmon._cluster import BoardError
from netmon.integrations.ray import _board
from netmon.integrations.ray._board import RayBoard


class Ray:
    """What the board uses of the module: functions start Ray where it is not up, as ray._private.auto_init_hook has it."""

    def __init__(self) -> None:
        self.up, self.started = True, 0
        self.answer: Any = None
        self.handles_dropped: list[int] = []  # in which process
        for name in ("wait", "get", "get_runtime_context"):
            setattr(self, name, self._starting(getattr(self, f"_{name}")))

    def _starting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def auto_init_wrapper(*arguments: Any, **options: Any) -> Any:
            if not self.up:
                self.up, self.started = True, self.started + 1
            return function(*arguments, **options)

        return auto_init_wrapper

    def is_initialized(self) -> bool:
        return self.up

    def _check(self) -> None:
        if not self.up:
            raise RuntimeError("Ray has not been started yet.")

    def _wait(self, references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        self._check()
        self.answer = references[0]()
        return references, []

    def _get(self, reference: Any) -> Any:
        self._check()
        return self.answer

    def _get_runtime_context(self) -> Any:
        self._check()
        return self

    def get_job_id(self) -> str:
        return "01"

    def remote(self, **_options: Any) -> Callable[[type[Any]], Any]:
        def decorate(cls: type[Any]) -> Any:
            return _Class(self, cls)

        return decorate


class _Class:
    def __init__(self, ray: Ray, cls: type[Any]) -> None:
        self.ray, self.cls = ray, cls

    def options(self, **_options: Any) -> _Class:
        return self

    def remote(self) -> Any:
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

    def remote(self, *arguments: Any) -> Any:
        self.ray._check()
        done: list[Any] = []

        def once() -> Any:
            done.extend(() if done else [self.method(*arguments)])
            return done[0]

        once()  # a call is made, whether or not somebody waits for the answer
        return once


def test_ray_that_was_shut_down_is_not_started_again() -> None:
    ray = Ray()
    board = RayBoard(ray)
    board.open()
    assert board.exchange(b"digest") == b""
    assert board.digests() == {0: b"digest"}
    assert not board.is_over()
    # The job shuts Ray down at any moment: also between two calls of one exchange, and behind a look whether it is up.
    plain, looks = ray._wait, ray.is_initialized

    def wait(references: list[Any], timeout: float) -> Any:
        answer = plain(references, timeout)
        ray.up = False
        return answer

    ray.wait = ray._starting(wait)  # type: ignore[attr-defined]
    with pytest.raises(BoardError, match="has not been started"):
        board.exchange(b"digest")
    ray.is_initialized = lambda: True  # type: ignore[method-assign]
    assert board._job == "01"
    board._failed_at = None
    assert board.is_over()
    ray.is_initialized = looks  # type: ignore[method-assign]
    assert (ray.started, ray.up) == (0, False)
    board.leave()
    assert ray.started == 0


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
