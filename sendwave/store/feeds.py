"""Feeds: when each route last told us something, and what it told that nobody could place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, select
from sqlalchemy import update as update_row

from sendwave.store import upsert
from sendwave.store.tables import feeds

WORDS_KEPT: Final = 50
"""Different unknown words kept per feed; a feed full of them needs its adapter looked at, not a longer list."""

_ONE: Final = select(feeds).where(feeds.c.route == bindparam("asked")).with_for_update()


@dataclass(frozen=True, slots=True)
class Feed:
    """What came back by one route so far."""

    route: str
    last_event_at: datetime | None  # by the events' own time
    last_received_at: datetime | None
    unknown_words: Mapping[str, int]
    unmatched: int  # events that name none of our messages


def update(
    conn: Connection,
    route: str,
    *,
    last_event_at: datetime | None,
    last_received_at: datetime,
    unmatched: int = 0,
    unknown_words: Mapping[str, int] | None = None,
) -> None:
    """Move a feed's watermarks forward (never back) and add to what it counts."""
    known = get(conn, route)
    words = dict(known.unknown_words)
    for word, n in (unknown_words or {}).items():
        if word in words or len(words) < WORDS_KEPT:
            words[word] = words.get(word, 0) + n
    row = {
        "last_event_at": _later(known.last_event_at, last_event_at),
        "last_received_at": _later(known.last_received_at, last_received_at),
        "unmatched": known.unmatched + unmatched,
        "unknown_words": words,
    }
    conn.execute(upsert.latest(conn.dialect.name, feeds, ("route",), tuple(row)), {"route": route, **row})


def correct(conn: Connection, route: str, *, unmatched: int, unknown_words: Mapping[str, int] | None) -> None:
    """Shift what a feed counts by reports read again; `unknown_words` replace those kept, None leaves them."""
    known = get(conn, route)
    words = known.unknown_words if unknown_words is None else dict(sorted(unknown_words.items())[:WORDS_KEPT])
    row = {"unmatched": max(known.unmatched + unmatched, 0), "unknown_words": dict(words)}
    conn.execute(update_row(feeds).where(feeds.c.route == route).values(row))


def get(conn: Connection, route: str) -> Feed:
    """One feed; all empty before its first report."""
    row = conn.execute(_ONE, {"asked": route}).one_or_none()
    return Feed(route, None, None, {}, 0) if row is None else Feed(*row)


def listing(conn: Connection) -> list[Feed]:
    """All feeds that ever said something, by route."""
    return [Feed(*row) for row in conn.execute(select(feeds).order_by(feeds.c.route))]


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((instant for instant in (one, other) if instant is not None), default=None)
