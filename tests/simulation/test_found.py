"""Defects the simulation found, each as the shortest story that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest
import sendable

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import Busy
from sendwave.esp.base import RawReport
from sendwave.flow.feedback import digest, receive
from sendwave.flow.release import release
from sendwave.rules.events import CONTENT_TYPE, Event, EventType, encode_events
from sendwave.store import files
from sendwave.store.database import Connection, Database


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
