"""Money that ends: the best first, nothing over the cap, and what was refused is there again."""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow.parquet as pq
import pytest
import sendable

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput
from sendwave.flow.release import give_back, release
from sendwave.flow.release.budgeting import account, purse
from sendwave.rules.policy import PolicySet
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
        batches.hand(conn, one.id, [], holder="me", now=now)
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
