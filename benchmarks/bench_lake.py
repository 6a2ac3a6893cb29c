"""A lake in a bucket beside one in a folder, in the same run: import, plan and release, and what a file costs.

    .venv/bin/python benchmarks/bench_lake.py --contacts 200000 --runs 3

The storage is moto's server in this process: its processor seconds are in the bucket's figures, an upper bound.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import sendable
from bucket_storage import Storage, lake_in, storage

from sendwave.engine.base import Written
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow.release import release
from sendwave.store.database import Database

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
FILES = 50


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """(wall seconds, processor seconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def campaign(folder: Path, lake: Lake, contacts: int) -> dict[str, tuple[float, float]]:
    """What a campaign costs that is planned and released by a node which wrote the base itself."""
    db, engine = Database(f"sqlite:///{folder}/{lake.root.name}.db"), DuckdbEngine(threads=2, hold=lake.hold)
    db.migrate()
    sendable.write_base(db, lake, contacts, NOW)
    policy = sendable.policy_set(ramp=["100%"])
    found = {
        "plan": timed(lambda: sendable.approved(db, engine, lake, policy, NOW)),
        "release": timed(lambda: release(db, engine, lake, now=NOW)),
    }
    db.close()
    return found


def files(lake: Lake, other: Lake, size: int) -> dict[str, tuple[float, float]]:
    """What sharing a file costs, and reading one of another node."""
    made = []
    for _ in range(FILES):
        path = lake.new("events", "some")
        path.write_bytes(os.urandom(size))
        made.append(Written(path, 1, size))
    told = f"{size >> 10} KiB"

    def fetch() -> None:
        for one in made:
            with other.hold([other.root / lake.relative(one.path)]):
                pass

    steps = {"share": lambda: [lake.share(one) for one in made], "fetch": fetch, "hold a copy": fetch}
    return {f"{name}, {told}": tuple(t / FILES for t in timed(work)) for name, work in steps.items()}  # type: ignore[misc]


def run(running: Storage, folder: Path, contacts: int) -> dict[str, tuple[float, float]]:
    here, there = lake_in(running, folder / "here"), lake_in(running, folder / "there")
    found = {f"{name}, folder": cost for name, cost in campaign(folder, Lake(folder / "lake"), contacts).items()}
    found |= {f"{name}, bucket": cost for name, cost in campaign(folder, here, contacts).items()}
    for size in (10 << 10, 10 << 20):
        found |= files(here, there, size)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    runs = []
    with storage() as running:
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory() as folder:
                runs.append(run(running, Path(folder), options.contacts))
            running.empty()
    for name in runs[0]:
        wall, cpu = (statistics.median(one[name][i] for one in runs) for i in (0, 1))
        print(f"{name:24} {wall * 1000:10,.1f} ms wall {cpu * 1000:10,.1f} ms processor")


if __name__ == "__main__":
    main()
