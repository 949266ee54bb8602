"""The files of a run: lines are appended from a buffer, whole files replaced at once. What the disk refuses is tried again."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ._trouble import Troubles

# What may wait for a disk that refuses; lines beyond that are lost, and counted.
_MOST_WAITING_BYTES = 8 << 20
_BLOCK_BYTES = 1 << 20
_AGAIN = ("", *(f"_{number}" for number in range(2, 100)))


class LineFile:
    """A file that only grows, by whole lines. A part of a line never stays in it, even when the disk is full.

    Args:
        open_file: returns a descriptor for appending and reading, or raises OSError; tried until it works.
    """

    def __init__(self, open_file: Callable[[], int]) -> None:
        self._open_file = open_file
        self._descriptor = -1
        self._waiting = bytearray()
        self._written_of_line = False
        self._whole_size = 0
        self.lost_lines = 0

    def add(self, lines: bytes) -> None:
        """Take whole lines; they are written by ``flush``."""
        if len(self._waiting) + len(lines) > _MOST_WAITING_BYTES:
            self.lost_lines += lines.count(b"\n")
            return
        self._waiting += lines

    def flush(self) -> None:
        """Open the file if it is not open, and write what waits.

        Raises:
            OSError: not all of it could be written; the rest goes on waiting.
        """
        if self._descriptor < 0:
            self._descriptor = self._open_file()
            self._whole_size = os.fstat(self._descriptor).st_size
            if self._whole_size and os.pread(self._descriptor, 1, self._whole_size - 1) != b"\n":
                # An earlier run ended in the middle of a line; ours begin on one of their own.
                self._waiting[:0] = b"\n"
        while self._waiting:
            block = bytes(self._waiting[:_BLOCK_BYTES])
            written = os.write(self._descriptor, block)
            end = block.rfind(b"\n", 0, written) + 1
            self._written_of_line = written > end
            if end:
                self._whole_size = os.lseek(self._descriptor, 0, os.SEEK_CUR) - (written - end)
            del self._waiting[:written]

    def close(self) -> None:
        """Close the file; lines that still wait are lost, and counted."""
        descriptor, self._descriptor = self._descriptor, -1
        self.lost_lines += self._waiting.count(b"\n")
        self._waiting.clear()
        if descriptor < 0:
            return
        with contextlib.suppress(OSError):
            if self._written_of_line:
                os.ftruncate(descriptor, self._whole_size)
        with contextlib.suppress(OSError):
            os.close(descriptor)

    def leave_to_parent(self) -> None:
        """Close the file in a forked child: what waits is the parent's to write."""
        self._waiting.clear()
        self._written_of_line = False
        self.close()


class RunFiles:
    """The files of one run in one folder.

    Their names are rldk's. Where another living object, as that of another rank, writes files of these names in this folder,
    the later one's get ``_rank<r>`` (or ``_pid<p>``) after the run's name, so that nobody's are overwritten.

    Attributes:
        suffixes: what may stand after the run's name, best first; ``_pid<p>`` follows.
        suffix_without_locks: what stands there on a file system that cannot tell whether somebody else writes them.
    """

    def __init__(self, folder: Path, run_id: str, troubles: Troubles) -> None:
        self.folder = folder
        self.run_id = run_id
        self.suffixes = [""]
        self.suffix_without_locks = ""
        self._suffix: str | None = None
        self._troubles = troubles
        self._lines: dict[str, LineFile] = {}
        self._lost_lines = 0

    def path(self, pattern: str) -> Path:
        """Return the path of a file, ``{run_id}`` in its name replaced."""
        return self.folder / pattern.format(run_id=self.run_id + (self._suffix or ""))

    def add(self, pattern: str, lines: bytes = b"") -> None:
        """Append whole lines to a file, which is created even without a line; ``flush`` writes them."""
        file = self._lines.get(pattern)
        if file is None:
            file = self._lines[pattern] = LineFile(lambda: self._open(pattern))
        file.add(lines)

    def flush(self) -> None:
        """Write what waits. What the disk refuses is told once, and waits on."""
        for pattern, file in self._lines.items():
            try:
                file.flush()
            except OSError as error:
                self._refused(pattern, error)

    def close(self) -> None:
        """Write what waits and close all files; lines that could not be written are counted as lost."""
        self.flush()
        for file in self._lines.values():
            file.close()
        self._lost_lines = self.lost_lines
        self._lines = {}
        self._suffix = None
        if self._lost_lines:
            self._troubles.tell("lost", f"{self._lost_lines} lines could not be written to {self.folder} and are lost")

    @property
    def lost_lines(self) -> int:
        """How many lines could not be written and are given up."""
        return self._lost_lines + sum(file.lost_lines for file in list(self._lines.values()))

    def leave_to_parent(self) -> None:
        """Forget everything in a forked child, whose files get names of their own."""
        for file in self._lines.values():
            file.leave_to_parent()
        self._lines = {}
        self._lost_lines = 0
        self._suffix = None
        self.suffixes = []

    def _open(self, pattern: str) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._open_first(pattern) if self._suffix is None else _append_to(self.path(pattern))

    def _open_first(self, pattern: str) -> int:
        """Open the run's first file under the first name that nobody else holds."""
        for suffix in (*self.suffixes, *(f"_pid{os.getpid()}{again}" for again in _AGAIN)):
            self._suffix = suffix
            try:
                descriptor = _append_to(self.path(pattern))
            except OSError:
                self._suffix = None
                raise
            held = _hold(descriptor)
            if held is None:
                held = suffix == self.suffix_without_locks or self.suffix_without_locks not in self.suffixes
            if held:
                return descriptor
            os.close(descriptor)
        self._suffix = None
        raise OSError(errno.EBUSY, "all its names are held by other objects")

    def replace(self, pattern: str, content: bytes) -> bool:
        """Write a whole file at once; whether that was possible."""
        path = self.path(pattern)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            part.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            self._refused(pattern, error)
            return False
        return True

    def _refused(self, pattern: str, error: OSError) -> None:
        self._troubles.tell(
            f"file {pattern}",
            f"{self.path(pattern)} cannot be written, and training goes on without it: {error.strerror or error}",
        )


def _append_to(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _hold(descriptor: int) -> bool | None:
    """Hold a file until it is closed; False where somebody else does, None where the file system knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


_encode = json.JSONEncoder(allow_nan=False, separators=(", ", ": "), default=str).encode


def line(document: Any) -> bytes:
    """Return a document as a line."""
    return json_text(document).encode() + b"\n"


def json_text(document: Any) -> str:
    """Return a document as one line of JSON. Values that JSON does not have, infinite or NaN, are left out, as rldk does."""
    try:
        return _encode(document)
    except ValueError:
        return _encode(finite(document))


def finite(value: Any) -> Any:
    """Return a document without numbers that are infinite or NaN."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items() if not _odd(item)}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value if not _odd(item)]
    return value


def _odd(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def csv_text(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return rows as CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet_bytes(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes | None:
    """Return rows as a Parquet file; None where pyarrow is not installed, or cannot."""
    try:
        import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]
        from pyarrow import parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]

        table = pyarrow.table({name: [row[place] for row in rows] for place, name in enumerate(names)})
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(table, sink)
        return bytes(sink.getvalue().to_pybytes())
    except Exception:  # noqa: BLE001 - an optional module, and its answer to odd values; JSON is written instead
        return None
