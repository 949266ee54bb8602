"""Measuring collectives: only when every rank asks for it in the same step."""

from __future__ import annotations

import contextlib
import importlib
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..._errors import InvalidArgumentError, UnreachableError, UnsupportedError
from ._agree import Meeting

# How the group of a measurement is described: what is passive leaves it out.
PURPOSE = "netmon_measurement"

_NAME = "measure_collectives"
_ELEMENT_BYTES = 4  # float32
_BATCH_SECONDS = 0.002  # so long at least is timed at once: a clock reading and a call in Python are nothing beside it
_MOST_IN_BATCH = 64
_BATCHES = 5
_CELL_SECONDS = 2.0  # about the most that one op of one size may take, but for one run
_MOST_BYTES = 1 << 30
_GROUP_SECONDS = 60.0  # how long a rank that died in the middle is waited for
DEFAULT_SIZES = (4 << 10, 1 << 20, 16 << 20)


@dataclass(frozen=True, slots=True)
class CollectiveMeasurement:
    """A collective of one size, measured.

    ``seconds`` is the median of the slowest rank's times, so it is the same on all ranks. algbw and busbw are as in nccl-tests.

    Attributes:
        op: ``"all_reduce"`` and so on.
        size_bytes: S, the size of the whole array: what was asked for, less what cannot be shared out evenly.
        group_size: ranks.
        runs: how often it ran, beside the warm-up.
        seconds: one run; None where it could not be measured.
        algbw_bytes_per_second: ``size_bytes / seconds``.
        busbw_bytes_per_second: algbw times the factor of the collective.
        error: why it could not be measured, None where it was.
    """

    op: str
    size_bytes: int
    group_size: int
    runs: int
    seconds: float | None
    algbw_bytes_per_second: float | None
    busbw_bytes_per_second: float | None
    error: str | None


def _all_but_own(ranks: int) -> float:
    return (ranks - 1) / ranks


# By what algbw is multiplied, as core/collective has it: a test compares the two.
FACTORS: Mapping[str, Callable[[int], float]] = {
    "all_reduce": lambda ranks: 2 * _all_but_own(ranks),
    "broadcast": lambda ranks: 1.0,
    "all_gather": _all_but_own,
    "scatter": _all_but_own,
    "gather": _all_but_own,
    "reduce_scatter": _all_but_own,
    "all_to_all": _all_but_own,
}


def measure_collectives(
    ops: Iterable[str] | None = None, sizes: Iterable[int] | None = None, timeout: float = 30.0
) -> list[CollectiveMeasurement]:
    """Run collectives of several sizes and time them; every rank has to call it in the same step, with the same arguments.

    The ranks first agree through the job's store, by a connection of their own: where one does not come, the others get an
    error, and nothing hangs. It runs on the calling thread, on a group that it makes and destroys, never on the job's, and
    moves ``size`` bytes some five to three hundred times; the job waits meanwhile.

    Args:
        ops: of ``"all_reduce"``, ``"broadcast"``, ``"all_gather"``, ``"scatter"``, ``"gather"``, ``"reduce_scatter"``,
            ``"all_to_all"``. Default: all.
        sizes: bytes, 4 to 1 GiB, of the whole array. Default: 4 KiB, 1 MiB and 16 MiB.
        timeout: seconds to wait for the other ranks.

    Returns:
        A row for each op and size, the same on all ranks. What the backend does not have is a row with its ``error``.

    Raises:
        TimedOutError: not every rank called it in time.
        InvalidArgumentError: an argument is wrong, or another rank's are others.
        UnreachableError: a rank was lost in the middle, or the store is.
        UnsupportedError: there is no process group to measure in.
    """
    chosen, lengths = _checked(ops, sizes, timeout)
    distributed = _distributed()
    rank, size = distributed.get_rank(), distributed.get_world_size()
    what = f"ops={','.join(chosen)} sizes={','.join(map(str, lengths))}"
    if size > 1:
        Meeting(rank, size, what, _NAME).attend(timeout)
    group: Any = None
    kept: list[Any] = []
    try:
        group = _new_group(distributed, list(range(size)))
        device = _device(distributed, group)
        rows = [_measure(distributed, group, rank, size, device, op, length, kept) for op in chosen for length in lengths]
        distributed.barrier(group=group)
        return rows
    except RuntimeError as error:
        raise UnreachableError(f"{_NAME}: a collective of the measurement failed, a rank may be gone: {error}") from error
    finally:
        if group is not None:
            with contextlib.suppress(Exception):
                distributed.destroy_process_group(group)
        # Old torch waits for a group's threads with the interpreter lock held, and a thread that frees a tensor of Python's
        # waits for that lock: none of them must be the last to have one.
        del group
        kept.clear()


