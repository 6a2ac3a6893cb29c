"""The janitor: once a day, what is no longer needed goes, and many small files of events become few.

Nothing here is needed for any answer. Whatever it is in the middle of may be killed: a file is part of the truth by the
commit that lists it, and only files that are in no truth any more are deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.rules.arrivals import compact_statement
from sendwave.settings import RetentionSettings
from sendwave.store import files, inbox, leases, tallies
from sendwave.store.database import Database
from sendwave.store.files import LakeFile

LEASE: Final = "janitor"
EVERY: Final = timedelta(days=1)
PORTION: Final = 5_000
"""Rows deleted in one transaction: others write in between."""

SMALL: Final = 64 << 20
"""Bytes of a file that is worth joining with others."""

JOINED: Final = 256 << 20
"""Bytes of files joined into one."""

FEW: Final = 8
"""Small files that may stay as they are."""

ABANDONED: Final = timedelta(days=1)
"""Age of a file nobody lists from which on nobody is still writing it."""


@dataclass(frozen=True, slots=True)
class Tidied:
    """What one round removed."""

    reports: int = 0
    event_keys: int = 0
    files_joined: int = 0
    files_removed: int = 0
    abandoned_removed: int = 0

    def document(self) -> dict[str, Any]:
        """For the log."""
        return asdict(self)


def tidy_due(
    db: Database, engine: Engine, lake: Lake, keep: RetentionSettings, *, holder: str, now: datetime
) -> Tidied | None:
    """As `tidy`, once in `EVERY` over all nodes; None when it is not time yet."""
    with db.write() as conn:
        if leases.current(conn, LEASE, now) is not None:
            return None
        leases.acquire(conn, LEASE, holder, now=now, life=EVERY)
    return tidy(db, engine, lake, keep, now)


def tidy(db: Database, engine: Engine, lake: Lake, keep: RetentionSettings, now: datetime) -> Tidied:
    """One round. Raises FullDisk, Busy; what was done by then stays done."""
    return Tidied(
        reports=_forget_reports(db, now - keep.reports),
        event_keys=_forget_keys(db, now - keep.event_keys),
        files_joined=sum(_join(db, engine, lake, group, now) for group in _small(db)),
        files_removed=_remove(db, lake, now - keep.replaced_files, now),
        abandoned_removed=_remove_abandoned(db, lake),
    )


def _forget_reports(db: Database, before: datetime) -> int:
    total = 0
    while True:
        with db.write() as conn:
            gone = inbox.forget(conn, before, limit=PORTION)
        total += gone
        if gone < PORTION:
            return total


def _forget_keys(db: Database, before: datetime) -> int:
    total = 0
    while True:
        with db.write() as conn:
            gone = tallies.forget_keys(conn, before, limit=PORTION)
        total += gone
        if gone < PORTION:
            return total


def _small(db: Database) -> Iterator[Sequence[LakeFile]]:
    """Groups of small files of events, the oldest first; nothing when there are few."""
    with db.read() as conn:
        listed = [file for file in files.live(conn, ["events"])["events"] if file.bytes < SMALL]
    if len(listed) <= FEW:
        return
    group: list[LakeFile] = []
    for file in listed:
        if group and sum(one.bytes for one in group) + file.bytes > JOINED:
            yield group
            group = []
        group.append(file)
    if len(group) > 1:
        yield group


def _join(db: Database, engine: Engine, lake: Lake, group: Sequence[LakeFile], now: datetime) -> int:
    """One file of these; 0 when somebody replaced one of them meanwhile."""
    paths = lake.paths({"events": group})
    with engine.session(paths) as session:
        written = session.write(compact_statement(), lake.new("events", f"{now:%Y%m%d}-joined"))
    try:
        lake.share(written)
        with db.write() as conn:
            live = {file.id for file in files.live(conn, ["events"])["events"]}
            if not {file.id for file in group} <= live or written.rows != sum(file.rows for file in group):
                lake.discard(written)
                return 0
            files.retire(conn, [file.id for file in group], now)
            path, told = lake.relative(written.path), {files.JOINED: [file.id for file in group]}
            files.register(
                conn, dataset="events", path=path, rows=written.rows, size=written.bytes, details=told, now=now
            )
    except BaseException as fault:
        lake.withdraw(fault, [written])
        raise
    return len(group)


def _remove(db: Database, lake: Lake, before: datetime, now: datetime) -> int:
    """Files that were replaced before that instant, unless a campaign still needs them."""
    with db.read() as conn:
        replaced = files.removable(conn, before)
    for file in replaced:
        lake.remove(file.path)
    with db.write() as conn:
        files.removed(conn, [file.id for file in replaced], now)
    return len(replaced)


def _remove_abandoned(db: Database, lake: Lake) -> int:
    """Files nobody ever listed: a process died between writing and committing."""
    there = list(lake.strays(ABANDONED.total_seconds()))
    with db.read() as conn:
        listed = files.listed(conn, there)
    gone = [name for name in there if name not in listed]
    for name in gone:
        lake.remove(name)
    return len(gone)
