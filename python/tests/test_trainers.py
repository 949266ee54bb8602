"""The integrations of trainers on packages of the same names and forms, and on torch; the real ones train in integrations/."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import netmon
from netmon import _imports, _shared, _training
from netmon.integrations import _watch
from netmon.integrations._phases import Phases
from netmon.integrations._wraps import Shared, Wrap

FAKES = {
    "transformers/__init__.py": "from .trainer import TrainerCallback\n",
    "transformers/trainer_callback.py": """
class TrainerCallback:
    def on_train_begin(self, args, state, control, **kwargs): pass
    def on_train_end(self, args, state, control, **kwargs): pass
    def on_log(self, args, state, control, **kwargs): pass
class CallbackHandler:
    def __init__(self, callbacks):
        self.callbacks = callbacks
    def on_log(self, args, state, control, logs, **kwargs):
        for callback in self.callbacks:
            callback.on_log(args, state, control, logs=logs, **kwargs)
class PrinterCallback(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **kwargs):
        logs.pop("total_flos", None)
        print(logs)
""",
    "transformers/trainer.py": """
import types
from .trainer_callback import CallbackHandler, TrainerCallback
class Trainer:
    def __init__(self, callbacks=(), main=True):
        self.callback_handler = CallbackHandler(list(callbacks))
        self.state = types.SimpleNamespace(global_step=0, is_world_process_zero=main, log_history=[])
    def add_callback(self, callback):
        self.callback_handler.callbacks.append(callback)
    def call(self, event, **kwargs):
        for callback in self.callback_handler.callbacks:
            getattr(callback, event)(None, self.state, None, **kwargs)
    def log(self, logs, start_time=None):
        logs["epoch"] = 0.5
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.callback_handler.on_log(None, self.state, None, logs)
    def evaluate(self):
        self.log({"eval_loss": 2.0})
    def _save_checkpoint(self, model, trial):
        if model == "full disk":
            raise OSError(model)
    def train(self, steps=2, model=None):
        self.call("on_train_begin")
        for step in range(1, steps + 1):
            self.state.global_step = step
            self.log({"loss": 1.0})
            self.evaluate()
            self._save_checkpoint(model, None)
        result = {"train_loss": 1.0}
        self.log(result)
        self.call("on_train_end")
        return result
""",
    "trl/trainer/grpo_trainer.py": """
from transformers.trainer import Trainer
class GRPOTrainer(Trainer):
    def _generate(self, prompts):
        return prompts
    def log(self, logs, start_time=None):
        self._generate(["a"])
        super().log({**logs, "reward": 3.0}, start_time)
""",
    "accelerate/__init__.py": "from .accelerator import Accelerator\n",
    "accelerate/accelerator.py": """
class Accelerator:
    def __init__(self, log_with, main=True):
        self.log_with, self.trackers, self.is_main_process = log_with, [], main
    def init_trackers(self, name):
        for tracker in self.log_with:
            self.trackers.append(tracker)
            tracker.start()
    def log(self, values, step=None, log_kwargs=None):
        if self.is_main_process:
            for tracker in self.trackers:
                tracker.log(values, step=step)
    def save_state(self, folder):
        return folder
    def end_training(self):
        for tracker in self.trackers:
            tracker.finish()
""",
    "accelerate/tracking.py": """
class GeneralTracker:
    def __init__(self):
        assert self.name and not self.requires_logging_directory and "tracker" in dir(self)
    def start(self): pass
    def log(self, values, step=None, **kwargs): pass
    def finish(self): pass
""",
    "deepspeed/__init__.py": "",
    "deepspeed/runtime/engine.py": """
class DeepSpeedEngine:
    global_rank = 0
    def __init__(self, monitor):
        self.monitor = monitor
    def save_checkpoint(self, folder):
        return folder
""",
    "lightning/__init__.py": "",
    "lightning/pytorch/trainer/trainer.py": """
