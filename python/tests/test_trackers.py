"""Loggers of trackers, on trackers of the tests' own; the real ones are in integrations/."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import netmon
from netmon import _shared, _training
from netmon.integrations import trackers
from netmon.integrations.trackers import _logger

KEYS = {"network/receive_bytes_per_second", "network/transmit_bytes_per_second", "network/drops", "network/errors"}


@pytest.fixture
def monitor() -> Iterator[netmon.Monitor]:
    with netmon.Monitor(interval=0.05, interfaces=["lo"], cluster=False) as monitor:
        until(lambda: monitor.latest().window_ns is not None)
        yield monitor


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


class Writer:
    """A SummaryWriter that can be held up."""

    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int, float]] = []
        self.free = threading.Event()
        self.free.set()
        self.flushed = 0

    def add_scalar(self, name: str, value: float, step: int, walltime: float) -> None:
        assert self.free.wait(60)
        self.scalars.append((name, value, step, walltime))

    def flush(self) -> None:
        self.flushed += 1


class Run:
    """A run of W&B: rows are what was logged up to a commit."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = [{}]
        self.metrics: list[tuple[str, str | None, bool]] = []
        self.finished = 0

    def define_metric(self, name: str, step_metric: str | None = None, hidden: bool = False) -> None:
        self.metrics.append((name, step_metric, hidden))

    def log(self, values: dict[str, Any], step: int | None = None, commit: bool = True) -> None:
        assert step is None
        self.rows[-1] |= values
        if commit:
            self.rows.append({})

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A package wandb without a run."""
    module = SimpleNamespace(run=None)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_values_for_any_tracker(monitor):
    with trackers.Logger(monitor) as logger:
        found = logger.values(1)
        assert found.keys() >= KEYS
        assert logger.values(1) == found
        assert logger.problem is None
        logger.log(2)
    assert logger.values(3) == {}, "it was closed"


def test_asking_waits_for_nothing(monitor, monkeypatch):
    """Measuring hangs: the thread waits, and not who asks."""
    logger = trackers.Logger(monitor)
    hung, free = threading.Event(), threading.Event()

    def hang() -> None:
        hung.set()
        assert free.wait(60)

    monkeypatch.setattr(logger._values, "prepare", hang)
    assert hung.wait(10)
    begin = time.monotonic()
    assert logger.values(5).keys() >= KEYS
    logger.log(6)
    assert time.monotonic() - begin < 1
    free.set()
    logger.close()


def test_tensorboard_gets_each_step_from_a_thread_of_its_own(monitor):
    writer = Writer()
    writer.free.clear()
    with trackers.TensorboardLogger(writer, monitor) as logger:
        begin = time.monotonic()
        for step in range(20):
            logger.log(step)
        assert time.monotonic() - begin < 1, "the writer is stuck, the training is not"
        assert writer.scalars == []
        after = time.time()
        writer.free.set()
    for step in range(20):
        assert {name for name, _, at, _ in writer.scalars if at == step} >= KEYS
    assert all(when <= after for _, _, _, when in writer.scalars), "of when it was logged"
    assert writer.flushed == 1
    assert not [thread.name for thread in threading.enumerate() if thread.name == "netmon-tracker"]


def test_what_a_tracker_does_not_take_is_told_and_left_behind(monitor, monkeypatch, caplog):
    monkeypatch.setattr(_logger, "_CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(_logger, "_MOST_STEPS", 3)
    writer = Writer()
    writer.free.clear()
    logger = trackers.TensorboardLogger(writer, monitor)
    logger.log(0)
    until(logger._rows.empty)  # the thread is at it
    for step in range(1, 6):
        logger.log(step)
    assert logger.problem == "ResourceError: 3 steps wait to be written; step 5 is left out"
    logger.close()
    assert logger.problem == "TimedOutError: what was logged is not written after 0.1 s; 3 steps are lost"
    (record,) = caplog.records
    assert record.getMessage().startswith("netmon's TensorBoard logger: ResourceError: 3 steps wait to be written; step ")
    writer.free.set()
    logger._threads[-1].join(10)
    assert not logger._threads[-1].is_alive(), "it ends when the tracker lets it"


def test_a_tracker_that_raises_is_one_warning(monitor, caplog):
    writer = Writer()

    def broken(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    writer.add_scalar = broken  # type: ignore[method-assign]
    with trackers.TensorboardLogger(writer, monitor) as logger:
        for step in range(3):
            logger.log(step)
        until(lambda: logger.problem is not None)
        assert logger.problem == "OSError: [Errno 28] No space left on device"
    (record,) = caplog.records
    assert record.getMessage() == (
        "netmon's TensorBoard logger: OSError: [Errno 28] No space left on device; the training goes on"
    )


def test_wandb_is_given_no_rows_and_no_steps(monitor, wandb):
    wandb.run = run = Run()
    with trackers.WandbLogger(monitor=monitor) as logger:
        for step in (10, 20):
            logger.log(step)
            run.log({"loss": 1.0})
    first, second, rest = run.rows
    assert (first["network/step"], first["loss"], second["network/step"], rest) == (10, 1.0, 20, {})
    assert first.keys() >= KEYS
    assert run.metrics == [("network/step", None, True), ("network/*", "network/step", False)]
    assert run.finished == 0, "it is the training's"


def test_wandb_over_the_trainings_own_step(monitor, wandb):
    run = Run()
    with trackers.WandbLogger(run, monitor, step_metric="train/global_step") as logger:
        logger.log(7)
    assert run.rows[0].keys() >= KEYS
    assert not run.rows[0].keys() & {"train/global_step", "network/step"}, "the training writes its own"
    assert run.metrics == [("network/*", "train/global_step", False)]


def test_wandb_begins_a_run_where_there_is_none(monitor, wandb):
    run = Run()
    asked = {}

    def init(**options: Any) -> Run:
        asked.update(options)
        return run

    wandb.init = init
    with trackers.WandbLogger(monitor=monitor, project="demo") as logger:
        logger.log(1)
    assert asked == {"project": "demo"}
    assert run.finished == 1


def test_wandb_without_a_login_is_one_warning(monitor, wandb, caplog):
    def init(**_: Any) -> None:
        raise RuntimeError("No API key configured.")

    wandb.init = init
    with trackers.WandbLogger(monitor=monitor) as logger:
        for step in range(3):
            logger.log(step)
        assert logger.problem.startswith("No API key configured. Nothing is logged")
    (record,) = caplog.records
    assert record.getMessage() == (
        "netmon's W&B logger: No API key configured. Nothing is logged: call wandb login, or set WANDB_MODE=offline; "
        "the training goes on"
    )


def test_a_closed_monitor_has_no_values_and_is_no_warning(monitor, caplog, monkeypatch):
    monkeypatch.setattr(_logger, "_PREPARE_SECONDS", 0.01)
    writer = Writer()
    with trackers.TensorboardLogger(writer, monitor) as logger:
        monitor.close()
        until(lambda: logger.problem is not None)
        assert logger.problem == "the monitor was closed"
        logger.log(1)
    assert writer.scalars == [], "what was measured before says nothing of now"
    assert not caplog.records


def test_a_monitor_that_is_closed_already_raises_nothing():
    with netmon.Monitor(cluster=False) as monitor:
        pass
    with trackers.Logger(monitor) as logger:
        assert logger.values(1) == {}
        assert logger.problem == "the monitor was closed"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_logs_nothing(monitor):
    writer = Writer()
    with trackers.TensorboardLogger(writer, monitor) as logger:
        child = os.fork()
        if child == 0:
            logger.log(1)
            logger.close()
            os._exit(0 if logger.values(2) == {} and not logger._rows.qsize() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        logger.log(3)
    assert {step for _, _, step, _ in writer.scalars} == {3}


def test_the_processes_shared_monitor_is_used():
    try:
        with trackers.Logger() as logger:
            assert logger._values._monitor is _shared.existing_monitor()
    finally:
        _shared.close_shared_monitor()


def test_without_the_library_the_training_goes_on(monkeypatch, caplog, wandb):
    def broken() -> None:
        raise netmon.LibraryError("there is no library")

    monkeypatch.setattr(_training, "training_begins", broken)
    wandb.run = Run()
    for make in (lambda: trackers.TensorboardLogger(Writer()), trackers.WandbLogger):
        caplog.clear()
        with make() as logger:
            logger.log(1)
            assert logger.values(2) == {}
            assert logger.problem == "LibraryError: there is no library"
        (record,) = caplog.records
        assert record.getMessage().endswith("logger: LibraryError: there is no library; the training goes on")
    assert wandb.run.rows == [{}]


@pytest.mark.parametrize(
    ("module", "extra", "make"),
    [
        ("wandb", "wandb", trackers.WandbLogger),
        ("mlflow", "mlflow", trackers.MlflowLogger),
        ("tensorboard", "tensorboard", lambda: trackers.TensorboardLogger("runs")),
    ],
)
def test_without_the_package_the_sentence_has_the_command(module, extra, make, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(netmon.UnsupportedError, match="which is not installed: pip install") as raised:
        make()
    assert str(raised.value).endswith(f"needs {module}, which is not installed: pip install 'libnetmon[{extra}]'")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("netmon-")]


def test_the_extras_are_those_that_the_sentences_name():
    from pathlib import Path

    project = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    section = project.partition("[project.optional-dependencies]\n")[2].partition("\n\n")[0]
    extras = {line.partition(" =")[0] for line in section.splitlines()}
    assert extras >= {"mlflow", "opentelemetry", "prometheus", "tensorboard", "wandb"}


SCRIPT = """
import sys, netmon
from netmon.integrations.trackers import TensorboardLogger
class Writer:
    steps = set()
    def add_scalar(self, name, value, step, walltime): self.steps.add(step)
    def flush(self): print(sorted(self.steps))
logger = TensorboardLogger(Writer(), netmon.Monitor(interval=0.05))
for step in range(5): logger.log(step)
"""


def test_what_was_logged_is_written_when_the_process_ends():
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[0, 1, 2, 3, 4]\n", "")
