"""How far each CRM was read, what it was last given, and when the daemon turns to it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, or_, select, update

from sendwave.store.tables import exchanges
from sendwave.store.upsert import upsert

Way = Literal["pull", "push"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One CRM by its name in sendwave.yaml; `pushed_file` is the registry id of the scores it has."""

    crm: str
    cursor: str = ""
    pulled_at: datetime | None = None
    pushed_file: int | None = None
    pushed_at: datetime | None = None
    refused: tuple[str, ...] = ()
    next_pull: datetime | None = None
    next_push: datetime | None = None

    def due(self, way: Way) -> datetime | None:
        """When the daemon may turn to it again; None for now."""
        return self.next_pull if way == "pull" else self.next_push


def get(conn: Connection, crm: str) -> Exchange:
    """What is known about that CRM; an empty record before the first exchange."""
    row = conn.execute(select(exchanges).where(exchanges.c.crm == crm)).one_or_none()
    if row is None:
        return Exchange(crm)
    return Exchange(**{**row._mapping, "refused": tuple(row.refused)})  # noqa: SLF001  # SQLAlchemy's public name


def pulled(conn: Connection, crm: str, cursor: str, now: datetime) -> None:
    """The CRM was read up to `cursor`, and all of it landed."""
    _put(conn, crm, {"cursor": cursor, "pulled_at": now})


def pushed(conn: Connection, crm: str, file_id: int, refused: Sequence[str], now: datetime) -> None:
    """The CRM has the scores of that file, but for the contacts it refused."""
    _put(conn, crm, {"pushed_file": file_id, "pushed_at": now, "refused": list(refused)})


def claim(conn: Connection, crm: str, way: Way, *, now: datetime, until: datetime) -> bool:
    """Take a pull or push into hand until then: True for one caller, once its time has come."""
    conn.execute(upsert(conn, exchanges).values(crm=crm).on_conflict_do_nothing())
    due = exchanges.c[f"next_{way}"]
    free = update(exchanges).where(exchanges.c.crm == crm, or_(due.is_(None), due <= now))
    return conn.execute(free.values({due.name: until})).rowcount == 1


def plan_next(conn: Connection, crm: str, way: Way, at: datetime) -> None:
    """Not before that instant again."""
    conn.execute(update(exchanges).where(exchanges.c.crm == crm).values({f"next_{way}": at}))


def _put(conn: Connection, crm: str, values: dict[str, object]) -> None:
    statement = upsert(conn, exchanges).values(crm=crm, **values)
    conn.execute(statement.on_conflict_do_update(index_elements=["crm"], set_=values))
