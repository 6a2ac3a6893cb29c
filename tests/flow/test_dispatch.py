from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
import sendable

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import Permanent, Transient, Unknown
from sendwave.esp.base import Receipt, Submission
from sendwave.flow.dispatch import Dispatcher, Progress, reconcile
from sendwave.flow.release import release
from sendwave.rules import token
from sendwave.rules.events import CONTENT_TYPE, EventType, decode_events
from sendwave.rules.policy import PolicySet
from sendwave.store import batches, campaigns, holds, inbox, journal, suppressions
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database
from sendwave.store.tables import batches as rows


@dataclass
class Office:
    """A campaign whose only wave is released, and a dispatcher with an ESP in memory."""

    db: Database
    engine: Engine
    lake: Lake
    now: datetime
    esp: sendable.MemoryEsp = field(default_factory=sendable.MemoryEsp)
    campaign: Campaign = field(init=False)

    def open(self, people: int = 120, policy: PolicySet | None = None, zones: Any = (None,), size: int = 20) -> Office:
        sendable.write_base(self.db, self.lake, people, self.now, zones)
        policy = policy or sendable.policy_set(ramp=["100%"])
        self.campaign = sendable.approved(self.db, self.engine, self.lake, policy, self.now)
        release(self.db, self.engine, self.lake, now=self.now, batch_sizes={"main": size})
        return self

    def dispatcher(self, holder: str = "me", **options: Any) -> Dispatcher:
        return Dispatcher(
            self.db, self.engine, self.lake, {"main": self.esp}, sendable.KEY, holder, **{"at_once": 1000, **options}
        )

    def counts(self) -> Counter[str]:
        with self.db.read() as conn:
            found = batches.counts(conn, self.campaign.id).values()
        return Counter(
            {name: n for name in batches.Counts.__dataclass_fields__ if (n := sum(getattr(c, name) for c in found))}
        )

    def wave(self) -> campaigns.WaveRow:
        with self.db.read() as conn:
            return campaigns.waves(conn, self.campaign.id)[0]

    def statuses(self) -> Counter[str]:
        with self.db.read() as conn:
            return Counter(row.status for row in conn.execute(rows.select()))


@pytest.fixture
def office(sqlite_database: Database, engine: Engine, lake: Lake, now: datetime) -> Office:
    return Office(sqlite_database, engine, lake, now)


@pytest.fixture
def any_office(database: Database, engine: Engine, lake: Lake, now: datetime) -> Office:
    return Office(database, engine, lake, now)


def test_everybody_is_handed_over_once_and_the_wave_soaks(any_office: Office) -> None:
    office = any_office.open()
    dispatcher = office.dispatcher()

    done = dispatcher.step(office.now)

    assert (done.handed, done.accepted, done.unknown) == (120, 120, 0)
    assert office.esp.arrived == Counter({sendable.address(n): 1 for n in range(1, 121)})
    assert dispatcher.step(office.now) == Progress()
    assert office.counts() == {"released": 120, "accepted": 120}
    assert (office.wave().status, office.wave().sent_at) == ("soaking", office.now)
    with office.db.read() as conn:
        assert {row.payload for row in conn.execute(rows.select())} == {None}, "the payload goes once settled"
        assert sum(cohort.accepted for cohort in batches.cohorts(conn, office.campaign.id)) == 120


def test_what_the_esp_is_told(office: Office) -> None:
    office.open(people=30).dispatcher().step(office.now)
    submission = office.esp.submissions[0]

    people = submission.recipients
    assert submission.message.subject == "Hello {{ first_name }}"
    assert people.fields["first_name"][0] == f"Zoé {people.contact_ids[0][1:]}"
    assert [token.verify(sendable.KEY, t) for t in people.tokens] == [
        (submission.batch_id, n) for n in range(len(people))
    ]
    assert people.addresses[0] == sendable.address(int(people.contact_ids[0][1:]))


def test_threads_hand_over_the_same(any_office: Office) -> None:
    office = any_office.open()
    dispatcher = office.dispatcher(threads=3, factory=lambda route: office.esp)
    try:
        assert dispatcher.step(office.now).accepted == 120
    finally:
        dispatcher.close()
    assert set(office.esp.arrived.values()) == {1}


