"""Batches already handed over of which something can still be done: ask again under the same key, or call back.

A batch without an answer stays `handed`, in the hands of its holder, while its ESP knows the idempotency key it went
with: asking again with that key cannot write to anybody twice. When the key's life is over it becomes `unknown` like
any other (store.batches.lost). A batch that was accepted to be sent later can be called back until then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, exists, or_, select, true, update

from sendwave.rules.lifecycle import BATCH, Batch, Campaign
from sendwave.store.batches import Claimed, claimed, stopped, suspended
from sendwave.store.tables import batches, campaigns


@dataclass(frozen=True, slots=True)
class Open:
    """A batch to ask about again, with the people who were left out when it was handed over."""

    batch: Claimed
    dropped: Sequence[tuple[int, str]]
    handed_at: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """An accepted batch that must not be sent any more."""

    id: int
    campaign_id: int
    wave: int
    provider: str
    route: str
    ref: str


def put_off(conn: Connection, batch_id: int, *, holder: str, again: datetime, until: datetime) -> bool:
    """Leave it open: ask at `again`, give up at `until`. False when it is no longer ours."""
    of = batches.c
    mine = (of.id == batch_id, of.status == Batch.HANDED, of.claimed_by == holder)
    return conn.execute(update(batches).where(*mine).values(not_before=again, claimed_until=until)).rowcount == 1


def take_over(
    conn: Connection, lives: Mapping[str, timedelta], *, holder: str, now: datetime, everybody: bool = False
) -> list[int]:
    """Batches a dead holder left open, ours from now on: by route, those handed over within the life of its keys.

    Dead is who let a lease end, and with `everybody` anybody.
    """
    of = batches.c
    dead = true() if everybody else or_(of.claimed_until.is_(None), of.claimed_until <= now, of.claimed_by == holder)
    found: list[int] = []
    for route, life in sorted(lives.items()):
        young = (of.status == Batch.HANDED, of.payload.is_not(None), of.route == route, of.handed_at > now - life)
        for row in conn.execute(select(of.id, of.handed_at).where(*young, dead)).all():
            mine = {"claimed_by": holder, "claimed_until": row.handed_at + life, "not_before": now}
            found += conn.execute(
                update(batches).where(of.id == row.id, *young).values(mine).returning(of.id)
            ).scalars()
    return sorted(found)


def due(conn: Connection, *, holder: str, now: datetime, limit: int) -> list[Open]:
    """Open batches of ours to ask about by now, oldest first."""
    of = batches.c
    mine = and_(of.status == Batch.HANDED, of.claimed_by == holder, of.not_before <= now, of.claimed_until > now)
    rows = conn.execute(select(of.id, of.outcomes, of.handed_at).where(mine).order_by(of.handed_at).limit(limit)).all()
    found = {one.id: one for one in claimed(conn, of.id.in_([row.id for row in rows]))} if rows else {}
    return [
        Open(
            found[row.id], [(index, reason) for index, reason in (row.outcomes or {}).get("dropped", ())], row.handed_at
        )
        for row in rows
    ]


def to_call_back(conn: Connection, routes: Collection[str], now: datetime, limit: int) -> list[Waiting]:
    """Accepted batches of stopped campaigns, waves and lanes that their ESP may still give back."""
    of = batches.c
    still = and_(of.status == Batch.ACCEPTED, of.recall_until > now, of.route.in_(list(routes)))
    columns = (of.id, of.campaign_id, of.wave, of.provider, of.route, of.esp_ref)
    mine = campaigns.c.id == of.campaign_id
    halted = exists().where(mine, campaigns.c.status == Campaign.HALTED)  # its cleared waves too, where it still can
    done = exists().where(mine, campaigns.c.status == Campaign.COMPLETED)  # what it handed over is to arrive
    over = and_(or_(stopped(), suspended(), halted), ~done)
    return [Waiting(*row) for row in conn.execute(select(*columns).where(still, over).order_by(of.id).limit(limit))]


def call_back(conn: Connection, batch_id: int, *, now: datetime) -> bool:
    """The ESP gave it back: nobody of it was written to. False when it is no longer accepted."""
    of, (sources, target) = batches.c, BATCH["call_back"]
    values = {"status": target, "accepted": 0, "handed_at": None, "settled_at": now, "returned_at": None}
    back = update(batches).where(of.id == batch_id, of.status.in_(sources)).values(**values, recall_until=None)
    return conn.execute(back).rowcount == 1


def asked(conn: Connection, ids: Collection[int]) -> None:
    """They were asked for: events will tell what became of each person."""
    conn.execute(update(batches).where(batches.c.id.in_(list(ids))).values(recall_until=None))
