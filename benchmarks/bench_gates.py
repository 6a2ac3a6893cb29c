"""Simulated campaigns, good and bad, judged by `sendwave gates replay` and by eight published rule forms.

    python benchmarks/bench_gates.py [--report FILE] [--keep]
    python benchmarks/bench_gates.py --out FILE [--rounds 20] [--seed 1] [--only WORD …] [--rules WORD …] [--keep]

A world is a campaign of five waves, most over six mailbox providers, sent in 100 minutes, looked at every two, told in
the words of the line protocol: duplicates and disorder included; sums instead of single events at 30M, and of deferrals
where a world is not about them. Published forms are looked at as often, divide by all that was sent and open a wave an
hour after the one before was sent.

Without `--out` it prints the figures of the runs kept in benchmarks/gates/runs.jsonl, and says so where the rules
have changed since. `--out` appends one line per campaign and goes on where it stopped; runs of other rules (whose code
has changed) are neither mixed in nor lost. `--keep` makes them the kept ones, and writes the tables and pictures of
docs/guides/gates.md. A round has four campaigns of each world on its limits, two of each healthy and one of each
bad one, about 25 s of a core; published forms come every fifth round. Intervals are 95 %, Clopper-Pearson for
shares. Assumed, not measured on a sender: the delay curves, the rates, how they burst.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from gates import guide, plot, report, runs, speed

HOME = Path(__file__).parent.parent
KEPT = Path(__file__).parent / "gates" / "runs.jsonl"


def told(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The report on the newest runs of each rule."""
    if not rows:
        yield "there are no runs yet"
        return
    own, newest = runs.newest(rows), rows[-1]["state"]
    ours = [row for row in own if row["rule"] == runs.OURS]
    for words, some in (("under our rules", ours), ("of published forms", [r for r in own if r not in ours])):
        seeds = ", ".join(str(seed) for seed in Counter(row["seed"] for row in some))
        yield f"{len(some):,} campaigns {words}, seeds {seeds}"
    if len(own) < len(rows):
        yield f"{len(rows) - len(own):,} of other states left out"
    newest = ours[-1]["state"] if ours else ""
    changed = newest != runs.state()
    yield f"rules of state {newest}: " + ("they have changed since, run again with --out" if changed else "today's")
    yield from report.table(own)
    quickest, words = speed.speed()
    yield "\nTargets"
    yield from report.targets(own, quickest)
    yield from words


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, help="go on with the runs in this file, one line per campaign")
    parser.add_argument("--report", type=Path, default=KEPT, help="only print what this file says (the kept runs)")
    parser.add_argument("--keep", action="store_true", help="keep the runs, their tables and pictures")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="worlds whose name contains one of these")
    parser.add_argument("--rules", nargs="*", help="rules whose name contains one of these")
    asked = parser.parse_args()
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        runs.go_on(asked.out, asked.seed, asked.rounds, only=asked.only, forms=asked.rules)
    path = asked.out or asked.report
    if not path.exists():
        parser.error(f"{path} is not there: make it with --out")
    rows = runs.read(path)
    for line in told(rows):
        print(line)
    if asked.keep:
        keep(runs.newest(rows))


def keep(rows: list[dict[str, Any]]) -> None:
    """Put these runs, the pictures of them and the tables of the guide where people read them."""
    runs.keep(KEPT, rows)
    pictures, page = HOME / "docs" / "pictures", HOME / "docs" / "guides" / "gates.md"
    (pictures / "gates.svg").write_text(plot.draw(rows))
    (pictures / "gates-worlds.svg").write_text(plot.by_world(rows))
    page.write_text(guide.renewed(page.read_text(), rows))


if __name__ == "__main__":
    main()
