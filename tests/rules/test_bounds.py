from __future__ import annotations

from fractions import Fraction
from math import comb, exp, lgamma, log, log1p

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules import bounds


def _summed(seen: int, size: int, rate: float) -> float:
    """The upper tail, term by term from `seen` on: slow, and independent of the code under test."""
    first = (
        lgamma(size + 1) - lgamma(seen + 1) - lgamma(size - seen + 1) + seen * log(rate) + (size - seen) * log1p(-rate)
    )
    total = term = 1.0
    for k in range(seen, size):
        term *= (size - k) / (k + 1) * rate / (1 - rate)
        total += term
        if term < 1e-17 * total:
            break
    return exp(first) * total


@pytest.mark.parametrize("size", [1, 2, 7, 40, 60])
@pytest.mark.parametrize("rate", [Fraction(1, 1000), Fraction(3, 100), Fraction(1, 2), Fraction(97, 100)])
def test_small_tails_equal_exact_fractions(size: int, rate: Fraction) -> None:
    for seen in range(size + 1):
        terms = [comb(size, k) * rate**k * (1 - rate) ** (size - k) for k in range(size + 1)]
        assert bounds.at_least(seen, size, float(rate)) == pytest.approx(float(sum(terms[seen:])), rel=1e-9)
        assert bounds.at_most(seen, size, float(rate)) == pytest.approx(float(sum(terms[: seen + 1])), rel=1e-9)


@pytest.mark.parametrize(
    ("seen", "size", "rate"),
    [
        (14, 9_800, 0.0006),
        (30_100, 30_000_000, 0.001),
        (1_003_500, 30_000_000, 1 / 30),
        (1_000_000, 30_000_000, 0.0331),
    ],
)
def test_large_tails_equal_their_sums(seen: int, size: int, rate: float) -> None:
    assert bounds.at_least(seen, size, rate) == pytest.approx(_summed(seen, size, rate), rel=1e-6)


def test_far_tails_vanish_without_an_error() -> None:
    assert bounds.at_least(1_500_000, 30_000_000, 0.001) == 0
    assert bounds.at_most(10, 30_000_000, 0.5) == 0


@pytest.mark.parametrize(
    ("seen", "size", "rate", "at_least", "at_most"),
    [(0, 10, 0.1, 1, None), (3, 0, 0.1, 0, 1), (2, 10, 0.0, 0, 1), (2, 10, 1.0, 1, 0), (-1, 10, 0.1, 1, 0)],
)
def test_the_edges(seen: int, size: int, rate: float, at_least: float, at_most: float | None) -> None:
    assert bounds.at_least(seen, size, rate) == at_least
    if at_most is not None:
        assert bounds.at_most(seen, size, rate) == at_most


def test_closed_forms_of_the_bounds() -> None:
    assert bounds.upper(0, 3_000, 0.05) == pytest.approx(0.001, rel=0.01)  # the rule of three
    assert bounds.lower(1, 500, 0.001) == pytest.approx(1 - 0.999 ** (1 / 500), rel=1e-6)
    assert bounds.lower(10, 10, 0.001) == pytest.approx(0.001**0.1)
    assert (bounds.lower(0, 10, 0.001), bounds.upper(10, 10, 0.001)) == (0, 1)
    assert (bounds.lower(5, 10, 0.0), bounds.upper(5, 10, 0.0)) == (0, 1)


@given(size=st.integers(2, 30_000_000), share=st.floats(0, 1), alpha=st.sampled_from([0.05, 0.001, 1e-6]))
def test_bounds_sit_exactly_where_the_tails_reach_alpha(size: int, share: float, alpha: float) -> None:
    seen = min(size - 1, max(1, int(share**4 * size)))
    low, high = bounds.lower(seen, size, alpha), bounds.upper(seen, size, alpha)
    assert 0 <= low <= seen / size <= high <= 1
    assert bounds.at_least(seen, size, low) == pytest.approx(alpha, rel=1e-3)
    assert bounds.at_most(seen, size, high) == pytest.approx(alpha, rel=1e-3)
