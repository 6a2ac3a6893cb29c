"""Tiers as CRM people write them: ordered, distinct, and only the coldest without a cut-off."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sendwave.rules.tiers import Tiers


def tiers(*rows: tuple[str, float | None]) -> dict[str, Any]:
    return {"tiers": [{"key": key, "label": key.title(), "min_score": score} for key, score in rows]}


def test_the_most_engaged_come_first() -> None:
    assert Tiers.model_validate(tiers(("high", 50), ("medium", 25), ("low", None))).keys == ("high", "medium", "low")


def test_the_coldest_may_have_a_cut_off_too() -> None:
    assert Tiers.model_validate(tiers(("high", 50), ("low", 1))).tiers[-1].min_score == 1


@pytest.mark.parametrize(
    ("given_tiers", "message"),
    [
        (tiers(("high", 50), ("high", 25), ("low", None)), "a tier key is used twice: high"),
        (tiers(("high", None), ("low", None)), r"only the coldest \(last\) tier may leave min_score out"),
        (tiers(("high", 25), ("low", 50)), "from the highest min_score down"),
        (tiers(("high", 25), ("low", 25)), "from the highest min_score down"),
        (tiers(("high", 50), ("medium", 50), ("low", None)), "without two equal ones"),
        (tiers(("high", float("nan")), ("low", None)), "finite"),
        (tiers(("only", None)), "at least 2 items"),
        (tiers(*((f"t{n}", 100.0 - n) for n in range(11))), "at most 10 items"),
        (tiers(("High", 50), ("low", None)), "'High' is no key"),
    ],
)
def test_what_is_no_ladder_of_tiers(given_tiers: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Tiers.model_validate(given_tiers)


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=9, unique=True))
def test_any_falling_ladder_is_accepted_and_its_mirror_refused(cuts: list[int]) -> None:
    falling = sorted(cuts, reverse=True)
    rows = [(f"t{n}", float(cut)) for n, cut in enumerate(falling)]
    assert len(Tiers.model_validate(tiers(*rows, ("rest", None))).keys) == len(cuts) + 1
    if len(cuts) > 1:
        with pytest.raises(ValidationError):
            Tiers.model_validate(tiers(*reversed(rows), ("rest", None)))


def shares(*rows: tuple[str, str | None]) -> dict[str, Any]:
    return {"tiers": [{"key": key, "label": key.title(), "share": share} for key, share in rows]}


@pytest.mark.parametrize("rows", [(("a", "5%"), ("b", "35%"), ("c", None)), (("a", "5%"), ("b", "35%"), ("c", "60%"))])
def test_tiers_may_be_shares_of_the_base(rows: tuple[tuple[str, str | None], ...]) -> None:
    found = Tiers.model_validate(shares(*rows))
    assert found.by_share
    assert not Tiers.model_validate(tiers(("a", 5), ("b", None))).by_share


@pytest.mark.parametrize(
    ("given_tiers", "message"),
    [
        (shares(("a", "50%"), ("b", "60%")), r"add up to 110%, not 100%"),
        (shares(("a", "50%"), ("b", "40%")), r"add up to 90%, not 100%"),
        (shares(("a", "60%"), ("b", "40%"), ("c", None)), "leave nothing for 'c'"),
        (shares(("a", None), ("b", "40%")), r"only the coldest \(last\) may leave it out"),
        (shares(("a", "0%"), ("b", None)), "0% leaves a tier empty"),
        (shares(("a", "5"), ("b", None)), "needs its unit"),
        (
            {"tiers": [{"key": "a", "label": "A", "share": "5%"}, {"key": "b", "label": "B", "min_score": 1}]},
            "all of them",
        ),
    ],
)
def test_what_are_no_shares_of_one_base(given_tiers: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Tiers.model_validate(given_tiers)
