"""Lives, burials and terms: what keeps a node that slept from doing anything twice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta

import pytest
import sendable
from nodes_running import until
from sqlalchemy import insert, select, text

from sendwave import cluster
from sendwave.clock import VirtualClock
from sendwave.cluster import Node
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import Busy
from sendwave.flow.dispatch import reconcile
from sendwave.flow.release import release
from sendwave.flow.release.leasing import LEASE_LIFE, lease_people
from sendwave.store import batches, campaigns, freezes, leases, nodes, runs
from sendwave.store.database import Database
from sendwave.store.leases import Lease
from sendwave.store.tables import batches as batch_rows
from sendwave.store.tables import meta

UNTIL = timedelta(minutes=15)


@pytest.fixture
def ready(database: Database, lake: Lake, engine: DuckdbEngine, now: datetime) -> Database:
    """Twenty people in two batches that may leave."""
    sendable.write_base(database, lake, 20, now)
    sendable.approved(database, engine, lake, sendable.policy_set(ramp=["100%"]), now)
    release(database, engine, lake, now=now, batch_sizes={"main": 10})
    return database


def live(database: Database, holder: str, life: Lease | None, wall: datetime) -> Lease:
    with database.write() as conn:
        return nodes.beat(conn, holder, life, wall=wall)


def claim(database: Database, holder: str, count: int, now: datetime) -> list[int]:
    with database.write() as conn:
        found = batches.ready(conn, batches.groups(conn, now), now, count)
        return [one.id for one in batches.claim(conn, [b.id for b in found], holder=holder, until=now + UNTIL)]


def hand(database: Database, batch: int, holder: str, now: datetime) -> bool:
    with database.write() as conn:
        [claimed] = batches.claimed(conn, [batch])
        return batches.hand(conn, claimed, (), holder=holder, now=now)


def bury(database: Database, wall: datetime) -> list[str]:
    with database.write() as conn:
        return nodes.bury(conn, wall=wall, now=wall)


def status(database: Database, batch: int) -> str:
    with database.read() as conn:
        return str(conn.execute(select(batch_rows.c.status).where(batch_rows.c.id == batch)).scalar_one())


def sweep(database: Database, now: datetime) -> tuple[list[int], list[int]]:
    with database.write() as conn:
        back, lost = batches.lost(conn, now=now)
    return back, [one.id for one in lost]


def test_a_late_beat_goes_on_with_the_same_life(database: Database, now: datetime) -> None:
    life = live(database, "a", None, now)
    late = live(database, "a", life, now + timedelta(hours=1))
    assert (life.epoch, late.epoch) == (1, 1), "the store was away, nobody was buried"
    with database.read() as conn:
        assert [one.holder for one in nodes.alive(conn, now + timedelta(hours=1))] == ["a"]


def test_the_batches_of_a_silent_node_go_back(ready: Database, now: datetime) -> None:
    live(ready, "a", None, now)
    first, second = claim(ready, "a", 2, now)
    assert hand(ready, first, "a", now)
    assert bury(ready, now + timedelta(seconds=9)) == []
    dead = now + nodes.LIFE
    assert bury(ready, dead) == ["a"]
    assert bury(ready, dead) == [], "once"

    assert sweep(ready, dead) == ([second], [])
    assert status(ready, first) == "handed", "it may only sleep, and come back with an answer"
    assert sweep(ready, dead + nodes.ANSWER) == ([], [first])


def test_a_node_that_slept_hands_nothing_over_that_it_claimed_before(ready: Database, now: datetime) -> None:
    life = live(ready, "a", None, now)
    first, second = claim(ready, "a", 2, now)
    bury(ready, now + nodes.LIFE)
    assert not hand(ready, first, "a", now), "its batch is still claimed, in a life that is over"
    assert status(ready, first) == "claimed"

    woken = live(ready, "a", life, now + timedelta(minutes=1))
    assert woken.epoch > life.epoch
    assert not hand(ready, second, "a", now)
    assert set(sweep(ready, now + nodes.LIFE)[0]) == {first, second}
    assert claim(ready, "a", 1, now) == [first]
    assert hand(ready, first, "a", now), "what it claims in its new life leaves"


def test_what_is_claimed_between_end_and_burial_goes_back_too(ready: Database, now: datetime) -> None:
    live(ready, "a", None, now)
    claim(ready, "a", 1, now)
    dead = now + nodes.LIFE
    bury(ready, dead)
    late = claim(ready, "a", 1, now)  # it does not know yet
    assert bury(ready, dead) == ["a"]
    assert not hand(ready, late[0], "a", now)


def test_an_answer_after_the_burial_counts(ready: Database, now: datetime) -> None:
    live(ready, "a", None, now)
    batch = claim(ready, "a", 1, now)[0]
    hand(ready, batch, "a", now)
    bury(ready, now + nodes.LIFE)
    sweep(ready, now + nodes.LIFE + nodes.ANSWER)
    assert status(ready, batch) == "unknown"
    with ready.write() as conn:
        batches.settle(conn, batch, "accept", batches.Exceptions(), now=now)
    assert status(ready, batch) == "accepted"


def test_without_a_life_nothing_is_asked(ready: Database, now: datetime) -> None:
    batch = claim(ready, "one daemon", 1, now)[0]
    assert hand(ready, batch, "one daemon", now)


def test_lives_of_long_ago_are_forgotten(database: Database, now: datetime) -> None:
    live(database, "a", None, now)
    bury(database, now + nodes.LIFE + nodes.FORGET)
    with database.read() as conn:
        assert leases.current(conn, leases.life_name("a"), now) is None


# ── the leader ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, now: datetime) -> Callable[[float], datetime]:
    """Sets the machines' clock to so many seconds after `now`."""
    told = VirtualClock(now)
    monkeypatch.setattr(cluster, "wall", told.now)

    def move(seconds: float) -> datetime:
        told.move_to(now + timedelta(seconds=seconds))
        return told.now()

    return move


