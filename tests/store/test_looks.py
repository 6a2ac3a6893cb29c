from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from campaigns_made import sending
from mail_sent import handed, minutes
from sqlalchemy import insert, update

from sendwave.store import batches, looks, tables, tallies
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Connection, Database
from sendwave.store.looks import Look


def count(conn: Connection, batch: int, people: int, **counted: int) -> None:
    """Let so many recipients of a batch be counted, as feedback does."""
    for tally, n in counted.items():
        rows = np.arange(n, dtype=np.int64)
        marks = tallies.Marks(np.full(n, batch), rows, np.zeros(n, dtype=np.int64), [tally])
        tallies.write(conn, tallies.mark(conn, marks, {batch: people})[1])


def figures(look: Look, conn: Connection, now: datetime) -> tuple[float, dict[str, float]]:
    sheet = look.refresh(conn, now).sheet(now, {})
    return float(sheet.accepted.sum()), {name: float(column.sum()) for name, column in sheet.tallies.items()}


@pytest.fixture
def campaign(database: Database, now: datetime) -> Campaign:
    with database.write() as conn:
        return sending(conn, now - timedelta(days=2))


def test_a_look_reads_what_changed_and_says_what_a_fresh_one_says(
    database: Database, campaign: Campaign, now: datetime
) -> None:
    look = Look(campaign.id)
    with database.write() as conn:
        old = [handed(conn, campaign, now - minutes(600 - n), people=100) for n in range(30)]
        for batch in old:
            count(conn, batch, 100, delivered=95)
    with database.read() as conn:
        assert figures(look, conn, now) == (3_000, {"delivered": 2_850})
        first = look.changes
    with database.write() as conn:
        count(conn, old[3], 100, complaint=2, delivered=97)
        new = handed(conn, campaign, now, people=50)
        count(conn, new, 50, hard_bounce=1)
    later = now + minutes(1)
    with database.read() as conn:
        assert figures(look, conn, later) == (3_050, {"delivered": 2_852, "complaint": 2, "hard_bounce": 1})
        assert look.changes < first / 4
        assert figures(look, conn, later) == figures(Look(campaign.id), conn, later)


def test_a_batch_whose_fate_is_settled_later_is_noticed(database: Database, campaign: Campaign, now: datetime) -> None:
    look = Look(campaign.id)
    with database.write() as conn:
        batch = handed(conn, campaign, now - minutes(60), people=80, status="unknown")
    with database.read() as conn:
        assert figures(look, conn, now) == (0, {})
    with database.write() as conn:
        batches.settle(conn, batch, "accept", batches.Exceptions(refused=[(0, "5.1.1", "no")]), now=now)
    with database.read() as conn:
        sheet = look.refresh(conn, now + minutes(1)).sheet(now, {})
    assert (sheet.accepted.sum(), sheet.refused.sum()) == (79, 1)


def test_a_commit_seen_after_a_later_one_is_not_missed(database: Database, campaign: Campaign, now: datetime) -> None:
    """On PostgreSQL an entry of the log can become visible after one with a higher number."""
    look = Look(campaign.id)
    with database.write() as conn:
        batch = handed(conn, campaign, now - minutes(60), people=80)
        conn.execute(insert(tables.counted).values(id=900, batches=b""))
    with database.read() as conn:
        assert figures(look, conn, now)[1] == {}
    with database.write() as conn:
        conn.execute(insert(tables.tallies).values(batch_id=batch, tally="complaint", bits=b"\x07", n=3))
        conn.execute(insert(tables.counted).values(id=880, batches=np.array([batch], dtype=np.int64).tobytes()))
    with database.read() as conn:
        assert figures(look, conn, now + minutes(1))[1] == {"complaint": 3}


def test_everything_is_read_again_now_and_then_and_when_the_clock_steps_back(
    sqlite_database: Database, now: datetime
) -> None:
    with sqlite_database.write() as conn:
        campaign = sending(conn, now - timedelta(days=2))
        batch = handed(conn, campaign, now - minutes(60), people=80)
        handed(conn, campaign, now, people=1)
    look = Look(campaign.id)
    with sqlite_database.read() as conn:
        figures(look, conn, now)
    with sqlite_database.write() as conn:  # behind the trails' back
        conn.execute(insert(tables.tallies).values(batch_id=batch, tally="complaint", bits=b"\x07", n=3))
        conn.execute(update(tables.batches).where(tables.batches.c.id == batch).values(accepted=70))
    with sqlite_database.read() as conn:
        assert figures(look, conn, now + minutes(1)) == (81, {})
        assert figures(look, conn, now + looks.AFRESH) == (71, {"complaint": 3})
        assert figures(look, conn, now) == (71, {"complaint": 3})


def test_a_look_that_fell_behind_the_log_reads_everything(sqlite_database: Database, now: datetime) -> None:
    with sqlite_database.write() as conn:
        campaign = sending(conn, now - timedelta(days=2))
        batch = handed(conn, campaign, now - minutes(60), people=80)
        count(conn, batch, 80, delivered=5)
    look = Look(campaign.id)
    with sqlite_database.read() as conn:
        figures(look, conn, now)
    with sqlite_database.write() as conn:
        count(conn, batch, 80, delivered=9)
        conn.execute(insert(tables.counted).values(id=looks.KEPT + 5_000, batches=b""))
        looks.trim(conn)
        assert conn.execute(tables.counted.select()).all() == [(looks.KEPT + 5_000, b"")]
    with sqlite_database.read() as conn:
        assert figures(look, conn, now + minutes(1))[1] == {"delivered": 9}


def test_lanes_with_people_left(sqlite_database: Database, now: datetime) -> None:
    with sqlite_database.write() as conn:
        campaign = sending(conn, now - timedelta(days=2))
        handed(conn, campaign, now, provider="gmail")
        handed(conn, campaign, now, provider="orange", status="ready", accepted=0)
        assert looks.waiting(conn, campaign.id, ["gmail", "orange", "sfr"]) == {"orange"}
