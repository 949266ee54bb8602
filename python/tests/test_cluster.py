"""The view of a job: real ranks on hosts of a lab, that are stopped, killed and started anew; and stores that die or freeze."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Host, Lab

pytestmark = pytest.mark.torch

RANK = str(Path(__file__).with_name("cluster_rank.py"))
PORT = 29733
TOLD_WITHIN = 10.0  # what is promised with the default interval of 2 s


class Rank:
    """A rank on a host of the lab."""

    def __init__(self, host: Host, rank: int, size: int, store: str, *options: str, errors: Path | None = None) -> None:
        self.rank = rank
        self.errors = errors
        # A file: a pipe that nobody reads could fill.
        with open(errors, "w", encoding="utf-8") if errors else contextlib.nullcontext() as stderr:  # type: ignore[attr-defined]
            self.process = host.start(
                *(sys.executable, RANK, str(rank), str(size), store, *options),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, "GLOO_SOCKET_IFNAME": "eth0", "RANK": str(rank), "WORLD_SIZE": str(size)},
            )

    def line(self, seconds: float = 60.0) -> str:
        """Return the next line that it prints."""
        out = self.process.stdout
        assert out is not None
        ready, _, _ = select.select([out], [], [], seconds)
        assert ready, f"rank {self.rank} said nothing within {seconds} s"
        line = out.readline()
        assert line, f"rank {self.rank} ended with {self.process.wait(10)}: {self.said()}"
        return line

    def ask(self, what: str = "view") -> dict[str, Any]:
        """Return its answer, which it must give at once."""
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.line(20))
        return found

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Have it end, whatever state it is in."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        return self.process.wait()

    def said(self) -> str:
        """Return what it wrote to stderr."""
        return self.errors.read_text(encoding="utf-8") if self.errors else ""


def until(what: Callable[[], Any], seconds: float = TOLD_WITHIN) -> tuple[Any, float]:
    """Wait for something to be true, and return it and how long that took."""
    begun = time.monotonic()
    while True:
        found = what()
        took = time.monotonic() - begun
        if found:
            return found, took
        assert took < seconds, "not within the time"
        time.sleep(0.05)


def states(view: dict[str, Any]) -> dict[int, str]:
    return {row["rank"]: row["state"] for row in view["ranks"] or ()}


class Job:
    """Ranks, each on a host of its own, and a store on the last host."""

    def __init__(self, lab: Lab, folder: Path, size: int = 4) -> None:
        self.lab, self.folder, self.size = lab, folder, size
        self.place = f"{lab.hosts[size].address}:{PORT}"
        self.store = Rank(lab.hosts[size], -1, size, self.place)
        assert self.store.line() == "ready\n"
        self.ranks: list[Rank] = []
        self.count = 0

    def begin(self, *options: str) -> list[Rank]:
        self.ranks = [self.start(rank, *options) for rank in range(self.size)]
        for rank in self.ranks:
            assert rank.line(120) == "ready\n"
        return self.ranks

    def start(self, rank: int, *options: str) -> Rank:
        self.count += 1
        errors = self.folder / f"{self.count}-rank-{rank}.txt"
        return Rank(self.lab.hosts[rank], rank, self.size, self.place, *options, errors=errors)

    def end(self) -> None:
        for rank in (*self.ranks, self.store):
            rank.end()


@pytest.fixture
def make_job(make_lab: Callable[..., Lab], tmp_path: Path) -> Iterator[Callable[..., Job]]:
    pytest.importorskip("torch")
    jobs: list[Job] = []

    def make(size: int = 4) -> Job:
        jobs.append(Job(make_lab(size + 1, ipv6=False), tmp_path, size))
        return jobs[-1]

    yield make
    for job in jobs:
        job.end()


def complaints(rank: Rank) -> list[str]:
    """Return what a rank wrote to stderr, but for the one thing that torch's own client says where hosts have no names."""
    return [line for line in rank.said().splitlines() if "hostname of the client socket" not in line]


def whole(rank: Rank, size: int) -> dict[str, Any] | None:
    view: dict[str, Any] = rank.ask()["view"]
    return view if list(states(view).values()) == ["live"] * size else None


