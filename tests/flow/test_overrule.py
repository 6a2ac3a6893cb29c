from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import campaigns_made
import pyarrow.parquet as pq
import pytest
import sendable
from campaigns_made import halt, sending

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput, Busy, NotAllowed, NotFound
from sendwave.flow import audit, steer
from sendwave.flow.release import give_back, release
from sendwave.store import batches, campaigns, files, holds, journal, policies
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database

WHY = {"reason": "known old addresses", "by": "eve"}


def _entry(db: Database, campaign: Campaign, action: str) -> journal.Entry:
    with db.read() as conn:
        return next(e for e in journal.read(conn, campaign.id) if e.action == action)


def _waves(db: Database, campaign: Campaign) -> list[tuple[int, str, int]]:
    with db.read() as conn:
        return [(wave.number, wave.status, wave.planned) for wave in campaigns.waves(conn, campaign.id)]


# ── release a wave that waits ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def soaking(sqlite_database: Database, now: datetime) -> Campaign:
    """Wave 1 soaks, held by an alarm."""
    with sqlite_database.write() as conn:
        version = policies.remember(conn, campaigns_made.policy_set(), now)
        made = sending(conn, now, policy_version=version)
        for event in ("release", "send", "soak"):
            campaigns.transition_wave(conn, made.id, 1, event, by="daemon", now=now)
        holds.place(conn, kind="hold", reason="early_alarm", campaign_id=made.id, by="daemon", now=now)
        return made


def test_a_person_releases_a_wave_that_waits(sqlite_database: Database, soaking: Campaign, now: datetime) -> None:
    later = now + timedelta(hours=1)
    assert steer.release_wave(sqlite_database, "spring", wave=1, now=later, **WHY) == 1
    assert [status for _, status, _ in _waves(sqlite_database, soaking)] == ["cleared", "waiting", "waiting"]
    with sqlite_database.read() as conn:
        assert holds.open_holds(conn, soaking.id) == []
        assert {lane.judged_from for lane in campaigns.lanes(conn, soaking.id)} == {later}
    told = _entry(sqlite_database, soaking, "wave.clear")
    assert (told.actor, told.reason, told.evidence["holds"]) == ("eve", WHY["reason"], ["early_alarm"])
    with pytest.raises(NotAllowed, match="no wave of campaign spring is in flight"):
        steer.release_wave(sqlite_database, "spring", now=later, **WHY)


def test_a_wave_in_flight_goes_on_when_its_alarm_is_overruled(sqlite_database: Database, now: datetime) -> None:
    with sqlite_database.write() as conn:
        made = sending(conn, now)
        for event in ("release", "send"):
            campaigns.transition_wave(conn, made.id, 1, event, by="daemon", now=now)
    with pytest.raises(NotAllowed, match="wave 1 of campaign spring is sending, and nothing holds it"):
        steer.release_wave(sqlite_database, "spring", now=now, **WHY)
    with sqlite_database.write() as conn:
        holds.place(conn, kind="hold", reason="early_alarm", campaign_id=made.id, by="daemon", now=now)
    steer.release_wave(sqlite_database, "spring", now=now, **WHY)
    assert _waves(sqlite_database, made)[0][1] == "sending"
    assert _entry(sqlite_database, made, "wave.go_on").reason == WHY["reason"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reason": " ", "by": "eve"}, "say why"),
        ({**WHY, "wave": 2}, "in flight of campaign spring is 1, not 2"),
    ],
)
def test_a_release_needs_a_reason_and_the_right_wave(
    sqlite_database: Database, soaking: Campaign, now: datetime, options: dict[str, str], words: str
) -> None:
    with pytest.raises((BadInput, NotAllowed), match=words):
        steer.release_wave(sqlite_database, "spring", now=now, **options)  # type: ignore[arg-type]
    assert _waves(sqlite_database, soaking)[0][1] == "soaking"


def test_a_halted_campaign_is_resumed_not_released(sqlite_database: Database, now: datetime) -> None:
    with sqlite_database.write() as conn:
        halt(conn, sending(conn, now), now)
    with pytest.raises(NotAllowed, match=r"is halted.*`sendwave campaign resume spring` first"):
        steer.release_wave(sqlite_database, "spring", now=now, **WHY)


# ── limits of one campaign ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_limit_is_raised_for_one_campaign(database: Database, now: datetime) -> None:
    policy = campaigns_made.policy_set()
    with database.write() as conn:
        version = policies.remember(conn, policy, now)
        made = sending(conn, now, policy_version=version)
    levels = steer.set_limit(database, "spring", "hard_bounce", halt="4%", now=now, **WHY)
    assert levels == {"hold": "1%", "halt": "4%"}
    assert steer.set_limit(database, "spring", "hard_bounce", hold="3.5%", now=now, **WHY) == {
        "hold": "3.5%",
        "halt": "4%",
    }
    with database.read() as conn:
        found = campaigns.by_id(conn, made.id)
    gate = policy.gates_of(policy.types[found.type], found.limits).signals["hard_bounce"]
    assert (gate.hold, gate.halt) == (Decimal("0.035"), Decimal("0.04"))
    entry = _entry(database, made, "campaign.limit")
    assert (entry.actor, entry.reason, entry.evidence["after"]) == ("eve", WHY["reason"], {"hold": "1%", "halt": "4%"})
    steer.set_limit(database, "spring", "hard_bounce", reset=True, now=now, **WHY)
    with database.read() as conn:
        assert campaigns.by_id(conn, made.id).limits is None


