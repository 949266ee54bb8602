"""A member's thread on a real TCPStore that it does not share with a job: what is sent, what freezes, what ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from netmon import _cluster
from netmon._cluster import BoardError, Member
from netmon.integrations.torch._store import Connection, StoreBoard

pytestmark = pytest.mark.torch

HOST = """
import sys
import torch.distributed as dist
store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, use_libuv=sys.argv[1] == "libuv")
print(store.port, flush=True)
sys.stdin.read()
"""
INTERVAL = 0.3


@pytest.fixture(params=["libuv", "older"])
def store(request: pytest.FixtureRequest) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    pytest.importorskip("torch")
    process = subprocess.Popen(
        [sys.executable, "-c", HOST, request.param],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


class Speaker:
    """Says its rank and a number, and makes views that list what it was given."""

    _cluster_interval = INTERVAL

    def __init__(self, rank: int) -> None:
        self.rank, self.said, self.made = rank, 0, 0

    def _tell_rank(self, rank: int, world_size: int | None) -> None:
        assert rank == self.rank

    def _digest(self) -> bytes:
        self.said += 1
        return b"%d:%d\0\xff" % (self.rank, self.said)

    def _aggregate(self, request: Mapping[str, Any]) -> bytes:
        self.made += 1
        who = sorted(int(digest.partition(b":")[0]) for digest in request["digests"])
        document = {"sequence": self.made, "aggregator_rank": request["rank"], "who": who, "gone": request["gone"]}
        return json.dumps({**document, "unavailable": {}}).encode()


@pytest.fixture
def member() -> Iterator[Callable[[int, int, int], Member]]:
    made: list[Member] = []

    def make(port: int, rank: int, size: int) -> Member:
        speaker = Speaker(rank)
        made.append(Member(lambda: StoreBoard("127.0.0.1", port, rank, size), lambda: speaker, INTERVAL))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close(5)
    assert not [thread for thread in threading.enumerate() if thread.name == "netmon-cluster"]


def until(what: Callable[[], Any], seconds: float = 20) -> None:
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, "not within the time"
        time.sleep(0.02)


def says(member: Member, key: str) -> Any:
    return member.view()._decoded().get(key)


def test_members_come_and_go(store: Any, member: Any) -> None:
    port, _ = store
    members = [member(port, rank, 3) for rank in range(3)]
    for one in members:
        until(lambda one=one: says(one, "who") == [0, 1, 2])
    members[0].close(5)
    for one in members[1:]:
        until(lambda one=one: says(one, "who") == [1, 2] and says(one, "gone") == [0])
        assert says(one, "aggregator_rank") != 0
    members.append(member(port, 0, 3))
    for one in members[1:]:
        until(lambda one=one: says(one, "who") == [0, 1, 2] and says(one, "gone") == [])


def test_a_frozen_store_holds_nothing_up(store: Any, member: Any) -> None:
    port, process = store
    first, second = member(port, 0, 2), member(port, 1, 2)
    for one in (first, second):
        until(lambda one=one: says(one, "who") == [0, 1])
    process.send_signal(signal.SIGSTOP)
    until(lambda: "has not answered for" in str(first.view().problem))
    assert says(first, "who") == [0, 1], "the newest view stays"
    begun = time.monotonic()
    second.close(5)
    assert time.monotonic() - begun < 2, "a thread that waits for the store can be ended"
    late = member(port, 1, 2)  # whose connection nobody answers
    until(lambda: "has not answered for" in str(late.view().problem))
    process.send_signal(signal.SIGCONT)
    for one in (first, late):
        until(lambda one=one: one.view().problem is None and says(one, "who") == [0, 1])


def test_notes_are_carried_beside_the_rounds(store: Any, member: Any) -> None:
    port, process = store
    one, two = (member(port, rank, 2) for rank in range(2))
    assert one.notes(0.05) in ({}, {0: b"early"}), "before there is a way to the others there are none"
    one.leave_note(b"early")
    until(lambda: two.notes(1.0) == {0: b"early"})
    one.leave_note(b"\0\xff" * 1000)
    two.leave_note(b"other")
    until(lambda: one.notes(1.0) == {0: b"\0\xff" * 1000, 1: b"other"} == two.notes(1.0))
    process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    one.leave_note(b"held up")
    assert one.notes(0.2) == {}
    assert time.monotonic() - begun < 1.0, "who asks waits no longer than it said"
    process.send_signal(signal.SIGCONT)
    until(lambda: two.notes(1.0).get(0) == b"held up")


def test_a_store_that_is_gone_is_not_tried_again(store: Any, member: Any, capfd: pytest.CaptureFixture[str]) -> None:
    port, process = store
    one = member(port, 0, 1)
    until(lambda: says(one, "who") == [0])
    process.kill()
    until(lambda: "is gone" in str(one.view().problem))
    assert one.view().sequence > 0, "the newest view stays"
    with socket.create_server(("127.0.0.1", port)) as other:
        other.settimeout(4 * INTERVAL)
        with pytest.raises(TimeoutError):
            other.accept()
    assert capfd.readouterr() == ("", "")


def test_many_values_and_missing_ones(store: Any) -> None:
    port, _ = store
    own = Connection("127.0.0.1", port)
    own.open()
    keys = [f"netmon/test/{number}" for number in range(700)]
    for number, key in enumerate(keys):
        if number % 3:
            own.set(key, bytes([number % 251]) * number)
    there = [key for number, key in enumerate(keys) if number % 3]
    assert own.check(keys) == there
    assert own.multi_get(there) == [bytes([n % 251]) * n for n in range(700) if n % 3]
    assert own.compare_set("netmon/test/lease", b"", b"a") == b"a"
    assert own.compare_set("netmon/test/lease", b"", b"b") == b"a"
    assert own.compare_set("netmon/test/lease", b"a", b"\0" * 300_000) == b"\0" * 300_000
    own.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400", b"\0\0\0\0", b""])
def test_what_is_no_store_is_left_alone(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            other, _ = server.accept()
            with other:
                other.recv(64)
                other.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        own = Connection("127.0.0.1", port)
        with pytest.raises(BoardError, match=r"does not speak as|closed the connection|is gone"):
            own.open()
        thread.join()


def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(BoardError, match="refused"):
        Connection("127.0.0.1", port).open()


def test_a_store_that_is_gone_does_not_end_a_process_that_ends_by_a_broken_pipe() -> None:
    code = """
