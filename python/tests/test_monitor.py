"""The monitor: samples, snapshots, history, errors, and what it does to its host."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

import netmon

ROOT = Path(__file__).resolve().parents[2]
FAST = 0.02


def wait_for(condition, what: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.005)


def python(code: str, **options) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False, **options
    )


@pytest.fixture
def monitor():
    with netmon.Monitor(interval=FAST) as m:
        yield m


def loopback_traffic(amount: int) -> None:
    """Send bytes over loopback and wait until they have arrived."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as sender,
        server.accept()[0] as receiver,
    ):
        thread = threading.Thread(target=lambda: sender.sendall(bytes(amount)))
        thread.start()
        received = 0
        while received < amount:
            received += len(receiver.recv(1 << 20))
        thread.join()


# What importing and creating does


def test_import_starts_nothing_and_loads_nothing():
    done = python(
        "import os, sys, netmon, netmon.integrations\n"
        "maps = open('/proc/self/maps').read()\n"
        "assert 'libnetmon' not in maps, 'library loaded'\n"
        "assert len(os.listdir('/proc/self/task')) == 1, 'thread started'\n"
        "heavy = {'torch', 'numpy', 'pandas', 'psutil', 'openrlhf'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert done.returncode == 0, done.stderr


def test_public_names():
    assert netmon.__all__ == sorted(netmon.__all__)
    public = {name for name, value in vars(netmon).items() if not name.startswith("_") and not isinstance(value, ModuleType)}
    assert public - {"annotations"} == set(netmon.__all__)
    for name in netmon.__all__:
        assert name in dir(netmon)
        assert getattr(netmon, name).__module__ == "netmon" or name.startswith("get_"), name
    with pytest.raises(AttributeError, match="no attribute 'speed'"):
        netmon.speed  # noqa: B018


def test_version_is_that_of_the_header(tmp_path):
    """In a checkout that is not installed too, built or not; whatever else is installed."""
    header = (ROOT / "include" / "netmon.h").read_text()
    version = re.search(r'#define NETMON_VERSION "(.*)"', header)[1]
    assert netmon.__version__ == version
    assert "__version__" in dir(netmon)
    assert "__version__" not in netmon.__all__
    bare = tmp_path / "checkout"
    shutil.copytree(
        ROOT / "python" / "netmon", bare / "python" / "netmon", ignore=shutil.ignore_patterns("_native", "__pycache__")
    )

    def said() -> str:
        done = python("import netmon; print(netmon.__version__)", env={**os.environ, "PYTHONPATH": str(bare / "python")})
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert said() == "0+unknown"
    (bare / "include").mkdir()
    (bare / "include" / "netmon.h").write_text(header.replace(f'"{version}"', '"7.8.9"'))
    assert said() == "7.8.9"


def test_nothing_is_printed():
    done = python("import netmon\nm = netmon.Monitor(interval=0.01)\nfor _ in range(100): m.sample(); m.latest()\nm.close()")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_socket_listens_and_no_packet_is_sent(namespace):
    code = (
        "import netmon, subprocess, json\n"
        "def counters(): return json.loads(subprocess.check_output(['ip', '-s', '-j', 'link']))\n"
        "before = counters()\n"
        "m = netmon.Monitor(interval=0.01)\n"
        "for _ in range(50): m.sample()\n"
        "assert not subprocess.check_output(['ss', '-Htuln']), 'a port is open'\n"
        "assert counters() == before, 'a packet was sent'\n"
    )
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


# Samples


def test_sample_is_the_document(monitor):
    sample = monitor.sample()
    document = sample.to_dict()
    assert document == json.loads(sample.to_json())
    assert document["schema"] == "netmon.sample/1"
    # Every field is there, and whatever is null has its reason.
    sections = (
        "host job totals interfaces tcp udp ip sockets probes peers rdma pcie nvlink collectives phases transport "
        "bandwidth_tests findings self unavailable"
    )
    for section in sections.split():
        assert section in document
        if document[section] is None:
            assert section in document["unavailable"], section


def nulls(document):
    for section, value in document.items():
        if section == "interfaces":
            for row in value:
                yield from ((f"interfaces.{k}", v) for k, v in row.items() if k != "master")
        elif isinstance(value, dict) and section != "unavailable":
            # Of these null is an answer: there is nothing to say.
            nothing = ("rdma_idle_reason", "wrong_interface", "advice") if section == "transport" else ()
            yield from ((f"{section}.{k}", v) for k, v in value.items() if k not in nothing)
        else:
            yield section, value


@pytest.mark.parametrize("wait", [False, True])
def test_every_null_has_a_reason(wait):
    with netmon.Monitor(interval=FAST) as monitor:
        if wait:
            wait_for(lambda: monitor.latest().sequence > 3, "three samples")
        sample = monitor.sample()
        for name, value in nulls(sample.to_dict()):
            if value is None:
                assert sample.reason(name), name


def test_types_mirror_the_document(monitor):
    wait_for(lambda: monitor.latest().sequence > 2, "a window")
    sample = monitor.sample()
    document = sample.to_dict()
    for name in ("host", "job", "totals", "tcp", "udp", "ip", "sockets", "self"):
        section = getattr(sample, name)
        if document[name] is None:
            assert section is None
            continue
        assert {f.name for f in dataclasses.fields(section)} == set(document[name]), name
        assert dataclasses.asdict(section) == document[name], name
        for field in dataclasses.fields(section):
            if str(field.type).startswith("float"):
                assert isinstance(getattr(section, field.name), (float, type(None))), f"{name}.{field.name}"
    # JSON has no point in the rates of an idle interface, whose type is float all the same.
    assert all(isinstance(i.receive_bytes_per_second, float) for i in sample.interfaces)
    assert [dataclasses.asdict(i) | {"addresses": list(i.addresses)} for i in sample.interfaces] == document["interfaces"]
    for name in ("schema", "sequence", "timestamp_seconds", "monotonic_seconds", "window_seconds"):
        assert getattr(sample, name) == document[name]
    for name in ("peers", "rdma", "pcie", "nvlink", "bandwidth_tests"):
        rows = getattr(sample, name)
        assert document[name] == (None if rows is None else [row.to_dict() for row in rows]), name
    assert document["transport"] == (None if sample.transport is None else sample.transport.to_dict())
    assert document["phases"] == []  # none was begun
    assert len(sample.phases) == 0
    for name in ("collectives", "collective_ratio", "collective_pending"):
        assert getattr(sample, name) is None
    assert document["findings"] == [finding.to_dict() for finding in sample.findings]
    assert document["probes"] == []  # nobody to probe
    assert len(sample.probes) == 0
    assert sample.unavailable == document["unavailable"]


def test_results_are_frozen(monitor):
    sample, latest = monitor.sample(), monitor.latest()
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample.tcp.established = 3
    with pytest.raises(AttributeError):
        sample.tcp = None
    with pytest.raises(AttributeError):
        latest.sequence = 3
    with pytest.raises(TypeError):
        sample.unavailable["x"] = "y"
    document = sample.to_dict()
    document["tcp"]["established"] = -1
    assert sample.to_dict() != document


def test_interfaces_by_name_and_place(monitor):
    interfaces = monitor.sample().interfaces
    assert interfaces["lo"].kind == "loopback"
    assert interfaces["lo"] in interfaces
    assert "lo" in interfaces
    assert interfaces[0] is interfaces[interfaces[0].name]
    assert len(list(interfaces)) == len(interfaces) == len(interfaces.names)
    assert interfaces.get("nothing") is None
    with pytest.raises(KeyError, match=r"there is no interface 'eth77'; there are .*lo"):
        interfaces["eth77"]


def test_samples_travel(monitor):
    sample = monitor.sample()
    again = pickle.loads(pickle.dumps(sample))
    assert again == sample
    assert again.tcp == sample.tcp
    assert hash(again) == hash(sample)
    assert "netmon.Sample" in repr(sample)


def test_times(monitor):
    before, before_wall = time.monotonic(), time.time()
    sample = monitor.sample()
    after, after_wall = time.monotonic(), time.time()
    assert before <= sample.monotonic_seconds <= after
    assert before_wall - 0.01 <= sample.timestamp_seconds <= after_wall + 0.01
    latest = monitor.latest()
    assert latest.monotonic_time_ns <= time.monotonic_ns()
    assert abs(latest.wall_time_ns - time.time_ns()) < 60e9


def test_bytes_over_loopback_are_counted_when_asked():
    with netmon.Monitor(interval=FAST, interfaces=["lo"]) as monitor:
        amount = 20_000_000
        before = monitor.sample().totals
        kernel_before = int(Path("/sys/class/net/lo/statistics/rx_bytes").read_text())
        loopback_traffic(amount)
        after = monitor.sample().totals
        kernel = int(Path("/sys/class/net/lo/statistics/rx_bytes").read_text()) - kernel_before
        counted = after.receive_bytes_total - before.receive_bytes_total
        assert amount <= counted <= kernel
        assert kernel - counted < 0.01 * amount


# Snapshots


def test_latest_follows_the_loop(monitor):
    first = monitor.latest()
    assert first.sequence >= 1
    wait_for(lambda: monitor.latest().sequence > first.sequence + 2, "more samples")
    latest = monitor.latest()
    assert latest is not monitor.latest()
    # After a late sample the next one comes in time, so its window is short.
    assert 0 < latest.window_ns < 100 * FAST * 1e9
    assert set(latest.to_dict()) >= {"sequence", "receive_bytes_total", "tcp_retransmit_ratio", "loss_ratio"}
    assert latest.rtt_p50_ns is None
    assert latest.loss_ratio is None
    history = {s.sequence: s for s in monitor.history()}
    same = history[latest.sequence]
    assert same.tcp.established == latest.tcp_established
    assert same.totals is None or same.totals.receive_bytes_total == latest.receive_bytes_total
    assert math.isclose(same.window_seconds, latest.window_ns / 1e9)


def test_first_snapshot_knows_what_it_does_not_know():
    with netmon.Monitor(interval=3600) as monitor:
        latest = monitor.latest()
        assert latest.sequence == 1
        for name in ("window_ns", "receive_bytes_per_second", "tcp_retransmit_ratio", "errors_in_window", "drops_in_window"):
            assert getattr(latest, name) is None, name
        assert latest == pickle.loads(pickle.dumps(latest))
        assert "sequence=1" in repr(latest)


def test_latest_does_not_wait_for_the_interpreter_lock(monitor):
    """A busy thread holds the lock for up to 5 ms at a time; latest keeps it and must not queue for it again."""
    stop = threading.Event()

    def spin():
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        rounds = 2000
        began = time.perf_counter()
        for _ in range(rounds):
            monitor.latest()
        spent = time.perf_counter() - began
    finally:
        stop.set()
        thread.join()
    # Were each call to give the lock up, 2000 of them would take 10 s.
    assert spent < 5


# History, statistics, health


def test_history_and_stats(monitor):
    wait_for(lambda: monitor.latest().sequence > 100, "a hundred samples")
    history = monitor.history()
    sequences = [s.sequence for s in history]
    assert len(history) > 64, "more than a page"
    assert sequences == sorted(set(sequences))
    short = monitor.history(seconds=FAST * 10)
    assert 5 <= len(short) <= 15
    stats = monitor.stats("self.sample_seconds")
    assert stats.metric == "self.sample_seconds"
    assert stats.count >= len(history)
    assert stats.min <= stats.p50 <= stats.p95 <= stats.p99 <= stats.max
    assert stats.min <= stats.mean <= stats.max
    values = [s.self.sample_seconds for s in history]
    assert math.isclose(min(values), stats.min, rel_tol=0.5)
    assert stats.to_dict()["count"] == stats.count
    nothing = monitor.stats("interfaces.nothing.mtu")
    assert (nothing.count, nothing.mean) == (0, None)
    with pytest.raises(netmon.InvalidArgumentError, match="utilization_ratio"):
        monitor.stats("totals.speed")


def test_on_demand_samples_are_not_recorded():
    with netmon.Monitor(interval=3600) as monitor:
        for _ in range(10):
            monitor.sample()
        assert [s.sequence for s in monitor.history()] == [1]
        assert monitor.latest().sequence == 1


def test_health(monitor):
    wait_for(lambda: monitor.latest().sequence > 3, "three samples")
    health = monitor.health()
    assert health.status == "ok", health.problems
    assert health.interval_seconds == FAST
    assert health.samples_total >= 3
    assert health.cpu_seconds_total > 0
    assert health.to_dict()["events"] == []


def test_to_pandas(monitor):
    pandas = pytest.importorskip("pandas")
    wait_for(lambda: monitor.latest().sequence > 3, "three samples")
    frame = monitor.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) >= 3
    assert frame["window_seconds"].isna().sum() == 1
    assert (frame["interfaces.lo.mtu"] == 65536).all()
    assert str(frame.index.tz) == "UTC"


