"""How an integration asks for what it needs: a package, a monitor; and how it tells what goes wrong, without raising."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .. import _training
from .._errors import ClosedError, UnsupportedError

if TYPE_CHECKING:
    from .._monitor import Monitor

T = TypeVar("T")


def package(module: str, extra: str, what: str) -> Any:
    """Import a module of a package that netmon does without elsewhere.

    Raises:
        UnsupportedError: it is not installed, or cannot be imported; the text has the command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        if getattr(error, "name", None) in (name, module):
            raise UnsupportedError(f"{what} needs {name}, which is not installed: pip install 'libnetmon[{extra}]'") from error
        raise UnsupportedError(f"{what} needs {name}, which cannot be imported: {error}") from error


class Guest:
    """What must not raise into the job: it tells in one warning what went wrong first.

    Attributes:
        problem: what goes wrong at the moment, None: nothing.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._told = False
        self.problem: str | None = None

    def monitor(self, monitor: Monitor | None) -> Monitor | None:
        """Return the monitor that was given, else the process's shared one, started if need be; None: there is none."""
        return self.ask(_training.training_begins) if monitor is None else monitor

    def ask(self, call: Callable[[], T]) -> T | None:
        """Call something; None: it raised."""
        try:
            answer = call()
        except ClosedError as error:
            self.problem = str(error)  # as somebody wanted it
            return None
        except Exception as error:  # noqa: BLE001 - whatever it is, the job goes on
            self.tell(f"{type(error).__name__}: {error}")
            return None
        self.problem = None
        return answer

    def tell(self, problem: str) -> None:
        """Keep a problem, and log the first one."""
        self.problem = problem
        if not self._told:
            self._told = True
            logging.getLogger("netmon").warning("%s: %s; the training goes on", self._what, problem)
