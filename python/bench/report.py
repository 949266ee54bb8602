"""From measurements to docs/overhead.md: targets, verdicts, tables."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from . import loop, sockets
from .timing import Ratio, quartiles, ratio

BEGIN = "<!-- make bench writes from here -->"
END = "<!-- to here -->"

_ROOT = Path(__file__).resolve().parents[2]
_MIB = 1 << 20
_MOST_RSS_BYTES = 12 * _MIB
_MOST_THREADS = 7
_MOST_STEP_SECONDS = 20e-6
_MOST_LOOP_RATIO = 2.5
# Fewer are not judged: what a reading costs without any connection is most of it.
_MOST_SOCKET_SECONDS, _JUDGED_SOCKETS = 2e-6, 1000


@dataclass(frozen=True)
class Target:
    """A side, what it is compared with, and the most it may cost as a multiple of that, by size; None: no target."""

    what: str
    side: str
    against: str
    baseline: str
    most: Mapping[int, float | None]
    busy: bool = True


_LATEST = "`latest()`, a new object"
_SAMPLE = "fresh `netmon_sample`, its JSON copied and freed"
_INTERFACES = "the same, interfaces only"
_PSUTIL = "`psutil.net_io_counters(pernic=True)`"
_FROM_C = "`netmon_sample` called from C"

TARGETS = (
    Target(_LATEST, "latest", "empty C function, same arguments", "empty call", {4: 3, 400: 3}, busy=False),
    Target(_LATEST, "latest", _PSUTIL, "psutil", {4: 1 / 50, 400: 1 / 50}, busy=False),
    Target(_SAMPLE, "sample", "C program that reads the same files", "reader", {4: 1.4, 400: 1.6}),
    Target(_INTERFACES, "sample of interfaces", _PSUTIL, "psutil", {4: 0.8, 400: 0.8}),
    Target(_SAMPLE, "sample", "Python: psutil and parsing, same five sources", "five sources in Python", {4: 0.5, 400: 0.5}),
    Target("`Monitor.sample()`, nothing read", "Monitor.sample", _FROM_C, "sample from C", {4: 2, 400: None}),
    Target(
        "`Monitor.sample()`, totals and tcp read",
        "Monitor.sample, totals and tcp read",
        _FROM_C,
        "sample from C",
        {4: 2, 400: None},
    ),
    Target(
        "`Monitor.sample()`, every field read",
        "Monitor.sample, all read",
        _FROM_C,
        "sample from C",
        {4: None, 400: None},
    ),
)


def verdict(value: float, most: float | None, low: float | None = None) -> str:
    """Say whether a target is met, and else by how much it is not."""
    if most is None:
        return ""
    if value <= most:
        return "met"
    inside = ", within the spread" if low is not None and low <= most else ""
    return f"**missed by {100 * (value / most - 1):.0f} %**{inside}"


def number(value: float) -> str:
    """Write a number with three digits that count."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Write a time in microseconds."""
    return f"{number(seconds * 1e6)} µs"


def limit(most: float | None) -> str:
    """Write a target."""
    return "" if most is None else f"≤ {number(most)}"


def spread(found: Ratio) -> str:
    """Write a ratio and its interval."""
    return f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Write a table in Markdown."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _size(measured: Mapping[str, Any]) -> str:
    return str(measured["size"] or f"{measured['interfaces']} (this machine's own)")


