"""Cap evaluation over past sends, against DuckDB's bare group-by and the usual SQL form; replay against one plan.

    python benchmarks/bench_pressure.py [--contacts 1000000] [--runs 3] [--folder DIR] [--no-usual]

Twelve past sends a contact in 90 days (30 campaigns to 40 % each). `caps` is the statement release and plan are made
of: every contact with its counts, and the first rule that leaves it out. `bare` scans and groups the same sends, no
rule. `usual` is the form most tools have, a correlated count per contact and cap, on SQLite over 2 % of the contacts.
Limits, by CPU seconds because other work on the machine makes the wall's longer: caps at least 2,000,000 contacts a
second on two cores; replay of 90 days under two policies at most 10 plans.
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import plan as ground
import pyarrow.parquet as pq

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow import pressure as looking
from sendwave.rules import pressure
from sendwave.rules.columns import CONTACTS, first_reason, func, literal, select
from sendwave.rules.policy import PolicySet
from sendwave.store import files
from sendwave.store.database import Database

THREADS: Final = 2


class Took(NamedTuple):
    """Medians of several runs, in seconds. CPU seconds bear other work on the machine, wall seconds do not."""

    wall: float
    cpu: float


def timed(work: Callable[[], Any], runs: int) -> Took:
    """What a run takes."""
    found = []
    for _ in range(runs):
        start, before = time.perf_counter(), _cpu()
        work()
        found.append((time.perf_counter() - start, _cpu() - before))
    return Took(*(statistics.median(column) for column in zip(*found, strict=True)))


def _cpu() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


def caps_statement(kind: Any) -> Any:
    """(reason, people): every contact asked for every cap and rest, as in a plan."""
    past = pressure.past(kind.type, kind.channel, kind.tiers, kind.caps, now_ts=ground.NOW)
    assert past is not None
    source = CONTACTS.outerjoin(past, past.c.contact == CONTACTS.c.contact)
    told = [one for one in past.c if one.name != "contact"]
    facts = select(CONTACTS.c.contact, literal("hot").label("tier"), *told).select_from(source).subquery("facts")
    asked = select(facts.c.contact, first_reason(pressure.reasons(kind.tiers, kind.caps, ground.NOW)).label("reason"))
    each = asked.select_from(facts).subquery("each")
    return select(each.c.reason, func.count().label("people")).group_by(each.c.reason)


def bare(folder: Path) -> None:
    """Scan the columns caps need and count by contact: no rule, no join."""
    import duckdb

    c = duckdb.connect(config={"threads": 2, "memory_limit": "2GB"})
    sends = f"read_parquet('{folder}/sends/*.parquet')"
    c.execute(f"SELECT contact, count(*), max(sent_ts) FROM {sends} WHERE sent_ts > 0 GROUP BY contact").fetchmany(1)
    c.execute(
        f"SELECT n, count(*) FROM (SELECT contact, count(*) AS n, max(sent_ts) AS last FROM {sends} "
        f"WHERE sent_ts > {ground.NOW} - 2592000 AND type <> '' AND channel <> '' AND excluded_by IS NULL "
        "GROUP BY contact) GROUP BY n"
    ).fetchall()
    c.close()


def usual(folder: Path, contacts: int) -> float:
    """Contacts a second of one correlated count per contact and cap, over an index, on SQLite."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE sends (contact INTEGER, type TEXT, channel TEXT, sent_ts INTEGER)")
    chosen = contacts // 50
    for path in sorted((folder / "sends").glob("*.parquet")):
        rows = pq.read_table(
            path, columns=["contact", "type", "channel", "sent_ts"], filters=[("contact", "<", chosen)]
        )
        db.executemany("INSERT INTO sends VALUES (?, ?, ?, ?)", zip(*rows.to_pydict().values(), strict=True))
    db.execute("CREATE INDEX by_contact ON sends (contact, sent_ts)")
    count = "(SELECT count(*) FROM sends s WHERE s.contact = c.contact AND s.sent_ts > ? AND s.{0} = ?)"
    everything = "(SELECT count(*) FROM sends s WHERE s.contact = c.contact AND s.sent_ts > ?)"
    db.execute("CREATE TABLE contacts AS SELECT DISTINCT contact FROM sends")
    start = time.perf_counter()
    db.execute(
        f"SELECT count(*) FROM contacts c WHERE {count.format('type')} < 3 AND {count.format('channel')} < 1 "
        f"AND {everything} < 12",
        (ground.NOW - 604_800, "newsletter", ground.NOW - 86_400, "email", ground.NOW - 2_592_000),
    ).fetchone()
    return chosen / (time.perf_counter() - start)


def registered(folder: Path) -> Database:
    """A store that lists the made-up files, so that the flow itself can be measured."""
    from datetime import UTC, datetime

    db = Database(f"sqlite:///{folder / 'bench.db'}")
    db.migrate()
    with db.write() as conn:
        if not files.live(conn, ["sends"])["sends"]:
            for name, paths in ground.files(folder).items():
                for path in paths:
                    where, rows = str(path.relative_to(folder)), pq.read_metadata(path).num_rows
                    files.register(conn, dataset=name, path=where, rows=rows, size=1, now=datetime.now(UTC))
    return db


def measured(folder: Path, contacts: int, runs: int, *, with_usual: bool) -> None:
    """Print every figure and its ratio."""
    from datetime import UTC, datetime

    policy: PolicySet = ground.policy()
    kind = policy.types["newsletter"]
    engine = DuckdbEngine(threads=THREADS, memory_limit="2GB", spill=folder / "spill")
    paths = ground.files(folder)

    def caps() -> None:
        with engine.session(paths) as session:
            session.read(caps_statement(kind))

    caps()
    took, floor = timed(caps, runs), timed(lambda: bare(folder), runs)
    sends = sum(pq.read_metadata(path).num_rows for path in paths["sends"])
    rate, free = contacts / took.wall, THREADS * contacts / took.cpu
    beside = f"{took.cpu / floor.cpu:.2f} x bare DuckDB"
    print(f"caps   {took.wall:.2f} s, {took.cpu:.2f} s CPU over {sends:,} sends  ({beside})")
    print(f"       {rate:,.0f} contacts/s now; {free:,.0f} on {THREADS} cores of its own (by CPU)")
    if with_usual:
        other = usual(folder, contacts)
        print(f"usual  {other:,.0f} contacts/s (SQLite, correlated counts): caps are {rate / other:.1f} x as fast")
    planned = timed(lambda: ground.plan(folder), runs)
    db, lake = registered(folder), Lake(folder)
    changed = policy.model_copy(update={"types": {"newsletter": kind.model_copy(update={"caps": kind.caps[:1]})}})
    now = datetime.fromtimestamp(ground.NOW, UTC)
    both = {"today": policy, "changed": changed}
    played = timed(lambda: looking.compare(db, engine, lake, both, now=now), 1)
    plans = played.cpu / planned.cpu
    print(
        f"plan   {planned.cpu:.2f} s CPU;  replay of 90 days, two policies: {played.cpu:.2f} s CPU  ({plans:.1f} plans)"
    )
    db.close()
    engine.close()
    print(f"limits {'kept' if free >= 2_000_000 and plans <= 10 else 'MISSED'} (by CPU)")


def main() -> None:
    """Make the base if the folder is empty, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--no-usual", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "sends").is_dir():
            ground.make(folder, options.contacts)
        measured(folder, options.contacts, options.runs, with_usual=not options.no_usual)


if __name__ == "__main__":
    main()
