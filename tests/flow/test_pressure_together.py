"""Campaigns over the same people at the same time: nobody over a cap, no slot lost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest
import sendable

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.flow.arbitrate import arbitrate
from sendwave.flow.explain import explain
from sendwave.flow.plan import plan
from sendwave.flow.release import give_back, release
from sendwave.rules.campaign import CampaignFile
from sendwave.rules.policy import PolicySet
from sendwave.store import batches, campaigns, files
from sendwave.store import policies as kept
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database
from sendwave.store.tables import batches as rows


def drafted(db: Database, policy: PolicySet, now: datetime, names: Sequence[str], **fields: Any) -> list[Campaign]:
    told: dict[str, Any] = {"type": "newsletter", "route": "main", "sender": "news@lune.example", "subject": "Hello"}
    with db.write() as conn:
        kept.remember(conn, policy, now)
        asked = [CampaignFile.model_validate({**told, "name": name, **fields}) for name in names]
        return [campaigns.create(conn, file, "email", by="ann", now=now) for file in asked]


def approved_together(
    db: Database, engine: Engine, lake: Lake, policy: PolicySet, now: datetime, *, count: int
) -> list[Campaign]:
    """Campaigns that were all planned before any was approved: each plan wants everybody."""
    made = drafted(db, policy, now, [f"campaign-{n}" for n in range(count)])
    for campaign in made:
        plan(db, engine, lake, policy, campaign, by="ann", now=now)
    with db.write() as conn:
        for campaign in made:
            campaigns.transition(conn, campaign.id, "approve", by="eve", now=now, approved_at=now, approved_by="eve")
    return made


def slots(db: Database, lake: Lake) -> Counter[int]:
    """How many live slots each contact has."""
    with db.read() as conn:
        listed = files.live(conn, ["sends", "returns"])
    rows = {
        name: [r for f in found for r in pq.read_table(lake.root / f.path).to_pylist()]
        for name, found in listed.items()
    }
    back = {(row["freeze"], row["contact"]) for row in rows["returns"]}
    live = [row for row in rows["sends"] if row["excluded_by"] is None and (row["freeze"], row["contact"]) not in back]
    return Counter(row["contact"] for row in live)


@pytest.mark.parametrize(("count", "cap"), [(2, 1), (5, 2), (20, 3)])
def test_campaigns_released_at_once_put_nobody_over_a_cap(
    database: Database, engine: Engine, lake: Lake, now: datetime, *, count: int, cap: int
) -> None:
    """Exactly the cap: never over it, and the campaigns that go first use every slot there is."""
    db, people = database, 90
    sendable.write_base(db, lake, people, now)
    policy = sendable.policy_set(caps=[{"max": f"{cap} per 1d"}], ramp=["100%"])
    approved_together(db, engine, lake, policy, now, count=count)
    workers = min(count, 4)
    barrier = threading.Barrier(workers)

    def work() -> None:
        barrier.wait()
        for _ in range(60):
            release(db, engine, lake, now=now)
            with db.read() as conn:
                if all(
                    wave.status != "waiting" for c in campaigns.listing(conn) for wave in campaigns.waves(conn, c.id)
                ):
                    return

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert slots(db, lake) == dict.fromkeys(range(1, people + 1), cap)


def sent(db: Database, lake: Lake, engine: Engine, policy: PolicySet, now: datetime, *, name: str) -> Campaign:
    """A campaign that was planned, approved and released whole."""
    campaign = sendable.approved(db, engine, lake, policy, now, name=name)
    release(db, engine, lake, now=now, batch_sizes={"main": 10})
    return campaign


def halted(db: Database, campaign: Campaign, now: datetime) -> None:
    with db.write() as conn:
        campaigns.transition(conn, campaign.id, "halt", by="judge", now=now)
        campaigns.transition_waves(conn, campaign.id, "halt", by="judge", now=now)


def refused(db: Database, campaign: Campaign, now: datetime) -> None:
    """The ESP takes every batch and refuses its first two recipients."""
    with db.write() as conn:
        for group in list(conn.execute(rows.select())):
            [one] = batches.claim(conn, [group.id], holder="me", until=now + timedelta(minutes=1))
            batches.hand(conn, one, [], holder="me", now=now)
            out = batches.Exceptions(refused=[(0, "5.1.1", "unknown"), (1, "5.1.1", "unknown")])
            batches.settle(conn, one.id, "accept", out, now=now)


def bounced(db: Database, lake: Lake, campaign: Campaign, now: datetime, **changes: Any) -> list[int]:
    """Events: three people of the campaign bounced hard."""
    with db.read() as conn:
        paths = [lake.root / file.path for file in files.live(conn, ["sends"], str(campaign.id))["sends"]]
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()][:3]
    told = {"type": "bounce", "permanence": "hard", **changes}
    columns = {name: [row[name] for row in rows] for name in ("contact", "campaign", "batch", "position")}
    sendable.land(db, lake, "events", {**columns, **{key: [value] * 3 for key, value in told.items()}}, now)
    return [row["contact"] for row in rows]


@pytest.mark.parametrize("why", ["halted", "refused", "bounced"])
def test_slots_nobody_used_are_there_for_the_next_campaign(
    database: Database, engine: Engine, lake: Lake, now: datetime, why: str
) -> None:
    db, people = database, 60
    sendable.write_base(db, lake, people, now)
    policy = sendable.policy_set(caps=[{"max": "1 per 1d"}], ramp=["100%"])
    first = sent(db, lake, engine, policy, now, name="spring")
    if why == "halted":
        halted(db, first, now)
    elif why == "refused":
        refused(db, first, now)
    else:
        bounced(db, lake, first, now)
    later = now + timedelta(minutes=11)
    freed = give_back(db, engine, lake, now=later)
    assert freed == {"halted": people, "refused": 12, "bounced": 3}[why]
    assert give_back(db, engine, lake, now=later + timedelta(hours=1)) == 0, "slots are given back once"

    sent(db, lake, engine, policy, later, name="summer")

    with db.read() as conn:
        summer = sum(cell.released for cell in batches.counts(conn, first.id + 1).values())
    assert summer == freed
    assert set(slots(db, lake).values()) == {1}


@pytest.mark.parametrize(("changes", "option"), [({"permanence": "soft"}, "give_back"), ({}, "keep")])
def test_a_soft_bounce_keeps_its_slot_and_so_does_a_hard_one_where_the_policy_says(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime, *, changes: dict[str, str], option: str
) -> None:
    db = sqlite_database
    sendable.write_base(db, lake, 20, now)
    policy = sendable.policy_set(caps=[{"max": "1 per 1d"}], ramp=["100%"])
    document = policy.document()
    document["types"]["newsletter"]["bounced"] = option
    first = sent(db, lake, engine, PolicySet.model_validate(document), now, name="spring")
    bounced(db, lake, first, now, **changes)
    assert give_back(db, engine, lake, now=now + timedelta(minutes=11)) == 0


def test_an_arbitration_says_who_won_whom_over_what_and_compares(
    database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    """The sale (80) wins the newsletter's (40) people: planned before or after it, and until it is cancelled."""
    db, people = database, 40
    sendable.write_base(db, lake, people, now)
    policy = sendable.policy_set(caps=[{"max": "1 per 7d"}], ramp=["20%", "30%", "50%"])
    letters, _ = drafted(db, policy, now, ["letters", "spare"])
    plan(db, engine, lake, policy, letters, by="ann", now=now)
    sale = sendable.approved(
        db, engine, lake, sendable.policy_set(caps=[{"max": "1 per 7d"}], ramp=["100%"], importance=80), now,
        name="sale", start=now + timedelta(days=2),
    )  # fmt: skip

    first = arbitrate(db, engine, lake, by="ann", now=now)
    reason = "outranked_cap_channel_7d"
    told = {"loser": "letters", "winner": "sale", "reason": reason, "people": people}
    assert first.campaigns == ["sale", "letters"]
    assert first.lost == [{**told, "before": None}]
    again = plan(db, engine, lake, policy, letters, by="ann", now=now)
    assert again.excluded == {reason: people}, "planned again, the plan knows it too"
    second = arbitrate(db, engine, lake, by="ann", now=now)
    assert second.lost == [{**told, "before": people}]
    detail = explain(db, engine, lake, policy, campaign_of(db, "letters"), "C1", now=now)
    assert detail["decision"] == reason
    [link] = [link for link in detail["chain"] if link["rule"] == reason]
    assert link["detail"] == "0 sent and 1 planned that go first, of 1 messages by email per 7d"
    assert "a higher importance" in " ".join(detail["would_change"])

    with db.write() as conn:
        campaigns.transition(conn, sale.id, "cancel", by="ann", now=now)
    third = arbitrate(db, engine, lake, by="ann", now=now)
    assert third.lost == [{**told, "people": 0, "before": people}]
    assert plan(db, engine, lake, policy, letters, by="ann", now=now).planned == people


