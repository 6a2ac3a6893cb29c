"""Simulated campaigns, good and bad, judged by `sendwave gates replay` and by eight published rule forms.

    python benchmarks/bench_gates.py [--runs 10] [--others 3] [--seed 1] [--only WORD …] [--rules WORD …] [--json FILE]

Every world is a campaign of five waves over six mailbox providers, sent in 100 minutes and looked at every two, told in
the words of the line protocol: duplicates and disorder included, sums instead of single events at 30M. Published forms
are looked at as often, divide by all that was sent and open a wave an hour after the one before was sent. The
defaults take about twenty minutes of one idle core; intervals (95 %, Clopper-Pearson) shrink with --runs.
Assumed, not measured on a sender: the delay curves, the rates, how they burst.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from gates.campaign import Campaign, Outcome
from gates.rules import OURS, RULES
from gates.speed import speed
from gates.worlds import LANES, World, worlds

from sendwave.rules import bounds

SENDING = 100.0
"""Minutes it takes to send a campaign that nothing delays."""


def interval(hits: int, runs: int) -> str:
    """A share with its 95 % interval."""
    low, high = bounds.lower(hits, runs, 0.025), bounds.upper(hits, runs, 0.025)
    return f"{hits}/{runs} [{low:.0%}-{high:.0%}]"


def summary(world: World, rule: str, found: list[Outcome]) -> dict[str, Any]:
    """What the table says of one rule in one world."""
    bad = {lane for lane in LANES if any(world.bad(wave, lane, 1.0) for wave in range(1, 6))}
    leaks = [o.bad_sent / o.bad_planned for o in found if o.bad_planned]
    return {
        "world": world.name, "kind": world.kind, "rule": rule, "runs": len(found),
        "stopped": sum(o.stopped for o in found), "halted": sum(o.halted for o in found),
        "caught": sum(o.caught(bad, world.kind) for o in found) if bad else None,
        "alone": sum(o.suspended == bad and not o.halted for o in found) if world.kind == "lane" else None,
        "wrong": sum(bool(o.suspended - bad) for o in found),
        "leak": float(np.mean(leaks)) if leaks else None,
        "leaked": float(np.mean([o.bad_sent for o in found])) if leaks else None,
        "through": sum(o.through for o in found),
        "added": float(np.median([o.minutes for o in found])) - SENDING,
        "illegal": sum(o.illegal for o in found),
    }  # fmt: skip


def line(told: dict[str, Any]) -> str:
    """One row of the table."""
    runs = told["runs"]
    caught = "-" if told["caught"] is None else interval(told["caught"], runs)
    alone = "-" if told["alone"] is None else interval(told["alone"], runs)
    leak = "-" if told["leak"] is None else f"{told['leak']:.1%}"
    added = f"{told['added']:.0f}" if told["through"] * 2 > runs else "held"
    return (
        f"  {told['rule']:29} {interval(told['stopped'], runs):20} {interval(told['halted'], runs):20} {caught:20} "
        f"{alone:20} {leak:>7} {added:>7}"
    )


def measured(told: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for number, world in enumerate(worlds()):
        if told.only and not any(word in world.name for word in told.only):
            continue
        print(f"\n{world.name} ({world.kind})")
        print(
            f"  {'rule':29} {'stopped':20} {'halted':20} {'caught':20} {'its lane alone':20} {'leak':>7} {'min +':>7}"
        )
        for name, rule in RULES.items():
            if told.rules and not any(word in name for word in told.rules):
                continue
            runs = told.runs if name == OURS else told.others
            seeds = ([told.seed, number, run] for run in range(runs))
            row = summary(world, name, [Campaign(world, rule, np.random.default_rng(s)).play() for s in seeds])
            print(line(row), flush=True)
            yield row


def totals(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The figures over all worlds, rule by rule."""
    for rule in dict.fromkeys(row["rule"] for row in rows):
        own = [row for row in rows if row["rule"] == rule]
        good = [row for row in own if row["kind"] == "healthy"]
        bad = [row for row in own if row["kind"] in {"bad", "lane"} and row["world"] != UNPILOTED]
        past = sum(row["leaked"] for row in bad if "30M" not in row["world"])
        caught = sum(r["caught"] for r in bad), sum(r["runs"] for r in bad)
        stops = sum(r["stopped"] for r in good), sum(r["runs"] for r in good)
        if good and bad:
            yield (
                f"  {rule:29} healthy stopped {interval(*stops)}, bad caught {interval(*caught)}, "
                f"bad mail sent {np.mean([r['leak'] for r in bad]):.1%}, mails past the limit {past:,.0f}"
            )


UNPILOTED = "complaints 3 x in the last wave"
"""Left out of the totals: it is there to show what a pilot is worth."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10, help="campaigns per world under our rule")
    parser.add_argument("--others", type=int, default=3, help="campaigns per world and published rule")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="worlds whose name contains one of these")
    parser.add_argument("--rules", nargs="*", help="rules whose name contains one of these")
    parser.add_argument("--json", type=Path, help="keep the rows here")
    told = parser.parse_args()
    began = time.perf_counter()
    for words in speed():
        print(words)
    rows = list(measured(told))
    print("\nOver all worlds")
    for words in totals(rows):
        print(words)
    print(f"\n{time.perf_counter() - began:,.0f} s")
    if told.json:
        told.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