@pytest.mark.parametrize(
    ("signal", "options", "words"),
    [
        ("hard_bounse", {"halt": "4%"}, "Did you mean 'hard_bounce'"),
        ("hard_bounce", {"halt": "4"}, "a share or rate needs its unit"),
        ("hard_bounce", {"halt": "140%"}, "cannot be above 100%"),
        ("hard_bounce", {"hold": "3%"}, "the hold level is above the halt level"),
        ("hard_bounce", {}, "say which level changes"),
        ("hard_bounce", {"halt": "4%", "reason": ""}, "say why"),
    ],
)
def test_a_limit_that_is_none_changes_nothing(
    sqlite_database: Database, now: datetime, signal: str, options: dict[str, str], words: str
) -> None:
    with sqlite_database.write() as conn:
        made = sending(conn, now, policy_version=policies.remember(conn, campaigns_made.policy_set(), now))
    with pytest.raises(BadInput, match=words):
        steer.set_limit(sqlite_database, "spring", signal, now=now, **{**WHY, **options})  # type: ignore[arg-type]
    with sqlite_database.read() as conn:
        assert campaigns.by_id(conn, made.id).limits is None


def test_no_gates_no_limit(sqlite_database: Database, now: datetime) -> None:
    with sqlite_database.write() as conn:
        campaigns.create(conn, campaigns_made.described(), "email", by="ann", now=now)
    with pytest.raises(NotAllowed, match="has no plan yet, hence no gates"):
        steer.set_limit(sqlite_database, "spring", "hard_bounce", halt="4%", now=now, **WHY)
    with pytest.raises(NotFound):
        steer.set_limit(sqlite_database, "autumn", "hard_bounce", halt="4%", now=now, **WHY)


# ── resume by ramp ───────────────────────────────────────────────────────────────────────────────────────────────────


def _accept(db: Database, campaign: Campaign, now: datetime, most: int) -> int:
    """Hand over the first batches of what is ready, up to `most` people; returns how many."""
    sent = 0
    with db.write() as conn:
        ready = batches.ready(conn, batches.groups(conn, now), now, 1_000)
        for one in ready:
            if sent + one.size <= most:
                [mine] = batches.claim(conn, [one.id], holder="me", until=now + timedelta(minutes=5))
                batches.hand(conn, mine, [], holder="me", now=now)
                batches.settle(conn, one.id, "accept", batches.Exceptions(), now=now)
                sent += one.size
    return sent


def _halted(db: Database, engine: Engine, lake: Lake, now: datetime, *, sent: int = 120) -> tuple[Campaign, int]:
    """1,000 people in waves of 100, 400 and 500; the second was stopped after some of it."""
    sendable.write_base(db, lake, 1_000, now)
    campaign = sendable.approved(db, engine, lake, sendable.policy_set(ramp=("10%", "40%", "50%")), now)
    release(db, engine, lake, now=now, batch_sizes={"main": 20})
    assert _accept(db, campaign, now, 100) == 100
    with db.write() as conn:
        for event in ("send", "soak", "clear"):
            campaigns.transition_wave(conn, campaign.id, 1, event, by="judge", now=now)
    release(db, engine, lake, now=now, batch_sizes={"main": 20})
    left = _accept(db, campaign, now, sent)
    with db.write() as conn:
        halt(conn, campaign, now)
    return campaign, left


