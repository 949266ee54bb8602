"""What netmon shows of a slow link, and of what is taken for one: ``PYTHONPATH=python python -m bench.slow_link``.

The job of the campaign, four gloo ranks in the network lab, each on a host of its own behind 200 Mbit/s each way, trains once
for each state: healthy, and with a fault at ``h2``. A fault is there for longer than the longest window of what is shown
(probes tell of 60 s), and its last seconds are read. Renews docs/slow-link.md; takes some eleven minutes. Needs root.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from . import report
from .campaign.faults import KINDS
from .campaign.job import job

PAGE = Path(__file__).resolve().parents[2] / "docs/slow-link.md"
BEGIN = "<!-- make slow-link writes from here -->"

# What a column is called, and the campaign's fault behind it.
STATES = {
    "healthy": "none",
    "half rate": "half rate",
    "10 % rate": "10 % rate",
    "1 % loss": "1 % loss",
    "+5 ms": "+5 ms",
    "busy host": "busy host",
    "stopped rank": "SIGSTOP",
}
_HOSTS, _CULPRIT, _READER = 4, 1, 0  # h2 has the fault, h1 logs
_DIRECTION = "transmit"

_HEALTHY_SECONDS = 10.0
_FAULT_SECONDS = 75.0
_READ_SECONDS = 15.0

_NOT_KNOWN = "-"

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Seen:
    """What was seen in one state.

    Attributes:
        began: when the fault was put in, on the monotonic clock.
        ended: when what follows was read.
        lines: what each rank printed since the fault was there.
    """

    began: float
    ended: float
    lines: Sequence[Sequence[Line]]

    def last(self, rank: int) -> list[Line]:
        """Return a rank's lines of the last seconds."""
        return [line for line in self.lines[rank] if line["time"] >= self.ended - _READ_SECONDS]


def measure(fault: str, healthy_seconds: float, fault_seconds: float) -> Seen:
    """Run a job, put a fault in, and return what its ranks printed while it was there."""
    with job(_HOSTS, views=True, figures=True) as running:
        running.wait(healthy_seconds)
        began = time.monotonic()
        with KINDS[fault].put(running.lab.hosts[_CULPRIT], _DIRECTION):
            running.wait(fault_seconds)
            ended = time.monotonic()
            lines = [[line for line in said if began <= line["time"] < ended] for said in running.lines]
    return Seen(began, ended, lines)


# From lines to figures. None: not known.


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def steps_per_second(seen: Seen) -> float | None:
    """Return the pace of the job, by the rank that logs."""
    lines = seen.last(_READER)
    if len(lines) < 2:
        return None
    pace: float = (lines[-1]["steps"] - lines[0]["steps"]) / (lines[-1]["time"] - lines[0]["time"])
    return pace


def logged(key: str) -> Callable[[Seen], float | None]:
    """Return the median of what trackers get under a key."""
    return lambda seen: _middle(line["values"].get(key) for line in seen.last(_READER))


def _views(seen: Seen) -> list[Mapping[str, Any]]:
    return [line["view"] for line in seen.last(_READER) if "view" in line]


def _rank(view: Mapping[str, Any], rank: int) -> Mapping[str, Any]:
    row: Mapping[str, Any] = next(row for row in view["ranks"] if row["rank"] == rank)
    return row


def _both(figure: Callable[[Seen, int], float | None], write: Callable[[float], str]) -> Callable[[Seen], str]:
    """Write a figure of the culprit's rank, and the median of the others'."""

    def cell(seen: Seen) -> str:
        others = [rank for rank in range(_HOSTS) if rank != _CULPRIT]
        values = (figure(seen, _CULPRIT), _middle(figure(seen, rank) for rank in others))
        return " / ".join(_NOT_KNOWN if value is None else write(value) for value in values)

    return cell


def _of_rank(name: str) -> Callable[[Seen, int], float | None]:
    return lambda seen, rank: _middle(_rank(view, rank)[name] for view in _views(seen))


def _of_node(name: str) -> Callable[[Seen, int], float | None]:
    def figure(seen: Seen, rank: int) -> float | None:
        return _middle(node[name] for view in _views(seen) for node in view["nodes"] if rank in node["ranks"])

    return figure


def _ways(view: Mapping[str, Any], rank: int) -> list[Mapping[str, Any]]:
    """Return a rank's ways to other ranks, the one on which it sent most first."""
    ways = [way for way in _rank(view, rank)["peers"] if way["node"] not in (None, _rank(view, rank)["node"])]
    return sorted(ways, key=lambda way: way["sent_bytes"] or 0, reverse=True)


