"""Leases: who alone may do something until when, with an epoch that rises at every change of hands.

Used for the leader of the daemons and for freezing the people of one contact base. A holder that slept past its lease
still believes in it; `fence`, asked inside the transaction that writes, is what stops it (fencing token: M. Kleppmann,
"How to do distributed locking", 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from sendwave.errors import Busy, StaleTransition
from sendwave.store.tables import leases
from sendwave.store.upsert import upsert

LIVES: Final = "node:"
"""What the names of the lives of nodes begin with (store/nodes.py)."""

LED: Final = "leader:"
"""What the holder's name begins with where a tick of the leader holds a lease: it ends with its term."""

# Built once: asked by every beat and every write of a leader, they cost four times as much to build as to run.
_NAMED: Final = leases.c.name == bindparam("lease")
_LASTS: Final = leases.c.until > bindparam("now", type_=leases.c.until.type)
_NEW: Final = bindparam("new_until", type_=leases.c.until.type)
_BY: Final = bindparam("by", type_=leases.c.holder.type)
_KEEP: Final = update(leases).where(_NAMED, leases.c.holder == _BY, _LASTS).values(until=_NEW).returning(leases.c.epoch)
_TAKE: Final = (
    update(leases)
    .where(_NAMED, ~_LASTS)
    .values(holder=_BY, until=_NEW, epoch=leases.c.epoch + 1)
    .returning(leases.c.epoch)
)
_EPOCH: Final = select(leases.c.epoch).where(_NAMED).with_for_update(read=True)
_CURRENT: Final = select(leases).where(_NAMED, _LASTS)


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as it was given; `holder` names one worker, not a whole process of several."""

    name: str
    holder: str
    epoch: int
    until: datetime


def acquire(conn: Connection, name: str, holder: str, *, now: datetime, life: timedelta) -> Lease:
    """Take a free, ended or own lease until `now + life`. Raises Busy, naming the holder, while another has it.

    Taking it again before it ended keeps the epoch; taking it after it ended or was given back raises the epoch, for
    the holder before us too.
    """
    until = now + life
    told = {"lease": name, "by": holder, "now": now, "new_until": until}
    kept = conn.execute(_KEEP, told).scalar()
    if kept is None:
        kept = conn.execute(_TAKE, told).scalar()
    if kept is None:
        first = upsert(conn, leases).values(name=name, holder=holder, epoch=1, until=until)
        kept = conn.execute(first.on_conflict_do_nothing().returning(leases.c.epoch)).scalar()
    if kept is None:
        raise Busy(_held(conn, name))
    return Lease(name, holder, kept, until)


def renew(conn: Connection, lease: Lease, *, now: datetime, life: timedelta) -> Lease:
    """The same lease until `now + life`. Raises Busy when it was lost, also when it ended and nobody took it."""
    until = now + life
    own = (leases.c.name == lease.name) & (leases.c.epoch == lease.epoch) & (leases.c.until > now)
    if conn.execute(update(leases).where(own).values(until=until)).rowcount != 1:
        raise Busy(f"lost: {_held(conn, lease.name)}")
    return Lease(lease.name, lease.holder, lease.epoch, until)


def release(conn: Connection, lease: Lease, *, now: datetime) -> bool:
    """Give it back before its end; False when it was lost already, which needs no further care."""
    own = (leases.c.name == lease.name) & (leases.c.epoch == lease.epoch) & (leases.c.until > now)
    return conn.execute(update(leases).where(own).values(until=now)).rowcount == 1


def end(conn: Connection, name: str, holders: str, *, now: datetime) -> bool:
    """Take it from a holder whose name begins with `holders`, who is gone or sleeps; whether one had it.

    Its epoch rises: what they write under it, should they wake up, is refused.
    """
    theirs = (leases.c.name == name) & (leases.c.until > now) & leases.c.holder.startswith(holders, autoescape=True)
    return conn.execute(update(leases).where(theirs).values(until=now, epoch=leases.c.epoch + 1)).rowcount == 1


def life_name(holder: str) -> str:
    """The lease that is the life of this node."""
    return f"{LIVES}{holder}"


def fence(conn: Connection, lease: Lease) -> None:
    """Nobody takes the lease before this transaction ends. Raises Busy when somebody already did.

    The row is locked in share mode: several transactions of one holder do not wait for each other.
    """
    if conn.execute(_EPOCH, {"lease": lease.name}).scalar() != lease.epoch:
        raise Busy(f"lost: {_held(conn, lease.name)}")


def current(conn: Connection, name: str, now: datetime) -> Lease | None:
    """Who has it now, None when nobody has."""
    row = conn.execute(_CURRENT, {"lease": name, "now": now}).mappings().one_or_none()
    return None if row is None else Lease(**row)


def refuse(conn: Connection, name: str, now: datetime) -> None:
    """Raises StaleTransition while anybody has that lease."""
    if current(conn, name, now) is not None:
        raise StaleTransition(_held(conn, name))


def _held(conn: Connection, name: str) -> str:
    row = conn.execute(select(leases).where(leases.c.name == name)).mappings().one_or_none()
    if row is None:
        return f"nobody has the lease {name!r} any more"
    return f"{row['holder']} has the lease {name!r} until {row['until']:%Y-%m-%d %H:%M:%S} UTC"