def test_refusals_are_recorded_and_reported_once(any_office: Office) -> None:
    office = any_office
    office.esp.answer = sendable.refusing("7")
    office.open()

    done = office.dispatcher().step(office.now)

    assert (done.accepted, done.refused) == (108, 12)
    with office.db.read() as conn:
        told = [event for report in inbox.waiting(conn, 100, 10**6) for event in decode_events(report.body)]
        assert {report.headers["content-type"] for report in inbox.waiting(conn, 100, 10**6)} == {CONTENT_TYPE}
        outcomes = batches.outcomes(conn, office.campaign.id)
    assert {event.type for event in told} == {EventType.BOUNCE}
    refused = {token.verify(sendable.KEY, event.token or "") for event in told}
    assert refused == {(one.batch_id, one.position) for one in outcomes}
    assert {one.state for one in outcomes} == {"refused"}
    assert sorted(event.recipient or "" for event in told) == sorted(
        sendable.address(n) for n in range(1, 121) if str(n).endswith("7")
    )


def test_the_deferred_go_again_and_count_as_refused_in_the_end(any_office: Office) -> None:
    office = any_office
    office.esp.answer = sendable.refusing("x", later=("5",))
    office.open(people=40)
    dispatcher = office.dispatcher()

    assert dispatcher.step(office.now).deferred == 4
    assert office.wave().status == "soaking", "four people who come back later do not hold the wave up"
    assert dispatcher.step(office.now + timedelta(minutes=14)) == Progress()
    now, seen = office.now, [sub.recipients.tokens for sub in office.esp.submissions]
    for wait in (timedelta(minutes=15), timedelta(hours=1), timedelta(hours=4)):
        now += wait
        last = dispatcher.step(now)
        assert last.handed == 4

    assert last.refused == 4
    assert dispatcher.step(now + timedelta(days=1)) == Progress()
    assert office.counts() == {"released": 40, "accepted": 36, "refused": 4}
    first = {t for tokens in seen for t in tokens}
    assert all(t in first for sub in office.esp.submissions for t in sub.recipients.tokens), "tokens stay the same"
    with office.db.read() as conn:
        assert [o.state for o in batches.outcomes(conn, office.campaign.id)] == ["refused"] * 4
        cohorts = batches.cohorts(conn, office.campaign.id)
    assert (sum(c.accepted for c in cohorts), sum(c.refused for c in cohorts)) == (36, 4)
    assert {c.batch_id for c in cohorts} == {s.batch_id for s in office.esp.submissions[: len(cohorts)]}


def test_the_deferred_who_get_through_are_accepted(office: Office) -> None:
    office.esp.answer = sendable.refusing("x", later=("5",))
    office.open(people=40)
    dispatcher = office.dispatcher()
    dispatcher.step(office.now)
    office.esp.answer = lambda submission: Receipt()

    assert dispatcher.step(office.now + timedelta(minutes=15)).accepted == 4
    assert office.counts() == {"released": 40, "accepted": 40}
    assert set(office.esp.arrived.values()) == {1}


@pytest.mark.parametrize("fault", [Unknown("timed out"), RuntimeError("a bug of the adapter")])
def test_no_answer_leaves_the_batch_unknown_and_it_is_never_repeated(office: Office, fault: Exception) -> None:
    office.esp.answer = _raising(fault)
    office.open(people=30)
    dispatcher = office.dispatcher()
    batches_there = len(_all(office))

    assert dispatcher.step(office.now).unknown == 30
    dispatcher.step(office.now + timedelta(days=1))

    assert len(office.esp.submissions) == batches_there
    assert office.counts() == {"released": 30, "unknown": 30}
    with office.db.read() as conn:
        told = [entry for entry in journal.read(conn, office.campaign.id) if entry.action == "batch.lose"]
    assert len(told) == batches_there