def test_ranks_that_are_stopped_killed_and_started_anew(make_job: Callable[..., Job]) -> None:
    job = make_job()
    ranks = job.begin()

    # All of them, each node once, from every rank, while the job's collectives go on.
    for rank in ranks:
        view, _ = until(lambda rank=rank: whole(rank, 4), 15)
        assert view["engine"] == "c10d store"
        assert view["aggregator_rank"] == 0
        assert view["world_size"] == 4
        assert [len(node["ranks"]) for node in view["nodes"]] == [1] * 4
        assert view["totals"]["nodes"] == 4
        assert [row["restarts"] for row in view["ranks"]] == [0] * 4
    before = [rank.ask() for rank in ranks]
    assert all(found["took"] < 0.5 for found in before)
    until(lambda: all(rank.ask()["steps"] > found["steps"] for rank, found in zip(ranks, before, strict=True)))

    # The rank that makes the view is stopped: another takes over, and says that it is late.
    ranks[0].signal(signal.SIGSTOP)

    def told(rank: Rank, who: int, *wanted: str) -> dict[str, Any] | None:
        found = rank.ask()
        assert found["took"] < 0.5, "nobody waits for anybody"
        return found["view"] if states(found["view"]).get(who) in wanted else None

    stopped = time.monotonic()
    for rank in ranks[1:]:
        view, _ = until(lambda rank=rank: told(rank, 0, "late", "gone"), stopped + TOLD_WITHIN - time.monotonic())
        second = view["aggregator_rank"]
        assert second != 0
        assert [states(view)[other] for other in (1, 2, 3)] == ["live"] * 3

    # It goes on: it follows, and is live again.
    ranks[0].signal(signal.SIGCONT)
    for rank in ranks:
        until(lambda rank=rank: (view := whole(rank, 4)) and view["aggregator_rank"] == second)
    steps = ranks[0].ask()["steps"]
    until(lambda: ranks[0].ask()["steps"] > steps)

    # The rank that makes the view is killed.
    ranks[second].end()
    killed = time.monotonic()
    others = [rank for rank in ranks if rank.rank != second]
    for rank in others:
        view, _ = until(lambda rank=rank: told(rank, second, "late", "gone"), killed + TOLD_WITHIN - time.monotonic())
        assert view["aggregator_rank"] != second
        assert [states(view)[other.rank] for other in others] == ["live"] * 3
    # As without netmon: who shares a connection with it gets an error, another waits for gloo's timeout.
    assert "RuntimeError" in {rank.ask()["raised"] for rank in others}

    # It is started anew.
    ranks[second] = job.start(second, "fake", "bare")
    assert ranks[second].line() == "ready\n"
    restarts = [int(other == second) for other in range(4)]
    for rank in ranks:
        until(lambda rank=rank: (view := whole(rank, 4)) and [row["restarts"] for row in view["ranks"]] == restarts)

    # Nobody in the job, or the test, has heard a word of netmon's.
    assert [complaints(rank) for rank in ranks] == [[]] * 4


def test_a_rank_that_says_that_it_leaves(make_job: Callable[..., Job]) -> None:
    job = make_job(2)
    ranks = job.begin("interval=0.5", "bare")
    until(lambda: whole(ranks[0], 2), 15)
    until(lambda: whole(ranks[1], 2), 15)
    assert "netmon-cluster" in ranks[1].ask("threads")["threads"]
    assert ranks[1].ask("close")["took"] < 0.5
    assert "netmon-cluster" in ranks[1].ask("threads")["threads"], "attach's hold is another's"
    ranks[1].end()
    until(lambda: states(ranks[0].ask()["view"])[1] in ("late", "gone"))


def test_forked_children_take_no_part(make_job: Callable[..., Job]) -> None:
    job = make_job(2)
    ranks = job.begin("interval=0.5", "bare")
    until(lambda: whole(ranks[0], 2), 15)
    sequence, problem, threads = ranks[0].ask("fork")["child"]
    assert sequence == 0
    assert "forked child" in problem
    assert threads == ["MainThread"] or "netmon-cluster" not in threads
    before = ranks[1].ask()["view"]["sequence"]
    view, _ = until(lambda: (view := whole(ranks[1], 2)) and view["sequence"] > before + 2 and view)
    assert [row["restarts"] for row in view["ranks"]] == [0, 0]


def outcome(rank: Rank) -> tuple[Any, ...]:
    """Return how a rank ended: what it printed last, its status, and what kinds of lines it wrote to stderr."""
    line = json.loads(rank.line(120))
    status = rank.process.wait(60)
    kinds = {re.sub(r"[\d.:\[\]]+", "#", text) for text in complaints(rank)}
    return line["steps"], line["sum"], line["raised"], status, kinds


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_the_stores_host_is_gone_and_the_job_does_not_feel_it(make_job: Callable[..., Job], number: signal.Signals) -> None:
    ends = []
    for option in ("without", "interval=0.5"):
        job = make_job()
        ranks = job.begin("steps=80", option, "linger" if number == signal.SIGSTOP else "tidy")
        time.sleep(1.5)  # in the middle of it
        job.store.signal(number)
        ends.append([outcome(rank) for rank in ranks])
        job.end()
    assert ends[0] == ends[1]
    assert {(steps, raised, status) for steps, _, raised, status, _ in ends[1]} == {(80, None, 0)}


def test_a_store_that_freezes_and_thaws(make_job: Callable[..., Job]) -> None:
    job = make_job(2)
    ranks = job.begin("interval=0.5")
    for rank in ranks:
        until(lambda rank=rank: whole(rank, 2), 15)
    job.store.signal(signal.SIGSTOP)
    for rank in ranks:
        found, _ = until(lambda rank=rank: (found := rank.ask())["problem"] and found)
        assert re.search(r"has not answered for \d|no process has made a new view", found["problem"])
        assert found["took"] < 0.5
        assert found["view"]["unavailable"]["view"] == found["problem"]
        assert len(found["view"]["ranks"]) == 2, "the newest view is still there"
    steps = ranks[0].ask()["steps"]
    until(lambda: ranks[0].ask()["steps"] > steps)
    job.store.signal(signal.SIGCONT)
    for rank in ranks:
        until(lambda rank=rank: not (found := rank.ask())["problem"] and found["age"] < 1.5)
    # Killed, it is said once and for all.
    job.store.end()
    for rank in ranks:
        found, _ = until(lambda rank=rank: "is gone" in str((found := rank.ask())["problem"]) and found)
        assert "netmon-cluster" in rank.ask("threads")["threads"]
    assert [complaints(rank) for rank in ranks] == [[], []]