class Trainer:
    def __init__(self, callbacks=()):
        self.callbacks = list(callbacks)
    def fit(self):
        return len(self.callbacks)
""",
    "lightning/pytorch/__init__.py": "class Callback:\n    pass\n",
    "verl/utils/tracking.py": """
class Tracking:
    def __init__(self):
        self.logged = []
    def log(self, data, step, backend=None):
        self.logged.append((data, step, backend))
""",
    "verl/utils/profiler/performance.py": """
from contextlib import contextmanager
@contextmanager
def marked_timer(name, timing_raw, color=None):
    yield
    timing_raw[name] = 1.0
""",
    "verl/utils/debug.py": "from .profiler.performance import marked_timer\n",
    "verl/utils/checkpoint/checkpoint_handler.py": """
class CheckpointHandler:
    def save_checkpoint(self, step):
        return step
""",
}
ROOTS = {name.partition("/")[0] for name in FAKES} | {"pytorch_lightning"}
OURS = tuple(f"netmon.integrations.{name}._" for name in ("transformers", "accelerate", "lightning"))


def forget() -> None:
    """Forget the packages, and what of netmon's derives from them."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ROOTS or name.startswith(OURS):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The packages, and a shared monitor as netmon run would start it; undone in the end."""
    for name, code in FAKES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for parent in path.relative_to(tmp_path).parents[:-1]:
            (tmp_path / parent / "__init__.py").touch()
        path.write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(_imports, "_warned", set())
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("NETMON_RUN", '{"interval": 0.05, "interfaces": ["lo"], "cluster": false}')
    before = list(sys.meta_path)
    forget()
    yield
    forget()
    sys.meta_path[:] = before
    _shared.close_shared_monitor()


def wait_for_values(monitor: netmon.Monitor) -> netmon.Monitor:
    """Wait for the first window: before, nothing is known."""
    end = time.monotonic() + 10
    while monitor.latest().drops_in_window is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return monitor


