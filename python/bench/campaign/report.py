"""From a campaign to docs/findings.md: scores, kinds of faults, and everything that went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from ..report import END, table
from .faults import KINDS
from .score import Claim, Episode, Share, judge, score

BEGIN = "<!-- make campaign writes from here -->"

_LEAST_RATIO = 0.95


def section(about: Sequence[str], episodes: Sequence[Episode]) -> str:
    """Write the generated part of the document.

    Args:
        about: lines that say where, when and how this was measured.
        episodes: of the campaign, in order.
    """
    lines = [BEGIN, ""]
    lines += [f"- {line}" for line in about]
    lines += ["", *_scores(episodes), "", *_kinds(episodes), "", "Everything that was missed or wrong:", "", *_wrong(episodes)]
    return "\n".join([*lines, "", END])


def _scores(episodes: Sequence[Episode]) -> list[str]:
    found = score(episodes)
    rows = []
    for what, share in (
        ("precision: right claims of all claims", found.precision),
        ("recall: faults that were found while they lasted", found.recall),
        ("culprit: found faults whose first claim named host and direction right", found.culprit),
    ):
        missed = share.ratio is None or share.ratio < _LEAST_RATIO
        rows.append(
            [
                what,
                _share(share),
                *_percents(share),
                f"≥ {_LEAST_RATIO:.0%}".replace("%", " %"),
                "**missed**" if missed else "met",
            ]
        )
    alarms = found.healthy
    rows.append(
        [
            "stretches without a fault in which something was claimed",
            _share(alarms),
            *_percents(alarms),
            "0",
            "**missed**" if alarms.part else "met",
        ]
    )
    return table(["", "", "", "95 % interval", "target", ""], rows)


def _share(share: Share) -> str:
    return f"{share.part} of {share.whole}"


def _percents(share: Share) -> list[str]:
    interval = share.interval()
    if share.ratio is None or interval is None:
        return ["", ""]
    return [f"{100 * share.ratio:.1f} %", f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f} %"]


def _kinds(episodes: Sequence[Episode]) -> list[str]:
    rows = []
    for name, kind in KINDS.items():
        verdicts = [judge(episode) for episode in episodes if episode.fault.kind == name]
        detect = [v.detect_seconds for v in verdicts if v.detect_seconds is not None]
        resolve = [v.resolve_seconds for v in verdicts if v.resolve_seconds is not None]
        faulty = kind.finding is not None
        rows.append(
            [
                name,
                f"`{kind.finding}`" if faulty else "",
                str(len(verdicts)),
                str(sum(v.detected is True for v in verdicts)) if faulty else "",
                str(sum(v.culprit is True for v in verdicts)) if faulty else "",
                str(sum(len(v.wrong) for v in verdicts)),
                _seconds(detect),
                _seconds(resolve),
            ]
        )
    head = ["fault", "finding", "faults", "found", "culprit right", "wrong claims", "found after", "said until after its end"]
    return table(head, rows)


def _seconds(values: Sequence[float]) -> str:
    return f"{median(values):.1f} s (at most {max(values):.1f})" if values else ""


def _wrong(episodes: Sequence[Episode]) -> list[str]:
    lines = []
    for number, episode in enumerate(episodes, 1):
        verdict = judge(episode)
        where = (
            "" if KINDS[episode.fault.kind].finding is None else f" at {episode.host} {episode.fault.direction or ''}".rstrip()
        )
        said = f"{number}: {episode.fault.kind}{where}:"
        if verdict.detected is False:
            lines.append(f"- {said} not found while it lasted")
        elif verdict.culprit is False and not any(
            claim.finding == KINDS[episode.fault.kind].finding for claim in verdict.wrong
        ):
            lines.append(f"- {said} found, without its direction")
        lines += [f"- {said} wrongly {claim_text(claim)}" for claim in verdict.wrong]
    return lines or ["Nothing."]


def claim_text(claim: Claim) -> str:
    """Write a claim and when it was made."""
    where = " ".join(filter(None, [claim.host, claim.direction, None if claim.rank is None else f"rank {claim.rank}"]))
    return (
        f"`{claim.finding}` ({where or 'nobody'}) from {claim.first_seconds:.1f} to {claim.last_seconds:.1f} s after it began"
    )
