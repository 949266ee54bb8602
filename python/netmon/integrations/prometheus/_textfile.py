"""A file that node_exporter's textfile collector reads."""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any
from weakref import WeakSet

from ..._errors import ConfigError, ResourceError
from ..._prometheus import check_labels
from .._guest import Guest

if TYPE_CHECKING:
    from ..._monitor import Monitor

_ENDING = ".prom"  # node_exporter reads no other file
_CLOSE_SECONDS = 1.0


class Textfile:
    """Keeps the newest metrics in a file, on a daemon thread of its own; nothing is served and no port opened.

    Readers see a whole file at any time, the old one or the new one. It goes away with ``close``, with the monitor, and when
    the process ends in order, so that nothing old is taken for new. One process at a time keeps a file; another one that is
    to keep the same waits until it ends, and ``problem`` says so. What goes wrong is one warning and ``problem``, and tried
    again the next time. A forked child neither writes the file nor takes it away.

    Args:
        monitor: who measures; None: the process's shared monitor.
        path: the file, which ends in ``.prom``, or the collector's folder, in which it is ``netmon.prom``. Where the job has
            several ranks, ``-rank3`` comes before the ending, so that they do not write over each other.
        interval: seconds between two writings, 1 to 3600.
        node: as in ``Monitor.prometheus``.
        peers: as in ``Monitor.prometheus``.
        labels: as in ``Monitor.prometheus``.

    Raises:
        ConfigError: an argument is wrong.

    Attributes:
        path: the file that is written.
        problem: why it could not be, the last time; None: it was.
    """

    def __init__(
        self,
        monitor: Monitor | None = None,
        path: str | os.PathLike[str] = "netmon.prom",
        interval: float = 15.0,
        *,
        node: bool | None = None,
        peers: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        if not 1 <= interval <= 3600:
            raise ConfigError(f"interval {interval!r}: 1 to 3600 seconds")
        place = Path(path)
        if os.path.isdir(place):  # also where it may not be looked at, other than Path's
            place /= f"netmon{_ENDING}"
        if place.suffix != _ENDING:
            raise ConfigError(f"path {str(path)!r}: a folder, or a file that ends in {_ENDING}; node_exporter reads no other")
        self._options: dict[str, Any] = {"node": node, "peers": peers, "labels": check_labels(labels)}
        self._guest = Guest("netmon's textfile")
        self._monitor = monitor = self._guest.monitor(monitor)
        self._interval = interval
        self._pid = os.getpid()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self.path = place
        if monitor is None:
            return
        self.path = self._guest.ask(lambda: _for_rank(place, monitor)) or place
        self._kept = KeptFile(self.path)
        self._write(monitor)
        self._thread = threading.Thread(target=self._run, args=(monitor,), name="netmon-textfile", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def problem(self) -> str | None:
        """Why the file could not be written the last time."""
        return self._guest.problem

    def _run(self, monitor: Monitor) -> None:
        while not self._end.wait(self._interval):
            if monitor.closed:
                break
            self._write(monitor)
        self._kept.remove()

    def _write(self, monitor: Monitor) -> None:
        self._guest.ask(lambda: self._kept.write(monitor.prometheus(**self._options)))

    def close(self) -> None:
        """End it and take the file away. Closing twice is fine."""
        if os.getpid() != self._pid:
            return
        self._end.set()
        atexit.unregister(self.close)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_CLOSE_SECONDS)

    def __enter__(self) -> Textfile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def _for_rank(path: Path, monitor: Monitor) -> Path:
    job = monitor.sample().job
    if job is None or job.rank is None or (job.world_size or 1) == 1:
        return path
    return path.with_name(f"{path.stem}-rank{job.rank}{path.suffix}")


class KeptFile:
    """A file that one process at a time writes, and takes away: whose it is holds a lock on it.

    Whoever reads sees a whole text at any time. Where a file system has no locks, the last one that writes has it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None  # what this process has put in place last, locked
        _kept.add(self)

    def write(self, text: str) -> None:
        """Put a text in place of what is there, readable for all.

        Raises:
            ResourceError: another process keeps the file.
            OSError: it cannot be written.
        """
        # Beside it, for a file system has to hold both; by a name that node_exporter does not read.
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        file = open(beside, "w", encoding="utf-8")  # noqa: SIM115 - it stays open, with its lock
        try:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # whatever the umask: node_exporter is another user
            _lock(file)
            if self._is_ours():
                beside.replace(self._path)
            else:
                self._put(beside)
        except BaseException:
            file.close()
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        self.forget()
        self._file = file

    def remove(self) -> None:
        """Take it away, if this process has put it there."""
        with contextlib.suppress(OSError):
            if self._is_ours():
                self._path.unlink()
        self.forget()

    def forget(self) -> None:
        """Leave the file to others, as it is."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _is_ours(self) -> bool:
        return self._file is not None and _is_at(self._file, self._path)

    def _put(self, beside: Path) -> None:
        """Put in place what is beside, where nobody keeps what is there."""
        for _ in range(_TRIES):
            with contextlib.suppress(FileExistsError):
                os.link(beside, self._path)
                beside.unlink()
                return
            with contextlib.suppress(FileNotFoundError), open(self._path, encoding="utf-8") as there:
                if not _lock(there):
                    break
                if _is_at(there, self._path):  # left by one that ended otherwise than in order
                    beside.replace(self._path)
                    return
        raise ResourceError(f"another process keeps {self._path}; give each a path of its own, and labels that tell them apart")


_TRIES = 10  # while others come and go
_kept: WeakSet[KeptFile] = WeakSet()


def _lock(file: IO[str]) -> bool:
    """Lock a file until it is closed; False: another process, or another of this one's, has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN)
    return True


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _after_fork_in_child() -> None:
    # A child that lives longer than its parent must not hold the lock.
    for one in list(_kept):
        one.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