@pytest.fixture
def measured() -> netmon.Monitor:
    """The shared monitor, which has values already."""
    return wait_for_values(_training.training_begins())


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is not there."""

    def fail() -> None:
        raise netmon.LibraryError("there is no library")

    monkeypatch.setattr(_training, "training_begins", fail)


def warned(caplog: pytest.LogCaptureFixture) -> None:
    (record,) = caplog.records
    assert record.getMessage() == "netmon is not attached: LibraryError: there is no library; the training goes on without it"


def network(values: Any) -> set[str]:
    return {name for name in values if name.startswith("network/")}


# What they are made of


def test_phases_of_several_readers_are_measured_once_and_told_to_each():
    with netmon.Monitor(interfaces=["lo"], cluster=False) as monitor:
        one = Phases(monitor)
        one.begin("checkpoint")
        one.end("checkpoint")
        two = Phases(monitor)
        assert one.step()["checkpoint"].count == 1
        assert two.step() == {}, "it was over before"
        two.begin("checkpoint")
        one.begin("checkpoint")
        two.end("checkpoint")
        one.end("checkpoint")
        assert [reader.step()["checkpoint"].count for reader in (one, two)] == [1, 1]
        assert [reader.step() for reader in (one, two)] == [{}, {}]


def test_values_at_a_step_are_told_once_and_what_ended_since_later():
    with netmon.Monitor(interfaces=["lo"], interval=0.05, cluster=False) as monitor, _watch.Watch(monitor) as watch:
        wait_for_values(monitor)
        first = watch.new_values(1)
        assert "network/drops" in first
        with watch.phase("evaluate"):
            assert network(watch.new_values(1)) & network(first) == set()
        assert {"network/phase/evaluate/seconds", "network/phase/evaluate/bytes"} <= set(watch.new_values(1))
        assert "network/drops" in watch.new_values(2)
        assert "network/drops" in watch.new_values(None)
        assert "network/drops" in watch.new_values(None), "without a number each is a step of its own"
    assert watch.values(3) == {}, "it is over"
    with watch.phase("evaluate"):
        pass


def test_a_copy_measures_with_the_same_monitor_and_what_travels_with_the_other_processs_own():
    with netmon.Monitor(interfaces=["lo"], cluster=False) as monitor, _watch.Watch(monitor, nodes=True) as watch:
        for twin in (copy.copy(watch), copy.deepcopy(watch)):
            assert twin.monitor is None, "not started"
            with twin:
                assert twin.monitor is monitor
        with pickle.loads(pickle.dumps(watch)) as there:
            assert there.monitor is _shared.existing_monitor()
            assert there._nodes is True


def test_a_wrap_is_taken_away_and_one_below_another_does_nothing_any_more():
    class Owner:
        def method(self, x: int) -> int:
            return x

    original = Owner.method

    def twice(method: Any, arguments: Any, options: Any) -> Any:
        return 2 * method(*arguments, **options)

    wrap = Wrap(Owner, "method", twice)
    assert Owner().method(2) == 4
    wrap.undo()
    wrap.undo()
    assert Owner.method is original
    below = Wrap(Owner, "method", twice)
    Wrap(Owner, "method", twice)
    below.undo()
    assert Owner().method(2) == 4
    owner = Owner()
    wrap = Wrap(owner, "method", twice)
    assert owner.method(1) == 4
    wrap.undo()
    assert "method" not in vars(owner)


def test_shared_wraps_last_as_long_as_somebody_needs_them():
    class Owner:
        def method(self) -> int:
            return 1

    original = Owner.method
    shared = Shared(lambda: [Wrap(Owner, "method", lambda method, arguments, options: 5)])
    one, two = object(), object()
    shared.add(one)
    shared.add(one)
    shared.add(two)
    shared.remove(one)
    assert Owner().method() == 5
    shared.remove(one)
    shared.remove(two)
    assert Owner.method is original


# Packages that are not there


@pytest.mark.parametrize(
    ("module", "name", "package"),
    [
        ("transformers", "NetmonCallback", "transformers"),
        ("accelerate", "NetmonTracker", "accelerate"),
        ("lightning", "NetmonCallback", "lightning"),
    ],
)
def test_a_missing_package_is_a_sentence_when_it_is_used(monkeypatch, module, name, package):
    for root in (package, "pytorch_lightning", "lightning.pytorch"):
        monkeypatch.setitem(sys.modules, root, None)
    cls = getattr(importlib.import_module(f"netmon.integrations.{module}"), name)
    with pytest.raises(netmon.UnsupportedError) as caught:
        cls()
    says = f"netmon.integrations.{module} needs {package}, which is not installed: pip install 'libnetmon[{module}]'"
    assert str(caught.value) == says


def test_deepspeed_that_is_missing_or_given_something_else(monkeypatch):
    from netmon.integrations.deepspeed import watch

    with pytest.raises(netmon.InvalidArgumentError, match="engine is a SimpleNamespace; it must be"):
        watch(SimpleNamespace())
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(netmon.UnsupportedError, match=r"pip install 'libnetmon\[deepspeed\]'"):
        watch(SimpleNamespace())


def test_importing_imports_none_of_them():
    for name in ("transformers", "accelerate", "deepspeed", "lightning", "verl"):
        importlib.import_module(f"netmon.integrations.{name}")
    assert not ROOTS & {name.partition(".")[0] for name in sys.modules}
    assert _shared.existing_monitor() is None


# transformers and TRL


class Told:
    """A tracker of the Trainer's."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.rows.append({**logs, "step": state.global_step})

    def on_train_begin(self, *arguments: Any, **options: Any) -> None:
        self.rows.clear()

    def on_train_end(self, *arguments: Any, **options: Any) -> None: ...


def callback(**options: Any) -> Any:
    return importlib.import_module("netmon.integrations.transformers").NetmonCallback(**options)


