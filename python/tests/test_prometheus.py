"""What Prometheus gets: names, types and labels, a file that is whole at any time, and nothing that was not measured."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import exported
import pytest

import netmon
from netmon import _metrics, _node, _shared, _training
from netmon.integrations import prometheus

client = pytest.importorskip("prometheus_client")
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> tuple[Series, dict[str, tuple[str, str]]]:
    """Return the series of a text, and type and help of its metrics."""
    series: Series = {}
    kinds = {}
    for family in text_string_to_metric_families(text):
        kinds[family.name] = (family.type, family.documentation)
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in series, key
            series[key] = sample.value
    return series, kinds


def named(series: Series, name: str, **labels: str) -> list[float]:
    return [value for (own, its), value in series.items() if own == name and set(labels.items()) <= its]


@pytest.fixture
def everything() -> exported.Monitor:
    monitor = exported.Monitor(exported.known())
    monitor._hold = object()
    return monitor


def test_every_metric_is_there_when_all_is_known(everything):
    series, kinds = parsed(everything.prometheus(peers=True))
    assert {name for name, _ in series} == exported.names()
    for metric in _metrics.METRICS:
        kind, text = kinds[metric.name.removesuffix("_total")]
        assert (kind, text) == ("counter" if metric.is_counter else "gauge", metric.help)
        for name, labels in series:
            if name == metric.name:
                common = {"node"} if metric.is_of_node(dict(labels)) else {"node", "rank"}
                assert {label for label, _ in labels} == {*metric.labels, *common}, name


def test_promtool_has_nothing_to_say(everything):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool: apt install prometheus")
    with netmon.Monitor(interval=0.1, targets=["tcp://127.0.0.1:7"]) as monitor:
        with monitor.phase("weight_sync"):
            pass
        texts = [everything.prometheus(peers=True), monitor.prometheus(peers=True, labels={"job": 'a "b" \\ \n c'})]
    for text in texts:
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_text_is_what_prometheus_client_writes_of_the_collector(everything, monkeypatch):
    monkeypatch.setattr(_metrics, "_start_of", lambda *_: 1.7e9)
    registry = client.CollectorRegistry()
    prometheus.Collector(everything, registry, peers=True, labels={"a": "b"})
    theirs = client.generate_latest(registry).decode()
    assert parsed(everything.prometheus(peers=True, labels={"a": "b"})) == parsed(theirs)


def test_values_are_those_of_the_sample(everything):
    series, _ = parsed(everything.prometheus())
    sample = everything.sample()
    for interface in sample.interfaces:
        (value,) = named(series, "netmon_interface_receive_bytes_total", interface=interface.name)
        assert value == interface.receive_bytes_total
        (value,) = named(series, "netmon_interface_link_speed_bytes_per_second", interface=interface.name)
        assert value == interface.link_speed_bits_per_second / 8
    for phase in sample.phases:
        planes = {
            plane: named(series, "netmon_phase_transport_bytes_total", phase=phase.name, plane=plane)
            for plane in ("tcp", "rdma")
        }
        assert planes == {"tcp": [phase.tcp_bytes_total], "rdma": [phase.rdma_bytes_total]}
    assert named(series, "netmon_rdma_events_total", counter="two") == [row.counters["two"] for row in sample.rdma]
    assert named(series, "netmon_job_ranks", state="live") == [4]
    assert named(series, "netmon_job_ranks", state="missing") == [], "not known"
    assert named(series, "netmon_job_findings", host="there") == [2]


@pytest.mark.parametrize("sample", [exported.unknown(), exported.without_values()])
def test_what_was_not_measured_is_absent(sample):
    series, _ = parsed(exported.Monitor(sample).prometheus(peers=True))
    of_itself = {name for name, _ in series if name.startswith("netmon_self_")}
    left = {name for name, _ in series} - of_itself - {"netmon_info", "netmon_start_time_seconds"}
    words = {"netmon_interface_info", "netmon_rdma_info", "netmon_transport_info", "netmon_phase_info", "netmon_findings"}
    if sample.interfaces is None:
        assert left == set()
        assert of_itself == {"netmon_self_uptime_seconds", "netmon_self_healthy"}
    else:
        assert words <= left
        numbers = {name for name in left - words if not name.startswith(("netmon_transport", "netmon_rdma_events"))}
        assert numbers == {
            "netmon_collective_pending_seconds",
            "netmon_collective_ratio",
            "netmon_world_size",
            "netmon_window_seconds",
        }


# Fields of numbers that are told to nobody: rates of counters that are, what is only there while somebody asks for it, names.
LEFT_OUT = {
    netmon.Totals: {"fine_interval_seconds", "busy_ratio"},
    netmon.Interface: {"index"},
    netmon.Probe: {"port", "received", "window_seconds"},  # received: sent less lost
    netmon.Peer: {"rank", "child_connections"},
    netmon.RDMAPort: {"window_seconds"},
    netmon.NVLink: {"window_seconds"},
    netmon.PCIe: {"current_transfers_per_second", "maximum_transfers_per_second"},
    netmon.Collective: {"group_size", "duration_count", "end_exact_ratio"},
    netmon.Phase: {"peak_ratio", "retransmit_ratio", "last_seconds", "last_receive_bytes", "last_transmit_bytes"},
}
SECTIONS = {
    "totals": netmon.Totals, "interfaces": netmon.Interface, "tcp": netmon.TCP, "udp": netmon.UDP, "ip": netmon.IP,
    "sockets": netmon.Sockets, "probes": netmon.Probe, "peers": netmon.Peer, "rdma": netmon.RDMAPort, "pcie": netmon.PCIe,
    "nvlink": netmon.NVLink, "transport": netmon.Transport, "collectives": netmon.Collective, "phases": netmon.Phase,
    "self": netmon.SelfCost,
}  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS)
def test_every_number_of_a_sample_is_told_or_left_out_with_a_reason(section):
    cls = SECTIONS[section]
    numbers = {f.name for f in fields(cls) if str(f.type).startswith(("int", "float"))}
    told = {metric.source.partition(".")[2] for metric in _metrics.METRICS if metric.source.partition(".")[0] == section}
    told |= {label for metric in _metrics.METRICS if metric.source.startswith(f"{section}.") for label in metric.labels}
    if "PLANE_bytes_total" in told:
        told |= {f"{plane}_bytes_total" for plane in ("rdma", "tcp", "loopback")}
    rates = {name for name in numbers if name.replace("_per_second", "_total") in numbers - {name}}
    fine = {name for name in numbers if re.search("_(peak|p95)_bytes_per_second$", name)}
    left = numbers - told - rates - fine - LEFT_OUT.get(cls, set())
    assert left == set()
    assert LEFT_OUT.get(cls, set()) <= numbers - told


def test_the_documents_have_every_metric_and_no_other():
    page = (ROOT / "docs" / "trackers.md").read_text()
    table = page[page.index("## Prometheus's metrics") : page.index("## OpenTelemetry")]
    written = [
        name for line in table.splitlines() if line.startswith("| `netmon_") for name in re.findall(r"`(netmon_\w+)`", line)
    ]
    assert sorted(written) == sorted(exported.names())
    metrics = (ROOT / "docs" / "metrics.md").read_text()
    for metric in _metrics.METRICS:
        section, _, field = metric.source.partition(".")
        if section not in ("view", "host", "self") and "PLANE" not in field:
            assert f"`{field or section}`" in metrics, metric.source


def test_of_a_node_only_its_first_rank_tells():
    for job, of_node in (({"local_rank": 0}, True), ({"local_rank": 1}, False), ({"local_rank": None}, True)):
        monitor = exported.Monitor(exported.known(**job))
        names = {name for name, _ in parsed(monitor.prometheus())[0]}
        assert ("netmon_receive_bytes_total" in names) is of_node
        assert ("netmon_tcp_segments_sent_total" in names) is of_node
        assert "netmon_transport_bytes_total" in names
        forced = {name for name, _ in parsed(monitor.prometheus(node=not of_node))[0]}
        assert ("netmon_receive_bytes_total" in forced) is not of_node


def test_what_is_of_the_node_is_in_a_sum_over_its_ranks_once():
    """Every rank sees the same interfaces and RDMA ports in its phases; connections are its own."""
    samples = [exported.known(rank=rank, local_rank=rank, world_size=8) for rank in range(8)]
    texts = [parsed(exported.Monitor(sample).prometheus())[0] for sample in samples]

    def told(name: str, **labels: str) -> list[float]:
        return [value for series in texts for value in named(series, name, **labels)]

    transport, phase = samples[0].transport, samples[0].phases[0]
    assert told("netmon_transport_bytes_total", plane="rdma") == [transport.rdma_bytes_total]
    assert told("netmon_transport_bytes_total", plane="tcp") == [transport.tcp_bytes_total] * 8
    assert told("netmon_phase_transport_bytes_total", plane="rdma", phase=phase.name) == [phase.rdma_bytes_total]
    assert told("netmon_phase_transport_bytes_total", plane="tcp", phase=phase.name) == [phase.tcp_bytes_total] * 8
    for field in ("receive_bytes_total", "transmit_bytes_total", "segments_sent_total", "segments_retransmitted_total"):
        assert told(f"netmon_phase_{field}", phase=phase.name) == [getattr(phase, field)], field
    assert told("netmon_phase_seconds_total", phase=phase.name) == [phase.seconds_total] * 8


RANKS = """
import multiprocessing, sys, netmon

