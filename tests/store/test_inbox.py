from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from sendwave.errors import StaleTransition
from sendwave.esp.base import RawReport
from sendwave.store import inbox
from sendwave.store.database import Database

PLENTY = 1 << 20


def _put(database: Database, now: datetime, *bodies: bytes) -> list[inbox.Received]:
    with database.write() as conn:
        inbox.put(conn, "main", [RawReport(body, {"Content-Type": "text/plain"}) for body in bodies], now)
    with database.read() as conn:
        return inbox.waiting(conn, 100, PLENTY)


def test_reports_come_out_in_order_as_they_came(database: Database, now: datetime) -> None:
    found = _put(database, now, b"one", b"\x00\xff two", b"")
    assert [r.body for r in found] == [b"one", b"\x00\xff two", b""]
    assert found[0].headers == {"content-type": "text/plain"}
    assert (found[0].route, found[0].received_at) == ("main", now)
    with database.read() as conn:
        assert inbox.backlog(conn) == (3, now)


def test_a_read_report_is_not_given_again(database: Database, now: datetime) -> None:
    one, two, three = _put(database, now, b"1", b"2", b"3")
    with database.write() as conn:
        inbox.done(conn, {one.id: 7}, now)
        inbox.failed(conn, {three.id: "no JSON: " + "x" * 5_000}, now)
    with database.read() as conn:
        assert [r.id for r in inbox.waiting(conn, 100, PLENTY)] == [two.id]
        assert inbox.backlog(conn)[0] == 1


def test_a_second_reader_is_told(database: Database, now: datetime) -> None:
    (one,) = _put(database, now, b"1")
    with database.write() as conn:
        inbox.done(conn, {one.id: 1}, now)
    with pytest.raises(StaleTransition), database.write() as conn:
        inbox.done(conn, {one.id: 1}, now)


def test_limits_bound_rows_and_bytes_but_never_starve(sqlite_database: Database, now: datetime) -> None:
    _put(sqlite_database, now, b"x" * 1_000, b"y" * 100, b"z" * 100)
    with sqlite_database.read() as conn:
        assert len(inbox.waiting(conn, 2, PLENTY)) == 2
        assert len(inbox.waiting(conn, 10, 500)) == 1
        assert len(inbox.waiting(conn, 10, 1_100)) == 2
        assert inbox.waiting(conn, 0, PLENTY) == []


def test_a_failed_report_can_be_tried_again_and_old_ones_are_forgotten(
    sqlite_database: Database, now: datetime
) -> None:
    one, two = _put(sqlite_database, now, b"1", b"2")
    with sqlite_database.write() as conn:
        inbox.done(conn, {one.id: 1}, now)
        inbox.failed(conn, {two.id: "odd"}, now)
        assert inbox.again(conn, [one.id, two.id]) == 1
        assert [r.id for r in inbox.waiting(conn, 10, PLENTY)] == [two.id]
        assert inbox.forget(conn, now + timedelta(days=1)) == 1
        assert inbox.backlog(conn)[0] == 1


def test_nothing_is_stored_when_nothing_came(sqlite_database: Database, now: datetime) -> None:
    assert _put(sqlite_database, now) == []
