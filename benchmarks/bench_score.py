"""Score a made-up base, in full and a day later, as a ratio to DuckDB's bare group-by of the same clean log.

    python benchmarks/bench_score.py [--contacts 1000000] [--folder DIR]

Ten interactions a contact over a year, nine touchpoints, one correlated filter. Each step runs in a process of its own,
so that peak memory is its own too; seconds and CPU seconds are those of the work, without the start of the interpreter.
Budget: a full run at most 2 x bare and 2,560 MiB, a daily one at most 1/6 of full. CPU seconds say more than seconds
while other programs use the machine; both are printed, the seconds are judged.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import duckdb

NOW = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
NOW_TS = int(NOW.timestamp())
DAYS, PER_CONTACT = 365, 10
KINDS = [
    "email_open", "email_open", "email_open", "email_open", "email_click", "email_click", "visit", "visit", "visit",
    "visit", "purchase", "survey", "social", "service", "download", "sms_click",
]  # fmt: skip
BUDGET_FULL, BUDGET_MIB, BUDGET_DAILY = 2.0, 2560, 1 / 6


class Spent:
    """Seconds and CPU seconds (of all threads) that a block takes."""

    def __enter__(self) -> Self:
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        seconds, cpu = self._began
        self.told = {"seconds": time.perf_counter() - seconds, "cpu": time.process_time() - cpu}


def grid() -> Any:
    from sendwave.flow.policies import load_policies
    from sendwave.rules.grid import Grid

    shipped = load_policies(None).score.model_dump(mode="json")
    return Grid.model_validate(shipped | {"ignore": shipped["ignore"][:1]})


def world(folder: Path) -> tuple[Any, ...]:
    from sendwave.engine.datasets import Lake
    from sendwave.engine.duckdb import DuckdbEngine
    from sendwave.flow.policies import load_policies
    from sendwave.store.database import Database

    database = Database(f"sqlite:///{folder / 'store.db'}")
    database.migrate()
    (folder / "lake").mkdir(exist_ok=True)
    engine = DuckdbEngine(threads=2, memory_limit="1500MB", spill=folder / "spill")
    policy = load_policies(None).model_copy(update={"score": grid()})
    return database, engine, Lake(folder / "lake"), policy


def acts(contacts: int, day: int) -> str:
    """One day's interactions: a few people do most of them; a third of the visits follow a click."""
    rows = contacts * PER_CONTACT // DAYS
    midnight = NOW_TS - NOW_TS % 86_400 - day * 86_400
    return f"""
        SELECT contact, md5(i || '-{day}') AS interaction_id, kind, {midnight} + second AS ts,
            CASE WHEN kind = 'survey' THEN CAST(hash(i, 5) % 11 AS DOUBLE) END AS value, 'email' AS channel,
            'c{day // 7}' AS campaign, NULL::VARCHAR AS message_id,
            kind = 'email_open' AND hash(i, 6) % 100 < 45 AS machine,
            CASE WHEN kind = 'service' THEN '{{"status":"open"}}' END AS attributes
        FROM (SELECT i, CASE WHEN i % 12 = 0 THEN 'email_click' WHEN i % 12 = 1 THEN 'visit'
                    ELSE {KINDS}[CAST(1 + hash(i, {day}, 1) % {len(KINDS)} AS INTEGER)] END AS kind,
                CAST({contacts} * power((hash(i // 2, {day}, 2) % 1000003) / 1000003.0, 2) AS BIGINT) + 1 AS contact,
                CAST(hash(i // 2, {day}, 3) % 86000 AS BIGINT) + i % 2 * 300 AS second
            FROM range({rows}) t(i))
        ORDER BY ts, contact"""


def land(folder: Path, contacts: int, days: range, name: str) -> int:
    """Interactions as imports leave them: sorted by time, registered."""
    from sendwave.store import files

    database, _, lake, _ = world(folder)
    c = duckdb.connect(config={"threads": 2, "memory_limit": "3GB", "temp_directory": str(folder / "spill")})
    rows = 0
    for day in days:
        path = lake.new("interactions", name)
        rows += c.execute(f"COPY ({acts(contacts, day)}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)").fetchone()[0]
        with database.write() as connection:
            files.register(
                connection, dataset="interactions", path=lake.relative(path), rows=0, size=path.stat().st_size, now=NOW
            )
    return rows


def make(folder: Path, contacts: int) -> dict[str, float]:
    from sendwave.store import files

    database, _, lake, _ = world(folder)
    path = lake.new("contacts", "contacts")
    duckdb.connect().execute(
        f"""COPY (SELECT i + 1 AS contact, 'C-' || i AS contact_id, {NOW_TS} - CAST(hash(i) % 90000000 AS BIGINT)
            AS signed_up_ts, 'person' || i || '@gmail.example' AS email FROM range({contacts}) t(i))
        TO '{path}' (FORMAT parquet, COMPRESSION zstd)"""
    )
    with database.write() as connection:
        files.register(connection, dataset="contacts", path=lake.relative(path), rows=contacts, size=1, now=NOW)
    return {"rows": land(folder, contacts, range(DAYS - 1, 0, -1), "year")}


