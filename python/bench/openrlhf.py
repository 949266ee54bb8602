"""What netmon adds to a PPO training of OpenRLHF on Ray: ``make bench-openrlhf``.

The unmodified OpenRLHF trains a tiny model on a cluster of two hosts of the tests' lab, on processors: without netmon (A), and
by ``netmon run`` with its defaults (B), in blocks A B B A, so that a drift of the machine falls on both alike. How much the two
A of a block differ is what chance does.

Prints the figures, and renews them in docs/openrlhf.md. Takes some five minutes a block.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from .timing import Ratio, ratio

_ROOT = Path(__file__).resolve().parents[2]
_TESTS = _ROOT / "python" / "tests"
# The lab, the jobs and their cluster are those of the tests.
sys.path += [str(folder) for folder in (_TESTS, _TESTS / "integrations") if str(folder) not in sys.path]

PAGE = _ROOT / "docs" / "openrlhf.md"
BEGIN, END = "<!-- python -m bench.openrlhf -->\n", "<!-- to here -->\n"

_ORDER = "ABBA"
_HIDDEN_SIZE = 256


@dataclass(frozen=True)
class Run:
    """One training."""

    kind: str
    seconds: float  # of the driver, from its start to its end
    step_seconds: float  # timing/step_total, the median of its steps but the first
    steps: int
    keys: frozenset[str]  # logged


def _train(cluster: object, assets: Path, work: Path, kind: str) -> Run:
    import openrlhf_jobs as jobs

    work.mkdir()
    prefix = [sys.executable, "-m", "netmon", "run", "--"] if kind == "B" else []
    command = [*prefix, sys.executable, *jobs.arguments("train_ppo_ray", assets, work, "--data.max_samples 32")]
    begun = time.monotonic()
    cluster.run(work / "log", *command)  # type: ignore[attr-defined]
    seconds = time.monotonic() - begun
    shown = subprocess.run(
        [sys.executable, _TESTS / "integrations" / "events.py", work],
        env=jobs.environment(work), stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    found = json.loads(shown.stdout)
    steps = [value for _, value in found["train/timing/step_total"]]
    return Run(kind, seconds, statistics.median(steps[1:]), len(steps), frozenset(found))


def measure(blocks: int) -> list[list[Run]]:
    """Train, block by block."""
    import openrlhf_jobs as jobs
    from lab import Lab
    from openrlhf_cluster import Cluster

    done: list[list[Run]] = []
    with tempfile.TemporaryDirectory() as name, Lab(2) as lab:
        folder = Path(name)
        assets = folder / "assets"
        assets.mkdir()
        make = [sys.executable, _TESTS / "integrations" / "assets.py", assets, str(_HIDDEN_SIZE)]
        subprocess.run(make, env=jobs.environment(folder), check=True, capture_output=True)
        with Cluster(lab, folder) as cluster:
            _train(cluster, assets, folder / "warm", "A")
            for block in range(blocks):
                done.append([])
                for place, kind in enumerate(_ORDER):
                    done[-1].append(_train(cluster, assets, folder / f"{block}{place}", kind))
                    print(f"block {block + 1} of {blocks}, {kind}: {done[-1][-1].seconds:.1f} s", file=sys.stderr)
    return done


def _percent(r: Ratio) -> str:
    return f"{(r.value - 1) * 100:+.1f} % ({(r.low - 1) * 100:+.1f} to {(r.high - 1) * 100:+.1f} %)"


def _versions() -> str:
    return ", ".join(f"{name} {version(name.lower())}" for name in ("OpenRLHF", "torch", "Ray"))


def report(blocks: Sequence[Sequence[Run]], versions: str) -> str:
    """Return what is said of the runs."""
    runs = [run for block in blocks for run in block]
    own = {run.keys for run in runs if run.kind == "A"}
    with_netmon = {frozenset(key for key in run.keys if not key.startswith("network/")) for run in runs if run.kind == "B"}
    if len(own | with_netmon) != 1:
        raise SystemExit(f"OpenRLHF's own keys are not the same in all runs: {own} {with_netmon}")

    def each(kind: str, what: str) -> list[float]:
        return [statistics.mean(getattr(run, what) for run in block if run.kind == kind) for block in blocks]

    def row(title: str, what: str) -> str:
        first, last = ([getattr(block[place], what) for block in blocks] for place in (0, -1))
        without, netmon = statistics.median(each("A", what)), _percent(ratio(each("B", what), each("A", what)))
        return f"| {title} | {without:.1f} s | {netmon} | {_percent(ratio(last, first))} |"

    with open("/proc/loadavg", encoding="ascii") as file:
        load = file.read().split()[0]
    today = datetime.datetime.now(tz=datetime.UTC)
    said = (
        f"{len(blocks)} blocks A B B A, A without netmon, B by `netmon run` with its defaults: medians, and 95 % intervals by"
        f" resampling of blocks. OpenRLHF's own {len(own.pop())} keys were the same in all runs. {today:%Y-%m-%d}, `make"
        f" bench-openrlhf`: {versions}, GRPO with two policy actors and an engine on two hosts of the lab, {runs[0].steps}"
        f" steps; {os.cpu_count()} cores, Linux {platform.release()}, load {load} at the end."
    )
    return "\n".join(
        [
            "| | without netmon | with netmon | the last A of a block against its first |",
            "| --- | --- | --- | --- |",
            row("the whole command", "seconds"),
            row("one step, the first left out", "step_seconds"),
            "",
            textwrap.fill(said, 136, break_long_words=False, break_on_hyphens=False),
            "",
        ]
    )


def main() -> None:
    """Measure, print, and renew the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=4, help="of four trainings each (default: 4)")
    found = report(measure(parser.parse_args().blocks), _versions())
    print(found)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        re.sub(f"(?<={re.escape(BEGIN)}).*(?={re.escape(END)})", lambda _: found, page, flags=re.DOTALL), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
