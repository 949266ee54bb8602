"""The unmodified OpenRLHF under netmon run, on two hosts of the lab, and what its trackers hold afterwards."""

from __future__ import annotations

import hashlib
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import counters
import openrlhf_jobs as jobs
import pytest
from lab import Lab
from openrlhf_cluster import WITHOUT_RIGHTS, Cluster

HERE = Path(__file__).parent
RUN = [sys.executable, "-m", "netmon", "run", "--interval", "0.2", "--cluster-interval", "0.2"]
NODE = ["receive_bytes_per_second", "transmit_bytes_per_second", "utilization_ratio", "retransmit_ratio", "drops", "errors"]
# Known whenever the view of the job is there.
JOB = [f"network/{name}" for name in (*NODE, "nodes", "rtt_p50_seconds", "loss_ratio")]
PHASE = ["seconds", "bytes", "utilization_ratio"]

PACKAGE = find_spec("openrlhf")
assert PACKAGE is not None
assert PACKAGE.origin is not None
OPENRLHF = Path(PACKAGE.origin).parent

Series = dict[str, list[tuple[int, float]]]


@pytest.fixture(scope="module", autouse=True)
def unmodified() -> Iterator[None]:
    """OpenRLHF's files are the same before and after."""

    def digest() -> str:
        files = sorted(file for file in OPENRLHF.rglob("*") if file.is_file() and file.suffix != ".pyc")
        return hashlib.sha256(b"".join(str(file).encode() + file.read_bytes() for file in files)).hexdigest()

    before = digest()
    yield
    assert digest() == before


@pytest.fixture(scope="module")
def make_assets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    made: dict[int, Path] = {}

    def make(hidden_size: int = 64) -> Path:
        if hidden_size not in made:
            folder = made[hidden_size] = tmp_path_factory.mktemp(f"assets{hidden_size}")
            command = [sys.executable, HERE / "assets.py", folder, str(hidden_size)]
            subprocess.run(command, env=jobs.environment(folder), check=True, capture_output=True, timeout=300)
        return made[hidden_size]

    return make


def logged(work: Path) -> Series:
    command = [sys.executable, HERE / "events.py", work]
    done = subprocess.run(command, env=jobs.environment(work), check=True, capture_output=True, text=True, timeout=300)
    return json.loads(done.stdout)


def at(found: Series, name: str) -> dict[int, float]:
    assert name in found, sorted(found)
    return dict(found[name])


def environment(work: Path, **more: str) -> dict[str, str]:
    return {**jobs.environment(work), "GLOO_SOCKET_IFNAME": "eth0", **more}


def torchrun(lab: Lab, training: str, assets: Path, work: Path, *more: str, options: tuple[str, ...] = ()) -> str:
    """Train with a rank on each host, and return what the first one printed."""
    processes, logs = [], [work / f"{host.label}.log" for host in lab.hosts]
    for number, (host, log) in enumerate(zip(lab.hosts, logs, strict=True)):
        rendezvous = ["--nnodes", str(len(lab.hosts)), "--node_rank", str(number), "--nproc_per_node", "1"]
        rendezvous += ["--master_addr", lab.hosts[0].address, "--master_port", "29611"]
        command = [*RUN, *options, "--", *jobs.torchrun(*rendezvous), *jobs.arguments(training, assets, work), *more]
        with log.open("w") as file:
            processes.append(host.start(*command, env=environment(work), cwd=work, stdout=file, stderr=file))
    codes = [process.wait(600) for process in processes]
    assert codes == [0] * len(logs), "\n".join(log.read_text()[-3000:] for log in logs)
    return logs[0].read_text()


def warnings_in(log):
    """Return what netmon says in a log. Folders, as that of the environment, may have its name too."""
    return re.findall(r"^.*(?:netmon(?: is not|'s| knows|: )|the network is not logged|are not probed).*$", log, re.MULTILINE)


