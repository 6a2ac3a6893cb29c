"""Release and dispatch, as ratios to the bare work they are made of, measured in the same run.

    python benchmarks/dispatch.py [--contacts 200000] [--runs 3] [--profile]

Release: one wave of everybody, asked again and frozen, against bare encoding and storing of the same payloads and
against the bare re-check statement. Dispatch: through an ESP in memory, every hand-over and receipt committed durably
(SQLite synchronous=FULL), on one thread; against decoding the payloads alone, and against the three commits a batch
needs alone. CPU seconds are the process's own, so that another job on the machine does not change them.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import sendable
from sqlalchemy import insert, text

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.esp.base import Receipt, Submission
from sendwave.flow.dispatch import Dispatcher
from sendwave.flow.release import release
from sendwave.rules.plan import INPUTS, recheck_statement
from sendwave.store import files, payloads, suppressions, tables
from sendwave.store.database import Database

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DISPATCH_BUDGET, RELEASE_BUDGET = 50_000, 800_000


class Quiet(sendable.MemoryEsp):
    """Takes everything and keeps nothing."""

    def submit(self, submission: Submission) -> Receipt:  # noqa: ARG002  # the protocol's
        return Receipt()


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(wall, processor) seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def bare_commits(db: Database, count: int) -> None:
    """Three durable one-row updates per batch: claimed, handed, settled."""
    for _ in range(3 * count):
        with db.write() as conn:
            conn.execute(text("UPDATE meta SET value = value + 1 WHERE key = 'bench'"))


def run(folder: Path, contacts: int, profile: cProfile.Profile | None) -> dict[str, tuple[float, float]]:
    db, lake, engine = Database(f"sqlite:///{folder}/s.db"), Lake(folder), DuckdbEngine(threads=2)
    db.migrate()
    sendable.write_base(db, lake, contacts, NOW)
    campaign = sendable.approved(db, engine, lake, sendable.policy_set(ramp=["100%"]), NOW)
    found: dict[str, tuple[float, float]] = {}
    kind = sendable.policy_set(ramp=["100%"]).types["newsletter"]
    with db.read() as conn:
        paths = lake.paths(files.live(conn, (*INPUTS, "plan")))
        suppressed = suppressions.table(conn, "email")
    asked = []

    def ask() -> None:
        with engine.session(paths, {"suppressions": suppressed}) as session:
            statement = recheck_statement(
                kind, campaign.name, campaign.id, 1, int(NOW.timestamp()), attributes=["attr_first_name"]
            )
            asked.append(session.read(statement))

    found["bare re-check"] = timed(ask)
    if profile:
        profile.enable()
    found["release"] = timed(lambda: release(db, engine, lake, now=NOW))
    if profile:
        profile.disable()
    with db.read() as conn:
        rows = conn.execute(tables.batches.select()).mappings().all()
        stored = [row["payload"] for row in rows]
    people = payloads.kept(asked[0])
    bare = Database(f"sqlite:///{folder}/bare.db")
    bare.migrate()

    def blobs() -> None:
        parts = [payloads.encode(people.slice(n, 1_000)) for n in range(0, people.num_rows, 1_000)]
        with bare.write() as conn:
            conn.execute(insert(tables.inbox), [_row(part) for part in parts])

    found["bare blobs"] = timed(blobs)
    found["bare decode"] = timed(lambda: [payloads.decode(payload).to_pydict() for payload in stored])
    with db.write() as conn:
        conn.execute(insert(tables.meta).values(key="bench", value="0"))
    found["bare commits"] = timed(lambda: bare_commits(db, len(stored)))
    dispatcher = Dispatcher(db, engine, lake, {"main": Quiet()}, sendable.KEY, "bench")
    done = []

    def drain() -> None:
        now = NOW
        while (step := dispatcher.step(now)).batches:
            done.append(step.accepted)
            now += timedelta(seconds=1)

    if profile:
        profile.enable()
    found["dispatch"] = timed(drain)
    if profile:
        profile.disable()
    assert sum(done) == contacts
    db.close()
    bare.close()
    return found


def _row(part: bytes) -> dict[str, object]:
    return {"source": "x", "headers": {}, "body": part, "received_at": NOW, "status": "new", "events": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    profile = cProfile.Profile() if options.profile else None
    runs = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(run(Path(folder), options.contacts, profile))
    median = {name: tuple(statistics.median(r[name][i] for r in runs) for i in (0, 1)) for name in runs[0]}
    for name, (wall, cpu) in median.items():
        rate = f"{options.contacts / wall:12,.0f}/s wall {options.contacts / cpu:12,.0f}/s processor"
        print(f"{name:14} {wall:7.2f} s wall {cpu:7.2f} s processor {rate}")
    wall = {name: seconds for name, (seconds, _) in median.items()}
    release_floor = wall["bare blobs"] + wall["bare re-check"]
    print(f"release  / (blobs + re-check): {wall['release'] / release_floor:5.2f}   budget {RELEASE_BUDGET:,} people/s")
    print(f"release  / blobs             : {wall['release'] / wall['bare blobs']:5.2f}")
    print(f"dispatch / (decode + commits): {wall['dispatch'] / (wall['bare decode'] + wall['bare commits']):5.2f}")
    print(f"dispatch: {options.contacts / wall['dispatch']:,.0f} people/s, budget {DISPATCH_BUDGET:,}")
    if profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main()
