"""Plan with a three-clause audience beside the plan without one, over the base of benchmarks/plan.py and its purchases.

    python benchmarks/bench_audience.py [--contacts 1000000] [--runs 3] [--folder DIR]

Clauses that leave out few: an attribute, purchases of a category in half a year, openings of a week; 8 interactions a
contact. Both plans run in turn in one process; CPU seconds count, which a busy machine disturbs
least. Budget: at most 1.5 x the plan without.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import plan as base
import pyarrow as pa
import pyarrow.parquet as pq

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules.audience import Who
from sendwave.rules.plan import plan_statement

BUDGET = 1.5
EACH = 8  # interactions a contact
AUDIENCE = [  # nearly everybody is in it, so that the rest of the plan has as much to do as without
    "first_name != Camille1",
    "not bought category shoes within 180d at least 3 times",
    "not opened within 7d",
]


def make_interactions(folder: Path, contacts: int) -> None:
    (folder / "interactions").mkdir(exist_ok=True)
    connection = duckdb.connect(config={"threads": 2, "memory_limit": "4GB"})
    connection.execute(
        f"""COPY (SELECT hash(i) % {contacts} AS contact, 'i' || i AS interaction_id,
        ['purchase', 'email_open', 'email_open', 'visit'][CAST(1 + hash(i, 1) % 4 AS BIGINT)] AS kind,
        {base.NOW} - hash(i, 2) % 63072000 AS ts, round((hash(i, 3) % 20000) / 100.0, 2) AS value,
        'email' AS channel, NULL::VARCHAR AS campaign, NULL::VARCHAR AS message_id, hash(i, 4) % 3 = 0 AS machine,
        CASE WHEN hash(i, 1) % 4 = 0 THEN '{{"category":"' || ['shoes', 'coats', 'bags'][CAST(1 + hash(i, 5) % 3 AS
        BIGINT)] || '"}}' END AS attributes
        FROM range({contacts * EACH}) t(i))
        TO '{folder}/interactions/base.parquet' (FORMAT parquet, COMPRESSION zstd)"""
    )


def seconds(folder: Path, engine: DuckdbEngine, who: Who) -> tuple[float, int]:
    rules = base.policy()
    kind = rules.types["newsletter"].meant_for(who)
    listed = {**base.files(folder), "interactions": sorted((folder / "interactions").glob("*.parquet"))}
    names = {"campaign": pa.int64(), "name": pa.string(), "channel": pa.string()}
    live = {
        "suppressions": pq.read_table(folder / "suppressions" / "base.parquet"),
        "mailings": pa.table({name: pa.array([], type_) for name, type_ in names.items()}),
    }
    start = time.process_time()
    with engine.session(listed, live) as session:
        written = session.write(plan_statement(rules, kind, base.CAMPAIGN, base.NOW), folder / "plan.parquet")
    return time.process_time() - start, written.rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        folder = asked.folder or Path(fresh)
        if not (folder / "sends").exists():
            base.make(folder, asked.contacts)
        if not (folder / "interactions").exists():
            make_interactions(folder, asked.contacts)
        engine = DuckdbEngine(threads=2, memory_limit="1500MB", spill=folder / "spill")
        taken: dict[str, list[float]] = {"without": [], "with": []}
        for _ in range(asked.runs):
            for name, who in (("without", Who()), ("with", Who.parse(AUDIENCE))):
                taken[name].append(seconds(folder, engine, who)[0])
    middle = {name: statistics.median(found) for name, found in taken.items()}
    ratio = middle["with"] / middle["without"]
    print(f"{asked.contacts:,} contacts, {asked.contacts * EACH:,} interactions, median of {asked.runs}")
    print(f"  without {middle['without']:.2f} s CPU, with three clauses {middle['with']:.2f} s CPU")
    print(f"  {ratio:.2f} x (budget {BUDGET})")
    return 0 if ratio <= BUDGET else 1


if __name__ == "__main__":
    sys.exit(main())
