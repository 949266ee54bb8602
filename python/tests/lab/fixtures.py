"""Fixtures of pytest: a lab, or a skip with the reason; conftest.py imports them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

import pytest

from lab import namespaces as _namespaces
from lab.leftovers import LabError
from lab.namespaces import Link
from lab.network import Lab

__all__ = ["FIXTURES", "make_lab", "namespace", "namespaces"]

# A test that uses one of these needs the right to make namespaces.
FIXTURES = frozenset({"make_lab", "namespaces", "namespace"})

T = TypeVar("T")


def _or_skip(stack: ExitStack, made: Callable[[], AbstractContextManager[T]]) -> T:
    try:
        return stack.enter_context(made())
    except LabError as error:
        pytest.skip(f"no network namespaces here: {error}")


@pytest.fixture
def make_lab() -> Iterator[Callable[..., Lab]]:
    """A function that makes a lab, with the arguments of Lab; it is taken away when the test ends."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: _or_skip(stack, lambda: Lab(*arguments, **options))


@pytest.fixture
def namespaces() -> Iterator[Link]:
    """Two namespaces joined by a veth link (``.left``, ``.right``), or a skip with the reason."""
    with ExitStack() as stack:
        yield _or_skip(stack, _namespaces.veth_link)


@pytest.fixture
def namespace() -> Iterator[str]:
    """The name of a namespace with nothing but loopback, or a skip with the reason."""
    with ExitStack() as stack:
        yield _or_skip(stack, _namespaces.namespace)
