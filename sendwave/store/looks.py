"""What the judge looks at, read piece by piece: of each look only batches and tallies that changed since the last one.

A look begins with nothing and reads everything, so it forgets nothing at a restart. It then follows two trails: batches
settled since, and the log of batches whose tallies changed (`counted`). Both are read with a margin, for a commit may
become visible after a later one; reading a row twice changes nothing. Now and then everything is read again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, bindparam, delete, func, select

from sendwave.rules.ledger import Ledger
from sendwave.rules.lifecycle import Batch
from sendwave.store import batch_outcomes
from sendwave.store.batch_outcomes import Cohort
from sendwave.store.tables import batches, counted, tallies

MARGIN: Final = timedelta(minutes=3)
"""A batch settled so long before the newest one we know is read again: clocks of nodes differ, commits take time."""

BEHIND: Final = 500
"""So many entries of the log before the newest one we know are read again."""

AFRESH: Final = timedelta(minutes=15)
"""Everything is read again after so long, whatever the trails say."""

KEPT: Final = 20_000
"""Entries of the log that are kept; a look further behind reads everything."""

_AT_ONCE: Final = 500

# Built once: asked at every look.
_NEWEST: Final = select(func.max(counted.c.id))
_OLDEST: Final = select(func.min(counted.c.id))
_COLUMNS: Final = select(tallies.c.batch_id, tallies.c.tally, tallies.c.n)
_TALLIES: Final = _COLUMNS.join(batches, batches.c.id == tallies.c.batch_id).where(
    batches.c.campaign_id == bindparam("campaign")
)
_RECOUNT: Final = _COLUMNS.where(tallies.c.batch_id.in_(bindparam("ids", expanding=True)))
_ENTRIES: Final = select(counted.c.id).where(counted.c.id > bindparam("seen"))
_TRAIL: Final = select(counted.c.id, counted.c.batches).where(counted.c.id > bindparam("seen"))
_WAITING: Final = (
    select(batches.c.id)
    .where(
        batches.c.campaign_id == bindparam("campaign"),
        batches.c.status.in_((Batch.READY, Batch.CLAIMED, Batch.HANDED)),
        batches.c.provider == bindparam("lane"),
    )
    .limit(1)
)


class Look:
    """One campaign's batches and what came back of them, as of the last `refresh`."""

    def __init__(self, campaign_id: int) -> None:
        self.campaign_id = campaign_id
        self.ledger = Ledger()
        self.changes = 0  # rows read by the last refresh
        self._read_at: datetime | None = None
        self._settled: datetime | None = None
        self._log = 0
        self._applied: set[int] = set()
        self._parts: dict[int, list[Cohort]] = {}  # by row of `batches`
        self._rows: dict[int, set[int]] = defaultdict(set)  # batch id > rows its people left in

    def refresh(self, conn: Connection, now: datetime) -> Ledger:
        """Read what changed; returns the ledger, which is the same object at every look."""
        newest = conn.execute(_NEWEST).scalar() or 0
        oldest = conn.execute(_OLDEST).scalar() or 0
        stale = self._read_at is None or now - self._read_at >= AFRESH or now < self._read_at
        if stale or oldest > max(self._log - BEHIND, 1):
            self._read_all(conn, now, newest)
        else:
            changed = self._settle(conn)
            self._recount(conn, {*self._told(conn), *changed})
        self._log = max(self._log, newest)
        return self.ledger

    def _read_all(self, conn: Connection, now: datetime, newest: int) -> None:
        self.ledger, self._parts, self._rows, self._settled = Ledger(), {}, defaultdict(set), None
        self._settle(conn)
        rows = conn.execute(_TALLIES, {"campaign": self.campaign_id}).all()
        for batch_id, tally, n in rows:
            if batch_id in self.ledger:
                self.ledger.count(batch_id, tally, n)
        self.changes += len(rows)
        self._read_at, self._log = now, newest
        self._applied = set(conn.execute(_ENTRIES, {"seen": newest - BEHIND}).scalars())

    def _settle(self, conn: Connection) -> set[int]:
        """Batches settled since; returns the ids of the batches their people were released in."""
        since = None if self._settled is None else self._settled - MARGIN
        changed: set[int] = set()
        self.changes = 0
        for row_id, settled_at, parts in batch_outcomes.settled(conn, self.campaign_id, since):
            self.changes += 1
            self._settled = settled_at if self._settled is None else max(self._settled, settled_at)
            if parts == self._parts.get(row_id):
                continue
            for part in (*parts, *self._parts.get(row_id, ())):
                self._rows[part.batch_id].add(row_id)
                changed.add(part.batch_id)
            self._parts[row_id] = parts
        for batch_id in changed:
            told = [p for row in sorted(self._rows[batch_id]) for p in self._parts[row] if p.batch_id == batch_id]
            if told:
                one = batch_outcomes.merged(told)
                numbers = (one.accepted, one.refused, one.unknown)
                self.ledger.put(batch_id, one.wave, one.provider, one.handed_at, numbers)
        return changed

    def _told(self, conn: Connection) -> set[int]:
        """Batches of which something was counted since."""
        found: set[int] = set()
        for entry, ids in conn.execute(_TRAIL, {"seen": self._log - BEHIND}):
            if entry not in self._applied:
                self._applied.add(entry)
                found.update(np.frombuffer(ids, dtype=np.int64).tolist())
        self._applied = {entry for entry in self._applied if entry > self._log - 2 * BEHIND}
        return {batch_id for batch_id in found if batch_id in self.ledger}

    def _recount(self, conn: Connection, ids: Collection[int]) -> None:
        for chunk in _chunks(sorted(ids)):
            for batch_id, tally, n in conn.execute(_RECOUNT, {"ids": chunk}):
                self.ledger.count(batch_id, tally, n)
                self.changes += 1


def trim(conn: Connection) -> None:
    """Delete entries of the log nobody will ask for."""
    newest = conn.execute(select(func.max(counted.c.id))).scalar() or 0
    conn.execute(delete(counted).where(counted.c.id <= newest - KEPT))


def waiting(conn: Connection, campaign_id: int, lanes: Collection[str]) -> set[str]:
    """The lanes in which somebody has still to be written to."""
    told = {"campaign": campaign_id}
    return {lane for lane in lanes if conn.execute(_WAITING, {**told, "lane": lane}).first() is not None}


def _chunks(items: Iterable[Any], size: int = _AT_ONCE) -> Iterable[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
