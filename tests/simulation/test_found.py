"""Defects the simulation found, each as the shortest story that shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import campaigns_made
import pytest
import sendable
from sendable import MemoryEsp

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import Busy, Unknown
from sendwave.esp.base import Capabilities, RawReport, Recall, Receipt, Submission
from sendwave.flow import steer
from sendwave.flow.audit import audit
from sendwave.flow.dispatch import Dispatcher
from sendwave.flow.feedback import digest, receive
from sendwave.flow.judge import judge
from sendwave.flow.release import give_back, release
from sendwave.rules.events import CONTENT_TYPE, Event, EventType, encode_events
from sendwave.store import campaigns, files, handed, suppressions
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Connection, Database
from sendwave.store.suppressions import Suppression


@contextmanager
def commits_whose_answer_is_lost(db: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every commit is durable, and none is heard of: what PostgreSQL looks like when the connection breaks there."""
    write = Database.write

    @contextmanager
    def lost(self: Database) -> Iterator[Connection]:
        with write(self) as connection:
            yield connection
        raise Busy("the store cannot be used right now (server closed the connection unexpectedly)")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "write", lost)
        yield


def test_events_counted_by_a_commit_whose_answer_was_lost_keep_their_file(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registered file was removed: from then on every digest and every report failed for want of it."""
    sendable.write_base(sqlite_database, lake, 6, now)
    sendable.approved(sqlite_database, engine, lake, sendable.policy_set(ramp=["100%"]), now)
    release(sqlite_database, engine, lake, now=now)
    event = Event(EventType.OPEN, now, recipient=sendable.address(1), event_id="one")
    receive(sqlite_database, "main", [RawReport(encode_events([event]), {"content-type": CONTENT_TYPE})], now)
    with commits_whose_answer_is_lost(sqlite_database, monkeypatch), pytest.raises(Busy):
        digest(sqlite_database, engine, lake, {}, sendable.KEY, now=now)
    with sqlite_database.read() as conn:
        listed = [lake.root / file.path for file in files.live(conn, ["events"])["events"]]
    assert [path.is_file() for path in listed] == [True]


def test_a_call_is_not_repeated_to_somebody_who_asked_to_be_left_alone_since(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    """Nobody answered the first call, which never arrived; the second, under the same key, would have reached them."""
    sendable.write_base(sqlite_database, lake, 6, now)
    sendable.approved(sqlite_database, engine, lake, sendable.policy_set(ramp=["100%"]), now)
    release(sqlite_database, engine, lake, now=now)
    esp = sendable.MemoryEsp(never_arriving)
    esp.capabilities = Capabilities(batch_size=1000, idempotency=timedelta(hours=24))
    dispatcher = Dispatcher(sqlite_database, engine, lake, {"main": esp}, sendable.KEY, "me")
    dispatcher.step(now)
    stop = Suppression(sendable.address_hash(1), "email", "all", "unsubscribe", now + timedelta(seconds=5))
    with sqlite_database.write() as conn:
        suppressions.add(conn, [stop], source="a letter", now=now + timedelta(seconds=5))
    esp.answer = lambda _submission: Receipt()
    for minutes in (1, 5, 20):
        dispatcher.step(now + timedelta(minutes=minutes))
    assert sendable.address(1) not in esp.arrived
    assert sum(esp.arrived.values()) == 4, "the batches of the other lanes go again, each once"


def test_a_resume_sends_those_of_a_suspended_lane_whose_wave_was_cleared_without_them(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    """A halt took them back; the resume let no cleared wave wait again, and the campaign completed without them."""
    spring, dispatcher, esp = two_lanes(sqlite_database, engine, lake, now, MemoryEsp())
    with sqlite_database.write() as conn:
        campaigns.transition_wave(conn, spring.id, 1, "clear", by="eve", now=now)
        campaigns_made.halt(conn, spring, now)
    give_back(sqlite_database, engine, lake, now=now)
    steer.resume(sqlite_database, spring.name, reason="looked into it", by="eve", now=now)
    release(sqlite_database, engine, lake, now=now)
    dispatcher.step(now + timedelta(seconds=5))
    assert esp.arrived == dict.fromkeys(map(sendable.address, range(1, 7)), 1)


def test_who_came_back_from_the_esp_leaves_when_their_lane_reopens(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    """Their wave was on its way or over, and never released again."""
    esp = Recalling(now + timedelta(hours=1))
    spring, dispatcher, _ = two_lanes(sqlite_database, engine, lake, now, esp, first=True)
    assert sum(esp.arrived.values()) == 4, "two of them came back"
    release(sqlite_database, engine, lake, now=now)
    give_back(sqlite_database, engine, lake, now=now + timedelta(minutes=11))
    release(sqlite_database, engine, lake, now=now + timedelta(minutes=11))
    steer.resume(sqlite_database, spring.name, provider="gmail", reason="looked into it", by="eve", now=now)
    dispatcher.step(now + timedelta(minutes=12))
    assert esp.arrived == dict.fromkeys(map(sendable.address, range(1, 7)), 1)


def test_a_wave_waits_for_the_slots_of_who_came_back(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    """Resumed before their slots were given back, it opened without them and was over."""
    esp = Recalling(now + timedelta(hours=1))
    spring, dispatcher, _ = two_lanes(sqlite_database, engine, lake, now, esp, first=True)
    with sqlite_database.write() as conn:
        campaigns_made.halt(conn, spring, now)
    dispatcher.step(now + timedelta(seconds=5))
    assert sum(esp.arrived.values()) == 0, "all came back"
    steer.resume(sqlite_database, spring.name, reason="looked into it", by="eve", now=now)
    for minutes in (0, 11, 12):
        release(sqlite_database, engine, lake, now=now + timedelta(minutes=minutes))
        give_back(sqlite_database, engine, lake, now=now + timedelta(minutes=minutes))
    dispatcher.step(now + timedelta(minutes=13))
    assert esp.arrived == dict.fromkeys(map(sendable.address, range(1, 7)), 1)


def test_a_campaign_that_completes_calls_nothing_back(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    """What a lane that reopened late had handed over a moment before was taken back from the ESP, for ever."""
    esp = Recalling(now + timedelta(hours=1))
    spring, dispatcher, _ = two_lanes(sqlite_database, engine, lake, now, esp)
    with sqlite_database.write() as conn:
        campaigns.transition_wave(conn, spring.id, 1, "clear", by="eve", now=now)
    steer.resume(sqlite_database, spring.name, provider="gmail", reason="looked into it", by="eve", now=now)
    dispatcher.step(now + timedelta(minutes=1))
    with sqlite_database.write() as conn:
        campaigns.transition(conn, spring.id, "complete", by="daemon", now=now)
    dispatcher.step(now + timedelta(minutes=2))
    assert esp.arrived == dict.fromkeys(map(sendable.address, range(1, 7)), 1)


def test_a_wave_that_soaked_when_its_campaign_was_shortened_ends_with_it(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    """A halt and a resume later it waited for a release that never came, and the campaign sent for ever."""
    sendable.write_base(sqlite_database, lake, 9, now)
    ramp = sendable.policy_set(ramp=["30%", "30%", "40%"])
    spring = sendable.approved(sqlite_database, engine, lake, ramp, now)
    dispatcher = Dispatcher(sqlite_database, engine, lake, {"main": MemoryEsp()}, sendable.KEY, "me")
    for minutes in range(2):
        release(sqlite_database, engine, lake, now=now)
        dispatcher.step(now + timedelta(minutes=minutes))
        if minutes == 0:
            with sqlite_database.write() as conn:
                campaigns.transition_wave(conn, spring.id, 1, "clear", by="judge", now=now)
    steer.shorten(sqlite_database, spring.name, 1, by="eve", now=now)
    with sqlite_database.write() as conn:
        campaigns_made.halt(conn, spring, now)
    steer.resume(sqlite_database, spring.name, reason="looked into it", by="eve", now=now)
    with sqlite_database.read() as conn:
        assert [wave.status for wave in campaigns.waves(conn, spring.id)] == ["cleared", "skipped", "skipped"]
    judge(sqlite_database, now=now + timedelta(minutes=5))
    with sqlite_database.read() as conn:
        assert campaigns.by_id(conn, spring.id).status == "completed"


def test_whom_an_esp_gave_back_unheard_nobody_calls_sent(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store was locked just then, and afterwards it was too late to ask again: they counted as sent."""
    esp = Recalling(now + timedelta(hours=1))
    spring, dispatcher, _ = two_lanes(sqlite_database, engine, lake, now, esp)
    with sqlite_database.write() as conn:
        campaigns_made.halt(conn, spring, now)
    monkeypatch.setattr(handed, "call_back", locked)
    for minutes in (1, 4):  # asked again, once nobody else may be recording it
        with pytest.raises(Busy):
            dispatcher.step(now + timedelta(minutes=minutes))
    assert sum(esp.arrived.values()) == 0
    dispatcher.step(now + timedelta(minutes=4, seconds=5))

    dispatcher.step(now + timedelta(minutes=61))
    found = audit(sqlite_database, engine, lake, spring.name)
    assert (found.sent, found.unknown) == (0, 4)


def locked(*_args: object, **_options: object) -> bool:
    """A store somebody else writes to."""
    raise Busy("another process is writing to the store; try again in a moment")


class Recalling(MemoryEsp):
    """Sends later, and gives back what it did not send yet."""

    def __init__(self, until: datetime) -> None:
        super().__init__(lambda batch: Receipt(ref=str(batch.batch_id), recall_until=until))
        self.capabilities = Capabilities(batch_size=1000, recall=Recall.SCHEDULED)

    def recall(self, refs: Sequence[str], now: datetime) -> Sequence[bool]:
        for batch in self.submissions:
            if str(batch.batch_id) in refs:
                self.arrived -= Counter(batch.recipients.addresses)
        return [True] * len(refs)


def two_lanes(  # what every test here has
    db: Database, engine: Engine, lake: Lake, now: datetime, esp: MemoryEsp, *, first: bool = False
) -> tuple[Campaign, Dispatcher, MemoryEsp]:
    """Six people released, the lane `gmail` suspended, the others written to; all of them `first`, if asked."""
    sendable.write_base(db, lake, 6, now)
    spring = sendable.approved(db, engine, lake, sendable.policy_set(ramp=["100%"]), now)
    release(db, engine, lake, now=now)
    dispatcher = Dispatcher(db, engine, lake, {"main": esp}, sendable.KEY, "me")
    if first:
        dispatcher.step(now)
    with db.write() as conn:
        campaigns_made.suspend(conn, campaigns.by_id(conn, spring.id), "gmail", now)
    dispatcher.step(now)
    return spring, dispatcher, esp


def never_arriving(_submission: Submission) -> Receipt:
    """The answer of an ESP that cannot be heard, and never got the call."""
    raise Unknown("no answer in time")
