"""The store of the group by which weights come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass
class StatelessProcessGroup:
    store: Any
    rank: int
    world_size: int

    @classmethod
    def create(cls, host: str, port: int, rank: int, world_size: int) -> StatelessProcessGroup:
        from torch.distributed import TCPStore

        return cls(TCPStore(host, port, world_size, rank == 0, timedelta(seconds=60)), rank, world_size)