@pytest.mark.usefixtures("measured")
def test_logs_of_a_trainer_have_the_network_and_its_methods_are_its_own_afterwards(capsys):
    trainers = importlib.import_module("transformers.trainer")
    callbacks = importlib.import_module("transformers.trainer_callback")
    classes = (trainers.Trainer, callbacks.CallbackHandler, callbacks.PrinterCallback)
    before = [dict(vars(cls)) for cls in classes]
    # Trackers come before the callbacks of the user, printers after them; here also between.
    first, last = Told(), Told()
    trainer = trainers.Trainer([first, callbacks.PrinterCallback(), callback(), last])
    result = trainer.train()
    assert result == {"train_loss": 1.0, "epoch": 0.5}, "what the trainer returns is its own"
    logs = first.rows
    assert [log["step"] for log in logs] == [1, 1, 2, 2, 2]
    assert last.rows == logs
    assert not any(network(log) for log in trainer.state.log_history), "checkpoints keep it"
    printed = capsys.readouterr().out
    assert printed.count("'loss'") == 2
    assert "network/" not in printed
    assert "network/drops" in logs[0]
    assert "network/drops" not in logs[1]
    assert {"network/phase/evaluate/seconds", "network/phase/checkpoint/bytes", "network/drops"} <= set(logs[2])
    assert {"network/phase/evaluate/seconds", "network/phase/checkpoint/seconds"} <= set(logs[4]), "of the last step"
    assert [dict(vars(cls)) for cls in classes] == before


