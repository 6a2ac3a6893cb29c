"""Many runs in numbers: how often it halts, with what uncertainty, how much leaves past the limit, how long it is."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sendwave.flow.simulate.playing import Outcome, play
from sendwave.flow.simulate.worlds import World
from sendwave.rules import bounds

WORTH_IT: Final = 20
"""Runs from which further processes are started: each takes a second to begin."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """One policy variant over many runs."""

    world: World
    outcomes: tuple[Outcome, ...]

    def document(self) -> dict[str, Any]:
        """Plain JSON values; keys are stable. Shares have exact 95 % bounds (Clopper and Pearson 1934)."""
        runs, planned = len(self.outcomes), max(self.world.planned, 1)
        ends = Counter(one.end for one in self.outcomes)
        hours = [one.minutes / 60 for one in self.outcomes if one.end == "completed"]
        past = np.array([one.past for one in self.outcomes], dtype=float)
        bad = int(self.world.people[self.world.past_limit].sum())
        return {
            "policy": self.world.name,
            "runs": runs,
            "planned": self.world.planned,
            "people_past_limit": bad,
            "completed": _share(ends["completed"], runs),
            "halted": _share(ends["halted"], runs),
            "waits_for_a_person": _share(ends["inconclusive"], runs),
            "lane_suspended": _share(sum(bool(one.suspended) for one in self.outcomes), runs),
            "reasons": dict(Counter(one.reason for one in self.outcomes if one.reason).most_common()),
            "lanes": dict(Counter(lane for one in self.outcomes for lane in one.suspended).most_common()),
            "sent": _spread([one.sent / planned for one in self.outcomes]),
            "mails_past_limit": _spread(past.tolist()),
            "share_of_bad_mail_sent": float(past.mean()) / bad if bad and runs else None,
            "hours": _spread(hours) if hours else None,
        }


def simulate(worlds: Sequence[World], *, runs: int, seed: int, jobs: int = 1) -> list[Simulated]:
    """Every world through the same seeds, so that variants differ by their rules and not by luck.

    With `jobs` above 1, on so many processes; the answer is the same.
    """
    tasks = [(world, seed * 1_000_003 + turn) for world in worlds for turn in range(runs)]
    if jobs > 1 and len(tasks) >= WORTH_IT:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            outcomes = list(pool.map(_played, tasks, chunksize=max(1, len(tasks) // (8 * jobs))))
    else:
        outcomes = [_played(task) for task in tasks]
    return [Simulated(world, tuple(outcomes[n * runs : (n + 1) * runs])) for n, world in enumerate(worlds)]


def _played(task: tuple[World, int]) -> Outcome:
    return play(task[0], seed=task[1])


def _share(seen: int, runs: int) -> dict[str, float]:
    low, high = bounds.lower(seen, runs, 0.025), bounds.upper(seen, runs, 0.025)
    return {"share": seen / runs if runs else 0.0, "low": low, "high": high}


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, middle, high = np.quantile(np.array(values), [0.1, 0.5, 0.9]).tolist() if len(values) else (0.0, 0.0, 0.0)
    return {"p10": low, "median": middle, "p90": high, "mean": float(np.mean(values)) if len(values) else 0.0}
