"""Pressure before it is applied: whom the plan's rules leave out, and the past under other rules."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import sendable

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput
from sendwave.flow import pressure
from sendwave.store.database import Database

LETTER = {"type": "newsletter", "channel": "email", "freeze": 0, "tier": "hot", "provider": "gmail"}


def past(db: Database, lake: Lake, now: datetime, sends: list[tuple[int, float]]) -> None:
    """Imported history: (contact, days ago); the day is the campaign."""
    ago = [int((now - timedelta(days=days)).timestamp()) for _, days in sends]
    columns: dict[str, Any] = {
        "contact": [contact for contact, _ in sends],
        "campaign": [-1 - int(days * 10) for _, days in sends],
        "sent_ts": ago,
        **{key: [value] * len(sends) for key, value in LETTER.items()},
        "excluded_by": [None] * len(sends),
    }
    sendable.land(db, lake, "sends", columns, now)


def test_a_preview_counts_by_rule_tier_and_segment(
    database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    sendable.write_base(database, lake, 30, now)
    past(database, lake, now, [(n, 0.5) for n in range(1, 7)])
    policy = sendable.policy_set(caps=[{"max": "1 per 1d"}])
    campaign = sendable.approved(database, engine, lake, policy, now)

    seen = pressure.preview(database, engine, lake, campaign, segment="provider").document()

    assert (seen["planned"], seen["rules"]) == (24, {"cap_channel_1d": 6})
    assert [(row["reason"], row["tier"], row["segment"], row["people"]) for row in seen["left_out"]] == [
        ("cap_channel_1d", "hot", provider, 2) for provider in sorted(sendable.PROVIDERS)
    ]
    with pytest.raises(BadInput, match=r"no column 'contry'\. Did you mean 'country'"):
        pressure.preview(database, engine, lake, campaign, segment="contry")


def test_the_past_under_another_policy(sqlite_database: Database, engine: Engine, lake: Lake, now: datetime) -> None:
    """By hand: contact 1 got 3 in 3 days, contact 2 got 2 ten days apart, contact 3 nothing; 1 per 7d lets 1 + 2."""
    db = sqlite_database
    sendable.write_base(db, lake, 3, now)
    past(db, lake, now, [(1, 30), (1, 29), (1, 28), (2, 40), (2, 50), (2, 200)])
    policies = {"today": sendable.policy_set(), "changed": sendable.policy_set(caps=[{"max": "1 per 7d"}])}

    found = pressure.compare(db, engine, lake, policies, now=now).document()

    assert {n: people for n, people in found["sent"]["messages_per_person"].items() if people} == {
        "0": 1,
        "2": 1,
        "3": 1,
    }
    assert found["today"] == {**found["sent"], "left_out": {}}
    changed = found["changed"]
    assert {n: people for n, people in changed["messages_per_person"].items() if people} == {"0": 1, "1": 1, "2": 1}
    assert (changed["messages"], changed["left_out"]) == (3, {"newsletter": 2})
    assert (changed["over_solicited"], changed["never_reached"]) == (1, 1)
    assert found["remarks"] == []


def test_a_cap_longer_than_the_history_is_said(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    db = sqlite_database
    sendable.write_base(db, lake, 3, now)
    policies = {"today": sendable.policy_set(caps=[{"max": "12 per 30d", "counts": "all"}])}
    with pytest.raises(BadInput, match="no send is known yet"):
        pressure.compare(db, engine, lake, policies, now=now)
    past(db, lake, now, [(1, 20)])
    known = "sends are known since 2026-02-10 only"
    assert pressure.compare(db, engine, lake, policies, now=now).remarks == [
        f"{known}: the days before are empty here, whatever was sent",
        f"{known}: caps that look back further count less than was sent: newsletter over 30d",
    ]
