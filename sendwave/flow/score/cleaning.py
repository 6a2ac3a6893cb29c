"""Bring the clean log up to what was imported and reported since: whole days, in one store transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sendwave.engine.clean import CleanDay, Cleaner, day_of, part_of
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules.acts import recipe
from sendwave.rules.grid import Grid
from sendwave.store import cleaned, mailings
from sendwave.store import files as registry
from sendwave.store.database import Database
from sendwave.store.files import LakeFile

SOURCES: Final = ("interactions", "events")


@dataclass(frozen=True, slots=True)
class CleanLog:
    """The clean log as it is now: one file per day, oldest first, and how many days this call cleaned."""

    files: tuple[LakeFile, ...]
    cleaned: int

    def counts(self, what: str) -> Counter[str]:
        """Acts by `kinds`, by kind those another act `implied`, rows by `slots`, over all days."""
        total: Counter[str] = Counter()
        for file in self.files:
            total.update(file.details.get(what, {}))
        return total

    def days(self, first: int | None = None, last: int | None = None) -> list[LakeFile]:
        """The files of days from `first` up to `last`, both included, days counted since 1970."""
        return [
            file
            for file in self.files
            if (first is None or day_of(file.part) >= first) and (last is None or day_of(file.part) <= last)
        ]


def bring_up_to_date(db: Database, engine: DuckdbEngine, lake: Lake, grid: Grid, *, now: datetime) -> CleanLog:
    """Clean what is new, and what it may change. Raises FullDisk, Busy; then nothing has changed."""
    with db.read() as connection:
        live = registry.live(connection, [*SOURCES, "clean"])
        known, ours = cleaned.taken_in(connection), mailings.table(connection)
    sources = {name: live[name] for name in SOURCES}
    ids = {file.id for files in sources.values() for file in files}
    sofar = _sofar(known.sources, [file for files in sources.values() for file in files])
    anew = known.recipe != recipe(grid) or not sofar <= ids  # another recipe, or files were replaced
    taken = frozenset() if anew else sofar
    if ids == taken and not anew:
        if ids != known.sources:
            with db.write() as connection:
                cleaned.take_in(connection, recipe(grid), ids)
        return CleanLog(_ordered(live["clean"]), 0)
    cleaner = Cleaner(engine, lake, grid, lake.paths(sources), ours)
    fresh = lake.paths({name: [file for file in files if file.id not in taken] for name, files in sources.items()})
    days = _days(cleaner, fresh, () if anew else live["clean"])
    done: list[CleanDay] = []
    try:
        done.extend(cleaner.clean(days))
        lake.share(*(day.file for day in done))
        return _register(db, lake, grid, done, seen=live["clean"], anew=anew, ids=ids, now=now)
    except BaseException as fault:
        lake.withdraw(fault, (day.file for day in done))
        raise


def _sofar(known: frozenset[int], live: Sequence[LakeFile]) -> frozenset[int]:
    """What the clean log is made of, by the ids of now: many small files may have become one with the same rows.

    One that holds rows nobody knows yet is new as a whole; its days are cleaned again.
    """
    found = known
    for file in live:
        parts = frozenset(file.details.get(registry.JOINED, ()))
        if parts and file.id not in known:
            found = found - parts | ({file.id} if parts <= known else set())
    return found


def _days(cleaner: Cleaner, fresh: Mapping[str, Sequence[Path]], clean: Sequence[LakeFile]) -> dict[int, int]:
    """The days to clean and about how many acts they hold: those of new acts, and of acts these may imply."""
    counted, touched = cleaner.survey(fresh)
    before = {day_of(file.part): sum(file.details.get("kinds", {}).values()) for file in clean}
    held = counted.keys() | before.keys()
    return {day: counted.get(day, 0) + before.get(day, 0) for day in touched & held}


def _register(
    db: Database,
    lake: Lake,
    grid: Grid,
    done: Sequence[CleanDay],
    *,
    seen: Sequence[LakeFile],
    anew: bool,
    ids: set[int],
    now: datetime,
) -> CleanLog:
    parts = {part_of(day.day) for day in done}
    with db.write() as connection:
        registry.claim(connection)
        registry.expect(seen, registry.live(connection, ["clean"])["clean"], "clean log")
        registry.retire(connection, [file.id for file in seen if anew or file.part in parts], now)
        for day in done:
            registry.register(
                connection,
                dataset="clean",
                path=lake.relative(day.file.path),
                rows=day.file.rows,
                size=day.file.bytes,
                part=part_of(day.day),
                details=day.details(grid),
                now=now,
            )
        cleaned.take_in(connection, recipe(grid), ids)
        return CleanLog(_ordered(registry.live(connection, ["clean"])["clean"]), len(done))


def _ordered(files: Sequence[LakeFile]) -> tuple[LakeFile, ...]:
    return tuple(sorted(files, key=lambda file: file.part))
