"""A training loop with DeepSpeed, with the network in its monitor's files.

    deepspeed --num_accelerators 2 examples/deepspeed/train.py [FOLDER]
    python examples/deepspeed/train.py [FOLDER]

TensorBoard's files are in FOLDER/example, those of the CSV monitor in FOLDER/csv.
"""

from __future__ import annotations

import os
import sys

import deepspeed
import torch

from netmon.integrations.deepspeed import watch

ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def main(folder: str = "runs/deepspeed") -> None:
    """Train for 20 steps."""
    if "RANK" not in os.environ:
        os.environ.update(ALONE)
    deepspeed.init_distributed()
    config = {
        "train_micro_batch_size_per_gpu": 64,
        "tensorboard": {"enabled": True, "output_path": folder, "job_name": "example"},
        "csv_monitor": {"enabled": True, "output_path": folder, "job_name": "csv"},
    }
    model = torch.nn.Linear(512, 512)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    with watch(engine):
        for step in range(20):
            inputs = torch.randn(64, 512, device=engine.device)
            engine.backward((engine(inputs) - inputs).pow(2).mean())
            engine.step()
            if step % 10 == 8:
                engine.save_checkpoint(f"{folder}/state")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    # The deepspeed launcher says which rank it starts.
    main(*(argument for argument in sys.argv[1:] if not argument.startswith("--local_rank")))
