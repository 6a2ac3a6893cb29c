"""The batch ledger: lease + hand + complete empty batches, next to bare statements. Freezing: bench_release.py.

    python benchmarks/ledger.py [--batches 2000] [--runs 3] [--postgresql] [--folder DIR]

Ours by --workers threads (8), as dispatch does it: one commit for some leases, then each thread settles a batch in the
commit that hands over its next one, on SQLite those of several threads at the same moment together. The bare side is a
lease and a done statement of each batch, each committed for itself, by one thread. All commits are durable (SQLite
synchronous=FULL, PostgreSQL fsync=on). Budget: at least 600 batches/s on SQLite and 800 on PostgreSQL where the bare
pair does 2,000; `share_of_bare` compares with the bare pair of the same run.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from sendwave.flow.dispatch import AT_ONCE, AT_ONCE_EACH
from sendwave.flow.dispatch.turns import Turns
from sendwave.store import batches, campaigns, freezes
from sendwave.store.database import Connection, Database
from sendwave.store.group_commit import Together

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LIFE = timedelta(minutes=15)
PER_BATCH = 1_000
BUDGETS = {"sqlite": 600, "postgresql": 800}  # batches/s where the bare pair does 2,000
BARE = 2_000
LANES = ("gmail", "orange", "microsoft", "yahoo", "free", "other")


def campaign(db: Database) -> int:
    """A campaign that is being sent, wave 1 flying."""
    import campaigns_made

    with db.write() as conn:
        made = campaigns_made.sending(conn, NOW, waves=[1], lanes=LANES)
        for event in ("release", "send"):
            campaigns.transition_wave(conn, made.id, 1, event, by="bench", now=NOW)
        freezes.add(conn, 1, campaign_id=made.id, wave=1, file_id=None, contacts=0, dropped={}, now=NOW)
        return made.id


def fill(db: Database, campaign_id: int, count: int) -> list[int]:
    """Ready batches of nobody."""
    with db.write() as conn:
        _, first = freezes.reserve(conn, batch_ids=count)
        drafts = [
            batches.Draft(first + n, campaign_id, 1, 1, LANES[n % 6], "main", "", n, 0, b"") for n in range(count)
        ]
        batches.add(conn, drafts)
    return list(range(first, first + count))


def ledger(db: Database, ids: list[int], workers: int) -> None:
    """As dispatch moves them, the ESP's call apart: hands that take batches in turn."""
    together = Together(db)

    def hand(conn: Connection, batch: batches.Claimed, before: int | None) -> None:
        if before is not None:
            settle(conn, before)
        assert batches.hand(conn, batch, (), holder="bench", now=NOW)

    def settle(conn: Connection, batch_id: int) -> None:
        batches.settle(conn, batch_id, "accept", batches.Exceptions(), now=NOW, handed=(0, ()))

    def in_turn(turns: Turns) -> None:
        last = None
        for batch in turns:
            together.run(partial(hand, batch=batch, before=last))
            last = batch.id
        if last is not None:
            together.run(partial(settle, batch_id=last))

    with ThreadPoolExecutor(workers) as pool:
        at_once = max(AT_ONCE, AT_ONCE_EACH * workers)
        for start in range(0, len(ids), at_once):
            with db.write() as conn:
                turns = Turns(batches.claim(conn, ids[start : start + at_once], holder="bench", until=NOW + LIFE))
            list(pool.map(in_turn, [turns] * workers))


def bare_sqlite(db: Database, ids: list[int]) -> None:
    """The same UPDATEs and commits, through sqlite3 alone."""
    assert db.url.database is not None
    connection = sqlite3.connect(db.url.database, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")

    def one(statement: str, rows: list[tuple[int]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(statement, rows)
        connection.execute("COMMIT")

    _bare(one, ids, "?")
    connection.close()


def bare_postgresql(db: Database, ids: list[int]) -> None:
    """The same UPDATEs and commits, through psycopg alone."""
    import psycopg

    with psycopg.connect(db.url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:

        def one(statement: str, rows: list[tuple[int]]) -> None:
            for row in rows:
                connection.execute(statement, row, prepare=True)
            connection.commit()

        _bare(one, ids, "%s")


def _bare(one: Callable[[str, list[tuple[int]]], None], ids: list[int], mark: str) -> None:
    lease = f"UPDATE batches SET status='claimed', claimed_by='bench' WHERE id={mark} AND status='ready'"
    settled = "status='accepted', settled_at='2026-03-02', payload=NULL"
    done = f"UPDATE batches SET {settled} WHERE id={mark} AND status='claimed'"
    for batch_id in ids:
        one(lease, [(batch_id,)])
        one(done, [(batch_id,)])


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


@contextmanager
def stores(
    folder: Path, *, postgresql: bool
) -> Iterator[list[tuple[str, Database, Callable[[Database, list[int]], None]]]]:
    sqlite = Database(f"sqlite:///{folder / 'ledger.db'}")
    sqlite.migrate()
    if not postgresql:
        yield [("sqlite", sqlite, bare_sqlite)]
        return
    import postgres_server

    postgres_server.FAST.update(fsync="on", synchronous_commit="on", full_page_writes="on", shared_buffers="256MB")
    with postgres_server.running() as server:
        database = Database(server.create().render_as_string(hide_password=False))
        database.migrate()
        yield [("sqlite", sqlite, bare_sqlite), ("postgresql", database, bare_postgresql)]
        database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--postgresql", action="store_true", help="also on a PostgreSQL server of the test wheel")
    parser.add_argument("--folder", type=Path, help="where the stores are made; a disk that syncs, no tmpfs")
    asked = parser.parse_args()
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=asked.folder) as made:
        folder = Path(made)
        with stores(folder, postgresql=asked.postgresql) as found:
            for name, db, bare in found:
                report[name] = measure_ledger(name, db, bare, asked)
            for _, db, _ in found:
                db.close()
    print(json.dumps(report, indent=2))


def measure_ledger(
    name: str, db: Database, bare: Callable[[Database, list[int]], None], asked: argparse.Namespace
) -> dict[str, float | bool]:
    """Batches per second, by turns so that a noisy neighbour meets both sides."""
    campaign_id, count = campaign(db), asked.batches
    ours, theirs, cpu = [], [], []
    for _ in range(asked.runs):
        ids, others = fill(db, campaign_id, count), fill(db, campaign_id, count)
        before = time.process_time()
        ours.append(count / timed(lambda ids=ids: ledger(db, ids, asked.workers)))
        cpu.append((time.process_time() - before) / count)
        theirs.append(count / timed(lambda ids=others: bare(db, ids)))
    rate, limit = statistics.median(ours), statistics.median(theirs)
    share = BUDGETS[name] / BARE
    return {
        "batches_per_second": round(rate),
        "bare_per_second": round(limit),
        "cpu_ms_per_batch": round(statistics.median(cpu) * 1_000, 2),  # of this process; PostgreSQL's own apart
        "share_of_bare": round(rate / limit, 2),
        "budget_share_of_bare": share,
        "within_budget": rate / limit >= share,
    }


if __name__ == "__main__":
    main()