def test_to_pandas_without_pandas():
    done = python(
        "import sys; sys.modules['pandas'] = None\n"
        "import netmon\n"
        "with netmon.Monitor() as m:\n"
        "    try: m.to_pandas()\n"
        "    except ImportError as e: print(e)\n"
    )
    assert done.stdout.strip() == "Monitor.to_pandas needs pandas: pip install pandas", done.stderr


# The job


def test_job_from_os_environ_as_python_sees_it(monkeypatch):
    variables = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with netmon.Monitor(interval=3600) as monitor:
        job = monitor.sample().job
        assert (job.rank, job.world_size, job.local_rank) == (3, 4, 1)
        assert (job.master_address, job.master_port, job.source) == ("localhost", 29500, "environment")
    with netmon.Monitor(interval=3600, job={"rank": 2}) as monitor:
        job = monitor.sample().job
        assert (job.rank, job.world_size, job.source) == (2, 4, "environment+configuration")
        monitor.set_job(rank=1, source="torch.distributed")
        assert monitor.sample().job.rank == 1
        with pytest.raises(netmon.ConfigError, match='job key "rank" is -1'):
            monitor.set_job(rank=-1)
        with pytest.raises(netmon.ConfigError, match='"ranks" is not known'):
            monitor.set_job(ranks=1)


