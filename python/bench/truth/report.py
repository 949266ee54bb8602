"""From measurements to docs/accuracy.md: targets, verdicts, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ..report import END, number, table, verdict
from . import cost, link, observed

BEGIN = "<!-- make bench-truth writes from here -->"

_US = 1e-6
_MIB = 1 << 20
_MOST_IDLE_SECONDS = 5 * _US
_MOST_BUSY_SECONDS = 20 * _US
_MOST_BUSY_P99_SECONDS = 100 * _US
_MOST_DELAY_SECONDS, _MOST_DELAY_RATIO = 20 * _US, 0.01
_MOST_CPU_RATIO = 0.005
_MOST_RSS_BYTES = 2 * _MIB

# Whose p50 is to be right, and whose p99.
_JUDGED_IDLE = (link.ICMP, link.TCP)
_JUDGED_BUSY = (link.ICMP, link.ICMP_RAW, link.TCP, link.UDP)
_JUDGED_BUSY_P99 = (link.UDP,)
_JUDGED_DELAY = (link.ICMP, link.TCP, link.UDP)
JUDGED_LOSS = ("`icmp`", "`tcp`", "`udp`")

_MOST_RATE_RATIO, _MOST_BEST_RATIO, _MOST_BANDWIDTH_RATIO = 0.01, 0.02, 0.03
_MOST_LOST_RATIO, _MOST_LOST_RATIO_BBR, _MOST_LOST = 0.005, 0.05, 1
_MOST_SS_SECONDS = 1 * _US

Found = Mapping[str, Mapping[str, Any]]


def microseconds(seconds: float | None) -> str:
    """Write a time."""
    return "" if seconds is None else f"{seconds * 1e6:,.1f} µs"


def difference(seconds: float | None, other: float | None) -> str:
    """Write how much more a time is than another."""
    return "" if seconds is None or other is None else f"{(seconds - other) * 1e6:+,.1f} µs"


def _who(name: str) -> str:
    return f"netmon {name}" if name.startswith("`") else name


def _judge(judged: bool, seconds: float | None, right: float, most: float) -> list[str]:
    """Write a target and the verdict about a difference."""
    if not judged:
        return ["", ""]
    return [f"within {number(most * 1e6)} µs", "no answer" if seconds is None else verdict(abs(seconds - right), most)]


def _answers(found: Mapping[str, Any]) -> str:
    return f"{found['received']:,} of {found['sent']:,}"


def _idle(found: Found) -> list[str]:
    right, stamped = found[link.PING]["p50"], found[link.ECHO]["p50"]
    rows = []
    for name, trips in found.items():
        p50 = trips["p50"]
        rows.append(
            [
                _who(name),
                _answers(trips),
                microseconds(p50),
                microseconds(trips["p99"]),
                difference(p50, right),
                *_judge(name in _JUDGED_IDLE, p50, right, _MOST_IDLE_SECONDS),
                difference(p50, stamped),
            ]
        )
    compared = ["p50 less ping's", "target", "", "p50 less the echo's"]
    return table(["", "answers", "p50", "p99", *compared], rows)


def _busy(found: Found, idle: Found) -> list[str]:
    right = idle[link.PING]["p50"]
    rows = []
    for name, trips in found.items():
        p50, p99 = trips["p50"], trips["p99"]
        judged_p99 = name in _JUDGED_BUSY_P99 and p99 is not None
        rows.append(
            [
                _who(name),
                _answers(trips),
                microseconds(p50),
                difference(p50, right),
                *_judge(name in _JUDGED_BUSY, p50, right, _MOST_BUSY_SECONDS),
                difference(p50, found[link.PING]["p50"]),
                difference(p50, idle[name]["p50"]),
                microseconds(p99),
                f"≤ {number(_MOST_BUSY_P99_SECONDS * 1e6)} µs" if judged_p99 else "",
                verdict(p99, _MOST_BUSY_P99_SECONDS) if judged_p99 else "",
            ]
        )
    compared = ["p50 less idle ping's", "target", "", "p50 less busy ping's", "p50 less its own when idle"]
    return table(["", "answers", "p50", *compared, "p99", "target", ""], rows)


def _delays(results: Sequence[Mapping[str, Any]], idle: Found) -> list[str]:
    rows = []
    for measured in results:
        for name, trips in measured["found"].items():
            p50, held = trips["p50"], measured["held"][name]
            right = held + idle[name]["p50"]
            rows.append(
                [
                    f"{number(measured['added'] * 1e3)} ms",
                    _who(name),
                    _answers(trips),
                    microseconds(held),
                    microseconds(p50),
                    difference(p50, right),
                    *_judge(name in _JUDGED_DELAY, p50, right, max(_MOST_DELAY_SECONDS, _MOST_DELAY_RATIO * right)),
                    difference(p50, held + idle[link.ECHO]["p50"]),
                ]
            )
    compared = ["error", "target", "", "with the echo's idle p50"]
    return table(["added", "", "answers", "held, median", "p50", *compared], rows)


def equal(row: Mapping[str, Any]) -> bool:
    """Tell whether a program counted every lost packet, and no other."""
    return bool(row["lost"] == row["dropped"] and row["sent"] == row["seen"])


def _losses(results: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for row in results:
        off = f"**off by {row['lost'] - row['dropped']:+,} lost, {row['sent'] - row['seen']:+,} sent**"
        rows.append(
            [
                f"{number(100 / row['every'])} %",
                _who(row["what"]),
                *(f"{row[name]:,}" for name in ("seen", "dropped", "sent", "lost")),
                "equal" if row["what"] in JUDGED_LOSS else "",
                ("met" if equal(row) else off) if row["what"] in JUDGED_LOSS else ("" if equal(row) else off.strip("*")),
            ]
        )
    said = ["it sent", "it lost"]
    return table(["loss", "", "packets the filter saw", "it dropped", *said, "target", ""], rows)


def _megabits(bytes_per_second: float) -> str:
    return f"{bytes_per_second * 8 / 1e6:,.2f} Mbit/s"


def _against(where: str, what: str, by: str, said: float, right: float, most: float) -> list[str]:
    """Write a row about two rates."""
    off = said / right - 1
    target = f"within {number(100 * most)} %"
    return [where, what, _megabits(said), by, _megabits(right), f"{100 * off:+.2f} %", target, verdict(abs(off), most)]


def _observed(found: Mapping[str, Any]) -> list[str]:
    rows = []
    for end in found["throughput"]:
        where, way = f"{end['rate'] / 1e6:,g} Mbit/s", end["way"]
        rate = f"`{way}_bytes_per_second`"
        rows.append(_against(where, rate, "`ip -s link`", end["netmon"], end["counted"], _MOST_RATE_RATIO))
        rows.append(_against(where, f"`{way}_best_bytes_per_second`", "as set", end["best"], end["rate"] / 8, _MOST_BEST_RATIO))
    for one in found["bandwidth"]:
        where, what = f"{one['rate'] / 1e6:,g} Mbit/s", f"`measure_bandwidth`, {one['direction']}"
        rows.append(_against(where, what, "iperf3, receiver", one["netmon"], one["iperf3"], _MOST_BANDWIDTH_RATIO))
    for control, lost in found["retransmissions"].items():
        ratio = _MOST_LOST_RATIO_BBR if control == "bbr" else _MOST_LOST_RATIO
        most, off = max(_MOST_LOST, ratio * lost["dropped"]), lost["lost"] - lost["dropped"]
        rows.append(
            [
                f"1 in {observed.LOST_EVERY} lost, {control}",
                "retransmitted, less duplicates",
                f"{lost['lost']:,}",
                "dropped by the filter",
                f"{lost['dropped']:,}",
                f"{off:+,}",
                f"within {number(most)}",
                verdict(abs(off), most),
            ]
        )
    trip = found["round_trip"]
    for name in ("rtt_seconds", "rtt_min_seconds", "rtt_variation_seconds"):
        said, right = trip["netmon"][name], trip["ss"][name]
        # ss prints six digits, and netmon's are doubles.
        most = _MOST_SS_SECONDS + 1e-5 * right
        rows.append(
            [
                f"{number(observed.HELD_SECONDS * 1e3)} ms held",
                f"`{name}`",
                microseconds(said),
                "`ss -ti`",
                microseconds(right),
                difference(said, right),
                f"within {number(_MOST_SS_SECONDS * 1e6)} µs",
                verdict(abs(said - right), most),
            ]
        )
    return table(["link", "", "netmon", "by", "it says", "off", "target", ""], rows)


def _cost(measured: Mapping[str, Any]) -> list[str]:
    def rss(what: str) -> float:
        return float(median(footprint["rss_bytes"] for footprint in measured["footprints"][what]))

    cpu = {what: median(shares) for what, shares in measured["cpu"].items()}
    added = [w - o for w, o in zip(measured["cpu"][cost.WITH], measured["cpu"][cost.WITHOUT], strict=True)]
    added_own = measured["own"][cost.WITH] - measured["own"][cost.WITHOUT]
    added_rss = rss(cost.WITH) - rss(cost.WITHOUT)
    monitor = f"netmon, {cost.TARGETS} targets at 1 Hz"
    rows = [
        ["netmon, no targets", _percent(cpu[cost.WITHOUT]), "", "", f"{rss(cost.WITHOUT) / _MIB:.1f} MiB", "", ""],
        [monitor, _percent(cpu[cost.WITH]), "", "", f"{rss(cost.WITH) / _MIB:.1f} MiB", "", ""],
        [
            "added by the targets",
            f"{_percent(median(added))} (its own account: {_percent(added_own)})",
            f"≤ {_percent(_MOST_CPU_RATIO)}",
            verdict(median(added), _MOST_CPU_RATIO, min(added)),
            f"{added_rss / _MIB:+.2f} MiB",
            f"≤ {_MOST_RSS_BYTES / _MIB:.0f} MiB",
            verdict(added_rss, _MOST_RSS_BYTES),
        ],
    ]
    for what, text in ((cost.FPING, "`fping -l`"), (cost.PRO_BING, "pro-bing alone, one pinger each")):
        rows.append([f"{text}, the same targets", _percent(cpu[what]), "", "", f"{rss(what) / _MIB:.1f} MiB", "", ""])
    return table(["process", "CPU, of a core", "target", "", "RSS", "target", ""], rows)


def _percent(share: float) -> str:
    return f"{100 * share:.3f} %"


def section(machine: Sequence[str], results: Mapping[str, Any]) -> str:
    """Write the generated part of the document.

    Args:
        machine: lines that say where, when and how this was measured.
        results: ``idle``, ``busy``, ``delays``, ``losses``, ``observed`` and ``cost``, as their modules return them.
    """
    idle = results["idle"]
    lines = [BEGIN, ""]
    lines += [f"- {line}" for line in machine]
    lines += ["", "### Round trips on an idle link", "", *_idle(idle)]
    lines += ["", "### Four busy threads on two cores", "", *_busy(results["busy"], idle)]
    lines += ["", "### A delay that is known", "", *_delays(results["delays"], idle)]
    lines += ["", "### Loss that is counted", "", *_losses(results["losses"])]
    lines += ["", "### Traffic of others", "", *_observed(results["observed"])]
    lines += ["", f"### {cost.TARGETS} targets, after {results['cost']['seconds']:.0f} s", "", *_cost(results["cost"])]
    return "\n".join([*lines, "", END])
