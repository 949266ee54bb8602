"""The demo in its forms, what it says where it cannot have a link or torch, and that it finds bytes that nobody needed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from rldk_support import SECONDS, environment, lines

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "demo"
sys.path.insert(0, str(DEMO))

import account  # noqa: E402  (the demo's)

STEP_BYTES = 8_000_000
_ROW = re.compile(r"^  ((?:rank|lo) .*?)((?: {2,}[\d.]+){6}) +([\d.]+) %$", re.MULTILINE)


class Row:
    """A row of the table, in bytes."""

    def __init__(self, amounts: str, off_percent: str) -> None:
        self.gradients, self.headers, self.resent, self.expected, self.netmon, self.kernel = (
            round(float(amount) * 1e6) for amount in amounts.split()
        )
        self.off_ratio = float(off_percent) / 100


def table(printed: str) -> dict[str, Row]:
    return {name: Row(amounts, off) for name, amounts, off in _ROW.findall(printed)}


def command(namespace: str, output: Path, *arguments: str) -> list[str]:
    """Return the command of the demo, inside a namespace so that its loopback is quiet; a rank's own are made from there."""
    demo = [sys.executable, str(DEMO / "demo.py"), "--output", str(output), *arguments]
    return [str(shutil.which("ip")), "netns", "exec", namespace, *demo]


