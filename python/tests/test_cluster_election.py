"""Who makes the view, without threads, stores or clocks; and a member's thread on a real TCPStore."""

from __future__ import annotations

import itertools
import json

import pytest

from netmon._election import MOST_HEIRS, Election, Lease, read

INTERVAL = 2.0
TICK = INTERVAL / 2


class Job:
    """Processes that see one lease, each at its own moments."""

    def __init__(self, count: int) -> None:
        self.lease = b""
        self.now = 0.0
        self.members = {number: Election(number, f"p{number}", INTERVAL) for number in range(count)}
        self.stopped: set[int] = set()
        self.holders: list[int] = []  # whoever got the lease, in turn

    def tick(self) -> None:
        """Have everybody look once, the highest first."""
        self.now += TICK
        for number, election in sorted(self.members.items(), reverse=True):
            if number not in self.stopped:
                self.look(number, election)

    def look(self, number: int, election: Election) -> None:
        election.see(self.lease, self.now)
        live = tuple(n for n in self.members if n not in self.stopped and n != number)
        if not election.is_due():
            return
        before, after = election.claim(1000, live)
        if self.lease == before:
            self.lease = after
        if election.claimed(self.lease, self.now) and self.holders[-1:] != [number]:
            self.holders.append(number)

    def after(self, intervals: float) -> int:
        """Let time pass and return who holds the lease."""
        for _ in range(round(intervals * INTERVAL / TICK)):
            self.tick()
            assert sum(self.members[n].holds for n in self.members if n not in self.stopped) <= 1
        lease = read(self.lease)
        assert lease is not None
        return lease.holder


def test_the_lowest_rank_begins() -> None:
    job = Job(4)
    assert job.after(1) == 0
    assert job.after(20) == 0
    assert job.holders == [0]


def test_the_next_one_takes_over_after_three_intervals() -> None:
    job = Job(4)
    job.after(5)
    job.stopped.add(0)
    assert job.after(2) == 0
    assert job.after(2) == 1
    assert job.holders == [0, 1], "the others waited longer"


def test_who_comes_back_follows() -> None:
    job = Job(4)
    job.after(5)
    job.stopped.add(0)
    job.after(5)
    assert job.members[0].holds, "it has not seen yet what happened meanwhile"
    job.stopped.clear()
    assert job.after(10) == 1
    assert not job.members[0].holds
    assert job.holders == [0, 1]


def test_heirs_that_are_gone_too_are_passed_over() -> None:
    job = Job(12)
    job.after(5)
    job.stopped.update(range(5))
    assert job.after(3 + 0.75 * 8 + 1) in range(5, 12)
    assert len(job.holders) == 2


def test_without_the_lowest_rank_another_begins() -> None:
    job = Job(4)
    job.stopped.update({0, 1})
    assert job.after(6) == 2


def test_a_process_that_was_started_anew_does_not_wait_for_itself() -> None:
    job = Job(2)
    job.after(5)
    job.members[0] = Election(0, "another", INTERVAL)
    assert job.after(0.5) == 0
    assert job.members[0].holds


def test_while_the_engine_is_silent_nothing_stands_still() -> None:
    job = Job(3)
    job.after(5)
    job.now += 100 * INTERVAL  # nobody could look
    job.stopped.add(0)
    assert job.after(1) == 0, "only now can it be seen whether the holder goes on"
    job.stopped.clear()
    assert job.after(2) == 0
    assert job.holders == [0]


def test_two_that_try_at_once() -> None:
    first, second = Election(1, "a", INTERVAL), Election(2, "b", INTERVAL)
    lease = Lease(1, 0, "gone", 7, 10, ()).text()
    for election in (first, second):
        for moment in range(20):
            election.see(lease, moment * TICK)
    assert first.is_due()
    assert second.is_due()
    one, _ = first.claim(0, ()), second.claim(0, ())
    assert first.claimed(one[1], 21 * TICK)
    assert not second.claimed(one[1], 21 * TICK)
    assert not second.is_due(), "it waits anew"


@pytest.mark.parametrize("text", [b"x", b"{}", b"[1]", b"[1,2,3,4,5,6]", b"null", b"\xff", b"1" * 5000, b'[1,0,"p",1,2,["x"]]'])
def test_a_lease_that_is_not_understood_is_replaced(text: bytes) -> None:
    assert read(text) is None
    election = Election(0, "p", INTERVAL)
    for moment in range(8):
        election.see(text, moment * TICK)
    assert election.is_due()
    claim = election.claim(0, ())
    assert claim[0] == text
    assert read(claim[1]) is not None


def test_a_lease_stays_short() -> None:
    lease = Lease(2**40, 10**6, "f" * 16, 2**40, 8 << 20, tuple(itertools.repeat(10**6, MOST_HEIRS)))
    assert len(lease.text()) < 200
    assert read(lease.text()) == lease


def test_the_first_holder_counts_from_one() -> None:
    job = Job(1)
    job.after(3)
    lease = read(job.lease)
    assert lease is not None
    assert (lease.term, lease.beat) == (1, 6)
    assert json.loads(job.lease)[1] == 0
