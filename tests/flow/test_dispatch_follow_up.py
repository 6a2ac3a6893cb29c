"""After hand-over: an ESP that stops the account, a lost answer asked for again under its key, mail called back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import campaigns_made
import pytest
import sendable

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import HandOverError, Held, NotAllowed, Transient, Unknown
from sendwave.esp.base import Capabilities, Recall, Receipt, Submission
from sendwave.flow import settle, steer
from sendwave.flow.audit import audit
from sendwave.flow.dispatch import Dispatcher, Progress, reconcile
from sendwave.flow.release import give_back, release
from sendwave.store import batches, campaigns, holds, journal
from sendwave.store.database import Database
from sendwave.store.tables import batches as rows

KEYED = Capabilities(batch_size=1000, idempotency=timedelta(hours=24))
SCHEDULED = Capabilities(batch_size=1000, recall=Recall.SCHEDULED)


@dataclass
class Esp(sendable.MemoryEsp):
    """Answers as told by `script`, one call each, then takes everybody; gives back what it is asked for."""

    script: list[Receipt | HandOverError] = field(default_factory=list)
    asked_back: list[str] = field(default_factory=list)
    gives_back: bool = True
    away: bool = False

    def submit(self, submission: Submission) -> Receipt:
        self.submissions.append(submission)
        told = self.script.pop(0) if self.script else self.answer(submission)
        if isinstance(told, HandOverError):
            raise told
        return told

    def recall(self, refs: Sequence[str], now: datetime) -> Sequence[bool]:
        if self.away:
            raise Transient("connection refused")
        self.asked_back += refs
        return [self.gives_back] * len(refs)


@dataclass
class Office:
    """A campaign whose only wave of 60 people is released in batches of 20."""

    db: Database
    engine: Engine
    lake: Lake
    now: datetime
    esp: Esp = field(default_factory=Esp)

    def open(self, capabilities: Capabilities | None = None, **waves: str) -> Office:
        if capabilities is not None:
            self.esp.capabilities = capabilities
        sendable.write_base(self.db, self.lake, 60, self.now)
        policy = sendable.policy_set(ramp=["100%"], waves=waves)
        self.campaign = sendable.approved(self.db, self.engine, self.lake, policy, self.now)
        release(self.db, self.engine, self.lake, now=self.now, batch_sizes={"main": 20})
        return self

    def dispatcher(self, holder: str = "me") -> Dispatcher:
        return Dispatcher(self.db, self.engine, self.lake, {"main": self.esp}, sendable.KEY, holder, at_once=1000)

    def holds(self) -> list[tuple[str, datetime | None]]:
        with self.db.read() as conn:
            return [(hold.reason, hold.until) for hold in holds.open_holds(conn)]

    def counts(self) -> dict[str, int]:
        with self.db.read() as conn:
            found = batches.counts(conn, self.campaign.id).values()
        names = batches.Counts.__dataclass_fields__
        return {name: n for name in names if (n := sum(getattr(cell, name) for cell in found))}

    def told(self, action: str) -> list[journal.Entry]:
        with self.db.read() as conn:
            return [entry for entry in journal.read(conn, self.campaign.id) if entry.action == action]


@pytest.fixture
def office(sqlite_database: Database, engine: Engine, lake: Lake, now: datetime) -> Office:
    return Office(sqlite_database, engine, lake, now)


@pytest.fixture
def any_office(database: Database, engine: Engine, lake: Lake, now: datetime) -> Office:
    return Office(database, engine, lake, now)


# ── the ESP stops the account ────────────────────────────────────────────────────────────────────────────────────────
def test_a_stopped_account_is_a_hold_by_that_name_and_one_batch_finds_out_that_it_is_over(any_office: Office) -> None:
    office = any_office.open()
    office.esp.script = [Held("sending is paused", 3600.0)]
    dispatcher = office.dispatcher()

    assert dispatcher.step(office.now) == Progress(unsent=60)
    hour = office.now + timedelta(hours=1)
    assert office.holds() == [("esp_account_stopped", hour)]
    assert len(office.esp.submissions) == 1, "no second try at once, no error in a loop"
    assert dispatcher.step(hour - timedelta(seconds=1)) == Progress()

    office.esp.script = [Held("sending is paused", 3600.0)]
    assert dispatcher.step(hour).unsent == 20, "one batch alone looks whether it is over"
    assert office.holds()[-1] == ("esp_account_stopped", hour + timedelta(hours=1))

    later = hour + timedelta(hours=1)
    assert dispatcher.step(later).accepted == 20
    assert dispatcher.step(later).accepted == 40
    assert office.holds() == []


def test_a_person_who_mended_it_lifts_the_hold(office: Office) -> None:
    office.open().esp.script = [Held("30,000 a day", 3600.0, reason="esp_quota_used_up")]
    dispatcher = office.dispatcher()
    dispatcher.step(office.now)
    assert [reason for reason, _ in office.holds()] == ["esp_quota_used_up"]
    with office.db.write() as conn:
        holds.lift(conn, reason="esp_quota_used_up", route="main", by="ann", now=office.now)
    assert dispatcher.step(office.now).accepted == 20
    assert dispatcher.step(office.now).accepted == 40


def test_an_account_stopped_half_way_through_a_batch_keeps_what_was_taken(office: Office) -> None:
    office.open()
    late = sendable.refusing("x", later=("5",))
    office.esp.script = [Held("warm up", 1.0)]
    office.esp.answer = lambda batch: Receipt(deferred=late(batch).deferred, held=Held("quota", 3600.0))
    dispatcher = office.dispatcher()
    dispatcher.step(office.now)
    done = dispatcher.step(office.now + timedelta(minutes=1))
    assert done.accepted + done.deferred == 20
    assert [reason for reason, _ in office.holds()] == ["esp_account_stopped"]
    assert dispatcher.step(office.now + timedelta(minutes=20)) == Progress()


# ── asked again under its key ────────────────────────────────────────────────────────────────────────────────────────
def test_a_lost_answer_is_asked_for_again_under_the_same_key(any_office: Office) -> None:
    office = any_office.open(KEYED)
    office.esp.script = [Unknown("timed out")]
    dispatcher = office.dispatcher()

    assert dispatcher.step(office.now).accepted == 40
    assert office.counts() == {"released": 60, "accepted": 40, "handed": 20}
    assert dispatcher.step(office.now + timedelta(seconds=29)) == Progress()
    again = dispatcher.step(office.now + timedelta(seconds=30))

    assert (again.accepted, again.unknown) == (20, 0)
    assert office.counts() == {"released": 60, "accepted": 60}
    first, last = office.esp.submissions[0], office.esp.submissions[-1]
    assert (first.key, first.batch_id) == (last.key, last.batch_id)
    assert first.recipients.tokens == last.recipients.tokens
    assert len({one.key for one in office.esp.submissions}) == len(office.esp.submissions) - 1


def test_nobody_is_asked_about_out_of_hours(office: Office) -> None:
    office.open(KEYED, window="08:00-09:01 local").esp.script = [Unknown("timed out")]
    dispatcher = office.dispatcher()
    dispatcher.step(office.now)
    calls = len(office.esp.submissions)

    for minutes in (1, 5, 14):
        dispatcher.step(office.now + timedelta(minutes=minutes))
    assert len(office.esp.submissions) == calls, "the ESP might send it now"
    reconcile(office.db, "next", office.now + timedelta(minutes=15))
    assert office.counts() == {"released": 60, "accepted": 40, "unknown": 20}


@pytest.mark.parametrize("answer", [Unknown("timed out"), Transient("connection refused"), Transient("429", 5.0)])
def test_without_a_receipt_it_becomes_unknown_when_the_time_is_over(office: Office, answer: HandOverError) -> None:
    office.open(KEYED).esp.script = [Unknown("timed out")]
    dispatcher = office.dispatcher()
    dispatcher.step(office.now)
    calls = len(office.esp.submissions)
    for minute in range(1, 15):
        office.esp.script = [answer] * 2
        dispatcher.step(office.now + timedelta(minutes=minute))
    assert len(office.esp.submissions) > calls
    assert office.counts()["handed"] == 20
    dispatcher.step(office.now + timedelta(minutes=16))
    assert office.counts() == {"released": 60, "accepted": 40, "unknown": 20}
    assert len(office.told("batch.lose")) == 1


def halt(office: Office) -> None:
    with office.db.write() as conn:
        campaigns_made.halt(conn, office.campaign, office.now)


def cancel(office: Office) -> None:
    steer.cancel(office.db, office.campaign.name, by="ann", now=office.now)


def shorten(office: Office) -> None:
    steer.shorten(office.db, office.campaign.name, 0, by="ann", now=office.now)


@pytest.mark.parametrize("stop", [halt, cancel, shorten])
def test_a_stopped_campaign_is_not_asked_about(office: Office, stop: Callable[[Office], None]) -> None:
    """What the first call did not bring would leave now."""
    office.open(KEYED).esp.script = [Unknown("timed out")]
    dispatcher = office.dispatcher()
    dispatcher.step(office.now)
    stop(office)
    calls = len(office.esp.submissions)
    dispatcher.step(office.now + timedelta(minutes=1))
    dispatcher.step(office.now + timedelta(minutes=16))
    assert len(office.esp.submissions) == calls
    assert office.counts()["unknown"] == 20


def pause_route(office: Office) -> None:
    steer.pause_route(office.db, "main", reason="they asked us to", by="ann", now=office.now)


@pytest.mark.parametrize("stop", [halt, cancel, shorten, pause_route])
def test_who_stops_while_a_call_is_repeated_stops_the_next_one(office: Office, stop: Callable[[Office], None]) -> None:
    office.open(KEYED).esp.script = [Unknown("timed out")] * 3
    dispatcher, again = office.dispatcher(), office.now + timedelta(seconds=30)
    dispatcher.step(office.now)

    def slow(submission: Submission) -> Receipt:
        stop(office)
        return Receipt()

    office.esp.answer = slow
    assert dispatcher.step(again).accepted == 20
    assert len(office.esp.submissions) == 3 + 1
    assert office.counts() == {"released": 60, "accepted": 20, "handed": 40}


def test_a_daemon_that_is_to_end_repeats_no_further_call(office: Office) -> None:
    office.open(KEYED).esp.script = [Unknown("timed out")] * 3
    dispatcher, again = office.dispatcher(), office.now + timedelta(seconds=30)
    dispatcher.step(office.now)

    def slow(submission: Submission) -> Receipt:
        dispatcher.stop()
        return Receipt()

    office.esp.answer = slow
    assert dispatcher.step(again).accepted == 20
    assert len(office.esp.submissions) == 3 + 1


def test_after_a_crash_the_next_daemon_asks(any_office: Office) -> None:
    office = any_office.open(KEYED)

    def die(submission: Submission) -> Receipt:
        raise KeyboardInterrupt

    office.esp.answer = die
    with pytest.raises(KeyboardInterrupt):
        office.dispatcher("dead").step(office.now)
    office.esp.answer = lambda submission: Receipt()
    later = office.now + timedelta(seconds=5)
    holder = "dead" if not office.db.is_sqlite else "next"  # on PostgreSQL others wait for its lease to end

    assert reconcile(office.db, holder, later, {"main": office.esp})["handed"] == 0
    next_one = office.dispatcher(holder)
    while next_one.step(later).batches:
        later += timedelta(seconds=1)

    assert office.counts() == {"released": 60, "accepted": 60}
    twice = Counter(submission.key for submission in office.esp.submissions)
    assert sorted(twice.values()) == [1, 1, 2]


# ── called back ──────────────────────────────────────────────────────────────────────────────────────────────────────
def scheduled(office: Office) -> None:
    until = office.now + timedelta(hours=1)
    office.esp.answer = lambda batch: Receipt(ref=f"their-{batch.batch_id}", recall_until=until)


def halted(office: Office, at: datetime) -> None:
    with office.db.write() as conn:
        campaigns.transition_waves(conn, office.campaign.id, "halt", by="judge", now=at)
        campaigns.transition(conn, office.campaign.id, "halt", by="judge", now=at)


def test_a_halt_calls_back_what_is_not_sent_yet_and_resuming_sends_it(any_office: Office) -> None:
    office = any_office
    scheduled(office)
    office.open(SCHEDULED)
    dispatcher = office.dispatcher()
    assert dispatcher.step(office.now).accepted == 60
    minute = office.now + timedelta(minutes=1)
    halted(office, minute)

    dispatcher.step(minute)

    assert sorted(office.esp.asked_back) == sorted(f"their-{one.batch_id}" for one in office.esp.submissions)
    assert office.counts() == {"released": 60, "recalled": 60}
    assert len(office.told("batch.call_back")) == 3
    assert give_back(office.db, office.engine, office.lake, now=minute) == 60
    assert audit(office.db, office.engine, office.lake, office.campaign.name).sent == 0

    with office.db.write() as conn:
        campaigns.transition(conn, office.campaign.id, "resume", by="eve", now=minute)
        campaigns.transition_waves(conn, office.campaign.id, "resume", by="eve", now=minute)
    release(office.db, office.engine, office.lake, now=minute, batch_sizes={"main": 20})
    assert dispatcher.step(minute).accepted == 60
    assert office.counts() == {"released": 120, "recalled": 60, "accepted": 60}


def test_a_halt_calls_back_a_cleared_wave_too_which_then_waits_again(office: Office) -> None:
    scheduled(office)
    office.open(SCHEDULED)
    dispatcher = office.dispatcher()
    dispatcher.step(office.now)
    with office.db.write() as conn:
        campaigns.transition_wave(conn, office.campaign.id, 1, "clear", by="eve", now=office.now)
    halted(office, office.now)
    dispatcher.step(office.now)
    assert office.counts() == {"released": 60, "recalled": 60}
    with office.db.read() as conn:
        assert next(wave.status for wave in campaigns.waves(conn, office.campaign.id)) == "waiting"


def test_who_comes_back_from_a_second_message_may_still_have_the_first(any_office: Office) -> None:
    office = any_office
    office.esp.script = [Unknown("no answer in time")]
    office.open(SCHEDULED)
    dispatcher = office.dispatcher()
    dispatcher.step(office.now)
    later = office.now + timedelta(hours=24)
    settle.decide(office.db, office.campaign.name, resend=True, reason="they had none", by="ann", now=later)
    office.esp.answer = lambda batch: Receipt(ref=f"their-{batch.batch_id}", recall_until=later + timedelta(hours=1))
    assert dispatcher.step(later).accepted == 20
    halted(office, later)

    dispatcher.step(later)

    assert len(office.esp.asked_back) == 1
    assert office.counts() == {"released": 60, "accepted": 40, "unknown": 20}
    assert give_back(office.db, office.engine, office.lake, now=later) == 0
    assert "never answered" in office.told("batch.doubt")[0].reason
    with pytest.raises(NotAllowed, match="nobody whose fate is to be decided"):
        settle.decide(
            office.db, office.campaign.name, resend=True, reason="once more", by="ann", now=later + timedelta(hours=25)
        )


def test_a_suspended_lane_calls_back_its_own(office: Office) -> None:
    scheduled(office)
    office.open(SCHEDULED)
    dispatcher = office.dispatcher()
    dispatcher.step(office.now)
    with office.db.write() as conn:
        campaigns.transition_lane(conn, office.campaign.id, "gmail", "suspend", by="judge", now=office.now)
    dispatcher.step(office.now)
    assert office.counts() == {"released": 60, "recalled": 20, "accepted": 40}


def test_what_left_already_is_not_asked_for(office: Office) -> None:
    scheduled(office)
    office.open(SCHEDULED)
    dispatcher = office.dispatcher()
    dispatcher.step(office.now)
    halted(office, office.now)
    dispatcher.step(office.now + timedelta(hours=1))
    assert office.esp.asked_back == []
    assert office.counts() == {"released": 60, "accepted": 60}


def test_a_queue_is_asked_once_and_events_tell_the_rest(office: Office) -> None:
    scheduled(office)
    office.esp.gives_back = False
    office.open(Capabilities(batch_size=1000, recall=Recall.QUEUE))
    dispatcher = office.dispatcher()
    dispatcher.step(office.now)
    halted(office, office.now)
    for _ in range(3):
        dispatcher.step(office.now)
    assert len(office.esp.asked_back) == 3
    assert office.counts() == {"released": 60, "accepted": 60}


def test_an_esp_that_does_not_answer_is_asked_again_later(office: Office) -> None:
    scheduled(office)
    office.open(SCHEDULED)
    dispatcher = office.dispatcher()
    dispatcher.step(office.now)
    halted(office, office.now)
    office.esp.away = True
    dispatcher.step(office.now)
    dispatcher.step(office.now + timedelta(seconds=10))
    assert len(office.told("batch.call_back_failed")) == 1
    office.esp.away = False
    dispatcher.step(office.now + timedelta(seconds=30))
    assert office.counts() == {"released": 60, "recalled": 60}


def test_a_settled_batch_has_no_payload_and_an_open_one_keeps_it(office: Office) -> None:
    office.open(KEYED).esp.script = [Unknown("timed out")]
    office.dispatcher().step(office.now)
    with office.db.read() as conn:
        kept = Counter((row.status, row.payload is not None) for row in conn.execute(rows.select()))
    assert kept == {("accepted", False): 2, ("handed", True): 1}
