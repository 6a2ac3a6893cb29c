"""The people of one block of the base: the scores they have, and those a run gives them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sendwave.engine.base import Written
from sendwave.engine.clean import DAY, part_of
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.engine.traces import (
    Acts,
    Layout,
    Marks,
    Numbers,
    Traces,
    between_instants,
    crossing,
    instants,
    read_days,
    read_scores,
    rows_of,
)
from sendwave.flow.score.cleaning import CleanLog
from sendwave.rules import score as rules
from sendwave.rules.columns import CONTACTS, SCORES, BigInteger, Double, String, TableClause, between, select
from sendwave.rules.grid import Grid
from sendwave.rules.traces import base_table
from sendwave.store.files import LakeFile

LATE: Final = timedelta(days=3)
"""How late an act may arrive without making the next run a full one."""
KEPT: Final = timedelta(days=8)
"""How long kept traces serve: a full run a week costs less than reading more and more days, and starts afresh."""
Block = tuple[int, int]
"""First and last contact."""


@dataclass(frozen=True)
class Job:
    """What a run is about. `as_of` in epoch seconds; `last` is the highest contact, `dated` have a sign-up date.

    `former` are the scores in place; `replaced` are files that were replaced since, as far as they are still there.
    """

    engine: DuckdbEngine
    lake: Lake
    grid: Grid
    log: CleanLog
    contacts: Sequence[LakeFile]
    as_of: int
    last: int
    dated: int
    former: Sequence[LakeFile] = ()
    replaced: Mapping[int, Path] = field(default_factory=dict)

    @cached_property
    def layout(self) -> Layout:
        """Where things stand in a row of traces."""
        return Layout.of(self.grid)

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
        made_of = {"clean": self.digest(through), "contacts": [file.id for file in self.contacts]}
        return {"grid": self.grid.version, "as_of": self.as_of, "through": through, **made_of}

    def seen(self, through: int) -> dict[str, Any]:
        """What the registry keeps beside the scores: the days after `through` that were known, the snapshot."""
        recent = [file.id for file in self.log.days(first=through // DAY)]
        return {"through": through, "recent": recent, "contacts": [file.id for file in self.contacts]}

    def paths(self, files: Sequence[LakeFile]) -> list[Path]:
        """Where these files are."""
        return [self.lake.path(file) for file in files]

    def told(self, kept: Kept) -> Mapping[str, Any] | None:
        """What is known of the run that made the scores in place; None where it does not say who keeps theirs.

        Silence changes scores every day, so a grid with a cycle has everybody worked out again.
        """
        told = self.former[0].details if self.former else {}
        same = (told.get("grid"), told.get("through")) == (self.grid.version, kept.through)
        if not same or self.grid.cycle is not None or told["as_of"] > self.as_of:
            return None
        recent = {file.id for file in self.log.days(first=kept.through // DAY)}
        needed = {*told["recent"]} - recent | {*told["contacts"]}
        return told if all(one in self.replaced and self.lake.has(self.replaced[one]) for one in needed) else None

    def acts(self, block: Block, *, first: int | None = None, last: int | None = None) -> Iterator[Acts]:
        """The clean log's days from `first` to `last` (days since 1970, both included), of the contacts of a block."""
        return self.read(self.paths(self.log.days(first, last)), block)

    def read(self, days: Sequence[Path], block: Block) -> Iterator[Acts]:
        """Acts of files of the clean log."""
        with self.lake.hold(days):
            yield from read_days(days, block)


@dataclass(frozen=True)
class Kept:
    """Traces of everything before `through`, as they were at `as_of` (both epoch seconds), by first contact."""

    as_of: int
    through: int
    files: Mapping[int, Path]
    contacts: Sequence[int]  # the files of the snapshot they are about


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
    paths = {int(file.part): job.lake.path(file) for file in files}
    return Kept(told["as_of"], told["through"], paths, told["contacts"]), ""


