"""What the package is to its host process: interrupted at any moment, forked, and running for long, it does no harm."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import netmon

TESTS = Path(__file__).parent
LONG = os.environ.get("NETMON_LONG") == "1"


def run(*arguments: str, prefix: tuple[str, ...] = (), timeout: float = 120, **options: Any) -> str:
    """Run Python in a process of its own, which has to end well and in time, and return what it printed."""
    # Python 3.12 and newer warn of any fork with threads, which a host with a monitor has.
    command = [*prefix, sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


# Ctrl-C


def check_interrupts(answer: dict[str, Any]) -> None:
    assert answer.pop("thrown away") == []
    assert answer.pop("lost") == 0, "monitors that nobody knows of and nobody can close"
    for call, delays in answer.items():
        # One that came late is the machine's doing.
        assert delays[len(delays) * 9 // 10] < 0.1, (call, delays)
        assert delays[-1] < 1, (call, delays)


def test_interrupted_at_any_moment():
    """Ctrl-C is answered within 0.1 s, never swallowed, and loses no monitor, whatever is going on."""
    calls = ["sample", "latest", "history", "stats", "health", "set_job", "probe", "probe that waits", "trace"]
    calls += ["bandwidth", "bandwidth that waits", "phase", "with", "close", "drop"]
    answer = json.loads(run(str(TESTS / "interrupts.py"), "500" if LONG else "40", "0.01", *calls))
    assert set(answer) == {*calls, "lost", "thrown away"}
    check_interrupts(answer)


def test_interrupted_among_many_interfaces(namespace):
    """50 samples of 400 interfaces are 15 MB of text."""
    links = "".join(f"link add veth{i} type veth peer name peer{i}\n" for i in range(200))
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input=links, text=True, check=True, timeout=60)
    inside = ("ip", "netns", "exec", namespace)
    check_interrupts(json.loads(run(str(TESTS / "interrupts.py"), "15", "0.2", "history", prefix=inside)))


# Time


def test_flat():
    """Three threads read and a fourth opens and closes: descriptors, threads and memory stay where they are."""
    seconds = 60 if LONG else 5
    answer = json.loads(run(str(TESTS / "flat.py"), str(seconds), timeout=seconds + 60))
    assert answer["failures"] == []
    assert answer["opened"] > 20 * seconds
    grown = {name: answer["after"][name] - value for name, value in answer["before"].items()}
    assert grown["descriptors"] <= 0, answer
    # The Go runtime starts a thread more where the machine was busy; it starts no thousand.
    assert grown["threads"] <= 2, answer
    assert grown["kibibytes"] < 4096, answer


def test_opened_and_closed_many_times():
    code = (
        "import netmon, os, sys, time\n"
        "def used():\n"
        "    status = dict(l.split(':', 1) for l in open('/proc/self/status'))\n"
        "    return len(os.listdir('/proc/self/fd')), int(status['Threads']), int(status['VmRSS'].split()[0])\n"
        "def repeat(times):\n"
        "    for _ in range(times): netmon.Monitor(interval=0.01).close()\n"
        "repeat(int(sys.argv[1]) // 4)\n"
        "before = used()\n"
        "repeat(int(sys.argv[1]))\n"
        # close() waits 0.1 s at most: on a busy machine the last monitor's threads end a little later.
        "limit = time.monotonic() + 20\n"
        "while True:\n"
        "    after = used()\n"
        "    grown = [b - a for a, b in zip(before, after)]\n"
        "    if grown[0] <= 0 and grown[1] <= 2: break\n"
        "    assert time.monotonic() < limit, (before, after)\n"
        "    time.sleep(0.01)\n"
        "assert grown[2] < 4096, (before, after)\n"
    )
    run("-W", "ignore::ResourceWarning", "-c", code, "10000" if LONG else "400")


# Forks


CHILD = """
import os, sys, time, netmon
monitor = netmon.Monitor(interval=0.01)

