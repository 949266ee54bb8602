"""Run a campaign and score it: ``python -m bench.campaign [--seed N] [--faults N] [--report FILE] [--json FILE]``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import report as general
from . import report
from .campaign import PAUSES, SECONDS, run
from .faults import KINDS, draw
from .score import Episode, judge

_HOSTS = 4
_JOB_FAULTS = 10
# Of the scored run. Those that thresholds were chosen by are others.
_SEED = 20261125
_FAULTS = 70


def main(arguments: Sequence[str]) -> None:
    """Run a campaign, or read one, and write what it is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.campaign", description="measure how often findings are right")
    parser.add_argument("--seed", type=int, default=_SEED, help="of faults, hosts and times (default %(default)s)")
    parser.add_argument(
        "--faults", type=int, default=_FAULTS, help="how many, a seventh of them of the kind `none` (default %(default)s)"
    )
    parser.add_argument("--only", nargs="+", choices=list(KINDS), help="leave out faults of other kinds")
    parser.add_argument("--json", type=Path, help="write each fault and what was claimed here, as a line of JSON")
    parser.add_argument("--views", type=Path, help="write every view that was read here, a line each; much")
    parser.add_argument("--read", type=Path, help="run nothing: score what --json wrote")
    parser.add_argument("--report", type=Path, help="renew the part of this document that is about campaigns")
    options = parser.parse_args(arguments)
    if options.read:
        episodes = [Episode.from_dict(json.loads(line)) for line in options.read.read_text(encoding="utf-8").splitlines()]
        about = [f"From {options.read.name}"]
    else:
        about = general.about("make campaign", False)
        faults = draw(options.seed, options.faults, _HOSTS, PAUSES)
        if options.only:
            faults = [fault for fault in faults if fault.kind in options.only]
        about.append(
            f"Seed {options.seed}, {len(faults)} faults, each for {SECONDS:g} s, {PAUSES[0]:g} to {PAUSES[1]:g} s apart"
        )
        began = time.monotonic()
        episodes = []
        for first in range(0, len(faults), _JOB_FAULTS):
            for episode, views in run(faults[first : first + _JOB_FAULTS], _HOSTS, views=options.views is not None):
                episodes.append(episode)
                _tell(len(episodes), episode)
                _append(options.json, [episode.to_dict()], first=len(episodes) == 1)
                _append(options.views, [{"number": len(episodes), **view} for view in views], first=len(episodes) == 1)
        about.append(f"It took {(time.monotonic() - began) / 60:.0f} minutes")
    text = report.section(about, episodes)
    if options.report:
        general.write(options.report, text, report.BEGIN)
    print(text)


def _tell(number: int, episode: Episode) -> None:
    verdict = judge(episode)
    said = {None: "", True: "found", False: "MISSED"}[verdict.detected]
    after = "" if verdict.detect_seconds is None else f" after {verdict.detect_seconds:.1f} s"
    wrong = "".join(f"; WRONG {report.claim_text(claim)}" for claim in verdict.wrong)
    where = f"{episode.host} {episode.fault.direction or ''}".rstrip()
    print(f"campaign: {number}: {episode.fault.kind} at {where}: {said}{after}{wrong}", file=sys.stderr, flush=True)


def _append(path: Path | None, rows: Sequence[Any], *, first: bool) -> None:
    if path is not None:
        with path.open("w" if first else "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main(sys.argv[1:])
