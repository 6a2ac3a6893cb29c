"""One run: clean what is new, compute everybody's score, put it in place of the former one, note what changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

from sendwave.engine.base import Written
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput
from sendwave.flow.score import computing
from sendwave.flow.score import elsewhere as database
from sendwave.flow.score.cleaning import CleanLog, bring_up_to_date
from sendwave.flow.score.computing import Computed
from sendwave.flow.score.people import Job, reusable
from sendwave.rules.acts import slots
from sendwave.rules.columns import CONTACTS, SCORES, func, select
from sendwave.rules.grid import Grid, Style
from sendwave.rules.policy import PolicySet
from sendwave.store import files as registry
from sendwave.store import journal
from sendwave.store.database import Database
from sendwave.store.files import LakeFile


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did. `mode` is full or incremental, `why` the reason of a full one."""

    as_of: datetime
    grid_version: str
    mode: str
    why: str = ""
    contacts: int = 0
    worked_out: int = 0  # contacts whose points were worked out; the others kept theirs
    changed: int = 0  # contacts whose score is another one than before
    lowest: float | None = None
    highest: float | None = None
    days_cleaned: int = 0
    acts: Mapping[str, int] = field(default_factory=dict)  # touchpoint -> acts that count
    left_out: tuple[str, ...] = ()  # touchpoints without any data
    implied: Mapping[str, int] = field(default_factory=dict)  # kind -> acts another act implies
    unknown_kinds: Mapping[str, int] = field(default_factory=dict)  # kind -> acts the grid does not speak of
    warnings: tuple[str, ...] = ()
    scheduled_on: str | None = None

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value


def score(
    db: Database,
    engine: DuckdbEngine,
    lake: Lake,
    policy: PolicySet,
    *,
    now: datetime,
    by: str,
    as_of: datetime | None = None,
    full: bool = False,
    dry_run: bool = False,
    scheduled_on: str | None = None,
    elsewhere: str | None = None,
) -> Summary:
    """Score everybody at `as_of` (`now` if none) and put the scores in place of the former ones.

    With `dry_run` only the clean log is brought up to date. `full` reads everything again. `elsewhere` is the URL of
    the PostgreSQL that has the customer data and computes the scores; without it they are computed here, over the lake.

    Raises:
        BadInput: no grid, no contacts, an instant in the future or before the scores in place.
        FullDisk: nothing has changed.
        Busy: another import or run changed the lake meanwhile; nothing has changed.

    """
    grid, instant = _grid(policy), as_of or now
    log = CleanLog((), 0) if elsewhere else bring_up_to_date(db, engine, lake, grid, now=now)
    with db.read() as connection:
        seen = registry.live(connection, ["contacts", "scores", "traces", "ids"])
    _check(seen, instant, now, dry_run=dry_run)
    asked: Any = select(func.max(CONTACTS.c.contact).label("last"), func.count(CONTACTS.c.signed_up_ts).label("dated"))
    with engine.session(lake.paths({"contacts": seen["contacts"]})) as session:
        base = session.read(asked).to_pylist()[0]
    job = Job(
        engine=engine,
        lake=lake,
        grid=grid,
        log=log,
        contacts=seen["contacts"],
        as_of=int(instant.timestamp()),
        last=base["last"] or 0,
        dated=base["dated"],
        former=seen["scores"],
        replaced=_replaced(db, lake, seen["scores"]),
    )
    return _Run(db, policy, job, seen, now, by, instant, scheduled_on, elsewhere).go(full=full, dry_run=dry_run)


def _grid(policy: PolicySet) -> Grid:
    if policy.score is None:
        raise BadInput("there is no scoring grid: write policies/score.yaml")
    return policy.score


def _replaced(db: Database, lake: Lake, scores: Sequence[LakeFile]) -> dict[int, Path]:
    """Files the scores in place were made of, whether or not they still are part of the lake."""
    asked = [one for file in scores for name in ("recent", "contacts") for one in file.details.get(name, ())]
    with db.read() as connection:
        found = [registry.get(connection, one) for one in asked]
    return {file.id: lake.path(file) for file in found if file is not None}


def _check(seen: Mapping[str, Sequence[LakeFile]], as_of: datetime, now: datetime, *, dry_run: bool) -> None:
    if not seen["contacts"]:
        raise BadInput("there is nobody to score: import contacts first")
    if as_of > now:
        raise BadInput(f"{as_of:%Y-%m-%d %H:%M} UTC is in the future: what will happen until then is not known")
    placed = max((int(file.details.get("as_of", 0)) for file in seen["scores"]), default=0)
    if placed > as_of.timestamp() and not dry_run:
        told = datetime.fromtimestamp(placed, UTC)
        raise BadInput(f"the scores in place are of {told:%Y-%m-%d %H:%M} UTC, later than that: look with --dry-run")


@dataclass(frozen=True, slots=True)
class _Found:
    """What was computed, by whom, and what is to be said about it."""

    computed: Computed
    mode: str
    why: str
    told: dict[str, Any]
    through: int | None = None  # what the kept traces reach to; None where there are none