def _busiest(name: str) -> Callable[[Seen, int], float | None]:
    return lambda seen, rank: _middle(way[name] for view in _views(seen) for way in _ways(view, rank)[:1])


def _probed(seen: Seen, rank: int) -> float | None:
    ways = [way for view in _views(seen) for way in _ways(view, rank)]
    return _middle(way["probe_rtt_last_seconds"] for way in ways)


def _retransmitted(seen: Seen, rank: int) -> float | None:
    ways = [way for view in _views(seen) for way in _ways(view, rank) if way["segments_sent"] is not None]
    return _ratio(sum(way["segments_retransmitted"] or 0 for way in ways), sum(way["segments_sent"] for way in ways))


def _outside(seen: Seen, rank: int) -> float | None:
    ratio = _of_rank("collective_ratio")(seen, rank)
    return None if ratio is None else 1 - ratio


def _runs(seen: Seen, rank: int, name: str) -> list[Mapping[str, Any]]:
    return [run for line in seen.last(rank) for run in line["phases"] if run["name"] == name]


def _of_phase(name: str, field: str) -> Callable[[Seen, int], float | None]:
    return lambda seen, rank: _middle(run[field] for run in _runs(seen, rank, name))


def _verdicts(name: str, ranks: Sequence[int]) -> Callable[[Seen], str]:
    def cell(seen: Seen) -> str:
        counted = Counter(run["verdict"] for rank in ranks for run in _runs(seen, rank, name))
        said = [f"{verdict or 'null'} {_percent(count / counted.total())}" for verdict, count in counted.most_common(2)]
        return ", ".join(said) or _NOT_KNOWN

    return cell


def _states(seen: Seen) -> str:
    views = _views(seen)
    if not views:
        return _NOT_KNOWN
    own, *others = (_rank(views[-1], rank)["state"] for rank in (_CULPRIT, *(r for r in range(_HOSTS) if r != _CULPRIT)))
    return f"{own} / {', '.join(sorted(set(others)))}"


# From figures to text.


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.3g} %"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def _megabits(bytes_per_second: float) -> str:
    return f"{8e-6 * bytes_per_second:.3g}"


def _number(value: float) -> str:
    return f"{value:.3g}"


def _one(figure: Callable[[Seen], float | None], write: Callable[[float], str]) -> Callable[[Seen], str]:
    def cell(seen: Seen) -> str:
        value = figure(seen)
        return _NOT_KNOWN if value is None else write(value)

    return cell


_OTHERS = [rank for rank in range(_HOSTS) if rank != _CULPRIT]

ROWS: Mapping[str, Mapping[str, Callable[[Seen], str]]] = {
    "What trackers get": {
        "steps a second (not netmon's)": _one(steps_per_second, _number),
        "`network/transmit_bytes_per_second`, in Mbit/s": _one(logged("network/transmit_bytes_per_second"), _megabits),
        "`network/utilization_ratio`": _one(logged("network/utilization_ratio"), _percent),
        "`network/retransmit_ratio`": _one(logged("network/retransmit_ratio"), _percent),
        "`network/rtt_p50_seconds`": _one(logged("network/rtt_p50_seconds"), _milliseconds),
        "`network/loss_ratio`": _one(logged("network/loss_ratio"), _percent),
        "`network/slowest_node_ratio`": _one(logged("network/slowest_node_ratio"), _number),
        "`network/findings`": _one(logged("network/findings"), _number),
    },
    "Which host it is": {
        "node sends, Mbit/s": _both(_of_node("transmit_bytes_per_second"), _megabits),
        "`delivery_bytes_per_second` of the busiest way, in Mbit/s": _both(_busiest("delivery_bytes_per_second"), _megabits),
        "`rtt_seconds` of the busiest way": _both(_busiest("rtt_seconds"), _milliseconds),
        "`probe_rtt_last_seconds`, all ways": _both(_probed, _milliseconds),
        "`probe_rtt_min_seconds` of the busiest way": _both(_busiest("probe_rtt_min_seconds"), _milliseconds),
        "segments sent again": _both(_retransmitted, _percent),
        "time outside of collectives": _both(_outside, _percent),
        "`last_ratio`": _both(_of_rank("last_ratio"), _percent),
        "`waiting_seconds`": _both(_of_rank("waiting_seconds"), _milliseconds),
        "`pending_seconds`": _both(_of_rank("pending_seconds"), _milliseconds),
        "`state`": _states,
    },
    "Phases": {
        **{
            f"`{name}`: seconds": _both(_of_phase(name, "seconds"), _milliseconds)
            for name in ("compute", "reduce", "broadcast", "barrier")
        },
        "`reduce`: peak, in Mbit/s": _both(_of_phase("reduce", "peak_bytes_per_second"), _megabits),
        "`reduce`: `waiting_ratio`": _both(_of_phase("reduce", "waiting_ratio"), _percent),
        "`reduce`: `steady_ratio`": _both(_of_phase("reduce", "steady_ratio"), _percent),
        "`reduce`: `retransmit_ratio`": _both(_of_phase("reduce", "retransmit_ratio"), _percent),
        "`reduce`: verdicts at h2": _verdicts("reduce", [_CULPRIT]),
        "`reduce`: verdicts at the others": _verdicts("reduce", _OTHERS),
    },
}


