"""A training with Lightning, with the network in its loggers.

    python examples/lightning/train.py [FOLDER] [DEVICES]

The CSV logger's file is FOLDER/lightning_logs/version_0/metrics.csv.
"""

from __future__ import annotations

import sys

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger

from netmon.integrations.lightning import NetmonCallback


class Copy(lightning.LightningModule):
    """Learns to copy its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(512, 512)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        """Return the loss, and log it."""
        loss = (self.layer(batch[0]) - batch[0]).pow(2).mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor]) -> None:
        """Log the loss."""
        self.log("eval_loss", (self.layer(batch[0]) - batch[0]).pow(2).mean(), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main(folder: str = "runs/lightning", devices: str = "1") -> None:
    """Train for 20 steps."""
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(2560, 512)), batch_size=64)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=int(devices),
        max_steps=20,
        val_check_interval=10,
        log_every_n_steps=1,
        logger=CSVLogger(folder),
        callbacks=[NetmonCallback()],
        enable_progress_bar=False,
    )
    trainer.fit(Copy(), data, data)


if __name__ == "__main__":
    main(*sys.argv[1:])
