"""Classes that derive from those of a package that netmon does without elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from .._errors import UnsupportedError
from ._guest import package


def class_of(load: Callable[[], Any], name: str, module: str, extra: str) -> Any:
    """Return a class; where the module that it needs is not there, one that says so when it is used."""
    try:
        return load()
    except ImportError:
        try:
            package(module, extra, f"netmon.integrations.{extra}")
        except UnsupportedError as error:
            said = error
        else:
            raise

    def fail(cls: type, *arguments: Any, **options: Any) -> NoReturn:
        raise said

    return type(name, (), {"__new__": fail, "__doc__": str(said), "__module__": f"netmon.integrations.{extra}"})
