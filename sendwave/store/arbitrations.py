"""Runs of the arbitration: who won whom over what, kept for comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from sendwave.store.tables import arbitrations


@dataclass(frozen=True, slots=True)
class Run:
    """One run; `lost` holds {loser, winner, reason, people} by campaign name."""

    id: int
    asked_at: datetime
    asked_by: str
    lost: Sequence[Mapping[str, Any]]


def add(conn: Connection, lost: Sequence[Mapping[str, Any]], *, by: str, now: datetime) -> int:
    """Keep a run; returns its number."""
    row = {"asked_at": now, "asked_by": by, "lost": [dict(one) for one in lost]}
    return int(conn.execute(insert(arbitrations).values(row).returning(arbitrations.c.id)).scalar_one())


def runs(conn: Connection, limit: int = 20) -> list[Run]:
    """The newest runs, newest first."""
    found = conn.execute(select(arbitrations).order_by(arbitrations.c.id.desc()).limit(limit))
    return [Run(row.id, row.asked_at, row.asked_by, row.lost) for row in found]