def test_an_esp_that_is_down_is_left_alone_longer_each_time_and_then_gets_all(any_office: Office) -> None:
    office = any_office
    office.esp.answer = _raising(Transient("connection refused"))
    office.open(people=60)
    dispatcher = office.dispatcher()

    assert dispatcher.step(office.now) == Progress(unsent=60)
    assert len(office.esp.submissions) == 2, "once more at once, for a stale connection, then no more"
    with office.db.read() as conn:
        [hold] = holds.open_holds(conn)
    assert (hold.reason, hold.route, hold.until) == ("esp_unreachable", "main", office.now + timedelta(seconds=5))
    waits, until = [], hold.until
    for _ in range(9):
        assert dispatcher.step(until - timedelta(seconds=1)) == Progress()
        dispatcher.step(until)
        with office.db.read() as conn:
            [hold] = [one for one in holds.open_holds(conn) if one.until > until]
        waits.append((hold.until - until).total_seconds())
        until = hold.until
    assert waits == [10, 20, 40, 80, 160, 320, 640, 900, 900]
    office.esp.answer = lambda submission: Receipt()

    assert dispatcher.step(until).batches == 1, "one batch finds out whether it is over"
    dispatcher.step(until)

    assert office.counts() == {"released": 60, "accepted": 60}
    with office.db.read() as conn:
        assert holds.open_holds(conn) == []


def test_an_esp_that_asks_to_wait_gets_the_wait_it_asked_for(office: Office) -> None:
    office.esp.answer = _raising(Transient("429", retry_after=600.0))
    office.open(people=30)
    office.dispatcher().step(office.now)

    assert len(office.esp.submissions) == 1, "it was told when to come back, so there is no second try at once"
    with office.db.read() as conn:
        assert holds.open_holds(conn)[0].until == office.now + timedelta(minutes=10)


def test_a_batch_the_esp_never_takes_is_refused_and_slows_the_route_down(office: Office) -> None:
    office.esp.answer = _raising(Permanent("the template does not exist"))
    office.open(people=60)

    done = office.dispatcher().step(office.now)

    assert 0 < done.refused < 60
    assert done.unsent == 60 - done.refused, "a wrong setting must not burn the campaign at full speed"
    assert office.counts()["refused"] == done.refused


@pytest.mark.parametrize("stop", ["pause", "campaign hold", "lane", "wave hold", "route hold"])
def test_nothing_leaves_that_something_stops(any_office: Office, stop: str) -> None:
    office = any_office.open(people=30)
    with office.db.write() as conn:
        scope: dict[str, Any] = {"kind": "hold", "reason": "x", "by": "ann", "now": office.now}
        if stop == "pause":
            campaigns.transition(conn, office.campaign.id, "pause", by="ann", now=office.now)
        elif stop == "lane":
            campaigns.transition_lane(conn, office.campaign.id, "gmail", "suspend", by="judge", now=office.now)
        elif stop == "wave hold":
            holds.place(conn, campaign_id=office.campaign.id, wave=1, **scope)
        elif stop == "route hold":
            holds.place(conn, route="main", **scope)
        else:
            holds.place(conn, campaign_id=office.campaign.id, **scope)

    office.dispatcher().step(office.now)

    gone = {submission.provider for submission in office.esp.submissions}
    assert gone == ({"orange", "other"} if stop == "lane" else set())
    if stop == "lane":
        assert office.wave().status == "soaking", "a suspended lane does not hold the others up"
        with office.db.write() as conn:
            campaigns.transition_lane(conn, office.campaign.id, "gmail", "reopen", by="eve", now=office.now)
        office.dispatcher().step(office.now)
        assert office.counts() == {"released": 30, "accepted": 30}


