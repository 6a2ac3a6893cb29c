"""How sure a figure is: intervals for shares, for differences of shares, and for differences of skewed means.

Shares: the score interval of Wilson (1927), whose coverage stays near its level also for rare events (Brown, Cai and
DasGupta, Statistical Science 16, 2001). Differences: Newcombe's method 10 (Statistics in Medicine 17, 1998), the two
score intervals put together; over strata by the same recovery of variances (MOVER: Zou and Donner, Statistics in
Medicine 27, 2008). Means of money, most of it zero and a little of it huge: Welch's statistic with Hall's cubic
transformation against skewness (Hall, J. R. Stat. Soc. B 54, 1992; for two samples Zhou and Dinh, Biostatistics 6,
2005). All of it is closed arithmetic: the same data give the same interval every time. benchmarks/bench_intervals.py
checks the coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import cbrt, copysign, inf, sqrt
from statistics import NormalDist
from typing import Any, Final, NamedTuple

MOST_SKEWED: Final = 0.35
"""Skewness of a difference up to which it is corrected for: beyond, the correction runs away from few, huge amounts."""


class Interval(NamedTuple):
    """A figure and the ends between which the truth lies with the level asked for."""

    value: float
    low: float
    high: float

    def document(self) -> dict[str, float]:
        """Plain JSON values."""
        return self._asdict()

    def times(self, factor: float) -> Interval:
        """The figure in another unit; a negative factor turns the ends round."""
        ends = sorted((self.low * factor, self.high * factor))
        return Interval(self.value * factor, *ends)


class Share(NamedTuple):
    """So many of so many."""

    seen: int
    size: int

    @property
    def value(self) -> float:
        """The share itself; 0 of nobody."""
        return self.seen / self.size if self.size else 0.0


@dataclass(frozen=True, slots=True)
class Moments:
    """A sample by its size, mean, variance (n - 1) and third central moment."""

    size: int
    mean: float
    variance: float
    third: float


class Pair(NamedTuple):
    """One stratum of a comparison: those who got it, those who did not, and the weight of their difference."""

    weight: float
    given: Any
    control: Any


@lru_cache(maxsize=256)
def quantile(level: float) -> float:
    """How many standard deviations a two-sided interval of that level (0 to 1) reaches: 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + level) / 2)


def two_sided(z: float) -> float:
    """The probability of being that many standard deviations off, or more, by chance."""
    return 2 * NormalDist().cdf(-abs(z))


def wilson(share: Share, level: float = 0.95) -> Interval:
    """A share with its interval; of nobody, anything between 0 and 1."""
    seen, size = share
    if size <= 0:
        return Interval(0.0, 0.0, 1.0)
    z2, p = quantile(level) ** 2, seen / size
    centre = (p + z2 / (2 * size)) / (1 + z2 / size)
    half = sqrt(z2) / (1 + z2 / size) * sqrt(p * (1 - p) / size + z2 / (4 * size * size))
    return Interval(p, 0.0 if seen == 0 else centre - half, 1.0 if seen == size else centre + half)


def difference(pairs: Sequence[Pair], level: float = 0.95) -> Interval:
    """The weighted difference of shares (`Share` given minus `Share` control) over strata; weights add up to 1.

    One stratum: Newcombe's interval. The value of one stratum of weight 1 is the plain difference, bit for bit.
    """
    value, below, above = 0.0, 0.0, 0.0
    for weight, given, control in pairs:
        one, other = wilson(given, level), wilson(control, level)
        value += weight * (one.value - other.value)
        below += weight**2 * ((one.value - one.low) ** 2 + (other.high - other.value) ** 2)
        above += weight**2 * ((one.high - one.value) ** 2 + (other.value - other.low) ** 2)
    return Interval(value, value - sqrt(below), value + sqrt(above))


def mean_difference(pairs: Sequence[Pair], level: float = 0.95) -> Interval:
    """The weighted difference of means (`Moments` given minus `Moments` control) over strata; weights add up to 1."""
    value, variance, third = 0.0, 0.0, 0.0
    for weight, given, control in pairs:
        value += weight * (given.mean - control.mean)
        variance += weight**2 * (given.variance / given.size + control.variance / control.size)
        third += weight**3 * (given.third / given.size**2 - control.third / control.size**2)
    if variance <= 0:
        return Interval(value, -inf, inf)
    error = sqrt(variance)
    skewness = min(max(third / variance**1.5, -MOST_SKEWED), MOST_SKEWED)
    z = quantile(level)
    return Interval(value, value - error * _untransformed(z, skewness), value - error * _untransformed(-z, skewness))


def _untransformed(z: float, skewness: float) -> float:
    """The studentised difference that Hall's transformation takes to z."""
    if abs(skewness) < 1e-6:
        return z
    inside = 1 + skewness * (z - skewness / 6)
    return 3 / skewness * (copysign(cbrt(abs(inside)), inside) - 1)


def together(parts: Sequence[Interval]) -> Interval:
    """The sum of independent figures with their intervals (MOVER)."""
    value = sum(part.value for part in parts)
    below = sqrt(sum((part.value - part.low) ** 2 for part in parts))
    above = sqrt(sum((part.high - part.value) ** 2 for part in parts))
    return Interval(value, value - below, value + above)
