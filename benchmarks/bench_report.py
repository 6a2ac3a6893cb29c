"""Report on a campaign with that many events, as a ratio to DuckDB's bare scan and group-by of the same events.

    python benchmarks/bench_report.py [--events 5000000] [--folder DIR]

Five events a message; everybody was mailed but 5 %, left out at random; 3 % of everybody bought something in the week.
The report asked is the whole one: by tier, lift, cut-off, checks of the draw, and the comparison with a habit (a year
of opens). Three queries of DuckDB alone stand beside it. The first counts events, which answers another question: of
ten opens of one person it makes ten. The second counts people, each once per tally; the third the same by tier, which
is the first table of the report. Budget: 3 x the first; the third is the peer that answers the same question, of that
one table. CPU seconds are the ones to trust: other work on the machine makes wall seconds longer.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
PER_MESSAGE = 5
BARE = "SELECT tally, wave, provider, count(*) FROM read_parquet('{}') GROUP BY ALL"
PEOPLE = "SELECT tally, count(*) FROM (SELECT DISTINCT contact, tally FROM read_parquet('{}')) GROUP BY ALL"
BY_TIER = """SELECT tier, tally, count(*) FROM (SELECT DISTINCT s.tier, e.contact, e.tally FROM read_parquet('{}') e
    JOIN read_parquet('{}') s ON s.contact = e.contact) GROUP BY ALL"""
EVENTS, SAME = "events counted", "people by tier and tally"
BUDGET = 3.0


def measured(work: Callable[[], Any]) -> tuple[float, float]:
    """(wall, CPU) seconds."""
    cpu, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter() - wall, after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime


def world(folder: Path, events: int) -> tuple[Any, ...]:
    from report_world import Slice, World

    from sendwave.engine.datasets import Lake
    from sendwave.engine.duckdb import DuckdbEngine
    from sendwave.store.database import Database

    database = Database(f"sqlite:///{folder / 'store.db'}")
    database.migrate()
    lake = Lake(folder / "lake")
    lake.root.mkdir(exist_ok=True)
    made = World(database, lake, NOW)
    people = events // PER_MESSAGE
    tiers = ("burning", "hot", "warm", "cool", "cold")
    slices = [Slice(tier, people // 5, 90 - 20 * n, 1.0, 0.03, 0.003, opens=0.3) for n, tier in enumerate(tiers)]
    made.campaign("big", slices=slices, control=0.05)
    engine = DuckdbEngine(threads=2, memory_limit="2GB", spill=folder / "spill")
    return database, engine, lake, made


def happened(folder: Path, lake: Any, made: Any, events: int) -> Path:
    """A day's events of everybody written to, as feedback leaves them: five a message."""
    sends = next((lake.root / "sends").glob("*.parquet"))
    words = ["delivered", "open", "machine_open", "open", "click"]
    day = int(NOW.timestamp()) - 10 * 86_400
    c = duckdb.connect(config={"threads": 2, "memory_limit": "4GB", "temp_directory": str(folder / "spill")})
    target = lake.new("events", "made")
    c.execute(
        f"""COPY (SELECT contact, campaign, wave, batch, position, provider, {words}[k] AS tally, {words}[k] AS type,
            'unknown' AS permanence, NULL::VARCHAR AS cause, {day} + contact % 86000 + k AS event_ts,
            {day} + contact % 86000 + k AS received_ts, k = 3 AS machine, NULL::VARCHAR AS enhanced_code,
            NULL::VARCHAR AS url, NULL::VARCHAR AS description
        FROM read_parquet('{sends}'), range(1, 6) t(k)) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"""
    )
    rows = c.execute(f"SELECT count(*) FROM read_parquet('{target}')").fetchone()
    from sendwave.store import files

    with made.db.write() as conn:
        files.register(conn, dataset="events", path=lake.relative(target), rows=rows[0], size=1, now=NOW)
    print(f"{rows[0]:,} events of {np.int64(events) // PER_MESSAGE:,} people, {target.stat().st_size / 1e6:,.0f} MB")
    return target


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--events", type=int, default=5_000_000)
    asked.add_argument("--folder", type=Path)
    told = asked.parse_args()
    with tempfile.TemporaryDirectory(dir=told.folder) as name:
        folder = Path(name)
        database, engine, lake, made = world(folder, told.events)
        events = happened(folder, lake, made, told.events)
        c = duckdb.connect(config={"threads": 2, "memory_limit": "2GB", "temp_directory": str(folder / "spill")})
        figures = {}
        sends = next((lake.root / "sends").glob("*.parquet"))
        for label, sql in ((EVENTS, BARE), ("people per tally", PEOPLE), (SAME, BY_TIER)):
            text = sql.format(events, sends)
            figures[label] = min(measured(lambda text=text: c.execute(text).fetchall()) for _ in range(2))
        from sendwave.flow import report

        def ask(*, compare: bool) -> None:
            report.report(database, engine, lake, made.policy, ["big"], now=NOW, compare=compare)

        figures["report without the habit"] = measured(lambda: ask(compare=False))
        figures["report"] = measured(lambda: ask(compare=True))
        print(f"{'':<28} {'wall':>9} {'CPU':>9}   CPU beside {EVENTS} | {SAME}")
        for label, (wall, cpu) in figures.items():
            ratios = " | ".join(f"{cpu / figures[peer][1]:5.1f} x" for peer in (EVENTS, SAME))
            print(f"{label:<28} {wall:7.2f} s {cpu:7.2f} s   {ratios}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"budget {BUDGET} x {EVENTS}; peak memory {peak:,.0f} MiB")
        database.close()
        engine.close()


if __name__ == "__main__":
    main()
