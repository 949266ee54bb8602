"""Phases: parts of the job that are given a name."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_uint64, c_void_p
from functools import partial
from operator import attrgetter
from types import TracebackType
from typing import NoReturn

from . import _abi
from ._loader import Library

_SIZE = ctypes.sizeof(_abi.PhaseStruct)
_LONGEST_NAME = 65  # bytes; one more than the library takes, so that it says what is wrong


def _encode(name: object) -> bytes:
    # What is no name goes to the library as something that it refuses with a sentence: there it is told by health too.
    try:
        text = str(name)
    except Exception as error:  # noqa: BLE001 - whatever a name of the job does, it must not raise here
        text = f"\x01{type(error).__name__}"
    return text[:_LONGEST_NAME].encode("utf-8", "surrogatepass").replace(b"\0", b"\x01")


class PhaseRun:
    """One phase, from its beginning to its end: what ``Monitor.phase`` returns.

    Its numbers are None before the end, and where they were not measured: ``sample.unavailable`` says why. It may be begun
    again after its end.
    """

    __slots__ = ("__weakref__", "_ended", "_finally", "_handle", "_library", "_name", "_number", "_problem", "_raw")

    def __init__(self, library: Library, handle: c_uint64, name: object) -> None:
        self._library, self._handle, self._name = library, handle, _encode(name)
        # The library writes into it, so that no interrupt (Ctrl-C) falls between what is under way and who knows.
        self._number = c_uint64()
        self._raw = _abi.PhaseStruct(struct_size=_SIZE)
        self._ended = False
        self._problem: str | None = None
        self._finally = partial(library.phase_end, handle, self._number, None, None)

    def begin(self) -> None:
        """Begin the phase, where a ``with`` statement cannot."""
        if self._number.value:
            return
        self._ended, self._problem = False, None
        error = c_void_p()
        if self._library.phase_begin(self._handle, self._name, byref(self._number), byref(error)):
            self._fail("it was not begun", error)

    def end(self) -> None:
        """End the phase. Ending twice is fine."""
        if not self._number.value:
            return
        error = c_void_p()
        if self._library.phase_end(self._handle, self._number, byref(self._raw), byref(error)):
            self._fail("it has no numbers", error)
        else:
            self._ended = True
        self._number.value = 0

    def _fail(self, what: str, error: c_void_p) -> None:
        said = "" if error.value is None else ctypes.string_at(error.value).decode("utf-8", "replace")
        self._library.free(error)
        self._problem = f"{what}: {said if self._handle.value else 'the monitor was closed'}"

    def __enter__(self) -> PhaseRun:
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.end()

    # What is dropped is ended, by no code of Python's: as in Monitor.
    _finally: Callable[[], object]
    __del__ = property(attrgetter("_finally"))

    @property
    def name(self) -> str:
        """What the job does."""
        return self._name.decode("utf-8", "replace")

    @property
    def running(self) -> bool:
        """Whether it is under way."""
        return self._number.value != 0

    @property
    def problem(self) -> str | None:
        """Why it was not begun, or has no numbers; None where nothing is wrong."""
        return self._problem

    def _count(self, value: int) -> int | None:
        return None if not self._ended or value == _abi.UNKNOWN_U64 else value

    def _real(self, value: float) -> float | None:
        return value if self._ended and value == value else None

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        nanoseconds = self._count(self._raw.duration_ns)
        return None if nanoseconds is None else nanoseconds / 1e9

    @property
    def receive_bytes(self) -> int | None:
        """Bytes that counted interfaces received."""
        return self._count(self._raw.receive_bytes)

    @property
    def transmit_bytes(self) -> int | None:
        """Bytes that counted interfaces sent."""
        return self._count(self._raw.transmit_bytes)

    @property
    def tcp_bytes(self) -> int | None:
        """Bytes of this process's own connections to other hosts, both directions."""
        return self._count(self._raw.tcp_bytes)

    @property
    def loopback_bytes(self) -> int | None:
        """Bytes of this process's own connections inside this host, both directions."""
        return self._count(self._raw.loopback_bytes)

    @property
    def rdma_bytes(self) -> int | None:
        """Bytes of the node's RDMA ports, both directions; mostly known in ``sample.phases`` only, a little later."""
        return self._count(self._raw.rdma_bytes)

    @property
    def segments_sent(self) -> int | None:
        """TCP segments that the namespace sent."""
        return self._count(self._raw.segments_sent)

    @property
    def segments_retransmitted(self) -> int | None:
        """TCP segments that it sent again."""
        return self._count(self._raw.segments_retransmitted)

    @property
    def retransmit_ratio(self) -> float | None:
        """Segments retransmitted / sent."""
        return self._real(self._raw.retransmit_ratio)

    @property
    def utilization_ratio(self) -> float | None:
        """Mean share of the capacity, of the direction that moved more."""
        return self._real(self._raw.utilization_ratio)

    @property
    def peak_bytes_per_second(self) -> float | None:
        """The highest rate of a direction in some 20 ms."""
        return self._real(self._raw.peak_bytes_per_second)

    @property
    def peak_ratio(self) -> float | None:
        """The share of the capacity that the peak is."""
        return self._real(self._raw.peak_ratio)

    @property
    def busy_ratio(self) -> float | None:
        """The share of the time in which the link was busy."""
        return self._real(self._raw.busy_ratio)

    @property
    def full_ratio(self) -> float | None:
        """The share of the time in which the link carried 80 % of its capacity or more."""
        return self._real(self._raw.full_ratio)

    @property
    def plateau_bytes_per_second(self) -> float | None:
        """The rate at which the direction that moved more stayed longest."""
        return self._real(self._raw.plateau_bytes_per_second)

    @property
    def steady_ratio(self) -> float | None:
        """The share of the time in which it did."""
        return self._real(self._raw.steady_ratio)

    @property
    def waiting_ratio(self) -> float | None:
        """The share of the time in which own connections had data to send that the network did not take."""
        return self._real(self._raw.waiting_ratio)

    @property
    def verdict(self) -> str | None:
        """What the network has to do with the time it took: ``"link-bound"``, ``"software-bound"`` or ``"idle"``."""
        verdict = self._raw.verdict
        return _abi.VERDICTS[verdict] if self._ended and verdict < len(_abi.VERDICTS) else None

    def to_dict(self) -> dict[str, str | int | float | None]:
        """Return name, numbers and verdict by their names."""
        numbers = (name for name, _ in _abi.PHASE_FIELDS if name != "duration_ns")
        return {"name": self.name, "seconds": self.seconds, **{n: getattr(self, n) for n in numbers}, "verdict": self.verdict}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a phase cannot be pickled or copied; to_dict() has its numbers")

    def __repr__(self) -> str:
        state = (
            "running" if self.running else "ended" if self._ended else "not begun" if self._problem is None else self._problem
        )
        return f"<netmon.PhaseRun {self.name!r}: {state}>"

    def __str__(self) -> str:
        from ._text import describe_run

        return describe_run(self)
