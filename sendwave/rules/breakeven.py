"""Where to stop: the lowest tier in which one more message still brings more than it costs.

Profit of a tier, per message: revenue per person beyond that of the people left out at random, times the margin, less
what the message costs, less what the unsubscribes and complaints it causes cost. A tier *brings* when all of the
interval of its profit lies above 0, it *costs* when it lies below, and says nothing yet in between; then the people
are counted it would take to know. The intervals are made wider the more tiers are judged (Bonferroni), so that with
the stated confidence all verdicts of a report hold together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Any, Final

from sendwave.rules.intervals import Interval, Share, quantile, together, wilson
from sendwave.rules.lift import MIN_BUYERS, Strata, comparable, revenue_lift

POWER: Final = 0.8
"""The chance with which the people asked for shall suffice, if the profit is what it looks like."""

OUT_OF_REACH: Final = 1_000_000_000
"""More people than there are to ask: the profit is too near to 0 to ever be told from it."""


class Says(StrEnum):
    """What is known of a tier."""

    BRINGS = "brings"
    COSTS = "costs"
    UNKNOWN = "unknown"  # not enough data
    NO_CONTROL = "no_control"
    NOT_SENT = "not_sent"


@dataclass(frozen=True, slots=True)
class Prices:
    """Money per event, in one currency; `margin` is the share of revenue that is left."""

    margin: float
    unsubscribe: float
    complaint: float


@dataclass(frozen=True, slots=True)
class Judged:
    """One tier: its comparison by stratum, what its messages cost together, and what they led to."""

    tier: str
    strata: Strata
    accepted: int
    cost: float
    unsubscribed: int
    complained: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a message to the tier brings, in money. `more` people would tell, None where it is told or out of reach."""

    tier: str
    says: Says
    profit: Interval | None
    value: float | None = None  # of the profit, also without an interval
    more: int | None = None

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        known = self.profit
        return {
            "tier": self.tier,
            "says": self.says.value,
            "profit": self.value,
            "low": None if known is None else known.low,
            "high": None if known is None else known.high,
            "more": self.more,
        }


@dataclass(frozen=True, slots=True)
class Cutoff:
    """`tier` is the lowest one that brings something; None where none is known to."""

    tier: str | None
    level: float  # confidence of all verdicts together
    verdicts: tuple[Verdict, ...]

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "tier": self.tier,
            "confidence": self.level,
            "verdicts": [verdict.document() for verdict in self.verdicts],
        }


def cut(tiers: Sequence[Judged], prices: Prices, level: float, cap: float | None = None) -> Cutoff:
    """The cut-off of tiers, the most engaged first."""
    asked = sum(1 for tier in tiers if tier.accepted and comparable(tier.strata))
    each = 1 - (1 - level) / max(asked, 1)
    verdicts = tuple(_judge(tier, prices, each, cap) for tier in tiers)
    bringing = [verdict.tier for verdict in verdicts if verdict.says is Says.BRINGS]
    return Cutoff(bringing[-1] if bringing else None, level, verdicts)


def _judge(tier: Judged, prices: Prices, level: float, cap: float | None) -> Verdict:
    if not tier.accepted:
        return Verdict(tier.tier, Says.NOT_SENT, None)
    lift = revenue_lift(tier.strata, level, cap)
    if lift is None:
        return Verdict(tier.tier, Says.NO_CONTROL, None)
    message = -tier.cost / tier.accepted
    sent = Interval(message, message, message)
    events = ((tier.unsubscribed, prices.unsubscribe), (tier.complained, prices.complaint))
    harms = [wilson(Share(seen, tier.accepted), level).times(-price) for seen, price in events]
    value = lift.value * prices.margin + sent.value + sum(harm.value for harm in harms)
    if lift.difference is None:
        return Verdict(tier.tier, Says.UNKNOWN, None, value, _for_buyers(tier.strata))
    profit = together([lift.difference.times(prices.margin), sent, *harms])
    if profit.low > 0 or profit.high < 0:
        return Verdict(tier.tier, Says.BRINGS if profit.low > 0 else Says.COSTS, profit, profit.value)
    return Verdict(tier.tier, Says.UNKNOWN, profit, profit.value, more_people(profit, lift.people, level))


def more_people(profit: Interval, people: int, level: float) -> int | None:
    """People to write to beyond those so far, at the same share of control, to tell the profit from 0.

    An interval shrinks with the square root of the people (normal approximation); None where no number would do.
    """
    error = (profit.high - profit.low) / (2 * quantile(level))
    if not profit.value:
        return None
    needed = people * ((quantile(level) + quantile(2 * POWER - 1)) * error / abs(profit.value)) ** 2
    more = max(ceil(needed - people), 1)
    return more if more < OUT_OF_REACH else None


def _for_buyers(strata: Strata) -> int | None:
    """People until both sides can be expected to have enough buyers for an interval at all."""
    found = comparable(strata)
    people = sum(given.people for given, _ in found)
    buyers = min(sum(len(pair[side].amounts) for pair in found) for side in (0, 1))
    return ceil(people * (MIN_BUYERS / max(buyers, 1) - 1)) if people else None