@pytest.mark.usefixtures("measured")
def test_only_the_main_process_logs_and_a_trainer_without_the_callback_is_left_alone():
    trainers = importlib.import_module("transformers.trainer")
    inner = trainers.Trainer()

    class Nested(trainers.TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 1:
                inner.train()

    told, other = Told(), Told()
    inner.add_callback(other)
    trainer = trainers.Trainer([callback(), Nested(), told], main=False)
    trainer.train()
    assert told.rows
    assert other.rows
    assert not any(network(log) for log in told.rows + other.rows)
    monitor = _shared.existing_monitor()
    assert monitor is not None
    assert {phase.name: phase.count for phase in monitor.sample().phases or ()} == {"evaluate": 2, "checkpoint": 2}


@pytest.mark.usefixtures("measured")
def test_an_exception_of_the_training_passes_and_the_next_one_works():
    trainers = importlib.import_module("transformers.trainer")
    told = Told()
    trainer = trainers.Trainer([callback(), told])
    with pytest.raises(OSError, match="full disk"):
        trainer.train(model="full disk")
    trainer.train()
    assert network(told.rows[-1])


@pytest.mark.usefixtures("measured")
def test_generation_of_grpo_is_a_phase():
    trainer = importlib.import_module("trl.trainer.grpo_trainer").GRPOTrainer([callback(), told := Told()])
    trainer.train(steps=1)
    assert told.rows[0]["reward"] == 3.0
    assert "network/phase/generation/seconds" in told.rows[0]


@pytest.mark.usefixtures("measured")
def test_a_callback_travels():
    one = callback(nodes=True)
    for twin in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        trainer = importlib.import_module("transformers.trainer").Trainer([twin, told := Told()])
        trainer.train()
        assert network(told.rows[0])
    assert one.watch.monitor is None


@pytest.mark.usefixtures("broken")
def test_a_trainer_without_the_library(caplog):
    trainer = importlib.import_module("transformers.trainer").Trainer([callback(), told := Told()])
    trainer.train()
    assert len(told.rows) == 5
    assert not any(network(log) for log in told.rows)
    warned(caplog)


def test_netmon_run_gives_a_trainer_the_callback_once():
    _imports.install()
    trainers = importlib.import_module("transformers.trainer")
    assert _shared.existing_monitor() is None, "nothing trains yet"
    trainer = trainers.Trainer([told := Told()])
    trainer.train()
    monitor = _shared.existing_monitor()
    assert monitor is not None
    wait_for_values(monitor)
    for _ in range(2):
        trainer.train()
        assert network(told.rows[0])
    assert len(trainer.callback_handler.callbacks) == 2
    own = trainers.Trainer([callback()])
    own.train()
    assert len(own.callback_handler.callbacks) == 1


# accelerate


class Kept:
    name, requires_logging_directory, tracker = "kept", False, None

    def __init__(self) -> None:
        self.rows: list[tuple[dict[str, Any], Any]] = []

    def start(self) -> None:
        pass

    def log(self, values: dict[str, Any], step: Any = None, **options: Any) -> None:
        self.rows.append((values, step))

    def finish(self) -> None:
        pass


def accelerator(main: bool = True) -> tuple[Any, Kept, Any]:
    package = importlib.import_module("accelerate")
    kept, ours = Kept(), importlib.import_module("netmon.integrations.accelerate").NetmonTracker()
    made = package.Accelerator([kept, ours], main)
    made.init_trackers("x")
    return made, kept, ours


@pytest.mark.usefixtures("measured")
def test_trackers_of_an_accelerator_have_the_network():
    package = importlib.import_module("accelerate")
    before = dict(vars(package.Accelerator))
    made, kept, ours = accelerator()
    assert ours.tracker is _shared.existing_monitor()
    mine = {"loss": 1.0, "network/errors": -1.0}
    made.log(mine, step=3)
    made.log(values={"eval_loss": 1.0}, step=3)
    assert made.save_state("f") == "f"
    made.log({"loss": 2.0}, 4)
    assert mine == {"loss": 1.0, "network/errors": -1.0}
    first, second, third = kept.rows
    assert first[0].items() > mine.items()
    assert second == ({"eval_loss": 1.0}, 3)
    assert third[1] == 4
    assert {"loss", "network/drops", "network/phase/checkpoint/seconds"} <= set(third[0])
    made.end_training()
    assert dict(vars(package.Accelerator)) == before


@pytest.mark.usefixtures("measured")
def test_another_process_of_an_accelerator_logs_nothing():
    made, kept, _ = accelerator(main=False)
    made.log({"loss": 1.0}, step=1)
    assert kept.rows == []


@pytest.mark.usefixtures("broken")
def test_an_accelerator_without_the_library(caplog):
    made, kept, ours = accelerator()
    made.log({"loss": 1.0}, step=3)
    assert kept.rows == [({"loss": 1.0}, 3)]
    assert ours.tracker is None
    warned(caplog)


# DeepSpeed


class Engine:
    global_rank = 0

    def __init__(self, enabled: bool = True) -> None:
        self.written: list[tuple[str, float, int]] = []
        self.monitor = SimpleNamespace(enabled=enabled, write_events=self.written.extend)

    def save_checkpoint(self, folder: str) -> str:
        return folder


@pytest.mark.usefixtures("measured")
def test_the_monitor_of_an_engine_writes_the_network():
    from netmon.integrations.deepspeed import watch

    engine = Engine()
    write = engine.monitor.write_events
    events = [("Train/Samples/lr", 0.1, 64)]
    with watch(engine) as watched:
        engine.monitor.write_events(events)
        assert engine.save_checkpoint("f") == "f"
        engine.monitor.write_events([("Train/Samples/lr", 0.1, 128)])
        engine.monitor.write_events([])
        for call in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="watch the other engine"):
                call(watched)
    assert events == [("Train/Samples/lr", 0.1, 64)]
    assert network(name for name, _, samples in engine.written if samples == 64) >= {"network/drops"}
    assert "network/phase/checkpoint/seconds" in {name for name, _, samples in engine.written if samples == 128}
    assert engine.monitor.write_events is write
    assert "save_checkpoint" not in vars(engine)


def test_an_engine_whose_monitor_is_off(caplog):
    from netmon.integrations.deepspeed import watch

    with watch(Engine(enabled=False)):
        pass
    (record,) = caplog.records
    assert "enable tensorboard, wandb, csv_monitor or comet" in record.getMessage()


