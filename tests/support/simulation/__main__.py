"""Live through many seeds: python -m simulation [--seeds 1000] [--from N] [--seed N] [--twice]."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from sendwave import log
from sendwave.store.database import Database
from simulation.ground import Ground
from simulation.history import history, world
from simulation.shrink import shrunk
from simulation.world import lived


def main() -> None:
    """Exit status 1 when a seed failed; its shortest failing history is printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--seed", type=int, help="this one alone, with its story")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure, shrink nothing")
    asked = parser.parse_args()
    log.configure(level="critical")
    seeds = [asked.seed] if asked.seed is not None else range(asked.first, asked.first + asked.seeds)
    shm = Path("/dev/shm")
    began, failed, campaigns = time.perf_counter(), [], 0
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        ground = Ground(Path(folder), _template(Path(folder)))
        for seed in seeds:
            told, steps = world(seed), history(seed)
            campaigns += told.campaigns
            wrong = lived(ground, told, steps)
            if wrong is None:
                continue
            failed.append(seed)
            print(f"seed {seed}: {wrong.splitlines()[0]}", flush=True)
            if not asked.keep_going:
                short = shrunk(ground, told, steps)
                print(lived(ground, told, short))
                print(f"history of {len(short)} steps: {short}\n{told}")
                break
    seconds = time.perf_counter() - began
    rate = 60 * campaigns / seconds
    print(f"{len(seeds)} seeds, {campaigns} campaigns in {seconds:.0f} s: {rate:.0f} a minute; failed: {failed}")
    sys.exit(1 if failed else 0)


def _template(folder: Path) -> Path:
    path = folder / "empty.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path


if __name__ == "__main__":
    main()
