"""Batches already handed over of which something can still be done: ask again under the same key, or call back.

A batch without an answer stays `handed`, in the hands of its holder, while its ESP knows the idempotency key it went
with: asking again with that key cannot write to anybody twice. When the key's life is over it becomes `unknown` like
any other (store.batches.lost).

A batch that was accepted to be sent later can be called back until `recall_until`. That a call-back began is durable
before the ESP is called, by a lease (`claimed_until`, of no other use once a batch is accepted): where it ended
without an answer that was recorded, and asking again brings none, nobody knows whether those people were written to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, or_, select, true, update

from sendwave.rules.lifecycle import BATCH, Batch
from sendwave.store.batch_status import DONE, GOING, HALTED, STOPPED, SUSPENDED
from sendwave.store.batches import Claimed, claimed
from sendwave.store.tables import batches

_OF: Final = batches.c
_DEAD: Final = or_(
    _OF.claimed_until.is_(None), _OF.claimed_until <= bindparam("now"), _OF.claimed_by == bindparam("holder")
)
_YOUNG: Final = (
    _OF.status == Batch.HANDED,
    _OF.payload.is_not(None),
    _OF.route == bindparam("of_route"),
    _OF.handed_at > bindparam("since"),
)
_LEFT: Final = {
    everybody: select(_OF.id, _OF.handed_at).where(*_YOUNG, true() if everybody else _DEAD)
    for everybody in (False, True)
}
_TAKE_OVER: Final = update(batches).where(_OF.id == bindparam("batch"), *_YOUNG).returning(_OF.id)
_ASKED_AGAIN: Final = (
    _OF.status == Batch.HANDED,
    _OF.claimed_by == bindparam("holder"),
    _OF.not_before <= bindparam("now"),
    _OF.claimed_until > bindparam("now"),
    GOING,
)
_DUE: Final = (
    select(_OF.id, _OF.outcomes, _OF.handed_at).where(*_ASKED_AGAIN).order_by(_OF.handed_at).limit(bindparam("most"))
)
_IS_DUE: Final = select(_OF.id).where(_OF.id == bindparam("batch"), *_ASKED_AGAIN)
_WAITING: Final = (
    *(_OF.id, _OF.campaign_id, _OF.wave, _OF.provider, _OF.route, _OF.esp_ref),
    _OF.claimed_until.is_not(None).label("begun"),
    _OF.doubted,
)
_FREE: Final = or_(_OF.claimed_until.is_(None), _OF.claimed_until <= bindparam("now"))
_TO_CALL_BACK: Final = (
    select(*_WAITING)
    .where(
        _OF.status == Batch.ACCEPTED,
        _FREE,
        _OF.recall_until > bindparam("now"),
        _OF.route.in_(bindparam("routes", expanding=True)),
        or_(STOPPED, SUSPENDED, HALTED),
        ~DONE,
    )
    .order_by(_OF.id)
    .limit(bindparam("most"))
)
_DOUBTFUL: Final = (
    select(*_WAITING)
    .where(_OF.status == Batch.ACCEPTED, _OF.claimed_until <= bindparam("now"), _OF.recall_until <= bindparam("now"))
    .order_by(_OF.id)
)
_BEGIN: Final = (
    update(batches)
    .where(_OF.id.in_(bindparam("ids", expanding=True)), _OF.status == Batch.ACCEPTED, _FREE)
    .values(claimed_until=bindparam("until"))
    .returning(_OF.id)
)


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
    begun: bool  # it was asked for before, and the answer is not recorded
    doubted: bool  # an earlier call of its people was never answered


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
    found: list[int] = []
    for route, life in sorted(lives.items()):
        young = {"of_route": route, "since": now - life}
        dead = {} if everybody else {"now": now, "holder": holder}
        for row in conn.execute(_LEFT[everybody], {**young, **dead}).all():
            mine = {"claimed_by": holder, "claimed_until": row.handed_at + life, "not_before": now}
            found += conn.execute(_TAKE_OVER.values(mine), {**young, "batch": row.id}).scalars()
    return sorted(found)


def due(conn: Connection, *, holder: str, now: datetime, limit: int) -> list[Open]:
    """Open batches of ours to ask about by now, oldest first; not while what the first call did not bring must stay."""
    rows = conn.execute(_DUE, {"holder": holder, "now": now, "most": limit}).all()
    found = {one.id: one for one in claimed(conn, [row.id for row in rows])}
    return [
        Open(
            found[row.id], [(index, reason) for index, reason in (row.outcomes or {}).get("dropped", ())], row.handed_at
        )
        for row in rows
    ]


def is_due(conn: Connection, batch_id: int, *, holder: str, now: datetime) -> bool:
    """Whether that batch still is one `due` gives: somebody may have stopped it, or taken it over, since."""
    return conn.execute(_IS_DUE, {"batch": batch_id, "holder": holder, "now": now}).one_or_none() is not None


def to_call_back(conn: Connection, routes: Collection[str], now: datetime, limit: int) -> list[Waiting]:
    """Accepted batches of stopped campaigns, waves and lanes that their ESP may still give back."""
    rows = conn.execute(_TO_CALL_BACK, {"routes": list(routes), "now": now, "most": limit})
    return [Waiting(*row) for row in rows]


def doubtful(conn: Connection, now: datetime) -> list[Waiting]:
    """Batches that were asked for, without an answer we recorded, until it was too late to ask."""
    return [Waiting(*row) for row in conn.execute(_DOUBTFUL, {"now": now})]


def begin(conn: Connection, ids: Collection[int], *, now: datetime, until: datetime) -> set[int]:
    """Those of them that are ours to ask for until then. Commit before calling the ESP."""
    return {*conn.execute(_BEGIN, {"ids": list(ids), "now": now, "until": until}).scalars()}


def not_asked(conn: Connection, ids: Collection[int]) -> None:
    """The ESP was not reached: what `begin` said of them is not so."""
    mine = (batches.c.id.in_(list(ids)), batches.c.status == Batch.ACCEPTED)
    conn.execute(update(batches).where(*mine).values(claimed_until=None))


def doubt(conn: Connection, batch_id: int) -> bool:
    """Nobody knows whether its people were written to: events may tell. False when it is no longer accepted."""
    of, (sources, target) = batches.c, BATCH["doubt"]
    values = {"status": target, "unknown": of.unknown + of.accepted, "accepted": 0}
    mine = (of.id == batch_id, of.status.in_(sources))
    return conn.execute(update(batches).where(*mine).values(**values, claimed_until=None)).rowcount == 1


def call_back(conn: Connection, batch_id: int, *, now: datetime) -> bool:
    """The ESP gave it back: nobody of it was written to. False when it is no longer accepted."""
    of, (sources, target) = batches.c, BATCH["call_back"]
    values = {"status": target, "accepted": 0, "handed_at": None, "settled_at": now, "returned_at": None}
    values["claimed_until"] = None
    back = update(batches).where(of.id == batch_id, of.status.in_(sources)).values(**values, recall_until=None)
    return conn.execute(back).rowcount == 1


def asked(conn: Connection, ids: Collection[int]) -> None:
    """They were asked for: events will tell what became of each person."""
    conn.execute(update(batches).where(batches.c.id.in_(list(ids))).values(recall_until=None, claimed_until=None))
