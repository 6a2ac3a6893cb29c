"""Plan a campaign over a made-up base, as a ratio to what DuckDB needs to scan, sort and write the same columns bare.

    python benchmarks/plan.py [--contacts 1000000] [--runs 3] [--folder DIR]

Each step runs in a process of its own, so that peak memory is its own too. Budget: at most 4 x bare, at most 2 GiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

NOW = 1_772_442_000  # 2026-03-02 09:00 UTC
CAMPAIGNS = 30  # in 90 days, each to 40 % of the base: 12 past sends a contact
CAMPAIGN = "spring-sale"
LANES = ["gmail", "gmail", "gmail", "orange", "microsoft", "yahoo", "free", "laposte", "sfr", "other"]
BUDGET_RATIO, BUDGET_MIB = 4.0, 2048
POLICY: dict[str, Any] = {
    "tiers": {
        "tiers": [
            {"key": "burning", "label": "Burning", "min_score": 80},
            {"key": "hot", "label": "Hot", "min_score": 60},
            {"key": "warm", "label": "Warm", "min_score": 40},
            {"key": "cool", "label": "Cool", "min_score": 20},
            {"key": "cold", "label": "Cold", "min_score": 5},
            {"key": "icy", "label": "Icy"},
        ]
    },
    "types": {
        "newsletter": {
            "type": "newsletter",
            "tiers": {
                "burning": {"share": "100%"},
                "hot": {"share": "100%", "cap": "3 per 7d"},
                "warm": {"share": "50%", "cap": "2 per 7d", "min_gap": "48h"},
                "cool": {"share": "10%", "cap": "1 per 14d"},
            },
            "caps": [{"max": "1 per 1d", "counts": "channel"}, {"max": "12 per 30d", "counts": "all"}],
            "control": "5%",
            "waves": {"ramp": ["2%", "8%", "15%", "20%", "25%", "30%"]},
        }
    },
    "gates": {"default": {"signals": {}}},
    "lanes": {"providers": {"other": {"label": "Other"}}},
}


def policy() -> Any:
    from sendwave.rules.policy import PolicySet

    return PolicySet.model_validate(POLICY)


def make(folder: Path, contacts: int) -> None:
    """The lake: contacts, consents, scores, one file of sends per past campaign, 1 % suppressed, few slots returned."""
    c = duckdb.connect(config={"threads": 2, "memory_limit": "4GB"})
    c.execute("SET preserve_insertion_order = false")

    def write(name: str, query: str) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        c.execute(f"COPY ({query}) TO '{folder / name}.parquet' (FORMAT parquet, COMPRESSION zstd)")

    people = f"range({contacts}) t(i)"
    write(
        "contacts/base",
        f"""SELECT i AS contact, 'C-' || lpad(CAST((i * 7919) % 1000000007 AS VARCHAR), 12, '0') AS contact_id,
        'person' || i || '@' || p || '.example' AS email, left(sha256('person' || i), 32) AS email_hash,
        CASE WHEN i % 50 = 7 THEN 'invalid' WHEN i % 97 = 3 THEN 'missing' ELSE 'valid' END AS email_status,
        p AS provider,
        NULL::VARCHAR AS phone, NULL::VARCHAR AS phone_hash, 'missing' AS phone_status, 'Europe/Paris' AS timezone,
        'fr' AS language, 'FR' AS country, {NOW} - i % 90000000 AS signed_up_ts, NULL::VARCHAR AS "owner",
        NULL::VARCHAR AS group_key, false AS seed, 'Camille' || i % 900 AS attr_first_name
        FROM (SELECT i, {LANES}[CAST(1 + hash(i) % 10 AS BIGINT)] AS p FROM {people})""",
    )
    write(
        "consents/base",
        f"""SELECT i AS contact, 'email' AS channel, 'marketing' AS purpose,
        CASE WHEN hash(i, 1) % 10 < 8 THEN 'granted' WHEN hash(i, 1) % 10 < 9 THEN 'withdrawn' ELSE 'pending' END
        AS status,        'consent' AS basis, {NOW} - 1000000 AS recorded_ts, 'form' AS proof
        FROM {people} WHERE hash(i, 2) % 20 > 0""",
    )
    write(
        "scores/base",
        f"""SELECT i AS contact, round(100 * pow((hash(i, 3) % 100000) / 100000.0, 2), 2) AS score,
        NULL::VARCHAR AS tier,
        'v1' AS grid_version, {NOW} AS scored_ts FROM {people}""",
    )
    write(
        "returns/base",
        f"SELECT 5 AS freeze, i AS contact, 'refused' AS reason FROM {people} WHERE hash(i, 4) % 100 = 0",
    )
    write(
        "suppressions/base",
        f"""SELECT left(sha256('person' || i), 32) AS address_hash, 'email' AS channel, 'all' AS scope,
        'hard_bounce' AS reason FROM {people} WHERE hash(i, 5) % 100 = 0""",
    )
    for n in range(CAMPAIGNS):
        kind = ("newsletter", "flash_sale", "brand")[n % 3]
        write(
            f"sends/{n:02}",
            f"""SELECT i AS contact, {n + 1} AS campaign, '{kind}' AS type, 'email' AS channel,
            {NOW} - {n} * 259200 - 3600 - i % 7200 AS sent_ts, {n + 1} AS freeze, i // 1000 AS batch,
            CAST(i % 1000 AS INTEGER) AS position, 1 AS wave, 'hot' AS tier, 'gmail' AS provider,
            left(sha256('person' || i), 32) AS address_hash, NULL::VARCHAR AS excluded_by
            FROM {people} WHERE hash(i, {n + 100}) % 10 < 4""",
        )


def files(folder: Path) -> dict[str, list[Path]]:
    return {
        name: sorted((folder / name).glob("*.parquet"))
        for name in ("contacts", "consents", "scores", "sends", "returns")
    }


def plan(folder: Path) -> dict[str, float]:
    """The real statement through the real engine, into a Parquet file."""
    import pyarrow.parquet as pq

    from sendwave.engine.duckdb import DuckdbEngine
    from sendwave.rules.plan import plan_statement

    rules = policy()
    live = {"suppressions": pq.read_table(folder / "suppressions" / "base.parquet")}
    engine = DuckdbEngine(threads=2, memory_limit="1500MB", spill=folder / "spill")
    start = time.perf_counter()
    with engine.session(files(folder), live) as session:
        written = session.write(
            plan_statement(rules, rules.types["newsletter"], CAMPAIGN, NOW), folder / "plan.parquet"
        )
    return {"seconds": time.perf_counter() - start, "rows": written.rows, "bytes": written.bytes}


def bare(folder: Path) -> dict[str, float]:
    """The same columns scanned, the same rows sorted, the same columns written: no rule, no join, no group."""
    c = duckdb.connect(config={"threads": 2, "memory_limit": "1500MB", "temp_directory": str(folder / "spill")})
    c.execute("SET preserve_insertion_order = false")
    start = time.perf_counter()
    read = {
        "contacts": "contact contact_id email email_hash email_status provider",
        "consents": "contact channel purpose status recorded_ts",
        "scores": "contact score tier",
        "sends": "contact type channel sent_ts freeze excluded_by",
    }
    for name, columns in read.items():
        since = f"WHERE sent_ts > {NOW - 30 * 86400}" if name == "sends" else ""
        each = ", ".join(f'count("{column}"), max("{column}")' for column in columns.split())
        c.execute(f"SELECT {each} FROM read_parquet('{folder}/{name}/*.parquet') {since}").fetchall()
    scanned = time.perf_counter() - start
    c.execute(
        f"""COPY (SELECT contact, contact_id, tier, tier_rank, score, provider, excluded_by, rank, wave
        FROM read_parquet('{folder}/plan.parquet') ORDER BY tier_rank, score DESC, contact)
        TO '{folder}/bare.parquet' (FORMAT parquet, COMPRESSION zstd)"""
    )
    return {"seconds": time.perf_counter() - start, "scan": scanned}


def caps(folder: Path) -> dict[str, float]:
    """The pressure question alone, over the whole base."""
    from sendwave.engine.duckdb import DuckdbEngine
    from sendwave.rules import pressure
    from sendwave.rules.columns import func, select

    kind = policy().types["newsletter"]
    past = pressure.past(kind.type, kind.channel, kind.tiers, kind.caps, now_ts=NOW)
    assert past is not None
    totals = select(*(func.sum(column) for column in past.c))
    start = time.perf_counter()
    with DuckdbEngine(threads=2, memory_limit="1500MB").session(files(folder)) as session:
        session.read(totals)
    return {"seconds": time.perf_counter() - start}


def usual(folder: Path) -> dict[str, float]:
    """What is usual elsewhere: one indexed count per contact and cap, in SQL. SQLite in memory flatters it."""
    rows = duckdb.sql(
        f"SELECT contact, sent_ts FROM read_parquet('{folder}/sends/*.parquet') WHERE contact < 50000"
    ).fetchall()
    c = sqlite3.connect(":memory:")
    c.execute("CREATE TABLE sends (contact INTEGER, sent_ts INTEGER)")
    c.executemany("INSERT INTO sends VALUES (?, ?)", rows)
    c.execute("CREATE INDEX ix ON sends (contact, sent_ts)")
    asked = "SELECT count(*) FROM sends WHERE contact = ? AND sent_ts > ?"
    start = time.perf_counter()
    for contact in range(50_000):
        for days in (1, 7, 14, 30):
            c.execute(asked, (contact, NOW - days * 86_400)).fetchone()
    return {"seconds": time.perf_counter() - start, "contacts": 50_000}


def run(step: str, folder: Path) -> dict[str, float]:
    """One step in a process of its own, with its CPU seconds and peak memory."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def report(folder: Path, contacts: int, runs: int) -> bool:
    measured = {step: [run(step, folder) for _ in range(runs)] for step in ("plan", "bare", "caps")}
    middle = {step: statistics.median(m["seconds"] for m in found) for step, found in measured.items()}
    cpu = {step: statistics.median(m["cpu"] for m in found) for step, found in measured.items()}
    peak = max(m["peak_mib"] for m in measured["plan"])
    ratio = middle["plan"] / middle["bare"]
    each = run("usual", folder)
    usual_rate, rate = each["contacts"] / each["seconds"], contacts / middle["caps"]
    print(f"{contacts:,} contacts, {CAMPAIGNS} past campaigns of 40 %, median of {runs}")
    print(
        f"  plan      {middle['plan']:7.2f} s  cpu {cpu['plan']:6.2f} s  peak {peak:,.0f} MiB (budget {BUDGET_MIB:,})"
    )
    print(f"  bare      {middle['bare']:7.2f} s  cpu {cpu['bare']:6.2f} s  scan, sort and write of the same columns")
    print(f"  ratio     {ratio:7.2f}    cpu {cpu['plan'] / cpu['bare']:6.2f}    (budget {BUDGET_RATIO})")
    print(
        f"  caps      {rate:,.0f} contacts/s; a count per contact and cap: {usual_rate:,.0f}/s: "
        f"{rate / usual_rate:.0f} x"
    )
    return ratio <= BUDGET_RATIO and peak <= BUDGET_MIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", choices=("plan", "bare", "caps", "usual"))
    asked = parser.parse_args()
    if asked.step:
        found = {"plan": plan, "bare": bare, "caps": caps, "usual": usual}[asked.step](asked.folder)
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({**found, "cpu": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}))
        return 0
    with tempfile.TemporaryDirectory() as fresh:
        folder = asked.folder or Path(fresh)
        if not (folder / "sends").exists():
            make(folder, asked.contacts)
        return 0 if report(folder, asked.contacts, asked.runs) else 1


if __name__ == "__main__":
    sys.exit(main())
