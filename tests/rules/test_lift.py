from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules.balance import Ratio, Split, alike
from sendwave.rules.breakeven import OUT_OF_REACH, Judged, Prices, Says, cut, more_people
from sendwave.rules.intervals import Interval, Moments, Pair, Share, difference, mean_difference, together, wilson
from sendwave.rules.lift import SCALE, Arm, ceiling, moments, rate_lift, revenue_lift


def arm(people: int, *baskets: float, visited: int | None = None) -> Arm:
    amounts = np.array([round(one * SCALE) for one in baskets], dtype=np.int64)
    return Arm(people, visited, len(baskets), amounts)


@pytest.mark.parametrize(
    ("seen", "size", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),  # Newcombe 1998, Statistics in Medicine 17, page 857, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_shares_of_the_published_table(seen: int, size: int, low: float, high: float) -> None:
    found = wilson(Share(seen, size))
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),  # the same author, page 873, table II, method 10
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_differences_of_the_published_table(
    one: tuple[int, int], other: tuple[int, int], low: float, high: float
) -> None:
    found = difference([Pair(1.0, Share(*one), Share(*other))])
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(51, 400), st.integers(51, 400))
def test_a_difference_lies_inside_its_interval(seen: int, other: int, size: int, others: int) -> None:
    found = difference([Pair(1.0, Share(seen, size), Share(other, others))])
    assert found.value == seen / size - other / others
    assert -1 <= found.low <= found.value <= found.high <= 1
    turned = difference([Pair(1.0, Share(other, others), Share(seen, size))])
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_strata_say_what_sums_would_hide() -> None:
    """Within each tier the mailing adds nothing; added up it seems to double the rate (Simpson's paradox)."""
    hot, cold = (arm(900, *[1.0] * 90), arm(100, *[1.0] * 10)), (arm(100, *[1.0]), arm(900, *[1.0] * 9))
    found = rate_lift([hot, cold], "converted", 0.95)
    assert found is not None
    assert found.value == pytest.approx(0.0)
    naive = rate_lift([(hot[0] + cold[0], hot[1] + cold[1])], "converted", 0.95)
    assert naive is not None
    assert naive.value == pytest.approx(0.091 - 0.019)


def test_a_stratum_without_both_sides_says_nothing() -> None:
    whole = rate_lift([(arm(100, 1.0), arm(100))], "converted", 0.95)
    assert rate_lift([(arm(100, 1.0), arm(100)), (arm(50, 1.0), arm(0))], "converted", 0.95) == whole
    assert rate_lift([(arm(50, 1.0), arm(0))], "converted", 0.95) is None
    assert rate_lift([(arm(50), arm(50))], "visited", 0.95) is None


@given(st.lists(st.integers(1, 500_000), min_size=10, max_size=40), st.integers(50, 2_000))
def test_money_is_exact(cents: list[int], people: int) -> None:
    found = arm(people, *(one / 100 for one in cents))
    assert found.per_person == float(Fraction(sum(cents), 100 * people))


def test_moments_are_those_of_everybody() -> None:
    baskets = np.array([10.0, 20.0, 90.0])
    everybody = np.concatenate([baskets, np.zeros(7)])
    found = moments(arm(10, *baskets), (baskets * SCALE).astype(np.int64))
    assert found.mean == pytest.approx(everybody.mean())
    assert found.variance == pytest.approx(everybody.var(ddof=1))
    assert found.third == pytest.approx(((everybody - everybody.mean()) ** 3).mean())


def test_a_few_small_baskets_borrow_the_spread_of_all() -> None:
    small, huge = arm(1_000, *[10.0] * 10), np.array([10.0 * SCALE] * 10 + [5_000.0 * SCALE], dtype=np.int64)
    assert moments(small, huge).variance > 50 * moments(small, small.amounts).variance


def test_without_skewness_it_is_welch() -> None:
    pair = Pair(1.0, Moments(400, 5.0, 100.0, 0.0), Moments(100, 4.0, 64.0, 0.0))
    found = mean_difference([pair])
    error = (100 / 400 + 64 / 100) ** 0.5
    assert found == pytest.approx((1.0, 1 - 1.959964 * error, 1 + 1.959964 * error))


def test_too_few_buyers_give_no_interval() -> None:
    few = revenue_lift([(arm(1_000, *[10.0] * 50), arm(100, *[10.0] * 9))], 0.95)
    enough = revenue_lift([(arm(1_000, *[10.0] * 50), arm(100, *[10.0] * 10))], 0.95)
    assert few is not None
    assert few.difference is None
    assert few.value == pytest.approx(0.5 - 0.9)
    assert enough is not None
    assert enough.difference is not None


