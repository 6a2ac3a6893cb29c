"""Whether the draw was fair: the sizes it gave, and whether both sides are alike in what was known before.

Sizes: the exact binomial probability of a split as uneven as this one; below 1 in 1,000 something is wrong with the
assignment, and its lift is not to be trusted (sample ratio mismatch: Fabijan et al., KDD 2019). Attributes: the
standardised difference of each value's share (Austin, Statistics in Medicine 28, 2009), tier by tier, because tiers are
drawn with different shares. Small control groups differ by chance: only a difference above 0.1 that chance does not
explain is a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

from sendwave.rules.bounds import at_least, at_most
from sendwave.rules.intervals import two_sided

MISMATCH: Final = 0.001
"""Probability below which a split is no accident."""

NOTABLE: Final = 0.1
"""Standardised difference above which groups are called unlike."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One split: `drawn` of `people`, where `expected` (0 to 1) of them were to be drawn."""

    of: str  # campaign and tier, for people
    kind: str  # control or share
    people: int
    drawn: int
    expected: float

    @property
    def probability(self) -> float:
        """Of a split at least as uneven, if the draw is fair."""
        if not self.people or self.expected in {0.0, 1.0}:
            return 1.0
        least = at_least(self.drawn, self.people, self.expected)
        most = at_most(self.drawn, self.people, self.expected)
        return min(1.0, 2 * min(least, most))

    @property
    def fair(self) -> bool:
        """Whether the sizes are what the draw promised, as far as chance goes."""
        return self.probability >= MISMATCH

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        found = self.drawn / self.people if self.people else 0.0
        told = {"of": self.of, "kind": self.kind, "people": self.people, "drawn": self.drawn}
        return told | {
            "expected": self.expected,
            "found": found,
            "probability": self.probability,
            "fair": self.fair,
        }


@dataclass(frozen=True, slots=True)
class Split:
    """How many of each side have a value, in one stratum."""

    given: int
    given_people: int
    control: int
    control_people: int


@dataclass(frozen=True, slots=True)
class Alike:
    """One value of one attribute on both sides."""

    attribute: str
    value: str
    given: float  # share of those assigned to the mailing
    control: float  # share of those left out, weighted like the others
    standardised: float
    probability: float  # of a difference as large by chance

    @property
    def balanced(self) -> bool:
        """Whether it is small, or what chance explains."""
        return abs(self.standardised) <= NOTABLE or self.probability >= MISMATCH

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = ("attribute", "value", "given", "control", "standardised", "probability", "balanced")
        return {name: getattr(self, name) for name in names}


def alike(attribute: str, value: str, strata: Sequence[Split]) -> Alike | None:
    """Both sides compared over strata; None where no stratum has both."""
    found = [one for one in strata if one.given_people and one.control_people]
    total = sum(one.given_people for one in found)
    if not total:
        return None
    given = control = variance = 0.0
    for one in found:
        weight = one.given_people / total
        p, q = one.given / one.given_people, one.control / one.control_people
        pooled = (one.given + one.control) / (one.given_people + one.control_people)
        given, control = given + weight * p, control + weight * q
        variance += weight**2 * pooled * (1 - pooled) * (1 / one.given_people + 1 / one.control_people)
    spread = sqrt((given * (1 - given) + control * (1 - control)) / 2)
    off = given - control
    standardised = off / spread if spread else 0.0
    return Alike(attribute, value, given, control, standardised, two_sided(off / sqrt(variance)) if variance else 1.0)