def rank(job, answers, end):
    with netmon.Monitor(cluster=False, **job) as monitor:
        answers.put("netmon_receive_bytes_total{" in monitor.prometheus())
        end.wait()

if __name__ == "__main__":
    jobs = [{}] * 3 if sys.argv[1] == "arguments" else [{"job": {"rank": n, "world_size": 3}} for n in range(3)]
    context = multiprocessing.get_context("spawn")
    answers, end = context.Queue(), context.Event()
    ranks = [context.Process(target=rank, args=(job, answers, end)) for job in jobs]
    for one in ranks: one.start()
    print(sorted(answers.get(timeout=60) for _ in ranks))
    end.set()
    for one in ranks: one.join()
    again = context.Process(target=rank, args=(jobs[2], answers, end))
    again.start()
    print(answers.get(timeout=60))
    again.join()
"""


@pytest.mark.parametrize("form", ["arguments", "ranks"])
def test_of_ranks_without_a_local_rank_one_tells(form, tmp_path):
    """As ``torch.multiprocessing.spawn`` starts them: with ranks as arguments, or in the environment, and no LOCAL_RANK."""
    (tmp_path / "spawn.py").write_text(RANKS)
    launched = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    environment = {name: value for name, value in os.environ.items() if name not in launched}
    command = [sys.executable, str(tmp_path / "spawn.py"), form]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "[False, False, True]\nTrue\n"


def test_by_the_view_the_lowest_rank_of_the_node_tells():
    rows = ((0, "a", "live"), (1, "b", "gone"), (2, "b", "live"), (3, "b", "live"))
    ranks = [SimpleNamespace(rank=rank, node=node, state=state) for rank, node, state in rows]
    monitor = SimpleNamespace(_hold=object(), cluster=lambda: SimpleNamespace(ranks=ranks))
    job = {"local_rank": None, "world_size": 4, "master_address": None}
    told = [_node.tells(monitor, SimpleNamespace(rank=rank, **job)) for rank in range(4)]  # type: ignore[arg-type]
    assert told == [True, False, True, False]


def test_peers_are_told_only_when_asked_for(everything):
    assert "netmon_peer_" not in everything.prometheus()


def test_counters_only_grow_and_a_new_monitor_begins_anew():
    def counters(text: str) -> Series:
        return {key: value for key, value in parsed(text)[0].items() if key[0].endswith("_total")}

    with netmon.Monitor(interval=0.05) as monitor:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
            receiver, _ = server.accept()
            with receiver:
                first = monitor.prometheus()
                sender.sendall(bytes(300_000))
                left = 300_000
                while left:
                    left -= len(receiver.recv(left))
        second = monitor.prometheus()
        before, after = counters(first), counters(second)
        assert before.keys() <= after.keys()
        assert all(after[key] >= value for key, value in before.items())
        (here,) = named(after, "netmon_interface_receive_bytes_total", interface="lo")
        (there,) = named(before, "netmon_interface_receive_bytes_total", interface="lo")
        assert 300_000 <= here - there < 1_000_000
        starts = {named(parsed(text)[0], "netmon_start_time_seconds")[0] for text in (first, second)}
        assert len(starts) == 1
    with netmon.Monitor(interval=0.05) as monitor:
        third = parsed(monitor.prometheus())[0]
    assert named(third, "netmon_interface_receive_bytes_total", interface="lo")[0] < here
    assert named(third, "netmon_start_time_seconds")[0] > starts.pop()


def test_a_folder_that_may_not_be_looked_into_is_one_warning(tmp_path, caplog):
    (tmp_path / "closed").mkdir(mode=0o700)
    with as_nobody():
        file = prometheus.Textfile(exported.Monitor(exported.known()), tmp_path / "closed" / "netmon.prom")
    file.close()
    assert len(caplog.records) == (1 if os.geteuid() == 0 else 0)


def test_a_closed_monitor_says_so(everything):
    everything.closed = True
    with pytest.raises(netmon.ClosedError):
        everything.prometheus()


# The file


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user who may not write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_the_file_is_there_at_once_readable_and_goes_away(tmp_path):
    before = os.umask(0o077)
    try:
        with netmon.Monitor(interval=0.1) as monitor:
            file = prometheus.Textfile(monitor, tmp_path, 1, labels={"job": "demo"})
            assert file.path == tmp_path / "netmon.prom"
            assert os.listdir(tmp_path) == ["netmon.prom"], "nothing else, nothing half"
            assert file.path.stat().st_mode & 0o777 == 0o644
            assert named(parsed(file.path.read_text())[0], "netmon_info", job="demo") == [1]
            assert "netmon-textfile" in {thread.name for thread in threading.enumerate()}
            file.close()
            file.close()
            assert os.listdir(tmp_path) == []
            assert "netmon-textfile" not in {thread.name for thread in threading.enumerate()}
    finally:
        os.umask(before)


def test_whoever_reads_sees_a_whole_file(tmp_path, everything):
    texts = [everything.prometheus(labels={"turn": str(turn)}) for turn in range(2)]
    path = tmp_path / "netmon.prom"
    from netmon.integrations.prometheus._textfile import KeptFile

    kept = KeptFile(path)
    kept.write(texts[0])
    seen = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(300):
        kept.write(texts[turn % 2])
    done.set()
    reader.join()
    assert seen <= set(texts)
    kept.remove()


TRAINING = """
import sys, netmon
from netmon.integrations.prometheus import Textfile
with netmon.Monitor(cluster=False) as monitor:
    file = Textfile(monitor, sys.argv[1], interval=1, labels={"job_id": sys.argv[2]})
    for line in sys.stdin:
        if line == "crash\\n":
            import os
            print(flush=True)
            os._exit(0)
        if line == "fork\\n":
            import os, time
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
        file._write(monitor)
        print(file.problem, flush=True)
    file.close()
