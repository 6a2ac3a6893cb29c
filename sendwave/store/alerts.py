"""Alerts said and notices to deliver.

An alert row and the notices that carry it are written in one transaction, so nothing is said twice or forgotten however
often the rules are asked. A notice is `sending` while somebody has it in hand; one that stayed so after a crash goes
again under the same key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Connection, and_, func, select, update

from sendwave.store.tables import alerts, meta, notices
from sendwave.store.upsert import upsert

EVERYBODY: Final = 0
"""The contact of a word that is about no single one: "4,000 would have been alerted"."""

_EVALUATED: Final = "alerts.scores_file"


@dataclass(frozen=True, slots=True)
class Waiting:
    """One notice of the outbox; `attempts` counts those made before."""

    id: int
    channel: str
    rule: str
    owner: str
    document: Mapping[str, Any]
    attempts: int
    created_at: datetime


def evaluated(conn: Connection) -> int | None:
    """The scores file (registry id) the rules were last asked about."""
    found = conn.execute(select(meta.c.value).where(meta.c.key == _EVALUATED)).scalar()
    return None if found is None else int(found)


def set_evaluated(conn: Connection, file_id: int) -> None:
    """Remember that the rules were asked about that scores file."""
    statement = upsert(conn, meta).values(key=_EVALUATED, value=str(file_id))
    conn.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"value": str(file_id)}))


def told(conn: Connection, rule: str, since: date) -> list[int]:
    """Contacts that rule spoke about on `since` or later."""
    about = (alerts.c.rule == rule, alerts.c.scored_on >= since, alerts.c.contact != EVERYBODY)
    return [int(row.contact) for row in conn.execute(select(alerts.c.contact).where(*about).distinct())]


def said_on(conn: Connection, rule: str, day: date) -> int:
    """Contacts that rule spoke about on one day of scores."""
    about = (alerts.c.rule == rule, alerts.c.scored_on == day, alerts.c.contact != EVERYBODY)
    return int(conn.execute(select(func.count()).where(*about)).scalar_one())


def add(conn: Connection, rule: str, day: date, rows: Iterable[Mapping[str, Any]], now: datetime) -> list[int]:
    """Note alerts (contact, score, before); returns the contacts that were not noted for that day before."""
    values = [
        {
            "rule": rule,
            "contact": row["contact"],
            "scored_on": day,
            "raised_at": now,
            "score": row.get("score"),
            "before": row.get("before"),
        }
        for row in rows
    ]
    if not values:
        return []
    statement = upsert(conn, alerts).on_conflict_do_nothing().returning(alerts.c.contact)
    return [int(row.contact) for row in conn.execute(statement, values)]


def enqueue(
    conn: Connection, *, channel: str, rule: str, owner: str, document: Mapping[str, Any], now: datetime
) -> None:
    """Put a notice into the outbox."""
    values = {"channel": channel, "rule": rule, "owner": owner, "document": dict(document)}
    conn.execute(notices.insert().values(**values, status="waiting", not_before=now, created_at=now))


def claim(conn: Connection, *, now: datetime, until: datetime) -> Waiting | None:
    """Take the oldest notice that is due into hand until then, when others may take it; None when none is due."""
    due = and_(notices.c.status.in_(("waiting", "sending")), notices.c.not_before <= now)
    chosen = select(notices.c.id).where(due).order_by(notices.c.not_before, notices.c.id).limit(1)
    if conn.dialect.name == "postgresql":
        chosen = chosen.with_for_update(skip_locked=True)
    taken = update(notices).where(notices.c.id == chosen.scalar_subquery(), due)
    row = conn.execute(taken.values(status="sending", not_before=until).returning(notices)).one_or_none()
    if row is None:
        return None
    return Waiting(row.id, row.channel, row.rule, row.owner, row.document, row.attempts, row.created_at)


def sent(conn: Connection, notice_id: int, now: datetime) -> None:
    """The receiver has it."""
    values = {"status": "sent", "sent_at": now, "error": None, "attempts": notices.c.attempts + 1}
    conn.execute(update(notices).where(notices.c.id == notice_id).values(values))


def failed(conn: Connection, notice_id: int, error: str, again_at: datetime | None) -> None:
    """It was not delivered: to be tried again at that instant, or never."""
    values: dict[str, Any] = {"status": "failed" if again_at is None else "waiting", "error": error}
    values["attempts"] = notices.c.attempts + 1
    if again_at is not None:
        values["not_before"] = again_at
    conn.execute(update(notices).where(notices.c.id == notice_id).values(values))


def outbox(conn: Connection) -> dict[str, int]:
    """Notices by status."""
    counted = select(notices.c.status, func.count().label("n")).group_by(notices.c.status)
    return {row.status: int(row.n) for row in conn.execute(counted)}
