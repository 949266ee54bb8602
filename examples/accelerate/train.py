"""A training loop with accelerate, with the network in all its trackers.

    python examples/accelerate/train.py [FOLDER]
    accelerate launch --num_processes 2 --cpu examples/accelerate/train.py [FOLDER]

TensorBoard's files are in FOLDER/example.
"""

from __future__ import annotations

import sys

import torch
from accelerate import Accelerator

from netmon.integrations.accelerate import NetmonTracker


def main(folder: str = "runs/accelerate") -> None:
    """Train for 20 steps."""
    accelerator = Accelerator(cpu=True, log_with=["tensorboard", NetmonTracker()], project_dir=folder)
    accelerator.init_trackers("example")
    model: torch.nn.Module = torch.nn.Linear(512, 512)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for step in range(20):
        inputs = torch.randn(256, 512)
        loss = (model(inputs) - inputs).pow(2).mean()
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        if step % 10 == 8:
            accelerator.save_state(f"{folder}/state")
        accelerator.log({"loss": loss.item()}, step=step)
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
