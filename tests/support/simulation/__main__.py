"""Live through many seeds: python -m simulation [--seeds 1000] [--from N] [--minutes M] [--seed N] [--twice]."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sendwave import log
from simulation.ground import Ground, template
from simulation.history import history, world
from simulation.shrink import shrunk
from simulation.teeth import BROKEN, caught
from simulation.trouble import Killed
from simulation.world import Life, lived


def main() -> None:
    """Exit status 1 when a seed failed; its shortest failing history is printed."""
    asked = _asked()
    log.configure(level="critical")
    gc.set_threshold(50_000, 20, 50)  # a history leaves little behind that counting references does not free
    seeds = [asked.seed] if asked.seed is not None else range(asked.first, asked.first + asked.seeds)
    shm = Path("/dev/shm")
    began, spent = time.perf_counter(), time.process_time()
    failed: list[int] = []
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: ended.append(number))  # the figures so far are told
    lives, campaigns, struck, reasons = 0, 0, Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        ground = Ground(Path(folder), template(Path(folder)))
        if asked.teeth:
            sys.exit(_bites(ground, [name for name in BROKEN if asked.guard in name], seeds))
        for seed in seeds:
            if ended or (asked.minutes and time.perf_counter() - began > 60 * asked.minutes):
                break
            life = Life(ground, world(seed))
            lives, campaigns = lives + 1, campaigns + life.world.campaigns
            try:
                mark = life.live(history(seed))
                if asked.twice:
                    again = Life(ground, world(seed)).live(history(seed))
                    assert again == mark, "the same seed, another history"
            except (Exception, Killed) as wrong:  # noqa: BLE001  # whatever it is, it is a finding
                failed.append(seed)
                print(f"seed {seed}: {type(wrong).__name__}: {str(wrong)[:300]}", flush=True)
                if asked.failures:
                    with asked.failures.open("a") as file:
                        file.write(f"{seed} {type(wrong).__name__}: {str(wrong).splitlines()[0][:200]}\n")
                if asked.seed is not None:
                    print("\n".join(life.trail))
                elif not asked.keep_going:
                    _explain(ground, seed)
                    break
            struck.update(life.truth.struck)
            reasons += life.truth.reasons
    spent = time.process_time() - spent
    print(
        f"{lives} seeds, {campaigns} campaigns in {time.perf_counter() - began:.0f} s, {spent:.0f} s of a core: "
        f"{60 * campaigns / spent:.0f} campaigns a minute; failed: {failed}"
    )
    print("struck:", dict(struck.most_common()))
    print("fates:", dict(reasons.most_common()))
    sys.exit(1 if failed else 0)


def _first(text: str) -> int:
    """The first seed asked for; a million for each day, so that every night has seeds of its own."""
    return int(time.time() // 86_400) * 1_000_000 if text == "night" else int(text)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--from", dest="first", type=_first, default=1, help="first seed; `night`: new each day")
    parser.add_argument("--minutes", type=float, help="stop after so long")
    parser.add_argument("--seed", type=int, help="this one alone, with its story")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure, shrink nothing")
    parser.add_argument("--twice", action="store_true", help="live each twice and compare what was written down")
    parser.add_argument("--teeth", action="store_true", help="take one guard away at a time: do the seeds notice?")
    parser.add_argument("--guard", default="", help="only guards whose name has this")
    parser.add_argument("--failures", type=Path, help="a file to which the seeds that fail are added")
    return parser.parse_args()


def _bites(ground: Ground, names: Iterable[str], seeds: Iterable[int]) -> int:
    """One line a guard; 1 when one of them can be taken away unnoticed."""
    unnoticed = 0
    for name in names:
        found = caught(ground, name, seeds)
        unnoticed += found is None
        print(f"{name}: {'unnoticed' if found is None else f'noticed by seed {found[0]}: {found[2]}'}", flush=True)
    return min(unnoticed, 1)


def _explain(ground: Ground, seed: int) -> None:
    short = shrunk(ground, world(seed), history(seed))
    print(lived(ground, world(seed), short))
    print(f"history of {len(short)} steps: {short}\n{world(seed)}")


if __name__ == "__main__":
    main()