def test_job_from_nonsense_in_the_environment(monkeypatch):
    monkeypatch.setenv("RANK", "first")
    monkeypatch.setenv("MASTER_ADDR", "\udcff")
    with netmon.Monitor(interval=3600) as monitor:
        sample = monitor.sample()
        assert sample.job.rank is None
        assert sample.reason("job.rank") == 'RANK="first" is not a whole number of at least 0'


# Errors


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"interval": 0}, "interval_seconds.*0.01 to 3600"),
        ({"interval": "1"}, "interval_seconds.*number of seconds"),
        ({"interval": float("nan")}, "cannot be written as JSON"),
        ({"interfaces": "eth0"}, "interfaces.*list of strings"),
        ({"interfaces": ["["]}, "glob pattern"),
        ({"sources": ["tpc"]}, "tpc.*interfaces, tcp"),
        ({"targets": [3]}, "targets.*entry 1"),
        ({"job": {"rank": 1, "world_size": 1}}, "job.rank.*below world_size"),
        ({"job": {"rank": object()}}, "cannot be written as JSON"),
    ],
)
def test_wrong_arguments(arguments, text):
    with pytest.raises(netmon.ConfigError, match=text) as caught:
        netmon.Monitor(**arguments)
    assert isinstance(caught.value, ValueError)
    assert caught.value.status == -2