def _calls(results: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for target in TARGETS:
        for measured in results:
            for state in ("idle", "busy") if target.busy else ("idle",):
                sides = measured.get(state, {})
                if target.side not in sides or target.baseline not in sides:
                    continue
                found = ratio(sides[target.side], sides[target.baseline])
                most = target.most[measured["size"] or 4]
                rows.append(
                    [
                        target.what,
                        target.against,
                        f"{_size(measured)}{', all moving' if state == 'busy' else ''}",
                        duration(median(sides[target.side])),
                        duration(median(sides[target.baseline])),
                        spread(found),
                        limit(most),
                        verdict(found.value, most, found.low),
                    ]
                )
    lines = table(["what", "against", "interfaces", "median", "baseline", "ratio (95 %)", "target", ""], rows)
    for measured in results:
        if "moved" in measured:
            there, moved = measured["moved"]
            lines += ["", f"{_size(measured)}, all moving: {moved} of {there} counted packets between one call and the next."]
    return lines


def _parts(results: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for measured in results:
        for state in ("idle", "busy"):
            if state not in measured:
                continue
            at = {name: median(values) for name, values in measured[state].items()}
            steps = [
                at["reader"],
                at["sample's own account"] - at["reader"],
                at["sample from C"] - at["sample's own account"],
                at["sample"] - at["sample from C"],
            ]
            rows.append(
                [
                    f"{_size(measured)}{', all moving' if state == 'busy' else ''}",
                    *(duration(step) for step in steps),
                    duration(at["sample"]),
                    f"{measured['document_bytes']:,}",
                ]
            )
    parts = ["the kernel's files", "netmon reading and counting", "JSON, and out of Go", "ctypes and copy"]
    return table(["interfaces", *parts, "all", "JSON bytes"], rows)


def _loops(results: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for measured in results:
        cpu = measured["cpu"]
        idle = median(cpu["idle"])
        for interval in loop.INTERVALS:
            monitor = [value - idle for value in cpu[f"monitor {interval}"]]
            found = ratio(monitor, cpu[f"reader {interval}"])
            rows.append(
                [
                    str(measured["size"] or "this machine's own"),
                    f"{1 / interval:g} Hz",
                    f"{100 * median(monitor):.3f} %",
                    f"{100 * median(cpu[f'reader {interval}']):.3f} %",
                    spread(found),
                    limit(_MOST_LOOP_RATIO),
                    verdict(found.value, _MOST_LOOP_RATIO, found.low),
                    f"{100 * measured['own'][str(interval)]:.3f} %",
                ]
            )
    compared = ["netmon, of a core", "C program", "ratio (95 %)", "target", ""]
    return table(["interfaces", "rate", *compared, "`self.cpu_seconds_total` says"], rows)


def _footprints(results: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for measured in results:
        stages = measured["stages"]
        base = stages["netmon imported"]
        for name, stage in list(stages.items())[1:]:
            rss, threads = stage["rss_bytes"] - base["rss_bytes"], stage["threads"] - base["threads"]
            judged = stage is not base
            rows.append(
                [
                    str(measured["size"] or "this machine's own"),
                    name,
                    f"{stage['rss_bytes'] / _MIB:.1f} MiB",
                    f"{rss / _MIB:+.1f} MiB" if judged else "",
                    f"{(stage['private_bytes'] - base['private_bytes']) / _MIB:+.1f} MiB" if judged else "",
                    f"{threads:+d}" if judged else "",
                    f"{stage['descriptors'] - base['descriptors']:+d}" if judged else "",
                    "; ".join(
                        f"{kind} {said}"
                        for kind, said in (
                            ("memory", verdict(rss, _MOST_RSS_BYTES)),
                            ("threads", verdict(threads, _MOST_THREADS)),
                        )
                    )
                    if judged
                    else "",
                ]
            )
    return table(["interfaces", "state of the process", "RSS", "RSS added", "private", "threads", "descriptors", ""], rows)


def _steps(measured: Mapping[str, Any]) -> list[str]:
    if "missing" in measured:
        return [f"Not measured: {measured['missing']}."]
    sides = measured["steps"]
    rows = []
    for name, text in (("step", "usual settings"), ("step without its log", "`enable_jsonl_logging=False`")):
        added = [value - empty for value, empty in zip(sides[name], sides["empty"], strict=True)]
        low, high = quartiles(added)
        rows.append(
            [
                text,
                f"{duration(median(added))} ({number(low * 1e6)} to {number(high * 1e6)})",
                duration(median(sides["empty"])),
                f"≤ {duration(_MOST_STEP_SECONDS)}",
                verdict(median(added), _MOST_STEP_SECONDS, low),
            ]
        )
    return table(["DistributedTrainingMonitor", "added to a step (middle half)", "empty callback", "target", ""], rows)


def _sockets(measured: Mapping[str, Any]) -> list[str]:
    if "missing" in measured:
        return [f"Not measured: {measured['missing']}."]
    rows = []
    for cost in measured["cost"]:
        count, sides = cost["connections"], cost["seconds"]
        each = [seconds / count for seconds in sides[sockets.NETMON]]
        most = _MOST_SOCKET_SECONDS if count >= _JUDGED_SOCKETS else None
        rows.append(
            [
                f"{count:,}",
                duration(median(sides[sockets.NETMON])),
                f"{number(median(each) * 1e6)} µs ({number(min(each) * 1e6)} to {number(max(each) * 1e6)})",
                "" if most is None else f"≤ {duration(most)}",
                verdict(median(each), most, min(each)),
            ]
        )
        for baseline in (sockets.SS, sockets.PSUTIL):
            rows[-1] += [
                duration(median(sides[baseline])),
                spread(ratio(sides[sockets.NETMON], sides[baseline])),
            ]
    compared = [text for side in (sockets.SS, sockets.PSUTIL) for text in (f"`{side}`", "netmon over it (95 %)")]
    lines = table(["connections", "a reading", "a connection (least to most)", "target", "", *compared], rows)

    stages, rows = measured["memory"]["stages"], []
    opened, readings = measured["memory"]["connections"], measured["memory"]["readings"]
    for name, text in (("before", "no connections"), ("after", f"{opened:,} connections, read {readings:,} times")):
        held = [stages[name][who]["rss_bytes"] / _MIB for who in ("with", "without")]
        rows.append([text, *(f"{rss:.1f} MiB" for rss in held), f"{held[0] - held[1]:+.1f} MiB"])
    return [*lines, "", *table(["RSS of a process", "with a monitor", "without", "added"], rows)]


def about(command: str, quick: bool, *programs: str) -> list[str]:
    """Say where, when and how something is measured.

    Args:
        command: what people type.
        quick: this is its quick form.
        programs: what is measured with beside Python and Go, each with its version.
    """
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            told = file.read()
    except OSError:
        told = ""
    model = re.search(r"^model name\s*: (.*)$", told, re.MULTILINE)
    virtual = " (virtual machine)" if re.search(r"^flags\s*:.*\bhypervisor\b", told, re.MULTILINE) else ""
    return [
        f"Machine: {model[1] if model else platform.machine()}, {os.cpu_count()} cores{virtual}, Linux {platform.release()}; "
        f"load over the last minute when it began: {os.getloadavg()[0]:.2f}",
        ", ".join([f"Python {platform.python_version()}", *programs, ask("go", "env", "GOVERSION")]),
        f"Command: `{command}`{' in its quick form, too short to be quoted' if quick else ''}, "
        f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, at commit {ask('git', 'describe', '--always', '--dirty')}",
    ]


def ask(*command: str) -> str:
    """Return what a command prints about itself or the repository."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=_ROOT).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        answer = ""
    return answer or f"{command[0]}: unknown"


def section(machine: Sequence[str], results: Mapping[str, Any]) -> str:
    """Write the generated part of the document.

    Args:
        machine: lines that say where, when and how this was measured.
        results: ``calls`` and ``loop``, a measurement per size, ``steps`` and ``sockets``.
    """
    lines = [BEGIN, ""]
    lines += [f"- {line}" for line in machine]
    lines += ["", "### Calls", "", *_calls(results["calls"])]
    lines += ["", "### Where the time of a fresh sample goes", "", *_parts(results["calls"])]
    lines += ["", "### CPU time of the background loop", "", *_loops(results["loop"])]
    lines += ["", "### Memory, threads and descriptors of one monitor", "", *_footprints(results["loop"])]
    lines += ["", "### A step of training", "", *_steps(results["steps"])]
    lines += ["", "### Own connections", "", *_sockets(results["sockets"])]
    return "\n".join([*lines, "", END])


def write(path: Path, text: str, begin: str = BEGIN) -> None:
    """Put the generated part into a document in place of the last one, or make a document of it; ``begin`` marks its begin."""
    before, after = "", "\n"
    if path.exists():
        document = path.read_text(encoding="utf-8")
        before, found, rest = document.partition(begin)
        if found:
            _, found, after = rest.partition(END)
        if not found:
            raise ValueError(f"{path} has no part between {begin!r} and {END!r} to put the results in")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(before + text + after, encoding="utf-8")
