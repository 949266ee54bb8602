"""Documents whose sections are decoded and typed when they are first asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class Document:
    """A document, as text until somebody looks into it. Threads may share one.

    Args:
        document: as ``_read`` takes it, or decoded.
    """

    __slots__ = ("_document", "_sections", "_text")

    def __init__(self, document: Mapping[str, Any] | bytes) -> None:
        self._text: bytes | None = None
        self._document: Mapping[str, Any] | None = None
        if isinstance(document, bytes):
            self._text = document
        else:
            self._document = document
        self._sections: dict[str, Any] = {}

    @staticmethod
    def _read(text: bytes) -> Mapping[str, Any]:
        document: Mapping[str, Any] = json.loads(text)
        return document

    def _decoded(self) -> Mapping[str, Any]:
        document = self._document
        if document is None:
            text = self._text
            if text is not None:
                document = self._document = self._read(text)
                self._text = None
            else:
                document = self._document  # another thread was quicker
                assert document is not None
        return document

    def _made(self, name: str, make: Callable[[Any], T]) -> T:
        """Return a section as it was made the first time, of its value, or of None where the document has none."""
        try:
            section: T = self._sections[name]
        except KeyError:
            section = self._sections[name] = make(self._decoded().get(name))
        return section

    @property
    def schema(self) -> str:
        """The form of the document: its name and version."""
        return str(self._decoded()["schema"])
