from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import campaigns_made
import pytest
from campaigns_made import described, planned, policy_set, sending

from sendwave.errors import BadInput, NotAllowed, NotFound, StaleTransition
from sendwave.flow import steer
from sendwave.rules.lifecycle import Campaign, Wave
from sendwave.rules.policy import PolicySet
from sendwave.store import campaigns, holds, journal, policies
from sendwave.store.database import Database


@pytest.fixture
def policy() -> PolicySet:
    return policy_set()


@pytest.fixture
def db(sqlite_database: Database) -> Database:
    return sqlite_database


def statuses(db: Database, name: str = "spring") -> tuple[str, list[str], dict[str, str]]:
    """Of the campaign, its waves and its lanes."""
    with db.read() as conn:
        found = campaigns.get(conn, name)
        waves = [wave.status for wave in campaigns.waves(conn, found.id)]
        return found.status, waves, {lane.provider: lane.status for lane in campaigns.lanes(conn, found.id)}


def open_reasons(db: Database) -> list[str]:
    with db.read() as conn:
        return [hold.reason for hold in holds.open_holds(conn)]


def flying(db: Database, now: datetime) -> campaigns.Campaign:
    """Wave 1 cleared, wave 2 being sent, wave 3 waiting."""
    with db.write() as conn:
        made = sending(conn, now)
        for event in ("release", "send", "soak", "clear"):
            campaigns.transition_wave(conn, made.id, 1, event, by="daemon", now=now)
        for event in ("release", "send"):
            campaigns.transition_wave(conn, made.id, 2, event, by="daemon", now=now)
        return made


# ── create ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_campaign_starts_as_a_draft_on_its_type_s_channel(db: Database, policy: PolicySet, now: datetime) -> None:
    made = steer.create(db, policy, described(), routes=["main"], by="ann", now=now)
    assert (made.status, made.channel, made.type) == (Campaign.DRAFT, "email", "newsletter")


@pytest.mark.parametrize(
    ("fields", "finding"),
    [
        ({"type": "newsleter"}, "no campaign type 'newsleter'. Did you mean 'newsletter'?"),
        ({"route": "mian"}, "no route 'mian' in sendwave.yaml. Did you mean 'main'?"),
        ({"unsubscribe": None}, "one-click unsubscribe URL"),
        ({"content": "mail/spring", "provider_template": "17"}, "not both"),
    ],
)
def test_a_wrong_file_makes_no_campaign(
    db: Database, policy: PolicySet, now: datetime, fields: dict[str, Any], finding: str
) -> None:
    with pytest.raises(BadInput) as wrong:
        steer.create(db, policy, described(**fields), routes=["main"], by="ann", now=now)
    assert finding in "\n".join(wrong.value.findings)
    with db.read() as conn:
        assert campaigns.listing(conn) == []


def test_all_mistakes_are_told_at_once(db: Database, policy: PolicySet, now: datetime) -> None:
    with pytest.raises(BadInput) as wrong:
        steer.create(db, policy, described(type="nope", route="nope"), routes=["main"], by="ann", now=now)
    assert len(wrong.value.findings) == 2


@pytest.mark.parametrize("fields", [{"type": "service"}, {"provider_template": "17"}])
def test_only_marketing_mail_of_our_own_content_needs_the_unsubscribe_url(
    db: Database, policy: PolicySet, now: datetime, fields: dict[str, Any]
) -> None:
    steer.create(db, policy, described(unsubscribe=None, **fields), routes=["main"], by="ann", now=now)


def test_a_name_taken_makes_no_second_campaign(db: Database, policy: PolicySet, now: datetime) -> None:
    steer.create(db, policy, described(), routes=["main"], by="ann", now=now)
    with pytest.raises(BadInput, match="already a campaign named 'spring'"):
        steer.create(db, policy, described(), routes=["main"], by="bob", now=now)


# ── approve ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def plan_under(db: Database, policy: PolicySet, now: datetime, **options: Any) -> campaigns.Campaign:
    with db.write() as conn:
        policies.remember(conn, policy, now)
        return planned(conn, now, policy_version=policy.version, **options)


