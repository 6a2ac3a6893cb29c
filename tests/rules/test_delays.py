from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules import delays
from sendwave.rules.delays import BINS, Watched
from sendwave.rules.maturity import CURVES, EDGES, Curve, bin_of

COMPLAINT = CURVES["complaint"]
FAST = Curve(((5, 0.3), (20, 0.7), (60, 0.9), (600, 1)))


def drawn(curve: Curve, events: int, until: float, seed: int, provider: str = "orange") -> Watched:
    """Events by that curve of mail watched for `until` minutes; those later are not seen."""
    draw = np.random.default_rng(seed)
    ages = np.array([0.0, *(m for m, _ in curve.points)])
    shares = np.array([0.0, *(s for _, s in curve.points)])
    late = np.expm1(np.interp(draw.random(events), shares, np.log1p(ages)))
    bins = bin_of(late[late <= until])
    watched = int(bin_of(np.array([until]))[0])
    return Watched("complaint", provider, watched, np.bincount(bins, minlength=BINS).astype(float))


def apart(one: Curve, other: Curve, until: float) -> float:
    ends = EDGES[1:][EDGES[1:] < until]
    return float(np.abs(one.raw(ends) - other.raw(ends)).max())


def test_delays_watched_to_their_end_give_their_own_shares() -> None:
    told = [Watched("complaint", "orange", BINS - 1, delays.by_bin({3: 10, 20: 30, 50: 60}))]
    share, events, last = delays.reported(told)
    assert (events, last) == (100, BINS - 1)
    assert [round(float(share[place]), 9) for place in (2, 3, 19, 20, 49, 50, BINS - 1)] == [
        0,
        0.1,
        0.1,
        0.4,
        0.4,
        1,
        1,
    ]


def test_mail_watched_for_an_hour_does_not_make_everything_look_early() -> None:
    """Nine of ten campaigns are an hour old: their late complaints cannot be in yet."""
    told = [drawn(COMPLAINT, 4_000, 60.0, seed) for seed in range(9)] + [drawn(COMPLAINT, 4_000, 20_160.0, 9)]
    naive = sum(one.delays for one in told)
    early = float(naive[: int(bin_of(np.array([60.0]))[0])].sum() / naive.sum())
    share, _, _ = delays.reported(told)
    hour = int(bin_of(np.array([60.0]))[0])
    assert early > 0.6  # what counting alone would say of the first hour
    assert share[hour] == pytest.approx(0.19, abs=0.03)
    assert apart(delays.learnt(told, COMPLAINT), COMPLAINT, 10_000) < 0.04


def test_a_thin_history_stays_near_what_is_shipped_and_a_long_one_is_believed() -> None:
    few, many = (delays.learnt([drawn(FAST, n, 20_000.0, 1)], COMPLAINT) for n in (5, 20_000))
    assert apart(few, COMPLAINT, 10_000) < 0.1
    assert apart(many, FAST, 10_000) < 0.03
    assert delays.middle(many) < delays.middle(few) < delays.middle(COMPLAINT)


def test_what_nobody_was_watched_for_comes_from_the_shipped_curve() -> None:
    curve = delays.learnt([drawn(FAST, 20_000, 30.0, 2)], COMPLAINT)
    assert apart(curve, COMPLAINT, 20_000) < 0.5
    assert curve.raw(np.array([30.0]))[0] == pytest.approx(COMPLAINT.raw(np.array([30.0]))[0], abs=0.03)


def test_a_lane_leans_on_its_signal() -> None:
    told = [drawn(FAST, 5_000, 20_000.0, 3), drawn(COMPLAINT, 4, 20_000.0, 4, provider="sfr")]
    by_signal, lanes = delays.curves(told)
    assert set(lanes) == {("complaint", "orange"), ("complaint", "sfr")}
    assert delays.moved(lanes["complaint", "sfr"], by_signal["complaint"]) < 0.1
    assert delays.learnt([], COMPLAINT) is COMPLAINT


@given(
    st.lists(
        st.tuples(
            st.integers(0, BINS - 1), st.dictionaries(st.integers(-3, BINS + 3), st.integers(0, 10_000), max_size=6)
        ),
        max_size=6,
    ),
    st.sampled_from(sorted(CURVES)),
)
def test_whatever_was_counted_a_curve_comes_out_of_it(told: list[tuple[int, dict[int, int]]], name: str) -> None:
    """A Curve refuses to fall, or to end below 1: every history must give one."""
    watched = [Watched("complaint", "orange", until, delays.by_bin(counts)) for until, counts in told]
    curve = delays.learnt(watched, CURVES[name])
    assert curve.points[-1][0] == CURVES[name].points[-1][0]
    share, _, _ = delays.reported(watched)
    assert (np.diff(share) >= -1e-12).all()
    assert delays.learnt(list(reversed(watched)), CURVES[name]) == curve
