"""The faults: what each does to a host, what a finding should say of it, and the order that a seed draws them in."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab import Direction, Host

# The program of a rank.
RANK = Path(__file__).resolve().with_name("rank.py")

# Of every host's link, each way, while it has no fault.
RATE_BITS_PER_SECOND = 200e6
_BURST_BYTES = 125_000

DIRECTIONS = ("transmit", "receive")


@dataclass(frozen=True)
class Fault:
    """One fault: of what kind, where, and after how long a pause.

    Attributes:
        kind: a key of ``KINDS``.
        host: the number of the host, 0 and up; that of its rank too.
        direction: ``"transmit"`` or ``"receive"`` for kinds that have one, else None.
        pause_seconds: without a fault before it.
    """

    kind: str
    host: int
    direction: str | None
    pause_seconds: float


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        finding: the class of the finding that is right; None: there is nothing to find.
        directed: whether it is put into one direction of the link.
        told: whether what is measured can tell the direction. That of a delay cannot: a round trip has both ways.
        put: puts it into a host, for the time of a context.
    """

    finding: str | None
    directed: bool
    told: bool
    put: Callable[[Host, str | None], contextlib.AbstractContextManager[None]]


def _way(host: Host, direction: str | None) -> Direction:
    return host.egress if direction == "transmit" else host.ingress


def _rate(share: float) -> Callable[[Host, str | None], contextlib.AbstractContextManager[None]]:
    @contextmanager
    def put(host: Host, direction: str | None) -> Iterator[None]:
        way = _way(host, direction)
        limit(way, share)
        try:
            yield
        finally:
            limit(way)

    return put


@contextmanager
def _loss(host: Host, direction: str | None) -> Iterator[None]:
    way = _way(host, direction)
    way.lose(every=100)
    try:
        yield
    finally:
        way.lose_nothing()


@contextmanager
def _delay(host: Host, direction: str | None) -> Iterator[None]:
    way = _way(host, direction)
    way.delay(0.005)
    try:
        yield
    finally:
        way.lift_delay()


@contextmanager
def _stop(host: Host, _: str | None) -> Iterator[None]:
    stopped = ranks(host)
    host.freeze(stopped)
    try:
        yield
    finally:
        host.thaw(stopped)


def limit(way: Direction, share: float = 1.0) -> None:
    """Give one way of a host's link a share of its rate."""
    # A queue has TCP's packets of 64 KiB in it, which are cut up behind it. One that waits when less than it may pass at once
    # would wait for ever, and all others behind it.
    way.limit_rate(share * RATE_BITS_PER_SECOND, burst_bytes=_BURST_BYTES)


@contextmanager
def _nothing(_host: Host, _direction: str | None) -> Iterator[None]:
    yield


def ranks(host: Host) -> list[int]:
    """Return the processes of a host that train."""
    found = []
    for pid in host.processes():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if os.fsencode(RANK) in words:
                found.append(pid)
    return found


# Load

# A busy host has a part of one of this machine's processors, which all hosts share, and busy processes that want it as much as
# its rank does. Its kernel's work, as answering, is not slowed down.
_BUSY_PROCESSES = 3
_PROCESSOR_RATIO = 0.5
_PERIOD_SECONDS = 0.01


@contextmanager
def _load(host: Host, _: str | None) -> Iterator[None]:
    group = _make_group(f"netmon-campaign-{host.name}")
    if group is None:
        with _by_turns(ranks(host), 1 / (_BUSY_PROCESSES + 1) * _PROCESSOR_RATIO):
            yield
        return
    folder, away = group
    moved = ranks(host)
    try:
        with host.load(_BUSY_PROCESSES):
            for pid in host.processes():
                (folder / "cgroup.procs").write_text(str(pid))
            yield
    finally:
        for pid in moved:
            with contextlib.suppress(OSError):
                (away / "cgroup.procs").write_text(str(pid))
        deadline = time.monotonic() + 5
        while folder.exists() and time.monotonic() < deadline:
            try:
                folder.rmdir()
            except OSError:  # the busy processes are not quite gone
                time.sleep(0.01)


def _make_group(name: str) -> tuple[Path, Path] | None:
    """Make a control group whose processes share a part of a processor, and return its folder and that of its parent."""
    quota, period = round(_PROCESSOR_RATIO * _PERIOD_SECONDS * 1e6), round(_PERIOD_SECONDS * 1e6)
    for parent, limits in (
        (Path("/sys/fs/cgroup/cpu"), {"cpu.cfs_period_us": f"{period}", "cpu.cfs_quota_us": f"{quota}"}),
        (Path("/sys/fs/cgroup"), {"cpu.max": f"{quota} {period}"}),
    ):
        for left in parent.glob("netmon-campaign-*"):  # by a campaign that was killed
            if not Path("/run/netns", left.name.removeprefix("netmon-campaign-")).exists():
                with contextlib.suppress(OSError):
                    left.rmdir()
        folder = parent / name
        try:
            folder.mkdir()
        except OSError:
            continue
        with contextlib.suppress(OSError):
            if (folder / "cgroup.procs").exists():  # else this is an ordinary folder
                for file, value in limits.items():
                    (folder / file).write_text(value)
                return folder, parent
        folder.rmdir()
    return None


@contextmanager
def _by_turns(pids: Sequence[int], ratio: float, period: float = 0.02) -> Iterator[None]:
    """Let processes run for a part of the time only: stop them as a scheduler does, where there are no control groups."""
    ended = threading.Event()

    def alternate() -> None:
        while not ended.is_set():
            _signal(pids, signal.SIGSTOP)
            ended.wait((1 - ratio) * period)
            _signal(pids, signal.SIGCONT)
            ended.wait(ratio * period)

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _signal(pids, signal.SIGCONT)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


KINDS = {
    "half rate": Kind("slow_link", True, True, _rate(0.5)),
    "10 % rate": Kind("slow_link", True, True, _rate(0.1)),
    "1 % loss": Kind("lossy_link", True, True, _loss),
    "+5 ms": Kind("high_latency", True, False, _delay),
    "busy host": Kind("slow_host", False, False, _load),
    "SIGSTOP": Kind("stalled_rank", False, False, _stop),
    "none": Kind(None, False, False, _nothing),
}


def draw(seed: int, count: int, hosts: int, pauses: tuple[float, float]) -> list[Fault]:
    """Draw faults: all kinds as often as each other, or once less, in any order, each at any host, way and moment.

    Args:
        seed: of all that is drawn.
        count: of faults, those of kind ``none`` included.
        hosts: how many there are.
        pauses: the shortest and the longest pause before a fault, in seconds.
    """
    chance = random.Random(seed)  # noqa: S311  (to be repeated, not secret)
    kinds = list(KINDS)
    chance.shuffle(kinds)
    drawn = [kinds[i % len(kinds)] for i in range(count)]
    chance.shuffle(drawn)
    return [
        Fault(
            kind,
            chance.randrange(hosts),
            chance.choice(DIRECTIONS) if KINDS[kind].directed else None,
            chance.uniform(*pauses),
        )
        for kind in drawn
    ]