def test_an_approval_keeps_who_when_and_the_whole_policy(db: Database, policy: PolicySet, now: datetime) -> None:
    made = plan_under(db, policy, now)
    found = steer.approve(db, policy, made, stale=[], by="eve", now=now + timedelta(minutes=1))
    assert (found.status, found.approved_by, found.approved_at) == ("approved", "eve", now + timedelta(minutes=1))
    with db.read() as conn:
        assert found.policy_version is not None
        assert policies.pinned(conn, found.policy_version) == policy


def test_no_plan_no_approval(db: Database, policy: PolicySet, now: datetime) -> None:
    made = steer.create(db, policy, described(), routes=["main"], by="ann", now=now)
    with pytest.raises(NotAllowed, match=r"has no plan yet: `sendwave campaign plan spring` first"):
        steer.approve(db, policy, made, stale=[], by="eve", now=now)


def test_a_stale_plan_is_not_approved_and_says_what_changed(db: Database, policy: PolicySet, now: datetime) -> None:
    made = plan_under(db, policy, now)
    with pytest.raises(NotAllowed, match=r"is stale: contacts were imported; scores were imported\. "):
        steer.approve(db, policy, made, stale=["contacts were imported", "scores were imported"], by="eve", now=now)
    assert statuses(db)[0] == Campaign.PLANNED


def test_a_plan_made_under_other_policies_is_stale(db: Database, policy: PolicySet, now: datetime) -> None:
    with db.write() as conn:
        made = planned(conn, now)
    with pytest.raises(NotAllowed, match="stale: the policies changed"):
        steer.approve(db, policy, made, stale=[], by="eve", now=now)


def test_a_plan_nobody_is_in_is_not_approved(db: Database, policy: PolicySet, now: datetime) -> None:
    made = plan_under(db, policy, now, waves=[0])
    with pytest.raises(NotAllowed, match="nobody is in the plan"):
        steer.approve(db, policy, made, stale=[], by="eve", now=now)


def test_the_plan_approved_is_the_plan_that_was_looked_at(db: Database, policy: PolicySet, now: datetime) -> None:
    made = plan_under(db, policy, now)
    other = plan_under(db, policy, now, name="other")
    with db.write() as conn:
        campaigns.store_plan(
            conn, made.id, plan_file=other.plan_file or 0, pins={}, policy_version=policy.version,
            waves=campaigns.waves(conn, made.id), lanes=[], exclusions={}, by="ann", now=now,
        )  # fmt: skip
    with pytest.raises(StaleTransition, match="planned again meanwhile"):
        steer.approve(db, policy, made, stale=[], by="eve", now=now)


@pytest.mark.parametrize("end", ["cancel", "approve"])
def test_an_approval_comes_once_and_before_the_end(db: Database, policy: PolicySet, now: datetime, end: str) -> None:
    made = plan_under(db, policy, now)
    with db.write() as conn:
        campaigns.transition(conn, made.id, end, by="ann", now=now)
    with pytest.raises(NotAllowed):
        steer.approve(db, policy, made, stale=[], by="eve", now=now)


# ── pause and resume ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pause_holds_everything_and_a_resume_lets_the_same_waves_go_on(database: Database, now: datetime) -> None:
    made = flying(database, now)
    steer.pause(database, "spring", reason="typo in the subject", by="ann", now=now)
    assert statuses(database)[:2] == (Campaign.PAUSED, [Wave.CLEARED, Wave.SENDING, Wave.WAITING])
    with database.read() as conn:
        [hold] = holds.blocks(conn, made.id, wave=2, provider="gmail", route="main", now=now)
        assert (hold.kind, hold.by, hold.detail) == ("pause", "ann", "typo in the subject")
    steer.resume(database, "spring", by="ann", now=now)
    assert statuses(database)[:2] == (Campaign.SENDING, [Wave.CLEARED, Wave.SENDING, Wave.WAITING])
    assert open_reasons(database) == []


def test_a_campaign_paused_before_its_start_waits_for_its_start_again(db: Database, now: datetime) -> None:
    with db.write() as conn:
        made = planned(conn, now, start=now + timedelta(hours=1))
        campaigns.transition(conn, made.id, "approve", by="eve", now=now)
    steer.pause(db, "spring", by="ann", now=now)
    steer.resume(db, "spring", by="ann", now=now)
    assert statuses(db)[0] == Campaign.APPROVED


