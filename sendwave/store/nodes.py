"""Nodes: daemons that share one store. Each has a life, a lease renewed every few seconds; batches are claimed in it.

A node that falls silent is buried: its life gets the next epoch, so that nothing it claimed before can be handed over
any more (`batches.hand` compares the two in the very update that commits the hand-over), and its batches go back.
Should it only have slept, it finds its life over, begins the next one and goes on; an answer it still gets for a batch
it had handed over counts, also when that batch was unknown meanwhile.

Lives run on the machines' own clocks (`wall`), whatever the pace of a rehearsal. Clocks that differ make a node look
dead early or late; never does anything leave twice for it, because epochs decide, not instants.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, case, delete, exists, literal, select, update

from sendwave.rules.lifecycle import Batch
from sendwave.store import freezes, leases, runs
from sendwave.store.leases import Lease
from sendwave.store.tables import batches
from sendwave.store.tables import leases as lease_rows

LIFE: Final = timedelta(seconds=10)
"""A node silent for so long is dead to the others; the leader is replaced after as long."""

ANSWER: Final = timedelta(seconds=30)
"""A batch a dead node had handed over becomes unknown so long after the burial: it may only sleep, and come back."""

FORGET: Final = timedelta(days=7)
"""Lives that ended so long ago are removed."""

LEADER: Final = "leader"
"""The lease of the node whose ticks release, judge, score and tell; every node hands over."""


# Built once: every beat asks them.
_OLDER: Final = lease_rows.c.until <= bindparam("wall", type_=lease_rows.c.until.type)
_LIVES: Final = lease_rows.c.name.like(f"{leases.LIVES}%")
_OPEN: Final = batches.c.status.in_((Batch.CLAIMED, Batch.HANDED))
_HAS_SOME: Final = exists().where(
    batches.c.claimed_by == lease_rows.c.holder, _OPEN, batches.c.epoch == lease_rows.c.epoch
)
_GO_ON: Final = (
    update(lease_rows)
    .where(lease_rows.c.name == bindparam("life"), lease_rows.c.epoch == bindparam("lived"))
    .values(until=bindparam("new_until", type_=lease_rows.c.until.type))
)
_END: Final = (
    update(lease_rows)
    .where(_LIVES, _OLDER, _HAS_SOME)
    .values(epoch=lease_rows.c.epoch + 1)
    .returning(lease_rows.c.holder)
)
_FORGET: Final = delete(lease_rows).where(_LIVES, _OLDER)


def beat(conn: Connection, holder: str, life: Lease | None, *, wall: datetime) -> Lease:
    """Say that this node lives. A life nobody ended goes on, however late; else the next begins."""
    if life is not None:
        told = {"life": life.name, "lived": life.epoch, "new_until": wall + LIFE}
        if conn.execute(_GO_ON, told).rowcount == 1:
            return Lease(life.name, holder, life.epoch, wall + LIFE)
    return leases.acquire(conn, leases.life_name(holder), holder, now=wall, life=LIFE)


def bury(conn: Connection, *, wall: datetime, now: datetime) -> list[str]:
    """End the lives of silent nodes that still have batches; returns the holders.

    What they claimed may be taken back at once, what they handed over `ANSWER` later. Call it only where the store was
    reachable for a whole `LIFE`: after an outage everybody was silent.
    """
    dead = sorted(conn.execute(_END, {"wall": wall}).scalars())
    if dead:
        until = case((batches.c.status == Batch.CLAIMED, literal(now)), else_=literal(now + ANSWER))
        theirs = batches.c.claimed_by.in_(dead) & _OPEN & (batches.c.claimed_until > until)
        conn.execute(update(batches).where(theirs).values(claimed_until=until))
    conn.execute(_FORGET, {"wall": wall - FORGET})
    return dead


def succeed(conn: Connection, *, now: datetime, alone: bool = False) -> None:
    """What those who led before had in hand is free: the right to freeze people, and a score run that did not end.

    Call it in the transaction that begins a term: whatever they write later is refused. With `alone` nobody else works
    on this store at all, and whoever held something is dead.
    """
    leases.end(conn, freezes.LEASE, "" if alone else leases.LED, now=now)
    runs.abandon(conn)


def alive(conn: Connection, wall: datetime) -> Sequence[Lease]:
    """The nodes that spoke lately, by name."""
    lease = lease_rows.c
    found = select(lease_rows).where(lease.name.like(f"{leases.LIVES}%"), lease.until > wall).order_by(lease.name)
    return [Lease(**row) for row in conn.execute(found).mappings()]