@pytest.mark.parametrize("stop", ["pause", "hold", "lane"])
def test_a_stop_between_claim_and_hand_over_is_obeyed(any_office: Office, stop: str) -> None:
    """The first batch's hand-over stops everything: the others were claimed already, and go back."""
    office = any_office

    def answer(submission: Submission) -> Receipt:
        with office.db.write() as conn:
            if stop == "pause":
                campaigns.transition(conn, office.campaign.id, "pause", by="ann", now=office.now)
            elif stop == "hold":
                holds.place(conn, kind="halt", reason="bounce", campaign_id=office.campaign.id, by="j", now=office.now)
            else:
                for provider in sendable.PROVIDERS:
                    campaigns.transition_lane(conn, office.campaign.id, provider, "suspend", by="j", now=office.now)
        return Receipt()

    office.esp.answer = answer
    office.open(people=60)

    done = office.dispatcher().step(office.now)

    assert len(office.esp.submissions) == 1
    assert done.accepted + done.unsent == 60
    assert office.statuses() == Counter({"accepted": 1, "ready": len(_all(office)) - 1})


def test_what_changed_since_the_freeze_is_asked_again(any_office: Office) -> None:
    office = any_office.open()
    later = office.now + timedelta(minutes=30)
    with office.db.write() as conn:
        words = [("all", 1), ("marketing", 2), ("partner", 3)]
        listed = [
            suppressions.Suppression(sendable.address_hash(n), "email", s, "unsubscribe", later) for s, n in words
        ]
        suppressions.add(conn, listed, source="test", now=later)
    sendable.consent(office.db, office.lake, [4], "withdrawn", later)

    done = office.dispatcher().step(later)

    assert (done.dropped, done.accepted) == (3, 117)
    assert not office.esp.arrived.keys() & {sendable.address(n) for n in (1, 2, 4)}
    assert office.counts() == {"released": 120, "accepted": 117, "dropped": 3}
    with office.db.read() as conn:
        reasons = Counter(o.reason for o in batches.outcomes(conn, office.campaign.id))
    assert reasons == {"suppressed_unsubscribe": 2, "consent_withdrawn": 1}


@pytest.mark.parametrize("began", [timedelta(seconds=1), timedelta(hours=-1)], ids=["now", "an hour ago"])
def test_a_suppression_between_two_steps_is_seen(office: Office, began: timedelta) -> None:
    """Whenever the stage began that commits it: counting a flood of reports, or a large file, takes long."""
    office.open()
    dispatcher = office.dispatcher(at_once=1)
    dispatcher.step(office.now)
    left = set(range(1, 121)) - {int(i[1:]) for s in office.esp.submissions for i in s.recipients.contact_ids}
    gone = min(left)
    later = office.now + timedelta(seconds=1)
    with office.db.write() as conn:
        row = suppressions.Suppression(sendable.address_hash(gone), "email", "all", "hard_bounce", later)
        suppressions.add(conn, [row], source="test", now=office.now + began)
    while dispatcher.step(later).batches:
        pass

    assert sendable.address(gone) not in office.esp.arrived
    assert office.counts() == {"released": 120, "accepted": 119, "dropped": 1}


def test_a_batch_of_which_nobody_is_left_reaches_no_esp(office: Office) -> None:
    office.open(people=30)
    sendable.consent(office.db, office.lake, range(1, 31), "withdrawn", office.now)

    assert office.dispatcher().step(office.now).dropped == 30
    assert office.esp.submissions == []
    assert office.wave().status == "soaking"


def test_the_pace_of_route_and_lane_is_kept(any_office: Office) -> None:
    policy = sendable.policy_set(
        ramp=["100%"],
        routes={"main": {"pace": "60 per 1m", "burst": 30}},
        providers={"gmail": {"pace": "10 per 1m"}},
    )
    office = any_office.open(policy=policy, size=10)
    dispatcher = office.dispatcher()
    handed: list[tuple[datetime, str, int]] = []
    now = office.now
    while office.counts()["ready"] and now < office.now + timedelta(hours=1):
        before = len(office.esp.submissions)
        dispatcher.step(now)
        handed += [(now, s.provider, len(s.recipients)) for s in office.esp.submissions[before:]]
        now += timedelta(seconds=20)

    assert office.counts() == {"released": 120, "accepted": 120}
    for minutes in (1, 2, 3):
        span = timedelta(minutes=minutes)
        for start, _, _ in handed:
            window = [(p, n) for at, p, n in handed if start <= at < start + span]
            assert sum(n for _, n in window) <= 30 + 60 * minutes
            assert sum(n for p, n in window if p == "gmail") <= 10 + 10 * minutes