class _Made:
    """Files written on the way: removed at the end of the block, unless they are kept."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._files: list[Written] = []

    def __call__(self, file: Written) -> Written:
        self._files.append(file)
        return file

    def share(self) -> None:
        """Put them where every node finds them."""
        self._lake.share(*self._files)

    def keep(self) -> None:
        """They are registered now."""
        self._files.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, fault: BaseException | None, _trace: object) -> None:
        if fault is None:
            self._lake.discard(*self._files)
        else:
            self._lake.withdraw(fault, self._files)


@dataclass(frozen=True, slots=True)
class _Run:
    db: Database
    policy: PolicySet
    job: Job
    seen: Mapping[str, Sequence[LakeFile]]
    now: datetime
    by: str
    as_of: datetime
    scheduled_on: str | None
    elsewhere: str | None

    def go(self, *, full: bool, dry_run: bool) -> Summary:
        """Compute, then register; what was written is removed unless it was registered."""
        with _Made(self.job.lake) as made:
            found = self._there(made) if self.elsewhere else self._here(made, full=full)
            made(found.computed.scores)
            changed_ts = int(self.now.timestamp())
            history = made(computing.history(self.job, self.policy.tiers, self._day, changed_ts, found.computed))
            summary = self._summary(found)
            if not dry_run:
                made.share()
                self._register(summary, found, history)
                made.keep()
        return summary

    def _here(self, made: _Made, *, full: bool) -> _Found:
        job, log = self.job, self.job.log
        kept, why = (None, "asked for") if full else reusable(job, self.seen["traces"])
        computed = computing.compute(job, kept)
        for _, file in computed.traced:
            made(file)
        told = _told(job, log.counts("kinds")) | {"implied": dict(log.counts("implied")), "days_cleaned": log.cleaned}
        through = job.settled if kept is None else kept.through
        return _Found(computed, "full" if kept is None else "incremental", why, told, through)

    def _there(self, made: _Made) -> _Found:
        url = self.elsewhere or ""
        scores, strangers = database.score(self.job, url, self.job.paths(self.seen["ids"]))
        made(scores)
        told = _told(self.job, database.kinds(url))
        if strangers:
            told["warnings"] = (f"{strangers:,} contacts of the database are not known here: import them",)
        return _Found(computing.compare(self.job, scores), "postgresql", "", told)

    @property
    def _day(self) -> str:
        """The local date the scores are of, where the policy has a zone."""
        if self.scheduled_on is not None:
            return self.scheduled_on
        daily = self.job.grid.daily
        return self.as_of.astimezone(ZoneInfo(daily.zone) if daily else UTC).date().isoformat()

    def _summary(self, found: _Found) -> Summary:
        scores = found.computed.scores
        asked: Any = select(func.min(SCORES.c.score).label("low"), func.max(SCORES.c.score).label("high"))
        with self.job.engine.session({"scores": [scores.path]}) as session:
            ends = session.read(asked).to_pylist()[0].values()
        lowest, highest = (None if end is None else end + 0.0 for end in ends)  # Parquet may say that a minimum is -0
        warnings = [*found.told.pop("warnings", ())]
        if scores.rows > 1 and lowest == highest:
            warnings.append(f"everybody has the same score, {lowest:g}: the grid tells nobody from anybody")
        return Summary(
            as_of=self.as_of,
            grid_version=self.job.grid.version,
            mode=found.mode,
            why=found.why,
            contacts=scores.rows,
            worked_out=found.computed.worked_out,
            changed=len(found.computed.changed),
            lowest=lowest,
            highest=highest,
            warnings=tuple(warnings),
            scheduled_on=self.scheduled_on,
            **found.told,
        )

    def _register(self, summary: Summary, found: _Found, history: Written) -> None:
        job, scores, traced = self.job, found.computed.scores, found.computed.traced
        details = {"grid": summary.grid_version, "as_of": job.as_of, "mode": summary.mode}
        seen = job.seen(found.through) if found.through is not None else {}
        files = [("history", history, self._day, details), ("scores", scores, "", details | seen)]
        files += [("traces", file, str(first), job.details(job.settled)) for first, file in traced]
        with self.db.write() as connection:
            registry.claim(connection)
            for dataset in ("contacts", "scores", "traces"):
                registry.expect(self.seen[dataset], registry.live(connection, [dataset])[dataset], dataset)
            replaced = [*self.seen["scores"], *(self.seen["traces"] if traced else ())]
            registry.retire(connection, [file.id for file in replaced], self.now)
            for dataset, file, part, told in files:
                registry.register(
                    connection,
                    dataset=dataset,
                    path=job.lake.relative(file.path),
                    rows=file.rows,
                    size=file.bytes,
                    part=part,
                    details=told,
                    now=self.now,
                )
            journal.write(connection, at=self.now, actor=self.by, action="score", evidence=summary.document())


def _told(job: Job, kinds: Counter[str]) -> dict[str, Any]:
    """What the data say about the grid: acts by touchpoint, touchpoints without data, kinds nobody speaks of."""
    grid, rows = job.grid, job.log.counts("slots")
    acts = {key: job.dated if point.style is Style.SIGN_UP else 0 for key, point in grid.touchpoints.items()}
    for slot in slots(grid):
        acts[slot.touchpoint] += rows.get(str(slot.number), 0)
    if not job.log.files:  # the acts are elsewhere, only their kinds are known
        acts |= {slot.touchpoint: sum(kinds[kind] for kind in grid.kinds_of(slot.touchpoint)) for slot in slots(grid)}
    return {
        "acts": {key: n for key, n in acts.items() if n},
        "left_out": tuple(key for key, n in acts.items() if not n),
        "unknown_kinds": {kind: n for kind, n in kinds.most_common() if kind not in grid.known_kinds},
    }
