"""Tests of throughput from Python: netmon's own between two monitors, and what they do to a process. Loopback only."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import netmon


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def target() -> Iterator[str]:
    """A monitor that serves, in this process."""
    port = free_port()
    with netmon.Monitor(interval=3600, sources=[], bandwidth_server={"address": "127.0.0.1", "port": port}):
        yield f"127.0.0.1:{port}"


@pytest.fixture
def monitor() -> Iterator[netmon.Monitor]:
    with netmon.Monitor(interval=0.05) as m:
        yield m


def measured(monitor: netmon.Monitor, target: str, **arguments: Any) -> Any:
    """Measure; a server rests after a test, for as long as that took."""
    while True:
        found = monitor.measure_bandwidth(target, **arguments)
        first = found[0] if isinstance(found, tuple) else found
        if "rests after its last test" not in (first.error or ""):
            return found
        time.sleep(0.2)


def test_two_monitors(monitor: netmon.Monitor, target: str) -> None:
    assert monitor.sample().bandwidth_tests == ()
    began = time.time()
    test = monitor.measure_bandwidth(target, seconds=0.3)
    assert (test.tool, test.target, test.direction, test.parallel, test.error) == ("netmon", target, "transmit", 1, None)
    assert test.bytes is not None
    assert test.seconds is not None
    assert test.receiver_bytes_per_second is not None
    assert test.timestamp_seconds is not None
    assert 0.1 < test.seconds < 2
    assert test.receiver_bytes_per_second == pytest.approx(test.bytes / test.seconds, rel=1e-6)
    assert abs(test.timestamp_seconds - began) < 5
    assert str(test).startswith(f"netmon to {target}: ")
    assert monitor.sample().bandwidth_tests == (test,)
    there, back = measured(monitor, target, seconds=0.1, direction="both", parallel=2)
    assert (there.direction, back.direction, there.parallel) == ("transmit", "receive", 2)
    assert measured(monitor, target, seconds=0.1, direction="receive").direction == "receive"
    tests = monitor.sample().bandwidth_tests
    assert tests is not None
    assert [t for t in tests if t.error is None][-3:-1] == [there, back]
    assert [t.to_dict() for t in tests] == monitor.sample().to_dict()["bandwidth_tests"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        test.error = ""  # type: ignore[misc]
    json.dumps([t.to_dict() for t in tests], allow_nan=False)


def test_a_failure_is_no_exception(monitor: netmon.Monitor) -> None:
    target = f"127.0.0.1:{free_port()}"
    test = monitor.measure_bandwidth(target)
    assert test.error is not None
    assert "refuses the connection" in test.error
    assert "bandwidth_server" in test.error
    assert test.receiver_bytes_per_second is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, ["target", "10.0.0.2"]),
        ({"target": "127.0.0.1:x"}, ["target", "1 to 65535"]),
        ({"target": "127.0.0.1", "seconds": 11}, ["seconds", "0.1 to 10"]),
        ({"target": "127.0.0.1", "seconds": "2"}, ["seconds", "number"]),
        ({"target": "127.0.0.1", "direction": "up"}, ["direction", '"up"', '"both"']),
        ({"target": "127.0.0.1", "tool": "wget"}, ["tool", '"wget"', '"iperf3"']),
        ({"target": "127.0.0.1", "tool": "iperf3", "seconds": 0.5}, ["seconds", "whole"]),
        ({"target": "127.0.0.1", "parallel": 9}, ["parallel", "1 to 8"]),
        ({"target": "127.0.0.1", "timeout": 0}, ["timeout_seconds", "1 to 120"]),
        ({"target": "127.0.0.1", "program": "/bin/true"}, ["program", "netmon's own"]),
        ({"tool": "speedtest-cli", "parallel": 2}, ["parallel", "speedtest-cli"]),
    ],
)
def test_wrong_arguments(monitor: netmon.Monitor, arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(netmon.InvalidArgumentError) as caught:
        monitor.measure_bandwidth(**arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("server", "words"),
    [("yes", ["bandwidth_server", "true, false or an object"]), ({"port": 0}, ["bandwidth_server.port", "1 to 65535"])],
)
def test_wrong_servers(server: Any, words: list[str]) -> None:
    with pytest.raises(netmon.ConfigError) as caught:
        netmon.Monitor(bandwidth_server=server)
    for word in words:
        assert word in str(caught.value)


def test_one_at_a_time(monitor: netmon.Monitor, target: str) -> None:
    done: list[netmon.BandwidthTest] = []
    with netmon.Monitor(interval=3600, sources=[]) as other:
        thread = threading.Thread(target=lambda: done.append(other.measure_bandwidth(target, seconds=1)))
        thread.start()
        deadline = time.monotonic() + 20
        while True:
            try:
                # Until the other one's has begun, this asks somebody who refuses at once.
                monitor.measure_bandwidth("127.0.0.1:1")
            except netmon.ResourceError as error:
                said = str(error)
                break
            assert time.monotonic() < deadline
        thread.join()
    assert "one runs at a time" in said
    assert [test.error for test in done] == [None]


@pytest.fixture
def silent() -> Iterator[str]:
    """Somebody who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_close_ends_a_test_of_another_thread(silent: str) -> None:
    monitor, found = netmon.Monitor(interval=3600), []

    def work() -> None:
        try:
            found.append(monitor.measure_bandwidth(silent, timeout=60))
        except netmon.ClosedError:
            found.append(time.monotonic())

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.2)  # it waits
    closed = time.monotonic()
    monitor.close()
    thread.join()
    assert isinstance(found[0], float)
    assert found[0] - closed < 0.5