def test_a_resume_lifts_pauses_and_no_other_reason(db: Database, now: datetime) -> None:
    made = flying(db, now)
    with db.write() as conn:
        holds.place(conn, kind="hold", reason="blind", campaign_id=made.id, by="daemon", now=now)
    steer.pause(db, "spring", by="ann", now=now)
    steer.resume(db, "spring", by="ann", now=now)
    assert open_reasons(db) == ["blind"]


def test_after_a_halt_the_stopped_waves_wait_again_and_only_new_mail_is_judged(
    database: Database, now: datetime
) -> None:
    made, later = flying(database, now), now + timedelta(hours=3)
    with database.write() as conn:
        campaigns_made.suspend(conn, made, "orange", now)
        campaigns_made.halt(conn, made, now)
    assert statuses(database)[:2] == (Campaign.HALTED, [Wave.CLEARED, Wave.HALTED, Wave.HALTED])
    steer.resume(database, "spring", reason="list cleaned", by="eve", now=later)
    assert statuses(database) == (
        Campaign.SENDING,
        [Wave.CLEARED, Wave.WAITING, Wave.WAITING],
        {"gmail": "open", "orange": "open"},
    )
    assert open_reasons(database) == []
    with database.read() as conn:
        assert {lane.judged_from for lane in campaigns.lanes(conn, made.id)} == {later}
        overruled = [entry for entry in journal.read(conn, made.id) if entry.action == "campaign.resume"]
    assert [(entry.actor, entry.reason) for entry in overruled] == [("eve", "list cleaned")]


def test_overruling_a_gate_takes_a_reason(db: Database, now: datetime) -> None:
    made = flying(db, now)
    with db.write() as conn:
        campaigns_made.halt(conn, made, now)
    with pytest.raises(BadInput, match="say why"):
        steer.resume(db, "spring", reason=" ", by="eve", now=now)
    assert statuses(db)[0] == Campaign.HALTED
    assert open_reasons(db) == ["hard_bounce"]


def test_a_halt_that_ends_leaves_a_person_s_pause_standing(db: Database, now: datetime) -> None:
    made = flying(db, now)
    steer.pause(db, "spring", by="ann", now=now)
    with db.write() as conn:
        campaigns_made.halt(conn, made, now)
    steer.resume(db, "spring", reason="list cleaned", by="eve", now=now)
    assert statuses(db)[0] == Campaign.PAUSED
    assert open_reasons(db) == ["paused"]
    steer.resume(db, "spring", by="ann", now=now)
    assert statuses(db)[0] == Campaign.SENDING


@pytest.mark.parametrize("halted", [False, True])
def test_one_lane_goes_on_alone(db: Database, now: datetime, *, halted: bool) -> None:
    made, later = flying(db, now), now + timedelta(hours=3)
    with db.write() as conn:
        campaigns_made.suspend(conn, made, "orange", now)
        if halted:
            campaigns_made.halt(conn, made, now)
    before = statuses(db)[:2]
    steer.resume(db, "spring", provider="orange", reason="talked to their postmaster", by="eve", now=later)
    assert statuses(db) == (*before, {"gmail": "open", "orange": "open"})
    assert open_reasons(db) == (["hard_bounce"] if halted else [])
    with db.read() as conn:
        judged = {lane.provider: lane.judged_from for lane in campaigns.lanes(conn, made.id)}
    assert judged == {"gmail": None, "orange": later}


def test_there_must_be_something_to_resume(db: Database, now: datetime) -> None:
    made = flying(db, now)
    with pytest.raises(NotAllowed, match="is sending: `resume` is not possible"):
        steer.resume(db, "spring", by="ann", now=now)
    with pytest.raises(NotAllowed, match="lane orange of campaign spring is open"):
        steer.resume(db, "spring", provider="orange", reason="x", by="ann", now=now)
    with pytest.raises(NotFound, match="Did you mean 'orange'"):
        steer.resume(db, "spring", provider="ornge", reason="x", by="ann", now=now)
    with db.write() as conn:
        campaigns_made.suspend(conn, made, "orange", now)
    with pytest.raises(NotAllowed, match=r"resume spring --provider orange` reopens a lane"):
        steer.resume(db, "spring", by="ann", now=now)


