"""Sides that take turns, and ratios of their medians with the spread that resampling gives."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from statistics import median

# Runs a side so many times and returns the seconds of one, on average.
Block = Callable[[int], float]


def calls(function: Callable[..., object], *arguments: object) -> Block:
    """Make a side of a function, timed from Python with the loop around it."""

    def block(count: int) -> float:
        clock = time.perf_counter_ns
        began = clock()
        for _ in repeat(None, count):
            function(*arguments)
        return (clock() - began) / count / 1e9

    return block


def prepared(prepare: Callable[[], object], once: Callable[[], float]) -> Block:
    """Make a side of a function that returns its own seconds and needs something done before each call, which is not timed."""

    def block(count: int) -> float:
        total = 0.0
        for _ in repeat(None, count):
            prepare()
            total += once()
        return total / count

    return block


def take_turns(sides: Mapping[str, Block], rounds: int, block_seconds: float) -> dict[str, list[float]]:
    """Run all sides by turns.

    Args:
        sides: what to run, by name.
        rounds: how many blocks of each.
        block_seconds: about how long a block takes. Garbage, Go's and Python's, is collected in the blocks as it comes; a block
            should hold several collections.

    Returns:
        The seconds of one call, a value per block.
    """
    counts = {name: _count(block, block_seconds) for name, block in sides.items()}
    results: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    shuffle = random.Random(0).shuffle  # noqa: S311
    gc.collect()
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            results[name].append(sides[name](counts[name]))
    return results


def _count(block: Block, seconds: float) -> int:
    """Find how many calls fill a block, warming the side up meanwhile."""
    count = 1
    while True:
        each = max(block(count), 1e-9)
        if each * count > seconds / 4:
            return max(1, round(seconds / each))
        count = max(count + 1, min(count * 10, round(seconds / each)))


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians and its 95 % interval."""

    value: float
    low: float
    high: float


def ratio(values: Sequence[float], baseline: Sequence[float], resamples: int = 1000) -> Ratio:
    """Compare two sides of the same run.

    The interval is that of the bootstrap: rounds are drawn with replacement, both sides of a round together.
    """
    draw = random.Random(0)  # noqa: S311
    rounds = range(min(len(values), len(baseline)))
    found = []
    for _ in range(resamples):
        drawn = draw.choices(rounds, k=len(rounds))
        found.append(_over(median([values[i] for i in drawn]), median([baseline[i] for i in drawn])))
    found.sort()
    return Ratio(_over(median(values), median(baseline)), found[int(0.025 * resamples)], found[int(0.975 * resamples)])


def _over(value: float, baseline: float) -> float:
    return value / baseline if baseline else math.inf


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the values between which the middle half lies."""
    ordered = sorted(values)
    return ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
