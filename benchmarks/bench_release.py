"""Freezing a wave: its people as batches in the store and the lasting `sends` file, beside bare storing of blobs.

    python benchmarks/bench_release.py [--contacts 1000000] [--runs 3]

`freeze` is everything release does once it knows who goes: arranging lanes, cutting, encoding, writing and syncing the
file, one transaction with every batch. `ask again` is the statement before it: consent, suppressions, address, order
of each lane. `blobs` stores the same payloads, already encoded, in the same SQLite and nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import pyarrow as pa
import sendable
from sqlalchemy import insert

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow.release.freezing import Wave, freeze
from sendwave.flow.release.leasing import register
from sendwave.rules.plan import INPUTS, recheck_statement
from sendwave.store import batches, campaigns, files, freezes, suppressions, tables
from sendwave.store.database import Database

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
BUDGET = 800_000


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """(what came of it, wall seconds, processor seconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def run(folder: Path, contacts: int) -> dict[str, tuple[float, float]]:
    db, lake, engine = Database(f"sqlite:///{folder}/s.db"), Lake(folder), DuckdbEngine(threads=2)
    db.migrate()
    sendable.write_base(db, lake, contacts, NOW)
    policy = sendable.policy_set(ramp=["100%"])
    campaign = sendable.approved(db, engine, lake, policy, NOW)
    with db.read() as conn:
        paths = lake.paths(files.live(conn, (*INPUTS, "plan")))
        suppressed = suppressions.table(conn, "email")

    def ask() -> pa.Table:
        statement = recheck_statement(
            policy.types["newsletter"],
            campaign.name,
            campaign.id,
            1,
            int(NOW.timestamp()),
            attributes=["attr_first_name"],
        )
        with engine.session(paths, {"suppressions": suppressed}) as session:
            return session.read(statement)

    def frozen() -> list[batches.Draft]:
        found = freeze(db, lake, Wave(campaign, 1, local=False, batch_size=1_000), people, now=NOW)
        assert found.written is not None
        with db.write() as conn:
            campaigns.start_due(conn, by="bench", now=NOW)
            file_id = register(
                conn, lake, "sends", found.written, now=NOW, part=str(campaign.id), details={"consents": []}
            )
            told = {"campaign_id": campaign.id, "wave": 1, "contacts": found.people, "dropped": found.dropped}
            freezes.add(conn, found.id, file_id=file_id, now=NOW, **told)
            batches.add(conn, found.drafts)
        return list(found.drafts)

    people, *asked = timed(ask)
    drafts, *froze = timed(frozen)
    with closing(Database(f"sqlite:///{folder}/bare.db")) as bare:
        bare.migrate()
        rows = [
            {"source": "x", "headers": {}, "body": one.payload, "received_at": NOW, "status": "new", "events": 0}
            for one in drafts
        ]

        def store() -> None:
            with bare.write() as conn:
                conn.execute(insert(tables.inbox), rows)

        _, *stored = timed(store)
    db.close()
    return {"ask again": tuple(asked), "freeze": tuple(froze), "blobs": tuple(stored)}  # type: ignore[dict-item]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    runs = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(run(Path(folder), options.contacts))
    found = {name: [statistics.median(r[name][i] for r in runs) for i in (0, 1)] for name in runs[0]}
    for name, (wall, cpu) in found.items():
        rates = f"{options.contacts / wall:12,.0f}/s wall {options.contacts / cpu:12,.0f}/s processor"
        print(f"{name:10} {wall:6.2f} s wall {cpu:6.2f} s processor {rates}")
    print(f"freeze / blobs: {found['freeze'][0] / found['blobs'][0]:.2f}   budget {BUDGET:,} people/s")


if __name__ == "__main__":
    main()
