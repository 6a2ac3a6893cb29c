"""Which message an event speaks of, and whether it is one we have heard before.

An event with our signed token names batch and position by itself, and the bit it sets is its identity. One without is
known by a key over what its ESP says of it, the recipient always included: one report can carry several recipients.
Opens and clicks each keep a row of their own in the lake, so they have a key in any case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sendwave.rules.addresses import fingerprint, normalise_email
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
    func,
    select,
    table,
)
from sendwave.rules.events import Cause, Event, EventType, Permanence
from sendwave.rules.signals import REPEATED, Tally, suppression_of, tally_of
from sendwave.rules.token import verify_all

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]

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

SOUGHT: Final = table("sought", column("row", BigInteger), column("address_hash", String), column("until", BigInteger))
"""Addresses of events without a token; `until` is the latest instant (epoch seconds) their mail can have left."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Events as columns of one length."""

    event: Numbers  # index into the events that were read
    batch: Numbers  # NOWHERE, FORGED, or the released batch
    position: Numbers
    tally: Numbers  # index into WORDS
    at: Numbers  # epoch seconds, as told
    received: Numbers  # epoch seconds

    def only(self, chosen: Mask | Numbers) -> Arrivals:
        """The events for which `chosen` is true, or at these indexes."""
        columns = (self.event, self.batch, self.position, self.tally, self.at, self.received)
        return Arrivals(*(values[chosen] for values in columns))

    def __len__(self) -> int:
        return len(self.event)


def locate(events: Sequence[Event], received: Numbers, token_key: bytes) -> Arrivals:
    """Columns of these events, each placed by its token alone. `received` are epoch seconds, one per event."""
    codes = _Codes()
    placed = _named(token_key, events)
    return Arrivals(
        event=np.arange(len(events), dtype=np.int64),
        batch=placed[:, 0],
        position=placed[:, 1],
        tally=np.fromiter((codes.of(event) for event in events), np.int64, len(events)),
        at=np.fromiter((event.event_at.timestamp() for event in events), np.float64, len(events)).astype(np.int64),
        received=received,
    )


def _named(token_key: bytes, events: Sequence[Event]) -> Numbers:
    """(batch, position) per event, by its token."""
    placed = np.full((len(events), 2), NOWHERE, dtype=np.int64)
    given = [index for index, event in enumerate(events) if event.token]
    if given:
        found = verify_all(token_key, [events[index].token or "" for index in given])
        placed[given] = np.where(found < 0, FORGED, found)
    return placed


class _Codes:
    """Codes of tallies, worked out once per combination of the words that decide."""

    def __init__(self) -> None:
        self._known: dict[tuple[EventType, Permanence, Cause | None, bool | None], int] = {}

    def of(self, event: Event) -> int:
        words = (event.type, event.permanence, event.cause, event.machine_open)
        code = self._known.get(words)
        if code is None:
            code = self._known[words] = WORDS.index(tally_of(event))
        return code


def keys(arrivals: Arrivals, events: Sequence[Event], route: Callable[[int], str]) -> dict[int, bytes]:
    """Keys (16 bytes) of the events that need one, by row of `arrivals`. `route` names the feed of an event's index."""
    tokenless = np.flatnonzero(arrivals.batch == NOWHERE).tolist()
    repeated = np.flatnonzero((arrivals.batch >= 0) & IS_REPEATED[arrivals.tally]).tolist()
    found = {}
    for row in tokenless:
        index = int(arrivals.event[row])
        found[row] = _told_key(route(index), WORDS[arrivals.tally[row]], events[index])
    for row in repeated:
        place = (int(column[row]) for column in (arrivals.batch, arrivals.position, arrivals.tally))
        event = events[int(arrivals.event[row])]
        found[row] = _hashed((*place, event.event_at.timestamp(), event.url))
    return found


def _told_key(route: str, tally: Tally, event: Event) -> bytes:
    told = (event.event_id,) if event.event_id else (event.message_id, event.event_at.timestamp(), event.url)
    return _hashed((route, tally.value, (event.recipient or "").lower(), *told))


def _hashed(parts: tuple[object, ...]) -> bytes:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


def first_of(found: dict[int, bytes], seen: set[bytes], size: int) -> tuple[Mask, set[bytes]]:
    """(rows that are news by their key, the new keys): keyless rows are, and of equal keys the first unseen one."""
    fresh = np.ones(size, dtype=bool)
    new: set[bytes] = set()
    for row, key in found.items():
        if key in seen or key in new:
            fresh[row] = False
        else:
            new.add(key)
    return fresh, new


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
    try:
        return None if event.recipient is None else fingerprint(normalise_email(event.recipient))
    except ValueError:
        return None


def epoch(instant: datetime | None) -> int:
    """Whole seconds since 1970; 0 for none."""
    return 0 if instant is None else int(instant.timestamp())


def events_statement() -> Select[Any]:
    """columns.EVENTS of the table `arrived`, with the contact each event is about."""
    return _with_people(ARRIVED, *(SENDS.c.contact if c.name == "contact" else ARRIVED.c[c.name] for c in EVENTS.c))


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