def campaign_of(db: Database, name: str) -> Campaign:
    with db.read() as conn:
        return campaigns.get(conn, name)


@pytest.mark.parametrize(
    ("sale", "outranked"),
    [
        ({"start": timedelta(days=2)}, True),
        ({"start": timedelta(days=7)}, False),  # no window of the newsletter's cap holds both
        ({"start": timedelta(days=2), "importance": 40}, False),  # a tie: the newsletter's date is earlier
        ({"start": timedelta(days=-1), "importance": 40}, True),
        ({"start": timedelta(days=2), "importance": 39}, False),
        ({"start": timedelta(days=2), "approved": False}, True),
        ({"start": None, "approved": False}, False),  # a plan nobody approved, without a date: maybe never
    ],
)
def test_whose_planned_messages_count(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime, *, sale: dict[str, Any], outranked: bool
) -> None:
    db = sqlite_database
    sendable.write_base(db, lake, 10, now)
    cap = [{"max": "1 per 7d"}]
    start = None if sale["start"] is None else now + sale["start"]
    policy = sendable.policy_set(caps=cap, importance=sale.get("importance", 80))
    if sale.get("approved", True):
        sendable.approved(db, engine, lake, policy, now, name="sale", start=start)
    else:
        [made] = drafted(db, policy, now, ["sale"], start=start)
        plan(db, engine, lake, policy, made, by="ann", now=now)
    own = sendable.policy_set(caps=cap)
    [letters] = drafted(db, own, now, ["letters"])
    assert plan(db, engine, lake, own, letters, by="ann", now=now).planned == (0 if outranked else 10)