def test_two_nodes_share_one_pace(any_office: Office) -> None:
    policy = sendable.policy_set(ramp=["100%"], routes={"main": {"per_day": 50}})
    office = any_office.open(policy=policy, size=10)
    for holder in ("one", "two", "one"):
        office.dispatcher(holder).step(office.now)

    assert 40 < office.counts()["accepted"] <= 50
    office.dispatcher().step(office.now + timedelta(days=1))
    assert 80 < office.counts()["accepted"] <= 100


def test_windows_open_where_the_people_are(office: Office) -> None:
    policy = sendable.policy_set(ramp=["100%"], waves={"window": "08:00-20:00 local"})
    office.open(policy=policy, zones=["Europe/Paris", "Asia/Tokyo", "America/New_York"])
    dispatcher = office.dispatcher(time_zone="Europe/Paris")

    def gone() -> set[int]:
        return {int(i[1:]) % 3 for s in office.esp.submissions for i in s.recipients.contact_ids}

    dispatcher.step(office.now)  # 10:00 in Paris, 18:00 in Tokyo, 04:00 in New York
    assert gone() == {0, 1}
    dispatcher.step(office.now + timedelta(hours=4, minutes=1))  # 08:01 in New York
    assert gone() == {0, 1, 2}


def test_the_more_important_campaign_goes_first(office: Office) -> None:
    office.open(people=30, policy=sendable.policy_set(ramp=["100%"], routes={"main": {"per_day": 45}}))
    urgent = sendable.policy_set(ramp=["100%"], routes={"main": {"per_day": 45}}, importance=90)
    sendable.approved(office.db, office.engine, office.lake, urgent, office.now, name="sale")
    release(office.db, office.engine, office.lake, now=office.now)

    office.dispatcher().step(office.now)

    sent = Counter(s.message.campaign for s in office.esp.submissions for _ in s.recipients.addresses)
    assert sent["sale"] == 30


def test_reconcile_after_a_crash(any_office: Office) -> None:
    office = any_office.open()
    until = office.now + timedelta(minutes=15)
    with office.db.write() as conn:
        _, second, _ = batches.claim(conn, [1, 2, 3], holder="dead", until=until)
        batches.hand(conn, second, (), holder="dead", now=office.now)

    assert reconcile(office.db, "dead", office.now) == {"claimed": 2, "handed": 1}
    office.dispatcher("dead").step(office.now)

    lost = [row.size for row in _all(office) if row.status == "unknown"]
    assert len(lost) == 1
    assert office.counts() == {"released": 120, "accepted": 120 - lost[0], "unknown": lost[0]}


@pytest.mark.postgresql
def test_another_nodes_batches_are_left_alone_until_their_lease_ends(
    postgresql_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    office = Office(postgresql_database, engine, lake, now).open()
    with office.db.write() as conn:
        batches.claim(conn, [1], holder="other", until=now + timedelta(minutes=15))

    assert reconcile(office.db, "me", now) == {"claimed": 0, "handed": 0}
    dispatcher = office.dispatcher()
    dispatcher.step(now)
    assert office.statuses()["claimed"] == 1
    assert office.wave().status == "sending"
    dispatcher.step(now + timedelta(minutes=16))
    assert office.counts() == {"released": 120, "accepted": 120}


def test_a_stopped_dispatcher_gives_back_what_it_only_claimed(office: Office) -> None:
    office.open()
    dispatcher = office.dispatcher()

    def answer(submission: Submission) -> Receipt:
        dispatcher.stop()
        return Receipt()

    office.esp.answer = answer
    done = dispatcher.step(office.now)

    assert len(office.esp.submissions) == 1
    assert done.unsent == 120 - done.accepted
    assert office.statuses()["claimed"] == 0


def _raising(fault: Exception) -> Callable[[Submission], Receipt]:
    def answer(submission: Submission) -> Receipt:
        raise fault

    return answer


def _all(office: Office) -> list[Any]:
    with office.db.read() as conn:
        return list(conn.execute(rows.select()))
