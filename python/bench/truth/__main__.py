"""Measure how true netmon's figures are and write the report: ``python -m bench.truth [--quick] [--report FILE]``."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import report as general
from . import cost, delays, losses, observed, report, tools
from .link import link

_ROOT = Path(__file__).resolve().parents[3]

# Two cores, as what is said of busy ones is said of two.
_CORES = 2
_BUSY_PROCESSES = 4
_INTERVAL = 0.03

# Full: under six minutes. Quick: to see that all of it runs.
_FULL: Mapping[str, Any] = {
    "trips": 1000,
    "delays": {0.0001: 200, 0.001: 200, 0.010: 200, 0.050: 100},
    "losses": [(1000, 500), (100, 250), (10, 50), (1, 6)],
    "cost": 65.0,
    "observed": {"rates": [50e6, 200e6, 1e9, 2e9], "seconds": 10.0, "bytes": 600_000_000, "bandwidth_rates": [100e6, 1e9]},
}
_QUICK: Mapping[str, Any] = {
    "trips": 10,
    "delays": {0.0001: 5, 0.001: 5, 0.010: 5, 0.050: 5},
    "losses": [(1000, 125), (100, 25), (10, 5), (1, 1)],
    "cost": 5.0,
    "observed": {"rates": [200e6], "seconds": 1.5, "bytes": 6_000_000, "bandwidth_rates": [100e6]},
}


def measure(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Measure everything, one thing after the other."""
    results: dict[str, Any] = {}
    with link() as on:
        _say("round trips on an idle link")
        tools.run(on.tools(), 5, _INTERVAL)  # what is done for the first time takes longer
        results["idle"] = tools.run(on.tools(), plan["trips"], _INTERVAL)
        _say("round trips on busy hosts")
        with on.here.load(_BUSY_PROCESSES):
            results["busy"] = tools.run(on.tools(), plan["trips"], _INTERVAL)
        results["delays"] = []
        for added, count in plan["delays"].items():
            _say(f"a delay of {added * 1e3:g} ms")
            results["delays"].append(delays.measure(on, added, count, _INTERVAL))
    results["losses"] = losses.measure(plan["losses"])
    results["observed"] = observed.measure(plan["observed"])
    _say(f"{cost.TARGETS} targets, {plan['cost']:.0f} s")
    results["cost"] = cost.measure(plan["cost"])
    return results


def _say(what: str) -> None:
    print(f"bench-truth: {what}", file=sys.stderr)


def _versions() -> list[str]:
    """Say which programs netmon is compared with."""
    asked = (("ping", "-V"), ("fping", "--version"), ("iperf3", "--version"), ("ss", "-V"), ("go", "list", "-m", "all"))
    said = "\n".join(general.ask(*command) for command in asked)
    patterns = {
        "ping": r"iputils (\S+)",
        "fping": r"fping: Version (\S+)",
        "pro-bing": r"pro-bing v(\S+)",
        "iperf3": r"iperf (\S+)",
        "ss": r"iproute2-(\S+)",
    }
    return [f"{name} {found[1] if (found := re.search(pattern, said)) else 'unknown'}" for name, pattern in patterns.items()]


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m bench.truth", description="measure how true netmon's figures are")
    parser.add_argument("--quick", action="store_true", help="half a minute, to see that everything runs")
    parser.add_argument(
        "--report", type=Path, default=_ROOT / "docs" / "accuracy.md", help="document to renew (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="also write every measured value here")
    parser.add_argument(
        "--cost-seconds", type=float, help="how long to watch what 50 targets cost; 600 fills the history of samples"
    )
    options = parser.parse_args(arguments)
    tools.build()
    about = general.about("make bench-truth", options.quick, *_versions())
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])
    plan = dict(_QUICK if options.quick else _FULL)
    if options.cost_seconds is not None:
        plan["cost"] = options.cost_seconds
    results = measure(plan)
    if options.json:
        options.json.write_text(json.dumps(results), encoding="utf-8")
    text = report.section(about, results)
    general.write(options.report, text, report.BEGIN)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
