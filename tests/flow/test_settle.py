"""People nobody knows the fate of: settled by events with their tokens, or by a person."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import campaigns_made
import pytest
import sendable

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput, NotAllowed, Unknown
from sendwave.esp.base import PerRecipient, RawReport, Receipt, Recipients, Submission
from sendwave.flow import feedback, settle, steer
from sendwave.flow.audit import audit
from sendwave.flow.dispatch import Dispatcher, reconcile
from sendwave.flow.explain import explain
from sendwave.flow.release import give_back, release
from sendwave.rules.events import CONTENT_TYPE, Event, EventType, Permanence, encode_events
from sendwave.store import batches, campaigns, inbox, journal
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database

WAIT = timedelta(hours=24)
POLICY = sendable.policy_set(ramp=["100%"], caps=[{"max": "1 per 1d"}])


@dataclass
class House:
    """One wave of 60 people in batches of 20, an ESP that answers as told, and its reports."""

    db: Database
    engine: Engine
    lake: Lake
    now: datetime
    esp: sendable.MemoryEsp = field(default_factory=sendable.MemoryEsp)
    campaign: Campaign = field(init=False)

    def open(self, people: int = 60) -> House:
        sendable.write_base(self.db, self.lake, people, self.now)
        self.campaign = sendable.approved(self.db, self.engine, self.lake, POLICY, self.now)
        release(self.db, self.engine, self.lake, now=self.now, batch_sizes={"main": 20})
        return self

    def send(self, now: datetime | None = None) -> None:
        Dispatcher(self.db, self.engine, self.lake, {"main": self.esp}, sendable.KEY, "me", at_once=100).step(
            now or self.now
        )

    def told(self, tokens: list[str], kind: EventType = EventType.DELIVERED) -> None:
        """The ESP reports this about them."""
        body = encode_events([Event(kind, self.now, token=one) for one in tokens])
        with self.db.write() as conn:
            inbox.put(conn, "main", [RawReport(body, {"content-type": CONTENT_TYPE})], self.now)
        feedback.digest(self.db, self.engine, self.lake, {"main": self.esp}, sendable.KEY, now=self.now)

    def audited(self) -> dict[str, object]:
        return audit(self.db, self.engine, self.lake, self.campaign.name).document()

    def fates(self) -> Counter[tuple[str, str | None]]:
        """How many people the audit has in each state, and why."""
        return Counter((row[1], row[2]) for row in audit(self.db, self.engine, self.lake, self.campaign.name).rows())

    def give_back(self, now: datetime) -> int:
        return give_back(self.db, self.engine, self.lake, now=now)

    def explained(self, contact_id: str) -> list[tuple[str, str]]:
        """What became of them: rule and detail of each freeze and of its hand-over."""
        found = explain(self.db, self.engine, self.lake, POLICY, self.campaign, contact_id, now=self.now + WAIT)
        return [(one["rule"], one["detail"]) for one in found["chain"] if one["rule"] in {"release", "dispatch"}]

    def counts(self) -> Counter[str]:
        with self.db.read() as conn:
            found = batches.counts(conn, self.campaign.id).values()
        return Counter(
            {name: n for name in batches.Counts.__dataclass_fields__ if (n := sum(getattr(c, name) for c in found))}
        )

    def decide(
        self, *, resend: bool, reason: str = "the ESP says it had none", later: datetime | None = None, **more: object
    ) -> settle.Settled:
        now = later or self.now + WAIT
        return settle.decide(self.db, "spring", resend=resend, reason=reason, by="ann", now=now, **more)  # type: ignore[arg-type]

    def actions(self) -> list[str]:
        with self.db.read() as conn:
            return [entry.action for entry in journal.read(conn, self.campaign.id)]


@pytest.fixture
def house(database: Database, engine: Engine, lake: Lake, now: datetime) -> House:
    return House(database, engine, lake, now)


@pytest.fixture
def sqlite_house(sqlite_database: Database, engine: Engine, lake: Lake, now: datetime) -> House:
    return House(sqlite_database, engine, lake, now)


def silent(*numbers: int) -> sendable.MemoryEsp:
    """Never answers for its first submissions of those numbers."""
    esp = sendable.MemoryEsp()

    def answer(_submission: Submission) -> Receipt:
        if len(esp.submissions) - 1 in numbers:
            raise Unknown("no answer in time")
        return Receipt()

    esp.answer = answer
    return esp


def test_events_settle_people_one_by_one_once_the_time_is_over(house: House) -> None:
    house.esp = silent(0)
    house.open().send()
    tokens = list(house.esp.submissions[0].recipients.tokens)
    house.told(tokens[:13])
    assert house.counts() == {"released": 60, "accepted": 40, "unknown": 20}

    assert settle.settle_due(house.db, by="node", now=house.now + WAIT - timedelta(seconds=1)) == 0
    assert settle.settle_due(house.db, by="node", now=house.now + WAIT) == 13
    assert settle.settle_due(house.db, by="node", now=house.now + WAIT) == 0, "nothing new"

    assert house.counts() == {"released": 60, "accepted": 53, "unknown": 7}
    assert (house.audited()["sent"], house.audited()["unknown"]) == (53, 7)
    house.told(tokens[13:14], EventType.OPEN)
    assert settle.settle_due(house.db, by="node", now=house.now + 2 * WAIT) == 1, "late evidence counts too"
    assert house.actions().count("batch.accept") == 2


def test_the_rest_goes_again_once_and_the_seen_do_not(house: House) -> None:
    house.esp = silent(0)
    house.open().send()
    first = house.esp.submissions[0].recipients
    house.told(list(first.tokens[:5]))

    done = house.decide(resend=True)
    house.send(house.now + WAIT)

    assert (done.accepted, done.resent, len(done.fresh)) == (5, 15, 1)
    assert list(house.esp.submissions[-1].recipients.addresses) == list(first.addresses[5:])
    assert list(house.esp.submissions[-1].recipients.tokens) == list(first.tokens[5:]), "events find them as before"
    assert house.esp.submissions[-1].key != house.esp.submissions[0].key
    assert house.counts() == {"released": 60, "accepted": 60}
    assert house.audited()["sent"] == 60
    assert "batch.resend" in house.actions()
    with pytest.raises(NotAllowed, match="nobody whose fate"):
        house.decide(resend=True)


def test_a_second_silence_is_unknown_again_and_evidence_finds_it(sqlite_house: House) -> None:
    house = sqlite_house
    house.esp = silent(0, 3)
    house.open().send()
    house.decide(resend=True)
    house.send(house.now + WAIT)
    assert house.counts()["unknown"] == 20

    house.told(list(house.esp.submissions[3].recipients.tokens[:8]))

    assert settle.settle_due(house.db, by="node", now=house.now + 3 * WAIT) == 8
    assert house.counts() == {"released": 60, "accepted": 48, "unknown": 12}


def test_left_people_stay_unknown_and_cannot_go_again(house: House) -> None:
    house.esp = silent(0)
    house.open().send()

    assert house.decide(resend=False).left == 20

    assert [one.state for one in settle.unknown(house.db, "spring", now=house.now)] == ["left"]
    assert list(settle.people(house.db, "spring")) == []
    assert house.audited()["unknown"] == 20
    with pytest.raises(NotAllowed, match="nobody whose fate"):
        house.decide(resend=True)
    house.told(list(house.esp.submissions[0].recipients.tokens))
    assert settle.settle_due(house.db, by="node", now=house.now + 2 * WAIT) == 20
    assert house.audited()["unknown"] == 0


def test_what_is_listed(sqlite_house: House) -> None:
    house = sqlite_house
    house.esp = silent(0)
    house.open().send()
    people = house.esp.submissions[0].recipients
    house.told([people.tokens[0]])

    (one,) = settle.unknown(house.db, "spring", now=house.now)

    assert (one.people, one.seen, one.state, one.until) == (20, 1, "waiting", house.now + WAIT)
    assert settle.unknown(house.db, "spring", now=one.until)[0].state == "undecided"
    rows = list(settle.people(house.db, "spring"))
    assert [row[0] for row in rows] == list(people.contact_ids)
    assert [row[1] for row in rows] == list(people.addresses)
    assert Counter(row[-1] for row in rows) == {"seen": 1, "silent": 19}


def test_some_unknown_people_of_an_accepted_batch(house: House) -> None:
    house.esp.answer = lambda submission: Receipt(
        unknown=[1, 3], refused=[PerRecipient(2, sendable.event(EventType.BOUNCE))]
    )
    house.open(people=20).send()
    house.told([one.recipients.tokens[1] for one in house.esp.submissions])
    sizes = len(house.esp.submissions)

    house.esp.answer = lambda _submission: Receipt()
    done = house.decide(resend=True)
    house.send(house.now + WAIT)

    assert (done.accepted, done.resent) == (sizes, sizes)
    assert house.counts() == {"released": 20, "accepted": 20 - sizes, "refused": sizes}


def put_off_then_unanswered(house: House) -> dict[int, str]:
    """Two of twenty people are put off at hand-over, and their second call gets no answer; {contact: token}."""
    house.esp.answer = sendable.refusing("x", later=("1",))
    house.open(people=20).send()
    house.told([])  # that they were put off

    def dead(_submission: Submission) -> Receipt:
        raise Unknown("no answer in time")

    house.esp.answer = dead
    calls = len(house.esp.submissions)
    house.send(house.now + timedelta(hours=6))
    assert house.counts()["unknown"] == 2
    again = [one.recipients for one in house.esp.submissions[calls:]]
    return {int(who[1:]): token for to in again for who, token in zip(to.contact_ids, to.tokens, strict=True)}


def test_a_deferral_of_somebody_who_went_again_proves_nothing(sqlite_house: House) -> None:
    put_off_then_unanswered(sqlite_house)
    assert settle.settle_due(sqlite_house.db, by="node", now=sqlite_house.now + 3 * WAIT) == 0


def test_a_deferral_of_somebody_left_out_later_proves_nothing(sqlite_house: House) -> None:
    house = sqlite_house
    tokens = put_off_then_unanswered(house)
    sendable.consent(house.db, house.lake, tokens, "withdrawn", house.now + WAIT)
    house.decide(resend=True, later=house.now + 2 * WAIT)
    house.send(house.now + 2 * WAIT)
    assert house.fates() == {("sent", None): 18, ("unknown", "dropped:consent_withdrawn"): 2}
    house.told([tokens[1]], EventType.BOUNCE)
    assert house.audited()["sent"] == 18, "what put them off may be told as a bounce too"
    house.told([tokens[1]])
    assert house.fates() == {("sent", None): 19, ("unknown", "dropped:consent_withdrawn"): 1}
    assert house.give_back(house.now + 3 * WAIT) == 0


def test_a_node_that_died_leaves_people_who_can_go_again(house: House) -> None:
    house.open()
    with house.db.write() as conn:
        ready = batches.ready(conn, batches.groups(conn, house.now), house.now, 1)
        [one] = batches.claim(conn, [ready[0].id], holder="dead", until=house.now)
        assert batches.hand(conn, one, [(0, "unsubscribed")], holder="dead", now=house.now)
    reconcile(house.db, "me", house.now + timedelta(minutes=1))
    house.send(house.now + timedelta(minutes=1))

    done = house.decide(resend=True)
    house.send(house.now + WAIT + timedelta(minutes=1))

    assert done.resent == ready[0].size - 1
    assert max(house.esp.arrived.values()) == 1
    assert house.counts() == {"released": 60, "accepted": 59, "dropped": 1}


def test_a_completed_campaign_sends_them_and_completes_again(sqlite_house: House) -> None:
    house = sqlite_house
    house.esp = silent(0)
    house.open().send()
    with house.db.write() as conn:
        campaigns.transition_wave(conn, house.campaign.id, 1, "clear", by="judge", now=house.now)
        campaigns.transition(conn, house.campaign.id, "complete", by="judge", now=house.now)

    house.decide(resend=True)
    give_back(house.db, house.engine, house.lake, now=house.now + WAIT)
    house.send(house.now + WAIT)

    assert house.counts() == {"released": 60, "accepted": 60}
    with house.db.read() as conn:
        again = campaigns.by_id(conn, house.campaign.id)
    assert (again.status, again.ended_at) == ("sending", None)
    assert "campaign.reopen" in house.actions()


@pytest.mark.parametrize(("event", "says"), [("halt", "resume spring"), ("cancel", "--leave is what remains")])
def test_a_stopped_campaign_writes_to_nobody_again(sqlite_house: House, event: str, says: str) -> None:
    house = sqlite_house
    house.esp = silent(0)
    house.open().send()
    with house.db.write() as conn:
        campaigns.transition(conn, house.campaign.id, event, by="eve", now=house.now)

    with pytest.raises(NotAllowed, match=says):
        house.decide(resend=True)
    assert house.counts()["unknown"] == 20
    assert house.decide(resend=False).left == 20


def test_what_cannot_be_decided(sqlite_house: House) -> None:
    house = sqlite_house
    house.esp = silent(0)
    house.open().send()

    with pytest.raises(BadInput, match="say why"):
        house.decide(resend=True, reason=" ")
    with pytest.raises(NotAllowed, match=r"until 2026-03-03 09:00 UTC"):
        settle.decide(house.db, "spring", resend=True, reason="x", by="ann", now=house.now)
    with pytest.raises(BadInput, match="batch 999"):
        house.decide(resend=True, chosen=[999])
    assert house.counts()["unknown"] == 20


def test_somebody_who_left_the_list_meanwhile_is_not_written_to_again(sqlite_house: House) -> None:
    house = sqlite_house
    house.esp = silent(0)
    house.open().send()
    people = house.esp.submissions[0].recipients
    gone = int(people.contact_ids[0][1:])
    sendable.consent(house.db, house.lake, [gone], "withdrawn", house.now + WAIT)

    house.decide(resend=True)
    house.send(house.now + WAIT)

    assert people.addresses[0] not in house.esp.submissions[-1].recipients.addresses
    assert len(house.esp.submissions[-1].recipients) == 19


@pytest.mark.parametrize("kind", [EventType.DELIVERED, EventType.DEFERRED, EventType.BOUNCE, EventType.OPEN])
def test_who_was_left_out_of_the_second_is_unknown_until_an_event_tells_of_the_first(
    house: House, kind: EventType
) -> None:
    house.esp = silent(0)
    house.open().send()
    people = house.esp.submissions[0].recipients
    gone = [int(contact[1:]) for contact in people.contact_ids[:4]]
    sendable.consent(house.db, house.lake, gone, "withdrawn", house.now + WAIT)
    house.decide(resend=True)
    house.send(house.now + WAIT)
    assert house.fates() == {("sent", None): 56, ("unknown", "dropped:consent_withdrawn"): 4}
    assert house.counts() == {"released": 60, "accepted": 56, "unknown": 4}
    assert house.give_back(house.now + 2 * WAIT) == 0, "they may have been written to, and keep counting as such"

    house.told([people.tokens[0]], kind)
    assert house.fates() == {("sent", None): 57, ("unknown", "dropped:consent_withdrawn"): 3}
    assert house.give_back(house.now + 3 * WAIT) == 0
    house.told([people.tokens[1]], kind)
    assert house.audited() == {"total": 60, "sent": 58, "unknown": 2, "not_sent": {}}, "later too"
    why = "unknown: nobody answered for the first message; the second: dropped:consent_withdrawn"
    assert house.explained(people.contact_ids[3])[-1] == ("dispatch", why)


def taken_back(house: House) -> Recipients:
    """Twenty people nobody answered for are to go again, and a halt takes them back before; it is over."""
    house.esp = silent(0)
    house.open().send()
    house.decide(resend=True)
    later = house.now + WAIT
    with house.db.write() as conn:
        campaigns_made.halt(conn, campaigns.get(conn, "spring"), later)
    assert house.give_back(later) == 0, "the first message may have come"
    steer.resume(house.db, "spring", reason="looked into it", by="eve", now=later)
    release(house.db, house.engine, house.lake, now=later, batch_sizes={"main": 20})
    house.send(later)
    return house.esp.submissions[0].recipients


def test_who_was_to_go_again_and_was_taken_back_is_unknown_and_a_persons_to_decide(house: House) -> None:
    people = taken_back(house)

    assert house.fates() == {("sent", None): 40, ("unknown", None): 20}
    assert house.counts() == {"released": 60, "accepted": 40, "unknown": 20}
    assert "batch.undecide" in house.actions()
    (one,) = settle.unknown(house.db, "spring", now=house.now + WAIT)
    assert (one.people, one.state) == (20, "undecided"), (
        "the time for events to tell was over when it was decided first"
    )
    assert house.decide(resend=True).resent == 20
    house.send(house.now + 2 * WAIT)
    assert house.counts() == {"released": 60, "accepted": 60}
    assert [house.esp.arrived[address] for address in people.addresses] == [1] * 20


def test_an_event_settles_who_was_taken_back(house: House) -> None:
    people = taken_back(house)

    house.told([people.tokens[0]])

    assert settle.settle_due(house.db, by="node", now=house.now + WAIT) == 1
    assert house.fates() == {("sent", None): 41, ("unknown", None): 19}
    with house.db.read() as conn:
        assert sum(one.accepted for one in batches.cohorts(conn, house.campaign.id)) == 41, "the judge counts them too"
    assert house.decide(resend=False).left == 19


def test_who_was_put_off_and_taken_back_goes_again_with_the_others(sqlite_house: House) -> None:
    """An ESP that puts somebody off answers: they surely have nothing."""
    house = sqlite_house
    house.esp.answer = sendable.refusing("x", later=("1",))
    house.open(people=20).send()
    later = house.now + timedelta(minutes=1)
    with house.db.write() as conn:
        campaigns_made.halt(conn, campaigns.get(conn, "spring"), later)
    assert house.give_back(later) == 2
    steer.resume(house.db, "spring", reason="looked into it", by="eve", now=later)
    release(house.db, house.engine, house.lake, now=later, batch_sizes={"main": 20})
    house.esp.answer = lambda _submission: Receipt()
    house.send(later)
    assert house.audited() == {"total": 20, "sent": 20, "unknown": 0, "not_sent": {}}


def test_who_was_put_off_when_they_went_again_may_still_have_the_first(sqlite_house: House) -> None:
    """Unanswered, then put off, then left out: what was put off is the second message."""
    house = sqlite_house
    house.esp = silent(0)
    house.open().send()
    people = house.esp.submissions[0].recipients
    house.decide(resend=True)
    house.esp.answer = lambda submission: Receipt(
        deferred=[PerRecipient(n, sendable.event(EventType.DEFERRED)) for n in range(len(submission.recipients))]
    )
    house.send(house.now + WAIT)
    house.told([])
    everybody = [int(contact[1:]) for contact in people.contact_ids]
    sendable.consent(house.db, house.lake, everybody, "withdrawn", house.now + WAIT)
    house.send(house.now + 2 * WAIT)
    assert house.fates() == {("sent", None): 40, ("unknown", "dropped:consent_withdrawn"): 20}
    assert house.give_back(house.now + 3 * WAIT) == 0


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("permanence", [Permanence.SOFT, Permanence.HARD])
def test_a_refusal_of_the_second_tells_nothing_of_the_first(
    sqlite_house: House, *, whole: bool, permanence: Permanence
) -> None:
    """But a hard bounce frees a slot as any other does: such an address takes nothing."""
    house = sqlite_house
    house.esp = silent(0)
    house.open().send()
    tokens = list(house.esp.submissions[0].recipients.tokens)
    no = Event(EventType.BOUNCE, house.now, permanence=permanence)
    several = range(20) if whole else range(2)
    house.esp.answer = lambda _: Receipt(refused=[PerRecipient(n, no) for n in several])
    house.decide(resend=True)
    house.send(house.now + WAIT)
    house.told([])  # what was refused is told as events
    refused = ("unknown", "refused:bounce")
    assert house.fates() == {("sent", None): 60 - len(several), refused: len(several)}
    assert house.counts() == {"released": 60, "accepted": 60 - len(several), "unknown": len(several)}
    freed = len(several) if permanence is Permanence.HARD else 0
    assert house.give_back(house.now + WAIT + timedelta(minutes=11)) == freed
    house.told([tokens[1]])
    assert house.fates()[refused] == len(several) - 1
