"""The batch ledger: lease + hand + complete empty batches, and freeze people into batches, next to bare statements.

    python benchmarks/ledger.py [--batches 2000] [--people 1000000] [--runs 3] [--postgresql] [--folder DIR]

Both sides commit equally often and equally durably (SQLite synchronous=FULL, PostgreSQL fsync=on): one commit per 16
leases, one before a batch is handed over, one when it is settled. Budgets: at least 1,000 batches/s on either store,
and at least 800,000 people/s frozen.
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
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules.columns import SENDS, select
from sendwave.store import batches, campaigns, freezes, payloads
from sendwave.store.database import Database

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LEASED_AT_ONCE = 16
LIFE = timedelta(minutes=15)
PER_BATCH = 1_000
BUDGET_BATCHES, BUDGET_PEOPLE = 1_000, 800_000
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


def ledger(db: Database, ids: list[int]) -> None:
    """As dispatch moves them, the ESP's call apart."""
    for start in range(0, len(ids), LEASED_AT_ONCE):
        with db.write() as conn:
            claimed = batches.claim(conn, ids[start : start + LEASED_AT_ONCE], holder="bench", until=NOW + LIFE)
        for batch in claimed:
            with db.write() as conn:
                assert batches.hand(conn, batch.id, (), holder="bench", now=NOW)
            with db.write() as conn:
                batches.settle(conn, batch.id, "accept", batches.Exceptions(), now=NOW)


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
    hand = f"UPDATE batches SET status='handed', handed_at='2026-03-02' WHERE id={mark} AND status='claimed'"
    settled = "status='accepted', settled_at='2026-03-02', payload=NULL"
    settle = f"UPDATE batches SET {settled} WHERE id={mark} AND status='handed'"
    for start in range(0, len(ids), LEASED_AT_ONCE):
        some = [(batch_id,) for batch_id in ids[start : start + LEASED_AT_ONCE]]
        one(lease, some)
        for row in some:
            one(hand, [row])
            one(settle, [row])


def people(count: int) -> pa.Table:
    """What the re-check at release gives back, in sending order."""
    numbers = range(count)
    columns: dict[str, Any] = {
        "contact": pa.array(numbers, pa.int64()),
        "contact_id": [f"C-{n * 7919 % 1_000_000_007:012}" for n in numbers],
        "address": [f"camille.{n}@{LANES[n * 31 % 6]}.example" for n in numbers],
        "address_hash": [f"{n * 2654435761 % 2**64:032x}" for n in numbers],
        "tier": [("burning", "hot", "warm")[n * 3 // count] for n in numbers],
        "provider": [LANES[n * 31 % 6] for n in numbers],
        "timezone": ["Europe/Paris"] * count,
        "language": ["fr"] * count,
        "attr_first_name": [f"Camille{n % 900}" for n in numbers],
        "excluded_by": pa.nulls(count, pa.string()),
    }
    return pa.table(columns)


def freeze(db: Database, campaign_id: int, table: pa.Table, folder: Path) -> None:
    """As release freezes a wave, the question to the rules apart: batches, and their `sends` twin."""
    arranged = payloads.arrange(table, local=False)
    cuts = payloads.cut(arranged, PER_BATCH)
    with db.write() as conn:
        freeze_id, first = freezes.reserve(conn, freeze_ids=1, batch_ids=len(cuts))
    kept = payloads.kept(arranged)
    drafts = [
        batches.Draft(
            first + cut.place, campaign_id, 1, freeze_id, cut.provider, "main", "", cut.place, cut.stop - cut.start,
            payloads.encode(kept.slice(cut.start, cut.stop - cut.start)),
        )
        for cut in cuts
    ]  # fmt: skip
    same: dict[str, int | str] = {"campaign": campaign_id, "type": "newsletter", "channel": "email", "wave": 1}
    rows = payloads.sends(arranged, table.slice(0, 0), cuts, first, {**same, "freeze": freeze_id, "sent_ts": 0})
    with DuckdbEngine(threads=2).session({}, {"sends": rows}) as session:
        session.write(select(SENDS), Lake(folder).new("sends", "bench"))
    with db.write() as conn:
        freezes.add(
            conn, freeze_id, campaign_id=campaign_id, wave=1, file_id=None, contacts=len(table), dropped={}, now=NOW
        )
        batches.add(conn, drafts)


def bare_blobs(table: pa.Table, folder: Path) -> float:
    """The same payloads, encoded beforehand, into one table of SQLite: seconds."""
    kept = payloads.kept(table)
    blobs = [(payloads.encode(kept.slice(start, PER_BATCH)),) for start in range(0, len(table), PER_BATCH)]
    connection = sqlite3.connect(folder / "blobs.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS blobs (id INTEGER PRIMARY KEY, payload BLOB)")

    def insert() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO blobs (payload) VALUES (?)", blobs)
        connection.execute("COMMIT")

    seconds = timed(insert)
    connection.close()
    return seconds


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
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--postgresql", action="store_true", help="also on a PostgreSQL server of the test wheel")
    parser.add_argument("--folder", type=Path, help="where the stores are made; a disk that syncs, no tmpfs")
    asked = parser.parse_args()
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=asked.folder) as made:
        folder = Path(made)
        with stores(folder, postgresql=asked.postgresql) as found:
            for name, db, bare in found:
                report[name] = measure_ledger(db, bare, asked.batches, asked.runs)
            report["freeze"] = measure_freeze(found[0][1], folder, asked.people, asked.runs)
            for _, db, _ in found:
                db.close()
    print(json.dumps(report, indent=2))


def measure_ledger(
    db: Database, bare: Callable[[Database, list[int]], None], count: int, runs: int
) -> dict[str, float | bool]:
    """Batches per second, by turns so that a noisy neighbour meets both sides."""
    campaign_id = campaign(db)
    ours, theirs = [], []
    for _ in range(runs):
        ids, others = fill(db, campaign_id, count), fill(db, campaign_id, count)
        ours.append(count / timed(lambda ids=ids: ledger(db, ids)))
        theirs.append(count / timed(lambda ids=others: bare(db, ids)))
    rate, limit = statistics.median(ours), statistics.median(theirs)
    return {
        "batches_per_second": round(rate),
        "bare_per_second": round(limit),
        "share_of_bare": round(rate / limit, 2),
        "within_budget": rate >= BUDGET_BATCHES,
    }


def measure_freeze(db: Database, folder: Path, count: int, runs: int) -> dict[str, float | bool]:
    """People per second into the SQLite store and the lake."""
    with db.read() as conn:
        campaign_id = campaigns.listing(conn)[0].id
    table = people(count)
    ours, theirs = [], []
    for _ in range(runs):
        ours.append(count / timed(lambda: freeze(db, campaign_id, table, folder)))
        with db.write() as conn:
            conn.execute(text("DELETE FROM batches"))
        theirs.append(count / bare_blobs(table, folder))
    rate, limit = statistics.median(ours), statistics.median(theirs)
    return {
        "people_per_second": round(rate),
        "bare_blobs_per_second": round(limit),
        "share_of_bare": round(rate / limit, 2),
        "within_budget": rate >= BUDGET_PEOPLE,
    }


if __name__ == "__main__":
    main()
