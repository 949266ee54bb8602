"""Measure everything and write the report: ``python -m bench [--quick] [--report FILE]``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import native, report

_ROOT = Path(__file__).resolve().parents[2]

# Full: 60 s of the loop, some 25 s of calls a size, and a minute of readings of own connections, of which netmon makes those of
# 10,000 no more often than every second or two. Quick: to see that all of it runs.
_FULL: Mapping[str, Any] = {
    "calls": {"rounds": 60, "block_seconds": 0.03},
    "steps": {"rounds": 60, "block_seconds": 0.03},
    "loop": {"seconds": 60.0, "samples": 100_000},
    "sockets": {"plan": [[10, 60], [1000, 60], [10_000, 15]], "readings": 10},
}
_QUICK: Mapping[str, Any] = {
    "calls": {"rounds": 10, "block_seconds": 0.005},
    "steps": {"rounds": 10, "block_seconds": 0.005},
    "loop": {"seconds": 6.0, "samples": 1000},
    "sockets": {"plan": [[10, 5], [1000, 3], [2000, 1]], "readings": 1},
}


def with_psutil(arguments: Sequence[str]) -> None:
    """Go on where psutil is: here, or in an environment of the bench's own, made where it is missing."""
    if importlib.util.find_spec("psutil") is not None:
        return
    home = native.BUILD / "venv"
    python = home / "bin" / "python"
    if not python.exists():
        print("bench: psutil is not installed; making an environment that has it", file=sys.stderr)
        venv.create(home, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "psutil"], check=True)
    os.execv(python, [str(python), "-m", "bench", *arguments])  # noqa: S606


class Worker:
    """A module of the bench that measures in a process, and namespace, of its own."""

    def __init__(self, module: str, prefix: Sequence[str], **arguments: Any) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", f"bench.{module}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(arguments))
        self._process.stdin.close()
        self._process.stdin = None

    def result(self) -> Any:
        """Wait for what it measured."""
        answer, _ = self._process.communicate()
        if self._process.returncode != 0:
            raise SystemExit(f"bench: measuring {self._module} failed")
        return json.loads(answer)


def measure(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Run all workers, those that time calls one after the other."""
    from . import namespace

    prefix = namespace.prefix()
    if prefix is None:
        print("bench: no network namespaces here: measuring among this machine's own interfaces only", file=sys.stderr)
    sizes: Sequence[int | None] = (None,) if prefix is None else namespace.SIZES
    results: dict[str, Any] = {"calls": []}
    for size in sizes:
        print(f"bench: calls, {size or 'own'} interfaces", file=sys.stderr)
        results["calls"].append(Worker("calls", prefix or (), size=size, **plan["calls"]).result())
    print("bench: steps", file=sys.stderr)
    results["steps"] = Worker("steps", prefix or (), size=sizes[0], **plan["steps"]).result()
    print("bench: own connections", file=sys.stderr)
    results["sockets"] = Worker("sockets", prefix or (), private=prefix is not None, **plan["sockets"]).result()
    print(f"bench: loop, {plan['loop']['seconds']:.0f} s", file=sys.stderr)
    results["loop"] = [
        worker.result() for worker in [Worker("loop", prefix or (), size=size, **plan["loop"]) for size in sizes]
    ]
    return results


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="measure what netmon costs")
    parser.add_argument("--quick", action="store_true", help="under a minute, to see that everything runs")
    parser.add_argument(
        "--report", type=Path, default=_ROOT / "docs" / "overhead.md", help="document to renew (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="also write every measured value here")
    options = parser.parse_args(arguments)
    with_psutil(arguments)
    native.build()
    import psutil

    about = report.about("make bench", options.quick, f"psutil {psutil.__version__}")
    results = measure(_QUICK if options.quick else _FULL)
    if options.json:
        options.json.write_text(json.dumps(results), encoding="utf-8")
    text = report.section(about, results)
    report.write(options.report, text)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