def test_closed(monitor):
    monitor.close()
    monitor.close()
    assert monitor.closed
    for call in (monitor.sample, monitor.latest, monitor.history, monitor.health, lambda: monitor.set_job(rank=0)):
        with pytest.raises(netmon.ClosedError, match="the monitor was closed"):
            call()
    assert "closed" in repr(monitor)


def test_error_tree():
    for name in netmon.__all__:
        if name.endswith("Error") and name != "Error":
            assert issubclass(getattr(netmon, name), netmon.Error), name
    assert issubclass(netmon.TimedOutError, TimeoutError)
    assert issubclass(netmon.PermissionDeniedError, PermissionError)
    assert netmon.UnreachableError("no", target="h").target == "h"


def open_soon(**options):
    """A monitor keeps its place until all its threads have ended, for which close() waits 0.1 s at most."""
    limit = time.monotonic() + 20
    while True:
        try:
            return netmon.Monitor(**options)
        except netmon.ResourceError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.001)


def test_too_many_monitors():
    monitors = [open_soon(interval=0.1) for _ in range(64)]
    try:
        with pytest.raises(netmon.ResourceError, match="64 monitors are open in this process; close one first") as caught:
            netmon.Monitor()
        assert caught.value.status == -10
        assert len({monitor.handle for monitor in monitors}) == 64
        for monitor in monitors:
            assert monitor.latest().sequence >= 1
            assert monitor.sample().sequence >= 2
    finally:
        for monitor in monitors:
            monitor.close()
    open_soon(interval=3600).close()


