"""The clean log: interactions that count, one Parquet file per UTC day, sorted by contact.

It is derived: a changed grid recipe cleans everything anew, and an act that arrives late cleans its day again, with the
days its neighbours are on. Work goes in chunks of days of about `CHUNK` acts, so memory does not grow with history.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sendwave.engine.base import Written
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine, DuckdbSession, compile_statement, disk_faults
from sendwave.rules.acts import acts_statement, clean_statement, kept, recipe
from sendwave.rules.columns import INTERACTIONS, Select, alike
from sendwave.rules.grid import Grid

DAY: Final = 86_400
CHUNK: Final = 3_000_000
"""Acts cleaned at once, unless one day has more."""
ROW_GROUP: Final = 32_768
"""Rows of a row group: a reader of some contacts leaves out the groups that hold others."""
_EPOCH: Final = date(1970, 1, 1)
_ACTS: Final = alike("cleaning_acts", INTERACTIONS)
_KEPT: Final = alike("cleaning_kept", INTERACTIONS)


@dataclass(frozen=True, slots=True)
class CleanDay:
    """One day cleaned: its file (not yet registered), acts by kind, those another act implies, and rows by slot."""

    day: int  # since 1970-01-01
    file: Written
    kinds: Mapping[str, int] = field(default_factory=dict)
    implied: Mapping[str, int] = field(default_factory=dict)
    slots: Mapping[str, int] = field(default_factory=dict)

    def details(self, grid: Grid) -> dict[str, Any]:
        """What the registry keeps of it."""
        counts = {"kinds": dict(self.kinds), "implied": dict(self.implied), "slots": dict(self.slots)}
        return {"recipe": recipe(grid), **counts}


def part_of(day: int) -> str:
    """The day as the registry writes it: 2026-03-02."""
    return (_EPOCH + timedelta(days=day)).isoformat()


def day_of(part: str) -> int:
    """The day of such a text, since 1970-01-01."""
    return (date.fromisoformat(part) - _EPOCH).days


def day_at(instant: datetime) -> int:
    """The UTC day an instant is on."""
    return (instant.astimezone(UTC).date() - _EPOCH).days


@dataclass(frozen=True, slots=True)
class Cleaner:
    """Cleans days of the interactions and events in `sources`. `mailings` has the columns of `acts.MAILINGS`."""

    engine: DuckdbEngine
    lake: Lake
    grid: Grid
    sources: Mapping[str, Sequence[Path]]
    mailings: pa.Table

    def survey(self, fresh: Mapping[str, Sequence[Path]]) -> tuple[dict[int, int], set[int]]:
        """Acts per day of the files in `fresh`, and every day one of them may change: its own and its neighbours'."""
        everything = (-(1 << 60), 1 << 60)
        with self._session(fresh) as session:
            text, parameters = compile_statement(acts_statement(self.grid, *everything))
            run = session.connection.execute
            days = run(
                f"SELECT ts // {DAY}, kind, count(*) FROM ({text}) WHERE contact IS NOT NULL AND ts IS NOT NULL "
                "GROUP BY ALL",
                parameters,
            ).fetchall()
        counted: dict[int, int] = defaultdict(int)
        touched: set[int] = set()
        for day, kind, acts in days:
            counted[day] += acts
            touched |= {day, *self._neighbours(day, kind)}
        return dict(counted), touched

    def _neighbours(self, day: int, kind: str) -> Iterator[int]:
        """Days of acts that an act of that kind, on that day, may imply."""
        for rule in self.grid.ignore:
            if kind in rule.by:
                before = rule.seconds if rule.accompanied_by else 0
                yield from range((day * DAY - before) // DAY, (day * DAY + DAY - 1 + rule.seconds) // DAY + 1)

    def clean(self, days: Mapping[int, int]) -> Iterator[CleanDay]:
        """Clean these days, whose number of acts is about the one given. A file is there even for a day without any.

        Raises FullDisk; the files already written are the caller's to remove.
        """
        with self._session(self.sources) as session:
            for chunk in _chunks(days):
                yield from self._chunk(session, chunk)

    @contextmanager
    def _session(self, files: Mapping[str, Sequence[Path]]) -> Iterator[DuckdbSession]:
        with self.engine.workshop(files) as session:
            session.connection.register("mailings", self.mailings)
            yield session

    def _chunk(self, session: DuckdbSession, days: Sequence[int]) -> Iterator[CleanDay]:
        since, until = days[0] * DAY, (days[-1] + 1) * DAY
        before, after = self.grid.reach
        self._keep(session, _ACTS.name, acts_statement(self.grid, since - after, until + before))
        self._keep(session, _KEPT.name, kept(self.grid, _ACTS, since=since, until=until))
        self._keep(session, "cleaning_slots", clean_statement(self.grid, _KEPT))
        acts = self._counts(session, f"{_ACTS.name} WHERE ts >= {since} AND ts < {until}", "kind")
        counted = self._counts(session, _KEPT.name, "kind")
        slots = self._counts(session, "cleaning_slots", "slot")
        for day in days:
            here = f"ts >= {day * DAY} AND ts < {(day + 1) * DAY}"
            text = f"SELECT contact, ts, slot FROM cleaning_slots WHERE {here} ORDER BY contact, ts, slot"
            file = session.write_text(text, (), self.lake.new("clean", part_of(day)), row_group=ROW_GROUP)
            implied = {kind: n - counted[day].get(kind, 0) for kind, n in acts[day].items()}
            yield CleanDay(day, file, acts[day], {kind: n for kind, n in implied.items() if n}, slots[day])

    @staticmethod
    def _keep(session: DuckdbSession, name: str, statement: Select[Any]) -> None:
        text, parameters = compile_statement(statement)
        with disk_faults():
            session.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {text}", parameters)

    @staticmethod
    def _counts(session: DuckdbSession, source: str, by: str) -> dict[int, dict[str, int]]:
        found: dict[int, dict[str, int]] = defaultdict(dict)
        rows = session.connection.execute(f"SELECT ts // {DAY}, {by}, count(*) FROM {source} GROUP BY ALL ORDER BY ALL")
        for day, word, count in rows.fetchall():
            found[day][str(word)] = count
        return found


def _chunks(days: Mapping[int, int]) -> Iterator[list[int]]:
    """Days that follow one another, as many as make about CHUNK acts."""
    chunk: list[int] = []
    acts = 0
    for day in sorted(days):
        if chunk and (day != chunk[-1] + 1 or acts + days[day] > CHUNK):
            yield chunk
            chunk, acts = [], 0
        chunk.append(day)
        acts += days[day]
    if chunk:
        yield chunk
