"""Import a made-up base, as a ratio to DuckDB's bare copy of the same CSV files to Parquet in the same run.

    python benchmarks/intake.py [--contacts 1000000] [--runs 3] [--folder DIR]

Each step runs in a process of its own, so that peak memory is its own too; the import counts everything: addresses
checked, contacts numbered, files registered. Budget: contacts at most 8 x bare, the others 6 x, at most 1.5 GiB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from sendwave.demo import people
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow.intake import import_files
from sendwave.rules.throttle import Lanes, Provider
from sendwave.store.database import Database

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
KINDS = ("contacts", "consents", "suppressions", "scores", "sends")
BUDGETS = {"contacts": 8.0, "consents": 6.0, "scores": 6.0, "sends": 6.0}
MEMORY_GIB = 1.5
LANES = Lanes(
    providers={
        "google": Provider(label="Gmail", domains=("gmail.com",)),
        "orange": Provider(label="Orange", domains=("orange.fr", "wanadoo.fr")),
        "other": Provider(label="Others"),
    }
)


def measured(folder: Path, step: str, kind: str) -> None:
    """One step in this process: seconds of wall and processor, peak memory, rows."""
    source = folder / "data" / f"{kind}.csv"
    if step == "bare":
        connection = duckdb.connect(config={"threads": 2, "memory_limit": "2GB"})
        target = folder / "bare.parquet"
        began = time.monotonic()
        connection.execute(f"COPY (FROM read_csv('{source}')) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
        rows = 0
    else:
        database = Database(f"sqlite:///{folder}/state.db")
        database.migrate()
        engine = DuckdbEngine(threads=2, memory_limit="2GB", spill=folder / "spill")
        began = time.monotonic()
        summary = import_files(
            database, engine, Lake(folder / "lake"), kind, [source], lanes=LANES, now=NOW, by="benchmark"
        )
        rows = summary.landed
        database.close()
    seconds = time.monotonic() - began
    print(json.dumps({"seconds": seconds, "gib": peak_gib(), "rows": rows}))


def peak_gib() -> float:
    """Peak memory of this process; getrusage would count what its parent had when it was started."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


def step(folder: Path, name: str, kind: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--folder", str(folder), "--step", name, "--kind", kind]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def run(folder: Path, contacts: int, runs: int) -> int:
    people.make(folder / "data", contacts=contacts, seed=1, now=NOW)
    results: dict[str, dict[str, list[float]]] = {}
    for _ in range(runs):
        shutil.rmtree(folder / "lake", ignore_errors=True)
        for left in folder.glob("state.db*"):
            left.unlink()
        for kind in KINDS:
            bare, own = step(folder, "bare", kind), step(folder, "import", kind)
            cell = results.setdefault(kind, {"bare": [], "import": [], "gib": [], "rows": []})
            cell["bare"].append(bare["seconds"])
            cell["import"].append(own["seconds"])
            cell["gib"].append(own["gib"])
            cell["rows"].append(own["rows"])
    over = 0
    for kind, cell in results.items():
        bare_s, own_s = statistics.median(cell["bare"]), statistics.median(cell["import"])
        ratio, gib = own_s / bare_s, max(cell["gib"])
        over += ratio > BUDGETS.get(kind, float("inf")) or gib > MEMORY_GIB
        print(f"{kind:13} {cell['rows'][0]:>10,.0f} rows  bare {bare_s:6.2f} s  import {own_s:6.2f} s  "
              f"{ratio:5.1f} x (budget {BUDGETS.get(kind, 0):.0f})  peak {gib:.2f} GiB")  # fmt: skip
    return 1 if over else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--contacts", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", choices=("bare", "import"))
    parser.add_argument("--kind", choices=KINDS)
    given = parser.parse_args()
    if given.step:
        measured(given.folder, given.step, given.kind)
        return 0
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
        return run(given.folder, given.contacts, given.runs)
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), given.contacts, given.runs)


if __name__ == "__main__":
    sys.exit(main())