class People:
    """The contacts of one block, their scores in place and, after `trace` or `follow`, their new ones."""

    def __init__(self, job: Job, block: Block, kept: Kept | None) -> None:
        self.job, self.block = job, block
        self._known: Traces | None = None
        if kept is not None and (path := kept.files.get(block[0])) is not None:
            with job.lake.hold([path]):
                self._known = Traces.load(job.layout, path)
        told = job.former[0].details.get("contacts") if job.former else None
        snapshot = [file.id for file in job.contacts]
        self._same = self._known is not None and kept is not None and kept.contacts == snapshot == told
        if self._known is not None and self._same:
            self.contacts, self.signed_up = self._known.contacts, self._known.signed_up  # the snapshot is the same
        else:
            self.contacts, self.signed_up = self._snapshot(job.paths(job.contacts))
        self.former = self._former()
        self.scores = np.where(np.isnan(self.former), 0.0, self.former)
        self.worked_out = 0

    def _snapshot(self, files: Sequence[Path]) -> tuple[Numbers, Marks]:
        """Contacts and their sign-up instants, in order."""
        c = CONTACTS.c
        asked: Any = select(c.contact, c.signed_up_ts).where(between(c.contact, *self.block))
        with self.job.engine.session({"contacts": files}) as session:
            found = session.read(asked)
        contacts: Numbers = found.column("contact").to_numpy()
        signed_up = instants(found.column("signed_up_ts"))
        if np.all(contacts[1:] > contacts[:-1]):
            return contacts, signed_up
        order = np.argsort(contacts)
        return contacts[order], signed_up[order]

    def _former(self) -> NDArray[np.float64]:
        """The scores in place, NaN for who has none."""
        asked: Any = select(SCORES.c.contact, SCORES.c.score).where(between(SCORES.c.contact, *self.block))
        if self._same and len(self.job.former) == 1 and self.job.former[0].rows == len(self.contacts):
            with self.job.lake.hold(placed := self.job.paths(self.job.former)):
                return read_scores(placed[0])  # written from the same snapshot, in its order
        former = np.full(len(self.contacts), np.nan)
        if self.job.former:
            with self.job.engine.session({"scores": self.job.paths(self.job.former)}) as session:
                found = session.read(asked)
            row = rows_of(self.contacts, found.column("contact").to_numpy())
            former[row[row >= 0]] = found.column("score").fill_null(np.nan).to_numpy()[row >= 0]
        return former

    def trace(self) -> Written:
        """Score everybody from the first day on; traces of the settled part are written for later runs to follow up."""
        job, through = self.job, self.job.settled
        everybody = Traces(job.layout, self.contacts, self.signed_up)
        everybody.add(job.acts(self.block, last=through // DAY - 1), job.as_of)
        file = everybody.save(job.lake.new("traces", "traces").with_suffix(".arrow"))
        try:
            everybody.add(job.acts(self.block, first=through // DAY), job.as_of)
            self._work_out(everybody)
        except BaseException:
            job.lake.discard(file)
            raise
        return file

    def follow(self, kept: Kept) -> None:
        """Score those for whom something changed since the scores in place; the others keep theirs."""
        job, through = self.job, kept.through
        known = self._known or Traces.empty(job.layout)
        chosen = self._chosen(kept)
        part = known.of(self.contacts[chosen], self.signed_up[chosen])
        part.add(job.acts(self.block, first=through // DAY), job.as_of)
        for window in job.layout.windows:
            span = (kept.as_of - window) // DAY, min(job.as_of - window, through) // DAY
            days = job.acts(self.block, first=span[0], last=span[1])
            part.expire(days, window, kept.as_of, job.as_of, through)
        self._work_out(part)

    def _work_out(self, traces: Traces) -> None:
        """Points and score of these contacts, by the statement every engine is given."""
        statement = rules.score_statement(self.job.grid, base_table(self.job.grid), self.job.as_of)
        for table in traces.tables():
            with self.job.engine.session({}, {"base": table}) as session:
                found = session.read(statement)
            row = rows_of(self.contacts, found.column("contact").to_numpy())
            self.scores[row] = found.column("score").to_numpy()
        self.worked_out = len(traces)

    def changed(self) -> pa.Table:
        """(contact, score) of those whose score is another one than before, or new."""
        new = (self.scores != self.former) | np.isnan(self.former)
        return pa.table({"contact": self.contacts[new], "score": self.scores[new]})

    def _chosen(self, kept: Kept) -> Numbers:
        """Rows of the contacts whose score may not be what it was; everybody where that cannot be told."""
        told = self.job.told(kept)
        if told is None:
            return np.arange(len(self.contacts))
        before = int(told["as_of"])
        chosen = np.isnan(self.former) | self._signed(told, before)
        for contacts in (*self._fresh(told, kept), *self._come_of_age(before)):
            row = rows_of(self.contacts, contacts)
            chosen[row[row >= 0]] = True
        return np.flatnonzero(chosen)

    def _fresh(self, told: Mapping[str, Any], kept: Kept) -> Iterator[Numbers]:
        """Contacts of days that were cleaned since the last run, as they are now and as they were."""
        recent = self.job.log.days(first=kept.through // DAY)
        now = [self.job.lake.path(file) for file in recent if file.id not in told["recent"]]
        gone = {*told["recent"]} - {file.id for file in recent}
        for acts in self.job.read([*now, *(self.job.replaced[one] for one in gone)], self.block):
            yield acts.contact

    def _come_of_age(self, before: int) -> Iterator[Numbers]:
        """Contacts of acts that bring something else than at the last run, because they are older."""
        for age in self.job.layout.edges:
            span = (before - age) // DAY, (self.job.as_of - age) // DAY
            days = self.job.acts(self.block, first=span[0], last=span[1])
            yield from crossing(self.job.layout, days, age, before, self.job.as_of)

    def _signed(self, told: Mapping[str, Any], before: int) -> NDArray[np.bool_]:
        """Who signed up at another instant than was known, or came of age by it."""
        found = np.zeros(len(self.contacts), np.bool_)
        for age in self.job.layout.signed:
            found |= between_instants(self.signed_up, before - age, self.job.as_of - age)
        if told["contacts"] != [file.id for file in self.job.contacts]:
            contacts, were = self._snapshot([self.job.replaced[one] for one in told["contacts"]])
            row = rows_of(contacts, self.contacts)
            found |= np.where(row >= 0, np.append(were, 0)[row] != self.signed_up, True)
        return found


_ARROW: Final = {BigInteger: pa.int64(), Double: pa.float64(), String: pa.string()}


def schema_of(table: TableClause) -> pa.Schema:
    """The columns of a dataset as they are written."""
    return pa.schema([(column.name, _ARROW.get(type(column.type), pa.int64())) for column in table.c])