def child(number):
    began = time.monotonic()
    snapshot = monitor.latest()
    read = time.monotonic() - began
    try:
        sample = monitor.sample().sequence
        assert monitor.health().status == "ok"
        with netmon.Monitor(interval=0.01) as own:
            own.sample()
    except netmon.ForkedProcessError as error:
        sample = str(error)
    return snapshot.sequence, read, sample, time.monotonic() - began
"""


@pytest.mark.parametrize("way", ["pool", "executor", "from a thread", "busy"])
def test_multiprocessing_by_fork(way):
    """Children read what the parent measures and sample by themselves, at once."""
    code = {
        "pool": "with context.Pool(4) as pool: answers = pool.map(child, range(16))",
        "executor": (
            "import concurrent.futures as c\n"
            "with c.ProcessPoolExecutor(4, mp_context=context) as pool: answers = list(pool.map(child, range(16)))"
        ),
        "from a thread": (
            "import threading\n"
            "answers = []\n"
            "def start():\n"
            "    with context.Pool(2) as pool: answers.extend(pool.map(child, range(8)))\n"
            "thread = threading.Thread(target=start); thread.start(); thread.join()"
        ),
        "busy": (
            "import threading\n"
            "stop = threading.Event()\n"
            "def work():\n"
            "    while not stop.is_set(): monitor.sample(); netmon.Monitor(interval=0.01).close()\n"
            "threads = [threading.Thread(target=work) for _ in range(3)]\n"
            "for thread in threads: thread.start()\n"
            "with context.Pool(4) as pool: answers = pool.map(child, range(16))\n"
            "stop.set()\n"
            "for thread in threads: thread.join()"
        ),
    }[way]
    out = run("-c", f"{CHILD}\nimport json, multiprocessing\ncontext = multiprocessing.get_context('fork')\n{code}\n"
              "monitor.sample(); monitor.close(); print(json.dumps(answers))")  # fmt: skip
    answers = json.loads(out)
    assert len(answers) >= 8
    for sequence, read, sample, all_of_it in answers:
        assert sequence >= 1
        assert read < 0.5
        # A parent whose threads load libraries at the moment of the fork can leave the loader locked; then there is a sentence.
        assert isinstance(sample, int) or (way == "busy" and "private copy" in sample), sample
        assert all_of_it < 5


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing_without_fork(tmp_path, method):
    """A monitor does not travel, and says so; the other process makes its own."""
    (tmp_path / "job.py").write_text(
        "import multiprocessing, sys, netmon\n"
        "def work(queue):\n"
        "    with netmon.Monitor(interval=0.01) as monitor: queue.put(monitor.sample().sequence)\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context(sys.argv[1])\n"
        "    with netmon.Monitor(interval=0.01) as monitor:\n"
        "        try: context.Process(target=work, args=(monitor,)).start()\n"
        "        except TypeError as error: print(error)\n"
        "        queue = context.Queue()\n"
        "        process = context.Process(target=work, args=(queue,)); process.start()\n"
        "        assert queue.get(timeout=60) >= 2\n"
        "        process.join(60); assert process.exitcode == 0\n"
        "        monitor.sample()\n"
    )
    out = run(str(tmp_path / "job.py"), method)
    assert out.startswith("a netmon.Monitor cannot be pickled or copied"), out


def test_monitor_is_not_pickled():
    with netmon.Monitor(interval=3600) as monitor, pytest.raises(TypeError, match="make one in the other process"):
        pickle.dumps(monitor)


ENDS = {
    "os._exit": "os._exit(0)",
    "sys.exit": "sys.exit(0)",
    "close and sys.exit": "monitor.close(); sys.exit(0)",
    "sample and sys.exit": "monitor.sample(); sys.exit(0)",
    "exception": "os.close(2); raise ValueError",
    "killed": "os.kill(os.getpid(), 9)",
    "exec": "os.execv('/bin/true', ['true'])",
    "interrupted": "import signal; os.close(2); signal.raise_signal(signal.SIGINT)",
}


def test_ends_of_children_do_not_disturb_the_parent():
    """However a child ends, the parent's monitor goes on: no sample is missing, no descriptor is lost."""
    code = f"""
import os, sys, time, netmon
monitor = netmon.Monitor(interval=0.01)
monitor.sample()
descriptors = os.listdir("/proc/self/fd")
for end in {list(ENDS.values())!r}:
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            exec(end)
        os.waitpid(pid, 0)
        sequence = monitor.latest().sequence
        assert monitor.sample().sequence > sequence
        limit = time.monotonic() + 10
        while monitor.latest().sequence <= sequence + 1:
            assert time.monotonic() < limit, f"after {{end}} the loop stands still"
            time.sleep(0.001)
health = monitor.health()
assert (health.status, health.problems) == ("ok", ()), health
now = os.listdir("/proc/self/fd")
# One more may be there: the socket by which the kernel is asked of children's connections, opened once there are children.
assert set(now) >= set(descriptors) and len(now) <= len(descriptors) + 1, (descriptors, now)
"""
    run("-c", code)


