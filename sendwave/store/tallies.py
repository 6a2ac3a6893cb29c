"""Tallies: one bitmap per (batch, tally), bit = position of the recipient. De-duplication and counter in one.

The bitmap of 1,000 people is 125 bytes and setting a bit twice changes nothing, so whatever is reported again, in
whatever order, counts once. Measured against a row per event id: a sixtieth of the disk, and no decay with size. Opens
and clicks count once too, but each is kept: beside their bitmap stand eight bytes for each that was told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from sendwave.errors import StaleTransition
from sendwave.rules.arrivals import first_of, mix
from sendwave.store import upsert
from sendwave.store.tables import batches, campaigns, counted, counters, event_keys, files, freezes, tallies

_T = TypeVar("_T")
_LOOK_UP: Final = 500
_KEYS: Final = 5_000
_COUNTED: Final = "another process has counted events of these batches: count again"
_WORDS: Final = 64
"""More tallies than there will ever be: (batch, tally) fits in one integer."""


@dataclass(frozen=True, slots=True)
class Target:
    """A released batch, as an event's token names it."""

    batch_id: int
    campaign_id: int
    wave: int
    provider: str
    route: str
    size: int
    handed_at: datetime | None
    channel: str
    type: str
    policy_version: str | None
    sends: str | None  # path of the file with its people, relative to the lake


class Change(NamedTuple):
    """One bitmap that got new bits or acts. `was` is the count it had, None where it did not exist."""

    batch_id: int
    tally: str
    bits: bytes
    n: int
    was: int | None
    acts: bytes | None = None  # keys of 8 bytes of all acts told so far
    knew: int = 0  # bytes of keys it had


@dataclass(frozen=True, slots=True)
class Marks:
    """Events as columns of one length: the bit each sets, its tally as an index of `words`."""

    batch: NDArray[np.int64]
    position: NDArray[np.int64]
    tally: NDArray[np.int64]
    words: Sequence[str]
    act: NDArray[np.int64] | None = None  # key of an open or click that is one of its own, 0 for anything else


class Marked(NamedTuple):
    """What events do to the bitmaps."""

    new: NDArray[np.bool_]  # those that set a bit which was not set
    changes: list[Change]  # the bitmaps as they become
    fresh: NDArray[np.bool_]  # those whose act was not told before; true for events without one
    acts: NDArray[np.int64]  # key of each act as it is kept, 0 for events without one


_TARGETS: Final = (
    select(
        *(batches.c[name] for name in ("id", "campaign_id", "wave", "provider", "route", "size", "handed_at")),
        *(campaigns.c[name] for name in ("channel", "type", "policy_version")),
        files.c.path,
    )
    .select_from(
        batches.join(campaigns, campaigns.c.id == batches.c.campaign_id).outerjoin(
            freezes.join(files, files.c.id == freezes.c.file_id), freezes.c.id == batches.c.freeze_id
        )
    )
    .where(batches.c.id.in_(bindparam("ids", expanding=True)))
)
_MAPS: Final = select(tallies).where(tallies.c.batch_id.in_(bindparam("ids", expanding=True)))
_NEW: Final = insert(tallies)
_GROWN: Final = (
    update(tallies)
    .where(
        tallies.c.batch_id == bindparam("batch"),
        tallies.c.tally == bindparam("kind"),
        tallies.c.n == bindparam("seen_n"),
        func.coalesce(func.length(tallies.c.acts), 0) == bindparam("knew"),
    )
    .values(bits=bindparam("new_bits"), n=bindparam("new_n"), acts=bindparam("new_acts"))
)
_TRAIL: Final = insert(counted)


def targets(conn: Connection, batch_ids: Iterable[int]) -> dict[int, Target]:
    """What is known of these batches; ids nobody gave out are left out."""
    found = {}
    for chunk in _chunks(batch_ids):
        for row in conn.execute(_TARGETS, {"ids": chunk}):
            found[row[0]] = Target(*row)
    return found


def sends_files(conn: Connection, route: str, since: datetime) -> list[str]:
    """The files of people frozen for that route since then: where an event without a token may find its recipient."""
    left_by = exists().where(batches.c.freeze_id == freezes.c.id, batches.c.route == route)
    frozen = select(freezes.c.file_id).where(freezes.c.frozen_at >= since, left_by)
    statement = select(files.c.path).where(files.c.id.in_(frozen)).order_by(files.c.id)
    return list(conn.execute(statement).scalars())


