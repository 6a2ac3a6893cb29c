"""Evidence that a rate is above, or below, its limit: e-values, valid at every look.

Given the past, a sender exactly on its limit shows on average no more events than the allowance A. The mean over some
k of k^N · exp(-(k-1)·A), N events seen, is then a supermartingale. By Ville's inequality (1939) it reaches x in one
campaign of x at most, however often it is looked at. With k above 1 it speaks against the sender, below 1 for it.

A good beginning must not hide a bad end. The evidence against is therefore an average over planned restarts: the start
of the campaign (a quarter of the weight), that of each wave (half, in equal parts) and three points inside each wave (a
quarter). Each counts only what was sent from there on, and one that is not reached yet counts as 1.

Counts come in arrays whose last axis is the restart point, so that every lane and signal is weighed in one go.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import inf, log1p
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

STAGES: Final = 4
"""Restart points of one wave: its start, and when a quarter, a half and three quarters of it have left."""

TESTED: Final = 20
"""Cells (signal × lane) for which the restart weights pay: measured with so many, each on its limit (research: 0.5 %
false halts at a bar of 200). With more of them the bar rises in proportion."""

UP: Final = np.array((1.25, 1.5, 2.0, 3.0, 5.0, 10.0))
DOWN: Final = np.array((0.25, 0.5, 0.75))
BETS: Final = np.array((0.25, 0.5, 0.75, 0.9))
"""Parts of a capital that `borne_out` bets on every slot of mail being above its allowance."""

MOST: Final = 690.0
"""Logarithm of the largest evidence told: what is more would not fit a number."""

Array = NDArray[np.float64]


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
        since = f"since {stage}/{STAGES} of wave {wave + 1} had left" if stage else f"since wave {wave + 1} began"
        return f"{odds}, {since if self.point else 'from the start'} ({self.events:,} to {self.allowance:,.1f})"


@dataclass(frozen=True, slots=True)
class Balance:
    """The evidence for and against one cell, at its two levels."""

    halt: Against  # above the halt level, were feedback fast
    alarm: Against  # above the halt level, were it as usual; of a wave by its own restarts alone
    hold: Against  # above the hold level, likewise
    below: float  # that the rate is below the hold level, were it slow
    allowed: float  # events of a sender at the hold level, were it slow

    @classmethod
    def of(
        cls, events: Array, exposures: Array, *, hold: float, halt: float, waves: int, start: int | None = None
    ) -> Balance:
        """From events and messages matured (three rows: were feedback fast, usual, slow) per restart point.

        `start` is the first point of the wave it is about; None: it is about the whole campaign.
        """
        fast, usual, slow = exposures
        alone, start = start is not None, start or 0
        alarm = against(events, usual, halt, waves=waves, start=start, alone=alone)
        owed = float(slow.sum())
        return cls(
            halt=against(events, fast, halt, waves=waves, start=start),
            alarm=alarm,
            hold=alarm if hold == halt else against(events, usual, hold, waves=waves, start=start, alone=alone),
            below=below(int(events.sum()), owed, hold),
            allowed=allowance(hold, owed),
        )


def bar(alpha: float, cells: int = 1) -> float:
    """Evidence at which a cell halts, so that a campaign on every limit is halted with a chance of `alpha` at most.

    Twice 1/alpha pays for `TESTED` cells together; more than these raise it in proportion. Infinite for an alpha of 0.
    """
    return inf if alpha <= 0 else 2 / alpha * max(1.0, cells / TESTED)


@lru_cache(maxsize=256)
def weights(waves: int) -> tuple[float, ...]:
    """Weight of each restart point of a campaign of so many waves, `STAGES` a wave; they add up to 1."""
    found = []
    for wave in range(max(waves, 1)):
        found.append(0.5 / max(waves, 1) + (0 if wave else 0.25))
        found += [0.25 / (STAGES - 1) / max(waves, 1)] * (STAGES - 1)
    return tuple(found)


def by_itself(weight: Array) -> Array:
    """Weights of a wave's own points as if there were no others: what makes it wait is no matter of other waves."""
    found: Array = weight / weight.sum(axis=-1, keepdims=True)
    return found


def factor(limit: float) -> float:
    """Events a message shows at the limit, as their chances come over time: -ln(1 - limit); infinite at 1."""
    return inf if limit >= 1 else -log1p(-limit)


def allowance(limit: float, exposure: float) -> float:
    """Events that so many matured messages show at the limit."""
    return inf if limit >= 1 else factor(limit) * exposure


def onward(counts: ArrayLike) -> Array:
    """What was counted from each restart point on, the last axis being the points."""
    told = np.asarray(counts, dtype=np.float64)
    found: Array = told[..., ::-1].cumsum(axis=-1)[..., ::-1]
    return found


def log_mean(events: Array, allowed: Array, ratios: Array) -> Array:
    """Ln of the mean over k of k^N · exp(-(k-1)·A), for each pair."""
    by = ratios.reshape(-1, *(1 for _ in events.shape))  # the ratios first: numpy adds up whole arrays fastest
    powers = np.log(by) * events - (by - 1) * allowed
    top = powers.max(axis=0)
    found: Array = top + np.log(np.exp(powers - top).sum(axis=0) / len(ratios))
    return found


