"""How far each CRM was read, and what it was last given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from sendwave.store.tables import exchanges
from sendwave.store.upsert import upsert


@dataclass(frozen=True, slots=True)
class Exchange:
    """One CRM by its name in sendwave.yaml; `pushed_file` is the registry id of the scores it has."""

    crm: str
    cursor: str = ""
    pulled_at: datetime | None = None
    pushed_file: int | None = None
    pushed_at: datetime | None = None
    refused: tuple[str, ...] = ()


def get(conn: Connection, crm: str) -> Exchange:
    """What is known about that CRM; an empty record before the first exchange."""
    row = conn.execute(select(exchanges).where(exchanges.c.crm == crm)).one_or_none()
    if row is None:
        return Exchange(crm)
    return Exchange(crm, row.cursor, row.pulled_at, row.pushed_file, row.pushed_at, tuple(row.refused))


def pulled(conn: Connection, crm: str, cursor: str, now: datetime) -> None:
    """The CRM was read up to `cursor`, and all of it landed."""
    _put(conn, crm, {"cursor": cursor, "pulled_at": now})


def pushed(conn: Connection, crm: str, file_id: int, refused: Sequence[str], now: datetime) -> None:
    """The CRM has the scores of that file, but for the contacts it refused."""
    _put(conn, crm, {"pushed_file": file_id, "pushed_at": now, "refused": list(refused)})


def _put(conn: Connection, crm: str, values: dict[str, object]) -> None:
    statement = upsert(conn, exchanges).values(crm=crm, **values)
    conn.execute(statement.on_conflict_do_update(index_elements=["crm"], set_=values))
