"""Where to cut the score into tiers: by wanted shares of the base, or where the scores part by themselves.

Both work on a histogram: distinct scores with how many contacts have each. People of equal score are never parted, so
shares are met as nearly as the scores allow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sendwave.errors import BadInput
from sendwave.rules.tiers import Tier, Tiers

TOO_BIG: Final = 0.5
"""Share of the base above which a tier says little about the people in it."""
TOO_SMALL: Final = 0.01
"""Share below which a tier is hardly worth rules of its own."""
TOO_FEW: Final = 1_000
"""Contacts below which the rates of a tier are mostly chance: 3 complaints more or less are 0.3 %.

Said only of bases that have so many for every tier: with fewer, no other cut would help.
"""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Distinct scores, the highest first, and the contacts that have each (1 or more)."""

    scores: tuple[float, ...]
    contacts: tuple[int, ...]

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, int]]) -> Histogram:
        """From (score, contacts) in any order; equal scores are added up. Scores are finite."""
        counted: dict[float, int] = {}
        for score, contacts in pairs:
            counted[score + 0.0] = counted.get(score + 0.0, 0) + contacts  # -0.0 is 0.0
        ordered = sorted(((s, n) for s, n in counted.items() if n > 0), reverse=True)
        return cls(tuple(s for s, _ in ordered), tuple(n for _, n in ordered))

    @property
    def total(self) -> int:
        """Contacts with a score."""
        return sum(self.contacts)

    def above(self, floor: float | None) -> Histogram:
        """Without the scores below `floor`."""
        kept = [(s, n) for s, n in zip(self.scores, self.contacts, strict=True) if floor is None or s >= floor]
        return Histogram.of(kept)

    def volumes(self, cuts: Sequence[float]) -> list[int]:
        """Contacts per tier for falling cut-offs; the last tier takes all below the last of them."""
        volumes, tier = [0] * (len(cuts) + 1), 0
        for score, contacts in zip(self.scores, self.contacts, strict=True):
            while tier < len(cuts) and score < cuts[tier]:
                tier += 1
            volumes[tier] += contacts
        return volumes


def by_shares(histogram: Histogram, shares: Sequence[Decimal]) -> list[float]:
    """The cut-offs, one fewer than tiers, whose shares come nearest to those wanted (least squares of the cumulated).

    `shares` are those of the tiers, the most engaged first; the last may be left out, else they add up to 1.

    Raises:
        BadInput: shares that do not fit together, or fewer distinct scores than tiers.

    """
    total = sum(shares, Decimal())
    if not shares or min(shares) <= 0 or total > 1:
        raise BadInput(f"the shares add up to {total * 100:f} %: positive ones, 100 % in all, are needed")
    wanted = shares if total < 1 else shares[:-1]
    _enough(histogram, len(wanted) + 1)
    targets = np.cumsum([float(share) for share in wanted])
    reached = np.cumsum(histogram.contacts) / histogram.total
    cost = (reached[None, :-1] - targets[:, None]) ** 2  # [boundary, scores above it - 1]
    return [_between(histogram, place) for place in _rising(cost)]


def natural(histogram: Histogram, tiers: int) -> list[float]:
    """The cut-offs, one fewer than tiers, that leave the least variance inside tiers: Fisher's optimal partition.

    Exact, by dynamic programming over the histogram (W. D. Fisher, On grouping for maximum homogeneity, JASA 1958;
    Jenks' natural breaks are the same thing).

    Raises:
        BadInput: fewer distinct scores than tiers, or fewer than two tiers.

    """
    if tiers < 2:
        raise BadInput("natural breaks part a base in 2 tiers or more")
    _enough(histogram, tiers)
    weights = np.asarray(histogram.contacts, dtype=float)
    values = np.asarray(histogram.scores, dtype=float)
    values -= np.average(values, weights=weights)  # keeps the differences of squares below exact
    return [_between(histogram, place) for place in _parted(values, weights, tiers)]


def resolved(tiers: Tiers, histogram: Histogram) -> Tiers:
    """Tiers by share as the same tiers by score, for the scores of one day; other tiers as they are.

    Each boundary is the nearest to its share that the scores allow. Where many people share one score a tier may stay
    empty; without any score all of them are.
    """
    if not tiers.by_share:
        return tiers
    shares = [float(tier.share or 0) for tier in tiers.tiers[:-1]]
    cuts = _nearest(histogram, list(np.cumsum(shares)))
    falling = list(cuts[:1])
    for cut in cuts[1:]:
        falling.append(min(cut, math.nextafter(falling[-1], -math.inf)))
    cut_tiers = [
        Tier(key=tier.key, label=tier.label, emoji=tier.emoji, min_score=cut)
        for tier, cut in zip(tiers.tiers, [*falling, None], strict=True)
    ]
    return Tiers(tiers=tuple(cut_tiers))


