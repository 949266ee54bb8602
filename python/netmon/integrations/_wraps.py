"""Methods of a trainer that are wrapped as long as somebody needs it, and are then what they were."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

Around = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]

_lock = threading.RLock()


class Wrap:
    """One method, of a class or of one object. ``around`` gets the method and what it is called with, and calls it.

    Args:
        owner: the class or the object.
        name: the method's.
        around: what is called in its place: ``around(method, arguments, options)``.
    """

    def __init__(self, owner: Any, name: str, around: Around) -> None:
        self._owner, self._name = owner, name
        self._own = name in vars(owner)
        self._function = function = getattr(owner, name)
        self._active = True

        @wraps(function)
        def wrapper(*arguments: Any, **options: Any) -> Any:
            # One that another wraps in turn cannot be taken away.
            return around(function, arguments, options) if self._active else function(*arguments, **options)

        self._wrapper = wrapper
        setattr(owner, name, wrapper)

    def undo(self) -> None:
        """Take it away again. Doing it twice is fine."""
        with _lock:
            self._active = False
            if vars(self._owner).get(self._name) is not self._wrapper:
                return
            if self._own:
                setattr(self._owner, self._name, self._function)
            else:
                delattr(self._owner, self._name)


class Shared:
    """Wraps of classes that all users in a process share: put on by the first, taken away by the last.

    Args:
        make: what puts them on.
    """

    def __init__(self, make: Callable[[], list[Wrap]]) -> None:
        self._make = make
        self._users: list[object] = []
        self._wraps: list[Wrap] = []

    @property
    def users(self) -> list[Any]:
        """Who needs them now, in the order in which they came."""
        return list(self._users)

    def add(self, user: object) -> None:
        """Put them on for one more."""
        with _lock:
            if not self._users:
                self._wraps = self._make()
            if not self._has(user):
                self._users.append(user)

    def remove(self, user: object) -> None:
        """Need them no more."""
        with _lock:
            if not self._has(user):
                return
            self._users = [other for other in self._users if other is not user]
            if not self._users:
                for wrap in reversed(self._wraps):
                    wrap.undo()
                self._wraps = []

    def _has(self, user: object) -> bool:
        return any(other is user for other in self._users)
