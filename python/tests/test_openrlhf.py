"""netmon.integrations.openrlhf on a package of the same names and forms; the real one trains in integrations/."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import netmon
from netmon import _imports, _shared, _training
from netmon.integrations._flat import FlatValues
from netmon.integrations._phases import Account, Phases
from netmon.integrations.openrlhf import _hooks, _loggers, _state

FAKE = {
    "trainer/ppo_utils/samples_generator": "class SamplesGenerator:\n    def generate_samples(self, n):\n        return n\n",
    "utils/agent": (
        "import asyncio\n"
        "class SingleTurnAgentExecutor:\n"
        "    async def execute(self, x):\n        await asyncio.sleep(0)\n        return x\n"
        "class MultiTurnAgentExecutor(SingleTurnAgentExecutor):\n"
        "    async def execute(self, x):\n        return -x\n"
    ),
    "trainer/ppo_utils/experience_maker": (
        "class RemoteExperienceMaker:\n    def make_experience_batch(self, x):\n        raise ValueError(x)\n"
    ),
    "trainer/ray/ppo_actor": (
        "class ActorPPOTrainer:\n    def ppo_train(self, kl_ctl):\n        return {'kl': kl_ctl}\n"
        "    def broadcast_to_vllm(self):\n        pass\n"
    ),
    "trainer/ray/ppo_critic": "class CriticPPOTrainer:\n    def ppo_train(self):\n        pass\n",
    "trainer/ray/vllm_worker_wrap": (
        "class WorkerWrap:\n    def update_weight(self, name):\n        pass\n"
        "    def update_weight_cuda_ipc(self, name):\n        pass\n"
    ),
    "utils/deepspeed/deepspeed": (
        "class DeepspeedStrategy:\n    def save_ckpt(self):\n        pass\n    def save_model(self):\n        pass\n"
    ),
    "utils/logging_utils": (
        "class TensorboardLogger:\n    def __init__(self, writer):\n        self.writer = writer\n"
        "    def log_train(self, global_step, logs_dict):\n"
        "        for k, v in logs_dict.items():\n            self.writer.add_scalar(f'train/{k}', v, global_step)\n"
        "class WandbLogger:\n    def __init__(self, handle):\n        self.handle = handle\n"
        "    def log_train(self, global_step, logs_dict):\n"
        "        if logs_dict.pop('generated_samples', None):\n"
        "            self.handle.log({'train/generated_samples': self.handle.Table()})\n"
        "        self.handle.log({**{f'train/{k}': v for k, v in logs_dict.items()}, 'train/global_step': global_step})\n"
    ),
} | {
    f"trainer/{name}_trainer": (
        f"class {cls}:\n    def __init__(self, strategy, wandb, tensorboard):\n"
        "        self.strategy, self._wandb, self._tensorboard = strategy, wandb, tensorboard\n"
        "    def save_logs_and_checkpoints(self, args, global_step, step_bar, logs_dict=None, client_states=None):\n"
        "        return logs_dict\n"
    )
    for name, cls in (("sft", "SFTTrainer"), ("rm", "RewardModelTrainer"), ("dpo", "DPOTrainer"))
}


def write(folder: Path, files: dict[str, str], version: str = "0.11.2") -> None:
    for name, code in files.items():
        path = folder / "openrlhf" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        for parent in path.relative_to(folder).parents:
            if str(parent) != ".":
                (folder / parent / "__init__.py").touch()
        path.write_text(code)
    info = folder / f"openrlhf-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: openrlhf\nVersion: {version}\n")


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that holds the package, and netmon waiting for its modules; undone in the end."""
    before = list(sys.meta_path)
    monkeypatch.setattr(_imports, "_warned", set())
    monkeypatch.setattr(_hooks, "_checked", False)
    monkeypatch.setattr(_loggers, "_defined", [])
    for name in ("_phases", "_values", "_nodes"):
        monkeypatch.setattr(_state, name, None)
    monkeypatch.setattr(_state, "_failed", False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("NETMON_RUN", '{"interval": 0.1, "interfaces": ["lo"], "cluster": false, "nodes": true}')
    monkeypatch.syspath_prepend(str(tmp_path))
    _imports.install()
    yield tmp_path
    _shared.close_shared_monitor()
    sys.meta_path[:] = before
    for name in [name for name in sys.modules if name.partition(".")[0] == "openrlhf"]:
        del sys.modules[name]


def load(module: str) -> Any:
    return importlib.import_module(f"openrlhf.{module}")


def counts() -> dict[str, int]:
    monitor = _shared.existing_monitor()
    assert monitor is not None
    phases = monitor.sample().phases
    assert phases is not None
    return {phase.name: phase.count for phase in phases}


class Writer:
    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int]] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))


