"""Campaigns for tests of what comes after their plan: made straight in the store, without a lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from sendwave.rules.campaign import CampaignFile
from sendwave.rules.policy import PolicySet
from sendwave.store import campaigns, files
from sendwave.store.campaigns import Campaign, WaveRow
from sendwave.store.tables import policies

POLICY_VERSION = "p" * 64

POLICY: Mapping[str, Any] = {
    "tiers": {"tiers": [{"key": "hot", "label": "Hot", "min_score": 50}, {"key": "cold", "label": "Cold"}]},
    "types": {
        "newsletter": {"type": "newsletter", "tiers": {"hot": {"share": "100%"}}, "waves": {"ramp": ["10%", "90%"]}},
        "service": {
            "type": "service",
            "purpose": "service",
            "tiers": {"hot": {"share": "100%"}},
            "waves": {"ramp": ["100%"]},
        },
    },
    "gates": {"default": {"signals": {"hard_bounce": {"hold": "1%", "halt": "2%"}}}},
    "lanes": {"providers": {"gmail": {"label": "Gmail", "domains": ["gmail.com"]}, "other": {"label": "Other"}}},
}


def policy_set() -> PolicySet:
    """A small policy set."""
    return PolicySet.model_validate(POLICY)


def described(name: str = "spring", **fields: Any) -> CampaignFile:
    """A campaign's file."""
    given = {
        "name": name,
        "type": "newsletter",
        "route": "main",
        "sender": "Maison Lune <news@maisonlune.example>",
        "subject": "Hello",
        "unsubscribe": "https://maisonlune.example/u/{token}",
    }
    return CampaignFile.model_validate({**given, **fields})


def planned(
    conn: Connection,
    now: datetime,
    *,
    name: str = "spring",
    waves: Sequence[int] = (100, 300, 600),
    lanes: Sequence[str] = ("gmail", "orange"),
    policy_version: str = POLICY_VERSION,
    plan_path: str | None = None,
    **fields: Any,
) -> Campaign:
    """A planned campaign with waves of those sizes; its plan's file is registered but need not exist."""
    if conn.execute(select(policies.c.version).where(policies.c.version == policy_version)).first() is None:
        conn.execute(insert(policies).values(version=policy_version, document={}, loaded_at=now))
    made = campaigns.create(conn, described(name, **fields), "email", by="ann", now=now)
    path = plan_path or f"plan/{name}.parquet"
    plan_file = files.register(conn, dataset="plan", path=path, rows=sum(waves), size=1, now=now)
    campaigns.store_plan(
        conn,
        made.id,
        plan_file=plan_file,
        pins={"contacts": [1]},
        policy_version=policy_version,
        waves=[WaveRow(number, "waiting", people, {"hot": people}, {}) for number, people in enumerate(waves, start=1)],
        lanes=lanes,
        exclusions={("no_consent", "hot"): 3, ("no_consent", "cold"): 4, ("suppressed", "hot"): 1},
        by="ann",
        now=now,
    )
    return campaigns.by_id(conn, made.id)


def sending(conn: Connection, now: datetime, **options: Any) -> Campaign:
    """A campaign that is being sent; all its waves still wait."""
    made = planned(conn, now, **options)
    campaigns.transition(conn, made.id, "approve", by="eve", now=now, approved_at=now, approved_by="eve")
    campaigns.start_due(conn, by="daemon", now=now)
    return campaigns.by_id(conn, made.id)


def halt(conn: Connection, campaign: Campaign, now: datetime) -> None:
    """What a gate does to a campaign."""
    from sendwave.store import holds

    campaigns.transition(conn, campaign.id, "halt", by="daemon", now=now)
    campaigns.transition_waves(conn, campaign.id, "halt", by="daemon", now=now)
    holds.place(conn, kind="halt", reason="hard_bounce", campaign_id=campaign.id, by="daemon", now=now)


def suspend(conn: Connection, campaign: Campaign, provider: str, now: datetime) -> None:
    """What a gate does to one lane."""
    from sendwave.store import holds

    campaigns.transition_lane(conn, campaign.id, provider, "suspend", by="daemon", now=now)
    holds.place(conn, kind="halt", reason="block", campaign_id=campaign.id, provider=provider, by="daemon", now=now)