@pytest.mark.usefixtures("broken")
def test_an_engine_without_the_library(caplog):
    from netmon.integrations.deepspeed import watch

    engine = Engine()
    with watch(engine):
        engine.monitor.write_events([("Train/Samples/lr", 0.1, 64)])
    assert engine.written == [("Train/Samples/lr", 0.1, 64)]
    warned(caplog)


# Lightning


class LightningTrainer:
    """What a Trainer of Lightning's calls, in its order."""

    def __init__(self, callback: Any, main: bool = True) -> None:
        self.callback, self.is_global_zero, self.log_every_n_steps, self.sanity_checking = callback, main, 2, True
        self.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=0))
        self.rows: list[tuple[dict[str, float], int]] = []
        self.loggers = [SimpleNamespace(log_metrics=lambda values, step: self.rows.append((values, step)))]

    def save_checkpoint(self, file: str) -> str:
        return file

    def fit(self) -> None:
        self.callback.on_fit_start(self, None)
        self.evaluate()
        self.sanity_checking = False
        for batch in range(4):
            self.fit_loop.epoch_loop._batches_that_stepped = batch
            for _ in range(2):  # of which gradients are gathered
                self.callback.on_train_batch_end(self, None, None, None, batch)
        self.evaluate()
        assert self.save_checkpoint("f") == "f"
        self.callback.on_fit_end(self, None)
        self.callback.teardown(self, None, "fit")

    def evaluate(self) -> None:
        self.callback.on_validation_start(self, None)
        self.callback.on_validation_end(self, None)


def lightning_callback() -> Any:
    return importlib.import_module("netmon.integrations.lightning").NetmonCallback()


@pytest.mark.usefixtures("measured")
def test_loggers_of_lightning_have_the_network():
    callback = lightning_callback()
    trainer = LightningTrainer(pickle.loads(pickle.dumps(callback)))
    trainer.fit()
    assert [step for _, step in trainer.rows] == [1, 3, 3]
    assert "network/drops" in trainer.rows[0][0]
    phases = {"network/phase/evaluate/seconds", "network/phase/checkpoint/seconds"}
    assert not phases & set(trainer.rows[0][0]), "its trial before the training is none"
    assert phases <= set(trainer.rows[2][0])
    assert "network/drops" not in trainer.rows[2][0]
    assert "save_checkpoint" not in vars(trainer)
    other = LightningTrainer(copy.deepcopy(callback), main=False)
    other.fit()
    assert other.rows == []


@pytest.mark.usefixtures("broken")
def test_lightning_without_the_library(caplog):
    trainer = LightningTrainer(lightning_callback())
    trainer.fit()
    assert trainer.rows == []
    warned(caplog)


# netmon run, in all of these


def test_netmon_run_gives_an_accelerator_a_tracker_if_it_has_trackers():
    _imports.install()
    package = importlib.import_module("accelerate")
    nothing = package.Accelerator([])
    nothing.init_trackers("x")
    assert nothing.trackers == []
    assert _shared.existing_monitor() is None
    kept = Kept()
    made = package.Accelerator([kept])
    made.init_trackers("x")
    wait_for_values(made.trackers[1].tracker)
    made.log({"loss": 1.0}, step=1)
    made.end_training()
    assert network(kept.rows[0][0])
    own = importlib.import_module("netmon.integrations.accelerate").NetmonTracker()
    made = package.Accelerator([own])
    made.init_trackers("x")
    assert made.trackers == [own]
    made.end_training()


def test_netmon_run_gives_a_trainer_of_lightning_a_callback():
    _imports.install()
    trainer = importlib.import_module("lightning.pytorch.trainer.trainer").Trainer()
    assert [trainer.fit(), trainer.fit()] == [1, 1]


