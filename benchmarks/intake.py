"""Import a made-up base, as a ratio to DuckDB's bare copy of the same CSV files to Parquet in the same run.

    python benchmarks/intake.py [--contacts 1000000] [--runs 3] [--folder DIR]

Each step runs in a process of its own, so that peak memory is its own too; the import counts everything: addresses
checked, contacts numbered, files registered. Budget in processor time: contacts at most 8 x bare, the others 6 x; at
most 1.5 GiB.
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
        began, began_processor = time.monotonic(), time.process_time()
        connection.execute(f"COPY (FROM read_csv('{source}')) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
        rows = 0
    else:
        database = Database(f"sqlite:///{folder}/state.db")
        database.migrate()
        engine = DuckdbEngine(threads=2, memory_limit="2GB", spill=folder / "spill")
        began, began_processor = time.monotonic(), time.process_time()
        summary = import_files(
            database, engine, Lake(folder / "lake"), kind, [source], lanes=LANES, now=NOW, by="benchmark"
        )
        rows = summary.landed
        database.close()
    seconds, processor = time.monotonic() - began, time.process_time() - began_processor
    print(json.dumps({"seconds": seconds, "processor": processor, "gib": peak_gib(), "rows": rows}))


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
    results: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {kind: [] for kind in KINDS}
    for _ in range(runs):
        shutil.rmtree(folder / "lake", ignore_errors=True)
        for left in folder.glob("state.db*"):
            left.unlink()
        for kind in KINDS:
            results[kind].append((step(folder, "bare", kind), step(folder, "import", kind)))
    over = [kind for kind, steps in results.items() if not told(kind, steps)]
    return 1 if over else 0


def told(kind: str, steps: list[tuple[dict[str, float], dict[str, float]]]) -> bool:
    """Print one line; whether it is within the budget, which counts processor time: others may share the machine."""
    median = {
        name: [statistics.median(pair[side][name] for pair in steps) for side in (0, 1)]
        for name in ("seconds", "processor")
    }
    ratio = median["processor"][1] / median["processor"][0]
    gib = max(own["gib"] for _, own in steps)
    budget = BUDGETS.get(kind)
    bare, own = (
        f"{seconds:5.2f} s, processor {processor:5.2f} s"
        for seconds, processor in zip(median["seconds"], median["processor"], strict=True)
    )
    print(
        f"{kind:13} {steps[0][1]['rows']:>10,.0f} rows  bare {bare}  import {own}  "
        f"{ratio:5.1f} x{f' (budget {budget:.0f})' if budget else ''}  peak {gib:.2f} GiB"
    )
    return (budget is None or ratio <= budget) and gib <= MEMORY_GIB


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
