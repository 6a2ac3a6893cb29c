"""The inbox: what an ESP told us, raw, durable before it is acknowledged, kept until the janitor removes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, func, insert, select, update

from sendwave.errors import StaleTransition
from sendwave.store.tables import inbox

_LOOK_UP: Final = 500

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
        conn.execute(_PUT, rows)
    return len(rows)


@dataclass(frozen=True, slots=True)
class Choice:
    """Reports that were read before: since an instant, of one route, or those somebody did not understand."""

    since: datetime | None = None
    route: str | None = None
    unknown_only: bool = False

    @property
    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        """As SQL."""
        of = inbox.c
        told: list[ColumnElement[bool]] = [of.status.in_((Status.DONE.value, Status.FAILED.value))]
        told += [of.received_at >= self.since] if self.since is not None else []
        told += [of.source == self.route] if self.route is not None else []
        told += [(of.unknown > 0) | (of.status == Status.FAILED.value)] if self.unknown_only else []
        return tuple(told)


class Found(NamedTuple):
    """What was found in one report."""

    events: int
    unknown: int = 0
    unmatched: int = 0


def waiting(conn: Connection, limit: int, max_bytes: int) -> list[Received]:
    """The oldest unread reports, at most `limit`, and no more than `max_bytes` of bodies (but always one)."""
    return _oldest(conn, _UNREAD, limit, max_bytes)


def kept(conn: Connection, choice: Choice, *, after: int, limit: int, max_bytes: int) -> list[Received]:
    """As `waiting`, of the reports chosen, behind that id."""
    return _oldest(conn, _asking(*choice.conditions, inbox.c.id > after), limit, max_bytes)


def kept_ids(conn: Connection, choice: Choice) -> list[int]:
    """All reports chosen, the oldest first."""
    return list(conn.execute(select(inbox.c.id).where(*choice.conditions).order_by(inbox.c.id)).scalars())


def understood(conn: Connection, ids: Iterable[int]) -> dict[int, Found]:
    """What was found in those of these reports that could be read."""
    of, found = inbox.c, {}
    for chunk in _chunks(ids):
        asked = select(of.id, of.events, of.unknown, of.unmatched).where(
            of.id.in_(chunk), of.status == Status.DONE.value
        )
        found.update({row[0]: Found(*row[1:]) for row in conn.execute(asked)})
    return found


class _Asking(NamedTuple):
    """Statements about the reports of a choice, the oldest first: their sizes, and those from one id to another."""

    sizes: Select[Any]
    bodies: Select[Any]


def _asking(*conditions: ColumnElement[bool]) -> _Asking:
    of = inbox.c
    sizes = select(of.id, func.length(of.body)).where(*conditions).order_by(of.id).limit(bindparam("most"))
    bodies = select(of.id, of.source, of.headers, of.body, of.received_at).where(*conditions).order_by(of.id)
    return _Asking(sizes, bodies.where(of.id.between(bindparam("first"), bindparam("last"))))


_UNREAD: Final = _asking(inbox.c.status == Status.NEW.value)


def _oldest(conn: Connection, asking: _Asking, limit: int, max_bytes: int) -> list[Received]:
    sizes = conn.execute(asking.sizes, {"most": limit})
    ids: list[int] = []
    total = 0
    for report_id, size in sizes.all():
        total += size
        if ids and total > max_bytes:
            break
        ids.append(report_id)
    if not ids:
        return []
    return [Received(*row) for row in conn.execute(asking.bodies, {"first": ids[0], "last": ids[-1]})]


def done(conn: Connection, found: Mapping[int, Found | int], now: datetime, *, again: bool = False) -> None:
    """Mark reports as read, with what was found in each (or only how many events).

    `again`: they were read before. Raises StaleTransition when another reader was first.
    """
    told = {i: n if isinstance(n, Found) else Found(n) for i, n in found.items()}
    rows = [
        {"row": i, "to": Status.DONE.value, "n": n.events, "odd": n.unknown, "lost": n.unmatched, "why": None}
        for i, n in told.items()
    ]
    _settle(conn, rows, now, again=again)


def failed(conn: Connection, errors: Mapping[int, str], now: datetime, *, again: bool = False) -> None:
    """Mark reports as unreadable: {id: why}; their bodies stay. Raises StaleTransition as `done` does."""
    rows = [
        {"row": i, "to": Status.FAILED.value, "n": 0, "odd": 0, "lost": 0, "why": why[:ERROR_LENGTH]}
        for i, why in errors.items()
    ]
    _settle(conn, rows, now, again=again)


def _settle(conn: Connection, rows: Sequence[Mapping[str, object]], now: datetime, *, again: bool) -> None:
    if not rows:
        return
    if conn.execute(_READ[again], [{**row, "now": now} for row in rows]).rowcount != len(rows):
        raise StaleTransition("another process has read these reports already")


_PUT: Final = insert(inbox)
_READ: Final = {
    again: update(inbox)
    .where(
        inbox.c.id == bindparam("row"),
        (inbox.c.status != Status.NEW.value) if again else (inbox.c.status == Status.NEW.value),
    )
    .values(
        status=bindparam("to"),
        events=bindparam("n"),
        error=bindparam("why"),
        processed_at=bindparam("now", type_=inbox.c.processed_at.type),
        unknown=bindparam("odd"),
        unmatched=bindparam("lost"),
    )
    for again in (False, True)
}


def backlog(conn: Connection) -> tuple[int, datetime | None]:
    """(unread reports, when the oldest came)."""
    statement = select(func.count(), func.min(inbox.c.received_at)).where(inbox.c.status == Status.NEW)
    count, oldest = conn.execute(statement).one()
    return int(count), oldest


def again(conn: Connection, ids: Iterable[int]) -> int:
    """Put failed reports back in the queue, once the adapter can read them; returns how many."""
    statement = update(inbox).where(inbox.c.id.in_(list(ids)), inbox.c.status == Status.FAILED.value)
    return conn.execute(statement.values(status=Status.NEW.value, error=None, processed_at=None)).rowcount


def failures(conn: Connection, limit: int = 20) -> list[tuple[int, str, datetime, str]]:
    """The latest reports nobody could read: (id, route, when it came, why)."""
    of = inbox.c
    asked = select(of.id, of.source, of.received_at, of.error).where(of.status == Status.FAILED.value)
    return [(row[0], row[1], row[2], row[3] or "") for row in conn.execute(asked.order_by(of.id.desc()).limit(limit))]


def forget(conn: Connection, before: datetime, limit: int | None = None) -> int:
    """Delete reports read before that instant, at most `limit`; failed ones stay. Returns how many."""
    old = select(inbox.c.id).where(inbox.c.status == Status.DONE.value, inbox.c.processed_at < before)
    statement = delete(inbox).where(inbox.c.id.in_(old.order_by(inbox.c.id).limit(limit)))
    return conn.execute(statement).rowcount


def _chunks(ids: Iterable[int]) -> Iterator[list[int]]:
    iterator = iter(ids)
    while chunk := list(islice(iterator, _LOOK_UP)):
        yield chunk