# ── shorten and cancel ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("last_wave", "waves"),
    [
        (2, [Wave.CLEARED, Wave.SENDING, Wave.SKIPPED]),
        (1, [Wave.CLEARED, Wave.SKIPPED, Wave.SKIPPED]),
        (0, [Wave.CLEARED, Wave.SKIPPED, Wave.SKIPPED]),
    ],
)
def test_later_waves_are_skipped(database: Database, now: datetime, last_wave: int, waves: list[str]) -> None:
    made = flying(database, now)
    steer.shorten(database, "spring", last_wave, reason="enough", by="ann", now=now)
    assert statuses(database)[:2] == (Campaign.SENDING, waves)
    with database.read() as conn:
        assert campaigns.by_id(conn, made.id).last_wave == last_wave
        assert "campaign.shorten" in [entry.action for entry in journal.read(conn, made.id)]


def test_a_skipped_wave_does_not_come_back(db: Database, now: datetime) -> None:
    made = flying(db, now)
    steer.shorten(db, "spring", 2, by="ann", now=now)
    with pytest.raises(NotAllowed, match="ends after wave 2 already"):
        steer.shorten(db, "spring", 2, by="ann", now=now)
    with db.write() as conn:
        campaigns_made.halt(conn, made, now)
    steer.resume(db, "spring", reason="list cleaned", by="eve", now=now)
    assert statuses(db)[1] == [Wave.CLEARED, Wave.WAITING, Wave.SKIPPED]


def test_shortening_needs_waves_that_can_still_be_skipped(db: Database, now: datetime) -> None:
    made = flying(db, now)
    with pytest.raises(NotAllowed, match="has 3 waves: there is none after wave 3"):
        steer.shorten(db, "spring", 3, by="ann", now=now)
    with db.write() as conn:
        campaigns.transition_wave(conn, made.id, 2, "soak", by="daemon", now=now)
        for event in ("release", "send", "soak"):
            campaigns.transition_wave(conn, made.id, 3, event, by="daemon", now=now)
    with pytest.raises(NotAllowed, match="after wave 1 is sent already"):
        steer.shorten(db, "spring", 1, by="ann", now=now)
    with db.read() as conn:
        assert campaigns.by_id(conn, made.id).last_wave is None


def test_a_draft_cannot_be_shortened(db: Database, policy: PolicySet, now: datetime) -> None:
    steer.create(db, policy, described(), routes=["main"], by="ann", now=now)
    with pytest.raises(NotAllowed, match="is draft"):
        steer.shorten(db, "spring", 1, by="ann", now=now)


def test_cancelled_is_final_for_every_action(database: Database, now: datetime) -> None:
    flying(database, now)
    steer.pause(database, "spring", by="ann", now=now)
    steer.cancel(database, "spring", reason="wrong list", by="ann", now=now)
    assert statuses(database)[:2] == (Campaign.CANCELLED, [Wave.CLEARED, Wave.HALTED, Wave.SKIPPED])
    assert open_reasons(database) == []
    with database.read() as conn:
        written = journal.read(conn)
    for act in (
        lambda: steer.resume(database, "spring", reason="oops", by="ann", now=now),
        lambda: steer.pause(database, "spring", by="ann", now=now),
        lambda: steer.cancel(database, "spring", by="ann", now=now),
        lambda: steer.shorten(database, "spring", 1, by="ann", now=now),
    ):
        with pytest.raises(NotAllowed, match="is cancelled"):
            act()
    with database.read() as conn:
        assert journal.read(conn) == written


@pytest.mark.parametrize("status", ["draft", "planned", "approved", "halted"])
def test_a_campaign_can_be_cancelled_from(db: Database, policy: PolicySet, now: datetime, status: str) -> None:
    if status == "draft":
        steer.create(db, policy, described(), routes=["main"], by="ann", now=now)
    else:
        with db.write() as conn:
            made = sending(conn, now) if status == "halted" else planned(conn, now)
            if status == "halted":
                campaigns_made.halt(conn, made, now)
            if status == "approved":
                campaigns.transition(conn, made.id, "approve", by="eve", now=now)
    steer.cancel(db, "spring", by="ann", now=now)
    assert statuses(db)[0] == Campaign.CANCELLED
