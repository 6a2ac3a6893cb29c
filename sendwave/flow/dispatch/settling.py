"""What became of a batch that was handed over, recorded in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from sendwave.errors import HandOverError, Held, Permanent, StaleTransition, Transient
from sendwave.esp.adapter_pool import Lending
from sendwave.esp.base import PerRecipient, RawReport, Receipt
from sendwave.flow.dispatch.parcels import Parcel
from sendwave.rules import throttle
from sendwave.rules.events import CONTENT_TYPE, encode_events
from sendwave.rules.holds import Kind
from sendwave.store import batches, freezes, holds, inbox, journal, payloads
from sendwave.store.database import Connection

UNREACHABLE = "esp_unreachable"
"""Reason of the hold on a route that takes no batches; it lifts itself after a while, longer each time."""

_TEXT = 200
"""Characters kept of what the ESP said about one person."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What was done, in people; `batches` counts those that were handed to an ESP."""

    batches: int = 0
    handed: int = 0
    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    deferred: int = 0  # to go again later
    dropped: int = 0  # taken out just before hand-over
    unsent: int = 0  # went back: held, stopped, or the ESP took nothing

    def __add__(self, other: Progress) -> Progress:
        return Progress(*(getattr(self, name) + getattr(other, name) for name in Progress.__dataclass_fields__))


Record = Callable[[Connection], Progress]
"""Records what became of a batch that was handed over, in a transaction of its own or another's."""


def settle(
    conn: Connection, parcel: Parcel, result: Receipt | HandOverError, route: Lending, *, by: str, now: datetime
) -> Progress:
    """Record the ESP's answer, or the fault that came instead of it.

    Nothing is done where another node took us for dead, so slow were we: what it recorded stands.
    """
    try:
        return _record(conn, parcel, result, route, by=by, now=now)
    except StaleTransition:
        return Progress()


def _record(
    conn: Connection, parcel: Parcel, result: Receipt | HandOverError, route: Lending, *, by: str, now: datetime
) -> Progress:
    group, people = parcel.batch.group, len(parcel.indexes)
    told = Progress(batches=1, handed=people, dropped=len(parcel.dropped))
    if isinstance(result, Receipt):
        if route.failures:
            route.failures = 0
            for reason in (UNREACHABLE, *route.held):
                holds.lift(conn, reason=reason, by=by, now=now, route=group.route)
            route.held.clear()
        if result.held is not None:  # it took these people, or some of them, and takes no more
            _rest(conn, group.route, route, result.held, by=by, now=now)
        return told + _receive(conn, parcel, result, now)
    if isinstance(result, Transient):
        _rest(conn, group.route, route, result, by=by, now=now)
        batches.return_unsent(conn, parcel.batch.id)
        return Progress(unsent=parcel.batch.size)
    event = "lose"
    if isinstance(result, Permanent):
        event = "refuse"
        _rest(conn, group.route, route, result, by=by, now=now)  # a wrong password must not burn a campaign in a minute
    batches.settle(conn, parcel.batch.id, event, batches.Exceptions(), now=now, handed=parcel.handed)
    _tell(conn, parcel.batch, event, str(result), by=by, now=now)
    return told + (Progress(refused=people) if event == "refuse" else Progress(unknown=people))


def _receive(conn: Connection, parcel: Parcel, receipt: Receipt, now: datetime) -> Progress:
    batch, indexes = parcel.batch, parcel.indexes
    wait = throttle.deferral_wait(batch.attempt)
    later = receipt.deferred if wait is not None else ()
    refused = [(indexes[one.index], *_why(one)) for one in receipt.refused]
    if wait is None:
        refused += [(indexes[one.index], "deferred", _why(one)[1]) for one in receipt.deferred]
    unknown = [indexes[n] for n in receipt.unknown]
    moved = [one.index for one in later]
    found = batches.Exceptions(refused, unknown, (), [indexes[n] for n in moved])
    left = len(indexes) - len(moved)
    event = "refuse" if left and len(refused) == left else "lose" if left and len(unknown) == left else "accept"
    until, handed = receipt.recall_until, parcel.handed
    batches.settle(conn, batch.id, event, found, now=now, ref=receipt.ref, recall_until=until, handed=handed)
    if moved and wait is not None:
        _follow_up(conn, parcel, moved, now + wait)
    _report(conn, parcel, (*receipt.refused, *receipt.deferred), now)
    accepted = len(indexes) - len(refused) - len(unknown) - len(moved)
    return Progress(accepted=accepted, refused=len(refused), unknown=len(unknown), deferred=len(moved))


def _why(one: PerRecipient) -> tuple[str, str]:
    event = one.event
    return event.enhanced_code or event.cause or event.type.value, event.description[:_TEXT]


def _follow_up(conn: Connection, parcel: Parcel, moved: Sequence[int], not_before: datetime) -> None:
    """Those the ESP deferred go again by themselves; tokens and tallies keep pointing at where they were released."""
    batch, group = parcel.batch, parcel.batch.group
    where = batch.origins or [(batch.id, n) for n in range(batch.size)]
    _, batch_id = freezes.reserve(conn, batch_ids=1)
    draft = batches.Draft(
        *(batch_id, group.campaign_id, group.wave, batch.freeze_id, group.provider, group.route, group.zone),
        position=batch.position,
        size=len(moved),
        payload=payloads.encode(parcel.people.take(pa.array(moved))),
        attempt=batch.attempt + 1,
        not_before=not_before,
        origins=[(where[parcel.indexes[n]][0], where[parcel.indexes[n]][1]) for n in moved],
        doubted=batch.doubted,
    )
    batches.add(conn, [draft])


def _report(conn: Connection, parcel: Parcel, told: Sequence[PerRecipient], now: datetime) -> None:
    """What the ESP said at hand-over is feedback like any other: gates and suppressions learn of it exactly once."""
    if told:
        to = parcel.submission.recipients
        events = [replace(one.event, token=to.tokens[one.index], recipient=to.addresses[one.index]) for one in told]
        report = RawReport(encode_events(events), {"content-type": CONTENT_TYPE})
        inbox.put(conn, parcel.batch.group.route, [report], now)


def _rest(conn: Connection, name: str, route: Lending, fault: HandOverError, *, by: str, now: datetime) -> None:
    """The route takes nothing: hold it for a while, longer after each failure.

    An ESP that stopped the account, or a quota used up, is a hold of its own name. The first batch after it is alone:
    if it is taken the hold is over, else it is placed again.
    """
    route.failures += 1
    reason = fault.reason if isinstance(fault, Held) else UNREACHABLE
    if reason != UNREACHABLE:
        route.held.add(reason)
    until = now + throttle.unreachable_wait(route.failures, getattr(fault, "retry_after", None))
    holds.place(conn, kind=Kind.HOLD, reason=reason, by=by, now=now, route=name, detail=str(fault)[:_TEXT], until=until)


def tell_lost(conn: Connection, lost: Iterable[batches.Claimed], *, by: str, now: datetime) -> None:
    """Journal the batches nobody knows the fate of."""
    for batch in lost:
        _tell(conn, batch, "lose", "its holder died after it was marked as handed over", by=by, now=now)


def _tell(conn: Connection, batch: batches.Claimed, event: str, reason: str, *, by: str, now: datetime) -> None:
    journal.write(
        conn,
        at=now,
        actor=by,
        action=f"batch.{event}",
        campaign_id=batch.group.campaign_id,
        wave=batch.group.wave,
        provider=batch.group.provider,
        reason=reason,
        evidence={"batch": batch.id, "people": batch.size, "route": batch.group.route},
    )
