"""Where to cut: optimal against every other partition, honest about what the scores allow."""

from __future__ import annotations

from decimal import Decimal
from itertools import combinations, pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sendwave.errors import BadInput
from sendwave.rules.cutoffs import Histogram, by_shares, natural, remarks, resolved, roundest
from sendwave.rules.tiers import Tiers

Pairs = list[tuple[float, int]]

scores = st.one_of(
    st.integers(-50, 150).map(float), st.floats(-1e6, 1e6, allow_nan=False, allow_infinity=False, width=32)
)
histograms = st.dictionaries(scores, st.integers(1, 50), min_size=3, max_size=9).map(
    lambda found: Histogram.of(list(found.items()))
)


def groups(histogram: Histogram, bounds: tuple[int, ...]) -> list[Pairs]:
    pairs = list(zip(histogram.scores, histogram.contacts, strict=True))
    return [pairs[first:last] for first, last in pairwise((0, *bounds, len(pairs)))]


def parted(histogram: Histogram, cuts: list[float]) -> list[Pairs]:
    pairs = list(zip(histogram.scores, histogram.contacts, strict=True))
    edges = [float("inf"), *cuts, float("-inf")]
    return [[p for p in pairs if low <= p[0] < high] for high, low in pairwise(edges)]


def spread(parts: list[Pairs]) -> float:
    """The variance inside parts, summed up, as slowly and plainly as possible."""
    total = 0.0
    for part in parts:
        people = sum(n for _, n in part)
        mean = sum(s * n for s, n in part) / people
        total += sum(n * (s - mean) ** 2 for s, n in part)
    return total


@given(histograms, st.integers(2, 4))
def test_no_partition_is_tighter_than_the_natural_one(histogram: Histogram, tiers: int) -> None:
    assume(len(histogram.scores) >= tiers)
    ours = spread(parted(histogram, natural(histogram, tiers)))
    every = combinations(range(1, len(histogram.scores)), tiers - 1)
    best = min(spread(groups(histogram, bounds)) for bounds in every)
    assert ours == pytest.approx(best, rel=1e-6, abs=1e-6 * (1 + max(map(abs, histogram.scores))) ** 2)


@given(histograms, st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_no_cut_offs_come_nearer_to_the_wanted_shares(histogram: Histogram, parts: list[int]) -> None:
    shares = [Decimal(part) / (sum(parts) + 10) for part in parts]
    assume(len(histogram.scores) > len(shares))
    cuts = by_shares(histogram, shares)

    def miss(parts: list[Pairs]) -> float:
        missed, reached, target = 0.0, 0, 0.0
        for part, share in zip(parts, shares, strict=False):
            reached, target = reached + sum(n for _, n in part), target + float(share)
            missed += (reached / histogram.total - target) ** 2
        return missed

    every = combinations(range(1, len(histogram.scores)), len(shares))
    assert miss(parted(histogram, cuts)) == pytest.approx(min(miss(groups(histogram, b)) for b in every), abs=1e-12)


@given(histograms, st.integers(2, 3))
def test_every_proposed_tier_has_people_and_cut_offs_fall(histogram: Histogram, tiers: int) -> None:
    cuts = natural(histogram, tiers)
    assert all(a > b for a, b in pairwise(cuts))
    volumes = histogram.volumes(cuts)
    assert min(volumes) > 0
    assert sum(volumes) == histogram.total
    assert volumes == [sum(n for _, n in part) for part in parted(histogram, cuts)]


@given(scores, scores)
def test_a_round_cut_off_parts_the_same_people(one: float, other: float) -> None:
    assume(one != other)
    low, high = sorted((one, other))
    assert low < roundest(low, high) <= high


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [(45, 50, 50), (47.3, 52.1, 50), (0.12, 0.13, 0.125), (-3, -2, -2), (78.4, 79.1, 79), (0, 1e-300, 1e-300)],
)
def test_cut_offs_are_round_where_they_can_be(low: float, high: float, found: float) -> None:
    assert roundest(low, high) == found