def test_no_descriptor_left():
    done = python(
        "import netmon, resource\n"
        "netmon.Monitor().close()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (len(__import__('os').listdir('/proc/self/fd')), 4096))\n"
        "try: netmon.Monitor()\n"
        "except netmon.ResourceError as e: print(e)\n"
    )
    assert "too many open files" in done.stdout, done.stderr


def test_few_descriptors_left():
    """Where one descriptor is missing there is no monitor: none that lacks a section for good."""
    done = python(
        "import netmon, os, resource, time\n"
        "netmon.Monitor().close()\n"
        "left = len(os.listdir('/proc/self/fd'))\n"
        "outcomes = set()\n"
        "for spare in range(24):\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (left + spare, 4096))\n"
        "    try: monitor = netmon.Monitor(interval=0.05)\n"
        "    except netmon.ResourceError: outcomes.add('none'); continue\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n"
        "    with monitor: outcomes.add(monitor.sample().reason('peers'))\n"
        "deadline = time.monotonic() + 10\n"  # what was opened may be closed a little later
        "while len(os.listdir('/proc/self/fd')) > left: assert time.monotonic() < deadline; time.sleep(0.001)\n"
        "print(outcomes == {'none', None}, outcomes)\n"
    )
    assert done.stdout.startswith("True"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("limit", "text"),
    [("RLIMIT_AS, (900 << 20, -1)", "address space limit"), ("RLIMIT_AS, (1200 << 20, -1)", "address space limit")],
)
def test_limits_are_a_sentence_and_not_an_abort(limit, text):
    done = python(
        f"import netmon, resource\nresource.setrlimit(resource.{limit})\n"
        "try: netmon.Monitor()\nexcept netmon.ResourceError as e: print(e)\n"
    )
    assert done.returncode == 0, done.stderr
    assert text in done.stdout


