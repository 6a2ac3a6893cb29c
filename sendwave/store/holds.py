"""The set of holds. Placing one twice is placing it once; lifting takes one reason out; both are journalled."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Executable, and_, bindparam, or_, select, update

from sendwave.errors import StaleTransition
from sendwave.rules.holds import Hold, blocking
from sendwave.store import journal, upsert
from sendwave.store.tables import holds

_COLUMNS = [holds.c[name] for name in Hold.__dataclass_fields__]
_OPEN = select(*_COLUMNS).where(holds.c.lifted_at.is_(None)).order_by(holds.c.id)  # built once: asked for every batch
_OPEN_FOR = _OPEN.where(or_(holds.c.campaign_id == bindparam("campaign"), holds.c.campaign_id.is_(None)))
_NOW: Final = bindparam("now", type_=holds.c.until.type)
_LIFT: Final = (
    update(holds)
    .where(holds.c.lifted_at.is_(None))
    .values(lifted_at=_NOW, lifted_by=bindparam("who"))
    .returning(holds.c.campaign_id, holds.c.wave, holds.c.provider, holds.c.route, holds.c.reason, holds.c.kind)
)
_EXPIRE: Final = _LIFT.where(holds.c.until <= _NOW)


def place(
    conn: Connection,
    *,
    kind: str,
    reason: str,
    by: str,
    now: datetime,
    campaign_id: int | None = None,
    wave: int | None = None,
    provider: str | None = None,
    route: str | None = None,
    detail: str = "",
    until: datetime | None = None,
) -> int:
    """Add a hold and return its id; an open one of the same scope and reason stays the one it is.

    Placing it again only renews `detail` and `until`: what it waits for may have moved.
    """
    scope = {"campaign_id": campaign_id, "wave": wave, "provider": provider, "route": route}
    row = {**scope, "kind": kind, "reason": reason, "detail": detail, "since": now, "by": by, "until": until}
    placed = conn.execute(upsert.first(conn.dialect.name, holds).returning(holds.c.id), row).scalar()
    if placed is None:
        return _renew(conn, scope, reason, detail, until)
    journal.write(
        conn,
        at=now,
        actor=by,
        action="hold.place",
        campaign_id=campaign_id,
        wave=wave,
        provider=provider,
        reason=reason,
        evidence={"kind": kind, "detail": detail, "route": route, "until": until},
    )
    return int(placed)


def lift(
    conn: Connection,
    *,
    reason: str,
    by: str,
    now: datetime,
    campaign_id: int | None = None,
    wave: int | None = None,
    provider: str | None = None,
    route: str | None = None,
) -> int:
    """Take one reason of exactly that scope out of the set; returns the number of holds lifted, 0 where none was."""
    scope = {"campaign_id": campaign_id, "wave": wave, "provider": provider, "route": route}
    return _lift(conn, _LIFT.where(_exactly(scope, reason)), by, now)


def lift_kinds(
    conn: Connection,
    kinds: Collection[str],
    *,
    campaign_id: int,
    by: str,
    now: datetime,
    provider: str | None = None,
) -> int:
    """Lift every hold of those kinds a campaign has; with `provider`, only those of that lane."""
    chosen = and_(holds.c.campaign_id == campaign_id, holds.c.kind.in_(list(kinds)))
    if provider is not None:
        chosen = and_(chosen, holds.c.provider == provider)
    return _lift(conn, _LIFT.where(chosen), by, now)


def expire(conn: Connection, now: datetime) -> int:
    """Lift the holds whose `until` has come; they stopped nothing any more from that instant."""
    return _lift(conn, _EXPIRE, "clock", now)


def open_holds(conn: Connection, campaign_id: int | None = None) -> list[Hold]:
    """The set, oldest first; for one campaign, with those that cover every campaign."""
    rows = conn.execute(_OPEN) if campaign_id is None else conn.execute(_OPEN_FOR, {"campaign": campaign_id})
    return [Hold(**row) for row in rows.mappings()]


def blocks(
    conn: Connection,
    campaign_id: int,
    *,
    now: datetime,
    wave: int | None = None,
    provider: str | None = None,
    route: str | None = None,
) -> list[Hold]:
    """The holds that stop this work now. A pacer asks `open_holds` once and `rules.holds.blocking` for each batch."""
    return blocking(
        open_holds(conn, campaign_id), campaign_id=campaign_id, wave=wave, provider=provider, route=route, now=now
    )


def _exactly(scope: dict[str, Any], reason: str) -> ColumnElement[bool]:
    same = [holds.c[name].is_(None) if value is None else holds.c[name] == value for name, value in scope.items()]
    return and_(*same, holds.c.reason == reason)


def _renew(conn: Connection, scope: dict[str, Any], reason: str, detail: str, until: datetime | None) -> int:
    renewed = conn.execute(
        update(holds)
        .where(_exactly(scope, reason), holds.c.lifted_at.is_(None))
        .values(detail=detail, until=until)
        .returning(holds.c.id)
    ).scalar()
    if renewed is None:
        raise StaleTransition(f"the hold {reason!r} was lifted while it was being placed again: look and decide again")
    return int(renewed)


def _lift(conn: Connection, asked: Executable, by: str, now: datetime) -> int:
    lifted = conn.execute(asked, {"now": now, "who": by}).all()
    for row in lifted:
        journal.write(
            conn,
            at=now,
            actor=by,
            action="hold.lift",
            campaign_id=row.campaign_id,
            wave=row.wave,
            provider=row.provider,
            reason=row.reason,
            evidence={"kind": row.kind, "route": row.route},
        )
    return len(lifted)
