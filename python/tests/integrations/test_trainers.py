"""The examples of trainers, with the real packages, and what their trackers hold afterwards."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import openrlhf_jobs as jobs
import pytest

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[2] / "examples"
RUN = [sys.executable, "-m", "netmon", "run", "--interval", "0.1", "--cluster-interval", "0.2"]
VERL = Path(sys.prefix) / "verl"

ALWAYS = {f"network/{name}" for name in ("receive_bytes_per_second", "transmit_bytes_per_second", "drops", "errors")}
JOB = ALWAYS | {"network/nodes"}

Series = dict[str, dict[int, float]]
Train = Callable[..., str]


def needs(*packages: str) -> pytest.MarkDecorator:
    absent = [package for package in packages if find_spec(package) is None]
    return pytest.mark.skipif(bool(absent), reason=f"needs {', '.join(absent)}: make test-integrations")


def environment(work: Path, **more: str) -> dict[str, str]:
    # Without OpenRLHF's shims.
    return {**jobs.environment(work), "PYTHONPATH": str(jobs.PACKAGE), "GLOO_SOCKET_IFNAME": "lo", **more}


@pytest.fixture
def train(namespace: str, tmp_path: Path) -> Train:
    """Train in a namespace with a loopback interface of its own, and return what was printed."""

    def run(*command: str | Path, ranks: int = 0, options: tuple[str, ...] = ("--interfaces", "lo"), **more: str) -> str:
        launcher: list[str] = [sys.executable]
        if ranks:
            launcher += ["-m", "torch.distributed.run", "--nproc_per_node", str(ranks), "--master_port", "29614"]
        done = subprocess.run(
            ["ip", "netns", "exec", namespace, *RUN, *options, "--", *launcher, *map(str, command)],
            env=environment(tmp_path, **more), cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    return run


def logged(work: Path) -> Series:
    """Return what TensorBoard's files hold."""
    command = [sys.executable, HERE / "events.py", work]
    done = subprocess.run(command, env=environment(work), check=True, capture_output=True, text=True, timeout=300)
    return {name: dict(points) for name, points in json.loads(done.stdout).items()}


def check(found: Series, steps: set[int], keys: set[str], prefix: str = "") -> None:
    """Every key at every step."""
    for key in keys:
        assert set(found.get(prefix + key, {})) == steps, (prefix + key, sorted(found))


# transformers and TRL


HUGGING_FACE = {"loss", "grad_norm", "learning_rate", "epoch"}


@needs("transformers", "accelerate")
def test_transformers_on_two_hosts(make_lab, tmp_path):
    one, two = make_lab(2).hosts
    processes, logs = [], [tmp_path / "one.log", tmp_path / "two.log"]
    for number, (host, log) in enumerate(zip((one, two), logs, strict=True)):
        rendezvous = ["--nnodes", "2", "--node_rank", str(number), "--nproc_per_node", "1"]
        rendezvous += ["--master_addr", one.address, "--master_port", "29615"]
        command = [
            *RUN,
            "--nodes",
            "--",
            *jobs.torchrun(*rendezvous),
            str(EXAMPLES / "transformers" / "train.py"),
            str(tmp_path),
        ]
        with log.open("w") as file:
            given = environment(tmp_path, GLOO_SOCKET_IFNAME="eth0")
            processes.append(host.start(*command, env=given, cwd=tmp_path, stdout=file, stderr=file))
    codes = [process.wait(400) for process in processes]
    said = logs[0].read_text()
    assert codes == [0, 0], said[-3000:] + logs[1].read_text()[-3000:]
    found = logged(tmp_path)
    steps = {1, 2, 3, 4, 5, 6}
    check(found, steps, JOB | HUGGING_FACE, "train/")
    check(found, {3, 6}, {"eval/loss", "eval/runtime"})
    assert set(found["train/network/nodes"].values()) == {2.0}
    assert max(found["train/network/transmit_bytes_per_second"].values()) > 10_000
    assert len([name for name in found if name.startswith("train/network/node/") and name.endswith("/drops")]) == 2
    # Those of step 3 are logged with step 4; those of step 6 with the summary, which is at step 6 too.
    for phase in ("evaluate", "checkpoint"):
        assert set(found[f"train/network/phase/{phase}/seconds"]) == {4, 6}
    assert "train/network/phase/evaluate/bytes" in found
    assert "netmon is not" not in said


def check_trl(found: Series, own: set[str], phases: set[str]) -> None:
    check(found, {1, 2, 3, 4, 5, 6}, ALWAYS | own, "train/")
    for phase in phases:
        check(found, {1, 2, 3, 4, 5, 6}, {f"network/phase/{phase}/seconds"}, "train/")
    assert set(found["train/network/phase/checkpoint/seconds"]) == {4, 6}


@needs("trl")
def test_sft_of_trl_without_an_edit(train, tmp_path):
    log = train(HERE / "zero_edit.py", EXAMPLES / "trl" / "train.py", "sft", tmp_path, ranks=2)
    found = logged(tmp_path)
    check_trl(found, {"loss", "mean_token_accuracy"}, set())
    check(found, {1, 2, 3, 4, 5, 6}, {"network/nodes"}, "train/")
    assert max(found["train/network/transmit_bytes_per_second"].values()) > 1000, "gradients, over loopback"
    assert "netmon is not" not in log


