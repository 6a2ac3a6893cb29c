"""Whose fault is it: the lanes that explain an alarm over all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from sendwave.rules.evidence import UP, log_mean


def culprits(lanes: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """The lanes that explain an alarm over all of them, the worst first; () when the alarm is everybody's.

    Told are the events of each lane and its allowance, what a sender on the limit would have shown. The worst are left
    out one by one, half of the lanes at most, each above its own allowance, until the rest is within its own.
    """
    names = sorted(lanes)
    seen, allowed = (np.array([lanes[name][column] for name in names], dtype=np.float64) for column in (0, 1))
    order = np.argsort(-log_mean(seen, allowed, UP), kind="stable")
    for count in range(1, len(names) // 2 + 1):
        worst, rest = order[:count], order[count:]
        if seen[worst[-1]] <= allowed[worst[-1]]:
            break
        if seen[rest].sum() <= allowed[rest].sum():
            return tuple(names[index] for index in worst)
    return ()


def share_of(
    shut: Collection[str], plans: Iterable[Mapping[str, int]], lanes: Iterable[str], *, without: Collection[str] = ()
) -> float:
    """Share of the planned mail in these lanes, from the people by lane of each wave; `without` some lanes.

    Where nothing was planned every lane weighs the same.
    """
    weights = dict.fromkeys(lanes, 0)
    for planned in plans:
        for lane, people in planned.items():
            weights[lane] = weights.get(lane, 0) + people
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1)
    told = {lane: people for lane, people in weights.items() if lane not in without}
    return sum(people for lane, people in told.items() if lane in shut) / max(sum(told.values()), 1)