def remarks(names: Sequence[str], volumes: Sequence[int]) -> Iterator[str]:
    """What is wrong with the sizes of tiers, one sentence each; `names` and `volumes` (contacts) go together."""
    total = sum(volumes)
    for name, contacts in zip(names, volumes, strict=True):
        share = contacts / total if total else 0.0
        if share > TOO_BIG:
            yield f"{name} holds {share:.0%} of the scored base: too big to say much, part it"
        elif total and not contacts:
            yield f"{name} is empty"
        elif total and share < TOO_SMALL:
            yield f"{name} holds {share:.1%} of the scored base: too small to be worth rules of its own"
        elif contacts < TOO_FEW and total >= TOO_FEW * len(volumes):
            yield f"{name} holds {contacts:,} contacts: its rates will be mostly chance"


def _enough(histogram: Histogram, tiers: int) -> None:
    found = len(histogram.scores)
    if found < tiers:
        raise BadInput(f"{found} distinct scores cannot make {tiers} tiers: ask for fewer, or refine the grid")


def _rising(cost: NDArray[np.float64]) -> list[int]:
    """One column per row, strictly rising, of the least total cost."""
    rows, columns = cost.shape
    best, back = cost[0].copy(), np.zeros((rows, columns), dtype=np.int64)
    best[columns - rows + 1 :] = np.inf  # later boundaries need room
    for row in range(1, rows):
        lowest = np.minimum.accumulate(best)
        first = np.where(best == lowest, np.arange(columns), 0)
        back[row, 1:] = np.maximum.accumulate(first)[:-1]
        best = np.concatenate(([np.inf], lowest[:-1])) + cost[row]
        best[columns - rows + 1 + row :] = np.inf
    place = int(np.argmin(best))
    places = [place]
    for row in range(rows - 1, 0, -1):
        place = int(back[row, place])
        places.append(place)
    return places[::-1]


def _parted(values: NDArray[np.float64], weights: NDArray[np.float64], parts: int) -> list[int]:
    """The last index of every part but the last, of the partition with the least weighted variance inside."""
    size = len(values)
    w, s, q = (np.concatenate(([0.0], np.cumsum(x))) for x in (weights, weights * values, weights * values**2))
    best = np.full(size + 1, np.inf)
    best[0] = 0.0
    back = np.zeros((parts, size + 1), dtype=np.int64)
    for part in range(parts):
        following = np.full(size + 1, np.inf)
        for end in range(part + 1, size - (parts - part - 1) + 1):
            begin = slice(part, end)
            within = q[end] - q[begin] - (s[end] - s[begin]) ** 2 / (w[end] - w[begin])
            costs = best[begin] + np.maximum(within, 0.0)
            chosen = int(np.argmin(costs))
            following[end], back[part, end] = costs[chosen], part + chosen
        best = following
    ends, end = [], size
    for part in range(parts - 1, 0, -1):
        end = int(back[part, end])
        ends.append(end - 1)
    return ends[::-1]


def _nearest(histogram: Histogram, targets: Sequence[float]) -> list[float]:
    """Per cumulated share the lowest score above the nearest boundary there is, the ends of the base included."""
    if not histogram.scores:
        return [0.0] * len(targets)
    reached = np.concatenate(([0.0], np.cumsum(histogram.contacts) / histogram.total))
    places = [int(np.argmin(np.abs(reached - target))) for target in targets]
    none = [math.nextafter(histogram.scores[0], math.inf)]
    for _ in targets[1:]:
        none.insert(0, math.nextafter(none[0], math.inf))  # empty tiers above everybody, themselves falling
    return [histogram.scores[place - 1] if place else none[row] for row, place in enumerate(places)]


def _between(histogram: Histogram, place: int) -> float:
    """The roundest cut-off that parts the score at `place` from the next lower one."""
    return roundest(histogram.scores[place + 1], histogram.scores[place])


def roundest(low: float, high: float) -> float:
    """The number with the fewest digits above `low` and up to `high`; of several the nearest to the middle.

    10 and 5 before 2 and 1: a cut-off is read by people.
    """
    if not low < high:
        raise ValueError("an interval needs room")
    below, above = Fraction(low), Fraction(high)
    width = above - below
    exponent = math.floor(math.log10(float(min(width, Fraction(10) ** 300)))) + 1
    for power in range(exponent, exponent - 4, -1):
        for step in (Fraction(10) ** power, Fraction(10) ** power / 2):
            first, last = below // step + 1, above // step
            if first <= last:
                middle = min(max(round((below + above) / 2 / step), first), last)
                found = float(middle * step)
                if low < found <= high:
                    return found
    return high
