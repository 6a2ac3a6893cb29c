from __future__ import annotations

import threading
from datetime import datetime, timedelta

import campaigns_made
import pytest

from sendwave.store import holds, journal
from sendwave.store.database import Database


def test_a_hold_placed_twice_is_one_and_lifting_it_frees_the_work(database: Database, now: datetime) -> None:
    with database.write() as conn:
        made = campaigns_made.planned(conn, now)
        first = holds.place(conn, kind="hold", reason="soak", campaign_id=made.id, by="daemon", now=now)
        again = holds.place(
            conn, kind="hold", reason="soak", campaign_id=made.id, by="other", now=now, detail="2 h left"
        )
        assert again == first
        [hold] = holds.blocks(conn, made.id, wave=1, now=now)
        assert (hold.by, hold.detail) == ("daemon", "2 h left")
        assert holds.lift(conn, reason="soak", campaign_id=made.id, by="daemon", now=now) == 1
        assert holds.lift(conn, reason="soak", campaign_id=made.id, by="daemon", now=now) == 0
        assert holds.blocks(conn, made.id, wave=1, now=now) == []
        written = [entry.action for entry in journal.read(conn, made.id)]
    assert written.count("hold.place") == written.count("hold.lift") == 1


def test_a_lifted_hold_can_be_placed_again(database: Database, now: datetime) -> None:
    with database.write() as conn:
        first = holds.place(conn, kind="hold", reason="esp_down", route="main", by="daemon", now=now)
        holds.lift(conn, reason="esp_down", route="main", by="daemon", now=now)
        assert holds.place(conn, kind="hold", reason="esp_down", route="main", by="daemon", now=now) != first


def test_each_reason_and_scope_is_a_hold_of_its_own(database: Database, now: datetime) -> None:
    with database.write() as conn:
        made = campaigns_made.planned(conn, now)
        holds.place(conn, kind="pause", reason="paused", campaign_id=made.id, by="ann", now=now)
        holds.place(conn, kind="halt", reason="complaint", campaign_id=made.id, by="daemon", now=now)
        holds.place(conn, kind="halt", reason="complaint", campaign_id=made.id, provider="orange", by="daemon", now=now)
        holds.place(conn, kind="hold", reason="esp_down", route="main", by="daemon", now=now)
        assert len(holds.open_holds(conn, made.id)) == 4
        assert len(holds.blocks(conn, made.id, provider="gmail", route="main", now=now)) == 3
        assert holds.lift(conn, reason="complaint", campaign_id=made.id, by="eve", now=now) == 1
        assert len(holds.blocks(conn, made.id, provider="orange", route="spare", now=now)) == 2


def test_kinds_are_lifted_together_within_one_campaign(database: Database, now: datetime) -> None:
    with database.write() as conn:
        one = campaigns_made.planned(conn, now, name="one")
        two = campaigns_made.planned(conn, now, name="two")
        for made in (one, two):
            holds.place(conn, kind="halt", reason="complaint", campaign_id=made.id, by="daemon", now=now)
            holds.place(conn, kind="halt", reason="block", campaign_id=made.id, provider="orange", by="d", now=now)
            holds.place(conn, kind="pause", reason="paused", campaign_id=made.id, by="ann", now=now)
        assert holds.lift_kinds(conn, ["halt"], campaign_id=one.id, provider="orange", by="eve", now=now) == 1
        assert holds.lift_kinds(conn, ["halt"], campaign_id=one.id, by="eve", now=now) == 1
        assert [hold.reason for hold in holds.open_holds(conn, one.id)] == ["paused"]
        assert len(holds.open_holds(conn, two.id)) == 3


def test_a_hold_ends_by_itself_when_its_time_has_come(database: Database, now: datetime) -> None:
    end = now + timedelta(minutes=5)
    with database.write() as conn:
        holds.place(conn, kind="hold", reason="throttled", route="main", by="daemon", now=now, until=end)
        holds.place(conn, kind="hold", reason="endless", by="daemon", now=now)
        assert holds.expire(conn, end - timedelta(seconds=1)) == 0
        assert [hold.reason for hold in holds.blocks(conn, 1, route="main", now=end)] == ["endless"]
        assert holds.expire(conn, end) == 1
        assert [hold.reason for hold in holds.open_holds(conn)] == ["endless"]


@pytest.mark.postgresql
def test_two_nodes_placing_the_same_hold_place_one(postgresql_database: Database, now: datetime) -> None:
    database = postgresql_database
    together = threading.Barrier(4)
    placed = []

    def place() -> None:
        together.wait()
        with database.write() as conn:
            placed.append(holds.place(conn, kind="hold", reason="esp_down", route="main", by="daemon", now=now))

    workers = [threading.Thread(target=place) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with database.read() as conn:
        assert len(holds.open_holds(conn)) == 1
    assert len(set(placed)) == 1
    assert len(placed) == 4
