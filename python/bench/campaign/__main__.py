"""Run a campaign and score it: ``python -m bench.campaign [--seed N] [--faults N] [--report FILE] [--json FILE]``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import report as general
from . import report
from .campaign import PAUSES, SECONDS, run
from .faults import KINDS, draw
from .job import JobError
from .score import Episode, claims, judge

_ROOT = Path(__file__).resolve().parents[3]

_HOSTS = 4
_JOB_FAULTS = 14
# Of the scored run. Those that thresholds were chosen by are others.
_SEED = 20261125
_FAULTS = 70


def main(arguments: Sequence[str]) -> None:
    """Run a campaign, or read one, and write what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.campaign", description="measure how often findings are right")
    parser.add_argument("--seed", type=int, default=_SEED, help="of faults, hosts and times (default %(default)s)")
    parser.add_argument(
        "--faults", type=int, default=_FAULTS, help="how many, a seventh of them of the kind `none` (default %(default)s)"
    )
    parser.add_argument("--only", nargs="+", choices=list(KINDS), help="leave out faults of other kinds")
    parser.add_argument("--json", type=Path, help="write each fault and what was claimed here, as a line of JSON")
    parser.add_argument("--views", type=Path, help="write every view that was read here, a line each")
    parser.add_argument(
        "--replay", type=Path, help="run nothing: find anew in the views of this file, with --json's of the same run"
    )
    parser.add_argument("--report", type=Path, help="renew the part of this document that is about campaigns")
    options = parser.parse_args(arguments)
    about = general.about("make campaign", False)
    episodes: list[Episode] = []
    if options.replay:
        for episode in _replay(options.json, options.replay):
            episodes.append(episode)
            _tell(len(episodes), episode)
    else:
        faults = draw(options.seed, options.faults, _HOSTS, PAUSES)
        if options.only:
            faults = [fault for fault in faults if fault.kind in options.only]
        for path in (options.json, options.views):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("", encoding="utf-8")
        began, broken = time.monotonic(), 0
        for job, first in enumerate(range(0, len(faults), _JOB_FAULTS)):
            try:
                for episode, views in run(faults[first : first + _JOB_FAULTS], _HOSTS, views=options.views is not None):
                    episodes.append(episode)
                    _tell(len(episodes), episode)
                    _append(options.json, [episode.to_dict()])
                    _append(options.views, [{"episode": len(episodes), "job": job, **view} for view in views])
            except JobError as error:
                broken += 1
                print(f"campaign: a job broke: {error}", file=sys.stderr, flush=True)
        about += [
            f"Seed {options.seed}: {sum(fault.kind != 'none' for fault in faults)} faults, each for {SECONDS:g} s, "
            f"{PAUSES[0]:g} to {PAUSES[1]:g} s apart; `none` are stretches without one as long, and the beginning of each job",
            f"It took {(time.monotonic() - began) / 60:.0f} minutes",
        ]
        if broken:
            about.append(f"**{broken} jobs broke; their other faults are missing**")
    text = report.section(about, episodes)
    if options.report:
        general.write(options.report, text, report.BEGIN)
    print(text)


def _replay(results: Path, views: Path) -> Iterator[Episode]:
    """Give the episodes of a campaign with what is found in its views now."""
    lines = views.read_text(encoding="utf-8")
    command = ("go", "run", "./python/bench/campaign/replay")
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False, cwd=_ROOT)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    looks: dict[int, list[tuple[float, Any]]] = {}
    for line, found in zip(lines.splitlines(), done.stdout.splitlines(), strict=True):
        view = json.loads(line)
        looks.setdefault(view["episode"], []).append((view["seconds"], json.loads(found)))
    for number, line in enumerate(results.read_text(encoding="utf-8").splitlines(), 1):
        yield dataclasses.replace(Episode.from_dict(json.loads(line)), claims=claims(looks.get(number, [])))


def _tell(number: int, episode: Episode) -> None:
    verdict = judge(episode)
    said = {None: "", True: "found", False: "MISSED"}[verdict.detected]
    after = "" if verdict.detect_seconds is None else f" after {verdict.detect_seconds:.1f} s"
    wrong = "".join(f"; WRONG {report.claim_text(claim)}" for claim in verdict.wrong)
    where = f"{episode.host} {episode.fault.direction or ''}".rstrip()
    print(f"campaign: {number}: {episode.fault.kind} at {where}: {said}{after}{wrong}", file=sys.stderr, flush=True)


def _append(path: Path | None, rows: Sequence[Any]) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main(sys.argv[1:])