def test_library_missing_or_another(tmp_path):
    def attempt(path) -> str:
        done = python(
            "import netmon\ntry: netmon.Monitor()\nexcept netmon.LibraryError as e: print(e)\n",
            env={**os.environ, "NETMON_LIBRARY": str(path)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "there is no library at" in attempt(tmp_path / "absent.so")
    (tmp_path / "text.so").write_text("not a library")
    assert "cannot be loaded" in attempt(tmp_path / "text.so")
    source = tmp_path / "other.c"
    source.write_text("int other(void) { return 0; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "other.so", source], check=True)
    assert "is not netmon's library" in attempt(tmp_path / "other.so")
    source.write_text("int netmon_abi_version(void) { return 2; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "newer.so", source], check=True)
    assert "has ABI version 2, but this package needs 1" in attempt(tmp_path / "newer.so")
    # Functions are added without a new ABI version.
    source.write_text("int netmon_abi_version(void) { return 1; }\nconst char *netmon_version(void) { return 0; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "older.so", source], check=True)
    assert "is older than this package" in attempt(tmp_path / "older.so")


# Threads, signals, forks


def test_threads_sampling_while_another_closes():
    for _ in range(5):
        monitor = netmon.Monitor(interval=0.01)
        failures: list[BaseException] = []

        def hammer(monitor=monitor, failures=failures):
            try:
                while True:
                    monitor.sample()
                    monitor.latest()
                    monitor.stats("tcp.established", seconds=0.05)
            except netmon.ClosedError:
                pass
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
                failures.append(error)

        threads = [threading.Thread(target=hammer) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda monitor=monitor: monitor.latest().sequence > 20, "samples")
        began = time.monotonic()
        monitor.close()
        assert time.monotonic() - began < 0.5
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert failures == []


def test_signals_are_left_alone():
    done = python(
        "import signal, netmon\n"
        "def state():\n"
        "    with open('/proc/thread-self/status') as f: lines = dict(l.split(':', 1) for l in f)\n"
        "    # The 31 standard signals: glibc takes 33 for itself when the first thread starts, whoever starts it.\n"
        "    return [int(lines[k], 16) & 0x7fffffff for k in ('SigBlk', 'SigIgn')], signal.getsignal(signal.SIGINT)\n"
        "before = state()\n"
        "m = netmon.Monitor(interval=0.01); m.sample(); m.close()\n"
        "assert state() == before, (before, state())\n"
    )
    assert done.returncode == 0, done.stderr


def test_forked_child():
    """A child reads on, and everything else works in it or says why, at once."""
    code = (
        "import os, sys, time, netmon, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)  # Python 3.12 and newer warn of any fork with threads\n"
        "m = netmon.Monitor(interval=0.02)\n"
        "for _ in range(20):\n"
        "    parent = m.latest().sequence\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        try:\n"
        "            assert m.latest().sequence >= parent\n"
        "            s = m.sample(); assert s.sequence >= 1\n"
        "            assert m.health().status == 'ok'\n"
        "            with netmon.Monitor(interval=0.02) as own: own.sample()\n"
        "            m.close()\n"
        "            os._exit(0)\n"
        "        except BaseException as error:\n"
        "            print(repr(error), file=sys.stderr, flush=True)\n"
        "            os._exit(1)\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        "    m.sample()\n"
        "m.close()\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_data_loader_workers():
    """torch's loader forks its workers from a process in which Go runs."""
    pytest.importorskip("torch")
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import torch, netmon\n"
        "m = netmon.Monitor(interval=0.02)\n"
        "class Data(torch.utils.data.Dataset):\n"
        "    def __len__(self): return 64\n"
        "    def __getitem__(self, i): return torch.tensor([i, m.latest().sequence, m.sample().sequence])\n"
        "for _ in range(2):\n"
        "    rows = torch.cat(list(torch.utils.data.DataLoader(Data(), batch_size=8, num_workers=3,\n"
        "        multiprocessing_context='fork')))\n"
        "    assert sorted(rows[:, 0].tolist()) == list(range(64))\n"
        "    assert (rows[:, 1:] >= 1).all()\n"
        "m.sample(); m.close(); print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "done\n", done.stderr


def test_exit_while_everything_runs():
    code = (
        "import netmon, threading, sys\n"
        "m = netmon.Monitor(interval=0.01)\n"
        "def hammer():\n"
        "    while True: m.sample()\n"
        "for _ in range(3): threading.Thread(target=hammer, daemon=True).start()\n"
        "m.sample(); sys.exit(7)\n"
    )
    for _ in range(10):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (7, "")


def test_host_that_closes_all_descriptors():
    """Daemons close every descriptor (os.closerange); the monitor opens its own again and hurts nobody."""
    code = (
        "import netmon, os, socket, time\n"
        "m = netmon.Monitor(interval=0.02)\n"
        "os.closerange(3, 256)\n"
        "pairs = [socket.socketpair() for _ in range(10)]\n"
        "for a, b in pairs: a.sendall(b'mine'); b.sendall(b'yours')\n"
        "for _ in range(20): m.sample(); time.sleep(0.01)\n"
        "for a, b in pairs: assert (a.recv(9), b.recv(9)) == (b'yours', b'mine')\n"
        "end = time.monotonic() + 10\n"
        "while m.sample().tcp.segments_sent_total is None: assert time.monotonic() < end; time.sleep(0.01)\n"
        "m.close()\n"
        "for a, b in pairs: a.sendall(b'still'); assert b.recv(9) == b'still'\n"
        "print('fine')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_many_monitors_open_no_descriptor_of_the_go_runtime():
    """Its first timer opens an epoll descriptor; the runtime would end a host that closes that, as os.closerange does."""
    code = (
        "import netmon, os\n"
        "for _ in range(4):\n"
        "    many = [netmon.Monitor(targets=['127.0.0.1'], udp_responder=True) for _ in range(30)]\n"
        "    for m in many: m.sample()\n"
        "    for m in many: m.close()\n"
        "print([to for to in (os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')\n"
        "       if os.path.lexists(f'/proc/self/fd/{n}')) if 'event' in to])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "[]\n", done.stderr


# The command


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "netmon", *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_command_for_people():
    done = command("--seconds", "0.1")
    assert done.returncode == 0, done.stderr
    assert "interface" in done.stdout
    assert "lo" in done.stdout
    assert "over 0.1" in done.stdout


def test_command_json():
    done = command("--json", "--seconds", "0.1")
    document = json.loads(done.stdout)
    assert document["schema"] == "netmon.sample/1"
    assert 0.1 <= document["window_seconds"] < 5


def test_command_flags():
    flags = command("--cflags", "--libs").stdout
    assert f"-I{netmon.get_include()}" in flags
    assert "-lnetmon" in flags
    assert "library" in command("--version").stdout


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--seconds", "0"], 2, "must be from 0.02 to 3600"),
        (["--seconds", "x"], 2, "invalid float"),
        (["--interfaces", "["], 1, "glob pattern"),
        (["--nonsense"], 2, "unrecognized"),
    ],
)
def test_command_wrong(arguments, status, text):
    done = command(*arguments)
    assert done.returncode == status
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_command_interrupted_and_without_reader():
    process = subprocess.Popen([sys.executable, "-m", "netmon", "--seconds", "60"], stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == 130
    done = subprocess.run(
        f"{sys.executable} -m netmon --seconds 0.05 | true", shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr


def test_command_probes() -> None:
    done = command("--probe", "tcp://127.0.0.1:1", "--count", "3", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["method"], found["sent"], found["received"]) == ("tcp_refused", 3, 3)
    done = command("--targets", "tcp://127.0.0.1:1", "--seconds", "0.3")
    assert re.search(r"^  tcp://127.0.0.1:1 +tcp_refused .* 0 of \d+$", done.stdout, re.MULTILINE), done.stdout


def test_command_names_a_wrong_target() -> None:
    done = command("--probe", "ftp://127.0.0.1")
    assert done.returncode == 1
    assert 'target "ftp://127.0.0.1": unknown scheme "ftp"' in done.stderr
    assert done.stdout == ""
