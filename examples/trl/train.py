"""A tiny language model with random weights, trained by TRL, with the network in its logs.

    python examples/trl/train.py [sft | dpo | grpo] [FOLDER]
    torchrun --nproc_per_node 2 examples/trl/train.py grpo [FOLDER]

TensorBoard's files are in FOLDER/runs: train/network/... beside train/loss or train/reward. Without NetmonCallback,
`netmon run -- python ...` does the same.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from netmon.integrations.transformers import NetmonCallback

WORDS = ["the", "ring", "sends", "a", "packet", "to", "every", "rank", "and", "waits", "for", "slow", "link", "answer"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return one that knows these words."""
    names = ["<pad>", "<s>", "</s>", "<unk>", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def make_model() -> LlamaForCausalLM:
    """Return a model with random weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes))


def sentence(number: int) -> str:
    """Return some words."""
    return " ".join(WORDS[number % (5 + place)] for place in range(8))


def short(completions: list[str], **_: Any) -> list[float]:
    """Reward answers that are short."""
    return [-float(len(completion)) for completion in completions]


class Shown(TrainerCallback):
    """Prints what trackers get."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Print a log."""
        if state.is_world_process_zero:
            print(
                state.global_step,
                {name: value for name, value in logs.items() if name in ("loss", "reward") or "network/" in name},
            )


def main(kind: str = "sft", folder: str = "runs/trl") -> None:
    """Train for six steps."""
    numbers = range(32)
    common = {
        "output_dir": folder,
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "save_steps": 3,
        "report_to": ["tensorboard"],
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "gradient_checkpointing": False,
    }
    given: dict[str, Any] = {
        "model": make_model(),
        "processing_class": make_tokenizer(),
        "callbacks": [NetmonCallback(), Shown()],
    }
    trainer: Any
    if kind == "sft":
        data = Dataset.from_dict({"text": [sentence(number) for number in numbers]})
        trainer = SFTTrainer(args=SFTConfig(**common, max_length=32), train_dataset=data, **given)
    elif kind == "dpo":
        pairs = {"prompt": numbers, "chosen": (7 * n for n in numbers), "rejected": (n + 1 for n in numbers)}
        data = Dataset.from_dict({name: [sentence(number) for number in those] for name, those in pairs.items()})
        trainer = DPOTrainer(args=DPOConfig(**common, max_length=32), ref_model=make_model(), train_dataset=data, **given)
    else:
        data = Dataset.from_dict({"prompt": [sentence(number) for number in numbers]})
        arguments = GRPOConfig(**common, num_generations=2, max_completion_length=8)
        trainer = GRPOTrainer(args=arguments, reward_funcs=short, train_dataset=data, **given)
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