"""


class Training:
    """A process of its own with a file; ``ask`` has it write, and returns its problem."""

    def __init__(self, folder: Path, job: str) -> None:
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", TRAINING, str(folder), job]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )
        self.problem = self.ask()

    def ask(self, what: str = "") -> str:
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip()

    def end(self) -> None:
        self.process.stdin.close()
        assert self.process.wait(30) == 0
        self.process.stdout.close()


def test_two_trainings_of_one_machine_do_not_write_over_each_other(tmp_path):
    def whose() -> list[str]:
        return re.findall('netmon_start_time_seconds.*job_id="(.)"', (tmp_path / "netmon.prom").read_text())

    first = Training(tmp_path, "A")
    second = Training(tmp_path, "B")
    try:
        assert first.problem == "None"
        assert second.problem == (
            f"ResourceError: another process keeps {tmp_path}/netmon.prom; "
            "give each a path of its own, and labels that tell them apart"
        )
        assert whose() == ["A"]
        third = Training(tmp_path, "C")
        third.end()
        assert whose() == ["A"], "who does not keep it does not take it away"
        assert first.ask() == "None"
        first.end()
        assert second.ask() == "None", "the next one's, once the first has ended"
        assert whose() == ["B"]
        second.ask("fork")
        second.ask("crash")
        assert second.process.wait(30) == 0
        assert whose() == ["B"], "left behind"
        fourth = Training(tmp_path, "D")
        assert (fourth.problem, whose()) == ("None", ["D"]), "neither a crash nor its children keep it"
        (tmp_path / "netmon.prom").unlink()
        assert (fourth.ask(), whose()) == ("None", ["D"])
        fourth.end()
        assert os.listdir(tmp_path) == []
    finally:
        for one in (first, second):
            one.process.kill()
            with suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()
            one.process.stdin.close()
            one.process.stdout.close()


def test_it_is_written_again_and_goes_with_its_monitor(tmp_path, monkeypatch):
    monitor = exported.Monitor(exported.known())
    file = prometheus.Textfile(monitor, tmp_path / "x.prom", 1)
    written = file.path.stat().st_mtime_ns
    thread = file._thread
    deadline = 50
    while file.path.stat().st_mtime_ns == written and deadline:
        threading.Event().wait(0.1)
        deadline -= 1
    assert deadline, "it was not written a second time within 5 s"
    monitor.closed = True
    thread.join(5)
    assert not file.path.exists()
    assert file.problem in (None, "the monitor was closed")
    file.close()


def test_ranks_have_files_of_their_own(tmp_path):
    for rank, world, name in ((3, 8, "n-rank3.prom"), (0, 8, "n-rank0.prom"), (0, 1, "n.prom"), (None, None, "n.prom")):
        monitor = exported.Monitor(exported.known(rank=rank, world_size=world))
        with prometheus.Textfile(monitor, tmp_path / "n.prom") as file:
            assert os.listdir(tmp_path) == [name]
            assert file.path.name == name


def test_files_of_one_nodes_ranks_do_not_contradict_each_other(tmp_path):
    """node_exporter refuses all files where two have the same series, or another help."""
    files = [
        prometheus.Textfile(exported.Monitor(exported.known(rank=rank, local_rank=rank, world_size=2)), tmp_path)
        for rank in (0, 1)
    ]
    texts = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert len(texts) == 2
    both = parsed(texts[0])[0].keys() & parsed(texts[1])[0].keys()
    assert both == set()
    for file in files:
        file.close()


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that all may read, and look into; pytest's are its own user's."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        yield Path(folder)
        os.chmod(folder, 0o755)


def test_a_folder_that_cannot_be_written_is_one_warning(read_only, caplog):
    folder = read_only
    monitor = exported.Monitor(exported.known())
    with as_nobody():
        file = prometheus.Textfile(monitor, folder / "netmon.prom")
        file._write(monitor)
    (record,) = caplog.records
    assert record.getMessage().startswith("netmon's textfile: PermissionError:")
    assert record.getMessage().endswith("; the training goes on")
    assert "Permission denied" in file.problem
    folder.chmod(0o755)  # mended: it goes on by itself
    file._write(monitor)
    assert file.problem is None
    assert file.path.exists()
    file.close()


@pytest.mark.parametrize("labels", [{"job-id": "1"}, {"__name__": "x"}, {"1st": "x"}, {"job": 1}])
def test_labels_that_would_break_the_text_are_refused(labels, everything, tmp_path):
    makes = (
        everything.prometheus,
        partial(prometheus.Textfile, everything, tmp_path),
        partial(prometheus.Collector, everything),
    )
    for make in makes:
        with pytest.raises(netmon.ConfigError, match=r"^label '"):
            make(labels=labels)
    assert os.listdir(tmp_path) == []


def test_rows_that_cannot_be_told_apart_are_one():
    document = exported.known().to_dict()
    document["peers"] = [document["peers"][0], {**document["peers"][0], "connections": 5}]
    series, _ = parsed(exported.Monitor(netmon.Sample(document)).prometheus(peers=True))
    assert named(series, "netmon_peer_connections") == [document["peers"][0]["connections"]]


@pytest.mark.parametrize(("arguments", "sentence"), [(("x.txt",), "ends in .prom"), (("x.prom", 0.5), "1 to 3600 seconds")])
def test_wrong_arguments_are_told(arguments, sentence):
    with pytest.raises(netmon.ConfigError, match=sentence):
        prometheus.Textfile(exported.Monitor(exported.known()), *arguments)


SCRIPT = """
import os, sys, netmon
from netmon.integrations.prometheus import Textfile
monitor = netmon.Monitor(interval=0.1)
file = Textfile(monitor, sys.argv[1])
child = os.fork()
if child == 0:
    file.close()
    monitor.prometheus()
    sys.exit(0 if file.path.exists() else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), file.path.exists())
