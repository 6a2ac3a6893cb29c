"""How late events come: the share of a message's final events that has normally been reported by an age.

One hour after hand-over only about 18 % of the complaints are in. Dividing by all messages would call a bad wave good;
so a rate is divided by *matured* messages, the sum of messages × share reported by their age.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from math import exp, fsum, log1p
from typing import Final

import numpy as np
from numpy.typing import NDArray

FLOOR: Final = 0.03
"""Least share ever used: nothing is extrapolated beyond thirty times what was seen."""

SLOW: Final = 1.9
"""Feedback may be so many times slower than its curve, or faster: one sender in ten is (log-normal, sd 0.5). What
clears a wave must hold for the slow ones, what halts it for the fast ones."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Cumulative share by age, linear in log(1 + minutes) between its points, from 0 at age 0."""

    points: tuple[tuple[float, float], ...]  # (minutes, share), rising to a share of 1

    def __post_init__(self) -> None:
        ages, shares = zip(*self.points, strict=True)
        rising = all(a < b for a, b in pairwise((0.0, *ages))) and all(a <= b for a, b in pairwise((0.0, *shares)))
        if not rising or shares[-1] != 1:
            raise ValueError("a delay curve rises with age, from 0 to a share of 1")

    def share(self, age: timedelta) -> float:
        """Share reported by that age, at least `FLOOR`. A negative age (a clock set back) counts as 0."""
        minutes = max(age.total_seconds() / 60, 0.0)
        after = bisect_left(self.points, (minutes, 0.0))
        if after == len(self.points):
            return 1.0
        (x0, y0), (x1, y1) = self.points[after - 1] if after else (0.0, 0.0), self.points[after]
        part = (log1p(minutes) - log1p(x0)) / (log1p(x1) - log1p(x0))
        return max(FLOOR, y0 + part * (y1 - y0))

    def shares(self, minutes: NDArray[np.float64]) -> NDArray[np.float64]:
        """`share` of many ages at once, in minutes."""
        floored: NDArray[np.float64] = np.maximum(self.raw(minutes), FLOOR)
        return floored

    def raw(self, minutes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shares of many ages, without the floor."""
        found: NDArray[np.float64] = np.interp(np.log1p(np.maximum(minutes, 0.0)), *_knots(self))
        return found

    def next_step(self, age: timedelta) -> timedelta | None:
        """Time until the next point of the curve: looking sooner hardly tells more. None once all is reported."""
        minutes = max(age.total_seconds() / 60, 0.0)
        later = [x for x, _ in self.points if x > minutes]
        return timedelta(minutes=max(later[0] - minutes, 1.0)) if later else None


@lru_cache(maxsize=256)
def _knots(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln(1 + minutes) and share of a curve's points, from 0 on."""
    ages, shares = np.array([(0.0, 0.0), *curve.points]).T
    return np.log1p(ages), np.ascontiguousarray(shares)


CURVES: Final = {
    "bounce": Curve(((0.5, 0.30), (1, 0.50), (5, 0.80), (30, 0.92), (240, 0.98), (2_880, 1))),
    "deferral": Curve(((0.5, 0.30), (2, 0.70), (15, 0.90), (120, 0.98), (720, 1))),
    "complaint": Curve(
        ((10, 0.04), (60, 0.18), (360, 0.50), (1_440, 0.78), (4_320, 0.92), (10_080, 0.97), (20_160, 1))
    ),
    "unsubscribe": Curve(((10, 0.08), (60, 0.28), (360, 0.58), (1_440, 0.80), (4_320, 0.93), (10_080, 1))),
    "delivered": Curve(((1, 0.60), (5, 0.90), (30, 0.98), (240, 1))),
    "open": Curve(((60, 0.25), (360, 0.55), (1_440, 0.79), (10_080, 0.96), (43_200, 1))),
}
"""Defaults by name (minutes, share). Bounces to deliveries: published retry and report delays, complaints bounded by
opens; opens: 1.4 bn mails of MailerMailer (2012) with the hourly figures of i-Emailer and Inntopia."""


@dataclass(frozen=True, slots=True)
class Tempo:
    """How fast feedback comes, as factors on the ages of its curve: 2 means everything takes twice as long.

    One sender in ten is faster than `fast`, one in ten slower than `slow`, as far as the events tell.
    """

    fast: float = 1 / SLOW
    usual: float = 1.0
    slow: float = SLOW

    def shares(self, curve: Curve, minutes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shares reported by these ages (minutes): three rows, were feedback fast, usual, slow."""
        return np.array([curve.shares(minutes / factor) for factor in (self.fast, self.usual, self.slow)])


USUAL: Final = Tempo()
"""Before anything came back."""


def matured(cohorts: Iterable[tuple[datetime, int]], now: datetime, curve: Curve, tempo: Tempo = USUAL) -> float:
    """Messages that can have shown their event by now, from (sent at, messages), in whatever order and pieces."""
    sent: Counter[datetime] = Counter()
    for sent_at, messages in cohorts:
        sent[sent_at] += messages
    return fsum(messages * curve.share((now - sent_at) / tempo.usual) for sent_at, messages in sent.items())


EDGES: Final = np.concatenate([[0.0], np.geomspace(0.25, 40_320.0, 105)])
"""Borders (minutes) of the bins in which delays and ages are counted: each 12 % longer than the one before."""

ENOUGH: Final = 200.0
"""More events teach no more than so many: curves differ from the shipped ones in more than their speed."""

_SCALES: Final = np.exp(np.linspace(-1.8, 1.8, 37))
_PRIOR: Final = -0.5 * (np.log(_SCALES) / 0.5) ** 2
_LEAST: Final = 1e-6


def bin_of(minutes: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each delay or age, as `learnt` counts them."""
    found: NDArray[np.int64] = np.clip(np.searchsorted(EDGES, minutes, side="right") - 1, 0, len(EDGES) - 2)
    return found


_INNER: Final = tuple(EDGES[1:-1].tolist())


def bin_at(minutes: float) -> int:
    """The bin of one delay or age, without the cost of an array."""
    return bisect_right(_INNER, minutes)


@lru_cache(maxsize=64)
def _tables(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per scale and bin: ln of the share reported inside the bin, and of that reported by its end."""
    shares = np.array([curve.raw(EDGES / scale) for scale in _SCALES])
    return np.log(np.maximum(np.diff(shares, axis=1), _LEAST)), np.log(np.maximum(shares[:, 1:], _LEAST))


def learnt(curve: Curve, delays: NDArray[np.float64], ages: NDArray[np.float64]) -> Tempo:
    """The tempo that a campaign's own events tell.

    `delays` counts events by how late they came, `ages` the same events by how old their message is now: later ones
    cannot have been seen yet. Each by bin (`bin_of`). The factor is log-normal beforehand (mean 1, sd 0.5 of its
    logarithm); likelihood of an event: the share inside its delay's bin over the share reported by its message's age.
    """
    total = float(delays.sum())
    if total <= 0:
        return USUAL
    inside, by_then = _tables(curve)
    told = _PRIOR + (inside @ delays - by_then @ ages) * min(1.0, ENOUGH / total)
    chances = np.exp(told - told.max())
    chances /= chances.sum()
    logs, rising = np.log(_SCALES), chances.cumsum() - chances / 2
    fast, slow = np.interp([0.1, 0.9], rising, logs)
    return Tempo(exp(float(fast)), exp(float(chances @ logs)), exp(float(slow)))