def test_shares_as_asked_for_where_the_scores_allow() -> None:
    base = Histogram.of([(float(score), 10) for score in range(100)])
    cuts = by_shares(base, [Decimal("0.05"), Decimal("0.10"), Decimal("0.20"), Decimal("0.25"), Decimal("0.20")])
    assert base.volumes(cuts) == [50, 100, 200, 250, 200, 200]
    assert cuts == [95, 85, 65, 40, 20]


def test_the_last_share_may_be_said_or_left_out() -> None:
    base = Histogram.of([(float(score), 1) for score in range(10)])
    assert by_shares(base, [Decimal("0.3"), Decimal("0.7")]) == by_shares(base, [Decimal("0.3")])


@pytest.mark.parametrize("shares", [[], ["0.6", "0.6"], ["0", "0.5"], ["-0.1", "0.5"]])
def test_shares_that_do_not_fit_together(shares: list[str]) -> None:
    with pytest.raises(BadInput, match="add up"):
        by_shares(Histogram.of([(1.0, 1), (2.0, 1), (3.0, 1)]), [Decimal(share) for share in shares])


def test_people_of_one_score_cannot_be_parted() -> None:
    with pytest.raises(BadInput, match="2 distinct scores cannot make 3 tiers"):
        natural(Histogram.of([(0.0, 900), (5.0, 100)]), 3)


def by_share(*shares: str | None) -> Tiers:
    rows = [{"key": f"t{n}", "label": "T", "share": share} for n, share in enumerate(shares)]
    return Tiers.model_validate({"tiers": rows})


def test_tiers_by_share_become_tiers_by_score() -> None:
    base = Histogram.of([(float(score), 10) for score in range(100)])
    assert [t.min_score for t in resolved(by_share("5%", "45%", None), base).tiers] == [95, 50, None]


@given(st.one_of(histograms, st.just(Histogram.of([]))), st.integers(1, 9))
def test_any_base_resolves_to_valid_tiers_whose_shares_are_the_nearest(histogram: Histogram, tiers: int) -> None:
    """A night run never fails on a lump of equal scores: a tier stays empty instead."""
    found = resolved(by_share(*["10%"] * tiers, None), histogram)
    cuts = [tier.min_score for tier in found.tiers[:-1] if tier.min_score is not None]
    assert len(cuts) == tiers
    reached, possible = 0, [0]
    for contacts in histogram.contacts:
        possible.append(possible[-1] + contacts)
    for place, volume in enumerate(histogram.volumes(cuts)[:-1], 1):
        reached += volume
        if histogram.total:
            misses = [abs(have / histogram.total - 0.1 * place) for have in possible]
            assert abs(reached / histogram.total - 0.1 * place) == pytest.approx(min(misses))


def test_a_lump_of_equal_scores_leaves_tiers_empty() -> None:
    lump = Histogram.of([(0.0, 1000)])
    found = resolved(by_share("10%", "30%", None), lump)
    assert lump.volumes([t.min_score or 0 for t in found.tiers[:-1]]) == [0, 0, 1000]


def test_tiers_by_score_stay_as_they_are() -> None:
    tiers = Tiers.model_validate({"tiers": [{"key": "a", "label": "A", "min_score": 3}, {"key": "b", "label": "B"}]})
    assert resolved(tiers, Histogram.of([(1.0, 5)])) is tiers


def test_equal_scores_are_counted_together() -> None:
    assert Histogram.of([(0.0, 3), (-0.0, 4), (2.0, 1), (9.0, 0)]) == Histogram((2.0, 0.0), (1, 7))


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        ([60_000, 40_000], ["a holds 60% of the scored base: too big to say much, part it"]),
        ([500, 99_500], ["a holds 0.5% of the scored base: too small", "b holds 100%"]),
        ([900, 1_200], ["a holds 900 contacts: its rates will be mostly chance", "b holds 57%"]),
        ([26, 27], ["b holds 51%"]),  # a small base has no better cut
        ([0, 50_000, 50_000], ["a is empty"]),
        ([50_000, 50_000], []),
        ([0, 0], []),
    ],
)
def test_what_is_said_about_sizes(volumes: list[int], said: list[str]) -> None:
    found = list(remarks(["a", "b", "c"][: len(volumes)], volumes))
    assert len(found) == len(said)
    assert all(text.startswith(start) for text, start in zip(found, said, strict=True))