def test_sft(make_lab, make_assets, tmp_path):
    log = torchrun(make_lab(2), "train_sft", make_assets(64), tmp_path, options=("--nodes",))
    found = logged(tmp_path)
    assert {name for name in found if name.startswith("train/")} == {
        f"train/{name}" for name in ("gpt_loss", "lr", "grad_norm", "loss_mean")
    }
    steps = set(at(found, "train/gpt_loss"))
    assert steps == {1, 2, 3, 4}
    for name in JOB:
        assert set(at(found, name)) == steps, name
    assert at(found, "network/nodes") == dict.fromkeys(steps, 2.0)
    assert max(at(found, "network/transmit_bytes_per_second").values()) > 10_000
    nodes = {name.split("/")[2] for name in found if name.startswith("network/node/")}
    assert len(nodes) == 2
    # A checkpoint is written after the step is logged, so the next one has it.
    assert set(at(found, "network/phase/checkpoint/bytes")) == {3}
    assert not warnings_in(log)


@pytest.mark.parametrize("training", ["train_rm", "train_dpo"])
def test_trainers_that_log_to_wandb(make_lab, make_assets, tmp_path, training):
    torchrun(make_lab(2), training, make_assets(64), tmp_path, "--logger.wandb.key", "0" * 40)
    found = logged(tmp_path)
    steps = set(at(found, "train/lr" if "train/lr" in found else "train/loss"))
    assert len(steps) == 4
    for name in JOB:
        assert set(at(found, name)) == steps, name
    assert set(at(found, "network/phase/checkpoint/seconds")) == {3}


def test_a_slow_link_is_seen_in_the_tracker(make_lab, make_assets, tmp_path):
    """One of three hosts sends at a fifth of the others' rate."""
    lab = make_lab(3)
    for host, rate in zip(lab.hosts, (200e6, 200e6, 40e6), strict=True):
        host.egress.limit_rate(rate)
    more = ["--train.max_epochs", "3", "--train.batch_size", "6", "--ckpt.save_steps", "-1"]
    torchrun(lab, "train_sft", make_assets(256), tmp_path, *more)
    found = logged(tmp_path)
    assert max(at(found, "network/findings").values()) >= 1
    # Of single readings: the kernel's estimate of a burst that the limit lets pass at once is high.
    assert statistics.median(at(found, "network/slowest_node_ratio").values()) < 0.6


PPO_STEPS = {1, 2, 3}
PPO_PHASES = ("generation", "make_experience", "ppo_train", "broadcast")
TIMING = [f"train/timing/{name}" for name in (*PPO_PHASES, "step_total")]
# What OpenRLHF logs of itself, with a function for the reward and without a critic.
PPO_KEYS = {
    f"train/{name}"
    for name in (
        "actor_grad_norm",
        "actor_lr",
        "distinct",
        "group_reward_std",
        "kl",
        "logprobs_diff",
        "policy_loss",
        "ppo_clip_ratio",
        "ppo_kl",
        "response_clip_ratio",
        "response_length",
        "return",
        "reward",
        "rollout/num_samples",
        "rollout/response_length_mean",
        "rollout/reward_mean",
        "rollout/reward_std",
        "rollout/truncated_rate",
        "score",
        "total_length",
        "truncated",
    )
} | set(TIMING)
FUNCTION_KEYS = {"train/score", "train/distinct"}
CRITIC_KEYS = {f"train/{name}" for name in ("critic_loss", "critic_lr", "critic_grad_norm", "values")}


def check_ppo(found: Series, parameters: int, keys: set[str] = PPO_KEYS) -> None:
    for name in TIMING:
        assert set(at(found, name)) == PPO_STEPS, name
    assert {name for name in found if name.startswith("train/")} == keys
    for name in JOB:
        assert set(at(found, name)) == PPO_STEPS, name
    assert max(at(found, "network/nodes").values()) == 2
    for phase in PPO_PHASES:
        for name in PHASE:
            assert set(at(found, f"network/phase/{phase}/{name}")) == PPO_STEPS, (phase, name)
        timing = at(found, f"train/timing/{phase}")
        for step, seconds in at(found, f"network/phase/{phase}/seconds").items():
            assert seconds <= timing[step] + 0.01, (phase, step)
    assert set(at(found, "network/phase/checkpoint/bytes")) == {3}
    for step, count in at(found, "network/phase/broadcast/bytes").items():
        # What Ray and netmon say meanwhile is in it too.
        assert parameters <= count < 1.3 * parameters + 200_000, step