def _claims(seen: Seen) -> list[str]:
    """Say what the job's view claimed, that came first first, and what h2's own process says by itself."""
    looks = [line for line in seen.lines[_READER] if line["findings"] is not None]
    times: dict[tuple[Any, ...], list[float]] = {}
    newest: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for line in looks:
        for finding in line["findings"]:
            key = (finding["class"], finding["host"], finding["rank"], finding["direction"])
            times.setdefault(key, []).append(line["time"])
            newest[key] = finding
    lines = []
    for key, at in sorted(times.items(), key=lambda item: item[1][0]):
        finding = newest[key]
        while_said = [line["time"] for line in looks if at[0] <= line["time"] <= at[-1]]
        gaps = "" if len(at) == len(while_said) else f", in {_percent(len(at) / len(while_said))} of the looks meanwhile"
        said = f"from {at[0] - seen.began:.0f} to {at[-1] - seen.began:.0f} s{gaps}, confidence {finding['confidence']:.2g}"
        lines.append(f"`{finding['class']}` {said}: {finding['text']}")
    alone = [finding for line in seen.last(_CULPRIT)[-1:] for finding in line["own"] or ()]
    lines += [f"h2's own process, by itself, at the end: `{finding['class']}`: {finding['text']}" for finding in alone]
    return lines or ["nothing"]


def section(about: Sequence[str], states: Mapping[str, Seen]) -> str:
    """Write the generated part of the document."""
    lines = [BEGIN, "", *(f"- {line}" for line in about)]
    for title, rows in ROWS.items():
        cells = [[name, *(cell(seen) for seen in states.values())] for name, cell in rows.items()]
        lines += ["", f"### {title}", "", *report.table(["", *states], cells)]
    lines += ["", "### Findings", "", "Of the job's view, in seconds since the fault was put in, with the newest numbers.", ""]
    for name, seen in states.items():
        lines += [f"- **{name}**", *(f"  - {claim}" for claim in _claims(seen))]
    return "\n".join([*lines, "", report.END])


def main(arguments: Sequence[str]) -> None:
    """Measure all states, and renew the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.slow_link", description="show what a slow link looks like")
    parser.add_argument("--quick", action="store_true", help="for a few seconds each, to see that it works")
    parser.add_argument("--only", nargs="+", choices=list(STATES), help="leave out other states")
    parser.add_argument("--json", type=Path, help="write everything that ranks printed here")
    parser.add_argument("--replay", type=Path, help="measure nothing: read what --json wrote")
    parser.add_argument("--report", type=Path, default=PAGE, help="the document to renew (default %(default)s)")
    options = parser.parse_args(arguments)
    seconds = (2.0, 8.0) if options.quick else (_HEALTHY_SECONDS, _FAULT_SECONDS)
    if options.replay:
        told = json.loads(options.replay.read_text(encoding="utf-8"))
        about, states = told["about"], {name: Seen(**seen) for name, seen in told["states"].items()}
    else:
        about = [
            *report.about("make slow-link", options.quick),
            f"In each state {seconds[0]:g} s without a fault and {seconds[1]:g} s with it, h2's, in what it sends; h1 logs",
            f"Figures are medians of the last {_READ_SECONDS:g} s; `a / b`: of h2, and the median of the other three; "
            f"`{_NOT_KNOWN}`: not known",
        ]
        states = {}
        for name, fault in STATES.items():
            if options.only and name not in options.only:
                continue
            print(f"slow_link: {name}", file=sys.stderr, flush=True)
            states[name] = measure(fault, *seconds)
    if options.json:
        rows = {name: {"began": s.began, "ended": s.ended, "lines": s.lines} for name, s in states.items()}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"about": about, "states": rows}), encoding="utf-8")
    text = section(about, states)
    report.write(options.report, text, BEGIN)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