def tomorrow(folder: Path, contacts: int) -> dict[str, float]:
    return {"rows": land(folder, contacts, range(1), "day")}


def clean(folder: Path, contacts: int) -> dict[str, float]:  # noqa: ARG001  # every step takes the same
    from sendwave.flow.score.cleaning import bring_up_to_date

    database, engine, lake, policy = world(folder)
    with Spent() as spent:
        log = bring_up_to_date(database, engine, lake, policy.score, now=NOW)
    return {**spent.told, "days": log.cleaned, "rows": sum(f.rows for f in log.files)}


def full(folder: Path, contacts: int) -> dict[str, float]:  # noqa: ARG001
    return score(folder, NOW, full=True)


def daily(folder: Path, contacts: int) -> dict[str, float]:  # noqa: ARG001
    return score(folder, NOW + timedelta(days=1), full=False)


def again(folder: Path, contacts: int) -> dict[str, float]:  # noqa: ARG001
    """The same instant in full, to compare every score with the daily run's."""
    return score(folder, NOW + timedelta(days=1), full=True)


def score(folder: Path, now: datetime, *, full: bool) -> dict[str, float]:
    from sendwave.flow import score as flow

    database, engine, lake, policy = world(folder)
    with Spent() as spent:
        summary = flow.score(database, engine, lake, policy, now=now, by="bench", full=full)
    assert summary.mode == ("full" if full else "incremental"), summary.why
    return {**spent.told, "worked_out": summary.worked_out, "changed": summary.changed}


def bare(folder: Path, contacts: int) -> dict[str, float]:  # noqa: ARG001
    """What DuckDB needs to group the clean log by contact and write one row each: no grid, no rule."""
    c = duckdb.connect(config={"threads": 2, "memory_limit": "2500MB", "temp_directory": str(folder / "spill")})
    c.execute("SET preserve_insertion_order = false")
    with Spent() as spent:
        c.execute(
            f"""COPY (SELECT contact, max(ts) AS last_ts, count(*) AS acts
                FROM read_parquet('{folder}/lake/clean/*.parquet') GROUP BY contact)
            TO '{folder}/bare.parquet' (FORMAT parquet, COMPRESSION zstd)"""
        )
    return spent.told


STEPS = {step.__name__: step for step in (make, tomorrow, clean, full, daily, again, bare)}


def run(step: str, folder: Path, contacts: int) -> dict[str, float]:
    """One step in a process of its own, with its peak memory."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder), "--contacts", str(contacts)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def same_scores(folder: Path) -> int:
    """How many scores differ between the last two runs, which were about the same instant."""
    files = sorted((folder / "lake" / "scores").glob("*.parquet"), key=lambda path: path.stat().st_mtime)[-2:]
    both = f"'{files[0]}' a FULL JOIN '{files[1]}' b USING (contact)"
    found = duckdb.execute(f"SELECT count(*) FROM {both} WHERE a.score IS DISTINCT FROM b.score").fetchone()
    return int(found[0]) if found else -1


def report(folder: Path, contacts: int) -> bool:
    found = {step: run(step, folder, contacts) for step in ("make", "clean", "bare", "full")}
    run("tomorrow", folder, contacts)
    found |= {"clean a day": run("clean", folder, contacts), "daily": run("daily", folder, contacts)}
    found |= {"again": run("again", folder, contacts), "bare again": run("bare", folder, contacts)}
    base = min(found["bare"]["seconds"], found["bare again"]["seconds"])
    base_cpu = min(found["bare"]["cpu"], found["bare again"]["cpu"])
    print(f"{contacts:,} contacts, {found['make']['rows']:,} interactions, {found['clean']['rows']:,} that count")
    for name, told in found.items():
        if "seconds" in told:
            print(
                f"  {name:12} {told['seconds']:8.2f} s  cpu {told['cpu']:7.2f} s  peak {told['peak_mib']:6,.0f} MiB"
                f"  {told['seconds'] / base:6.2f} x bare (cpu {told['cpu'] / base_cpu:.2f})"
            )
    differ = same_scores(folder)
    share = found["daily"]["seconds"] / found["again"]["seconds"]
    share_cpu = found["daily"]["cpu"] / found["again"]["cpu"]
    print(
        f"  daily / full {share:.3f} (cpu {share_cpu:.3f}, budget {BUDGET_DAILY:.3f}); "
        f"scores that differ between the two: {differ}"
    )
    within = found["full"]["seconds"] <= BUDGET_FULL * base and found["full"]["peak_mib"] <= BUDGET_MIB
    return within and share <= BUDGET_DAILY and differ == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", choices=tuple(STEPS))
    asked = parser.parse_args()
    if asked.step:
        found = STEPS[asked.step](asked.folder, asked.contacts)
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({**found, "peak_mib": used.ru_maxrss / 1024}))
        return 0
    folder = asked.folder or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    try:
        return 0 if report(folder, asked.contacts) else 1
    finally:
        if asked.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
