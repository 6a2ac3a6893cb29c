"""Addresses nobody may write to: live truth, asked at plan, at release and again just before hand-over.

A row is (address hash, channel, scope): the scope is `all`, or one purpose. Hashes are the first 32 hex digits of the
sha256 of the normalised address (`rules/columns.py`), so that the list itself names nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

import pyarrow as pa
from sqlalchemy import Connection, Insert, Select, bindparam, case, func, select

from sendwave.store import upsert
from sendwave.store.tables import suppressions

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


_OF_CHANNEL: Final = suppressions.c.channel == bindparam("of_channel")
_TABLE: Final = select(*(suppressions.c[name] for name in _SCHEMA.names)).where(_OF_CHANNEL)
_ROWS: Final = select(*(suppressions.c[name] for name in Suppression._fields)).order_by(
    suppressions.c.recorded_at, suppressions.c.address_hash
)
_RECORDED: Final = _ROWS.where(suppressions.c.recorded_at >= bindparam("instant"))
_RECORDED_ON: Final = _RECORDED.where(_OF_CHANNEL)
_AMONG: Final = _ROWS.where(_OF_CHANNEL, suppressions.c.address_hash.in_(bindparam("hashes", expanding=True)))


def add(conn: Connection, rows: Iterable[Suppression], *, source: str, now: datetime) -> int:
    """Suppress; idempotent. The earliest `since_at` and the strongest reason are kept.

    `source` says who told us (a file name, a route). Returns the rows given, duplicates apart; a row that stood
    already keeps its `recorded_at`, since whoever asked before has seen it.
    """
    statement = _stronger(conn.dialect.name)
    total = 0
    for chunk in _chunks(rows):
        merged = _merge(chunk)
        total += len(merged)
        conn.execute(statement, [{**row._asdict(), "recorded_at": now, "source": source[:120]} for row in merged])
    return total


def table(conn: Connection, channel: str) -> pa.Table:
    """The whole list of a channel, as the columns of `columns.SUPPRESSIONS`, for the engine to join."""
    result = conn.execute(_TABLE, {"of_channel": channel})
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
        found += _rows(conn, _AMONG, {"of_channel": channel, "hashes": chunk})
    return found


def as_table(rows: Sequence[Suppression]) -> pa.Table:
    """These, as the columns of `columns.SUPPRESSIONS`."""
    return pa.table({name: [getattr(row, name) for row in rows] for name in _SCHEMA.names}, schema=_SCHEMA)


def recorded_since(conn: Connection, instant: datetime, channel: str | None = None) -> list[Suppression]:
    """Suppressions recorded at or after `instant`, the oldest first.

    A row becomes visible when its transaction commits, any time after its `recorded_at`: what nobody may be missed
    for asks `among`.
    """
    if channel is None:
        return _rows(conn, _RECORDED, {"instant": instant})
    return _rows(conn, _RECORDED_ON, {"instant": instant, "of_channel": channel})


def _rows(conn: Connection, asked: Select[Any], told: Mapping[str, Any]) -> list[Suppression]:
    return [Suppression(*row) for row in conn.execute(asked, told)]


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


@cache
def _stronger(dialect: str) -> Insert:
    statement = upsert.inserting(dialect, suppressions)
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