@needs("trl")
@pytest.mark.parametrize(("kind", "own", "phases"), [("dpo", {"rewards/margins"}, set()), ("grpo", {"reward"}, {"generation"})])
def test_trl(train, tmp_path, kind, own, phases):
    train(EXAMPLES / "trl" / "train.py", kind, tmp_path)
    check_trl(logged(tmp_path), own, phases)


@needs("transformers", "accelerate")
def test_the_training_goes_on_without_the_library(train, tmp_path):
    broken = tmp_path / "libnetmon.so"
    broken.write_text("no library")
    log = train(EXAMPLES / "transformers" / "train.py", tmp_path, NETMON_LIBRARY=str(broken))
    found = logged(tmp_path)
    check(found, {1, 2, 3, 4, 5, 6}, HUGGING_FACE, "train/")
    assert not any("network/" in name for name in found)
    assert log.count("netmon is not attached: LibraryError") == 1


# Others


@needs("torch", "tensorboard")
def test_torch(train, tmp_path):
    train(EXAMPLES / "torch" / "train.py", tmp_path, ranks=2)
    found = logged(tmp_path)
    check(found, set(range(20)), {"loss", *JOB})
    assert set(found["network/phase/checkpoint/seconds"]) == {9, 19}
    assert max(found["network/transmit_bytes_per_second"].values()) > 100_000, "a megabyte of gradients a step"


@needs("accelerate")
def test_accelerate(train, tmp_path):
    train(EXAMPLES / "accelerate" / "train.py", tmp_path, ranks=2, ACCELERATE_USE_CPU="true")
    found = logged(tmp_path)
    check(found, set(range(20)), {"loss", *JOB})
    assert set(found["network/phase/checkpoint/seconds"]) == {8, 18}


@needs("deepspeed")
def test_deepspeed(train, tmp_path):
    train(EXAMPLES / "deepspeed" / "train.py", tmp_path, ranks=2)
    found = logged(tmp_path)
    samples = {128 * step for step in range(1, 21)}
    check(found, samples, {"Train/Samples/lr", *JOB})
    assert set(found["network/phase/checkpoint/seconds"]) == {1280, 2560}
    rows = (tmp_path / "csv" / "network_transmit_bytes_per_second.csv").read_text().splitlines()
    assert rows[0] == "step,transmit_bytes_per_second"
    assert len(rows) == 21


@needs("accelerate", "deepspeed")
@pytest.mark.parametrize("trainer", ["accelerate", "deepspeed"])
def test_without_an_edit(train, tmp_path, trainer):
    train(HERE / "zero_edit.py", EXAMPLES / trainer / "train.py", tmp_path)
    found = logged(tmp_path)
    steps = set(found["loss" if trainer == "accelerate" else "Train/Samples/lr"])
    check(found, steps, ALWAYS)
    assert len(found["network/phase/checkpoint/seconds"]) == 2


def check_lightning(folder: Path, keys: set[str]) -> None:
    with (folder / "lightning_logs" / "version_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for key in {"loss", *keys}:
        assert {int(row["step"]) for row in rows if row.get(key)} == set(range(20)), key
    assert {int(row["step"]) for row in rows if row["eval_loss"]} == {9, 19}
    phases = [row for row in rows if row["network/phase/evaluate/seconds"]]
    assert [int(row["step"]) for row in phases] == [10, 19], "its trial before the training is none"
    assert {int(row["step"]) for row in rows if row["network/phase/checkpoint/seconds"]} == {10, 19}


@needs("lightning")
def test_lightning(train, tmp_path):
    train(EXAMPLES / "lightning" / "train.py", tmp_path, "2", MASTER_ADDR="127.0.0.1", MASTER_PORT="29616")
    check_lightning(tmp_path, JOB)


@needs("pytorch_lightning")
def test_lightning_by_its_other_name_without_an_edit(train, tmp_path):
    code = (EXAMPLES / "lightning" / "train.py").read_text()
    code = code.replace("import lightning\n", "import pytorch_lightning as lightning\n")
    code = code.replace("from lightning.pytorch.", "from pytorch_lightning.")
    script = tmp_path / "train.py"
    script.write_text(code)
    train(HERE / "zero_edit.py", script, tmp_path)
    check_lightning(tmp_path, ALWAYS)


@pytest.mark.skipif(not VERL.is_dir(), reason="needs verl: make test-integrations")
def test_verl(train, tmp_path):
    """Not an edit, and on processors by verl's own way to add a platform."""
    folders = os.pathsep.join([str(VERL), str(jobs.PACKAGE)])
    log = train(EXAMPLES / "verl" / "train.py", tmp_path, "2", "--interfaces", "lo", PYTHONPATH=folders)
    found = logged(tmp_path)
    check(found, {1, 2, 3, 4}, {"train/loss", "train/lr", *ALWAYS})
    assert set(found["network/phase/checkpoint/seconds"]) == {3}, "that of step 2; after step 4 nothing is logged"
    assert "netmon is not" not in log
