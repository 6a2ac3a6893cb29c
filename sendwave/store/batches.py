"""Batches: people who leave together, one row each, and the only caller of their lifecycle.

    ready > claimed (lease) > handed (durable BEFORE the ESP is called) > accepted | refused | unknown; or recalled

Every move is a compare-and-set: it touches the row only in a status the lifecycle allows, and in the hands of who
claimed it. `outcomes` (JSON) lists exceptions only, by index of the batch's own payload:

    {"refused": [[index, code, text]…], "unknown": [index…], "dropped": [[index, reason]…], "moved": [index…]}

`moved` people went into a follow-up batch, whose `origins` [[batch, position]…] say where each was released.
What became of people is read back by store/batch_outcomes.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BindParameter,
    Connection,
    Row,
    bindparam,
    case,
    func,
    insert,
    null,
    or_,
    select,
    true,
    tuple_,
    update,
)

from sendwave.errors import StaleTransition
from sendwave.rules.lifecycle import SETTLED, Batch
from sendwave.store import holds, turnstile
from sendwave.store.batch_outcomes import (
    Cohort,
    Counts,
    Exceptions,
    Outcome,
    Standing,
    cohorts,
    counts,
    outcomes,
    owed,
    returns,
    standings,
)
from sendwave.store.batch_status import GROUP, MAY_LEAVE, ONE_GOES, RECALLABLE, SUSPENDED, moved, same_life
from sendwave.store.leases import life_name
from sendwave.store.tables import batches, leases

__all__ = [
    "Claimed", "Cohort", "Counts", "Draft", "Exceptions", "Group", "Outcome", "Ready", "Standing", "add", "claim",
    "cohorts", "counts", "groups", "hand", "let_go", "lost", "outcomes", "owed", "ready", "recall",
    "recallable", "return_unsent", "returned", "returns", "settle", "settled_at", "standings", "unclaim", "unsettled",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Draft:
    """A batch about to be stored under its reserved id (store/freezes.reserve)."""

    id: int
    campaign_id: int
    wave: int
    freeze_id: int
    provider: str
    route: str
    zone: str  # '' where the campaign's window is not local
    position: int  # order inside the wave
    size: int
    payload: bytes  # Arrow IPC, lz4
    attempt: int = 0
    not_before: datetime | None = None
    origins: Sequence[tuple[int, int]] | None = None
    doubted: bool = False  # nobody answered for a hand-over of its people before: they may have the message


@dataclass(frozen=True, slots=True)
class Group:
    """Ready batches that wait for the same things."""

    campaign_id: int
    wave: int
    provider: str
    route: str
    zone: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch that could be claimed."""

    id: int
    group: Group
    position: int
    size: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A batch in our hands until its lease ends."""

    id: int
    group: Group
    freeze_id: int
    position: int
    size: int
    attempt: int
    origins: Sequence[Sequence[int]] | None
    doubted: bool
    payload: bytes


def add(conn: Connection, drafts: Sequence[Draft]) -> None:
    """Store batches, `ready`, in the transaction of their freeze (or of the batch they follow up)."""
    rows = [{name: getattr(draft, name) for name in Draft.__dataclass_fields__} for draft in drafts]
    first = [row for row in rows if row["origins"] is None]
    for row in first:
        del row["origins"]  # NULL by default: given as None it would become the JSON word null
    for part in (first, [row for row in rows if "origins" in row]):
        if part:
            conn.execute(insert(batches).values(status=Batch.READY), part)


def groups(conn: Connection, now: datetime) -> list[Group]:
    """What ready batches wait for: those of sending campaigns, flying waves and open lanes, due by `now`."""
    rows = conn.execute(_GROUPS, {"now": now})
    return sorted((_group(row) for row in rows), key=lambda group: (group.campaign_id, group.wave))


def ready(conn: Connection, chosen: Collection[Group], now: datetime, limit: int) -> list[Ready]:
    """The first ready batches of those groups, in the order of their waves."""
    keys = [(g.campaign_id, g.wave, g.provider, g.route, g.zone) for g in chosen]
    if not keys:
        return []
    rows = conn.execute(_READY, {"now": now, "groups": keys, "most": limit})
    return [Ready(row.id, _group(row), row.position, row.size) for row in rows]


def _group(row: Row[*tuple[Any, ...]]) -> Group:
    return Group(row.campaign_id, row.wave, row.provider, row.route, row.zone)


def claim(conn: Connection, ids: Collection[int], *, holder: str, until: datetime) -> list[Claimed]:
    """Take ready batches until `until`, in the holder's present life; those somebody else took first are missing from
    the answer.
    """
    if not ids:
        return []
    told = {"ids": list(ids), "life": life_name(holder), "new_claimed_by": holder, "new_claimed_until": until}
    return claimed(conn, conn.execute(_CLAIM, told).scalars().all())


def claimed(conn: Connection, ids: Collection[int]) -> list[Claimed]:
    """Those batches as their holder has them, in sending order."""
    rows = conn.execute(_CLAIMED, {"ids": list(ids)}) if ids else ()
    return [Claimed(row.id, _group(row), *row[1:8]) for row in rows]


def unclaim(conn: Connection, batch_id: int, *, holder: str, not_before: datetime | None = None) -> bool:
    """Give a claimed batch back as it was; False when it is not ours any more."""
    told = {"batch": batch_id, "holder": holder, "new_not_before": not_before}
    return conn.execute(_UNCLAIM, told).rowcount == 1


def let_go(conn: Connection, holder: str) -> int:
    """Give back whatever this holder claimed and did not hand over; returns how many batches."""
    return conn.execute(
        moved("unclaim").where(batches.c.claimed_by == holder).values(claimed_by=None, claimed_until=None)
    ).rowcount


def hand(conn: Connection, batch: Claimed, dropped: Sequence[tuple[int, str]], *, holder: str, now: datetime) -> bool:
    """Record that the batch is about to leave, without the people the re-check dropped. Commit before calling the ESP.

    False when it may not: under a hold, no longer ours, claimed in a life that was ended since, its campaign not
    sending, its wave stopped and not released again, its lane suspended. What stops its campaign, wave or lane comes
    either before this or after it, never in between; nothing is looked at before its turn has come.
    """
    group = batch.group
    turnstile.in_turn(conn, group.campaign_id)
    if holds.blocks(conn, group.campaign_id, now=now, wave=group.wave, provider=group.provider, route=group.route):
        return False
    told = {"new_outcomes": Exceptions(dropped=dropped).document(), "new_dropped": len(dropped), "new_handed_at": now}
    return conn.execute(_HAND, {"batch": batch.id, "holder": holder, **told}).rowcount == 1


def return_unsent(
    conn: Connection, batch_id: int, *, not_before: datetime | None = None, holder: str | None = None
) -> None:
    """Nothing was handed over: the batch goes again, checked afresh, once nothing holds it.

    With `holder` only if it is still in their hands. Raises StaleTransition.
    """
    values = {"claimed_by": None, "claimed_until": None, "handed_at": None, "outcomes": null(), "dropped": 0}
    back = moved("return_unsent").where(batches.c.id == batch_id).values(**values, not_before=not_before)
    if holder is not None:
        back = back.where(batches.c.claimed_by == holder)
    if conn.execute(back).rowcount != 1:
        raise StaleTransition(f"batch {batch_id} is no longer being handed over: somebody settled it first")


def settle(
    conn: Connection,
    batch_id: int,
    event: str,
    found: Exceptions,
    *,
    now: datetime,
    ref: str = "",
    recall_until: datetime | None = None,
    handed: tuple[int, Sequence[tuple[int, str]]] | None = None,
) -> None:
    """Record what became of a batch: `accept`, `refuse` or `lose` is the fate of everybody `found` does not list.

    People dropped when it was handed stay dropped. The payload goes, unless somebody is unknown and may have to be
    written to again (store/unknowns.py): from here on the `sends` file is its twin.
    `ref` and `recall_until` say how and until when the ESP may be asked for it back. Who handed it over says in
    `handed` its size and who was dropped then, and spares a query. Raises StaleTransition when somebody settled it
    first.
    """
    size, dropped = handed or _handed(conn, batch_id)
    kept = dict(dropped)
    whole = replace(found, dropped=[*kept.items(), *(one for one in found.dropped if one[0] not in kept)])
    document = whole.document()
    numbers = {name: len(getattr(whole, name)) for name in ("refused", "unknown", "dropped", "moved")}
    rest = size - sum(numbers.values())
    numbers[_REST[event]] = numbers.get(_REST[event], 0) + rest
    values = dict.fromkeys(("accepted", "refused", "unknown"), 0) | numbers | {"outcomes": document, "settled_at": now}
    told: dict[str, Any] = {f"new_{name}": value for name, value in values.items()}
    told |= {"new_esp_ref": ref or None, "new_recall_until": recall_until}
    if conn.execute(_SETTLE[event], {"batch": batch_id, **told}).rowcount != 1:
        raise StaleTransition(f"batch {batch_id} cannot {event}: somebody settled it first")


def _handed(conn: Connection, batch_id: int) -> tuple[int, list[tuple[int, str]]]:
    row = conn.execute(_SIZE, {"batch": batch_id}).one()
    return row.size, (row.outcomes or {}).get("dropped", [])


_REST: Final[Mapping[str, str]] = {"accept": "accepted", "refuse": "refused", "lose": "unknown"}


def unsettled(conn: Connection, campaign_id: int, wave: int) -> bool:
    """Whether released people of the wave are still to leave by an open lane, those deferred to a follow-up apart."""
    return conn.execute(_UNSETTLED, {"campaign": campaign_id, "wave": wave}).first() is not None


def settled_at(conn: Connection, campaign_id: int, wave: int) -> datetime | None:
    """When the last batch of the wave that reached the ESP was settled; None when none did."""
    return conn.execute(_SETTLED_AT, {"campaign": campaign_id, "wave": wave}).scalar()


def lost(
    conn: Connection, *, now: datetime, holder: str | None = None, everybody: bool = False, keep: Collection[int] = ()
) -> tuple[list[int], list[Claimed]]:
    """After a crash: (claimed batches given back, handed ones now unknown), of leases that ended by `now`.

    With `holder` also of that one, whatever its lease says; with `everybody` of all of them; those of `keep` apart,
    which can be asked about. A dead holder may have
    handed over what it marked `handed`: only the ESP's events or a person can tell.
    """
    free, find = _DEAD["everybody" if everybody else "over" if holder is None else "holder"]
    told = {} if everybody else {"now": now} if holder is None else {"now": now, "holder": holder}
    given_back = sorted(conn.execute(free, told).scalars())
    found = set(conn.execute(find, told).scalars())
    handed = claimed(conn, found.difference(keep))
    for batch in handed:
        settle(conn, batch.id, "lose", Exceptions(), now=now)
    return given_back, handed


def recallable(conn: Connection, limit: int) -> list[int]:
    """Batches not handed over that never will be: of stopped campaigns, or of halted and skipped waves."""
    return list(conn.execute(_TO_RECALL, {"most": limit}).scalars())


def recall(conn: Connection, ids: Collection[int], *, now: datetime) -> int:
    """Take those batches back for good, where they still may be; returns how many. See also unknowns.take_back."""
    return conn.execute(_RECALL, {"ids": list(ids), "new_settled_at": now}).rowcount if ids else 0


def _new(*names: str) -> dict[str, BindParameter[Any]]:
    """Values given when the statement runs; a document that is None is no document, not JSON's null."""
    kinds = {name: JSON(none_as_null=True) if name == "outcomes" else batches.c[name].type for name in names}
    return {name: bindparam(f"new_{name}", type_=kind) for name, kind in kinds.items()}