class Run:
    """W&B: rows are what was logged up to a commit."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = [{}]
        self.metrics: list[tuple[str, str]] = []

    def Table(self) -> str:  # noqa: N802 - its name
        return "table"

    def define_metric(self, name: str, step_metric: str, step_sync: bool) -> None:
        self.metrics.append((name, step_metric))

    def log(self, values: dict[str, Any], commit: bool = True) -> None:
        self.rows[-1] |= values
        if commit:
            self.rows.append({})


def test_importing_starts_nothing(waiting):
    write(waiting, FAKE)
    for name in FAKE:
        load(name.replace("/", "."))
    assert _shared.existing_monitor() is None
    assert _hooks.missing() == []


def test_phases_are_what_runs_in_them(waiting):
    write(waiting, FAKE)
    assert load("trainer.ppo_utils.samples_generator").SamplesGenerator().generate_samples(3) == 3
    with pytest.raises(ValueError, match="7"):
        load("trainer.ppo_utils.experience_maker").RemoteExperienceMaker().make_experience_batch(7)
    actor = load("trainer.ray.ppo_actor").ActorPPOTrainer()
    assert actor.ppo_train(0.5) == {"kl": 0.5}
    actor.broadcast_to_vllm()
    for _ in range(3):
        load("trainer.ray.vllm_worker_wrap").WorkerWrap().update_weight("w")
    load("utils.deepspeed.deepspeed").DeepspeedStrategy().save_ckpt()
    assert counts() == {"generation": 1, "make_experience": 1, "ppo_train": 1, "broadcast": 4, "checkpoint": 1}


def test_coroutines_stay_coroutines_and_are_one_phase_while_they_overlap(waiting):
    write(waiting, FAKE)
    executor = load("utils.agent").SingleTurnAgentExecutor
    assert inspect.iscoroutinefunction(executor.execute)

    async def together() -> list[int]:
        return await asyncio.gather(*(executor().execute(x) for x in range(8)))

    assert asyncio.run(together()) == list(range(8))
    assert counts() == {"generation": 1}


def test_wrapped_once(waiting):
    write(waiting, FAKE)
    module = load("trainer.ray.ppo_actor")
    method = module.ActorPPOTrainer.ppo_train
    _hooks.imported(module)
    _hooks.install()
    assert module.ActorPPOTrainer.ppo_train is method


def test_tensorboard(waiting):
    write(waiting, FAKE)
    load("trainer.ray.ppo_actor").ActorPPOTrainer().broadcast_to_vllm()
    writer = Writer()
    logger = load("utils.logging_utils").TensorboardLogger(writer)
    assert logger.writer is writer
    logger.log_train(4, {"reward": 1.0})
    logger.log_train(5, {"reward": 2.0})
    assert ("train/reward", 1.0, 4) in writer.scalars
    at_4 = {name for name, _, step in writer.scalars if step == 4}
    assert {"network/phase/broadcast/seconds", "network/phase/broadcast/bytes"} < at_4
    at_5 = {name for name, _, step in writer.scalars if step == 5}
    assert not any(name.startswith("network/phase/") for name in at_5), "there was no phase since the last step"
    assert all(isinstance(value, float) for name, value, _ in writer.scalars if name.startswith("network/"))


def test_who_makes_a_logger_begins_to_measure(waiting):
    """Round trips take a while: those of the first step are measured before it is logged."""
    write(waiting, FAKE)
    module = load("utils.logging_utils")
    assert _shared.existing_monitor() is None
    module.WandbLogger(handle=None)
    assert _shared.existing_monitor() is not None


def test_wandb_has_one_row_a_step(waiting):
    write(waiting, FAKE)
    run = Run()
    logger = load("utils.logging_utils").WandbLogger(run)
    load("trainer.ray.ppo_actor").ActorPPOTrainer().ppo_train(0)
    logger.log_train(4, {"reward": 1.0})
    logger.log_train(5, {"reward": 2.0})
    first, second, rest = run.rows
    assert first["train/reward"] == 1.0
    assert first["train/global_step"] == 4
    assert first["network/phase/ppo_train/seconds"] >= 0
    assert second["train/reward"] == 2.0
    assert rest == {}
    assert run.metrics == [("network/*", "train/global_step")]
    assert logger.handle is run


def test_wandb_has_them_in_the_row_of_the_step_where_there_are_samples_too(waiting):
    """PPO logs a table of samples first, in a row of its own."""
    write(waiting, FAKE)
    run = Run()
    logger = load("utils.logging_utils").WandbLogger(run)
    load("trainer.ray.ppo_actor").ActorPPOTrainer().ppo_train(0)
    logger.log_train(4, {"reward": 1.0, "generated_samples": ["text", 0.5]})
    samples, step, rest = run.rows
    assert samples == {"train/generated_samples": "table"}
    assert {"train/reward", "train/global_step", "network/phase/ppo_train/seconds"} <= set(step)
    assert rest == {}


def test_a_row_that_wandb_refuses_raises_as_without(waiting):
    write(waiting, FAKE)
    run = Run()
    logger = load("utils.logging_utils").WandbLogger(run)
    load("trainer.ray.ppo_actor").ActorPPOTrainer().ppo_train(0)
    run.log = lambda row: 1 / 0  # type: ignore[method-assign, assignment]
    with pytest.raises(ZeroDivisionError):
        logger.log_train(4, {"reward": 1.0})
    assert logger.handle is run


@pytest.mark.parametrize(("module", "cls"), [("sft", "SFTTrainer"), ("rm", "RewardModelTrainer"), ("dpo", "DPOTrainer")])
def test_trainers_that_log_themselves(waiting, module, cls):
    write(waiting, FAKE)
    args = SimpleNamespace(logger=SimpleNamespace(logging_steps=2))
    for rank_0, step, logged in ((True, 2, True), (True, 3, False), (False, 2, False)):
        writer = Writer()
        trainer = getattr(load(f"trainer.{module}_trainer"), cls)(SimpleNamespace(is_rank_0=lambda r=rank_0: r), None, writer)
        load("utils.deepspeed.deepspeed").DeepspeedStrategy().save_model()
        assert trainer.save_logs_and_checkpoints(args, step, None, {"loss": 1}) == {"loss": 1}
        assert bool(writer.scalars) is logged
        if logged:
            assert "network/phase/checkpoint/seconds" in {name for name, _, _ in writer.scalars}
    # Before 0.11 arguments were flat.
    writer = Writer()
    load("utils.deepspeed.deepspeed").DeepspeedStrategy().save_model()
    trainer = getattr(load(f"trainer.{module}_trainer"), cls)(SimpleNamespace(is_rank_0=lambda: True), None, writer)
    trainer.save_logs_and_checkpoints(SimpleNamespace(logging_steps=2), 6, None, {"loss": 1})
    trainer.save_logs_and_checkpoints(SimpleNamespace(logging_steps=2), 7, None, {"loss": 1})
    assert {step for _, _, step in writer.scalars} == {6}
    # A tracker that is not logged in is one that raises: the training does not see it from here.
    trainer = getattr(load(f"trainer.{module}_trainer"), cls)(SimpleNamespace(is_rank_0=lambda: True), object(), None)
    assert trainer.save_logs_and_checkpoints(args, 4, None, {"loss": 1}) == {"loss": 1}


def test_what_another_version_lacks_is_named_once(waiting, caplog):
    files = dict(FAKE)
    del files["trainer/dpo_trainer"]
    files["trainer/ray/ppo_actor"] = "class ActorPPOTrainer:\n    def broadcast(self):\n        pass\n"
    write(waiting, files, version="0.12.0")
    load("trainer.ray.ppo_actor").ActorPPOTrainer().broadcast()
    assert not any(name.startswith("openrlhf.utils") for name in sys.modules), "nothing is imported to find that out"
    load("trainer.sft_trainer")
    (record,) = caplog.records
    assert record.getMessage() == (
        "netmon knows OpenRLHF 0.11.x; in OpenRLHF 0.12.0 it cannot hook ppo_actor.ActorPPOTrainer.ppo_train, "
        "ppo_actor.ActorPPOTrainer.broadcast_to_vllm, dpo_trainer.DPOTrainer.save_logs_and_checkpoints; the rest is hooked"
    )
    load("trainer.ppo_utils.samples_generator").SamplesGenerator().generate_samples(1)
    assert counts() == {"generation": 1}


def test_what_another_0_11_lacks_is_named_too(waiting, caplog):
    write(waiting, {**FAKE, "trainer/ray/ppo_critic": "class CriticPPOTrainer:\n    pass\n"}, version="0.11.9")
    load("trainer.ray.ppo_critic")
    (record,) = caplog.records
    assert record.getMessage() == (
        "netmon knows OpenRLHF 0.11.x; in OpenRLHF 0.11.9 it cannot hook ppo_critic.CriticPPOTrainer.ppo_train; "
        "the rest is hooked"
    )


def test_values_that_cannot_be_logged_are_not_said_to_be_a_monitor_that_is_not_attached(waiting, caplog):
    write(waiting, FAKE)
    trainer = load("trainer.sft_trainer").SFTTrainer(SimpleNamespace(is_rank_0=lambda: True), None, object())
    load("utils.deepspeed.deepspeed").DeepspeedStrategy().save_model()
    trainer.save_logs_and_checkpoints(SimpleNamespace(logging_steps=1), 1, None, {"loss": 1})
    (record,) = caplog.records
    assert record.getMessage() == (
        "the network is not logged: AttributeError: 'object' object has no attribute 'add_scalar'; "
        "the training goes on without it"
    )


def test_without_the_library_the_training_goes_on(waiting, monkeypatch, caplog):
    def broken() -> None:
        raise netmon.LibraryError("there is no library")

    monkeypatch.setattr(_training, "training_begins", broken)
    write(waiting, FAKE)
    writer = Writer()
    for step in range(3):
        load("trainer.ray.ppo_actor").ActorPPOTrainer().ppo_train(0)
        load("utils.logging_utils").TensorboardLogger(writer).log_train(step, {"reward": 1.0})
    assert {name for name, _, _ in writer.scalars} == {"train/reward"}
    (record,) = caplog.records
    assert record.getMessage() == ("netmon is not attached: LibraryError: there is no library; the training goes on without it")


class Ray:
    """A cluster of several jobs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.actors: dict[str, dict[str, Any]] = {}
        self.util = SimpleNamespace(get_node_ip_address=lambda: "10.99.0.1")
        self.JobID = SimpleNamespace(from_hex=lambda text: f"JobID({text})")
        state = SimpleNamespace(actors=self._actors)
        monkeypatch.setitem(sys.modules, "ray", self)
        monkeypatch.setitem(sys.modules, "ray._private.state", state)

    WORKER_MODE = 1

    def is_initialized(self) -> bool:
        return True

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_job_id=lambda: "01", get_task_name=lambda: "PPOTrainer.fit", worker=SimpleNamespace(mode=1))

    def put(self, *addresses: str, name: str = "", job: str = "JobID(01)", state: str = "ALIVE") -> None:
        for address in addresses:
            self.actors[str(len(self.actors))] = {"Address": {"IPAddress": address}, "Name": name, "job": job, "State": state}

    def _actors(self, job_id: str, actor_state_name: str) -> dict[str, dict[str, Any]]:
        wanted = (job_id, actor_state_name)
        return {key: actor for key, actor in self.actors.items() if (actor["job"], actor["State"]) == wanted}


