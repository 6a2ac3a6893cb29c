"""Addresses nobody may write to: live truth, asked at plan, at release and again just before hand-over.

A row is (address hash, channel, scope): the scope is `all`, or one purpose. Hashes are the first 32 hex digits of the
sha256 of the normalised address (`rules/columns.py`), so that the list itself names nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

import pyarrow as pa
from sqlalchemy import Connection, Insert, case, func, select

from sendwave.store.tables import suppressions
from sendwave.store.upsert import upsert

ALL: Final = "all"
"""The scope that covers every purpose."""

REASONS: Final = ("complaint", "unsubscribe", "hard_bounce", "suppressed", "manual", "imported")
"""Strongest first: when one address has two reasons, the first of this tuple is kept. Other words come last."""

_T = TypeVar("_T")
_CHUNK: Final = 5_000
_LOOK_UP: Final = 500
_SCHEMA: Final = pa.schema([(name, pa.string()) for name in ("address_hash", "channel", "scope", "reason")])


class Suppression(NamedTuple):
    """One address that must not be written to, on one channel, for one purpose or `all`."""

    address_hash: str
    channel: str
    scope: str
    reason: str
    since_at: datetime  # when the person, provider or list said so; timezone-aware


def add(conn: Connection, rows: Iterable[Suppression], *, source: str, now: datetime) -> int:
    """Suppress; idempotent. The earliest `since_at` and the strongest reason are kept.

    `source` says who told us (a file name, a route). Returns the rows given, duplicates apart; a row that stood
    already keeps its `recorded_at`, since whoever asked before has seen it.
    """
    statement = _upsert(conn)
    total = 0
    for chunk in _chunks(rows):
        merged = _merge(chunk)
        total += len(merged)
        conn.execute(statement, [{**row._asdict(), "recorded_at": now, "source": source[:120]} for row in merged])
    return total


def table(conn: Connection, channel: str) -> pa.Table:
    """The whole list of a channel, as the columns of `columns.SUPPRESSIONS`, for the engine to join."""
    columns = (suppressions.c.address_hash, suppressions.c.channel, suppressions.c.scope, suppressions.c.reason)
    result = conn.execute(select(*columns).where(suppressions.c.channel == channel))
    parts = [
        pa.record_batch([pa.array(values, pa.string()) for values in zip(*part, strict=True)], schema=_SCHEMA)
        for part in result.partitions(100_000)
    ]
    return pa.Table.from_batches(parts, schema=_SCHEMA)


def total(conn: Connection) -> int:
    """How many rows the whole list has."""
    return int(conn.execute(select(func.count()).select_from(suppressions)).scalar_one())


def among(conn: Connection, channel: str, hashes: Sequence[str]) -> list[Suppression]:
    """The suppressions of these addresses, each by primary key: what dispatch asks about a batch."""
    found: list[Suppression] = []
    for chunk in _chunks(hashes, _LOOK_UP):
        found += _rows(conn, (suppressions.c.channel == channel, suppressions.c.address_hash.in_(chunk)))
    return found


def recorded_since(conn: Connection, instant: datetime, channel: str | None = None) -> list[Suppression]:
    """Suppressions recorded at or after `instant`, the oldest first.

    A row becomes visible when its transaction commits, which is later than its `recorded_at`: a caller that
    remembers where it stopped passes an instant a minute earlier, and may be given a row twice.
    """
    conditions: list[Any] = [suppressions.c.recorded_at >= instant]
    if channel is not None:
        conditions.append(suppressions.c.channel == channel)
    return _rows(conn, conditions)


def _rows(conn: Connection, conditions: Iterable[Any]) -> list[Suppression]:
    columns = [suppressions.c[name] for name in Suppression._fields]
    statement = select(*columns).where(*conditions).order_by(suppressions.c.recorded_at, suppressions.c.address_hash)
    return [Suppression(*row) for row in conn.execute(statement)]


def _rank(reason: str) -> int:
    return REASONS.index(reason) if reason in REASONS else len(REASONS)


def _merge(rows: Iterable[Suppression]) -> list[Suppression]:
    merged: dict[tuple[str, str, str], Suppression] = {}
    for row in rows:
        known = merged.setdefault(row[:3], row)
        if known is not row:
            reason = min(known.reason, row.reason, key=_rank)
            merged[row[:3]] = known._replace(reason=reason, since_at=min(known.since_at, row.since_at))
    return [merged[key] for key in sorted(merged)]  # one order for all writers: no deadlock between two of them


def _upsert(conn: Connection) -> Insert:
    statement = upsert(conn, suppressions)
    given, ranks = statement.excluded, {reason: rank for rank, reason in enumerate(REASONS)}
    stronger = case(ranks, value=given.reason, else_=len(ranks)) < case(
        ranks, value=suppressions.c.reason, else_=len(ranks)
    )
    return statement.on_conflict_do_update(
        index_elements=[suppressions.c.address_hash, suppressions.c.channel, suppressions.c.scope],
        set_={
            "reason": case((stronger, given.reason), else_=suppressions.c.reason),
            "since_at": case((given.since_at < suppressions.c.since_at, given.since_at), else_=suppressions.c.since_at),
        },
    )


def _chunks(rows: Iterable[_T], size: int = _CHUNK) -> Iterator[list[_T]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk
