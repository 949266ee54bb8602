"""The real W&B, TensorBoard and MLflow: what their files hold afterwards. Nothing is sent: there is no network here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from events import _records, of_tensorboard

import netmon
from netmon.integrations import trackers

pytestmark = pytest.mark.namespaces
STEPS = range(0, 50, 10)
# Another user than root may be root of a namespace of its own.
ISOLATED = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
KEYS = {
    "network/receive_bytes_per_second",
    "network/transmit_bytes_per_second",
    "network/drops",
    "network/errors",
    "network/phase/weight_sync/seconds",
    "network/phase/weight_sync/bytes",
}


def train(folder: Path, make: str) -> str:
    """Train in a process without a network, with a logger and what it needs made by code; return what it printed."""
    code = f"""
import sys, time, warnings
import netmon
from netmon.integrations import trackers
folder = {str(folder)!r}
monitor = netmon.Monitor(interval=0.05, interfaces=["lo"], cluster=False)
time.sleep(0.3)
{make}
for step in {list(STEPS)!r}:
    with monitor.phase("weight_sync"):
        time.sleep(0.05)
    logger._prepare(logger._values)     # that each step has its own
    logger.log(step)
    own(step)
logger.close()
print(logger.problem)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "MLFLOW"))}
    environment |= {"HOME": str(folder), "WANDB_SILENT": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
    if subprocess.run([*ISOLATED, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made here")
    command = [*ISOLATED, sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=180, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def wandb_rows(folder: Path) -> list[dict[str, float]]:
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.rglob("*.wandb")
    rows = []
    for data in _records(file.read_bytes()):
        items = Record.FromString(data).history.item
        if items:
            rows.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


@pytest.mark.parametrize("metric", ["network/step", "train/global_step"])
@pytest.mark.parametrize(("steps", "order"), [("implicit", "before"), ("explicit", "before"), ("explicit", "after")])
def test_wandb_offline(tmp_path, steps, order, metric):
    """The values are in the training's own row of their step, and its own step metric is as it wrote it."""
    pytest.importorskip("wandb")
    at = ", step=step" if steps == "explicit" else ""  # W&B's own number of the row
    own = f"run.log({{'loss': 1.0 / (step + 1), 'train/global_step': step}}{at})"
    train(
        tmp_path,
        f"""
import wandb
run = wandb.init(project="demo", dir=folder, mode="offline")
logger = trackers.WandbLogger(monitor=monitor, step_metric={metric!r}, explicit_steps={steps == "explicit"})
if {order == "after"}:
    log = logger.log
    logger.log = lambda step: None
    def own(step):
        {own}
        log(step)
else:
    def own(step): {own}
""",
    )
    rows = wandb_rows(tmp_path)
    assert len(rows) == len(STEPS), "no row is lost, and none is added"
    for step, row in zip(STEPS, rows, strict=True):
        assert (row["loss"], row["train/global_step"]) == (1 / (step + 1), step)
        assert row.get("network/step") == (step if metric == "network/step" else None)
        assert row.keys() >= KEYS
        assert row["network/phase/weight_sync/seconds"] >= 0.05


def test_wandb_without_a_login(tmp_path):
    pytest.importorskip("wandb")
    begin = time.monotonic()
    said = train(tmp_path, "logger = trackers.WandbLogger(monitor=monitor, project='demo')\ndef own(step): pass")
    assert time.monotonic() - begin < 60
    assert "No API key configured" in said
    assert said.count("Nothing is logged: call wandb login, or set WANDB_MODE=offline; the training goes on") == 1


@pytest.mark.parametrize("own", [True, False])
def test_tensorboard(tmp_path, own):
    pytest.importorskip("tensorboard")
    if own:
        made = "logger = trackers.TensorboardLogger(folder + '/runs', monitor)\ndef own(step): pass"
    else:
        pytest.importorskip("torch")
        made = """
from torch.utils.tensorboard import SummaryWriter
writer = SummaryWriter(folder + "/runs")
logger = trackers.TensorboardLogger(writer, monitor)
def own(step): writer.add_scalar("loss", 1.0, step)
"""
    begin = time.time()
    assert train(tmp_path, made).endswith("None\n")
    found = of_tensorboard(tmp_path)
    for name in KEYS:
        assert [step for step, _ in found[name]] == list(STEPS), name
    assert all(value >= 0.05 for _, value in found["network/phase/weight_sync/seconds"])
    assert ("loss" in found) is not own
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = {file.parent for file in tmp_path.rglob("events.out.tfevents.*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    assert all(begin <= event.wall_time <= time.time() for event in events.Scalars("network/drops"))


def test_mlflow_file_store(tmp_path):
    pytest.importorskip("mlflow")
    said = train(
        tmp_path,
        """
import mlflow
mlflow.set_tracking_uri(f"file:{folder}/mlruns")
run = mlflow.start_run()
logger = trackers.MlflowLogger(monitor=monitor)
def own(step):
    mlflow.log_metric("loss", 1.0, step=step)
    with monitor.phase("eval, \N{GREEK SMALL LETTER MU}"): pass    # which MLflow refuses as it is
""",
    )
    assert said.rstrip().endswith("None")
    (folder,) = tmp_path.glob("mlruns/*/*/metrics")
    for name in KEYS:
        lines = [line.split() for line in (folder / name).read_text().splitlines()]
        assert [int(step) for _, _, step in lines] == list(STEPS), name
    (odd,) = folder.glob("network/phase/eval_ _-*")
    assert len((odd / "seconds").read_text().splitlines()) == len(STEPS) - 1
    assert len((folder / "loss").read_text().splitlines()) == len(STEPS)


def test_mlflow_without_a_run_and_without_a_store(tmp_path, monkeypatch, caplog):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with netmon.Monitor(cluster=False) as monitor:
        with pytest.raises(netmon.ConfigError, match=r"no run is active; call mlflow.start_run\(\) first, or give run_id"):
            trackers.MlflowLogger(monitor=monitor)
        (tmp_path / "no_folder").write_text("")
        with trackers.MlflowLogger("0123", monitor, tracking_uri=f"file:{tmp_path}/no_folder/runs") as logger:
            logger.log(1)
            assert logger.problem is not None
    (record,) = caplog.records
    assert record.getMessage().startswith("netmon's MLflow logger: ")
    assert record.getMessage().endswith("; the training goes on")


def test_mlflow_whose_server_is_not_there_holds_nobody_up(tmp_path):
    pytest.importorskip("mlflow")
    begin = time.monotonic()
    said = train(
        tmp_path,
        """
import time
logger = trackers.MlflowLogger("0123", monitor, tracking_uri="http://127.0.0.1:9")   # this namespace's own loopback is down
def own(step):
    global begin
    begin = time.monotonic()
    logger.log(step + 1)
    print("took", time.monotonic() - begin)
""",
    )
    assert all(float(line.split()[1]) < 0.5 for line in said.splitlines() if line.startswith("took"))
    assert time.monotonic() - begin < 90, "the end of the process waits 5 s for each of two"
    assert "are lost" in said
