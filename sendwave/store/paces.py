"""Paces: what each route and lane has let through. One row per key, spent in one transaction, locked in one order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from sendwave.rules.throttle import Spent
from sendwave.store import upsert
from sendwave.store.tables import paces

_THESE: Final = paces.c.key.in_(bindparam("keys", expanding=True))
_ROWS: Final = select(paces).where(_THESE)
_LOCK: Final = select(paces.c.key).where(_THESE).order_by(paces.c.key).with_for_update()
_SPEND: Final = (
    update(paces)
    .where(paces.c.key == bindparam("row"))
    .values(
        tat=bindparam("new_tat"),
        day=bindparam("new_day"),
        sent_today=bindparam("new_today"),
        days=bindparam("new_days"),
    )
)


def route_key(route: str) -> str:
    """The row of a whole route."""
    return f"route:{route}"


def lane_key(route: str, provider: str) -> str:
    """The row of a mailbox provider on a route; all campaigns share it, as the provider sees one sender."""
    return f"lane:{route}/{provider}"


def look(conn: Connection, keys: Collection[str]) -> dict[str, Spent]:
    """The rows as they are; a key nobody spent from has an empty one."""
    rows = conn.execute(_ROWS, {"keys": list(keys)})
    found = {row.key: Spent(row.tat, row.day, row.sent_today, row.days) for row in rows}
    return {key: found.get(key, Spent()) for key in keys}


def lock(conn: Connection, keys: Collection[str]) -> dict[str, Spent]:
    """The rows, ours until the transaction ends.

    They are locked in the order of their keys: two pacers that took them in varying order would deadlock.
    """
    if not keys:
        return {}
    ordered = sorted(keys)
    missing = [{"key": key, "tat": 0.0, "sent_today": 0, "days": 0} for key in ordered]
    conn.execute(upsert.first(conn.dialect.name, paces), missing)
    conn.execute(_LOCK, {"keys": ordered}).all()
    return look(conn, keys)


def spend(conn: Connection, rows: Mapping[str, Spent]) -> None:
    """Write rows back that `lock` gave."""
    if rows:
        values = [
            {"row": key, "new_tat": spent.tat, "new_day": spent.day, "new_today": spent.today, "new_days": spent.days}
            for key, spent in sorted(rows.items())
        ]
        conn.execute(_SPEND, values)
