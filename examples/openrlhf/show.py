"""show.py FOLDER: what TensorBoard has of a training: the loss, and what the network did."""

from __future__ import annotations

import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main(folder: Path) -> None:
    """Print a line for each value, a column for each step. A value that was not measured at a step has none there."""
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(file))
        events.Reload()
        for name in sorted(events.Tags()["scalars"], key=lambda name: (name.startswith("network/"), name)):
            values = ", ".join(f"step {event.step}: {event.value:.4g}" for event in events.Scalars(name))
            print(f"{name:<46} {values}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