def mark(
    conn: Connection, marks: Marks, sizes: Mapping[int, int], drawn: Mapping[tuple[int, str], Change] | None = None
) -> Marked:
    """What these events change; nothing is written yet.

    Of several events for one bit the first one sets it. Every position is below the `sizes` of its batch. `drawn` are
    bitmaps by (batch, tally) that are about to be written, and stand in for those of the store.
    """
    groups, group = np.unique(marks.batch * _WORDS + marks.tally, return_inverse=True)
    owners, kinds = (groups // _WORDS).tolist(), [marks.words[kind] for kind in (groups % _WORDS).tolist()]
    pairs = list(zip(owners, kinds, strict=True))
    maps = _load(conn, pairs, [(sizes[batch] + 7) // 8 for batch in owners], drawn or {})
    bit = maps.starts[group] * 8 + marks.position
    byte, mask = bit >> 3, np.left_shift(1, bit & 7).astype(np.uint8)
    new = np.zeros(len(bit), dtype=bool)
    new[np.unique(bit, return_index=True)[1]] = True
    new &= (maps.flat[byte] & mask) == 0
    np.bitwise_or.at(maps.flat, byte[new], mask[new])
    fresh, told, keys = _acts(maps, group, marks)
    added = np.bincount(group[new], minlength=len(groups)).tolist()
    changes = [
        Change(owners[g], kinds[g], maps.bits(g), (maps.n[g] or 0) + n, maps.n[g], told.get(g, old), len(old or b""))
        for g, (n, old) in enumerate(zip(added, maps.acts, strict=True))
        if n or g in told
    ]
    return Marked(new, changes, fresh, keys)


def _acts(
    maps: _Maps, group: NDArray[np.int64], marks: Marks
) -> tuple[NDArray[np.bool_], dict[int, bytes], NDArray[np.int64]]:
    """(events whose act is news, the keys of each bitmap that got further ones, the key of each event's act)."""
    fresh, every = np.ones(len(group), dtype=bool), np.zeros(len(group), dtype=np.int64)
    if marks.act is None or not marks.act.any():
        return fresh, {}, every
    rows = np.flatnonzero(marks.act)
    where, acts = group[rows], mix(marks.act[rows], marks.position[rows])
    every[rows] = acts
    known = [(g, np.frombuffer(maps.acts[g] or b"", dtype="<i8")) for g in np.unique(where).tolist()]
    owner = np.repeat([g for g, _ in known], [len(keys) for _, keys in known])
    seen = mix(owner.astype(np.int64), np.concatenate([keys for _, keys in known]).astype(np.int64))
    fresh[rows] = news = first_of(mix(where.astype(np.int64), acts), seen)
    if not news.any():
        return fresh, {}, every
    told = {}
    order = np.argsort(where[news], kind="stable")
    found, starts = np.unique(where[news][order], return_index=True)
    for g, keys in zip(found.tolist(), np.split(acts[news][order], starts[1:]), strict=True):
        told[g] = (maps.acts[g] or b"") + keys.astype("<i8").tobytes()
    return fresh, told, every


class _Maps(NamedTuple):
    """Bitmaps end to end, with their counts and acts; None where one does not exist yet."""

    flat: NDArray[np.uint8]
    starts: NDArray[np.int64]
    n: list[int | None]
    acts: list[bytes | None]

    def bits(self, index: int) -> bytes:
        return self.flat[self.starts[index] : self.starts[index + 1]].tobytes()


def _load(
    conn: Connection,
    pairs: Sequence[tuple[int, str]],
    widths: Sequence[int],
    drawn: Mapping[tuple[int, str], Change],
) -> _Maps:
    starts = np.concatenate(([0], np.cumsum(np.array(widths, dtype=np.int64))))
    nothing: list[Any] = [None] * len(pairs)
    maps = _Maps(np.zeros(starts[-1], dtype=np.uint8), starts, nothing, nothing.copy())
    place = {pair: index for index, pair in enumerate(pairs)}
    stored = stored_maps(conn, {batch for batch, _ in pairs})
    for pair, row in {**stored, **drawn}.items():
        index = place.get(pair)
        if index is not None:
            maps.flat[starts[index] : starts[index] + len(row.bits)] = np.frombuffer(row.bits, dtype=np.uint8)
            maps.n[index], maps.acts[index] = row.n, row.acts
    return maps


def stored_maps(conn: Connection, batch_ids: Iterable[int]) -> dict[tuple[int, str], Change]:
    """The bitmaps of these batches by (batch, tally), as changes that change nothing."""
    return {
        (row.batch_id, row.tally): Change(
            row.batch_id, row.tally, row.bits, row.n, row.n, row.acts, len(row.acts or b"")
        )
        for chunk in _chunks(sorted(batch_ids))
        for row in conn.execute(_MAPS, {"ids": chunk})
    }


def without(change: Change, positions: NDArray[np.int64], acts: NDArray[np.int64]) -> Change:
    """A bitmap without the bits of these positions and without these acts (0 is none)."""
    bits = np.unpackbits(np.frombuffer(change.bits, dtype=np.uint8), bitorder="little")
    bits[positions] = 0
    told = np.frombuffer(change.acts or b"", dtype="<i8")
    left = told[~np.isin(told, acts)].tobytes() if change.acts is not None else None
    packed = np.packbits(bits, bitorder="little").tobytes()
    return change._replace(bits=packed, n=int(bits.sum()), acts=left)


def drop_empty(conn: Connection, batch_ids: Iterable[int]) -> None:
    """Delete the bitmaps and minutes of these batches that count nobody."""
    for chunk in _chunks(sorted(batch_ids)):
        conn.execute(delete(tallies).where(tallies.c.batch_id.in_(chunk), tallies.c.n == 0))
        named = select(batches.c.campaign_id).where(batches.c.id.in_(chunk))
        conn.execute(delete(counters).where(counters.c.campaign_id.in_(named), counters.c.n <= 0))


def write(conn: Connection, changes: Iterable[Change]) -> None:
    """Store changed bitmaps, and which batches they are of. Raises StaleTransition when one changed since `mark`."""
    ordered = sorted(changes, key=lambda change: change[:2])
    fresh = [dict(zip(tallies.c.keys(), (*c[:4], c.acts), strict=True)) for c in ordered if c.was is None]
    names = ("batch", "kind", "new_bits", "new_n", "seen_n", "new_acts", "knew")
    grown = [dict(zip(names, c, strict=True)) for c in ordered if c.was is not None]
    if fresh:
        try:
            conn.execute(_NEW, fresh)
        except IntegrityError as fault:
            raise StaleTransition(_COUNTED) from fault
    if grown and conn.execute(_GROWN, grown).rowcount != len(grown):
        raise StaleTransition(_COUNTED)
    if ordered:
        changed = np.unique(np.array([c.batch_id for c in ordered], dtype=np.int64))
        conn.execute(_TRAIL, {"batches": changed.tobytes()})


class Bucket(NamedTuple):
    """Distinct events of one minute of their own time."""

    campaign_id: int
    wave: int
    provider: str
    tally: str
    bucket_at: datetime


def count(conn: Connection, added: Mapping[Bucket, int]) -> None:
    """Add new events to their minutes."""
    if not added:
        return
    conn.execute(
        upsert.added(conn.dialect.name, counters), [{**bucket._asdict(), "n": n} for bucket, n in sorted(added.items())]
    )


def by_minute(conn: Connection, campaign_id: int) -> dict[Bucket, int]:
    """Distinct events per minute, lane and tally, for charts and delay curves."""
    columns = [*(counters.c[name] for name in Bucket._fields), counters.c.n]
    rows = conn.execute(select(*columns).where(counters.c.campaign_id == campaign_id))
    return {Bucket(*row[:-1]): row[-1] for row in rows}


def by_batch(conn: Connection, campaign_id: int) -> dict[tuple[int, str], int]:
    """Recipients counted per (batch, tally)."""
    statement = (
        select(tallies.c.batch_id, tallies.c.tally, tallies.c.n)
        .join(batches, batches.c.id == tallies.c.batch_id)
        .where(batches.c.campaign_id == campaign_id)
    )
    return {(row[0], row[1]): row[2] for row in conn.execute(statement)}


def positions(conn: Connection, batch_id: int, tally: str) -> list[int]:
    """The recipients of a batch that a tally counts."""
    statement = select(tallies.c.bits).where(tallies.c.batch_id == batch_id, tallies.c.tally == tally)
    bits = conn.execute(statement).scalar()
    if bits is None:
        return []
    found: list[int] = np.flatnonzero(np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little")).tolist()
    return found


def seen_keys(conn: Connection, keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the event keys (64 bits each) that were remembered before."""
    found: list[int] = []
    for chunk in _chunks(np.unique(keys).tolist(), _KEYS):
        listed = ",".join(map(str, chunk))  # numbers we made: a parameter for each would cost more than the search
        asked = conn.exec_driver_sql(f"SELECT {event_keys.c.key.name} FROM {event_keys.name} WHERE key IN ({listed})")
        found += asked.scalars()
    return np.array(found, dtype=np.int64)


def remember_keys(conn: Connection, keys: NDArray[np.int64], now: datetime) -> None:
    """Keep new event keys. Raises StaleTransition when another process has just remembered one of them."""
    if not len(keys):
        return
    # Straight to the driver: SQLAlchemy's work per row would cost four times what the database does with it.
    statement = insert(event_keys).compile(dialect=conn.dialect, column_keys=["key", "seen_at"])
    process = event_keys.c.seen_at.type.dialect_impl(conn.dialect).bind_processor(conn.dialect)
    stamp = now if process is None else process(now)
    rows: Any = [{"key": key, "seen_at": stamp} for key in np.sort(keys).tolist()]
    if conn.dialect.positional:
        rows = [tuple(row[name] for name in statement.positiontup or ()) for row in rows]
    try:
        conn.exec_driver_sql(str(statement), rows)
    except IntegrityError as fault:
        raise StaleTransition(_COUNTED) from fault


def forget_keys(conn: Connection, before: datetime, limit: int | None = None) -> int:
    """Delete keys last seen before that instant, at most `limit`: no ESP repeats an event for weeks. How many."""
    old = select(event_keys.c.key).where(event_keys.c.seen_at < before).limit(limit)
    return conn.execute(delete(event_keys).where(event_keys.c.key.in_(old))).rowcount


def _chunks(items: Iterable[_T], size: int = _LOOK_UP) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
