"""From claims, and what was done to the hosts, to precision, recall and culprit accuracy. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .faults import KINDS, Fault

# A finding of this class says that there is nothing to say.
_CLEAN = "network_clean"


@dataclass(frozen=True)
class Claim:
    """What was said at least once during an episode; the same class, host, rank and direction is the same claim.

    Times are seconds since the fault was put in.
    """

    finding: str
    host: str | None
    rank: int | None
    direction: str | None
    first_seconds: float
    last_seconds: float


@dataclass(frozen=True)
class Episode:
    """A fault, and what was said from the moment it was put in until the next one was: of recovery too.

    Attributes:
        fault: what was done, and where.
        host: the name of that host.
        lasted_seconds: from putting it in to taking it out.
        reader: the rank whose view was read.
        looks: how often it was.
        claims: what was said, that came first first.
        about: of the job meanwhile, for people.
    """

    fault: Fault
    host: str
    lasted_seconds: float
    reader: int
    looks: int
    claims: tuple[Claim, ...]
    about: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self), "claims": [asdict(claim) for claim in self.claims]}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Episode:
        """Make it of what to_dict returned."""
        claims = tuple(Claim(**claim) for claim in row["claims"])
        return cls(**{**row, "fault": Fault(**row["fault"]), "claims": claims})


def claims(looks: Iterable[tuple[float, Sequence[Mapping[str, Any]]]]) -> tuple[Claim, ...]:
    """Return what was claimed in looks at the view.

    Args:
        looks: when, and the findings there were, oldest first.
    """
    seen: dict[tuple[Any, ...], tuple[float, float]] = {}
    for when, findings in looks:
        for finding in findings:
            if finding["class"] != _CLEAN:
                key = tuple(finding[name] for name in ("class", "host", "rank", "direction"))
                seen[key] = (seen.get(key, (when,))[0], when)
    return tuple(sorted((Claim(*key, *times) for key, times in seen.items()), key=lambda claim: claim.first_seconds))


@dataclass(frozen=True)
class Verdict:
    """What is right and wrong in the claims of an episode.

    Attributes:
        detected: a claim of the right class came while the fault was there; None: there was nothing to detect.
        culprit: the first such claim named the host, and the direction where that can be told; None where detected is not True.
        right: claims of the right class that name nothing wrong.
        wrong: all others.
        detect_seconds: from the fault to the first right claim.
        resolve_seconds: from its end to the last look that still had a right claim; below 0: the claim went before.
    """

    detected: bool | None
    culprit: bool | None
    right: tuple[Claim, ...]
    wrong: tuple[Claim, ...]
    detect_seconds: float | None
    resolve_seconds: float | None


def judge(episode: Episode) -> Verdict:
    """Compare what was claimed with what was done."""
    kind = KINDS[episode.fault.kind]
    named = [claim for claim in episode.claims if claim.finding == kind.finding]
    right = tuple(claim for claim in named if _contradicts_nothing(claim, episode))
    wrong = tuple(claim for claim in episode.claims if claim not in right)
    if kind.finding is None:
        return Verdict(None, None, right, wrong, None, None)
    in_time = [claim for claim in named if claim.first_seconds <= episode.lasted_seconds]
    culprit = in_time[0] in right and (not kind.told or in_time[0].direction == episode.fault.direction) if in_time else None
    detect = right[0].first_seconds if right and right[0].first_seconds <= episode.lasted_seconds else None
    resolve = max(claim.last_seconds for claim in right) - episode.lasted_seconds if right else None
    return Verdict(bool(in_time), culprit, right, wrong, detect, resolve)


def _contradicts_nothing(claim: Claim, episode: Episode) -> bool:
    """Tell whether a claim of the right class names the host, and no other rank or direction."""
    directions = (episode.fault.direction, None) if KINDS[episode.fault.kind].told else (claim.direction,)
    return claim.host == episode.host and claim.rank in (episode.fault.host, None) and claim.direction in directions


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    part: int
    whole: int

    @property
    def ratio(self) -> float | None:
        """Return the share, None of nothing."""
        return self.part / self.whole if self.whole else None

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of what it estimates (Wilson's)."""
        if not self.whole:
            return None
        z, n, p = 1.96, self.whole, self.part / self.whole
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Score:
    """How often findings were right.

    Attributes:
        precision: right claims of all claims.
        recall: detected faults of all faults.
        culprit: detected faults of which the first claim named host and direction right.
        healthy: stretches without a fault, and those of them with a claim.
    """

    precision: Share
    recall: Share
    culprit: Share
    healthy: Share


def score(episodes: Sequence[Episode]) -> Score:
    """Score all of a campaign."""
    verdicts = [judge(episode) for episode in episodes]
    faults = [verdict for verdict in verdicts if verdict.detected is not None]
    detected = [verdict for verdict in faults if verdict.detected]
    healthy = [verdict for verdict in verdicts if verdict.detected is None]
    right = sum(len(verdict.right) for verdict in verdicts)
    return Score(
        precision=Share(right, right + sum(len(verdict.wrong) for verdict in verdicts)),
        recall=Share(len(detected), len(faults)),
        culprit=Share(sum(verdict.culprit is True for verdict in detected), len(detected)),
        healthy=Share(sum(bool(verdict.wrong) for verdict in healthy), len(healthy)),
    )
