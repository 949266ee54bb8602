"""A file of rows, one JSON document a line, that several processes append to, and that is read as it grows."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from ._files import line
from ._trouble import process

# Of a file that is long already, the end is enough.
_MOST_READ_BYTES = 8 << 20


class RowFile:
    """The rows of a file: others' are read once each, one's own never.

    Args:
        path: of the file, which need not be there.
        most: how many rows to return at a time, the newest.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = most
        self._offset = 0
        self._file: tuple[int, int] | None = None  # device and inode
        self._own: list[tuple[int, int]] = []

    def append(self, row: dict[str, Any]) -> None:
        """Write a row. What goes wrong is told once."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                self._append(descriptor, line(row))
            finally:
                os.close(descriptor)
        except OSError as error:
            process.tell(f"dashboard {self._path.name}", f"{self._path} cannot be written: {error.strerror or error}")

    def _append(self, descriptor: int, text: bytes) -> None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._is_of(descriptor)
        begin = os.fstat(descriptor).st_size
        if begin and os.pread(descriptor, 1, begin - 1) != b"\n":
            text = b"\n" + text
        end = begin + os.write(descriptor, text)
        if self._own and self._own[-1][1] == begin:
            begin = self._own.pop()[0]
        self._own.append((begin, end))

    def _is_of(self, descriptor: int) -> int:
        """Begin anew where it is another file than before, or was cut; return its size."""
        stat = os.fstat(descriptor)
        if self._file != (stat.st_dev, stat.st_ino) or stat.st_size < self._offset:
            self._file, self._offset, self._own = (stat.st_dev, stat.st_ino), 0, []
        return stat.st_size

    def new_rows(self) -> list[dict[str, Any]]:
        """Return the rows that others wrote since the last call, oldest first. What is no row is left out."""
        try:
            with self._path.open("rb") as file:
                size = self._is_of(file.fileno())
                cut = size - self._offset > _MOST_READ_BYTES
                if cut:
                    self._offset = size - _MOST_READ_BYTES
                file.seek(self._offset)
                content = file.read(size - self._offset)
        except OSError:
            return []
        begin, content = self._offset, content[: content.rfind(b"\n") + 1]
        self._offset += len(content)
        rows = []
        for text in content.splitlines(keepends=True):
            own = any(start <= begin < end for start, end in self._own)
            begin += len(text)
            if own or cut:
                cut = False  # the rest of a line
                continue
            with contextlib.suppress(ValueError):
                row = json.loads(text)
                if isinstance(row, dict):
                    rows.append(row)
        self._own = [part for part in self._own if part[1] > self._offset]
        return rows[-self._most :]