def test_the_jobs_nodes_are_probed_and_no_others(waiting, monkeypatch):
    fake = Ray(monkeypatch)
    fake.put("10.99.0.1", "10.99.0.2", "10.99.0.2")
    fake.put("10.99.0.77", job="JobID(02)")
    fake.put("10.99.0.78", state="DEAD")
    fake.put("10.99.0.79", name="netmon-cluster")
    told: list[list[str]] = []
    nodes: list[Any] = []
    monkeypatch.setattr(netmon.Monitor, "set_job", lambda self, peers: told.append(peers))
    monkeypatch.setattr(netmon.Monitor, "cluster", lambda self: SimpleNamespace(sequence=0, nodes=nodes, problem=None))
    _state.will_log()
    assert told == [["10.99.0.2"]]
    nodes += [SimpleNamespace(name=f"h{i}", state="live") for i in range(3)]
    fake.put("10.99.0.3")
    _state.values(1)
    assert told.pop() == ["10.99.0.2", "10.99.0.3"], "a node has joined the view"
    fake.put("10.99.0.4")
    _state.values(2)
    assert len(told) == 1, "the view has the same nodes"
    nodes[2].state = "gone"
    fake.actors = {}
    _state.values(3)
    assert told.pop() == [], "nobody is left to be probed"


