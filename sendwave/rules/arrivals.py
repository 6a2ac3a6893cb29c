"""Which message an event speaks of, and whether it is one we have heard before.

An event with our signed token names batch and position by itself, and the bit it sets is its identity. One without is
known by a key over what its ESP says of it, the recipient always included: one report can carry several recipients.
Opens and clicks each keep a row of their own in the lake, so of those the instant and the link belong to the identity.

Events come by the hundred thousand, so they are columns here, and whatever is the same for many is worked out once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sendwave.rules.addresses import fingerprint, normalise_email, normalise_phone
from sendwave.rules.columns import (
    EVENTS,
    SENDS,
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    String,
    TableClause,
    and_,
    column,
    exists,
    func,
    select,
    table,
)
from sendwave.rules.events import Cause, Event, EventType, Permanence
from sendwave.rules.signals import REPEATED, Tally, suppression_of, tally
from sendwave.rules.token import verify_all

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]
Kind = tuple[EventType, Permanence, Cause | None, bool | None]
"""Type, permanence, cause, whether a machine opened it: the words of an event that few others do not share."""
Kinds = tuple[Kind, ...]

WORDS: Final = tuple(Tally)
"""Tallies by code: `Arrivals.tally` holds indexes into it."""

NOWHERE: Final = -1
"""Batch of an event that has no token."""

FORGED: Final = -2
"""Batch of an event whose token is not ours. It is counted as unmatched, and believed in nothing else."""

UNKNOWN: Final = WORDS.index(Tally.UNKNOWN)
IS_REPEATED: Final = np.array([word in REPEATED for word in WORDS])
MAY_STOP: Final = np.array([any(suppression_of(word, cause) for cause in (None, *Cause)) for word in WORDS])

ARRIVED: Final = table("arrived", *(column(c.name, c.type) for c in EVENTS.c if c.name != "contact"))
"""Events about to be kept: columns.EVENTS, the contact apart."""

STOPPED: Final = table("stopped", column("row", BigInteger), column("batch", BigInteger), column("position", Integer))
"""Recipients whose address must be looked up."""

CHOSEN: Final = table("chosen", column("report", BigInteger))
"""Reports that are read again."""

SOUGHT: Final = table("sought", column("row", BigInteger), column("address_hash", String), column("until", BigInteger))
"""Addresses of events without a token; `until` is the latest instant (epoch seconds) their mail can have left."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Events as columns of one length."""

    event: Numbers  # index into the events that were read
    batch: Numbers  # NOWHERE, FORGED, or the released batch
    position: Numbers
    tally: Numbers  # index into WORDS
    kind: Numbers  # index into the Kinds that `locate` found
    at: Numbers  # epoch seconds, as told
    received: Numbers  # epoch seconds

    def only(self, chosen: Mask | Numbers) -> Arrivals:
        """The events for which `chosen` is true, or at these indexes."""
        columns = (self.event, self.batch, self.position, self.tally, self.kind, self.at, self.received)
        return Arrivals(*(values[chosen] for values in columns))

    def __len__(self) -> int:
        return len(self.event)


def locate(events: Sequence[Event], received: Numbers, token_key: bytes) -> tuple[Arrivals, Kinds]:
    """Columns of these events, each placed by its token alone. `received` are epoch seconds, one per event."""
    known: dict[Kind, int] = {}
    kind = [known.setdefault((e.type, e.permanence, e.cause, e.machine_open), len(known)) for e in events]
    kinds = tuple(known)
    codes = [WORDS.index(tally(*words[:3], machine=words[3] is True)) for words in kinds]
    placed, kind_column = _named(token_key, events), np.array(kind, dtype=np.int64)
    located = Arrivals(
        event=np.arange(len(events), dtype=np.int64),
        batch=placed[:, 0],
        position=placed[:, 1],
        tally=np.array(codes, dtype=np.int64)[kind_column],
        kind=kind_column,
        at=np.array([event.event_at.timestamp() for event in events], dtype=np.float64).astype(np.int64),
        received=received,
    )
    return located, kinds


def _named(token_key: bytes, events: Sequence[Event]) -> Numbers:
    """(batch, position) per event, by its token."""
    placed = np.full((len(events), 2), NOWHERE, dtype=np.int64)
    tokens = [event.token for event in events]
    given = [token for token in tokens if token]
    if given:
        found = verify_all(token_key, given)
        placed[np.array([bool(token) for token in tokens])] = np.where(found < 0, FORGED, found)
    return placed


def told_keys(
    arrivals: Arrivals, events: Sequence[Event], route: Callable[[int], str]
) -> tuple[Numbers, NDArray[np.int64]]:
    """(rows without a token, their keys): `route` names the feed of an event's index.

    A key is a hash of 64 bits: among a hundred million of them, two are equal once in four thousand installations.
    """
    rows = np.flatnonzero(arrivals.batch == NOWHERE)
    found = []
    for index, code in zip(arrivals.event[rows].tolist(), arrivals.tally[rows].tolist(), strict=True):
        event = events[index]
        told = (event.event_id,) if event.event_id else (event.message_id, event.event_at.timestamp(), event.url)
        found.append(_hashed((route(index), WORDS[code].value, (event.recipient or "").lower(), *told)))
    return rows, np.array(found, dtype=np.int64)