# Built once: the statements every batch passes through cost three times as much to build as to run.
_OF: Final = batches.c
_THIS: Final = batches.c.id == bindparam("batch", type_=batches.c.id.type)
_THESE: Final = _OF.id.in_(bindparam("ids", expanding=True))
_FREE: Final = {"claimed_by": None, "claimed_until": None}
_GROUPS: Final = select(*GROUP).where(MAY_LEAVE).distinct()
_READY: Final = (
    select(_OF.id, _OF.position, _OF.size, *GROUP)
    .where(MAY_LEAVE, tuple_(*GROUP).in_(bindparam("groups", expanding=True)))
    .order_by(_OF.wave, _OF.position, _OF.campaign_id, _OF.id)
    .limit(bindparam("most"))
)
_LIFE: Final = select(leases.c.epoch).where(leases.c.name == bindparam("life")).scalar_subquery()
_CLAIM: Final = (
    moved("claim").where(_THESE).values(**_new("claimed_by", "claimed_until"), epoch=_LIFE).returning(_OF.id)
)
_CLAIMED: Final = (
    select(_OF.id, _OF.freeze_id, _OF.position, _OF.size, _OF.attempt, _OF.origins, _OF.doubted, _OF.payload, *GROUP)
    .where(_THESE)
    .order_by(_OF.wave, _OF.position, _OF.id)
)
_UNCLAIM: Final = (
    moved("unclaim").where(_THIS, _OF.claimed_by == bindparam("holder")).values(**_FREE, **_new("not_before"))
)
_OF_WAVE: Final = (_OF.campaign_id == bindparam("campaign"), _OF.wave == bindparam("wave"))
_UNSETTLED: Final = (
    select(_OF.id).where(*_OF_WAVE, _OF.status.not_in(SETTLED), _OF.origins.is_(None), ~SUSPENDED).limit(1)
)
_SETTLED_AT: Final = select(func.max(_OF.settled_at)).where(*_OF_WAVE, _OF.status != Batch.RECALLED)
_OVER: Final = or_(_OF.claimed_until.is_(None), _OF.claimed_until <= bindparam("now"))
_DEAD: Final = {
    name: (
        moved("unclaim").where(dead).values(**_FREE).returning(_OF.id),
        select(_OF.id).where(_OF.status == Batch.HANDED, dead),
    )
    for name, dead in {
        "over": _OVER,
        "holder": or_(_OVER, _OF.claimed_by == bindparam("holder")),
        "everybody": true(),
    }.items()
}
"""Whose leases are over: (gives back what they claimed, finds what they handed over)."""
_TO_RECALL: Final = select(_OF.id).where(RECALLABLE).order_by(_OF.id).limit(bindparam("most"))
_RECALL: Final = (
    moved("recall").where(_THESE, RECALLABLE, ~_OF.doubted).values(**_FREE, **_new("settled_at"), payload=None)
)
_HAND: Final = (
    moved("hand")
    .where(_THIS, batches.c.claimed_by == bindparam("holder"), same_life(), ONE_GOES)
    .values(**_new("outcomes", "dropped", "handed_at"), not_before=None)
)
_SIZE: Final = select(batches.c.size, batches.c.outcomes).where(_THIS)
_COUNTED: Final = ("accepted", "refused", "unknown", "dropped", "moved")
_SETTLE: Final = {
    event: moved(event)
    .where(_THIS)
    .values(
        **_new(*_COUNTED, "outcomes", "settled_at", "esp_ref", "recall_until"),
        returned_at=None,
        payload=case((bindparam("new_unknown", type_=batches.c.unknown.type) > 0, batches.c.payload), else_=None),
        claimed_until=None,
    )
    for event in _REST
}


def returned(conn: Connection, ids: Collection[int], now: datetime) -> None:
    """The slots of those not sent to are in the lake's `returns`."""
    conn.execute(update(batches).where(batches.c.id.in_(list(ids))).values(returned_at=now))
