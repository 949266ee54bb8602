"""A training by transformers' Trainer that knows nothing of netmon, in one process, with forked data workers.

At its end it prints one line of JSON: what there was of netmon before it trained, and what there is of it afterwards.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments


def traces() -> dict[str, Any]:
    """Return what there is of netmon in this process."""
    shared = sys.modules.get("netmon._shared")
    monitor = shared.existing_monitor() if shared is not None else None
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        library = "libnetmon" in maps.read()
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("netmon")]
    return {"library": library, "monitor": monitor is not None, "threads": threads}


class Rows(torch.utils.data.Dataset):
    """Rows that a worker of the data loader makes: forked, without the threads of its parent."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        assert torch.utils.data.get_worker_info() is not None
        assert traces()["threads"] == []
        tokens = torch.tensor([i + 1, i + 2, i + 3])
        return {"input_ids": tokens, "labels": tokens}


def main() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    )
    options = TrainingArguments(
        output_dir=sys.argv[1], per_device_train_batch_size=4, num_train_epochs=1, dataloader_num_workers=2,
        dataloader_multiprocessing_context="fork", logging_steps=1, save_strategy="no", report_to=[], use_cpu=True,
    )  # fmt: skip
    trainer = Trainer(model=model, args=options, train_dataset=Rows())
    before = traces()
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    print(json.dumps({"before": before, "after": traces(), "losses": losses}))


if __name__ == "__main__":
    main()