def joined(database: Database, holder: str, now: datetime) -> Node:
    node = Node(database, holder, VirtualClock(now))
    node.beat()
    return node


def note(node: Node, key: str) -> None:
    with node.led.write() as conn:
        conn.execute(insert(meta).values(key=key, value=""))


@pytest.mark.postgresql
def test_one_leads_and_the_next_when_it_falls_silent(
    postgresql_database: Database, now: datetime, at: Callable[[float], datetime]
) -> None:
    first, second = joined(postgresql_database, "a", now), joined(postgresql_database, "b", now)
    assert (first.leads, second.leads) == (True, False)
    note(first, "1")
    with pytest.raises(Busy, match="another node leads"):
        note(second, "2")
    at(8)
    first.beat()
    at(11)
    second.beat()
    assert (first.leads, second.leads) == (True, False)
    at(18)
    second.beat()
    assert (first.leads, second.leads) == (False, True)
    with pytest.raises(Busy, match=r"lost: b has the lease 'leader'"):
        note(first, "3")
    note(second, "4")
    first.beat()
    assert not first.leads


@pytest.mark.postgresql
def test_a_tick_ends_with_its_term_even_if_the_node_leads_again(
    postgresql_database: Database, now: datetime, at: Callable[[float], datetime]
) -> None:
    first, second = joined(postgresql_database, "a", now), joined(postgresql_database, "b", now)
    with first.term():
        note(first, "before it slept")
        at(10)
        second.beat()
        at(20)
        first.beat()
        assert first.leads
        with pytest.raises(Busy, match="lost"):
            note(first, "from what it knew before")
    note(first, "in its new term")


@pytest.mark.postgresql
def test_after_an_outage_nobody_is_buried_for_having_been_silent(
    postgresql_database: Database, now: datetime, at: Callable[[float], datetime]
) -> None:
    first = joined(postgresql_database, "a", now)
    other = joined(postgresql_database, "b", now)
    with postgresql_database.write() as conn:
        silent = leases.current(conn, leases.life_name("b"), now)
    at(60)
    first.beat()  # the first beat that reaches the store again
    first._reached = None  # as a failed beat leaves it
    first.beat()
    other.beat()
    assert silent is not None
    with postgresql_database.read() as conn:
        back = leases.current(conn, leases.life_name("b"), at(60))
    assert back is not None
    assert back.epoch == silent.epoch


