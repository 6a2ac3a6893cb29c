"""What a run reads and writes: traces of everybody, then points; a day later only of those for whom something changed.

Traces of days long enough past are kept. The next run adds what happened since, for the contacts that did something, or
whose acts came of an age at which they bring other points: nobody else's score can have changed. It may not do so when
the grid changed, when a settled day did (an act that arrived later than `LATE`), when time went back, or when the kept
traces are older than `KEPT`: then the run is a full one and says why. Both give the same scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from sendwave.engine.base import Written
from sendwave.engine.histograms import score_histogram
from sendwave.engine.writing import writing
from sendwave.flow.score.people import Job, Kept, People, schema_of
from sendwave.rules import score as rules
from sendwave.rules.columns import HISTORY, SCORES, alike, or_, select
from sendwave.rules.cutoffs import resolved
from sendwave.rules.tiers import Tiers

_FORMER: Final = alike("former", SCORES)
_NEW: Final = alike("new", SCORES)


@dataclass(frozen=True)
class Computed:
    """What a run wrote, nothing of it registered yet: the scores, the rows that changed, new traces if any."""

    scores: Written
    changed: pa.Table  # contact, score
    traced: tuple[tuple[int, Written], ...] = ()
    worked_out: int = 0  # contacts whose points were worked out


def compute(job: Job, kept: Kept | None) -> Computed:
    """Everybody's score as a new file of the lake; without kept traces a full run. Raises FullDisk."""
    changed: list[pa.Table] = []
    traced: list[tuple[int, Written]] = []
    worked_out = 0
    try:
        with writing(job.lake.new("scores", "scores"), schema_of(SCORES), job.constants) as writer:
            for block in job.layout.blocks(job.last):
                people = People(job, block, kept)
                if kept is None:
                    traced.append((block[0], people.trace()))
                else:
                    people.follow(kept)
                writer.write([pa.table({"contact": people.contacts, "score": people.scores})])
                changed.append(people.changed())
                worked_out += people.worked_out
            scores = writer.finish()
    except BaseException:
        job.lake.discard(*(file for _, file in traced))
        raise
    return Computed(scores, pa.concat_tables(changed), tuple(traced), worked_out)


def compare(job: Job, scores: Written) -> Computed:
    """Scores that came from elsewhere, with the rows that changed."""
    was = _FORMER.c.score
    new: Any = select(_NEW.c.contact, _NEW.c.score).select_from(
        _NEW.outerjoin(_FORMER, _FORMER.c.contact == _NEW.c.contact)
    )
    tables = {} if job.former else {"former": schema_of(SCORES).empty_table()}
    with job.engine.session({"new": [scores.path], "former": job.paths(job.former)}, tables) as session:
        return Computed(scores, session.read(new.where(or_(was.is_(None), was != _NEW.c.score))))


def history(job: Job, tiers: Tiers, day: str, changed_ts: int, computed: Computed) -> Written:
    """The rows that changed as a file of `history`, not yet registered; `changed_ts` (epoch seconds). Raises FullDisk.

    Tiers by share are those of this very run's scores.
    """
    tables = {"new": computed.changed} | ({} if job.former else {"former": schema_of(SCORES).empty_table()})
    inputs = {"former": job.paths(job.former), "contacts": job.paths(job.contacts), "scores": [computed.scores.path]}
    with (
        writing(job.lake.new("history", f"history-{day}"), schema_of(HISTORY)) as writer,
        job.engine.session(inputs, tables) as session,
    ):
        cuts = resolved(tiers, score_histogram(session, tiers)) if tiers.by_share else tiers
        told = rules.history_statement(
            _NEW, _FORMER, grid=job.grid, tiers=tiers, cuts=cuts, day=day, changed_ts=changed_ts
        )
        writer.write(session.stream(told))
        return writer.finish()
