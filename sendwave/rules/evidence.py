"""Evidence that a rate is above, or below, its limit: e-values, valid at every look.

Given the past, a sender exactly on its limit shows on average no more events than the allowance A. The mean over some
k of k^N · exp(-(k-1)·A), N events seen, is then a supermartingale. By Ville's inequality (1939) it reaches x in one
campaign of x at most, however often it is looked at. With k above 1 it speaks against the sender, below 1 for it.

A good beginning must not hide a bad end. The evidence against is therefore an average over planned restarts: the start
of the campaign (a quarter of the weight), that of each wave (half, in equal parts) and three points inside each wave (a
quarter). Each counts only what was sent from there on, and one that is not reached yet counts as 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import fsum, inf, log1p
from typing import Final

import numpy as np
from numpy.typing import NDArray

STAGES: Final = 4
"""Restart points of one wave: its start, and when a quarter, a half and three quarters of it have left."""

_UP: Final = np.array((1.25, 1.5, 2.0, 3.0, 5.0, 10.0))
_DOWN: Final = np.array((0.25, 0.5, 0.75))
_MOST: Final = 690.0
"""Logarithm of the largest evidence told: what is more would not fit a number."""


@dataclass(frozen=True, slots=True)
class Against:
    """Evidence that a rate is above its limit, and the restart point that says most of it."""

    value: float
    point: int
    events: int  # seen from that point on
    allowance: float  # and what a sender at the limit would have shown

    def in_words(self, level: str) -> str:
        """The odds, and what they rest on, so that a person can compute them again."""
        odds = f"{min(self.value, 1e9):,.0f} to 1 that the rate is above {level}"
        wave, stage = divmod(self.point, STAGES)
        if not self.point:
            return odds
        since = f"since {stage}/{STAGES} of wave {wave + 1} had left" if stage else f"since wave {wave + 1} began"
        return f"{odds}, {since} ({self.events:,} to {self.allowance:,.1f})"


@dataclass(frozen=True, slots=True)
class Balance:
    """The evidence for and against one cell, at its two levels."""

    halt: Against
    hold: Against
    below: float  # that the rate is below the hold level, should feedback be slow
    slow: float  # messages matured, should feedback be slow
    allowed: float  # events they may show at the hold level

    @classmethod
    def of(
        cls, points: Iterable[tuple[int, int, float, float]], *, hold: float, halt: float, waves: int, own: bool
    ) -> Balance:
        """From (restart point, events, messages matured, the same if feedback is slow).

        With `own` they are of one wave, and only its own restart points count: evidence over several waves stays within
        what one campaign may err.
        """
        told = list(points)
        size = max((point for point, *_ in told), default=0) + 1
        events, exposures = [0] * size, [0.0] * size
        for point, seen, usual, _ in told:
            events[point] += seen
            exposures[point] += usual
        start = min((point for point, *_ in told), default=0) // STAGES * STAGES if own else 0
        planned = max(waves, -(-size // STAGES))
        slow = fsum(late for *_, late in told)
        at_halt = against(events, exposures, halt, waves=planned, start=start)
        return cls(
            halt=at_halt,
            hold=at_halt if hold == halt else against(events, exposures, hold, waves=planned, start=start),
            below=below(sum(events), slow, hold),
            slow=slow,
            allowed=allowance(hold, slow),
        )


@lru_cache(maxsize=256)
def weights(waves: int) -> tuple[float, ...]:
    """Weight of each restart point of a campaign of so many waves, `STAGES` a wave; they add up to 1."""
    found = []
    for wave in range(max(waves, 1)):
        found.append(0.5 / max(waves, 1) + (0 if wave else 0.25))
        found += [0.25 / (STAGES - 1) / max(waves, 1)] * (STAGES - 1)
    return tuple(found)


def allowance(limit: float, exposure: float) -> float:
    """Events that so many matured messages show at the limit: -ln(1 - limit) each, as their chances come over time."""
    return inf if limit >= 1 else -log1p(-limit) * exposure


def against(
    events: Sequence[int], exposures: Sequence[float], limit: float, *, waves: int = 1, start: int = 0
) -> Against:
    """Weigh counts per restart point, those of `waves` waves. Restarts before the point `start` count as 1.

    `exposures` are matured messages. At a limit of 0 one event is all the evidence there can be; nothing is above 1.
    """
    seen = _from_here_on(np.asarray(events, dtype=np.float64))
    owed = _from_here_on(np.asarray(exposures, dtype=np.float64))
    if limit >= 1 or len(seen) <= start:
        return Against(0.0 if limit >= 1 else 1.0, start, 0, 0.0)
    if limit <= 0:
        return Against(float(np.exp(_MOST)) if seen[start] else 1.0, start, int(seen[start]), 0.0)
    allowed = -log1p(-limit) * owed
    weight = np.asarray(weights(waves))[: len(seen)]
    terms = _log_mean(seen[start:], allowed[start:], _UP) + np.log(weight[start:])
    best = start + int(np.argmax(terms))
    best = int(np.flatnonzero((seen == seen[best]) & (owed == owed[best]))[-1])  # the last of those that say the same
    rest = 1 - float(weight[start:].sum())
    total = np.logaddexp(_log_sum(terms), np.log(rest)) if rest > 1e-9 else _log_sum(terms)
    return Against(float(np.exp(min(float(total), _MOST))), best, int(seen[best]), float(allowed[best]))


def below(events: int, exposure: float, limit: float) -> float:
    """How much likelier the counts are below `limit` than at it; 1/β is reached at the limit with a chance of β."""
    if limit >= 1:
        return inf
    found = _log_mean(np.array([float(events)]), np.array([allowance(limit, exposure)]), _DOWN)
    return float(np.exp(min(float(found[0]), _MOST)))


def _from_here_on(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts[::-1].cumsum()[::-1]


def _log_mean(
    events: NDArray[np.float64], allowed: NDArray[np.float64], ratios: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ln of the mean over k of k^N · exp(-(k-1)·A), for each pair."""
    powers = events[:, None] * np.log(ratios) - (ratios - 1) * allowed[:, None]
    top = powers.max(axis=1)
    summed: NDArray[np.float64] = top + np.log(np.exp(powers - top[:, None]).mean(axis=1))
    return summed


def _log_sum(terms: NDArray[np.float64]) -> float:
    top = float(terms.max())
    return top + float(np.log(np.exp(terms - top).sum()))
