"""What a mailing brought: people who got it against those left out at random, compared by assignment.

Everybody assigned counts, whatever became of their message, and everybody over the same span of time; that is what the
random draw made comparable (intention to treat). Strata (a tier of a campaign) are compared each for itself, then put
together with the weights of the people assigned to the mailing: adding people up across strata with different shares
would compare other people with others (Simpson's paradox).

Money is counted in whole ten-thousandths, so that sums are exact whatever the order they are added in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sendwave.rules.intervals import Interval, Moments, Pair, Share, difference, mean_difference, wilson

SCALE: Final = 10_000
"""Parts of a currency's unit in which amounts are counted."""

MIN_BUYERS: Final = 10
"""Buyers each side must have before a revenue interval is given: with fewer its coverage is not what it says."""

MEASURES: Final = ("visited", "converted")
"""Outcomes of yes or no, by the field of an arm that counts them; `visited` where outcomes say so."""

Amounts = NDArray[np.int64]


def _none() -> Amounts:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Arm:
    """People assigned alike, and what they did: `amounts` is the revenue of each buyer, in parts of SCALE."""

    people: int = 0
    visited: int | None = None  # None: nobody said
    converted: int = 0
    amounts: Amounts = field(default_factory=_none)

    def __add__(self, other: Arm) -> Arm:
        """Both together."""
        known = [one.visited for one in (self, other) if one.visited is not None]
        amounts = np.concatenate([self.amounts, other.amounts])
        visited = sum(known) if known else None
        return Arm(self.people + other.people, visited, self.converted + other.converted, amounts)

    @property
    def revenue(self) -> float:
        """In the unit of the currency, rounded once."""
        return int(self.amounts.sum()) / SCALE

    @property
    def per_person(self) -> float:
        """Revenue per person, rounded once from the exact quotient."""
        return int(self.amounts.sum()) / (SCALE * self.people) if self.people else 0.0

    def share(self, measure: str) -> Share:
        """One outcome of yes or no."""
        return Share(getattr(self, measure) or 0, self.people)


@dataclass(frozen=True, slots=True)
class Lift:
    """One outcome of those assigned to the mailing, beside those left out at random."""

    measure: str  # visited, converted; revenue per person
    given: float
    control: float
    difference: Interval | None  # None: too few buyers for an interval
    value: float  # of the difference, also without an interval
    people: int
    control_people: int

    @property
    def relative(self) -> float | None:
        """The difference as a part of the control's figure."""
        return self.value / self.control if self.control else None

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        known = self.difference
        return {
            "given": self.given,
            "control": self.control,
            "difference": self.value,
            "low": None if known is None else known.low,
            "high": None if known is None else known.high,
            "relative": self.relative,
            "people": self.people,
            "control_people": self.control_people,
        }


Strata = Sequence[tuple[Arm, Arm]]
"""(assigned to the mailing, left out at random) by stratum."""


def comparable(strata: Strata) -> Strata:
    """The strata in which both sides have people; the others say nothing about a difference."""
    return [(given, control) for given, control in strata if given.people and control.people]


def rate_lift(strata: Strata, measure: str, level: float) -> Lift | None:
    """The lift of an outcome of yes or no; None where no stratum has both sides, or nobody said."""
    found = [pair for pair in comparable(strata) if None not in (getattr(side, measure) for side in pair)]
    if not found:
        return None
    shares = [(given.share(measure), control.share(measure)) for given, control in found]
    weights = _weights(found)
    known = difference([Pair(w, *pair) for w, pair in zip(weights, shares, strict=True)], level)
    return Lift(
        measure,
        sum(w * given.value for w, (given, _) in zip(weights, shares, strict=True)),
        sum(w * control.value for w, (_, control) in zip(weights, shares, strict=True)),
        known,
        known.value,
        *_people(found),
    )


def revenue_lift(strata: Strata, level: float, cap: float | None = None) -> Lift | None:
    """The lift of revenue per person; `cap` (0 to 1) holds each buyer to that quantile of all buyers' revenue."""
    found = comparable(strata)
    if not found:
        return None
    top = ceiling([side.amounts for pair in found for side in pair], cap)
    held = [(_held(given, top), _held(control, top)) for given, control in found]
    weights = _weights(held)
    value = sum(w * (given.per_person - control.per_person) for w, (given, control) in zip(weights, held, strict=True))
    enough = min(sum(len(pair[side].amounts) for pair in held) for side in (0, 1)) >= MIN_BUYERS
    known = None
    if enough:
        pairs = [Pair(w, *_both(*pair)) for w, pair in zip(weights, held, strict=True)]
        ends = mean_difference(pairs, level)
        known = Interval(value, ends.low, ends.high)
    return Lift(
        "revenue",
        sum(w * given.per_person for w, (given, _) in zip(weights, held, strict=True)),
        sum(w * control.per_person for w, (_, control) in zip(weights, held, strict=True)),
        known,
        value,
        *_people(held),
    )


def _both(given: Arm, control: Arm) -> tuple[Moments, Moments]:
    buyers = np.concatenate([given.amounts, control.amounts])
    return moments(given, buyers), moments(control, buyers)


def ceiling(amounts: Sequence[Amounts], cap: float | None) -> int | None:
    """The amount at that quantile of all buyers together: the same for both sides, or it would make a difference."""
    every = np.concatenate(amounts) if amounts else _none()
    if cap is None or not len(every):
        return None
    return int(np.quantile(every, cap, method="inverted_cdf"))


def moments(arm: Arm, buyers: Amounts) -> Moments:
    """Revenue per person with the many who bought nothing, in units of the currency; `buyers` are those of both sides.

    A small group of people seldom holds one of the huge baskets that make most of the spread, and then believes itself
    far too sure. So the spread is reckoned twice, with the group's own baskets and with those of both sides, and the
    larger one counts: a difference between baskets shows in the means all the same.
    """
    own, every = (_spread(arm, amounts / SCALE) for amounts in (arm.amounts, buyers))
    variance, third = max(own, every)
    return Moments(arm.people, arm.per_person, variance, third)


def _spread(arm: Arm, baskets: NDArray[np.float64]) -> tuple[float, float]:
    """(variance, third central moment) of the arm's people, if its buyers had baskets like these."""
    share, mean = len(arm.amounts) / arm.people, arm.per_person
    if not len(baskets) or not share:
        return 0.0, 0.0
    second, third = share * float((baskets**2).mean()), share * float((baskets**3).mean())
    few = arm.people / max(arm.people - 1, 1)
    return few * (second - mean**2), third - 3 * mean * second + 2 * mean**3


def rate(seen: int, size: int, level: float) -> Interval:
    """A share of messages with its interval."""
    return wilson(Share(seen, size), level)


def _held(arm: Arm, top: int | None) -> Arm:
    return arm if top is None else Arm(arm.people, arm.visited, arm.converted, np.minimum(arm.amounts, top))


def _weights(strata: Strata) -> list[float]:
    people = [given.people for given, _ in strata]
    return [count / sum(people) for count in people]


def _people(strata: Strata) -> tuple[int, int]:
    return sum(given.people for given, _ in strata), sum(control.people for _, control in strata)