@pytest.mark.postgresql
def test_what_a_leader_had_in_hand_ends_with_its_term(
    postgresql_database: Database, now: datetime, at: Callable[[float], datetime]
) -> None:
    """It sleeps in the middle of a freeze and of a score run: whoever leads next waits for neither."""
    first, second = joined(postgresql_database, "a", now), joined(postgresql_database, "b", now)
    with first.term(), ExitStack() as asleep:
        with first.led.write() as conn:
            assert runs.begin(conn, "score", now.date(), now)
        lease = asleep.enter_context(lease_people(first.led, now))
        at(20)
        second.beat()
        with second.led.write() as conn:
            assert runs.begin(conn, "score", now.date(), now)
        with lease_people(second.led, now), pytest.raises(Busy, match="lost"), first.db.write() as conn:
            leases.fence(conn, lease)
        with pytest.raises(Busy, match="lost"), first.led.write() as conn:  # it wakes up
            runs.give_up(conn, "score", now.date())
        with pytest.raises(Busy, match="lost"):
            asleep.close()


@pytest.mark.postgresql
def test_a_command_keeps_what_it_has_in_hand(
    postgresql_database: Database, now: datetime, at: Callable[[float], datetime]
) -> None:
    joined(postgresql_database, "a", now)
    with lease_people(postgresql_database, now):
        at(20)
        second = joined(postgresql_database, "b", now)
        assert second.leads
        with pytest.raises(Busy, match="has the lease"), lease_people(second.led, now):
            pass
    with lease_people(second.led, now):
        pass


def test_one_daemon_that_starts_waits_for_nobody(sqlite_database: Database, now: datetime) -> None:
    """The one before was killed in the middle of a freeze and of a score run."""
    with sqlite_database.write() as conn:
        leases.acquire(conn, freezes.LEASE, "of the dead", now=now, life=LEASE_LIFE)
        assert runs.begin(conn, "score", now.date(), now)
    reconcile(sqlite_database, "next", now)
    with lease_people(sqlite_database, now), sqlite_database.write() as conn:
        assert runs.begin(conn, "score", now.date(), now)


def test_one_daemon_leads_without_asking(sqlite_database: Database, now: datetime) -> None:
    node = joined(sqlite_database, "a", now)
    assert node.leads
    assert node.led is sqlite_database
    node.start()
    node.stop()


@pytest.mark.postgresql
def test_a_pause_goes_before_hand_overs_that_come_later(
    postgresql_database: Database, lake: Lake, engine: DuckdbEngine, now: datetime
) -> None:
    """A dozen hands at work, each at it before the one ahead is done, would keep a pause waiting for seconds."""
    db = postgresql_database
    sendable.write_base(db, lake, 20, now)
    campaign = sendable.approved(db, engine, lake, sendable.policy_set(ramp=["100%"]), now)
    release(db, engine, lake, now=now, batch_sizes={"main": 10})
    live(db, "hand", None, now)
    one, other = claim(db, "hand", 2, now)

    def pause() -> None:
        with db.write() as conn:
            campaigns.transition(conn, campaign.id, "pause", by="ann", now=now)

    def waiting() -> int:
        with db.read() as conn:
            asked = "SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database"
            ours = "locktype = 'advisory' AND NOT granted AND datname = current_database()"
            return int(conn.execute(text(f"{asked} WHERE {ours}")).scalar_one())

    with ThreadPoolExecutor(2) as pool:
        with db.write() as conn:
            [claimed] = batches.claimed(conn, [one])
            assert batches.hand(conn, claimed, (), holder="hand", now=now)
            stop = pool.submit(pause)
            until(lambda: waiting() == 1, "the pause waits for the hand-over under way")
            late = pool.submit(hand, db, other, "hand", now)
            until(lambda: waiting() == 2, "the next hand-over waits for the pause")
            assert not stop.done()
        stop.result(30)
        assert late.result(30) is False
