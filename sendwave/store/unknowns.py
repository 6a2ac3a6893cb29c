"""People handed over of whom nobody knows whether the ESP took them: what speaks for it, and what was decided.

A batch keeps its payload while people of it are unknown, so that they can be written to again; without a payload a
person has decided to leave them. Late evidence still counts: an event with somebody's token means the ESP had them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Row, bindparam, null, select, update

from sendwave.rules.lifecycle import BATCH, Batch
from sendwave.rules.signals import proof
from sendwave.store import evidence, freezes, payloads
from sendwave.store.batch_status import RECALLABLE
from sendwave.store.batch_status import moved as moved_by
from sendwave.store.batches import Draft, add
from sendwave.store.tables import batches


@dataclass(frozen=True, slots=True)
class Doubt:
    """A batch with people whose fate is unknown, by index of its payload."""

    id: int
    campaign_id: int
    wave: int
    freeze_id: int
    provider: str
    route: str
    zone: str
    position: int
    attempt: int
    status: str
    size: int
    handed_at: datetime | None  # None: they were to go again and were taken back before
    settled_at: datetime
    unknown: Sequence[int]
    origins: Sequence[Sequence[int]] | None
    undecided: bool  # nobody said yet whether they are written to again or left

    @property
    def since(self) -> datetime:
        """When their fate became unknown."""
        return self.handed_at or self.settled_at

    def until(self, wait: timedelta) -> datetime:
        """When the time is over for events to tell; of people taken back it was when they were to go again."""
        return self.settled_at if self.handed_at is None else self.handed_at + wait

    def released(self, index: int) -> tuple[int, int]:
        """(batch, position) a person was released in: what their token names."""
        return (self.id, index) if self.origins is None else (self.origins[index][0], self.origins[index][1])


@dataclass(frozen=True, slots=True)
class TakenBack:
    """A batch that was to go again and did not."""

    id: int
    campaign_id: int
    wave: int
    provider: str
    size: int


def campaign_ids(conn: Connection) -> list[int]:
    """Campaigns with people whose fate is unknown."""
    return sorted(conn.execute(_IN_DOUBT).scalars())


def read(conn: Connection, campaign_id: int) -> list[Doubt]:
    """The batches of a campaign with such people, oldest first."""
    return [_doubt(row) for row in conn.execute(_DOUBTS, {"campaign": campaign_id})]


_KNOWS: Final = (Batch.UNKNOWN, Batch.ACCEPTED)
"""Statuses of batches whose unknown people may still be settled one by one."""

_OF: Final = batches.c
_UNKNOWN: Final = (_OF.unknown > 0, _OF.status.in_(_KNOWS))
_IN_DOUBT: Final = select(_OF.campaign_id).where(*_UNKNOWN).distinct()
_DOUBTS: Final = (
    select(
        *(_OF[name] for name in Doubt.__dataclass_fields__ if name in _OF and name != "unknown"),
        _OF.outcomes,
        _OF.payload.is_not(None).label("undecided"),
    )
    .where(_OF.campaign_id == bindparam("campaign"), *_UNKNOWN)
    .order_by(_OF.id)
)

_UNDECIDE: Final = (
    moved_by("undecide")
    .where(_OF.id.in_(bindparam("ids", expanding=True)), RECALLABLE, _OF.doubted)
    .values(unknown=_OF.size, settled_at=bindparam("now"), claimed_by=None, claimed_until=None)
    .returning(*(_OF[name] for name in TakenBack.__dataclass_fields__))
)


def _doubt(row: Row[*tuple[Any, ...]]) -> Doubt:
    told: Mapping[str, Any] = row.outcomes or {}
    unknown: Collection[int] = told.get("unknown", ())
    if row.status == Batch.UNKNOWN:
        known = {entry[0] for name in ("refused", "dropped") for entry in told.get(name, ())} | {*told.get("moved", ())}
        unknown = [index for index in range(row.size) if index not in known]
    given = {name: getattr(row, name) for name in Doubt.__dataclass_fields__ if name != "unknown"}
    return Doubt(**given, unknown=sorted(unknown))


def seen(conn: Connection, doubts: Iterable[Doubt]) -> dict[int, list[int]]:
    """Per batch, the unknown people the ESP has told something about since: it had them.

    Of people an earlier hand-over put off, not every word does: what put them off was told as an event too.
    """
    asked = list(doubts)
    named = {one.released(index)[0] for one in asked for index in one.unknown}
    told = {put_off: evidence.told(conn, named, proof(put_off=put_off)) for put_off in (False, True)}
    found = {}
    for one in asked:
        of = told[one.attempt > 0]
        found[one.id] = [index for index in one.unknown if evidence.has(of, *one.released(index))]
    return found


def accept(conn: Connection, one: Doubt, indexes: Collection[int]) -> bool:
    """The ESP had these people; the others stay unknown. False when somebody settled some of them first."""
    return _settle(conn, one, accepted=indexes, keep=one.undecided)


def leave(conn: Connection, one: Doubt, accepted: Collection[int] = ()) -> bool:
    """A person leaves them as they are, those of `accepted` apart: they can no longer be written to again."""
    return _settle(conn, one, accepted=accepted, keep=False)


def resend(conn: Connection, one: Doubt, accepted: Collection[int] = ()) -> int | None:
    """Everybody unknown in it, those of `accepted` apart, goes again in a fresh batch; returns its id.

    Tokens and tallies keep pointing at where the people were released. None when somebody settled some of them first,
    or nobody is left.
    """
    payload = conn.execute(select(batches.c.payload).where(batches.c.id == one.id)).scalar()
    moved = [index for index in one.unknown if index not in set(accepted)]
    if payload is None or not moved or not _settle(conn, one, accepted=accepted, moved=moved, keep=False):
        return None
    people = payloads.decode(payload).take(np.asarray(moved, np.int64))
    _, batch_id = freezes.reserve(conn, batch_ids=1)
    draft = Draft(
        *(batch_id, one.campaign_id, one.wave, one.freeze_id, one.provider, one.route, one.zone, one.position),
        size=len(moved),
        payload=payloads.encode(people),
        attempt=one.attempt,
        origins=[one.released(index) for index in moved],
        doubted=True,
    )
    add(conn, [draft])
    return batch_id


def take_back(conn: Connection, ids: Collection[int], *, now: datetime) -> list[TakenBack]:
    """Those of these stopped batches whose people may have the message from an earlier call: unknown again.

    Nobody may conclude from a second call that was not made that the first did not arrive.
    """
    return [TakenBack(*row) for row in conn.execute(_UNDECIDE, {"ids": list(ids), "now": now})] if ids else []


def payload(conn: Connection, batch_id: int) -> bytes | None:
    """The people of a batch, as payloads.decode reads them; None when it was decided to leave them."""
    return conn.execute(select(batches.c.payload).where(batches.c.id == batch_id)).scalar()


def _settle(
    conn: Connection, one: Doubt, *, accepted: Collection[int] = (), moved: Sequence[int] = (), keep: bool
) -> bool:
    """Compare-and-set: only if the same people are still unknown. A batch with somebody settled counts as accepted."""
    of = batches.c
    row = conn.execute(select(of.size, of.outcomes, of.refused, of.dropped).where(of.id == one.id)).one()
    gone = {*accepted, *moved}
    rest = [index for index in one.unknown if index not in gone]
    told: dict[str, Any] = {name: part for name, part in (row.outcomes or {}).items() if name != "unknown"}
    status = BATCH["accept"][1] if gone else one.status
    if rest and status == Batch.ACCEPTED:
        told["unknown"] = rest
    if every := [*told.get("moved", ()), *moved]:
        told["moved"] = every
    left = row.size - row.refused - row.dropped - len(every) - len(rest)
    values = {"status": status, "outcomes": told or null(), "accepted": left, "unknown": len(rest), "moved": len(every)}
    if not (rest and keep):
        values["payload"] = None
    same = (of.id == one.id, of.status == one.status, of.unknown == len(one.unknown))
    return conn.execute(update(batches).where(*same).values(values)).rowcount == 1
