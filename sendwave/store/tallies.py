"""Tallies: one bitmap per (batch, tally), bit = position of the recipient. De-duplication and counter in one.

The bitmap of 1,000 people is 125 bytes and setting a bit twice changes nothing, so whatever is reported again, in
whatever order, counts once. Measured against a row per event id: a sixtieth of the disk, and no decay with size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from sendwave.errors import StaleTransition
from sendwave.store.tables import batches, campaigns, counters, event_keys, files, freezes, tallies
from sendwave.store.upsert import upsert

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
    """One bitmap that got new bits. `was` is the count it had, None where it did not exist."""

    batch_id: int
    tally: str
    bits: bytes
    n: int
    was: int | None


@dataclass(frozen=True, slots=True)
class Marks:
    """Events as columns of one length: the bit each sets, its tally as an index of `words`."""

    batch: NDArray[np.int64]
    position: NDArray[np.int64]
    tally: NDArray[np.int64]
    words: Sequence[str]


def targets(conn: Connection, batch_ids: Iterable[int]) -> dict[int, Target]:
    """What is known of these batches; ids nobody gave out are left out."""
    columns = [
        *(batches.c[name] for name in ("id", "campaign_id", "wave", "provider", "route", "size", "handed_at")),
        *(campaigns.c[name] for name in ("channel", "type", "policy_version")),
        files.c.path,
    ]
    joined = batches.join(campaigns, campaigns.c.id == batches.c.campaign_id).outerjoin(
        freezes.join(files, files.c.id == freezes.c.file_id), freezes.c.id == batches.c.freeze_id
    )
    found = {}
    for chunk in _chunks(batch_ids):
        for row in conn.execute(select(*columns).select_from(joined).where(batches.c.id.in_(chunk))):
            found[row[0]] = Target(*row)
    return found


def sends_files(conn: Connection, route: str, since: datetime) -> list[str]:
    """The files of people frozen for that route since then: where an event without a token may find its recipient."""
    left_by = exists().where(batches.c.freeze_id == freezes.c.id, batches.c.route == route)
    frozen = select(freezes.c.file_id).where(freezes.c.frozen_at >= since, left_by)
    statement = select(files.c.path).where(files.c.id.in_(frozen)).order_by(files.c.id)
    return list(conn.execute(statement).scalars())


def mark(conn: Connection, marks: Marks, sizes: Mapping[int, int]) -> tuple[NDArray[np.bool_], list[Change]]:
    """(which events set a bit that was not set, the bitmaps as they become). Nothing is written yet.

    Of several events for one bit the first one sets it. Every position is below the `sizes` of its batch.
    """
    groups, group = np.unique(marks.batch * _WORDS + marks.tally, return_inverse=True)
    owners, kinds = (groups // _WORDS).tolist(), [marks.words[kind] for kind in (groups % _WORDS).tolist()]
    widths = np.array([(sizes[batch] + 7) // 8 for batch in owners], dtype=np.int64)
    starts = np.concatenate(([0], np.cumsum(widths)))
    flat, known = _loaded(conn, list(zip(owners, kinds, strict=True)), starts)
    bit = starts[group] * 8 + marks.position
    byte, mask = bit >> 3, np.left_shift(1, bit & 7).astype(np.uint8)
    new = np.zeros(len(bit), dtype=bool)
    new[np.unique(bit, return_index=True)[1]] = True
    new &= (flat[byte] & mask) == 0
    np.bitwise_or.at(flat, byte[new], mask[new])
    added = np.bincount(group[new], minlength=len(groups)).tolist()
    changes = [
        Change(owners[g], kinds[g], flat[starts[g] : starts[g + 1]].tobytes(), (known[g] or 0) + n, known[g])
        for g, n in enumerate(added)
        if n
    ]
    return new, changes


def _loaded(
    conn: Connection, pairs: Sequence[tuple[int, str]], starts: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], list[int | None]]:
    """The bitmaps of these (batch, tally) pairs end to end, and their counts."""
    flat = np.zeros(starts[-1], dtype=np.uint8)
    counts: list[int | None] = [None] * len(pairs)
    place = {pair: index for index, pair in enumerate(pairs)}
    for chunk in _chunks(sorted({batch for batch, _ in pairs})):
        for row in conn.execute(select(tallies).where(tallies.c.batch_id.in_(chunk))):
            index = place.get((row.batch_id, row.tally))
            if index is not None:
                flat[starts[index] : starts[index] + len(row.bits)] = np.frombuffer(row.bits, dtype=np.uint8)
                counts[index] = row.n
    return flat, counts


def write(conn: Connection, changes: Iterable[Change]) -> None:
    """Store changed bitmaps. Raises StaleTransition when one of them changed since `mark` read it."""
    ordered = sorted(changes, key=lambda change: change[:2])
    fresh = [{"batch_id": c.batch_id, "tally": c.tally, "bits": c.bits, "n": c.n} for c in ordered if c.was is None]
    grown = [
        {"batch": c.batch_id, "kind": c.tally, "new_bits": c.bits, "new_n": c.n, "seen_n": c.was}
        for c in ordered
        if c.was is not None
    ]
    of = tallies.c
    if fresh:
        try:
            conn.execute(insert(tallies), fresh)
        except IntegrityError as fault:
            raise StaleTransition(_COUNTED) from fault
    if grown:
        same = (of.batch_id == bindparam("batch"), of.tally == bindparam("kind"), of.n == bindparam("seen_n"))
        statement = update(tallies).where(*same).values(bits=bindparam("new_bits"), n=bindparam("new_n"))
        if conn.execute(statement, grown).rowcount != len(grown):
            raise StaleTransition(_COUNTED)


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
    statement = upsert(conn, counters)
    statement = statement.on_conflict_do_update(
        index_elements=list(counters.primary_key), set_={"n": counters.c.n + statement.excluded.n}
    )
    conn.execute(statement, [{**bucket._asdict(), "n": n} for bucket, n in sorted(added.items())])


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


def seen_keys(conn: Connection, keys: Iterable[bytes]) -> set[bytes]:
    """Those of the event keys (16 bytes each) that were remembered before."""
    column = event_keys.c.key
    return {
        bytes(key) for chunk in _chunks(keys) for key in conn.execute(select(column).where(column.in_(chunk))).scalars()
    }


def remember_keys(conn: Connection, keys: Iterable[bytes], now: datetime) -> None:
    """Keep new event keys. Raises StaleTransition when another process has just remembered one of them."""
    ordered = sorted(keys)
    if not ordered:
        return
    # Straight to the driver: SQLAlchemy's work per row would cost four times what the database does with it.
    statement = insert(event_keys).compile(dialect=conn.dialect, column_keys=["key", "seen_at"])
    process = event_keys.c.seen_at.type.dialect_impl(conn.dialect).bind_processor(conn.dialect)
    stamp = now if process is None else process(now)
    rows: Any = [{"key": key, "seen_at": stamp} for key in ordered]
    if conn.dialect.positional:
        rows = [tuple(row[name] for name in statement.positiontup or ()) for row in rows]
    try:
        conn.exec_driver_sql(str(statement), rows)
    except IntegrityError as fault:
        raise StaleTransition(_COUNTED) from fault


def forget_keys(conn: Connection, before: datetime) -> int:
    """Delete keys last seen before that instant: no ESP repeats an event for weeks. Returns how many."""
    return conn.execute(delete(event_keys).where(event_keys.c.seen_at < before)).rowcount


def _chunks(items: Iterable[_T], size: int = _LOOK_UP) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