# Over processes


class Said:
    """A monitor of which only what is said to others is of interest."""

    def __init__(self, *notes: dict[str, Any]) -> None:
        self.notes = [json.dumps(note).encode() for note in notes]
        self.left: list[bytes] = []

    def sample(self) -> Any:
        return SimpleNamespace(host=SimpleNamespace(boot_id="here", network_namespace=1))

    def _leave_note(self, note: bytes) -> None:
        self.left.append(note)

    def _notes(self, seconds: float) -> dict[int, bytes]:
        return dict(enumerate(self.notes))


def note(process: str, node: str, *account: Any) -> dict[str, Any]:
    return {"process": process, "node": node, "phases": {"broadcast": [*account]}}


def test_each_node_counts_once_and_each_byte_once():
    said = Said(
        note("a", "here/1", 1, 2.0, 10, 1000, 0.2),
        note("b", "here/1", 1, 3.0, 20, 900, 0.6),
        note("c", "there/2", 4, 1.0, 1005, 15, 0.9),
    )
    said.notes.append(b"of another version")
    phases = Phases(said)  # type: ignore[arg-type]
    phases._ended = True
    (account,) = phases.step().values()
    assert account == Account(4, 3.0, 1025, 1015, 0.9)
    assert account.bytes == 1025
    assert phases.step() == {}, "nothing new"
    said.notes = [json.dumps(note("c", "there/2", 6, 1.5, 1105, None, 1.0)).encode()]
    phases._ended = True
    (account,) = phases.step().values()
    assert (account.count, account.receive_bytes, account.transmit_bytes) == (2, 100, None)
    assert account.seconds == pytest.approx(0.5)


def test_the_newest_note_of_a_process_counts_in_whichever_order_they_come():
    """Between two readings a phase ends: the board has an older note of a process than it has itself, or a newer one."""
    older, newer = note("a", "here/1", 1, 2.0, 100, 100, None), note("a", "here/1", 3, 3.0, 300, 300, None)
    for notes in ((older, newer), (newer, older)):
        for older["phases"]["broadcast"][4] in (None, 0.1, 0.2, 0.3):  # other hashes
            said = Said(*notes)
            phases = Phases(said)  # type: ignore[arg-type]
            phases._ended = True
            assert phases.step() == {"broadcast": Account(3, 3.0, 300, 300, None)}
            phases._ended = True
            assert phases.step() == {}


def test_unknown_is_absent():
    started = SimpleNamespace(uptime_seconds=1.0)
    monitor = SimpleNamespace(
        cluster=lambda: SimpleNamespace(sequence=0, nodes=()),
        sample=lambda: SimpleNamespace(
            totals=None, tcp=None, probes=(), findings=None, phases=None, job=None, window_seconds=None, self=started
        ),
    )
    assert FlatValues(monitor).at(1) == {}  # type: ignore[arg-type]
