"""Settling people nobody knows the fate of: by what ESPs tell of them later, or by a person.

A worker that died or a call that never answered leaves people `unknown`. Any event that carries somebody's token says
that the ESP had them. Once the policy's time is over (`settle_unknown` of the campaign type), those are accepted, and
the rest waits for a person: write to them again, which risks writing twice, or leave them, which risks not at all.

The tick is the leader's. A person may decide anywhere: each batch is settled by compare-and-set, once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sendwave.errors import BadInput, NotAllowed, NotFound
from sendwave.rules.lifecycle import Campaign as Status
from sendwave.store import campaigns, journal, payloads, policies, unknowns
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Connection, Database
from sendwave.store.unknowns import Doubt

COLUMNS: Final = ("contact_id", "address", "wave", "provider", "batch", "handed_at", "state")
"""Of the list of people; `state` is `seen` (an event came, they are accepted soon) or `silent`."""

_NEVER_PLANNED: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Unknown:
    """People of one batch whose fate is unknown."""

    batch: int
    wave: int
    provider: str
    route: str
    handed_at: datetime
    people: int
    seen: int  # of them the ESP told something about since
    until: datetime  # when evidence settles it, and a person may
    state: str  # waiting | undecided | left

    def document(self) -> dict[str, Any]:
        """As `campaign unknown --json` prints it."""
        told = {name: getattr(self, name) for name in ("batch", "wave", "provider", "route", "people", "seen", "state")}
        return {**told, "handed_at": self.handed_at.isoformat(), "until": self.until.isoformat()}


@dataclass(frozen=True, slots=True)
class Settled:
    """What settling did, in people; `fresh` are the batches of those who go again."""

    batches: int = 0
    accepted: int = 0  # events told that the ESP had them
    resent: int = 0
    left: int = 0
    fresh: Sequence[int] = ()

    def document(self) -> dict[str, Any]:
        """As `campaign settle --json` prints it."""
        return {name: getattr(self, name) for name in ("batches", "accepted", "resent", "left")}


def settle_due(db: Database, *, by: str, now: datetime) -> int:
    """Accept the people events have told about, in batches whose time is over; returns how many."""
    with db.read() as conn:
        concerned = unknowns.campaign_ids(conn)
    total = 0
    for campaign_id in concerned:
        with db.write() as conn:
            campaign = campaigns.by_id(conn, campaign_id)
            due = [one for one in unknowns.read(conn, campaign_id) if one.until(_wait(conn, campaign)) <= now]
            seen = unknowns.seen(conn, due)
            for one in due:
                if (told := seen[one.id]) and unknowns.accept(conn, one, told):
                    _tell(conn, one, "accept", "events with their tokens came", len(told), by=by, now=now)
                    total += len(told)
    return total


def unknown(db: Database, name: str, *, now: datetime) -> list[Unknown]:
    """The batches with people nobody knows the fate of, oldest first. Raises NotFound."""
    with db.read() as conn:
        campaign = campaigns.get(conn, name)
        found = unknowns.read(conn, campaign.id)
        seen, wait = unknowns.seen(conn, found), _wait(conn, campaign)
    return [
        Unknown(
            *(one.id, one.wave, one.provider, one.route, one.since),
            people=len(one.unknown),
            seen=len(seen[one.id]),
            until=one.until(wait),
            state="left" if not one.undecided else "waiting" if one.until(wait) > now else "undecided",
        )
        for one in found
    ]


def people(db: Database, name: str) -> Iterator[tuple[Any, ...]]:
    """Those of undecided batches, one by one, as COLUMNS. Raises NotFound."""
    with db.read() as conn:
        found = [one for one in unknowns.read(conn, campaigns.get(conn, name).id) if one.undecided]
        seen = unknowns.seen(conn, found)
        for one in found:
            kept = unknowns.payload(conn, one.id)
            if kept is None:
                continue
            rows, told = payloads.decode(kept), {*seen[one.id]}
            ids, addresses = rows["contact_id"].to_pylist(), rows["address"].to_pylist()
            for index in one.unknown:
                state = "seen" if index in told else "silent"
                at = one.since.isoformat()
                yield ids[index], addresses[index], one.wave, one.provider, one.id, at, state


def decide(
    db: Database,
    name: str,
    *,
    resend: bool,
    reason: str,
    by: str,
    now: datetime,
    chosen: Collection[int] = (),
) -> Settled:
    """A person's word on the people nobody knows the fate of: write to them again (`resend`), or leave them.

    Whoever an event tells about is accepted in either case. Batches are all whose time is over, or the `chosen` ones of
    them. Raises NotFound, NotAllowed when nothing may be decided now, BadInput without a reason or for other batches.
    """
    if not reason.strip():
        raise BadInput("say why (--reason): whoever reads the journal later must know why people were written to again")
    with db.write() as conn:
        campaign = campaigns.get(conn, name)
        found = _decidable(conn, campaign, chosen, now)
        if resend:
            _may_send(conn, campaign, reason=reason, by=by, now=now)
        seen = unknowns.seen(conn, found)
        done = Settled()
        for one in found:
            done = _added(done, _decide(conn, one, seen[one.id], resend=resend, reason=reason, by=by, now=now))
        return done


def _decide(
    conn: Connection, one: Doubt, seen: Sequence[int], *, resend: bool, reason: str, by: str, now: datetime
) -> Settled:
    rest = len(one.unknown) - len(seen)
    if not rest:
        unknowns.accept(conn, one, seen)
        _tell(conn, one, "accept", "events with their tokens came", len(seen), by=by, now=now)
        return Settled(1, len(seen))
    if resend:
        fresh = unknowns.resend(conn, one, seen)
        if fresh is None:
            return Settled()
        _tell(conn, one, "resend", reason, rest, by=by, now=now, seen=len(seen), fresh=fresh)
        return Settled(1, len(seen), resent=rest, fresh=[fresh])
    if not unknowns.leave(conn, one, seen):
        return Settled()
    _tell(conn, one, "leave", reason, rest, by=by, now=now, seen=len(seen))
    return Settled(1, len(seen), left=rest)


def _added(one: Settled, other: Settled) -> Settled:
    return Settled(
        one.batches + other.batches,
        one.accepted + other.accepted,
        one.resent + other.resent,
        one.left + other.left,
        [*one.fresh, *other.fresh],
    )


def _decidable(conn: Connection, campaign: Campaign, chosen: Collection[int], now: datetime) -> list[Doubt]:
    undecided = {one.id: one for one in unknowns.read(conn, campaign.id) if one.undecided}
    if strange := sorted(set(chosen) - set(undecided)):
        raise BadInput(
            f"campaign {campaign.name} has nobody to decide about in batch {strange[0]}: "
            f"`sendwave campaign unknown {campaign.name}` lists its batches"
        )
    wanted = [one for one in undecided.values() if not chosen or one.id in chosen]
    if not wanted:
        raise NotAllowed(f"campaign {campaign.name} has nobody whose fate is to be decided: nothing was done")
    wait = _wait(conn, campaign)
    due = [one for one in wanted if one.until(wait) <= now]
    if not due:
        soonest = min(one.until(wait) for one in wanted)
        raise NotAllowed(
            f"events may still tell what became of them until {soonest:%Y-%m-%d %H:%M} UTC: decide then "
            "(settle_unknown of the campaign type is how long they may)"
        )
    return due


def _may_send(conn: Connection, campaign: Campaign, *, reason: str, by: str, now: datetime) -> None:
    """A completed campaign sends again; one that was stopped must be resumed first, or stays stopped."""
    if campaign.status == Status.COMPLETED:
        campaigns.transition(conn, campaign.id, "reopen", by=by, now=now, reason=reason, ended_at=None)
    elif campaign.status == Status.CANCELLED:
        raise NotAllowed(f"campaign {campaign.name} is cancelled, nobody else is written to: --leave is what remains")
    elif campaign.status == Status.HALTED:
        raise NotAllowed(f"campaign {campaign.name} is halted: `sendwave campaign resume {campaign.name}` first")


def _wait(conn: Connection, campaign: Campaign) -> timedelta:
    """How long events may tell, by the policy the campaign was approved under."""
    if campaign.policy_version is None:
        return _NEVER_PLANNED
    try:
        kind = policies.pinned(conn, campaign.policy_version).type_of(campaign.type)
    except (NotFound, BadInput):  # kept by a version with other models: people can still be decided about
        return _NEVER_PLANNED
    return kind.settle_unknown


def _tell(
    conn: Connection, one: Doubt, event: str, reason: str, people: int, *, by: str, now: datetime, **more: int
) -> None:
    journal.write(
        conn,
        at=now,
        actor=by,
        action=f"batch.{event}",
        campaign_id=one.campaign_id,
        wave=one.wave,
        provider=one.provider,
        reason=reason,
        evidence={"batch": one.id, "people": people, "route": one.route, **more},
    )