def test_a_halted_campaign_begins_small_and_grows(
    database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    campaign, sent = _halted(database, engine, lake, now)
    again = now + timedelta(hours=2)
    give_back(database, engine, lake, now=again)
    done = steer.resume_by_ramp(database, engine, lake, "spring", now=again, **WHY)
    assert [wave.planned for wave in done.waves] == [40, 120, 360, 900 - sent - 520]
    assert _waves(database, campaign)[:3] == [(1, "cleared", 100), (2, "waiting", sent), (3, "waiting", 40)]
    told = _entry(database, campaign, "campaign.resume")
    assert (told.evidence["halted_wave"], told.evidence["ramp"][:3]) == (2, [40, 120, 360])
    with database.read() as conn:
        assert campaigns.by_id(conn, campaign.id).status == "sending"
        assert holds.open_holds(conn, campaign.id) == []
        assert {lane.judged_from for lane in campaigns.lanes(conn, campaign.id)} == {again}
    seen: list[int] = []
    for turn in range(1, 8):  # the halted wave ends with nobody left in it; then each wave is released and sent
        opened = release(database, engine, lake, now=again + timedelta(hours=turn), batch_sizes={"main": 20})
        seen += [one.people for one in opened]
        _accept(database, campaign, again + timedelta(hours=turn), 10_000)
        with database.write() as conn:
            for wave in campaigns.waves(conn, campaign.id):
                for event in {"released": ("send", "soak", "clear"), "soaking": ("clear",)}.get(wave.status, ()):
                    campaigns.transition_wave(conn, campaign.id, wave.number, event, by="judge", now=again)
    assert [people for people in seen if people] == [40, 120, 360, 900 - sent - 520]
    found = audit.audit(database, engine, lake, "spring")
    assert (found.total, found.sent, dict(found.not_sent)) == (1_000, 1_000, {})


def test_nobody_is_cut_anew_while_people_are_being_recalled(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    campaign, _ = _halted(sqlite_database, engine, lake, now)
    before = _waves(sqlite_database, campaign)
    with pytest.raises(Busy, match="still being recalled"):
        steer.resume_by_ramp(sqlite_database, engine, lake, "spring", now=now, **WHY)
    assert _waves(sqlite_database, campaign) == before


def test_a_shortened_campaign_stays_short(sqlite_database: Database, engine: Engine, lake: Lake, now: datetime) -> None:
    _, sent = _halted(sqlite_database, engine, lake, now)
    steer.shorten(sqlite_database, "spring", 2, by="eve", now=now)
    give_back(sqlite_database, engine, lake, now=now)
    done = steer.resume_by_ramp(sqlite_database, engine, lake, "spring", start=Decimal("0.5"), now=now, **WHY)
    assert [(wave.status, wave.planned) for wave in done.waves] == [
        ("waiting", 200),
        ("waiting", 400 - sent - 200),
        ("skipped", 500),
    ]
    found = audit.audit(sqlite_database, engine, lake, "spring")
    assert found.not_sent["shortened"] == 500
    with sqlite_database.read() as conn:
        assert len(files.live(conn, ["plan"])["plan"]) == 1
        plan = files.live(conn, ["plan"])["plan"][0]
    assert pq.read_table(lake.root / plan.path).num_rows == 1_000


def test_a_ramp_needs_a_halt_a_reason_and_a_smaller_start(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    campaign, _ = _halted(sqlite_database, engine, lake, now)
    give_back(sqlite_database, engine, lake, now=now)
    ramp = lambda **told: steer.resume_by_ramp(sqlite_database, engine, lake, "spring", now=now, **{**WHY, **told})  # noqa: E731
    with pytest.raises(BadInput, match="say why"):
        ramp(reason="")
    with pytest.raises(BadInput, match="begins with less than what was halted"):
        ramp(start=Decimal(1))
    with pytest.raises(BadInput, match="a ramp grows"):
        ramp(growth=Decimal("0.5"))
    ramp()
    with pytest.raises(NotAllowed, match="only a halted one resumes by ramp"):
        ramp()
    assert len([e for e in _all(sqlite_database, campaign) if e == "campaign.resume"]) == 1


def _all(db: Database, campaign: Campaign) -> list[str]:
    with db.read() as conn:
        return [e.action for e in journal.read(conn, campaign.id)]


# ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_approvers_overrule_gates_and_nothing_moves_for_others(
    sqlite_database: Database, soaking: Campaign, now: datetime
) -> None:
    only = {"approvers": {"anna"}}
    with pytest.raises(NotAllowed, match=r"eve may not overrule the gates of campaign spring: .* \(anna\)"):
        steer.release_wave(sqlite_database, "spring", now=now, **WHY, **only)
    with pytest.raises(NotAllowed, match="eve may not set other limits for campaign spring"):
        steer.set_limit(sqlite_database, "spring", "hard_bounce", halt="9%", now=now, **WHY, **only)
    assert [status for _, status, _ in _waves(sqlite_database, soaking)] == ["soaking", "waiting", "waiting"]
    with sqlite_database.write() as conn:
        halt(conn, soaking, now)
    with pytest.raises(NotAllowed, match="eve may not overrule"):
        steer.resume(sqlite_database, "spring", now=now, **WHY, **only)
    steer.resume(sqlite_database, "spring", now=now, reason="directory mended", by="anna", **only)
    with sqlite_database.read() as conn:
        assert campaigns.get(conn, "spring").status == "sending"


def test_anybody_pauses_and_lifts_a_pause(sqlite_database: Database, soaking: Campaign, now: datetime) -> None:
    steer.pause(sqlite_database, "spring", by="eve", now=now)
    steer.resume(sqlite_database, "spring", by="eve", now=now, approvers={"anna"})
    with sqlite_database.read() as conn:
        assert campaigns.get(conn, "spring").status == "sending"
