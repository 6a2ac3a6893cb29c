"""The inbox: what an ESP told us, raw, durable before it is acknowledged, kept until the janitor removes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from sendwave.errors import StaleTransition
from sendwave.store.tables import inbox

ERROR_LENGTH: Final = 2_000
"""Characters of a failure kept with its report."""


class Status(StrEnum):
    """What became of a report."""

    NEW = "new"
    DONE = "done"
    FAILED = "failed"  # could not be read: kept with its error, the feed goes on


class Report(Protocol):
    """What is kept of a report: an adapter's `RawReport`, or one dispatch wrote itself."""

    @property
    def body(self) -> bytes: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Received:
    """One stored report."""

    id: int
    route: str
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime


def put(conn: Connection, route: str, reports: Sequence[Report], now: datetime) -> int:
    """One durable row per report, in their order; returns how many. Acknowledge them only after the commit."""
    rows = [
        {
            "source": route,
            "headers": {name.lower(): value for name, value in report.headers.items()},
            "body": report.body,
            "received_at": now,
            "status": Status.NEW.value,
        }
        for report in reports
    ]
    if rows:
        conn.execute(insert(inbox), rows)
    return len(rows)


def waiting(conn: Connection, limit: int, max_bytes: int) -> list[Received]:
    """The oldest unread reports, at most `limit`, and no more than `max_bytes` of bodies (but always one)."""
    sizes = conn.execute(
        select(inbox.c.id, func.length(inbox.c.body))
        .where(inbox.c.status == Status.NEW)
        .order_by(inbox.c.id)
        .limit(limit)
    )
    ids: list[int] = []
    total = 0
    for report_id, size in sizes.all():
        total += size
        if ids and total > max_bytes:
            break
        ids.append(report_id)
    if not ids:
        return []
    columns = (inbox.c.id, inbox.c.source, inbox.c.headers, inbox.c.body, inbox.c.received_at)
    statement = select(*columns).where(inbox.c.status == Status.NEW, inbox.c.id.between(ids[0], ids[-1]))
    return [Received(*row) for row in conn.execute(statement.order_by(inbox.c.id))]


def done(conn: Connection, events: Mapping[int, int], now: datetime) -> None:
    """Mark reports as read: {id: events found in it}. Raises StaleTransition when another reader was first."""
    _settle(conn, [{"row": i, "to": Status.DONE.value, "n": n, "why": None} for i, n in events.items()], now)


def failed(conn: Connection, errors: Mapping[int, str], now: datetime) -> None:
    """Mark reports as unreadable: {id: why}; their bodies stay. Raises StaleTransition as `done` does."""
    rows = [{"row": i, "to": Status.FAILED.value, "n": 0, "why": why[:ERROR_LENGTH]} for i, why in errors.items()]
    _settle(conn, rows, now)


def _settle(conn: Connection, rows: list[dict[str, object]], now: datetime) -> None:
    if not rows:
        return
    statement = (
        update(inbox)
        .where(inbox.c.id == bindparam("row"), inbox.c.status == Status.NEW.value)
        .values(status=bindparam("to"), events=bindparam("n"), error=bindparam("why"), processed_at=now)
    )
    if conn.execute(statement, rows).rowcount != len(rows):
        raise StaleTransition("another process has read these reports already")


def backlog(conn: Connection) -> tuple[int, datetime | None]:
    """(unread reports, when the oldest came)."""
    statement = select(func.count(), func.min(inbox.c.received_at)).where(inbox.c.status == Status.NEW)
    count, oldest = conn.execute(statement).one()
    return int(count), oldest


def again(conn: Connection, ids: Iterable[int]) -> int:
    """Put failed reports back in the queue, once the adapter can read them; returns how many."""
    statement = update(inbox).where(inbox.c.id.in_(list(ids)), inbox.c.status == Status.FAILED.value)
    return conn.execute(statement.values(status=Status.NEW.value, error=None, processed_at=None)).rowcount


def forget(conn: Connection, before: datetime) -> int:
    """Delete reports read before that instant; failed ones stay. Returns how many."""
    statement = delete(inbox).where(inbox.c.status == Status.DONE.value, inbox.c.processed_at < before)
    return conn.execute(statement).rowcount
