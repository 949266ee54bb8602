"""Packages that an integration needs and that are not there."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

from .._errors import UnsupportedError


def required(package: str, extra: str) -> Any:
    """Return a package, imported.

    Raises:
        UnsupportedError: it is not installed; the text says how to install it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise missing(package, extra, error) from error


def missing(package: str, extra: str, error: ImportError) -> UnsupportedError:
    """Return the error that says which package is not there, or cannot be imported, and what helps."""
    absent = isinstance(error, ModuleNotFoundError) and (error.name or package).partition(".")[0] == package.partition(".")[0]
    why = "which is not installed" if absent else f"which cannot be imported: {error}"
    return UnsupportedError(f"netmon.integrations.{extra} needs {package}, {why}; pip install 'libnetmon[{extra}]' brings it")


def class_of(load: Callable[[], Any], name: str, package: str, extra: str) -> Any:
    """Return a class that derives from one of a package's; where that is not there, one that says so when it is used."""
    try:
        return load()
    except ImportError as error:
        said = missing(package, extra, error)

    def fail(cls: type, *arguments: Any, **options: Any) -> NoReturn:
        raise said

    return type(name, (), {"__new__": fail, "__doc__": str(said), "__module__": f"netmon.integrations.{extra}"})
