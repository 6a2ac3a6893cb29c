from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import campaigns_made
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mail_sent import KEY, ROUTE, address, event, handed, minutes
from sqlalchemy import select

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput, Busy
from sendwave.esp.base import RawReport
from sendwave.flow import feedback
from sendwave.flow.feedback import counting, reprocessing
from sendwave.rules.addresses import fingerprint
from sendwave.rules.events import Cause, Event, EventType, Permanence, decode_events, encode_events
from sendwave.store import feeds, files, journal, leases, policies, tables
from sendwave.store.database import Database

Table = Mapping[str, Mapping[str, Any]]

WRONG: Table = {"gone": {"type": EventType.UNKNOWN}, "seen": {"type": EventType.OPEN}, "stop": {"type": EventType.OPEN}}
RIGHT: Table = {
    "gone": {"type": EventType.BOUNCE, "permanence": Permanence.HARD, "cause": Cause.UNKNOWN_USER},
    "seen": {"type": EventType.OPEN, "machine_open": True},
    "stop": {"type": EventType.UNSUBSCRIBE},
}


@dataclass
class Learner:
    """An adapter with a table of words; those not in it mean what they say."""

    table: Table = field(default_factory=lambda: WRONG)
    name: str = "learner"

    def poll(self, now: datetime) -> Iterable[RawReport]:
        return ()

    def normalise(self, report: RawReport, received_at: datetime) -> list[Event]:
        if report.body.startswith(b"odd") and "odd" not in self.table:
            raise BadInput("nobody understands this")
        body = report.body.removeprefix(b"odd")
        return [
            replace(one, **self.table.get(one.url or "", {}), description=one.url or "") for one in decode_events(body)
        ]


@dataclass
class World:
    """A campaign of which two batches were handed over, and what is known of it."""

    db: Database
    lake: Lake
    engine: DuckdbEngine
    now: datetime
    batches: Sequence[int] = ()
    adapter: Learner = field(default_factory=Learner)

    def hear(self, *events: Event, at: datetime | None = None, odd: bool = False, digest: bool = True) -> None:
        body = b"odd" * odd + encode_events(events)
        feedback.receive(self.db, ROUTE, [RawReport(body)], at or self.now)
        if digest:
            self.digest(at)

    def digest(self, at: datetime | None = None) -> feedback.Digest:
        adapters = {ROUTE: self.adapter}
        return feedback.digest(self.db, self.engine, self.lake, adapters, KEY, now=at or self.now)

    def again(self, **choice: Any) -> feedback.Reprocessed:
        return feedback.reprocess(
            *(self.db, self.engine, self.lake, {ROUTE: self.adapter}, KEY),
            choice=feedback.Choice(**choice),
            clock=lambda: self.now + timedelta(hours=1),
        )

    def said(self, word: str, batch: int, position: int, ago: float = 3, **fields: Any) -> Event:
        return event("open", self.now - minutes(ago), self.batches[batch], position, url=word, **fields)

    def state(self) -> dict[str, Any]:
        """All that is counted and kept, but for the order of rows."""
        with self.db.read() as conn:
            listed = files.live(conn, ["events"])["events"]
            tallied = {row[:2]: (row.n, bytes(row.bits)) for row in conn.execute(select(tables.tallies))}
            counted = {tuple(row[:5]): row.n for row in conn.execute(select(tables.counters))}
            late = {tuple(row[:5]): row.n for row in conn.execute(select(tables.delays)) if row.n}
            told = [
                tuple(row)
                for row in conn.execute(select(tables.inbox.c.id, tables.inbox.c.status, tables.inbox.c.unknown))
            ]
            feed = feeds.get(conn, ROUTE)
        rows = [row for file in listed for row in pq.read_table(self.lake.root / file.path).to_pylist()]
        kept = Counter(tuple(sorted(row.items(), key=lambda item: item[0])) for row in rows)
        return {
            "tallies": tallied, "minutes": counted, "rows": kept, "inbox": sorted(told), "unmatched": feed.unmatched,
            "words": dict(feed.unknown_words), "late": late,
        }  # fmt: skip

    def stopped(self) -> set[tuple[str, str]]:
        with self.db.read() as conn:
            return {(row.address_hash, row.reason) for row in conn.execute(select(tables.suppressions))}