def test_winsorising_holds_the_same_ceiling_to_both_sides() -> None:
    given_ = arm(100, *[10.0] * 19, 10_000.0)
    control = arm(100, *[10.0] * 20)
    assert ceiling([given_.amounts, control.amounts], 0.95) == 10 * SCALE
    held = revenue_lift([(given_, control)], 0.95, cap=0.95)
    assert held is not None
    assert held.value == 0.0


PRICES = Prices(margin=0.5, unsubscribe=2.0, complaint=10.0)


def judged(tier: str, given_: float, control: float, people: int = 200_000, **told: float) -> Judged:
    def side(size: int, rate: float) -> Arm:
        return arm(size, *[40.0] * round(size * rate))

    counts: dict[str, Any] = {"accepted": people, "cost": 0.01 * people, "unsubscribed": 0, "complained": 0, **told}
    return Judged(tier, [(side(people, given_), side(people // 5, control))], **counts)


def test_the_cut_lies_below_the_last_tier_that_brings() -> None:
    found = cut(
        [judged("hot", 0.04, 0.02), judged("warm", 0.02, 0.01), judged("cool", 0.01, 0.0101), judged("cold", 0.0, 0.0)],
        PRICES,
        0.95,
    )
    assert found.tier == "warm"
    assert [verdict.says for verdict in found.verdicts] == [Says.BRINGS, Says.BRINGS, Says.UNKNOWN, Says.UNKNOWN]


def test_what_people_do_in_anger_costs() -> None:
    """10 EUR a complaint: 4 in 1,000 eat the 1 cent a message that the tier would have brought."""
    angry = judged("warm", 0.0105, 0.01, complained=4_000, unsubscribed=4_000)
    assert cut([angry], PRICES, 0.95).verdicts[0].says is Says.COSTS
    profit = cut([angry], PRICES, 0.95).verdicts[0].value
    assert profit == pytest.approx((0.0105 - 0.01) * 40 * 0.5 - 0.01 - 0.02 * 2 - 0.02 * 10)


def test_no_draw_and_no_mail_say_so() -> None:
    nobody = Judged("warm", [(arm(10, 1.0), arm(0))], 10, 0.1, 0, 0)
    unsent = Judged("cool", [(arm(10), arm(10))], 0, 0.0, 0, 0)
    says = [verdict.says for verdict in cut([nobody, unsent], PRICES, 0.95).verdicts]
    assert says == [Says.NO_CONTROL, Says.NOT_SENT]


def test_more_people_shrink_the_interval_enough() -> None:
    """1 ± 2 at 95 % is an error of 1.02. To see 1 with 80 % power it has to be 1 / 2.80: 8.2 times the people."""
    assert more_people(Interval(1.0, -1.0, 3.0), 1_000, 0.95) == pytest.approx(7_170, rel=0.01)
    assert more_people(Interval(0.0, -1.0, 1.0), 1_000, 0.95) is None
    assert more_people(Interval(1e-9, -1.0, 1.0), OUT_OF_REACH, 0.95) is None


def test_figures_add_up_with_their_doubt() -> None:
    assert together([Interval(3.0, 0.0, 7.0), Interval(-1.0, -5.0, 2.0)]) == (2.0, -3.0, 7.0)


def test_a_fair_draw_and_one_that_is_not() -> None:
    assert Ratio("spring, hot", "control", 10_000, 512, 0.05).fair
    assert not Ratio("spring, hot", "control", 10_000, 600, 0.05).fair
    assert Ratio("spring, hot", "control", 0, 0, 0.05).fair


def test_a_small_group_differs_by_chance_a_large_one_does_not() -> None:
    small = alike("city", "Paris", [Split(5_000, 10_000, 6, 10)])
    large = alike("city", "Paris", [Split(5_000, 10_000, 6_000, 10_000)])
    assert small is not None
    assert large is not None
    assert small.balanced
    assert not large.balanced
    assert large.standardised == pytest.approx(-0.2, abs=0.01)


def test_tiers_drawn_with_different_shares_are_alike_all_the_same() -> None:
    """All of a tier of Parisians, a tenth of a tier of others: only within tiers are the groups comparable."""
    found = alike("city", "Paris", [Split(900, 1_000, 90, 100), Split(10, 100, 90, 900)])
    assert found is not None
    assert found.standardised == pytest.approx(0.0)
