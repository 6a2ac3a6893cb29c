"""How a row changes status: asked of the lifecycle table, applied as a compare-and-set UPDATE, journalled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, update

from sendwave.errors import NotAllowed, NotFound, StaleTransition
from sendwave.rules import lifecycle
from sendwave.store import journal, turnstile
from sendwave.store.tables import campaigns, lanes, waves

_STAMPS: Final = {
    "campaign.start": "started_at",
    "campaign.complete": "ended_at",
    "campaign.cancel": "ended_at",
    "wave.release": "released_at",
    "wave.soak": "sent_at",
    "wave.clear": "cleared_at",
}
"""Instants a transition sets by itself."""

_VERSION: Final = select(campaigns.c.policy_version).where(campaigns.c.id == bindparam("of_campaign"))
_CHOSEN: Final = {
    "campaign": (campaigns, (campaigns.c.id == bindparam("of_campaign"),)),
    "wave": (waves, (waves.c.campaign_id == bindparam("of_campaign"), waves.c.number == bindparam("of_wave"))),
    "lane": (lanes, (lanes.c.campaign_id == bindparam("of_campaign"), lanes.c.provider == bindparam("of_lane"))),
}
_STATUS: Final = {kind: select(table.c.status).where(*chosen) for kind, (table, chosen) in _CHOSEN.items()}
_MOVE: Final = {
    kind: update(table).where(*chosen, table.c.status == bindparam("seen")) for kind, (table, chosen) in _CHOSEN.items()
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row the lifecycle table rules: a `campaign`, one `wave` of it or one `lane`."""

    kind: str
    campaign_id: int
    wave: int | None = None
    provider: str | None = None

    @property
    def key(self) -> dict[str, Any]:
        """What finds it."""
        key = {"of_campaign": self.campaign_id, "of_wave": self.wave, "of_lane": self.provider}
        return {name: value for name, value in key.items() if value is not None}

    @property
    def named(self) -> str:
        """The row in words."""
        if self.wave is not None:
            return f"wave {self.wave}"
        return "the campaign" if self.provider is None else f"lane {self.provider}"


def move(
    conn: Connection,
    row: Row,
    event: str,
    *,
    by: str,
    now: datetime,
    reason: str,
    evidence: Mapping[str, Any] | None,
    seen: str | None,
    columns: dict[str, Any],
) -> str:
    """Move the row by compare-and-set, stamp its instants, journal it; returns the new status.

    Raises NotFound, NotAllowed (with what may happen instead) and StaleTransition (somebody moved it first).
    """
    if row.kind == "campaign":
        turnstile.alone(conn, row.campaign_id)
    transitions = lifecycle.TABLES[row.kind]
    status = conn.execute(_STATUS[row.kind], row.key).scalar()
    if status is None:
        raise NotFound(f"campaign number {row.campaign_id} has no such {row.kind}: {row.named}")
    if seen is not None and status != seen:
        raise StaleTransition(f"{row.named} is {status} by now, no longer {seen}: look again and decide again")
    target = lifecycle.next_status(transitions, status, event)
    if target is None:
        raise NotAllowed(_forbidden(row, status, event))
    stamp = _STAMPS.get(f"{row.kind}.{event}")
    values = {**({stamp: now} if stamp else {}), **columns, "status": target}
    won = conn.execute(_MOVE[row.kind], {**values, **row.key, "seen": status})
    if won.rowcount != 1:
        raise StaleTransition(f"{row.named} was {status}, and somebody moved it first: look again and decide again")
    version = conn.execute(_VERSION, {"of_campaign": row.campaign_id}).scalar()
    journal.write(
        conn,
        at=now,
        actor=by,
        action=f"{row.kind}.{event}",
        campaign_id=row.campaign_id,
        wave=row.wave,
        provider=row.provider,
        reason=reason,
        evidence={"from": status, "to": target, **(evidence or {})},
        policy_version=version,
    )
    return target


def _forbidden(row: Row, status: str, event: str) -> str:
    instead = lifecycle.allowed(lifecycle.TABLES[row.kind], status)
    possible = [one for one in instead if row.kind != "campaign" or one in lifecycle.STEERED]
    if not possible:
        further = "; create a new one" if row.kind == "campaign" else ""
        return f"{row.named} is {status}: nothing follows{further}"
    return f"{row.named} is {status}: `{event}` is not possible, only {', '.join(possible)}"
