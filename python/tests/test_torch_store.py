"""The job's store is killed or frozen while netmon waits in it: an error in time, and nothing in the job's stderr."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from test_cluster_store import HOST

from netmon.integrations.torch import _store
from netmon.integrations.torch._client import Client, connect
from netmon.integrations.torch._store import OtherProtocolError

pytestmark = pytest.mark.torch

# One rank of two, of which the other never comes.
RANK = """
import json, sys, time
from datetime import timedelta
import torch.distributed as dist
from torch.testing._internal.distributed import fake_pg  # the backend "fake"
import netmon
from netmon.integrations.torch import find_peers, measure_collectives

port, rank, what, seconds = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], 2.0
store = dist.TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=5))
dist.init_process_group("fake", store=store, rank=rank, world_size=2)
with netmon.Monitor(interval=60, cluster=False) as monitor:
    print("waits", flush=True)
    begun = time.monotonic()
    if what == "measure":
        try:
            measure_collectives(["all_reduce"], [4096], timeout=seconds)
        except netmon.Error as error:
            said = [type(error).__name__, str(error)]
    else:
        search = find_peers(monitor, seconds=seconds)
        search.wait(60)
        said = ["problem", search.problem]
    print(json.dumps([*said, time.monotonic() - begun]), flush=True)
    sys.stdin.read()  # what the parent did to the store is undone: the end of a process is another matter
"""


@pytest.fixture
def host() -> Iterator[subprocess.Popen[str]]:
    pytest.importorskip("torch")
    process = subprocess.Popen([sys.executable, "-c", HOST, "libuv"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        yield process
        process.send_signal(signal.SIGCONT)
        process.kill()


def port_of(host: subprocess.Popen[str]) -> int:
    assert host.stdout is not None
    return int(host.stdout.readline())


@pytest.mark.parametrize("how", ["killed", "frozen"])
@pytest.mark.parametrize(("what", "rank"), [("measure", 1), ("peers", 0)])
def test_an_error_in_time_and_nothing_in_stderr(host: subprocess.Popen[str], what: str, rank: int, how: str) -> None:
    command = [sys.executable, "-c", RANK, str(port_of(host)), str(rank), what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert job.stdin is not None
        assert job.stdout is not None
        try:
            assert job.stdout.readline() == "waits\n"
            with pytest.raises(subprocess.TimeoutExpired):
                job.wait(0.5)
            host.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
            kind, sentence, took = json.loads(job.stdout.readline())
        finally:
            host.send_signal(signal.SIGCONT)
            _, written = job.communicate(timeout=60)
    assert kind == ("UnreachableError" if what == "measure" else "problem")
    assert "the store at 127.0.0.1" in sentence
    assert ("has not answered for" if how == "frozen" else "is gone") in sentence
    assert took < 3.5
    assert written == ""
    assert job.returncode == 0


def test_what_a_short_talk_needs(host: subprocess.Popen[str]) -> None:
    client = connect("127.0.0.1", port_of(host), "netmon/test", 60.0)
    assert isinstance(client, Client)
    client.set("a", "1")
    assert (client.check(["a"]), client.check(["a", "b"])) == (True, False)
    assert (client.compare_set("b", "", "2"), client.compare_set("b", "", "3")) == (b"2", b"2")
    assert client.multi_get(["a", "b"]) == [b"1", b"2"]
    assert (client.delete_key("a"), client.delete_key("a")) == (True, False)
    assert not client.check(["a"])
    client.close()


@pytest.mark.parametrize("why", ["torch 2.3", "another protocol"])
def test_where_the_protocol_is_not_known_torchs_client_speaks(
    host: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    torch = pytest.importorskip("torch")

    def refuse(_self: Any) -> None:
        raise OtherProtocolError("no")

    if why == "torch 2.3":
        monkeypatch.setattr(torch, "__version__", "2.3.1")
    else:
        monkeypatch.setattr(_store.Connection, "open", refuse)
    client = connect("127.0.0.1", port_of(host), "netmon/test", 60.0)
    assert isinstance(client, torch.distributed.PrefixStore)
    client.set("a", "1")
    assert client.get("a") == b"1"


# Two default groups of one process, one after the other, on one store.
GROUPS = """
import json, sys
from datetime import timedelta
import torch.distributed as dist
from torch.testing._internal.distributed import fake_pg  # the backend "fake"
import netmon
from netmon.integrations.torch import find_peers, _agree, _store

found = []
for prefix in ("one", "one", "two", ""):
    store = dist.TCPStore("127.0.0.1", int(sys.argv[1]), is_master=False, wait_for_workers=False, timeout=timedelta(seconds=5))
    dist.init_process_group("fake", store=dist.PrefixStore(prefix, store) if prefix else store, rank=len(found), world_size=4)
    board = _store.find()
    board.open()
    board.exchange(b"%d" % len(found))
    board.write_note(b"note")
    own = board.replace(b"", prefix.encode())
    client, place = _agree._connect(5.0)
    met = client.compare_set(place + "open", "", prefix).decode()
    client.close()
    with netmon.Monitor(interval=60, cluster=False) as monitor:
        search = find_peers(monitor, seconds=0.1)
        search.wait(60)
    found.append([own.decode(), met, sorted(board.digests()), sorted(board.read_notes()), search.problem])
    board.leave()
    del board, store
    dist.destroy_process_group()
print(json.dumps(found))
"""


def test_groups_under_different_prefixes_of_a_store_are_apart(host: subprocess.Popen[str]) -> None:
    torch = pytest.importorskip("torch")
    if not hasattr(torch.distributed.Store, "clone"):
        pytest.skip("this torch's stores have no clones")
    ran = subprocess.run(
        [sys.executable, "-c", GROUPS, str(port_of(host))], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    first, again, other, bare = json.loads(ran.stdout)
    assert first[:4] == ["one", "one", [0], [0]]
    assert again[:4] == ["one", "one", [0, 1], [0, 1]], "the same group, made anew by others"
    assert other[:4] == ["two", "two", [2], [2]]
    assert bare[2:4] == [[3], [3]]
    assert [found[4] for found in (first, again, other, bare)] == [
        f"{missing} of 4 ranks said no address within 0.1 s" for missing in (3, 2, 3, 3)
    ]
