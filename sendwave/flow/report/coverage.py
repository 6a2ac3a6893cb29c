"""The score beside the habit it replaces: who is written to now and was not before, who is no more, and what they do.

Everybody is one of: kept (in the plan, and the habit would have written to them), gained (in the plan alone), lost (the
habit alone would have), left at random (a draw of this campaign keeps them out, whatever the score). People nobody may
write to are in none of them: a habit does not change that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sendwave.flow.report.figures import Figures
from sendwave.flow.report.sources import Gathered
from sendwave.rules.lift import Arm, rate
from sendwave.rules.outcomes import AT_RANDOM
from sendwave.rules.report_policy import Worth

YES: Final = "yes"


@dataclass(frozen=True, slots=True)
class Line:
    """One tier: people by what the score and the habit say, with what those written to did."""

    tier: str
    kept: Figures
    gained: Figures
    lost: Arm  # what they did without a message
    lost_by: Mapping[str, int]  # reason -> people
    left_at_random: int

    def document(self, worth: Worth) -> dict[str, Any]:
        """Plain JSON values."""
        margin, level = float(worth.margin), float(worth.confidence)
        lost: dict[str, Any] = {
            "people": self.lost.people,
            "converted": self.lost.converted,
            "revenue": self.lost.revenue,
        }
        if self.lost.people:
            share = rate(self.lost.converted, self.lost.people, level)
            lost |= {"rates": {"converted": share.document()}}
        return {
            "tier": self.tier,
            "kept": self.kept.document(margin, level),
            "gained": self.gained.document(margin, level),
            "lost": lost | {"by": dict(self.lost_by)},
            "left_at_random": self.left_at_random,
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """The whole comparison; sums over all tiers, then tier by tier."""

    rule: str
    total: Line
    lines: tuple[Line, ...]

    def document(self, worth: Worth) -> dict[str, Any]:
        """Plain JSON values."""
        found = self.total
        told = {
            "rule": self.rule,
            "written_to": found.kept.planned + found.gained.planned,
            "by_the_habit": found.kept.planned + found.lost.people + _random(self.lines),
        }
        return told | {
            "kept": found.kept.planned,
            "gained": found.gained.planned,
            "lost": found.lost.people,
            "left_at_random": found.left_at_random,
            "total": found.document(worth),
            "tiers": [line.document(worth) for line in self.lines],
        }


def _random(lines: Sequence[Line]) -> int:
    return sum(line.left_at_random for line in lines)


def measure(sources: Sequence[Gathered], rule: str, order: Sequence[str]) -> Coverage:
    """The comparison over campaigns gathered by habit ('yes', 'no')."""
    tiers = {key[0] for source in sources for key in (*source.figures, *source.excluded)}
    ordered = [tier for tier in order if tier in tiers] + sorted(tiers - set(order))
    lines = [_line(sources, tier, lambda key, t=tier: key[0] == t) for tier in ordered]
    return Coverage(rule, _line(sources, "", lambda _: True), tuple(lines))


def _line(sources: Sequence[Gathered], tier: str, chosen: Any) -> Line:
    kept, gained, lost, random = Figures(), Figures(), Arm(), 0
    by: dict[str, int] = {}
    for source in sources:
        for key, figures in source.figures.items():
            if chosen(key):
                kept, gained = (kept + figures, gained) if key[1] == YES else (kept, gained + figures)
        for key, reasons in source.excluded.items():
            if chosen(key) and key[1] == YES:
                random += sum(people for reason, people in reasons.items() if reason in AT_RANDOM)
                for reason, people in _refused(reasons).items():
                    by[reason] = by.get(reason, 0) + people
        lost = lost + _did(source, chosen)
    found = sum(by.values())
    return Line(tier, kept, gained, Arm(found, None, lost.converted, lost.amounts), by, random)


def _refused(reasons: Mapping[str, int]) -> dict[str, int]:
    """Reasons of people whom tier or pressure leaves out."""
    return {reason: people for reason, people in reasons.items() if reason not in AT_RANDOM}


def _did(source: Gathered, chosen: Any) -> Arm:
    total = Arm()
    for key, arm in source.bystanders.items():
        if chosen(key) and key[1] == YES:
            total = total + arm
    return total
