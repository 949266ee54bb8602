"""What happens in the background of one callback: looking at the network, and writing the run's files.

The training thread only appends to ``rows`` and ``pending``; everything here is done by the worker's thread.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._files import RunFiles, csv_text, json_text, parquet_bytes
from ._lines import Row, age_of, event_lines, metrics_document, metrics_line
from ._training_metrics import NAMES, NOTHING, Found, still_missing
from ._trouble import Troubles
from ._worker import in_forked_child

METRICS = "metrics_{run_id}.jsonl"
EVENTS = "events_{run_id}.jsonl"
SCHEMA_EVENTS = "{run_id}_events.jsonl"

MOST_ROWS = 50_000
MOST_PENDING = 20_000
_BATCH = 256
_LONGEST_PERIOD_SECONDS = 1.0
_SHORTEST_PERIOD_SECONDS = 0.1
_STUCK_SECONDS = 1.0

WRITE_METRICS = 1
WRITE_EVENTS = 2


class Run:
    """A task of the worker for one callback between ``on_train_begin`` and ``on_train_end``.

    Args:
        look: returns what is known now, and when to look again.
        about: what the summary says of the run.
        jsonl: whether events are written.
    """

    def __init__(
        self,
        look: Callable[[], tuple[Found, float]],
        folder: Path,
        run_id: str,
        about: dict[str, Any],
        jsonl: bool,
        troubles: Troubles,
    ) -> None:
        # Weak, so that a callback that nobody holds any more ends its run.
        self._look = weakref.WeakMethod(look)
        self.files = RunFiles(folder, run_id, troubles)
        self._about = about
        self._jsonl = jsonl
        self._troubles = troubles
        self.newest = NOTHING
        self.rows: deque[Row] = deque(maxlen=MOST_ROWS)
        self.steps = 0
        self.dropped = 0
        self.alerts = 0
        self.pending: deque[tuple[Row, int]] = deque()
        self.over = False
        self.inherited = False
        self._next_look = 0.0
        self._ending: str | None = None
        self._writing_since: float | None = None
        self._one_at_a_time = threading.Lock()
        self._opened = threading.Event()
        self._done = threading.Event()
        self._progress = threading.Event()
        self._began = time.time()
        _live.add(self)

    def look(self) -> None:
        """Find out what is new. Called by the worker, and once by the training thread at the start."""
        look = self._look()
        if look is None:
            self._ending = self._ending or "the callback is gone"
            return
        try:
            self.newest, self._next_look = look()
        except Exception as error:  # noqa: BLE001 - whatever a monitor of the caller's own raises, training goes on
            self._next_look = time.monotonic() + _LONGEST_PERIOD_SECONDS
            self._troubles.tell("look", f"the network could not be looked at: {error!r}")

    def tick(self, now: float) -> float | None:
        """Look, write what waits, and end the run where that was asked for."""
        if not self._one_at_a_time.acquire(blocking=False):
            return now + _SHORTEST_PERIOD_SECONDS
        try:
            return self._tick(now)
        finally:
            self._one_at_a_time.release()

    def _tick(self, now: float) -> float | None:
        if self.over:
            return None
        if self._ending is None and now >= self._next_look:
            self.look()
        self._write()
        if self._ending is not None:
            try:
                self._write_end_files(self._ending)
            finally:
                self.files.close()
                self.over = True
                self._done.set()
            return None
        soonest, latest = now + _SHORTEST_PERIOD_SECONDS, now + _LONGEST_PERIOD_SECONDS
        return min(max(soonest, self._next_look), latest)

    def end(self, why: str) -> None:
        """Ask for the end; the next tick brings it."""
        self._ending = self._ending or why

    def at_exit(self) -> None:
        """End the run because the process ends."""
        self.end("exit")

    def wait_for_files(self, seconds: float) -> bool:
        """Wait until the files are open, so that their names belong to this run; whether it came in time."""
        return self._opened.wait(seconds)

    def wait_for_end(self, seconds: float) -> bool:
        """Wait for the end; whether it came in time."""
        return self._done.wait(seconds)

    def make_room(self) -> None:
        """Wait, a moment only, for steps to be written; where the disk hangs, forget the oldest and count them."""
        since = self._writing_since
        if since is not None and time.monotonic() - since > _STUCK_SECONDS:
            while len(self.pending) >= MOST_PENDING:
                self.pending.popleft()
                self.dropped += 1
            self._troubles.tell(
                "stuck", f"the files in {self.files.folder} have not been writable for a second; steps are left out"
            )
            return
        self._progress.clear()
        self._progress.wait(0.05)

    def _write(self) -> None:
        self.files.add(METRICS)
        if self._jsonl:
            self.files.add(EVENTS)
            self.files.add(SCHEMA_EVENTS)
        while True:
            batch: list[tuple[Row, int]] = []
            while self.pending and len(batch) < _BATCH:
                batch.append(self.pending.popleft())
            metrics = [entry for entry, which in batch if which & WRITE_METRICS]
            events = [entry for entry, which in batch if which & WRITE_EVENTS]
            self.files.add(METRICS, b"".join(map(metrics_line, metrics)))
            if events:
                lines = [event_lines(entry, self._about) for entry in events]
                self.files.add(EVENTS, b"".join(event for event, _ in lines))
                self.files.add(SCHEMA_EVENTS, b"".join(event for _, event in lines))
            self._writing_since = time.monotonic()
            self.files.flush()
            self._writing_since = None
            self._opened.set()
            self._progress.set()
            if not batch:
                return

    def _write_end_files(self, why: str) -> None:
        rows = list(self.rows)
        names = (*NAMES, "unmeasured", "network_age_seconds")
        table = [(*row, " ".join(still_missing(found, row)), age_of(found, age)) for row, found, age in rows]
        self.files.replace("metrics_{run_id}.csv", csv_text(names, table))
        # A module that was never imported is not begun with while the interpreter ends.
        parquet = parquet_bytes(names, table) if why != "exit" else None
        if parquet is not None:
            self.files.replace("metrics_{run_id}.parquet", parquet)
        else:
            self.files.replace("metrics_{run_id}.json", json_text([metrics_document(row) for row in rows]).encode())
        summary = {
            **self._about,
            "ended_by": why,
            "start_time": self._began,
            "end_time": time.time(),
            "total_steps": self.steps,
            "steps_in_tables": len(rows),
            "steps_not_written": self.dropped,
            "lines_lost": self.files.lost_lines,
            "alerts": self.alerts,
            "final_metrics": metrics_document(rows[-1]) if rows else None,
            "problems": self._troubles.problems(),
        }
        self.files.replace("summary_{run_id}.json", json_text(summary).encode())

    def leave_to_parent(self) -> None:
        """End the run in a forked child: what waits is the parent's to write."""
        self.over = self.inherited = True
        self.pending.clear()
        self.files.leave_to_parent()


_live: weakref.WeakSet[Run] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for run in list(_live):
        run.leave_to_parent()


in_forked_child(_after_fork_in_child)