def _world(db: Database, folder: Path, now: datetime, table: Table) -> World:
    lake = Lake(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with db.write() as conn:
        version = policies.remember(conn, campaigns_made.policy_set(), now)
        campaign = campaigns_made.sending(conn, now - minutes(20), policy_version=version)
        batches = [handed(conn, campaign, now - minutes(10), lake=lake, people=9) for _ in range(2)]
    engine = DuckdbEngine(threads=1, memory_limit="500MB", spill=folder / "spill")
    return World(db, lake, engine, now, batches, Learner(table))


@pytest.fixture
def world(database: Database, tmp_path: Path, now: datetime) -> World:
    return _world(database, tmp_path / "lake", now, WRONG)


def test_a_mended_word_counts_as_if_it_had_always_been_known(world: World) -> None:
    world.hear(world.said("gone", 0, 1), world.said("fine", 0, 2), world.said("gone", 1, 1))
    assert world.state()["words"] == {"gone": 2}
    world.adapter.table = RIGHT
    done = world.again()
    assert (done.reports, done.events, done.unknown, done.suppressed) == (1, 3, 0, 2)
    assert done.changed == 4, "two bits taken back, two set"
    state = world.state()
    assert {pair: n for pair, (n, _) in state["tallies"].items()} == {
        (world.batches[0], "hard_bounce"): 1,
        (world.batches[0], "open"): 1,
        (world.batches[1], "hard_bounce"): 1,
    }
    assert (state["words"], state["inbox"]) == ({}, [(1, "done", 0)])
    assert world.stopped() == {(fingerprint(address(batch, 1)), "hard_bounce") for batch in world.batches}
    with world.db.read() as conn:
        assert "feedback.reprocessed" in {entry.action for entry in journal.read(conn)}


def test_again_changes_nothing_more(world: World) -> None:
    world.hear(world.said("gone", 0, 1), world.said("seen", 0, 2), world.said("seen", 0, 2, ago=1))
    world.adapter.table = RIGHT
    assert world.again().changed == 4
    once = world.state()
    assert (world.again().changed, world.state()) == (0, once)


def test_only_what_was_not_understood(world: World) -> None:
    world.hear(world.said("gone", 0, 1), world.said("seen", 0, 3))
    world.hear(world.said("seen", 0, 4))
    world.hear(world.said("gone", 1, 5), odd=True)
    world.adapter.table = {**RIGHT, "odd": {}}
    done = world.again(unknown_only=True)
    assert (done.reports, done.failed) == (2, 0)
    counts = {pair: n for pair, (n, _) in world.state()["tallies"].items()}
    assert counts == {
        (world.batches[0], "hard_bounce"): 1,
        (world.batches[0], "machine_open"): 1,
        (world.batches[0], "open"): 1,
        (world.batches[1], "hard_bounce"): 1,
    }


def test_since_and_route_choose(world: World) -> None:
    world.hear(world.said("gone", 0, 1), at=world.now - minutes(60))
    world.hear(world.said("gone", 0, 2))
    world.adapter.table = RIGHT
    assert world.again(route="elsewhere").reports == 0
    assert world.again(since=world.now - minutes(30)).reports == 1
    counts = {pair: n for pair, (n, _) in world.state()["tallies"].items()}
    assert counts == {(world.batches[0], "unknown"): 1, (world.batches[0], "hard_bounce"): 1}


def test_what_could_be_read_before_must_still_be_readable(world: World) -> None:
    world.hear(world.said("gone", 0, 1))
    before = world.state()

    class Broken(Learner):
        def normalise(self, report: RawReport, received_at: datetime) -> list[Event]:
            raise ZeroDivisionError("boom")

    world.adapter = Broken()
    with pytest.raises(BadInput, match="understood before"):
        world.again()
    assert world.state() == before
    assert world.again(unknown_only=True, route="elsewhere").reports == 0
    world.adapter = Learner(RIGHT)
    assert world.again().changed == 2, "the lease was given back"


def test_digests_wait_for_its_end_and_two_runs_for_each_other(world: World) -> None:
    world.hear(world.said("gone", 0, 1), digest=False)
    with world.db.write() as conn:
        lease = leases.acquire(conn, counting.LEASE, "other", now=world.now, life=timedelta(hours=2))
    assert world.digest() == feedback.Digest()
    with pytest.raises(Busy):
        world.again()
    with world.db.write() as conn:
        leases.release(conn, lease, now=world.now)
    assert world.digest(world.now + minutes(1)).reports == 1


def test_a_digest_that_overlaps_leaves_everything_as_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hear(world.said("gone", 0, 1), digest=False)
    commit = counting.Digestion._commit

    def late(self: Any, result: Any) -> int:
        with world.db.write() as conn:
            leases.acquire(conn, counting.LEASE, "other", now=world.now, life=timedelta(hours=2))
        return commit(self, result)

    monkeypatch.setattr(counting.Digestion, "_commit", late)
    assert world.digest() == feedback.Digest()
    assert world.state()["inbox"] == [(1, "new", 0)]


def test_a_fault_leaves_everything_as_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hear(world.said("gone", 0, 1))
    before, kept = world.state(), set(world.lake.root.glob("events/*"))
    world.adapter.table = RIGHT
    with monkeypatch.context() as patched:
        patched.setattr(files, "retire", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.again()
    assert world.state() == before
    assert kept <= set(world.lake.root.glob("events/*")), "a file nobody listed may be left, for the janitor"
    assert world.again().changed == 2


def test_new_reports_after_it_count_once(world: World) -> None:
    opened = world.said("seen", 0, 1)
    world.hear(opened, world.said("gone", 0, 2))
    world.adapter.table = RIGHT
    world.again()
    done = world.state()
    world.hear(opened, world.said("gone", 0, 2))
    assert world.state()["rows"] == done["rows"]
    assert world.state()["tallies"] == done["tallies"]


SAID = st.tuples(
    st.sampled_from(["gone", "seen", "stop", "fine"]),
    st.integers(0, 1),
    st.integers(0, 9),
    st.integers(0, 3),
    st.booleans(),
)
REPORTS = st.lists(st.tuples(st.lists(SAID, max_size=5), st.booleans()), min_size=1, max_size=5)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=REPORTS, portion=st.integers(1, 3), everything=st.booleans())
def test_equal_to_having_been_right_from_the_start(  # noqa: PLR0917  # fixtures and draws
    sqlite_database: Database, tmp_path: Path, now: datetime, story: Any, portion: int, everything: bool
) -> None:
    """Two worlds of the same reports, digested at the same times: in one the words are understood only later."""
    states = []
    for table in (RIGHT, WRONG):
        _empty(sqlite_database)
        world = _world(sqlite_database, tmp_path / f"lake-{len(list(tmp_path.iterdir()))}", now, table)
        for turn, (told, digest) in enumerate(story):
            world.hear(*(_told(world, one) for one in told), at=now + minutes(turn), digest=digest)
        while world.digest(now + minutes(len(story))).reports:
            pass
        if table is WRONG:
            world.adapter.table = RIGHT
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(reprocessing, "LIMIT", portion)
                world.again(since=None if everything else now)
        states.append(world.state() | {"stopped": world.stopped()})
    if not everything:  # words are only counted afresh when all reports are read again
        for state in states:
            del state["words"]
    assert states[1] == states[0]


def _told(world: World, said: tuple[str, int, int, int, bool]) -> Event:
    word, batch, position, ago, token = said
    if token:
        return world.said(word, batch, position, ago)
    person = address(world.batches[batch], position)
    return event("open", world.now - minutes(ago), None, url=word, recipient=person)


def _empty(db: Database) -> None:
    with db.write() as conn:
        for table in reversed(tables.METADATA.sorted_tables):
            conn.execute(table.delete())
        conn.exec_driver_sql("DELETE FROM sqlite_sequence")