def parameters_in(assets: Path) -> int:
    return json.loads((assets / "parameters.json").read_text())["bytes"]


def test_ppo_on_a_limited_link(make_lab, make_assets, tmp_path):
    """10 MB of weights over 100 Mbit/s: the phase is as long as that takes, and as busy, and the kernel counts the same."""
    assets, lab, limit = make_assets(512), make_lab(2), 100e6
    parameters = parameters_in(assets)
    for host in lab.hosts:
        host.egress.limit_rate(limit)
    with Cluster(lab, tmp_path) as cluster:
        meters = [host.start(sys.executable, HERE / "counters.py", "eth0", stdout=subprocess.PIPE) for host in lab.hosts]
        command = [*RUN, "--", sys.executable, *jobs.arguments("train_ppo_ray", assets, tmp_path)]
        log = cluster.run(tmp_path / "log", *command)
        for meter in meters:
            meter.terminate()
        printed = [counters.readings(meter.communicate()[0].splitlines()) for meter in meters]
    found = logged(tmp_path)
    check_ppo(found, parameters)
    assert not warnings_in(log)
    shares = at(found, "network/phase/broadcast/utilization_ratio")
    least = parameters * 8 / limit
    for step, seconds in at(found, "network/phase/broadcast/seconds").items():
        assert seconds > 0.9 * least, step
        # Of the 10 Gbit/s that a veth says it has.
        assert 0.3 * limit < shares[step] * 10e9 < 1.1 * limit, (step, shares[step])
    # Nothing else in the job sends as fast from one host to the other.
    counted = sum(counters.sent_in_bursts(readings, 0.25 * limit / 8) for readings in printed)
    assert sum(at(found, "network/phase/broadcast/bytes").values()) == pytest.approx(counted, rel=0.05)


def test_ppo_by_ray_job_submit(make_lab, make_assets, tmp_path):
    """The driver knows nothing of netmon: Ray calls the hook in each worker, of which those of one host have no rights.

    With a critic, a reference and a reward model, which share GPUs with each other and with the policy.
    """
    assets = make_assets(64)
    options = {"interval": 0.2, "cluster_interval": 0.2}
    environment = {
        "worker_process_setup_hook": "netmon.integrations.ray.setup",
        "env_vars": {"NETMON_RUN": json.dumps(options)},
    }
    driver = [sys.executable, *jobs.arguments("train_ppo_ray", assets, tmp_path, jobs.FOUR_MODELS)]
    with Cluster(make_lab(2), tmp_path, prefix=WITHOUT_RIGHTS) as cluster:
        log = cluster.submit(tmp_path / "log", json.dumps(environment), *driver)
    found = logged(tmp_path)
    check_ppo(found, parameters_in(assets), PPO_KEYS - FUNCTION_KEYS | CRITIC_KEYS)
    assert not warnings_in(log)


def test_ppo_goes_on_without_the_library(make_lab, make_assets, tmp_path):
    broken = tmp_path / "libnetmon.so"
    broken.write_text("no library")
    command = [*RUN, "--", "env", sys.executable, *jobs.arguments("train_ppo_ray", make_assets(64), tmp_path, jobs.ONE_STEP)]
    # The workers' environment is the cluster's.
    with Cluster(make_lab(2), tmp_path, variables={"NETMON_LIBRARY": str(broken)}) as cluster:
        log = cluster.run(tmp_path / "log", *command)
    found = logged(tmp_path)
    assert set(at(found, "train/timing/step_total")) == {1}
    assert {name for name in found if name.startswith("train/")} == PPO_KEYS, "what is logged without netmon"
    assert not any(name.startswith("network/") for name in found)
    # One process says so, once. It is shown twice: Ray's two nodes, on one machine here, both follow its log.
    said = re.findall(r"\(\w+ pid=(\d+).*netmon is not attached: LibraryError: ", log)
    assert len(set(said)) == 1, log
    assert len(said) <= 2, log
