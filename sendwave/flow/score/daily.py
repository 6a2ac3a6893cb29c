"""When the daemon scores: once for every local date, at the grid's time; after downtime once, for the latest date."""

from __future__ import annotations

from datetime import date, datetime
from functools import partial
from typing import Final

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow.score.cleaning import SOURCES
from sendwave.flow.score.running import Summary, score
from sendwave.rules.policy import PolicySet
from sendwave.store import files as registry
from sendwave.store import runs
from sendwave.store.database import Connection, Database

JOB: Final = "score"


def run_due(
    db: Database,
    engine: DuckdbEngine,
    lake: Lake,
    policy: PolicySet,
    *,
    now: datetime,
    by: str = "daemon",
    elsewhere: str | None = None,
) -> Summary | None:
    """Score everybody if a date's time has come and it was not scored yet; None when there is nothing to do.

    To be called every minute or so: without anything to do it costs one indexed query. Scores are of the scheduled
    instant, whenever the run happens, so that a run that was late can be repeated. Workspaces that import their scores
    keep them until somebody runs `sendwave score`, which takes over. `elsewhere` as in `score`.

    Raises what `score` raises; the date stays open then, and the next call tries again.
    """
    if policy.score is None or policy.score.daily is None:
        return None
    day = policy.score.daily.latest(now)
    instant = policy.score.daily.on(day)
    with db.read() as connection:
        if _done(connection, day) or not _ours(connection, instant, elsewhere=elsewhere is not None):
            return None
    with db.write() as connection:
        if not runs.begin(connection, JOB, day, now):
            return None
    try:
        run = partial(score, db, engine, lake, policy, now=now, by=by, as_of=instant)
        summary = run(scheduled_on=day.isoformat(), elsewhere=elsewhere)
    except BaseException:
        with db.write() as connection:
            runs.give_up(connection, JOB, day)
        raise
    with db.write() as connection:
        runs.finish(connection, JOB, day, summary.document(), now)
    return summary


def _done(connection: Connection, day: date) -> bool:
    run = runs.latest(connection, JOB)
    return run is not None and (run.scheduled_on > day or (run.scheduled_on == day and run.finished_at is not None))


def _ours(connection: Connection, instant: datetime, *, elsewhere: bool) -> bool:
    """Whether the scores in place are this job's to replace: made here, or none yet and something to make them of.

    Scores of later than `instant` stay: somebody asked for them by hand since.
    """
    live = registry.live(connection, ["contacts", "scores", *SOURCES])
    if not live["contacts"]:
        return False
    if live["scores"]:
        told = [file.details for file in live["scores"]]
        return all("grid" in one and int(one.get("as_of", 0)) <= instant.timestamp() for one in told)
    return elsewhere or bool(live["interactions"])