@pytest.mark.usefixtures("measured")
def test_netmon_run_watches_an_engine_until_somebody_else_does(caplog):
    from netmon.integrations.deepspeed import watch

    _imports.install()
    cls = importlib.import_module("deepspeed.runtime.engine").DeepSpeedEngine
    cls(SimpleNamespace(enabled=False))
    assert caplog.records == [], "nothing was asked for"
    written: list[tuple[str, float, int]] = []
    engine = cls(SimpleNamespace(enabled=True, write_events=written.extend))
    engine.monitor.write_events([("lr", 0.1, 64)])
    names = [name for name, _, _ in written]
    assert len(names) == len(set(names)) > 1
    written.clear()
    with watch(engine):
        engine.monitor.write_events([("lr", 0.1, 128)])
    names = [name for name, _, _ in written]
    assert len(names) == len(set(names)) > 1
    written.clear()
    engine.monitor.write_events([("lr", 0.1, 192)])
    assert written == [("lr", 0.1, 192)]


# verl


@pytest.fixture
def fresh_state(monkeypatch: pytest.MonkeyPatch) -> None:
    from netmon.integrations.openrlhf import _state

    for name, value in (("_phases", None), ("_values", None), ("_failed", False)):
        monkeypatch.setattr(_state, name, value)


@pytest.mark.usefixtures("fresh_state")
@pytest.mark.parametrize("early", [True, False])
def test_verl(early):
    if early:
        _imports.install()
    debug = importlib.import_module("verl.utils.debug")
    tracking = importlib.import_module("verl.utils.tracking").Tracking()
    handler = importlib.import_module("verl.utils.checkpoint.checkpoint_handler").CheckpointHandler()
    _imports.install()
    times: dict[str, float] = {}
    with debug.marked_timer("gen", times, color="red"), debug.marked_timer("start_profile", times):
        pass
    with pytest.raises(ValueError, match="7"), debug.marked_timer("rollouter/validate", times):
        raise ValueError(7)
    assert handler.save_checkpoint(3) == 3
    data = {"actor/loss": 1.0}
    tracking.log(data=data, step=5)
    assert times == {"gen": 1.0, "start_profile": 1.0}
    assert data == {"actor/loss": 1.0}
    (row, step, backend) = tracking.logged[0]
    assert (row["actor/loss"], step, backend) == (1.0, 5, None)
    phases = {name.split("/")[2] for name in row if name.startswith("network/phase/")}
    assert phases == {"generation", "rollouter_validate", "checkpoint"}


# torch


@contextmanager
def process_group() -> Iterator[Any]:
    distributed = pytest.importorskip("torch.distributed")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        yield distributed
    finally:
        distributed.destroy_process_group()


@pytest.mark.torch
def test_a_loop_of_torch():
    torch = pytest.importorskip("torch")
    from netmon.integrations.torch import watch

    with netmon.Monitor(interfaces=["lo"], interval=0.05, cluster=False) as monitor, process_group() as distributed:
        with watch(monitor) as watched:
            distributed.all_reduce(torch.ones(4))
            with watched.phase("checkpoint"):
                wait_for_values(monitor)
            values = watched.values(1)
            assert watched.values(1) == values, "another tracker at the same step"
            assert {"network/drops", "network/phase/checkpoint/seconds"} <= set(values)
            watched._attachment.flush()
            assert {row.op: row.count for row in monitor.sample().collectives or ()} == {"all_reduce": 1}
        distributed.all_reduce(torch.ones(4))
        assert {row.op: row.count for row in monitor.sample().collectives or ()} == {"all_reduce": 1}, "it is over"
        assert not monitor.closed


@pytest.mark.torch
@pytest.mark.usefixtures("broken")
def test_a_loop_of_torch_without_the_library(caplog):
    pytest.importorskip("torch")
    from netmon.integrations.torch import watch

    with watch() as watched, watched.phase("checkpoint"):
        assert watched.values(1) == {}
        assert watched.monitor is None
    warned(caplog)