import signal, socket, time
from netmon._cluster import BoardError
from netmon.integrations.torch._store import Connection
signal.signal(signal.SIGPIPE, signal.SIG_DFL)      # as programs do that write into pipes
with socket.create_server(("127.0.0.1", 0)) as server:
    own = Connection("127.0.0.1", server.getsockname()[1])
    own._connect(socket.socket(), server.getsockname())
    server.accept()[0].close()
try:
    while True:
        own.set("key", b"value")
        time.sleep(0.01)
except BoardError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is gone" in done.stdout


def test_without_an_engine_nothing_is_imported() -> None:
    code = """
import sys, time, netmon
with netmon.Monitor(cluster=True, cluster_interval=0.1) as monitor:
    for _ in range(100):
        problem = monitor.cluster().problem
        if "imported" in problem:
            break
        time.sleep(0.05)
    assert problem == "no way to the other processes yet: torch.distributed is not imported; ray is not imported", problem
    assert monitor.cluster().sequence == 0 and monitor.cluster().ranks == () and monitor.cluster().totals.nodes is None
    assert "torch" not in sys.modules and "ray" not in sys.modules
with netmon.Monitor(cluster=False) as monitor:
    assert monitor.cluster().problem == "the monitor was made with cluster=False"
import threading
assert [t.name for t in threading.enumerate()] == ["MainThread"]
for wrong in ("mpi", 3):
    try:
        netmon.Monitor(cluster=wrong)
    except netmon.ConfigError as error:
        assert "'store', 'ray'" in str(error)
    else:
        raise AssertionError(wrong)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_dropped_monitors_are_let_go_of() -> None:
    code = """
import gc, threading, time, weakref, netmon
monitor = netmon.Monitor(cluster=True, cluster_interval=0.1)
gone = weakref.ref(monitor)
del monitor
limit = time.monotonic() + 20
while gone() is not None or threading.active_count() > 1:
    assert time.monotonic() < limit
    gc.collect()
    time.sleep(0.02)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_engines_are_named() -> None:
    assert set(_cluster.ENGINES) == {"store", "ray"}


def test_the_bench_of_large_jobs_runs() -> None:
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-m", "bench.scale", "24", "--seconds", "2", "--interval", "0.5"],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert 100 < found["sent_bytes_per_rank_and_step"] < 512 + 400, "a digest, and asking for the lease twice"
    assert found["view_age_seconds"][0] < 10
