"""Pressure before it is applied: whom the plan's rules leave out, and the past under other rules."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sendable

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput
from sendwave.flow import intake, pressure
from sendwave.store import campaigns
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


DATES = ("05-30", "06-03", "06-08", "06-12", "06-22", "06-30")


@pytest.mark.parametrize(
    ("grouping", "left_out"),
    [
        ({}, ["06-12"]),
        ({"calendar": "month Europe/Paris"}, ["06-12", "06-30"]),
        ({"calendar": "quarter Europe/Paris"}, ["06-12", "06-22", "06-30"]),
    ],
    ids=["rolling", "by month", "by quarter"],
)
def test_a_published_case_from_the_import_to_the_preview(  # noqa: PLR0917  # the house, and the case
    sqlite_database: Database,
    engine: DuckdbEngine,
    lake: Lake,
    tmp_path: Path,
    grouping: dict[str, str],
    left_out: list[str],
) -> None:
    """Adobe Campaign's own example ("setting the period"): at most 3 per 15 days, six dates.

    Each message is imported after it was sent; a campaign of each date is planned and looked at. The replay of all six
    together says the same.
    """
    db, policy = sqlite_database, sendable.policy_set(caps=[{"max": "3 per 15d", **grouping}], ramp=["100%"])
    days = [datetime.fromisoformat(f"2025-{date}T10:00+02:00") for date in DATES]
    sendable.write_base(db, lake, 1, days[0] - timedelta(days=1))
    sendable.land(db, lake, "ids", {"contact": pa.array([1], pa.int64()), "contact_id": ["C1"]}, days[0])

    def sent(which: list[str], now: datetime) -> None:
        lines = [f"C1,2025-{date} 10:00,letter {date},newsletter,email" for date in which]
        file = tmp_path / "sends.csv"
        file.write_text("\n".join(["contact_id,sent_at,campaign,type,channel", *lines]), encoding="utf-8")
        told = {"lanes": policy.lanes, "now": now, "by": "ann", "time_zone": "Europe/Paris"}
        assert intake.import_files(db, engine, lake, "sends", [file], **told).rejected == 0

    found = []
    for date, at in zip(DATES, days, strict=True):
        campaign = sendable.approved(db, engine, lake, policy, at, name=f"letter-{date}")
        seen = pressure.preview(db, engine, lake, campaign)
        with db.write() as conn:
            campaigns.transition(conn, campaign.id, "cancel", by="ann", now=at)
        assert (seen.planned == 1) is not bool(seen.left_out)
        if seen.left_out:
            found.append(date)
        else:
            sent([date], at)
    assert found == left_out

    sent(list(DATES), days[-1])
    played = pressure.compare(db, engine, lake, {"today": policy}, now=days[-1] + timedelta(hours=1)).document()
    assert (played["sent"]["messages"], played["today"]["messages"]) == (6, 6 - len(left_out))
    assert played["today"]["left_out"] == {"newsletter": len(left_out)}