def test_child_that_cannot_have_a_copy_of_the_library(tmp_path):
    """The library's file is gone: the child reads on, and everything else is a sentence, at once."""
    library = tmp_path / "libnetmon.so"
    shutil.copy(netmon.get_library(), library)
    code = CHILD + (
        "os.unlink(netmon.get_library())\n"
        "if os.fork() == 0:\n"
        "    sequence, read, sample, all_of_it = child(0)\n"
        "    print(sequence >= 1, read < 0.5, all_of_it < 2, sample, flush=True)\n"
        "    monitor.close()\n"
        "    os._exit(0)\n"
        "os.wait(); monitor.sample()\n"
    )
    out = run("-c", code, env={**os.environ, "NETMON_LIBRARY": str(library)})
    assert out.startswith("True True True this process was forked from one that uses netmon, and a private copy"), out
    assert "netmon_latest" in out


@pytest.mark.torch
def test_data_loader_whose_worker_dies_or_is_interrupted(tmp_path):
    """torch says that its worker died, Ctrl-C ends the loading, and the monitor goes on through both."""
    pytest.importorskip("torch")
    script = tmp_path / "load.py"
    script.write_text(
        "import warnings; warnings.simplefilter('ignore')\n"
        "import os, signal, sys, threading, time, torch, netmon\n"
        "monitor = netmon.Monitor(interval=0.01)\n"
        "class Data(torch.utils.data.Dataset):\n"
        "    def __init__(self, at_ten): self.at_ten = at_ten\n"
        "    def __len__(self): return 100000\n"
        "    def __getitem__(self, i):\n"
        "        if i == 10: self.at_ten()\n"
        "        return torch.tensor([monitor.latest().sequence, monitor.sample().sequence])\n"
        "def load(at_ten):\n"
        "    how = dict(batch_size=2, num_workers=3, multiprocessing_context='fork')\n"
        "    for batch in torch.utils.data.DataLoader(Data(at_ten), **how):\n"
        "        assert (batch >= 1).all()\n"
        "def die(): os.kill(os.getpid(), signal.SIGKILL)\n"
        # A terminal interrupts the whole group: the parent and its workers, which leave that to the parent.
        "def interrupt(): os.killpg(0, signal.SIGINT)\n"
        "try: load(die)\n"
        "except RuntimeError as error: print('exited unexpectedly' in str(error) or 'killed' in str(error), flush=True)\n"
        "monitor.sample()\n"
        "try: load(interrupt)\n"
        "except KeyboardInterrupt: print('interrupted', flush=True)\n"
        "assert monitor.health().status == 'ok'\n"
        "monitor.close()\n"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False, start_new_session=True
    )
    assert (done.returncode, done.stdout) == (0, "True\ninterrupted\n"), done.stderr
    assert time.monotonic() - began < 60
