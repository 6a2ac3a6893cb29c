"""Money that ends: the best first, nothing over the cap, and what was refused is there again."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow.parquet as pq
import pytest
import sendable

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput
from sendwave.flow.release import Texts, give_back, release
from sendwave.flow.release.budgeting import account, purse
from sendwave.flow.release.reaching import Reaching
from sendwave.rules import budgets, chain
from sendwave.rules.policy import PolicySet
from sendwave.rules.report_policy import Worth
from sendwave.store import batches, campaigns, files
from sendwave.store.database import Database


def policy(per_month: str | None = None) -> PolicySet:
    """One cent an e-mail, everybody in two waves."""
    channel = {"price": "0.01 EUR", **({} if per_month is None else {"per_month": per_month})}
    document = sendable.policy_set(ramp=["50%", "50%"]).document()
    return PolicySet.model_validate({**document, "budgets": {"channels": {"email": channel}, "month": "Europe/Paris"}})


def test_the_best_are_served_until_the_money_ends(
    database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    """70 cents for 100 people: the first wave of 50, then the 20 best of the second."""
    db, rules = database, policy()
    sendable.write_base(db, lake, 100, now)
    campaign = sendable.approved(db, engine, lake, rules, now, budget="0.70 EUR")
    [first] = release(db, engine, lake, now=now)
    with db.write() as conn:
        for event in ("send", "soak", "clear"):
            campaigns.transition_wave(conn, campaign.id, 1, event, by="judge", now=now)
    [second] = release(db, engine, lake, now=now)

    assert (first.people, first.dropped) == (50, {})
    assert (second.people, second.dropped) == (20, {"over_budget": 30})
    found = purse(db, engine, lake, campaign, rules.budgets, now=now)
    assert found is not None
    assert found.document() == {
        "campaign": "0.70 EUR",
        "campaign_spent": "0.70 EUR",
        "month": None,
        "month_spent": "0.70 EUR",
        "left": "0.00 EUR",
    }
    assert account(db, engine, lake, campaign, rules.budgets, now=now) == {
        "budget": "0.70 EUR",
        "spent": "0.00 EUR",
        "reserved": "0.70 EUR",
        "month_budget": None,
        "month_used": "0.70 EUR",
        "left": "0.00 EUR",
    }
    with db.read() as conn:
        places = pq.read_table(lake.root / files.live(conn, ["plan"])["plan"][0].path).to_pylist()
        sent = [r for f in files.live(conn, ["sends"])["sends"] for r in pq.read_table(lake.root / f.path).to_pylist()]
    went = {row["contact"] for row in sent if row["excluded_by"] is None}
    assert went == {row["contact"] for row in places if row["rank"] <= 70}


def test_a_month_is_shared_and_refused_messages_cost_nothing(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    db, rules = sqlite_database, policy(per_month="0.60 EUR")
    sendable.write_base(db, lake, 80, now)
    spring = sendable.approved(db, engine, lake, rules, now, name="spring")
    release(db, engine, lake, now=now, batch_sizes={"main": 50})
    with db.write() as conn:
        ids = [ready.id for ready in batches.ready(conn, batches.groups(conn, now), now, limit=1)]
        [one] = batches.claim(conn, ids, holder="me", until=now + timedelta(minutes=1))
        batches.hand(conn, one, [], holder="me", now=now)
        batches.settle(conn, one.id, "refuse", batches.Exceptions(), now=now)
    before = purse(db, engine, lake, spring, rules.budgets, now=now)
    freed = give_back(db, engine, lake, now=now + timedelta(minutes=11))
    after = purse(db, engine, lake, spring, rules.budgets, now=now)
    next_month = purse(db, engine, lake, spring, rules.budgets, now=now + timedelta(days=31))

    assert before is not None
    assert after is not None
    assert next_month is not None
    assert freed == one.size
    assert (before.left, after.left) == (200_000, 200_000 + one.size * 10_000)
    assert (next_month.month_spent, next_month.left) == (0, 600_000)


def test_a_budget_without_a_price_is_refused_before_anything_is_planned(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    sendable.write_base(sqlite_database, lake, 10, now)
    with pytest.raises(BadInput, match=r"budgets\.yaml has no price for email"):
        sendable.approved(sqlite_database, engine, lake, sendable.policy_set(), now, budget="5 EUR")


def test_one_person_sees_what_the_money_does_for_them(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    """70 cents for 100 people at a cent each: rank 70 is the last one paid for, before the waves leave and after."""
    db, rules = sqlite_database, policy(per_month="5 EUR")
    sendable.write_base(db, lake, 100, now)
    campaign = sendable.approved(db, engine, lake, rules, now, budget="0.70 EUR")
    with db.read() as conn:
        [file] = files.live(conn, ["plan"])["plan"]
    places = {row["rank"]: row["contact"] for row in pq.read_table(lake.root / file.path).to_pylist()}

    def told(rank: int) -> tuple[Any, ...]:
        reach = Reaching(db, engine, lake, campaign, Texts(lake.root), now).of(rules.budgets, places[rank], rank)
        assert reach is not None
        return reach.pays, reach.cost, reach.ahead, reach.served, reach.ended, chain.money(reach, rank).detail

    caps = "of a budget of 0.70 EUR {} EUR are spent and {} EUR reserved, of 5.00 EUR this month {} EUR are spent"
    caps += " or reserved"
    nothing = f"their message costs 0.01 EUR; {caps.format('0.00', '0.00', '0.00')}"
    assert told(1) == (True, 10_000, 0, None, None, nothing)
    before = f"{nothing}; those placed before them and waiting take 0.69 EUR"
    assert told(70) == (True, 10_000, 690_000, None, None, before)
    assert told(71)[:5] == (False, 10_000, 700_000, None, None)
    release(db, engine, lake, now=now)
    assert told(50)[:5] == (True, 10_000, 0, True, None)
    assert told(71)[:5] == (False, 10_000, 200_000, None, None), "the first wave of 50 is reserved, 20 wait before them"
    with db.write() as conn:
        for event in ("send", "soak", "clear"):
            campaigns.transition_wave(conn, campaign.id, 1, event, by="judge", now=now)
    release(db, engine, lake, now=now)
    assert told(70)[:5] == (True, 10_000, 0, True, 71)
    ended = (
        f"their message costs 0.01 EUR; {caps.format('0.00', '0.70', '0.70')}; the money ended at rank 71, theirs is 85"
    )
    assert told(85) == (False, 10_000, 0, False, 71, ended)


def test_reports_and_budgets_share_their_prices() -> None:
    worth = Worth.model_validate({"costs": {"email": "0.002 EUR", "sms": "0.04 EUR"}})
    told = policy().budgets
    assert budgets.price_list("email", told, worth).price.amount == Decimal("0.01"), "budgets.yaml has a price"
    assert budgets.price_list("sms", told, worth).price.amount == Decimal("0.04"), "it has none"
    with pytest.raises(BadInput, match=r"prices email in EUR, report\.yaml reckons in USD: use one currency"):
        budgets.price_list("email", told, Worth.model_validate({"currency": "USD", "costs": dollars()}))


def dollars() -> dict[str, str]:
    return dict.fromkeys(("email", "sms", "push", "unsubscribe", "complaint"), "0 USD")
