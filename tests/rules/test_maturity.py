from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules.maturity import CURVES, FLOOR, Curve, matured

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("curve", "minutes", "share"),
    [
        ("complaint", 60, 0.18),
        ("complaint", 360, 0.50),
        ("complaint", 30_000, 1.0),
        ("complaint", 1, FLOOR),
        ("bounce", 1, 0.50),
        ("bounce", 0, FLOOR),
        ("bounce", -90, FLOOR),
        ("delivered", 240, 1.0),
    ],
)
def test_shares_of_the_default_curves(curve: str, minutes: float, share: float) -> None:
    assert CURVES[curve].share(timedelta(minutes=minutes)) == pytest.approx(share)


def test_between_two_points_the_share_is_linear_in_the_logarithm() -> None:
    curve = Curve(((1, 0.2), (3, 0.8), (7, 1)))
    assert curve.share(timedelta(minutes=2**1.5 - 1)) == pytest.approx(0.5)


@pytest.mark.parametrize("name", CURVES)
@given(minutes=st.lists(st.floats(-100, 100_000), min_size=2, max_size=2))
def test_a_curve_never_falls_and_stays_a_share(name: str, minutes: list[float]) -> None:
    early, late = sorted(minutes)
    shares = [CURVES[name].share(timedelta(minutes=m)) for m in (early, late)]
    assert FLOOR <= shares[0] <= shares[1] <= 1


@pytest.mark.parametrize("points", [((5, 0.5), (1, 1)), ((1, 0.5), (5, 0.4), (9, 1)), ((1, 0.5),), ((0, 0.1), (1, 1))])
def test_a_curve_that_falls_or_never_ends_is_refused(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="rises"):
        Curve(points)


def test_the_next_step_is_the_next_point_and_none_at_the_end() -> None:
    curve = CURVES["bounce"]
    assert curve.next_step(timedelta(minutes=10)) == timedelta(minutes=20)
    assert curve.next_step(timedelta(minutes=29.9)) == timedelta(minutes=1)
    assert curve.next_step(timedelta(minutes=2_880)) is None


@given(
    sent=st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 10_000)), max_size=12),
    pieces=st.integers(1, 5),
    turn=st.randoms(use_true_random=False),
)
def test_neither_order_nor_pieces_of_cohorts_matter(sent: list[tuple[int, int]], pieces: int, turn: object) -> None:
    cohorts = [(NOW - timedelta(minutes=age), messages) for age, messages in sent]
    split = [(at, n // pieces + (1 if i < n % pieces else 0)) for at, n in cohorts for i in range(pieces)]
    turn.shuffle(split)  # type: ignore[attr-defined]
    curve = CURVES["complaint"]
    assert matured(split, NOW, curve) == matured(cohorts, NOW, curve)
    assert matured(cohorts, NOW, curve) <= sum(n for _, n in cohorts)