def _checked(ops: Iterable[str] | None, sizes: Iterable[int] | None, timeout: float) -> tuple[list[str], list[int]]:
    chosen = list(FACTORS) if ops is None else [ops] if isinstance(ops, str) else list(ops)
    for op in chosen:
        if op not in FACTORS:
            raise InvalidArgumentError(f"{_NAME}: ops has {op!r}; it must be of {', '.join(FACTORS)}")
    lengths = list(DEFAULT_SIZES if sizes is None else sizes)
    for length in lengths:
        if not isinstance(length, int) or not _ELEMENT_BYTES <= length <= _MOST_BYTES:
            raise InvalidArgumentError(
                f"{_NAME}: sizes has {length!r}; it must be bytes from {_ELEMENT_BYTES} to {_MOST_BYTES}"
            )
    if not 0 < timeout <= 3600:
        raise InvalidArgumentError(f"{_NAME}: timeout is {timeout!r}; it must be seconds above 0 and up to 3600")
    return chosen, lengths


def _distributed() -> Any:
    try:
        distributed: Any = importlib.import_module("torch.distributed")
    except ImportError as error:
        raise UnsupportedError(f"{_NAME}: torch is not installed: {error}") from error
    if not distributed.is_available() or not distributed.is_initialized():
        raise UnsupportedError(f"{_NAME}: there is no process group; call torch.distributed.init_process_group first")
    return distributed


def _new_group(distributed: Any, ranks: Sequence[int]) -> Any:
    options: dict[str, Any] = {"timeout": timedelta(seconds=_GROUP_SECONDS)}
    try:
        return distributed.new_group(ranks, group_desc=PURPOSE, **options)
    except TypeError:  # before group_desc
        return distributed.new_group(ranks, **options)


def _device(distributed: Any, group: Any) -> Any:
    torch: Any = importlib.import_module("torch")
    if "nccl" in str(distributed.get_backend(group)) and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _measure(
    distributed: Any, group: Any, rank: int, ranks: int, device: Any, op: str, length: int, kept: list[Any]
) -> CollectiveMeasurement:
    torch: Any = importlib.import_module("torch")
    share = max(1, length // (_ELEMENT_BYTES * ranks))
    size = share * ranks * _ELEMENT_BYTES
    wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)

    def agree(values: Sequence[float]) -> list[float]:
        """Return the highest of all ranks', so that all do the same next."""
        numbers = torch.tensor(values, dtype=torch.float64, device=device)
        kept.append(numbers)
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=group)
        return [float(number) for number in numbers.tolist()]

    def timed(runs: int) -> float:
        distributed.barrier(group=group)
        wait()
        begun = time.perf_counter()
        for _ in range(runs):
            call()
        wait()
        return (time.perf_counter() - begun) / runs

    def row(runs: int, seconds: float | None, error: str | None) -> CollectiveMeasurement:
        algbw = None if seconds is None else size / seconds
        busbw = None if algbw is None else algbw * FACTORS[op](ranks)
        return CollectiveMeasurement(op, size, ranks, runs, seconds, algbw, busbw, error)

    failure = None
    try:
        call = _call(distributed, torch, group, rank, ranks, device, op, share)
    except RuntimeError as error:  # no memory
        failure = str(error).splitlines()[0]
    if agree([float(failure is not None)])[0]:
        return row(0, None, failure or "another rank could not prepare it")
    try:
        call()  # what is made on first use is made, and what the backend does not have is found out
    except (RuntimeError, NotImplementedError, ValueError) as error:
        failure = str(error).splitlines()[0]
    # Where one rank failed and another did not, this fails too, after the group's timeout at the latest.
    if agree([float(failure is not None)])[0]:
        return row(0, None, failure or "another rank's backend refused it")
    first = agree([timed(1)])[0]
    runs = max(1, min(_MOST_IN_BATCH, math.ceil(_BATCH_SECONDS / max(first, 1e-9))))
    batches = max(1, min(_BATCHES, int(_CELL_SECONDS / max(first * runs, 1e-9))))
    slowest = agree([timed(runs) for _ in range(batches)])
    return row(runs * batches, statistics.median(slowest), None)


def _call(
    distributed: Any, torch: Any, group: Any, rank: int, ranks: int, device: Any, op: str, share: int
) -> Callable[[], Any]:
    """Return what runs a collective once, of ``share`` floats of each rank."""
    whole = torch.zeros(share * ranks, device=device)
    part = torch.zeros(share, device=device)
    parts = list(whole.chunk(ranks))
    root = rank == 0
    other = torch.zeros_like(whole) if op == "all_to_all" else None
    calls: dict[str, Callable[[], Any]] = {
        "all_reduce": lambda: distributed.all_reduce(whole, group=group),
        "broadcast": lambda: distributed.broadcast(whole, 0, group=group),
        "all_gather": lambda: distributed.all_gather(parts, part, group=group),
        "scatter": lambda: distributed.scatter(part, parts if root else None, 0, group=group),
        "gather": lambda: distributed.gather(part, parts if root else None, 0, group=group),
        "reduce_scatter": lambda: distributed.reduce_scatter(part, parts, group=group),
        "all_to_all": lambda: distributed.all_to_all_single(other, whole, group=group),
    }
    return calls[op]
