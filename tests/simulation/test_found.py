"""Defects the simulation found, each as the shortest story that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
import sendable

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import Busy, Unknown
from sendwave.esp.base import Capabilities, RawReport, Receipt, Submission
from sendwave.flow.dispatch import Dispatcher
from sendwave.flow.feedback import digest, receive
from sendwave.flow.release import release
from sendwave.rules.events import CONTENT_TYPE, Event, EventType, encode_events
from sendwave.store import files, suppressions
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


def never_arriving(_submission: Submission) -> Receipt:
    """The answer of an ESP that cannot be heard, and never got the call."""
    raise Unknown("no answer in time")
