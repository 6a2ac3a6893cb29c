"""Compute the scores: traces of the settled past, joined with what happened since, piece by piece of the base.

Traces of days long enough past are kept, so that the next run reads few days instead of all. It may not when the grid
changed, when a settled day did (an act that arrived later than `LATE`), when time went back, or when the kept traces
are older than `KEPT`: then the run is a full one and says why. Both give the same scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sendwave.engine.base import Session, Written
from sendwave.engine.clean import DAY, part_of
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.engine.pieces import PieceWriter, pieces
from sendwave.flow.score.cleaning import CleanLog
from sendwave.rules import score as rules
from sendwave.rules import traces
from sendwave.rules.columns import (
    CLEAN,
    CONTACTS,
    HISTORY,
    SCORES,
    BigInteger,
    Double,
    String,
    TableClause,
    alike,
    between,
    select,
)
from sendwave.rules.grid import Grid
from sendwave.rules.tiers import Tiers
from sendwave.rules.traces import Among, Span
from sendwave.store.files import LakeFile

LATE: Final = timedelta(days=3)
"""How late an act may arrive without making the next run a full one."""
KEPT: Final = timedelta(days=8)
"""How long kept traces serve: a full run a week costs less than reading more and more days, and starts afresh."""
_OLD: Final = alike("expiring", CLEAN)
_FORMER: Final = alike("former", SCORES)
_NEW: Final = alike("new", SCORES)
_ARROW: Final = {BigInteger: pa.int64(), Double: pa.float64(), String: pa.string()}


@dataclass(frozen=True, slots=True)
class Kept:
    """Traces of everything before `through`, as they were at `as_of` (both epoch seconds), by first contact."""

    as_of: int
    through: int
    files: Mapping[int, Path]


@dataclass(frozen=True, slots=True)
class Job:
    """What a run is about. `as_of` in epoch seconds; `last` is the highest contact, `dated` have a sign-up date."""

    engine: DuckdbEngine
    lake: Lake
    grid: Grid
    log: CleanLog
    contacts: Sequence[LakeFile]
    as_of: int
    last: int
    dated: int

    @property
    def settled(self) -> int:
        """Everything before this instant, a midnight, is taken as known: later arrivals cost a full run."""
        around, _ = self.grid.reach
        return (self.as_of - int(LATE.total_seconds()) - around) // DAY * DAY

    def digest(self, through: int) -> str:
        """What days before that instant are made of."""
        ids = [file.id for file in self.log.days(last=through // DAY - 1)]
        return hashlib.sha256(",".join(map(str, sorted(ids))).encode()).hexdigest()

    @property
    def constants(self) -> dict[str, pa.Scalar]:
        """What every row of the scores says alike. The tier is left to the cut-offs of the day that asks."""
        return {
            "tier": pa.scalar(None, pa.string()),
            "grid_version": pa.scalar(self.grid.version),
            "scored_ts": pa.scalar(self.as_of, pa.int64()),
        }

    def details(self, through: int) -> dict[str, Any]:
        """What the registry keeps beside a file of traces."""
        return {"grid": self.grid.version, "as_of": self.as_of, "through": through, "clean": self.digest(through)}


def reusable(job: Job, files: Sequence[LakeFile]) -> tuple[Kept | None, str]:
    """The kept traces if they serve, else why the run has to be a full one."""
    if not files:
        return None, "there are no traces of an earlier run"
    told = files[0].details
    if told["grid"] != job.grid.version:
        return None, "the grid changed"
    if told["as_of"] > job.as_of:
        return None, "the last run was about a later instant"
    if job.as_of - told["as_of"] > KEPT.total_seconds():
        return None, f"the last full run is more than {KEPT.days} days old"
    if told["clean"] != job.digest(told["through"]):
        return None, f"acts of days before {part_of(told['through'] // DAY)} arrived late"
    paths = {int(file.part): job.lake.root / file.path for file in files}
    return Kept(told["as_of"], told["through"], paths), ""


def trace(job: Job) -> tuple[Kept, list[tuple[int, Written]]]:
    """Traces of everything settled, one file per piece of the base, not yet registered. Raises FullDisk."""
    through = job.settled
    files = job.lake.paths({"clean": job.log.days(last=through // DAY - 1)})
    written: list[tuple[int, Written]] = []
    try:
        with job.engine.session(files) as session:
            for among in pieces(job.last):
                statement = traces.traces_statement(job.grid, job.as_of, span=Span(until=through), among=among)
                written.append((among[0], session.write(statement, job.lake.new("traces", "traces"))))
    except BaseException:
        discard(file for _, file in written)
        raise
    return Kept(job.as_of, through, {first: file.path for first, file in written}), written


def discard(files: Iterator[Written]) -> None:
    """Remove files that were never registered."""
    for file in files:
        file.path.unlink(missing_ok=True)


def score(job: Job, kept: Kept) -> Written:
    """The scores of everybody, as a new file of the lake, not yet registered. Raises FullDisk."""
    with writing(PieceWriter(job.lake.new("scores", "scores"), score_schema(), job.constants)) as writer:
        for among in pieces(job.last):
            with _piece(job, kept, among[0]) as session:
                writer.write(session.stream(_statement(job, kept, among)))
        return writer.finish()


@contextmanager
def writing(writer: PieceWriter) -> Iterator[PieceWriter]:
    """Leaves no half-written file behind when the block raises."""
    try:
        yield writer
    except BaseException:
        writer.abandon()
        raise


@contextmanager
def _piece(job: Job, kept: Kept, first: int) -> Iterator[Session]:
    """Everything a piece is computed from. People numbered after the traces were kept have none."""
    expiring = _expiring(job, kept)
    recent = job.log.days(first=kept.through // DAY)
    files = job.lake.paths({"contacts": job.contacts, "clean": recent, "expiring": expiring})
    tables = {} if expiring else {"expiring": _empty(_OLD)}
    if first in kept.files:
        files["traces"] = [kept.files[first]]
    else:
        tables["traces"] = _empty(traces.traces_table(job.grid))
    with job.engine.session(files, tables) as session:
        yield session


def _expiring(job: Job, kept: Kept) -> list[LakeFile]:
    """Days on which acts left a window since the traces were kept."""
    days: dict[str, LakeFile] = {}
    for window in set(traces.windows(job.grid).values()):
        first, last = (kept.as_of - window) // DAY, (min(job.as_of - window, kept.through)) // DAY
        days |= {file.part: file for file in job.log.days(first=first, last=last)}
    return list(days.values())


def _empty(like: TableClause) -> pa.Table:
    return _schema(like).empty_table()


def _schema(like: TableClause) -> pa.Schema:
    return pa.schema([(column.name, _ARROW.get(type(column.type), pa.int64())) for column in like.c])


def score_schema() -> pa.Schema:
    """The columns of SCORES as they are written."""
    return _schema(SCORES)


def _statement(job: Job, kept: Kept, among: Among) -> Any:
    grid, as_of = job.grid, job.as_of
    people = select(CONTACTS.c.contact, CONTACTS.c.signed_up_ts).where(between(CONTACTS.c.contact, *among))
    recent = traces.traces_statement(grid, as_of, span=Span(since=kept.through), among=among).subquery("recent")
    gone = traces.expired_statement(grid, _OLD, before=kept.as_of, as_of=as_of, until=kept.through, among=among)
    expired = None if gone is None else gone.subquery("expired")
    base = traces.joined(grid, people.subquery("people"), traces.traces_table(grid), recent, expired)
    return rules.score_statement(grid, base.subquery("base"), as_of)


def changes(job: Job, tiers: Tiers, day: str, new: Written, former: Sequence[LakeFile]) -> Written:
    """The rows of `history` between two files of scores, not yet registered. Raises FullDisk."""
    files = {"new": [new.path], "former": [job.lake.root / file.path for file in former]}
    tables = {} if former else {"former": score_schema().empty_table()}
    with (
        writing(PieceWriter(job.lake.new("history", f"history-{day}"), _schema(HISTORY))) as writer,
        job.engine.session(files, tables) as session,
    ):
        for among in pieces(job.last):
            writer.write(session.stream(rules.history_statement(tiers, day, _NEW, _FORMER, among)))
        return writer.finish()
