"""Exact binomial tails and bounds, from a one-person wave to 30 million messages, without a statistics library.

The tail is the regularised incomplete beta function (Press et al., Numerical Recipes §6.4: Lentz's continued fraction,
its factor in logarithms). The bounds are those of Clopper and Pearson (1934), found by Newton's method.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp, lgamma, log, log1p, sqrt
from typing import Final

_TINY: Final = 1e-300
_STEPS: Final = 100_000
_TRIALS: Final = 100
_NEAR: Final = 1e-11  # of the first bracket


def at_least(seen: int, size: int, rate: float) -> float:
    """P(at least `seen` events among `size` messages, each with probability `rate`)."""
    if seen <= 0:
        return 1.0
    if seen > size or rate <= 0:
        return 0.0
    return 1.0 if rate >= 1 else _beta(float(seen), float(size - seen + 1), rate)


def at_most(seen: int, size: int, rate: float) -> float:
    """P(at most `seen` events among `size` messages, each with probability `rate`)."""
    if seen >= size or rate <= 0:
        return 1.0
    if seen < 0 or rate >= 1:
        return 0.0
    return _beta(float(size - seen), float(seen + 1), 1 - rate)


@lru_cache(maxsize=65_536)
def lower(seen: int, size: int, alpha: float) -> float:
    """The rate at which `seen` of `size` or more come up with probability `alpha`: the true one is hardly below it."""
    if seen <= 0 or size <= 0 or alpha <= 0:
        return 0.0
    if seen >= size:
        return float(alpha ** (1 / size))
    floor = max(0.0, seen - 10 * sqrt(seen) - 50) / size
    return _solved(float(seen), float(size - seen + 1), alpha, floor, seen / size)


@lru_cache(maxsize=65_536)
def upper(seen: int, size: int, alpha: float) -> float:
    """The rate at which `seen` of `size` or fewer come up with probability `alpha`: the true one is hardly above it."""
    if seen >= size or alpha <= 0:
        return 1.0
    if seen <= 0:
        return float(1 - alpha ** (1 / size))
    ceiling = min(1.0, (seen + 10 * sqrt(seen) + 50) / size)
    return 1 - _solved(float(size - seen), float(seen + 1), alpha, 1 - ceiling, 1 - seen / size)


def _solved(a: float, b: float, target: float, low: float, high: float) -> float:
    """The x between `low` and `high` with I_x(a, b) = target.

    Newton's steps on the logarithm, which is concave, so that they close in from one side; bisection where one would
    leave the bracket or the tail is too small to have a logarithm.
    """
    near, front = (high - low) * _NEAR, lgamma(a + b) - lgamma(a) - lgamma(b)
    x = (low + high) / 2
    for _ in range(_TRIALS):
        tail = _beta(a, b, x)
        low, high = (x, high) if tail < target else (low, x)
        slope = exp(front + (a - 1) * log(x) + (b - 1) * log1p(-x)) if tail > 0 else 0.0
        then = x + log(target / tail) * tail / slope if slope > 0 else low
        if not low < then < high:
            then = (low + high) / 2
        if abs(then - x) <= near:
            return then
        x = then
    return x


def _beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), for 0 < x < 1."""
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return min(1.0, front * _fraction(a, b, x) / a)
    return max(0.0, 1 - front * _fraction(b, a, 1 - x) / b)


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of I_x(a, b); it converges in some √max(a, b) steps on the side `_beta` picks."""
    c, d = 1.0, _away(1 - (a + b) * x / (a + 1))
    d = 1 / d
    value = d
    for m in range(1, _STEPS):
        even = a + 2 * m
        term = m * (b - m) * x / ((even - 1) * even)
        d, c = 1 / _away(1 + term * d), _away(1 + term / c)
        value *= d * c
        term = -(a + m) * (a + b + m) * x / (even * (even + 1))
        d, c = 1 / _away(1 + term * d), _away(1 + term / c)
        change = d * c
        value *= change
        if abs(change - 1) < 1e-12:
            break
    return value


def _away(value: float) -> float:
    """The value, kept away from the zero it would be divided by."""
    return value if abs(value) > _TINY else _TINY
