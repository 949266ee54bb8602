"""TensorBoard."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._guest import package
from ._logger import WritingLogger

if TYPE_CHECKING:
    from ..._monitor import Monitor


class TensorboardLogger(WritingLogger):
    """Writes the network's values as TensorBoard's scalars.

    Args:
        writer: what the training writes with (``torch.utils.tensorboard.SummaryWriter``, or anything that has its
            ``add_scalar(name, value, step, walltime)``); or a folder, into which a file of its own is written.
        monitor: as of ``Logger``.
        nodes: as of ``Logger``.

    Raises:
        UnsupportedError: a folder was given, and tensorboard is not installed.

    Example:
        >>> from netmon.integrations.trackers import TensorboardLogger
        >>> with TensorboardLogger("runs/demo") as network:     # doctest: +SKIP
        ...     for step in range(100):
        ...         network.log(step)
    """

    _tracker = "netmon's TensorBoard logger"

    def __init__(self, writer: Any, monitor: Monitor | None = None, *, nodes: bool | None = None) -> None:
        folder = os.fspath(writer) if isinstance(writer, str | os.PathLike) else None
        if folder is not None:
            package("tensorboard", "tensorboard", self._tracker)
        self._writer = writer
        super().__init__(monitor, nodes=nodes)
        if folder is not None:
            self._writer = self._guest.ask(lambda: _File(folder)) if self._values is not None else None

    def log(self, step: int) -> None:
        """Log the network's values at a step."""
        if self._writer is not None:
            super().log(step)

    def _write(self, values: Mapping[str, float], step: int, when: float) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, when)

    def _finish(self) -> None:
        super()._finish()
        if isinstance(self._writer, _File):
            self._writer.close()
        elif self._writer is not None:
            self._writer.flush()


class _File:
    """An event file, with scalars as torch writes them: what reads such files knows them by that."""

    def __init__(self, folder: str) -> None:
        self._event = importlib.import_module("tensorboard.compat.proto.event_pb2").Event
        self._summary = importlib.import_module("tensorboard.compat.proto.summary_pb2").Summary
        self._file = importlib.import_module("tensorboard.summary.writer.event_file_writer").EventFileWriter(folder)

    def add_scalar(self, name: str, value: float, step: int, when: float) -> None:
        summary = self._summary(value=[self._summary.Value(tag=name, simple_value=value)])
        self._file.add_event(self._event(wall_time=when, step=step, summary=summary))

    def close(self) -> None:
        self._file.close()
