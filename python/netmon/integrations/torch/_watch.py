"""Watching a training loop of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._watch import Watch

if TYPE_CHECKING:
    from ..._monitor import Monitor


def watch(monitor: Monitor | None = None, *, nodes: bool | None = None, collectives: bool = True) -> Watch:
    """Watch what the network does in a ``with`` block: a monitor, the job's collectives and its view, phases, values to log.

        with netmon.integrations.torch.watch() as watch:
            for step, batch in enumerate(loader):
                train(batch)
                if rank == 0:
                    writer.log({"loss": loss, **watch.values(step)})
            with watch.phase("checkpoint"):
                save(model)

    Enter it in every rank, on the thread that trains, after ``torch.distributed.init_process_group``. ``values`` has the flat
    keys ``network/receive_bytes_per_second`` and so on (docs/trainers.md): of the whole job where its view is there, whichever
    rank asks. Nothing is raised in the block: where netmon does not work there is one warning, and no values.

    Args:
        monitor: who measures; None: the process's shared monitor. It is not closed at the end of the block.
        nodes: whether every node's own values are wanted too, under ``network/node/<name>/``; None: as ``netmon run`` was told.
        collectives: whether the job's collectives are timed.
    """
    return Watch(monitor, nodes=nodes, collectives=collectives)