"""


def test_a_child_leaves_the_file_alone_and_the_end_of_the_process_takes_it_away(tmp_path):
    command = [sys.executable, "-W", "error", "-W", "ignore:.*fork:DeprecationWarning", "-c", SCRIPT, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "0 True\n"
    assert os.listdir(tmp_path) == []


def test_without_the_library_the_training_goes_on(tmp_path, monkeypatch, caplog):
    def broken() -> None:
        raise netmon.LibraryError("there is no library")

    monkeypatch.setattr(_training, "training_begins", broken)
    with prometheus.Textfile(path=tmp_path) as file:
        assert os.listdir(tmp_path) == []
        assert file.problem == "LibraryError: there is no library"
    (record,) = caplog.records
    assert record.getMessage() == "netmon's textfile: LibraryError: there is no library; the training goes on"
    registry = client.CollectorRegistry()
    prometheus.Collector(registry=registry)
    assert client.generate_latest(registry) == b""


def test_the_processes_shared_monitor_is_used():
    try:
        registry = client.CollectorRegistry()
        collector = prometheus.Collector(registry=registry)
        assert collector._monitor is _shared.existing_monitor()
        assert b"netmon_info" in client.generate_latest(registry)
    finally:
        _shared.close_shared_monitor()


# Registries and the port


def test_the_registrys_others_go_on_without_a_monitor(everything):
    registry = client.CollectorRegistry()
    client.Gauge("loss", "Of the training.", registry=registry).set(2)
    with prometheus.Collector(everything, registry):
        assert b"netmon_info" in client.generate_latest(registry)
        with pytest.raises(ValueError, match="Duplicated"):
            prometheus.Collector(everything, registry)
        everything.closed = True
        assert set(parsed(client.generate_latest(registry).decode())[1]) == {"loss"}
    everything.closed = False
    assert set(parsed(client.generate_latest(registry).decode())[1]) == {"loss"}, "it was taken out"


def test_openmetrics_too(everything):
    from prometheus_client.openmetrics import exposition, parser

    registry = client.CollectorRegistry()
    prometheus.Collector(everything, registry, peers=True)
    text = exposition.generate_latest(registry).decode()
    assert {
        sample.name for family in parser.text_string_to_metric_families(text) for sample in family.samples
    } == exported.names()


def test_a_port_is_opened_when_asked_for_on_loopback(everything):
    with prometheus.serve(0, everything) as server:
        assert server._server.server_address[0] == "127.0.0.1"
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        assert "netmon_info" in text
        assert "python_info" not in text, "netmon's own and nothing else"
        port = server.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    server.close()


FORKED = """
import os, signal, sys, urllib.request, netmon
from netmon.integrations.prometheus import serve
with netmon.Monitor(cluster=False) as monitor, serve(0, monitor) as server:
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        server.close()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10).status)
"""


def test_a_child_closes_the_port_at_once_and_the_parent_goes_on():
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "0\n200\n"


def test_a_port_that_could_not_be_closed_is_not_opened(monkeypatch, everything):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.18.0")
    monkeypatch.setattr(client, "start_http_server", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(
        netmon.UnsupportedError, match=r"needs prometheus_client 0\.19 or newer, and this is 0\.18\.0: pip install"
    ):
        prometheus.serve(0, everything)


def test_without_the_package_the_sentence_has_the_command(monkeypatch, everything):
    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.setitem(sys.modules, name, None)
    for make in (lambda: prometheus.Collector(everything), lambda: prometheus.serve(0, everything)):
        with pytest.raises(netmon.UnsupportedError) as raised:
            make()
        assert "prometheus_client, which is not installed: pip install 'libnetmon[prometheus]'" in str(raised.value)
    assert "netmon_info" in everything.prometheus(), "the text needs no package"


def test_the_documents_examples_run(tmp_path):
    """Those of Prometheus and OpenTelemetry; of trackers with a package of the test's own."""
    page = (ROOT / "docs" / "trackers.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(examples) == 5
    (tmp_path / "wandb.py").write_text(
        "rows = []\n"
        "class run:\n"
        "    define_metric = staticmethod(lambda *a, **k: None)\n"
        "    log = staticmethod(lambda row, commit: rows.append(row))\n"
        "def log(row): rows.append(row)\n"
    )
    code = "\n".join(["import wandb", "train = lambda step: 1.0 / (step + 1)", *examples, "assert len(wandb.rows) >= 100"])
    code = code.replace("/var/lib/node_exporter/textfile", str(tmp_path)).replace("serve(9401)", "serve(0)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_loads_nothing():
    code = (
        "import sys, threading; from netmon.integrations import opentelemetry, prometheus, trackers;"
        "heavy = {'prometheus_client', 'wandb', 'mlflow', 'tensorboard', 'torch', 'opentelemetry.metrics'};"
        "print(sorted(heavy & set(sys.modules)), threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[] 1\n"