@pytest.mark.parametrize("traffic", [False, True])
def test_ctrl_c_within_a_tenth_of_a_second(silent: str, traffic: bool) -> None:
    """Several times, while it waits for an answer or sends, and it can be measured as before afterwards."""
    # A server rests after each test, so each round has one of its own.
    ports = [free_port() for _ in range(12)]
    script = f"""
        import sys, time
        import netmon
        with netmon.Monitor(interval=3600) as monitor:
            for port in {ports}:
                with netmon.Monitor(interval=3600, sources=[], bandwidth_server={{"port": port}}):
                    target = f"127.0.0.1:{{port}}" if {traffic} else "{silent}"
                    print("ready", flush=True)
                    try:
                        found = monitor.measure_bandwidth(target, seconds=10, timeout=60)
                    except KeyboardInterrupt:
                        print(time.monotonic(), flush=True)
                    else:
                        print(found, flush=True)
                    sys.stdin.readline()
            print(monitor.measure_bandwidth("127.0.0.1:1").direction, flush=True)
        """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    delays = []
    try:
        for number in range(12):
            assert process.stdout.readline().strip() == "ready"
            time.sleep(0.1 + number * 0.007)  # at any moment of it
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            delays.append(float(process.stdout.readline()) - sent)
            print(file=process.stdin, flush=True)
        assert process.stdout.readline().strip() == "transmit", "none of the tests is left over"
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()
    # One that came late is the machine's doing.
    assert sorted(delays)[10] < 0.1, delays
    assert max(delays) < 1, delays


def test_in_a_forked_child(target: str) -> None:
    code = f"""
        import netmon, os
        monitor = netmon.Monitor(interval=3600)
        monitor.measure_bandwidth("127.0.0.1:1")
        child = os.fork()
        if child == 0:
            os._exit(0 if monitor.measure_bandwidth("{target}", seconds=0.1).error is None else 1)
        assert os.waitpid(child, 0)[1] == 0
        print("good")
        """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "good\n", done.stderr


# The command


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "netmon", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )


def test_the_command(target: str) -> None:
    done = command("--bandwidth", target, "--seconds", "0.1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"netmon to {target}: ")
    time.sleep(0.3)  # it rests
    done = command("--bandwidth", target, "--seconds", "0.1", "--direction", "both", "--json")
    assert [test["direction"] for test in json.loads(done.stdout)] == ["transmit", "receive"]
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_fails() -> None:
    done = command("--bandwidth", f"127.0.0.1:{free_port()}")
    assert (done.returncode, done.stderr) == (1, "")
    assert "refuses the connection" in done.stdout
    done = command("--bandwidth")
    assert (done.returncode, done.stdout) == (1, "")
    assert "target" in done.stderr
    assert command("--bandwidth", "127.0.0.1", "--tool", "wget").returncode == 2
