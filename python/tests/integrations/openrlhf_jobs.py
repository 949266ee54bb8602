"""The command lines and environments of tiny OpenRLHF trainings on processors, for two ranks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1]

_COMMON = """--data.max_len 64 --train.micro_batch_size 2 --train.max_epochs 1 --ds.attn_implementation eager
--ckpt.output_dir {out}/final --ckpt.path {out}/checkpoints --logger.tensorboard_dir {out}/events --logger.wandb.run_name run"""
_SFT = """--model.model_name_or_path {assets}/model --data.dataset {assets}/sft.jsonl --data.input_key input
--data.output_key output --train.batch_size 8 --ds.zero_stage 1 --ckpt.save_steps 2"""
_PAIRS = """--model.model_name_or_path {assets}/model --data.dataset {assets}/pairs.jsonl --data.prompt_key prompt
--data.chosen_key chosen --data.rejected_key rejected --eval.dataset {assets}/pairs.jsonl --eval.split train
--train.batch_size 8 --ds.zero_stage 2 --ckpt.save_steps 2"""
_PPO = """--actor.model_name_or_path {assets}/model --data.prompt_dataset {assets}/prompts.jsonl --data.input_key input
--data.label_key label --reward.remote_url {reward} --algo.advantage.estimator group_norm --rollout.n_samples_per_prompt 2
--algo.kl.init_coef 0 --ref.num_nodes 1 --ref.num_gpus_per_node 1 --reward.num_nodes 1 --reward.num_gpus_per_node 1
--critic.num_nodes 1 --critic.num_gpus_per_node 1 --actor.num_nodes 1 --actor.num_gpus_per_node 2 --vllm.num_engines 1
--vllm.tensor_parallel_size 1 --vllm.sync_backend gloo --vllm.enforce_eager --vllm.gpu_memory_utilization 0.5
--rollout.max_new_tokens 8 --rollout.batch_size 8 --rollout.micro_batch_size 2 --train.batch_size 16 --data.max_samples 24
--train.num_episodes 1 --ds.zero_stage 2 --ckpt.save_steps 2"""
# Instead of a function for the reward, on as many GPUs.
FOUR_MODELS = """--algo.advantage.estimator gae --algo.kl.init_coef 0.01 --train.colocate_actor_ref --ref.num_gpus_per_node 2
--critic.model_name_or_path {assets}/model --reward.model_name_or_path {assets}/model --reward.remote_url=
--train.colocate_critic_reward"""
ONE_STEP = "--data.max_samples 8"
# By the name of the module in openrlhf.cli.
TRAININGS = {"train_sft": _SFT, "train_rm": _PAIRS, "train_dpo": _PAIRS, "train_ppo_ray": _PPO}


def arguments(training: str, assets: Path, out: Path, more: str = "") -> list[str]:
    """Return the module and its arguments; later ones win."""
    words = f"{TRAININGS[training]} {_COMMON} {more}".format(assets=assets, out=out, reward=HERE / "reward.py").split()
    return ["-m", f"openrlhf.cli.{training}", *words]


def torchrun(*rendezvous: str) -> list[str]:
    """Return the launcher of ranks."""
    return [sys.executable, "-m", "torch.distributed.run", *rendezvous]


def environment(work: Path, before: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what makes OpenRLHF run on processors; compiled parts of DeepSpeed are kept beside the environment."""
    return {
        **before,
        # Of one form in all runs: where it differs DeepSpeed compiles anew.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]),
        "PYTHONPATH": os.pathsep.join([str(HERE / "shim"), str(PACKAGE)]),
        "TORCH_EXTENSIONS_DIR": str(Path(sys.prefix) / "torch_extensions"),
        "HOME": str(work),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "offline",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_memory_monitor_refresh_ms": "0",
    }


def ray_start(address: str, port: int, gpus: int, folder: Path | None) -> list[str]:
    """Return what starts the head of a cluster (with a folder for its files), or a node that joins it."""
    place = (
        ["--head", "--port", str(port), "--temp-dir", str(folder), "--dashboard-host", address, "--dashboard-port", "8299"]
        if folder is not None
        else ["--address", f"{address}:{port}"]
    )
    return [sys.executable, "-m", "ray.scripts.scripts", "start", *place, "--num-cpus", "8", "--num-gpus", str(gpus),
            "--disable-usage-stats"]  # fmt: skip
