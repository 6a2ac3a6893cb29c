"""Simulated campaigns, good and bad, judged by `sendwave gates replay` and by eight published rule forms.

    python benchmarks/bench_gates.py [--out FILE] [--rounds 20] [--seed 1] [--only WORD …] [--rules WORD …]
    python benchmarks/bench_gates.py --report FILE [--plot SVG]

A world is a campaign of five waves, most over six mailbox providers, sent in 100 minutes, looked at every two, told in
the words of the line protocol: duplicates and disorder included; sums instead of single events at 30M, and of deferrals
where a world is not about them. Published forms are looked at as often, divide by all that was sent and open a wave an
hour after the one before was sent.

`--out` appends one line per campaign and goes on where it stopped; runs of other rules (their source has changed) are
neither mixed in nor lost. A round has four campaigns of each world on its limits, two of each healthy and one of each
bad one, about 25 s of a core; published forms come every fifth round. Intervals are 95 %, Clopper-Pearson for
shares. Assumed, not measured on a sender: the delay curves, the rates, how they burst.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from gates import plot, report, runs, speed

HOME = Path(__file__).parent.parent


def told(path: Path) -> Iterator[str]:
    """The report on a file of runs: those of the rules that made its last line."""
    rows = runs.read(path)
    if not rows:
        yield f"{path} has no runs yet"
        return
    newest = rows[-1]["state"]
    own = [row for row in rows if row["state"] == newest]
    seeds = ", ".join(str(seed) for seed in Counter(row["seed"] for row in own))
    yield f"{len(own):,} campaigns under the rules of state {newest}, seed {seeds}"
    if len(own) < len(rows):
        yield f"{len(rows) - len(own):,} of other states left out"
    if newest != runs.state():
        yield "the rules have changed since: run again with --out"
    yield from report.table(own)
    quickest, words = speed.speed()
    yield "\nTargets"
    yield from report.targets(own, quickest)
    yield from words


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=HOME / "build" / "bench-gates.jsonl", help="one line per campaign")
    parser.add_argument("--report", type=Path, help="only print what this file says")
    parser.add_argument("--plot", type=Path, help="draw the report as this SVG, and world by world beside it")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="worlds whose name contains one of these")
    parser.add_argument("--rules", nargs="*", help="rules whose name contains one of these")
    asked = parser.parse_args()
    if asked.report is None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        runs.go_on(asked.out, asked.seed, asked.rounds, only=asked.only, forms=asked.rules)
    elif not asked.report.exists():
        parser.error(f"{asked.report} is not there: make it with --out")
    for line in told(asked.report or asked.out):
        print(line)
    if asked.plot is not None:
        rows = runs.read(asked.report or asked.out)
        asked.plot.write_text(plot.draw(rows))
        asked.plot.with_stem(f"{asked.plot.stem}-worlds").write_text(plot.by_world(rows))


if __name__ == "__main__":
    main()
