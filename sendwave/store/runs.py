"""Calendar jobs that ran: one row per job and local date, so that a date runs once, whatever clocks and nodes do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, select, update

from sendwave.store.tables import runs
from sendwave.store.upsert import upsert

PATIENCE: Final = timedelta(hours=2)
"""A run that did not finish in this time died with its process; another takes its date over."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job, for one local date. `finished_at` is None while it works, or when it died."""

    job: str
    scheduled_on: date
    started_at: datetime
    finished_at: datetime | None
    summary: Mapping[str, Any]


def begin(conn: Connection, job: str, scheduled_on: date, now: datetime) -> bool:
    """Take a date: True for exactly one caller, unless that one died `PATIENCE` ago."""
    first = upsert(conn, runs).values(job=job, scheduled_on=scheduled_on, started_at=now, summary={})
    if conn.execute(first.on_conflict_do_nothing().returning(runs.c.job)).scalar() is not None:
        return True
    mine = (runs.c.job == job) & (runs.c.scheduled_on == scheduled_on)
    died = mine & runs.c.finished_at.is_(None) & (runs.c.started_at <= now - PATIENCE)
    return conn.execute(update(runs).where(died).values(started_at=now)).rowcount == 1


def finish(conn: Connection, job: str, scheduled_on: date, summary: Mapping[str, Any], now: datetime) -> None:
    """The date is done."""
    mine = (runs.c.job == job) & (runs.c.scheduled_on == scheduled_on)
    conn.execute(update(runs).where(mine).values(finished_at=now, summary=dict(summary)))


def give_up(conn: Connection, job: str, scheduled_on: date) -> None:
    """The run failed in a way that may pass: the date is free again."""
    mine = (runs.c.job == job) & (runs.c.scheduled_on == scheduled_on) & runs.c.finished_at.is_(None)
    conn.execute(runs.delete().where(mine))


def abandon(conn: Connection) -> None:
    """Whoever runs anything is dead: those dates are free again."""
    conn.execute(runs.delete().where(runs.c.finished_at.is_(None)))


def latest(conn: Connection, job: str) -> Run | None:
    """The run of the latest date; None before the first."""
    newest = select(runs).where(runs.c.job == job).order_by(runs.c.scheduled_on.desc()).limit(1)
    row = conn.execute(newest).mappings().one_or_none()
    return None if row is None else Run(**row)
