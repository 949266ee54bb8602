"""Where records go: the monitors that asked for them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from ctypes import byref, c_uint32, c_void_p, string_at
from typing import TYPE_CHECKING, Any

from ... import _abi
from ..._errors import ClosedError, Error, ForkedProcessError, error_for
from ._tracker import RECORD

if TYPE_CHECKING:
    from ..._monitor import Monitor

_GROUP = next(i for i, (name, _) in enumerate(_abi.COLLECTIVE_FIELDS) if name == "group")


_MOST_NAME_BYTES = 256


def _cut(name: str) -> str:
    return name.encode("utf-8", "replace")[:_MOST_NAME_BYTES].decode("utf-8", "ignore")


class Sink:
    """A monitor that records are handed to. It knows groups by numbers of its own.

    Attributes:
        handle: the library's, of the monitor.
        asked: how often it was asked for, and not closed.

    Raises:
        Error: the monitor does not take records; the text says why.
    """

    def __init__(self, monitor: Monitor, source: str, unseen: str) -> None:
        self._library = monitor._library
        self.handle = monitor._handle.value or monitor._gone()
        self.asked = 0
        self._record = self._library.collectives_record
        self._tell = self._library.collective_pending
        self._source = source
        self._numbers = [0]  # by the process's number of the group
        self._alike = True  # the monitor's numbers are the process's
        self._gone = False
        self._name({"source": source, "unseen": unseen})
        self.tell(None, 0)

    def _name(self, group: dict[str, Any]) -> int:
        number, error = c_uint32(), c_void_p()
        text = json.dumps(group).encode()
        status = self._library.collective_group(self.handle, text, byref(number), byref(error))
        if status != _abi.OK:
            sentence = string_at(error.value).decode() if error.value else ""
            self._library.free(error)
            raise error_for(status, sentence)
        return number.value

    def name_groups(self, groups: Sequence[tuple[str, int] | None]) -> None:
        """Have the monitor know the groups it does not know yet.

        Raises:
            Error: it did not take one; records of that group are not handed to it.
        """
        failure: Error | None = None
        while len(self._numbers) <= len(groups):
            group = groups[len(self._numbers) - 1]
            try:
                number = 0 if group is None else self._name(self._described(*group))
            except Error as error:
                failure, number = error, 0
                self._gone = isinstance(error, (ClosedError, ForkedProcessError))
            self._alike = self._alike and number == len(self._numbers)
            self._numbers.append(number)
        if failure is not None:
            raise failure

    def _described(self, name: str, size: int) -> dict[str, Any]:
        return {"name": _cut(name) or "unnamed", "size": size, "source": self._source}

    def end_group(self, number: int, name: str, size: int) -> None:
        """Have the monitor know that a group has ended. Records of it that are late are still its own.

        Raises:
            Error: it does not take that.
        """
        if number < len(self._numbers) and self._numbers[number] != 0:
            self._name({**self._described(name, size), "ended": True})

    def take(self, batch: bytes, count: int) -> bool:
        """Hand over records; False: the monitor takes no more."""
        if not self._alike:
            batch = self._renumbered(batch)
            count = len(batch) // RECORD.size
        if self._gone or count == 0:
            return not self._gone
        return bool(self._record(self.handle, batch, count) not in (_abi.CLOSED, _abi.FORKED))

    def watched(self, complete: int, looks: int, busy: int) -> None:
        """Tell up to when records are complete, how often it was looked whether one is under way, and how often one was."""
        if not self._gone:
            self._name({"complete_ns": complete, "looks": looks, "busy_looks": busy})

    def leave(self) -> None:
        """Tell that no records will come any more."""
        with contextlib.suppress(Error):  # it was closed
            self._name({"watching": False})

    def tell(self, oldest: bytes | None, count: int) -> None:
        """Tell what is under way: a record of the oldest, None for nothing, and how many."""
        if oldest is not None and not self._alike:
            oldest = self._renumbered(oldest) or None
            count = 0 if oldest is None else count
        self._tell(self.handle, oldest, count)

    def _renumbered(self, batch: bytes) -> bytes:
        records = []
        for record in RECORD.iter_unpack(batch):
            fields = list(record)
            fields[_GROUP] = self._numbers[fields[_GROUP]]
            if fields[_GROUP] != 0:  # one that it did not take
                records.append(RECORD.pack(*fields))
        return b"".join(records)