def log_against(seen: Array, owed: Array, limit: ArrayLike, weight: Array) -> Array:
    """Ln of the evidence that a rate is above its limit, per row.

    `seen` and `owed` (matured messages) count from each point on; `limit` is per row, `weight` per point; either may be
    one for all. At a limit of 0 one event is all the evidence there can be; nothing is above 1.
    """
    told = np.broadcast_to(np.asarray(limit, dtype=np.float64), seen.shape[:-1])
    rest = np.log(np.maximum(1 - weight.sum(axis=-1), 1e-300))
    total: Array = np.logaddexp(_log_sum(_terms(seen, owed, told, weight)), rest)
    found: Array = np.where(told >= 1, -MOST, np.minimum(total, MOST))
    return found


def carrying(seen: Array, owed: Array, limit: float, weight: Array) -> int:
    """The restart point that says most of the evidence; of points that count the same mail, the last one."""
    best = int(_terms(seen, owed, np.array(limit), weight).argmax())
    return int(np.flatnonzero((seen == seen[best]) & (owed == owed[best]))[-1])


def _terms(seen: Array, owed: Array, limit: Array, weight: Array) -> Array:
    scale = -np.log1p(-np.clip(limit, 0.0, 1 - 1e-12))
    terms = log_mean(seen, owed * scale[..., None], UP) + np.log(weight)
    if (limit <= 0).any():
        terms = np.where((limit <= 0)[..., None] & (seen > 0), MOST, terms)
    return terms


def against(
    events: ArrayLike, exposures: ArrayLike, limit: float, *, waves: int = 1, start: int = 0, alone: bool = False
) -> Against:
    """Weigh the counts of one cell per restart point, those of `waves` waves. Points before `start` count as 1.

    `exposures` are matured messages. `alone`: of the wave that begins at `start`, as if there were no other.
    """
    seen, owed = onward(events), onward(exposures)
    if limit >= 1 or len(seen) <= start:
        return Against(0.0 if limit >= 1 else 1.0, start, 0, 0.0)
    weight = np.asarray(weights(max(waves, -(-len(seen) // STAGES))))
    weight = (weight / weight[start : start + STAGES].sum() if alone else weight)[start : len(seen)]
    total = log_against(seen[start:], owed[start:], limit, weight)
    point = start + carrying(seen[start:], owed[start:], limit, weight)
    return Against(_value(float(total)), point, int(seen[point]), factor(limit) * float(owed[point]))


def below(events: int, exposure: float, limit: float) -> float:
    """How much likelier the counts are below `limit` than at it; 1/β is reached at the limit with a chance of β."""
    if limit >= 1:
        return _value(MOST)  # nothing is above it
    found = log_mean(np.array([float(events)]), np.array([allowance(limit, exposure)]), DOWN)
    return _value(found[0])


def borne_out(seen: Array, allowed: Array) -> float:
    """How much slot after slot of mail, in order of sending, bears out that a rate is above its limit.

    A capital of 1 is bet on it: a slot with N events and an allowance of A multiplies it by 1 + b · (N/A - 1), the mean
    over `BETS`. Where slots are above the limit as often as the limit says, however much they vary, it reaches x with a
    chance of 1/x (Waudby-Smith and Ramdas 2024): rates that come in bursts cannot fool it, only a rate that lasts can.
    Slots too small to owe one event are taken together.
    """
    if not len(seen) or not (allowed > 0).all():
        return inf if seen.any() else 1.0
    before = np.floor(allowed.cumsum() - allowed + 1e-9)
    group = np.cumsum(np.diff(before, prepend=before[0]) > 0)
    events, owed = np.bincount(group, seen), np.bincount(group, allowed)
    if len(owed) > 1 and owed[-1] < 1:
        events, owed = (np.append(column[:-2], column[-2:].sum()) for column in (events, owed))
    steps = np.log1p(BETS * (events / owed - 1)[:, None])
    return _value(float(np.logaddexp.reduce(steps.sum(axis=0)) - np.log(len(BETS))))


def band(events: Array, exposure: Array, alpha: ArrayLike) -> tuple[Array, Array]:
    """Rates between which the true one stays at every look, but for a chance of `alpha` on either side.

    Those against which the counts are no evidence of 1/alpha: k^N · exp(-(k-1)·rate·exposure), averaged as above. Found
    by bisection on the logarithm of the expected count.
    """
    most = -np.log(np.maximum(np.asarray(alpha, dtype=np.float64), 1e-12))
    seen = np.maximum(events, 0.0)
    low = _crossing(seen, UP, most, np.full_like(seen, -12.0), np.log(np.maximum(seen, 1e-12)))
    top = np.log(seen + 10 * np.sqrt(seen + most) + 10 * most)
    high = _crossing(seen, DOWN, most, top, np.log(np.maximum(seen, 1e-12)))
    per = np.maximum(exposure, 1e-9)
    return np.where(seen > 0, np.minimum(np.exp(low) / per, 1.0), 0.0), np.minimum(np.exp(high) / per, 1.0)


def _crossing(seen: Array, ratios: Array, most: Array, sure: Array, mild: Array) -> Array:
    """Ln of the expected count at which the evidence falls to `most`, between a sure and a mild side."""
    for _ in range(20):
        middle = (sure + mild) / 2
        over = log_mean(seen, np.exp(middle), ratios) >= most
        sure, mild = np.where(over, middle, sure), np.where(over, mild, middle)
    return mild


def _log_sum(terms: Array) -> Array:
    top = terms.max(axis=-1)
    found: Array = top + np.log(np.exp(terms - top[..., None]).sum(axis=-1))
    return found


def _value(logarithm: float) -> float:
    return float(np.exp(min(float(logarithm), MOST)))
