"""A training loop of one's own, by DistributedDataParallel, with the network in TensorBoard beside the loss.

torchrun --nproc_per_node 2 examples/torch/train.py [FOLDER]
python examples/torch/train.py [FOLDER]
"""

from __future__ import annotations

import os
import sys

import torch
from torch import distributed
from torch.utils.tensorboard import SummaryWriter

from netmon.integrations.torch import watch


def main(folder: str = "runs/torch") -> None:
    """Train for 20 steps."""
    if "RANK" in os.environ:
        distributed.init_process_group("gloo")
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    torch.manual_seed(rank)
    model: torch.nn.Module = torch.nn.Linear(512, 512)
    if distributed.is_initialized():
        model = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    writer = SummaryWriter(folder) if rank == 0 else None

    with watch() as network:
        for step in range(20):
            inputs = torch.randn(256, 512)
            loss = (model(inputs) - inputs).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 10 == 9:
                with network.phase("checkpoint"):
                    if rank == 0:
                        torch.save(model.state_dict(), f"{folder}/model.pt")
            if writer is not None:
                values = {"loss": loss.item(), **network.values(step)}
                for name, value in values.items():
                    writer.add_scalar(name, value, step)
                print(step, values)

    if writer is not None:
        writer.close()
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
