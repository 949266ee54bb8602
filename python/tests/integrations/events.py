"""events.py FOLDER: what TensorBoard's files and W&B's offline runs hold, as JSON: {name: [[step, value], ...]}."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path


def of_tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0})
        events.Reload()
        for name in events.Tags()["scalars"]:
            found.setdefault(name, []).extend((event.step, event.value) for event in events.Scalars(name))
    return found


def _records(data: bytes) -> Iterator[bytes]:
    """Yield what an offline run's file holds: a log in LevelDB's form, after 7 bytes that say so."""
    place, whole = 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768  # too little of a block for a head
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # all of it, or its end
            yield whole
            whole = b""


def of_wandb(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.rglob("*.wandb")):
        for data in _records(file.read_bytes()):
            items = Record.FromString(data).history.item
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
            step = row.get("train/global_step")
            for name, value in row.items():
                if step is not None and isinstance(value, int | float):
                    found.setdefault(name, []).append((step, value))
    return found


if __name__ == "__main__":
    where = Path(sys.argv[1])
    print(json.dumps(of_tensorboard(where) | of_wandb(where)))
