from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sendwave.rules import budgets
from sendwave.rules.budgets import Budgets, Purse
from sendwave.rules.money import Money, shown

SMS: dict[str, Any] = {"price": "0.045 EUR", "countries": {"BE": "0.08 EUR"}, "per_month": "20000 EUR"}
KNOWN = Budgets.model_validate({"channels": {"sms": SMS}, "month": "Europe/Paris"})
PRICED = KNOWN.channels["sms"]


@pytest.mark.parametrize(
    ("text", "millionths", "told"),
    [
        ("0.045 EUR", 45_000, "0.045 EUR"),
        ("1234.5 EUR", 1_234_500_000, "1234.50 EUR"),
        ("0 EUR", 0, "0.00 EUR"),
        ("0.000001 USD", 1, "0.000001 USD"),
        ("3000 JPY", 3_000_000_000, "3000.00 JPY"),
    ],
)
def test_money_is_whole_millionths(text: str, millionths: int, told: str) -> None:
    money = Money.parse(text)
    assert (money.millionths, shown(millionths, money.currency)) == (millionths, told)


def test_money_finer_than_a_millionth_is_refused() -> None:
    with pytest.raises(ValueError, match="finer than a millionth"):
        _ = Money(Decimal("0.0000001"), "EUR").millionths


@pytest.mark.parametrize(
    ("country", "parts", "cost"),
    [("FR", 1, 45_000), ("FR", 3, 135_000), ("BE", 2, 160_000), (None, 1, 80_000), ("", 1, 80_000)],
)
def test_what_a_message_costs(country: str | None, parts: int, cost: int) -> None:
    """An unknown country costs the most there is: the budget holds whatever it turns out to be."""
    assert budgets.costs(PRICED, [country], parts).tolist() == [cost]


@given(st.lists(st.integers(1, 1_000), max_size=50), st.integers(0, 20_000), st.randoms(use_true_random=False))
def test_the_best_go_first_and_never_cost_more_than_is_left(cost: list[int], left: int, chance: Any) -> None:
    rank = list(range(1, len(cost) + 1))
    chance.shuffle(rank)
    goes = budgets.affordable(np.asarray(cost, np.int64), rank, left)
    paid = [place for place, chosen in zip(rank, goes.tolist(), strict=True) if chosen]
    assert sum(one for one, chosen in zip(cost, goes.tolist(), strict=True) if chosen) <= left
    assert sorted(paid) == list(range(1, len(paid) + 1)), "nobody overtakes a better one"


@pytest.mark.parametrize(
    ("caps", "left"),
    [
        ((None, 5, None, 9), None),
        ((10, 4, None, 99), 6),
        ((10, 4, 20, 19), 1),
        ((10, 12, None, 0), 0),
        ((0, 0, None, 0), 0),
    ],
)
def test_what_is_left(caps: tuple[int | None, int, int | None, int], left: int | None) -> None:
    """No cap and a cap of 0 are two values."""
    assert Purse("EUR", *caps).left == left


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"channels": {"sms": {"price": "0.045"}}}, "with its currency"),
        ({"channels": {"sms": {"price": "0.045 EUR", "per_month": "20000 USD"}}}, "one currency per channel"),
        ({"channels": {"smss": {"price": "0.045 EUR"}}}, "no channel 'smss'"),
        ({"channels": {"sms": {"price": "0.045 EUR", "countries": {"fr": "1 EUR"}}}}, "countries"),
        ({"month": "Europe/Pariss"}, "unknown time zone"),
        ({"channels": {"sms": {"price": "0.00000001 EUR"}}}, "finer than a millionth"),
    ],
)
def test_what_budgets_yaml_may_not_say(told: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Budgets.model_validate(told)


@pytest.mark.parametrize(
    ("budget", "channel", "problem"),
    [
        (None, "email", None),
        ("500 EUR", "sms", None),
        ("500 USD", "sms", "use one"),
        ("500 EUR", "email", "no price for email"),
    ],
)
def test_a_budget_needs_a_price_in_its_currency(budget: str | None, channel: str, problem: str | None) -> None:
    wrong = budgets.unaffordable(None if budget is None else Money.parse(budget), channel, KNOWN)
    assert (wrong is None) if problem is None else (problem in (wrong or ""))
