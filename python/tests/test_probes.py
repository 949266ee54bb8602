"""Probes of the Python API: results, errors, and what they do to a process, on loopback and on networks with faults."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Host, Lab, Namespace

import netmon

MakeLab = Callable[..., Lab]
ROOT = Path(__file__).resolve().parents[2]
REFUSED = "tcp://127.0.0.1:1"


@pytest.fixture
def monitor() -> Iterator[netmon.Monitor]:
    with netmon.Monitor(interval=0.05, probe_interval=0.05) as m:
        yield m


def wait_for(condition: Callable[[], Any], what: str = "it") -> Any:
    deadline = time.monotonic() + 20
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come in 20 s"
        time.sleep(0.005)


def run(host: Namespace, script: str, *arguments: str) -> Any:
    """Run a script on a host and return the document that it prints last."""
    text = "import json, os, sys, threading, time\nimport netmon\nfrom test_probes import wait_for\n" + textwrap.dedent(script)
    path = os.pathsep.join((str(ROOT / "python" / "tests"), os.environ["PYTHONPATH"]))
    done = host.run(sys.executable, "-c", text, *arguments, env={**os.environ, "PYTHONPATH": path}, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# Results


def test_a_probe_on_demand(monitor: netmon.Monitor) -> None:
    found = monitor.probe(REFUSED, count=3)
    assert (found.target, found.address, found.port, found.method) == (REFUSED, "127.0.0.1", 1, "tcp_refused")
    assert (found.sent, found.received, found.lost, found.loss_ratio, found.error) == (3, 3, 0, 0.0, None)
    assert found.rtt_min_seconds is not None
    assert found.rtt_p50_seconds is not None
    assert found.rtt_p99_seconds is not None
    assert 0 < found.rtt_min_seconds <= found.rtt_p50_seconds <= found.rtt_p99_seconds < 1
    assert found.window_seconds is not None
    assert found.window_seconds > 0.035, "20 ms between two probes"
    assert found.peer is False
    assert str(found).startswith("tcp://127.0.0.1:1 (127.0.0.1) by tcp_refused: 3 of 3 answered, 0 % lost\n  round trip min ")


def test_a_path(monitor: netmon.Monitor) -> None:
    path = monitor.trace("127.0.0.1")
    assert (path.target, path.address, path.reached, path.error) == ("127.0.0.1", "127.0.0.1", True, None)
    assert [(hop.ttl, hop.address, hop.received) for hop in path.hops] == [(1, "127.0.0.1", 3)]
    assert path.path_mtu_bytes is None or path.path_mtu_bytes >= 1280
    assert str(path).startswith("path to 127.0.0.1: 1 hops, reached, path MTU ")


def test_probes_of_a_sample_are_the_documents() -> None:
    targets = [REFUSED, "tcp://127.0.0.1:2"]
    with netmon.Monitor(interval=0.05, targets=targets, probe_interval=0.05) as monitor:
        sample = wait_for(lambda: (s := monitor.sample()).probes and all(p.received > 2 for p in s.probes) and s)
        latest = wait_for(lambda: (snapshot := monitor.latest()).rtt_p50_ns and snapshot)
    probes = sample.probes
    assert [probe.to_dict() for probe in probes] == sample.to_dict()["probes"]
    assert probes.targets == tuple(targets)
    assert probes[0] is probes[REFUSED]
    assert probes.get("tcp://127.0.0.1:3") is None
    with pytest.raises(KeyError, match=r"tcp://127\.0\.0\.1:3"):
        probes["tcp://127.0.0.1:3"]
    assert {f.name for f in dataclasses.fields(probes[0])} == set(sample.to_dict()["probes"][0])
    for field in dataclasses.fields(probes[0]):
        if str(field.type).startswith("float"):
            assert isinstance(getattr(probes[0], field.name), float), field.name
    assert latest.loss_ratio == 0.0
    assert sample.self.probe_bytes_total > 0


def test_results_are_frozen(monitor: netmon.Monitor) -> None:
    found, path = monitor.probe(REFUSED, count=1), monitor.trace("127.0.0.1", count=1)
    for thing, field in ((found, "rtt_p50_seconds"), (path, "reached"), (path.hops[0], "ttl")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, field, 0)
    assert isinstance(path.hops, tuple)
    assert len({found, path, *path.hops}) == 3, "they can be in sets"
    assert found == netmon.Probe(**found.to_dict())
    found.to_dict()["methods_refused"]["icmp"] = "changed"
    assert "icmp" not in found.methods_refused
    json.dumps([found.to_dict(), path.to_dict()], allow_nan=False)


def test_targets_change_while_it_runs(monitor: netmon.Monitor) -> None:
    assert len(monitor.sample().probes or ()) == 0
    monitor.set_job(targets=[REFUSED])
    wait_for(lambda: [p.target for p in monitor.sample().probes or () if p.received > 3] == [REFUSED])
    monitor.set_job(targets=["tcp://127.0.0.1:2", REFUSED])
    wait_for(lambda: len(monitor.sample().probes or ()) == 2)
    probes = monitor.sample().probes
    assert probes is not None
    assert probes[REFUSED].received > 3, "what is known of one that stays is kept"
    with pytest.raises(netmon.ConfigError, match=r'"targets" has a wrong entry 1: target "http://a"'):
        monitor.set_job(targets=["http://a"])
    monitor.set_job(targets=[])
    wait_for(lambda: len(monitor.sample().probes or ()) == 0)


def test_frames_have_columns_of_probes() -> None:
    pytest.importorskip("pandas")
    with netmon.Monitor(interval=0.05, targets=[REFUSED], probe_interval=0.05) as monitor:
        wait_for(lambda: (probes := monitor.sample().probes) and probes[0].received > 3)
        wait_for(lambda: monitor.history()[-1].probes[0].received > 3)  # type: ignore[index]
        frame = monitor.to_pandas()
        stats = monitor.stats(f"probes.{REFUSED}.rtt_p50_seconds")
    columns = {name for name in frame.columns if name.startswith(f"probes.{REFUSED}.")}
    fields = {
        f"probes.{REFUSED}.{name}" for name in ("sent", "received", "lost", "loss_ratio", "rtt_p50_seconds", "age_seconds")
    }
    assert fields <= columns
    assert f"probes.{REFUSED}.method" not in columns
    last = frame[f"probes.{REFUSED}.rtt_p50_seconds"].iloc[-1]
    assert 0 < last < 1
    assert stats.max is not None
    assert stats.max >= last


# Arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": ""}, ["target", "empty", "10.0.0.2"]),
        ({"target": "ftp://127.0.0.1"}, ["ftp", "icmp://", "dns://"]),
        ({"target": "127.0.0.1:x"}, ['"x"', "1 to 65535"]),
        ({"target": "10.0.0.256"}, ["10.0.0.256", "0 to 255"]),
        ({"target": "fe80::1"}, ["fe80::1%eth0"]),
        ({"target": "0.0.0.0"}, ["0.0.0.0", "127.0.0.1"]),
        ({"target": "dns://127.0.0.1"}, ["nothing to resolve"]),
        ({"target": "127.0.0.1", "method": "ping"}, ['"ping"', '"auto"', '"path"']),
        ({"target": "127.0.0.1", "method": "dns"}, ["no name"]),
        ({"target": "tcp://127.0.0.1", "method": "icmp"}, ['"tcp"', "leave one of them out"]),
        ({"target": "127.0.0.1", "count": 0}, ["count", "1 to 1000"]),
        ({"target": "127.0.0.1", "count": 1001}, ["count", "1 to 1000"]),
        ({"target": "127.0.0.1", "count": 1.5}, ["count", "whole number"]),
        ({"target": "127.0.0.1", "timeout": 0}, ["timeout_seconds", "0.01 to 60"]),
        ({"target": "127.0.0.1", "timeout": "1"}, ["timeout_seconds", "number"]),
        ({"target": "127.0.0.1", "interval": 0.01}, ["interval_seconds", "0.02 to 60"]),
    ],
)
def test_wrong_arguments_of_probe(monitor: netmon.Monitor, arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(netmon.InvalidArgumentError) as caught:
        monitor.probe(**arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": "dns://node7"}, ["path", "dns://node7"]),
        ({"target": "127.0.0.1", "count": 11}, ["count", "1 to 10"]),
        ({"target": "127.0.0.1", "timeout": 61}, ["timeout_seconds", "0.01 to 60"]),
    ],
)
def test_wrong_arguments_of_trace(monitor: netmon.Monitor, arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(netmon.InvalidArgumentError) as caught:
        monitor.trace(**arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"targets": [f"127.0.{n // 250}.{n % 250 + 1}" for n in range(500)]}, ["targets", "500 entries", "at most 256"]),
        ({"targets": "127.0.0.1"}, ["targets", "list"]),
        ({"targets": ["127.0.0.1", 7]}, ["targets", "entry 2"]),
        ({"targets": ["127.0.0.1", "http://node7"]}, ["targets", "entry 2", "http", "tcp://"]),
        ({"probe_interval": 0.01}, ["probe_interval_seconds", "0.02 to 3600"]),
        ({"probe_timeout": 100}, ["probe_timeout_seconds", "0.01 to 60"]),
        ({"udp_responder": {"address": "node7"}}, ["udp_responder.address", "127.0.0.1"]),
        ({"udp_responder": {"address": "127.0.0.1", "port": 0}}, ["udp_responder.port", "1 to 65535"]),
        ({"job": {"peers": ["tcp://127.0.0.1"]}}, ["job.peers", "entry 1"]),
        ({"job": {"targets": ["127.0.0.1"]}}, ["job.targets", "not known"]),
    ],
)
def test_wrong_arguments_of_a_monitor(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(netmon.ConfigError) as caught:
        netmon.Monitor(**arguments)
    for word in words:
        assert word in str(caught.value)


# Threads, processes, signals


def test_probes_from_several_threads(monitor: netmon.Monitor) -> None:
    found: list[netmon.Probe] = []
    paths: list[netmon.Path] = []

    def work(number: int) -> None:
        for _ in range(3):
            found.append(monitor.probe(f"tcp://127.0.0.1:{number}", count=2))
            paths.append(monitor.trace("127.0.0.1", count=1))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(probe.port or 0 for probe in found) == sorted(3 * list(range(1, 9)))
    assert {probe.received for probe in found} == {2}
    assert [path.reached for path in paths] == [True] * 24


@pytest.fixture
def silent(make_lab: MakeLab) -> tuple[Host, str]:
    """A host, and the address of one that gets nothing of what is sent to it."""
    one, two = make_lab(2, ipv6=False).hosts
    two.ingress.black_hole()
    return one, two.address


def test_more_requests_than_there_may_be(silent: tuple[Host, str]) -> None:
    host, target = silent
    refused, done = run(
        host,
        """
        refused, done = [], []
        with netmon.Monitor() as monitor:
            def work():
                try:
                    done.append(monitor.probe(sys.argv[1], count=1, method="icmp", timeout=2).lost)
                except netmon.ResourceError as error:
                    refused.append(str(error))
            threads = [threading.Thread(target=work) for _ in range(20)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            assert monitor.probe("tcp://127.0.0.1:1", count=1).received == 1
        print(json.dumps([refused, done]))
        """,
        target,
    )
    assert done == [1] * 16
    assert len(refused) == 4
    assert "16 probe requests of this monitor are unfinished" in refused[0]


@pytest.mark.parametrize("call", ["probe", "trace"])
def test_close_ends_a_probe_of_another_thread(silent: tuple[Host, str], call: str) -> None:
    host, target = silent
    error, spent = run(
        host,
        f"""
        monitor, found = netmon.Monitor(), []
        def work():
            try:
                monitor.{call}(sys.argv[1], timeout=60)
            except netmon.ClosedError as error:
                found.extend([str(error), time.monotonic()])
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.2)  # it waits
        closed = time.monotonic()
        monitor.close()
        thread.join()
        print(json.dumps([found[0], found[1] - closed]))
        """,
        target,
    )
    assert "closed" in error
    assert spent < 0.5


@pytest.mark.parametrize("call", ["probe(sys.argv[1], timeout=60)", "trace(sys.argv[1], timeout=60)"])
def test_ctrl_c_within_a_tenth_of_a_second(silent: tuple[Host, str], call: str) -> None:
    """Several times, and it can be probed as before afterwards."""
    host, target = silent
    script = f"""
        import json, sys, time
        import netmon
        with netmon.Monitor() as monitor:
            for _ in range(20):
                print("ready", flush=True)
                try:
                    monitor.{call}
                except KeyboardInterrupt:
                    print(time.monotonic(), flush=True)
                sys.stdin.readline()
            print(monitor.probe("tcp://127.0.0.1:1", count=1).received, flush=True)
        """
    process = host.start(sys.executable, "-c", textwrap.dedent(script), target, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    delays = []
    for number in range(20):
        assert process.stdout.readline().strip() == "ready"
        time.sleep(0.05 + number * 0.007)  # at any moment of the waiting
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        delays.append(float(process.stdout.readline()) - sent)
        print(file=process.stdin, flush=True)
    assert process.stdout.readline().strip() == "1", "none of the 20 requests is left over"
    assert process.wait(10) == 0
    # One that came late is the machine's doing.
    assert sorted(delays)[17] < 0.1, delays
    assert max(delays) < 1, delays


def test_probes_in_a_forked_child() -> None:
    code = """
        import netmon, os, sys
        monitor = netmon.Monitor(targets=["tcp://127.0.0.1:1"], interval=0.05, probe_interval=0.05)
        monitor.probe("tcp://127.0.0.1:1")
        child = os.fork()
        if child == 0:
            found = monitor.probe("tcp://127.0.0.1:1", count=2)
            path = monitor.trace("127.0.0.1", count=1)
            os._exit(0 if (found.received, path.reached) == (2, True) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert monitor.probe("tcp://127.0.0.1:1", count=2).received == 2
        monitor.close()
        print("good")
        """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "good\n", done.stderr


# Networks with faults


def test_what_is_wrong_is_said(make_lab: MakeLab) -> None:
    """Dropped, refused, no route, nobody there, no such name, a name server that is silent: each says what it is."""
    if shutil.which("dnsmasq") is None:
        pytest.skip("no dnsmasq here")
    lab = make_lab(4, ipv6=False)
    one, two, refusing, server = lab.hosts
    two.ingress.black_hole()
    refusing.reject("refused")
    options = ["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file", "--local=/example/"]
    names = server.start("dnsmasq", *options, "--log-facility=-", stderr=subprocess.PIPE)
    assert names.stderr is not None
    for line in names.stderr:
        if "started" in line:
            break
    one.set_dns([server.address])
    script = """
        targets = sys.argv[1:]
        with netmon.Monitor(interval=0.1, targets=targets) as monitor:
            start = time.monotonic()
            found = {target: monitor.probe(target, count=2, timeout=0.5).to_dict() for target in targets}
            slowest = max(monitor.sample().self.sample_seconds for _ in range(200))
            wait_for(lambda: all(p.error for p in monitor.sample().probes))
            nobody = lambda: monitor.sample().probes[-2 if len(targets) > 1 else 0].error
            wait_for(lambda: len(targets) == 1 or "unreachable" in nobody(), "the kernel to find nobody on the link")
            background = {p.target: p.error for p in monitor.sample().probes}
        print(json.dumps([found, background, slowest]))
        """
    icmp, udp, unrouted, nobody = f"icmp://{two.address}", f"udp://{refusing.address}", "10.77.0.1", "198.18.77.7"
    found, background, slowest = run(one, script, icmp, udp, unrouted, nobody, "nowhere.example")
    server.ingress.black_hole()
    silent, _, _ = run(one, script, "nowhere.example")
    errors = {target: probe["error"] for target, probe in found.items()}
    assert errors[icmp] == "no answer within 0.5 s"
    assert "port unreachable" in errors[udp]
    assert "network is unreachable" in errors[unrouted]
    assert background[nobody] == "host unreachable: no answer to ARP"
    assert "does not resolve" in errors["nowhere.example"]
    assert f"resolver {server.address} did not answer" in silent["nowhere.example"]["error"]
    for target in (icmp, udp, unrouted):
        assert (found[target]["sent"], found[target]["received"], found[target]["loss_ratio"]) == (2, 0, 1.0), target
        assert found[target]["rtt_p50_seconds"] is None
    assert found["nowhere.example"]["loss_ratio"] is None, "no probe was sent"
    assert set(background) == set(found)
    assert slowest < 0.2, "samples do not wait for probes"


def test_a_path_through_routers(make_lab: MakeLab) -> None:
    lab = make_lab(4, ipv6=False)
    one, near, far, two = lab.hosts
    lab.route_through([one, near, far, two], mtu=1400)
    found = run(
        one,
        """
        with netmon.Monitor() as monitor:
            path = monitor.trace(sys.argv[1])
            print(json.dumps([path.to_dict(), str(path)]))
        """,
        two.address,
    )
    path, text = found
    assert [(hop["ttl"], hop["address"]) for hop in path["hops"]] == [(1, near.address), (2, far.address), (3, two.address)]
    assert all(hop["rtt_p50_seconds"] > 0 for hop in path["hops"])
    assert (path["reached"], path["path_mtu_bytes"]) == (True, 1400)
    assert text.splitlines()[0] == f"path to {two.address}: 3 hops, reached, path MTU 1400 bytes"


# Documents


NAMED_MASTER = """
import ctypes, os, socket, subprocess, threading, time, netmon

def server():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # it never answers
    s.bind(("127.0.0.1", 53))
    s.settimeout(10)
    return s

outside = server()
job = {"environment": {"MASTER_ADDR": "node9.example"}}
sources = ["interfaces"]
netmon.Monitor(sources=sources).close()  # its threads are in this namespace

def inside():
    assert ctypes.CDLL(None).unshare(0x40000000) == 0
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with server() as s, netmon.Monitor(sources=sources, job=job) as m:
        question, _ = s.recvfrom(512)
        assert b"node9" in question
        end = time.monotonic() + 10
        while not m.health().probe_bytes_total: assert time.monotonic() < end; time.sleep(0.05)
    print("asked in its own namespace")

thread = threading.Thread(target=inside)
thread.start()
thread.join()
outside.setblocking(False)
try:
    print("and outside", outside.recvfrom(512))
except BlockingIOError:
    pass
before = len(os.listdir("/proc/self/task"))
for _ in range(200):
    netmon.Monitor(sources=sources, job=job).close()
print("threads", "few" if len(os.listdir("/proc/self/task")) < before + 60 else len(os.listdir("/proc/self/task")))
"""


def test_a_master_that_is_called_by_name(make_lab: MakeLab) -> None:
    """Its name is looked up in the monitor's namespace, what that sends is told, and it ends with the monitor."""
    (one,) = make_lab(1, ipv6=False).hosts
    one.set_dns(["127.0.0.1"], options="timeout:1")
    assert one.run(sys.executable, "-c", NAMED_MASTER).stdout == "asked in its own namespace\nthreads few\n"


def test_docs_probes_examples_run(namespace: str) -> None:
    """In a namespace: the first opens a port that somebody else may hold."""
    text = (ROOT / "docs" / "probes.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        done = subprocess.run(
            ["ip", "netns", "exec", namespace, sys.executable, "-W", "error", "-c", example],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    for words in re.findall(r"`python -m netmon ([^`]*)`", text):
        assert set(re.findall(r"--[a-z-]+", words)) <= set(re.findall(r"--[a-z-]+", _help())), words


def _help() -> str:
    return subprocess.run(
        [sys.executable, "-m", "netmon", "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
