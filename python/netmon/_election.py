"""Which process of a job makes the view: by a lease that lies where the digests do, and that only goes on while somebody does.

The lease is a short text that its holder replaces every interval, each time on the condition that it is still the one it
wrote before (compare and set). Who finds it standing still for three intervals may replace it: the ranks that the holder named
as its heirs one after the other, then anybody. Two that try at once cannot both succeed, and who was stopped and comes back
finds the lease changed, and follows. Nobody waits for anybody.
"""

from __future__ import annotations

import json
from typing import NamedTuple

PATIENCE = 3.0  # intervals for which a lease stands still before others may take it
_STAGGER = 0.75  # intervals between one who may take it and the next, who look twice an interval
_PREPARES = PATIENCE + 1  # intervals before its turn from which a process looks at all digests
_STILL = 1.0  # intervals for which a lease that goes on does not stand still
_EARLY = 0.25  # intervals: the lease was as it is for some time when it was first seen so
_MOST_STAGGERED = 8
MOST_HEIRS = 3
_MOST_BYTES = 1024


class Lease(NamedTuple):
    """What the lease says."""

    term: int  # how many holders there have been
    holder: int  # its number
    process: str  # which process of that number
    beat: int  # of this term, from 1 on
    view_bytes: int  # of the newest view
    heirs: tuple[int, ...]

    def text(self) -> bytes:
        """Write it."""
        return json.dumps(self, separators=(",", ":")).encode()


def read(text: bytes) -> Lease | None:
    """Read a lease, None for one that is not understood: anybody may take its place."""
    try:
        if len(text) > _MOST_BYTES:
            return None
        term, holder, process, beat, view_bytes, heirs = json.loads(text)
        lease = Lease(int(term), int(holder), str(process), int(beat), int(view_bytes), tuple(map(int, heirs)))
    except (ValueError, TypeError):
        return None
    return lease


class Election:
    """How one process sees the lease.

    Args:
        number: of this process, as its rank; no two that live have the same.
        process: a word that no other process has.
        interval: seconds between two beats.
    """

    def __init__(self, number: int, process: str, interval: float) -> None:
        self._number = number
        self._process = process
        self.interval = interval
        self._text: bytes | None = None  # of the lease, as last seen
        self._seen = 0.0  # when it was last seen
        self._still = 0.0  # for how long it was seen to stand still
        self._mine: bytes | None = None  # what this process wrote last
        self._claim: Lease | None = None
        self.lease: Lease | None = None
        self.went_on = False  # the lease was seen to be replaced: who makes the view, or did so last, lived meanwhile

    @property
    def holds(self) -> bool:
        """Whether this process is the one that makes the view."""
        return self._mine is not None

    @property
    def prepares(self) -> bool:
        """Whether this process may be the next to take over: it looks at all digests before, to know then who fell silent.

        The first heir always does; others when the lease stands still for so long that their turn may come.
        """
        if self.holds:
            return False
        if self.lease is not None and self.lease.heirs[:1] == (self._number,):
            return True
        soon = max(_STILL, self._waits() / self.interval - _PREPARES)
        return self._still >= soon * self.interval

    def see(self, text: bytes, now: float) -> None:
        """Take note of the lease; empty: there is none yet."""
        if self._mine is not None and text != self._mine:
            self._mine = None  # somebody took over while this process was stopped
        if text != self._text:
            self.went_on = self._text is not None
            self._text, self._still, self.lease = text, 0.0, read(text) if text else None
        else:
            # While the engine was silent, or this process stopped, nobody can tell whether the holder went on.
            self._still += min(now - self._seen, self.interval)
        self._seen = now

    def is_due(self) -> bool:
        """Tell whether this process goes on, or takes over; else it follows."""
        return self.holds or self._still >= self._waits() - _EARLY * self.interval

    def claim(self, view_bytes: int, heirs: tuple[int, ...]) -> tuple[bytes, bytes]:
        """Return what to replace by what."""
        assert self._text is not None
        term, beat = (self.lease.term, self.lease.beat + 1) if self.lease is not None else (0, 1)
        if not self.holds:
            term, beat = term + 1, 1
        self._claim = Lease(term, self._number, self._process, beat, view_bytes, heirs[:MOST_HEIRS])
        return self._text, self._claim.text()

    def claimed(self, answer: bytes, now: float) -> bool:
        """Take note of what the lease is after a claim, and tell whether it is this process's."""
        assert self._claim is not None
        text = self._claim.text()
        if answer == text:
            self._mine = text
        else:
            self._mine = None
        self.see(answer, now)
        return self.holds

    def _waits(self) -> float:
        """Return for how many seconds the lease has to stand still before this process may take it."""
        if self.lease is None:
            if not self._text and self._number == 0:
                return 0.0  # the beginning
            place = self._number
        elif self.lease.holder == self._number:
            return 0.0  # an earlier process of the same number
        elif self._number in self.lease.heirs:
            place = self.lease.heirs.index(self._number)
        else:
            place = len(self.lease.heirs) + self._number
        return (PATIENCE + _STAGGER * min(place, _MOST_STAGGERED)) * self.interval
