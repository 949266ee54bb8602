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