def run(namespace: str, output: Path, *arguments: str, **variables: str) -> str:
    """Run the demo, which has to find that the figures agree, and return what it printed."""
    done = subprocess.run(
        command(namespace, output, *arguments),
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout


def check(printed: str, output: Path, steps: int, ranks_per_interface: int) -> None:
    rows = table(printed)
    assert len(rows) == 4, printed
    for row in rows.values():
        assert row.gradients == steps * STEP_BYTES * ranks_per_interface
        assert 0 < row.headers < 0.1 * row.gradients
        assert row.expected == pytest.approx(row.gradients + row.headers + row.resent, abs=2000)
        # Read while nothing passed, netmon and the kernel have the same.
        assert row.netmon == row.kernel
        assert row.kernel == pytest.approx(row.expected, rel=0.02)
        assert row.off_ratio <= 0.02
    assert f"{steps} steps" in printed
    assert "netmon has a problem" not in printed
    for rank in range(2):
        events = lines(output / f"rank{rank}" / "events_demo.jsonl")
        assert [event["step"] for event in events] == list(range(1, steps + 1))
        assert {event["global_rank"] for event in events} == {rank}
        assert events[-1]["loss"] < events[0]["loss"]


@pytest.mark.parametrize("using", [pytest.param("torch", marks=pytest.mark.torch), "sockets"])
@pytest.mark.parametrize(("over", "ranks_per_interface"), [("link", 1), ("loopback", 2)])
def test_the_figures_agree(namespace: str, tmp_path: Path, using: str, over: str, ranks_per_interface: int) -> None:
    if using == "torch":
        pytest.importorskip("torch")
    printed = run(namespace, tmp_path, "--using", using, "--over", over, "--steps", "3")
    assert ("DistributedDataParallel on gloo" if using == "torch" else "ring all-reduce over plain sockets") in printed
    assert ("a veth link between two network namespaces" if over == "link" else "network   loopback") in printed
    check(printed, tmp_path, 3, ranks_per_interface)


@pytest.fixture
def ordinary_user() -> Iterator[tuple[list[str], str, Path]]:
    """What runs a command as an ordinary user, a Python that such a user may run, and a folder to write to."""
    # setpriv still has root's rights when it starts a program; env has not.
    become = [] if os.geteuid() else ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env"]
    usable = [*become, "unshare", "--user", "--map-root-user", "--net", "--", "ip", "link", "set", "lo", "up"]
    if subprocess.run(usable, capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    check = "import netmon, sys; open(sys.argv[1]); netmon.Monitor().close(); assert sys.version_info >= (3, 10)"
    for python in (sys.executable, "/usr/bin/python3"):
        trial = [*become, python, "-c", check, str(DEMO / "demo.py")]
        with suppress(OSError):
            if subprocess.run(trial, env=environment(), cwd="/", capture_output=True, check=False).returncode == 0:
                break
    else:
        pytest.skip("an ordinary user can read neither this checkout nor a Python here")
    with tempfile.TemporaryDirectory() as folder:
        if become:
            os.chown(folder, 65534, 65534)
        yield become, python, Path(folder)


def test_an_ordinary_user_has_a_link_in_a_user_namespace(ordinary_user: tuple[list[str], str, Path]) -> None:
    become, python, folder = ordinary_user
    demo = [python, str(DEMO / "demo.py"), "--using", "sockets", "--over", "link", "--steps", "2", "--output", str(folder)]
    done = subprocess.run(
        [*become, *demo], env=environment(), cwd="/", capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a veth link between two network namespaces, in a user namespace" in done.stdout
    check(done.stdout, folder, 2, 1)


def test_without_iproute2_it_says_so_and_reads_the_kernels_file(namespace: str, tmp_path: Path) -> None:
    printed = run(namespace, tmp_path, "--using", "sockets", "--steps", "2", PATH=str(tmp_path))
    flat = " ".join(printed.split())
    assert "no link of its own is possible here: there is no ip command (install iproute2)" in flat
    assert "the kernel's file /proc/net/dev is read in place of ip -s link" in flat
    check(printed, tmp_path, 2, 2)


def test_without_rights_and_without_torch_it_says_so(namespace: str, tmp_path: Path) -> None:
    refusing = tmp_path / "bin" / "unshare"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    variables = environment()
    printed = run(
        namespace,
        tmp_path,
        "--steps",
        "2",
        PATH=f"{refusing.parent}:{os.environ['PATH']}",
        PYTHONPATH=f"{tmp_path}:{variables['PYTHONPATH']}",
    )
    flat = " ".join(printed.split())
    assert "no link of its own is possible here: unshare failed: Operation not permitted" in flat
    assert "plain sockets, because torch is not installed" in flat
    check(printed, tmp_path, 2, 2)


class Running:
    """The demo, while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.ranks: list[psutil.Process] = []
        self._printed = ""

    def until_step(self, number: int) -> None:
        """Read what it prints until a step is there."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._printed += line
            if re.match(rf" +{number} +[\d.]+ s ", line):
                self.ranks = psutil.Process(self.process.pid).children()
                assert len(self.ranks) == 2
                return
        raise AssertionError(self._printed)

    def printed(self) -> str:
        """Wait for its end and return all that it printed."""
        self._printed += self.process.communicate(timeout=120)[0]
        return self._printed


@contextmanager
def running(namespace: str, output: Path, *arguments: str) -> Iterator[Running]:
    with subprocess.Popen(
        command(namespace, output, *arguments),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        watchdog = threading.Timer(180, process.kill)
        watchdog.start()
        try:
            yield Running(process)
        finally:
            watchdog.cancel()
            process.kill()


FLOOD = """
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(1250):  # 40 MB
    sender.sendto(bytes(32_000), ("198.18.0.2", 9))
"""


def test_bytes_that_the_gradients_did_not_need_are_found(namespace: str, tmp_path: Path) -> None:
    with running(namespace, tmp_path, "--using", "sockets", "--over", "link", "--steps", "5") as demo:
        demo.until_step(1)
        inside = ["nsenter", "--net", f"--target={demo.ranks[0].pid}", "--"]
        subprocess.run([*inside, sys.executable, "-c", FLOOD], check=True, timeout=60)
        printed = demo.printed()
    assert demo.process.returncode == 1, printed
    assert "THE FIGURES DISAGREE" in printed
    rows = table(printed)
    for name, flooded in (("rank 0 sent", True), ("rank 1 received", True), ("rank 0 received", False), ("rank 1 sent", False)):
        row = rows[name]
        assert (row.off_ratio > 0.1) is flooded, printed
        assert (row.kernel > row.expected + 4_000_000) is flooded, printed
        assert row.netmon == row.kernel


@pytest.mark.parametrize(
    ("killed_by", "status"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_nothing_stays_when_it_is_ended(namespace: str, tmp_path: Path, killed_by: signal.Signals, status: int) -> None:
    with running(namespace, tmp_path, "--using", "sockets", "--over", "link") as demo:
        demo.until_step(1)
        demo.process.send_signal(killed_by)
        printed = demo.printed()
        assert demo.process.returncode == status, printed
        assert "Traceback" not in printed
        # The namespaces are those of the ranks, and go with them.
        assert psutil.wait_procs(demo.ranks, timeout=SECONDS)[1] == []


def test_a_rank_that_dies_is_said(namespace: str, tmp_path: Path) -> None:
    with running(namespace, tmp_path, "--using", "sockets", "--over", "link") as demo:
        demo.until_step(1)
        demo.ranks[1].kill()
        printed = demo.printed()
    assert demo.process.returncode == 2, printed
    assert re.search(r"demo: rank [01] ended; the end of .*stderr.log:", printed)


def test_run_sh_from_a_fresh_copy_and_again(namespace: str, tmp_path: Path) -> None:
    """It builds, makes its environment where there is no package index, finds torch if it is there, and reuses what it made."""
    tree = tmp_path / "copy"
    left_out = shutil.ignore_patterns(".git", "build", "dist", "_native", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, tree, ignore=left_out)
    inside = ["ip", "netns", "exec", namespace, str(tree / "examples" / "demo" / "run.sh")]
    # Compiling is what other tests test, and takes long in another folder.
    go = tmp_path / "go"
    go.write_text(
        f"#!/bin/sh\n[ $1 = build ] || exec '{shutil.which(os.environ.get('GO', 'go'))}' \"$@\"\n"
        f"until [ $1 = -o ]; do shift; done\nexec cp '{ROOT}/build/lib/libnetmon.so' \"$2\"\n"
    )
    go.chmod(0o755)
    variables = environment(PYTHON=sys.executable, GO=str(go), PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    del variables["PYTHONPATH"]

    def run_sh(*arguments: str) -> str:
        done = subprocess.run(
            [*inside, *arguments], env=variables, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    printed = run_sh("--steps", "2", "--using", "sockets")
    assert "making build/demo-env" in printed
    assert "netmon from python/, because pip cannot install it here" in printed
    assert "a veth link between two network namespaces" in printed
    check(printed, tree / "build" / "demo", 2, 1)
    find = "import importlib.util, netmon; print(netmon.__file__, importlib.util.find_spec('torch') is not None)"
    found = subprocess.check_output([tree / "build/demo-env/bin/python", "-c", find], env=variables, text=True).split()
    assert found == [str(tree / "python" / "netmon" / "__init__.py"), str(importlib.util.find_spec("torch") is not None)]
    again = run_sh("--help")
    assert "making" not in again
    assert "netmon from python/" in again


# The accounting itself.


def flow(**changes: int | None) -> account.Flow:
    """Return 14.48 MB of gradients in 10,000 full segments, and 100 acknowledgements of those that came."""
    headers = account.Headers(ethernet=14, time_stamps=12)
    figures = {"needed_bytes": 14_480_000, "answered_bytes": 14_480_000, "packets": 10_100, "mtu": 1500, "resent_segments": 0,
               "netmon_bytes": 15_146_600, "kernel_bytes": 15_146_600, **changes}  # fmt: skip
    return account.Flow(name="rank 0 sent", headers=headers, **figures)  # type: ignore[arg-type]


def test_headers_are_those_of_the_packets_that_were_counted() -> None:
    exact = flow()
    assert exact.header_bytes == 10_100 * 66
    assert exact.expected_bytes == exact.kernel_bytes
    assert exact.off_ratio == 0
    assert account.agree([exact])


def test_packets_that_no_gradients_explain_are_no_overhead_of_theirs() -> None:
    assert flow(packets=10**6).header_bytes == 2 * 10_000 * 66
    assert not account.agree([flow(packets=10**6, netmon_bytes=80_480_000, kernel_bytes=80_480_000)])


def test_what_tcp_sent_again_explains_bytes_and_no_more() -> None:
    more = 15_146_600 + 1_000 * 1448
    assert not account.agree([flow(netmon_bytes=more, kernel_bytes=more)])
    explained = flow(netmon_bytes=more, kernel_bytes=more, resent_segments=1_000)
    assert (explained.resent_bytes, explained.off_ratio) == (1_448_000, 0)
    assert flow(resent_segments=1_000).resent_bytes == 0
    for unknown in ("resent_segments", "mtu"):
        assert not account.agree(
            [flow(**{"netmon_bytes": more, "kernel_bytes": more, "resent_segments": 1_000, unknown: None})]
        )
    assert flow(netmon_bytes=more, kernel_bytes=more, resent_segments=10**6).resent_bytes == 1_448_000


@pytest.mark.parametrize(
    ("netmon_bytes", "kernel_bytes", "agree"),
    [
        (15_146_600 * 101 // 100, 15_146_600, True),
        (15_146_600 * 103 // 100, 15_146_600, False),
        (15_146_600 * 97 // 100, 15_146_600, False),
        (14_000_000, 14_000_000, False),
        (0, 15_146_600, False),
        (None, 15_146_600, False),
    ],
)
def test_two_percent_are_allowed(netmon_bytes: int | None, kernel_bytes: int, agree: bool) -> None:
    one = flow(netmon_bytes=netmon_bytes, kernel_bytes=kernel_bytes)
    assert account.agree([flow(), one]) is agree
    assert ("unknown" in account.table([one], "ip -s link")[1]) is (netmon_bytes is None)


def test_a_ring_sends_twice_n_minus_1_nths() -> None:
    assert [account.ring_all_reduce_bytes(1200, ranks) for ranks in (1, 2, 3, 4)] == [0, 1200, 1600, 1800]
