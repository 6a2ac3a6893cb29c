from __future__ import annotations

from decimal import Decimal
from hashlib import md5
from typing import Any

import pytest
from bases import base, consent, newsletter, person, policy, read, score

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules import shares
from sendwave.rules.plan import plan_statement

PEOPLE = 20_000


@pytest.fixture(scope="module")
def crowd() -> dict[str, Any]:
    people = range(1, PEOPLE + 1)
    return base(
        contacts=[person(n) for n in people], consents=[consent(n) for n in people], scores=[score(n) for n in people]
    )


def drawn(engine: DuckdbEngine, crowd: dict[str, Any], campaign: str, **changes: Any) -> dict[str, set[int]]:
    """Contacts by reason, '' for those in the plan."""
    kind = newsletter(**{"caps": [], "control": "10%", "tiers": {"hot": {"share": "50%"}}, **changes})
    found: dict[str, set[int]] = {}
    for row in read(engine, plan_statement(policy(), kind, campaign, 0), crowd):
        found.setdefault(row["excluded_by"] or "", set()).add(row["contact"])
    return found


def near(count: int, share: float, of: int = PEOPLE) -> bool:
    """Within five standard deviations of a fair draw."""
    return abs(count - of * share) <= 5 * (of * share * (1 - share)) ** 0.5


def test_a_draw_is_reproducible_by_hand(engine: DuckdbEngine, crowd: dict[str, Any]) -> None:
    control = drawn(engine, crowd, "spring")["control_group"]
    by_hand = {
        n
        for n in range(1, PEOPLE + 1)
        if int(md5(f"spring|C-{n}".encode(), usedforsecurity=False).hexdigest()[:8], 16) < int(Decimal("0.1") * 16**8)
    }
    assert control == by_hand


def test_draws_have_their_size_and_know_nothing_of_each_other(engine: DuckdbEngine, crowd: dict[str, Any]) -> None:
    spring, summer = drawn(engine, crowd, "spring"), drawn(engine, crowd, "summer")
    assert near(len(spring["control_group"]), 0.1)
    assert near(len(spring[""]), 0.9 * 0.5)  # the share is drawn apart from the control group
    assert near(len(spring["control_group"] & summer["control_group"]), 0.01)
    assert near(len(spring[""] & summer[""]), (0.9 * 0.5) ** 2)


def test_a_larger_share_keeps_everybody_of_the_smaller(engine: DuckdbEngine, crowd: dict[str, Any]) -> None:
    small = drawn(engine, crowd, "spring", tiers={"hot": {"share": "10%"}})[""]
    large = drawn(engine, crowd, "spring", tiers={"hot": {"share": "60%"}})[""]
    assert small < large


@pytest.mark.parametrize(
    ("control", "share", "reasons"),
    [
        ("0%", "100%", {"": PEOPLE}),
        ("0%", "0%", {"not_in_share": PEOPLE}),
        ("100%", "100%", {"control_group": PEOPLE}),
    ],
)
def test_none_and_all(
    engine: DuckdbEngine, crowd: dict[str, Any], control: str, share: str, reasons: dict[str, int]
) -> None:
    found = drawn(engine, crowd, "spring", control=control, tiers={"hot": {"share": share}})
    assert {reason: len(people) for reason, people in found.items()} == reasons


def test_a_share_is_asked_of_its_own_tier_only() -> None:
    assert shares.reasons(Decimal(0), {"hot": Decimal(1)}) == ()
    names = [r.name for r in shares.reasons(Decimal("0.05"), {"hot": Decimal(1), "cool": Decimal("0.1")})]
    assert names == ["control_group", "not_in_share"]