def act_keys(arrivals: Arrivals, events: Sequence[Event]) -> NDArray[np.int64]:
    """What makes an open or click one of its own, beside batch, position and tally: instant and link, as 64 bits.

    0 for whatever has no such key.
    """
    found = np.zeros(len(arrivals), dtype=np.int64)
    rows = np.flatnonzero(IS_REPEATED[arrivals.tally])
    if len(rows):
        acts = [events[index] for index in arrivals.event[rows].tolist()]
        links = {url: _hashed((url,)) for url in {event.url for event in acts}}
        instants = np.array([event.event_at.timestamp() for event in acts]) * 1e6
        mixed = mix(instants.astype(np.int64), np.array([links[event.url] for event in acts], dtype=np.int64))
        found[rows] = np.where(mixed == 0, 1, mixed)
    return found


def mix(one: Numbers, other: Numbers) -> NDArray[np.int64]:
    """Two numbers hashed into one of 64 bits (the finaliser of MurmurHash3, Appleby 2011); equal on every machine."""
    mixed = one.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ other.view(np.uint64)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(factor)
    result: NDArray[np.int64] = (mixed ^ (mixed >> np.uint64(33))).view(np.int64)
    return result


def _hashed(parts: tuple[object, ...]) -> int:
    digest = hashlib.blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def first_of(keys: NDArray[np.int64], seen: NDArray[np.int64]) -> Mask:
    """Which of these keys are news: not among `seen`, and of equal ones the first."""
    fresh = np.zeros(len(keys), dtype=bool)
    fresh[np.unique(keys, return_index=True)[1]] = True
    return fresh & ~np.isin(keys, seen)


def inside(arrivals: Arrivals, sizes: Mapping[int, int]) -> Mask:
    """Which events name a recipient that exists, given the people per batch."""
    if not sizes:
        return np.zeros(len(arrivals), dtype=bool)
    ids = np.array(sorted(sizes), dtype=np.int64)
    people = np.array([sizes[batch] for batch in ids.tolist()], dtype=np.int64)
    place = np.minimum(np.searchsorted(ids, arrivals.batch), len(ids) - 1)
    found: Mask = (ids[place] == arrivals.batch) & (arrivals.position >= 0) & (arrivals.position < people[place])
    return found


def settle_times(arrivals: Arrivals, handed_at: Numbers) -> Numbers:
    """Event times (epoch seconds) that can be true: not before the hand-over, not after we heard of them."""
    return np.minimum(np.maximum(arrivals.at, handed_at), arrivals.received)


def address_hash(event: Event) -> str | None:
    """What the suppression list knows of the event's recipient; None where it is missing or no address."""
    told = event.recipient
    if told is None:
        return None
    try:
        return fingerprint(normalise_email(told) if "@" in told else normalise_phone(_with_plus(told)))
    except ValueError:
        return None


def channel_of(event: Event) -> str:
    """The channel of an event that names none of our messages, by the shape of its recipient."""
    return "email" if event.recipient is None or "@" in event.recipient else "sms"


def _with_plus(number: str) -> str:
    """Gateways leave the + of an international number out."""
    digits = number.strip()
    return f"+{digits}" if digits[:1] in "123456789" and digits[:1] else digits


def epoch(instant: datetime | None) -> int:
    """Whole seconds since 1970; 0 for none."""
    return 0 if instant is None else int(instant.timestamp())


def events_statement() -> Select[Any]:
    """columns.EVENTS of the table `arrived`, with the contact each event is about."""
    return _with_people(ARRIVED, *(SENDS.c.contact if c.name == "contact" else ARRIVED.c[c.name] for c in EVENTS.c))


def told_by_statement() -> Select[Any]:
    """columns.EVENTS of the reports in the table `chosen`."""
    return select(*EVENTS.c).select_from(EVENTS.join(CHOSEN, CHOSEN.c.report == EVENTS.c.report))


def told_by_others_statement() -> Select[Any]:
    """columns.EVENTS of all reports but those in the table `chosen`."""
    return select(*EVENTS.c).where(~exists().where(CHOSEN.c.report == EVENTS.c.report))


def compact_statement() -> Select[Any]:
    """All rows of columns.EVENTS, those of one batch side by side."""
    return select(*EVENTS.c).order_by(EVENTS.c.batch, EVENTS.c.position)


def addresses_statement() -> Select[Any]:
    """row, address_hash: the address each recipient of the table `stopped` was written to at."""
    return _with_people(STOPPED, STOPPED.c.row, SENDS.c.address_hash)


def latest_statement() -> Select[Any]:
    """row, batch, position: the latest mail to each address of the table `sought`; none where there was none."""
    newest = (SENDS.c.sent_ts.desc(), SENDS.c.freeze.desc(), SENDS.c.batch.desc())
    turn = func.row_number().over(partition_by=SOUGHT.c.row, order_by=newest)
    same = and_(
        SENDS.c.address_hash == SOUGHT.c.address_hash,
        SENDS.c.batch.is_not(None),
        SENDS.c.excluded_by.is_(None),
        SENDS.c.sent_ts <= SOUGHT.c.until,
    )
    ranked = select(SOUGHT.c.row, SENDS.c.batch, SENDS.c.position, turn.label("turn")).select_from(
        SOUGHT.join(SENDS, same)
    )
    found = ranked.subquery("ranked")
    return select(found.c.row, found.c.batch, found.c.position).where(found.c.turn == 1)


def _with_people(events: TableClause, *columns: ColumnElement[Any]) -> Select[Any]:
    """Events with what is known of their recipients; one whose people are not in the lake stays."""
    same = and_(SENDS.c.batch == events.c.batch, SENDS.c.position == events.c.position)
    return select(*columns).select_from(events.outerjoin(SENDS, same))
