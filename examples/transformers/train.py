"""A tiny language model with random weights, trained by transformers' Trainer, with the network in its logs.

    python examples/transformers/train.py [FOLDER]
    torchrun --nproc_per_node 2 examples/transformers/train.py [FOLDER]

TensorBoard's files are in FOLDER/runs: train/network/... beside train/loss. Without NetmonCallback, `netmon run -- python ...`
does the same.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from netmon.integrations.transformers import NetmonCallback


class Tokens(torch.utils.data.Dataset):
    """Sentences of random words."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        words = torch.randint(3, 64, (16,), generator=torch.Generator().manual_seed(number))
        return {"input_ids": words, "labels": words}


class Shown(TrainerCallback):
    """Prints what trackers get."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Print a log."""
        if state.is_world_process_zero:
            print(
                state.global_step,
                {name: value for name, value in logs.items() if name == "loss" or name.startswith("network/")},
            )


def main(folder: str = "runs/transformers") -> None:
    """Train for six steps."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    trainer = Trainer(
        LlamaForCausalLM(LlamaConfig(**sizes, pad_token_id=0)),
        TrainingArguments(
            folder,
            max_steps=6,
            per_device_train_batch_size=4,
            logging_steps=1,
            eval_strategy="steps",
            eval_steps=3,
            save_steps=3,
            report_to=["tensorboard"],
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=Tokens(),
        eval_dataset=Tokens(),
        callbacks=[NetmonCallback(), Shown()],
    )
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
