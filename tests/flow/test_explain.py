from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import bases
import pytest
from bases import DAY, HOUR, NOW_TS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from landed import Landed
from sqlalchemy import delete, select, update

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput, NotFound
from sendwave.flow.explain import explain
from sendwave.rules.holds import Kind
from sendwave.rules.lifecycle import Batch
from sendwave.rules.policy import PolicySet
from sendwave.store import batches, campaigns, files, freezes, holds
from sendwave.store.batches import Draft
from sendwave.store.database import Database
from sendwave.store.tables import batches as batches_table
from sendwave.store.tables import suppressions as suppressions_table

POLICY = bases.policy(control="0%")


@pytest.fixture
def landed(sqlite_database: Database, engine: DuckdbEngine, lake: Lake, now: datetime) -> Landed:
    return Landed(sqlite_database, engine, lake, now)


def told(landed: Landed, contact_id: str, policy: PolicySet = POLICY, now: datetime | None = None) -> dict[str, Any]:
    document = explain(landed.db, landed.engine, landed.lake, policy, landed.read(), contact_id, now=now or landed.now)
    found: dict[str, Any] = json.loads(json.dumps(document))
    return found


def link(document: dict[str, Any], rule: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [entry for entry in document["chain"] if entry["rule"] == rule]
    assert len(found) == 1
    return found[0]


def planned(landed: Landed, policy: PolicySet = POLICY, **rows: Any) -> Landed:
    landed.land(bases.ready(1, 2, 3, **rows))
    landed.campaign()
    landed.plan(policy)
    return landed


def test_a_planned_contact_passes_every_rule(landed: Landed) -> None:
    document = told(planned(landed), "C-1")
    assert (document["decision"], document["tier"], document["score"]) == ("planned", "hot", 60.0)
    assert document["rank"] in (1, 2, 3)
    assert document["wave"] in (1, 2, 3)
    assert document["policy_version"] == POLICY.version
    assert all(entry["passed"] for entry in document["chain"])
    assert document["would_change"] == []
    assert link(document, "today")["detail"] == "release would send to them as of 2026-03-02 09:00 UTC"


def test_a_cap_is_told_with_its_messages_and_its_end(landed: Landed) -> None:
    sends = [bases.send(1, days * DAY + HOUR) for days in (2, 4, 6, 9)]
    document = told(planned(landed, sends=sends), "C-1")
    assert document["decision"] == "cap_tier"
    assert link(document, "cap_tier") == {
        "rule": "cap_tier",
        "passed": False,
        "detail": "3 of 3 messages of type newsletter in the last 7d: 2026-02-28 08:00 UTC, 2026-02-26 08:00 UTC, "
        "2026-02-24 08:00 UTC; free again on 2026-03-03 08:00 UTC",
    }
    assert link(document, "cap_channel_1d")["detail"] == "0 of 1 messages by email in the last 1d"
    assert document["would_change"] == ["waiting until 2026-03-03 08:00 UTC, or a higher cap"]
    assert (document["wave"], document["rank"]) == (None, None)


def test_it_is_free_again_exactly_when_it_says(landed: Landed) -> None:
    sends = [bases.send(1, days * DAY + HOUR) for days in (2, 4, 6)]
    planned(landed, sends=sends)
    free = datetime.fromisoformat("2026-03-03T08:00+00:00")
    landed.plan(POLICY, now=free - timedelta(seconds=1))
    assert told(landed, "C-1")["decision"] == "cap_tier"
    landed.plan(POLICY, now=free)
    assert told(landed, "C-1")["decision"] == "planned"


def test_a_rest_is_told_with_its_end(landed: Landed) -> None:
    document = told(
        planned(
            landed,
            bases.policy(control="0%", tiers={"hot": {"share": "100%", "min_gap": "48h"}}),
            sends=[bases.send(1, 47 * HOUR, type="brand")],
        ),
        "C-1",
    )
    assert document["decision"] == "min_gap"
    assert link(document, "min_gap")["detail"] == (
        "last message by email on 2026-02-28 10:00 UTC, 48h of rest until 2026-03-02 10:00 UTC"
    ).replace("48h", "2d")


def test_what_lies_in_the_person_is_told(landed: Landed) -> None:
    planned(
        landed,
        contacts=[bases.person(1), bases.person(2, email_status="invalid", email=None), bases.person(3)],
        consents=[bases.consent(1, "withdrawn"), bases.consent(2)],
        suppressions=[{"address_hash": f"{3:032x}", "reason": "complaint"}],
    )
    one, two, three = (told(landed, f"C-{n}") for n in (1, 2, 3))
    assert (one["decision"], link(one, "consent_withdrawn")["detail"]) == (
        "consent_withdrawn",
        "email/marketing: withdrawn since 2025-11-22 09:00 UTC",
    )
    assert one["would_change"] == ["a consent for email/marketing"]
    assert (two["decision"], two["would_change"]) == ("invalid_address", ["a corrected address in the base"])
    assert (three["decision"], link(three, "suppressed")["detail"]) == (
        "suppressed_complaint",
        "on the suppression list: complaint",
    )
    assert link(three, "no_consent")["detail"] == "no consent is known for email/marketing"
    assert len(three["would_change"]) == 2  # lifting one of the two is not enough


def test_a_draw_is_told_with_its_number(landed: Landed) -> None:
    policy = bases.policy(control="100%")
    document = told(planned(landed, policy), "C-2")
    assert document["decision"] == "control_group"
    assert "the control group is everybody under 100%" in link(document, "control_group")["detail"]
    assert document["would_change"] == ["nothing: this campaign's draw stands"]


def test_it_rests_on_the_plan_not_on_today(landed: Landed) -> None:
    planned(landed)
    landed.suppress(
        bases.table("suppressions", [{"address_hash": f"{1:032x}", "reason": "complaint"}]),
        now=landed.now + timedelta(hours=1),
    )
    landed.land({"scores": bases.table("scores", [bases.score(1, 0.0)])})
    document = told(landed, "C-1", bases.policy(), now=landed.now + timedelta(hours=2))
    assert (document["decision"], document["score"]) == ("planned", 60.0)
    assert document["policy_version"] == POLICY.version
    assert link(document, "suppressed")["passed"] is True
    assert link(document, "today") == {
        "rule": "today",
        "passed": False,
        "detail": "release would take them out now: suppressed_complaint",
    }


def test_what_the_plan_saw_and_is_gone_is_admitted(landed: Landed) -> None:
    planned(landed, suppressions=[{"address_hash": f"{1:032x}", "reason": "complaint"}])
    with landed.db.write() as conn:
        conn.execute(delete(suppressions_table))
    document = told(landed, "C-1")
    assert document["decision"] == "suppressed_complaint"
    assert link(document, "plan") == {
        "rule": "plan",
        "passed": None,
        "detail": "read again, the files that remain say planned: what the plan saw is partly gone",
    }


def test_a_draft_is_answered_from_today(landed: Landed) -> None:
    landed.land(bases.ready(1, consents=[]))
    landed.campaign()
    document = told(landed, "C-1")
    assert (document["decision"], document["wave"], document["rank"]) == ("no_consent", None, None)
    landed.campaign("odd", type="nonsense")
    with pytest.raises(BadInput, match="nonsense"):
        explain(landed.db, landed.engine, landed.lake, POLICY, landed.read("odd"), "C-1", now=landed.now)


def test_an_unknown_contact_is_not_found(landed: Landed) -> None:
    planned(landed)
    with pytest.raises(NotFound, match=r"no contact 'C-11' in the base of the plan.* Did you mean C-1"):
        told(landed, "C-11")
    with pytest.raises(NotFound, match="no contact 'zebra'"):
        told(landed, "zebra")


def freeze(landed: Landed, contact: int, *, excluded_by: str | None = None) -> int:
    """Release one contact in a batch of their own; returns the batch."""
    found = landed.read()
    with landed.db.write() as conn:
        freeze_id, batch_id = freezes.reserve(conn, freeze_ids=1, batch_ids=1)
    sent = bases.send(
        contact,
        0,
        campaign=found.id,
        freeze=freeze_id,
        batch=None if excluded_by else batch_id,
        excluded_by=excluded_by,
    )
    file_id = landed.land_file("sends", bases.table("sends", [sent]))
    with landed.db.write() as conn:
        freezes.add(
            conn, freeze_id, campaign_id=found.id, wave=1, file_id=file_id, contacts=1, dropped={}, now=landed.now
        )
        if excluded_by is None:
            draft = Draft(
                id=batch_id, campaign_id=found.id, wave=1, freeze_id=freeze_id, provider="gmail", route="main", zone="",
                position=0, size=1, payload=b"",
            )  # fmt: skip
            batches.add(conn, [draft])
    return batch_id


def test_what_release_and_dispatch_did_is_told(landed: Landed) -> None:
    planned(landed)
    with landed.db.write() as conn:
        for event in ("approve", "start"):
            campaigns.transition(conn, landed.read().id, event, by="eve", now=landed.now)
    batch = freeze(landed, 1)
    document = told(landed, "C-1")
    assert (
        link(document, "release")["detail"]
        == f"released with wave 1 on 2026-03-02 09:00 UTC, lane gmail, batch {batch}"
    )
    assert link(document, "dispatch") == {"rule": "dispatch", "passed": None, "detail": "ready"}
    assert {"today", "held"}.isdisjoint({entry["rule"] for entry in document["chain"]})
    freeze(landed, 2, excluded_by="suppressed_complaint")
    document = told(landed, "C-2")
    assert link(document, "release") == {
        "rule": "release",
        "passed": False,
        "detail": "taken out of wave 1 on 2026-03-02 09:00 UTC: suppressed_complaint",
    }
    assert document["decision"] == "planned"


def test_what_holds_somebody_who_waits_is_told(landed: Landed) -> None:
    planned(landed)
    found = landed.read()
    freeze(landed, 1)
    pause = {"kind": Kind.PAUSE, "reason": "paused", "by": "ann", "now": landed.now}
    halt = {"kind": Kind.HALT, "reason": "block", "by": "daemon", "now": landed.now}
    with landed.db.write() as conn:
        holds.place(conn, **pause, route=found.settings.route)
        holds.place(conn, **pause, route="another")
        holds.place(conn, **halt, campaign_id=found.id, provider="gmail")
        holds.place(conn, **halt, campaign_id=found.id, provider="orange")
    held = told(landed, "C-1")
    assert [entry["detail"] for entry in held["chain"] if entry["rule"] == "held"] == [
        "route main: paused since 2026-03-02 09:00 UTC by ann",
        "lane gmail: block since 2026-03-02 09:00 UTC by daemon",
    ]
    assert held["would_change"] == [
        "sendwave route free main",
        f'sendwave campaign resume {found.name} --provider gmail --reason "…", once the cause is mended',
    ]


@pytest.mark.parametrize("doubted", [False, True])
@pytest.mark.parametrize(("status", "waits"), [(Batch.READY, True), (Batch.CLAIMED, True), (Batch.HANDED, False)])
def test_what_holds_somebody_who_goes_again_is_told(
    landed: Landed, status: Batch, *, waits: bool, doubted: bool
) -> None:
    planned(landed)
    first = freeze(landed, 1)
    with landed.db.write() as conn:
        _, second = freezes.reserve(conn, freeze_ids=1, batch_ids=1)
        of = batches_table.c
        draft = Draft(
            id=second, campaign_id=landed.read().id, wave=1, freeze_id=conn.execute(select(of.freeze_id)).scalar_one(),
            provider="gmail", route="main", zone="", position=1, size=1, payload=b"", attempt=1,
            origins=[(first, 0)], doubted=doubted,
        )  # fmt: skip
        batches.add(conn, [draft])
        conn.execute(update(batches_table).where(of.id == first).values(status="unknown", outcomes={"moved": [0]}))
        conn.execute(update(batches_table).where(of.id == second).values(status=status))
        holds.place(conn, kind=Kind.PAUSE, reason="paused", by="ann", now=landed.now, route="main")
    document = told(landed, "C-1")
    assert ("held" in {entry["rule"] for entry in document["chain"]}) == waits


def test_gone_pinned_files_are_survived(landed: Landed) -> None:
    """The janitor removed the scores the plan was made from: the decision stands, the chain says what is missing."""
    planned(landed)
    with landed.db.read() as conn:
        (scores,) = files.live(conn, ["scores"])["scores"]
    landed.lake.remove(scores.path)
    document = explain(landed.db, landed.engine, landed.lake, POLICY, _without_today(landed), "C-1", now=landed.now)
    assert document["decision"] == "planned"
    assert document["chain"][-1]["rule"] == "plan"


def _without_today(landed: Landed) -> Any:
    with landed.db.write() as conn:
        campaigns.transition(conn, landed.read().id, "cancel", by="eve", now=landed.now)
        (scores,) = files.live(conn, ["scores"])["scores"]
        files.retire(conn, [scores.id], landed.now)
    return landed.read()


@given(st.integers(0, 7))
@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_explain_never_disagrees_with_the_plan(landed: Landed, seed: int) -> None:
    policy = bases.policy()
    landed.land(bases.odd_base(seed))
    name = f"odd-{seed}-{NOW_TS}"
    landed.campaign(name)
    landed.plan(policy, name)
    for row in landed.rows(name)[seed % 5 :: 15]:
        document = explain(
            landed.db, landed.engine, landed.lake, policy, landed.read(name), row["contact_id"], now=landed.now
        )
        assert document["decision"] == (row["excluded_by"] or "planned")
        assert (document["wave"], document["rank"]) == (row["wave"], row["rank"])
        assert "plan" not in {entry["rule"] for entry in document["chain"]}  # and the chain itself says so
        failed = [entry["rule"] for entry in document["chain"] if entry["passed"] is False]
        if row["excluded_by"]:
            assert row["excluded_by"].startswith(failed[0])
        else:
            assert failed == []


def test_the_campaigns_that_took_the_slots_are_named(landed: Landed) -> None:
    landed.land(bases.ready(1, sends=[bases.send(1, 2 * DAY, campaign=1), bases.send(1, 3 * DAY)]))
    landed.campaign("valentine")
    landed.campaign()
    document = told(landed, "C-1")
    assert link(document, "cap_tier")["detail"] == (
        "2 of 3 messages of type newsletter in the last 7d: 2026-02-28 09:00 UTC (valentine), 2026-02-27 09:00 UTC"
    )


def test_the_audience_is_told_clause_by_clause(landed: Landed) -> None:
    contacts = [bases.person(1, country="FR", attr_vip="yes"), bases.person(2, country="BE"), bases.person(3)]
    acts = [{"contact": 2, "kind": "purchase", "ts": NOW_TS - DAY, "value": 20.0}]
    landed.land({**bases.ready(1, 2, 3, contacts=contacts), "interactions": bases.table("interactions", acts)})
    landed.campaign(audience=["country in FR, BE", {"any": ["vip exists", "bought within 30d"]}, "not bought"])
    landed.plan(POLICY)
    one, two, three = (told(landed, f"C-{n}") for n in (1, 2, 3))
    assert (one["decision"], two["decision"], three["decision"]) == ("planned", "not_in_audience", "not_in_audience")
    assert link(two, "not_in_audience")["detail"] == (
        "✓ country in FR, BE (is BE); ✗ vip exists (not known); ✓ bought within 30d (1 times); ✓ bought (1 times)"
    )
    assert two["would_change"] == ["the audience: not bought"]
    assert three["would_change"] == ["the audience: country in FR, BE; vip exists or bought within 30d"]


def test_a_household_s_slot_that_went_to_another_member_is_told_with_the_name(landed: Landed) -> None:
    """C-1, C-2 and C-3 live together; one message a day for all of them, and whoever is placed best gets it."""
    shared = bases.policy(control="0%", caps=[{"max": "1 per 1d", "counts": "channel", "per": "group"}])
    planned(landed, shared, contacts=[bases.person(n, group_key="rue-1") for n in (1, 2, 3)])
    decided = {name: told(landed, name, shared) for name in ("C-1", "C-2", "C-3")}
    [first] = [name for name, one in decided.items() if one["decision"] == "planned"]
    for name, one in decided.items():
        if name != first:
            assert one["decision"] == "cap_group_channel_1d"
            found = link(one, "cap_group_channel_1d")
            assert found["passed"] is False
            assert found["detail"].endswith(f"; {first} (rank 1) of the same group goes first in this plan")
            assert one["would_change"] == ["a higher cap for the group"]
            assert not [entry for entry in one["chain"] if entry["rule"] == "plan"]
