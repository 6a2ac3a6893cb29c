"""Delay curves learnt from past campaigns: how late each signal's events come, by route and mailbox provider.

An event is seen only if it came before we looked: mail that left an hour ago can have shown no event two hours late. Of
right-truncated delays the share reported by bin j is the product over later bins k of 1 - (events in k) / (events up to
k of mail that is at least k old): the reverse hazards of Kalbfleisch and Lawless (1989), which ask for no equal rates
between campaigns. What is later than anybody was watched comes from the shipped curve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log1p
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sendwave.rules.maturity import CURVES, EDGES, Curve, Tempo, bin_of
from sendwave.rules.maturity import learnt as learnt_tempo
from sendwave.rules.signals import SIGNALS

Numbers = NDArray[np.float64]

BINS: Final = len(EDGES) - 1

THIN: Final = 50.0
"""Events at which a learnt curve weighs as much as the one it is shrunk to: that of all lanes, then the shipped one."""

_KNOTS: Final = 4
"""Every fourth border of the bins is a point of a learnt curve: 27 points over four weeks."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Events of one lane of a wave by the bin of their delay, and the bin of the age up to which it was watched."""

    signal: str
    provider: str
    until: int
    delays: Numbers


def reported(told: Iterable[Watched]) -> tuple[Numbers, float, int]:
    """(share reported by the end of each bin, events, last bin anybody was watched to), truncation accounted for."""
    joint = np.zeros((BINS, BINS))  # [watched until][delay]
    for one in told:
        joint[one.until] += np.where(np.arange(BINS) <= one.until, one.delays, 0.0)
    events = float(joint.sum())
    last = int(np.flatnonzero(joint.sum(axis=1))[-1]) if events else 0
    watched = joint[::-1].cumsum(axis=0)[::-1]  # [bin][delay]: of mail watched to that bin or longer
    at, by = watched.diagonal(), watched.cumsum(axis=1).diagonal()
    share = np.ones(BINS)
    for j in range(last, 0, -1):
        share[j - 1] = share[j] * (1 - (at[j] / by[j] if by[j] else 0.0))
    return share, events, last


def learnt(told: Iterable[Watched], parent: Curve) -> Curve:
    """The curve these events tell, shrunk to `parent` by `THIN` events; `parent` itself where there are none."""
    share, events, last = reported(told)
    if not events:
        return parent
    ends = EDGES[1:]
    base = parent.raw(ends)
    seen = np.where(np.arange(BINS) <= last, share * base[last], base)
    mixed = (events * seen + THIN * base) / (events + THIN)
    return _curve(ends, np.maximum.accumulate(np.clip(mixed, 0.0, 1.0)), parent)


def _curve(ends: Numbers, shares: Numbers, parent: Curve) -> Curve:
    """As few points as say it; it ends where its parent does, and nothing is later."""
    end = max(parent.points[-1][0], 1.0)
    picked = [(float(m), float(s)) for m, s in zip(ends[::_KNOTS], shares[::_KNOTS], strict=True) if m < end and s < 1]
    return Curve((*picked, (end, 1.0)))


def curves(told: Iterable[Watched]) -> tuple[dict[str, Curve], dict[tuple[str, str], Curve]]:
    """(by signal, by signal and mailbox provider): a lane's is shrunk to its signal's, that to the shipped one."""
    by_signal: dict[str, list[Watched]] = {}
    for one in told:
        by_signal.setdefault(one.signal, []).append(one)
    found, lanes = {}, {}
    for name, rows in by_signal.items():
        found[name] = learnt(rows, CURVES[SIGNALS[name].curve])
        for provider in {row.provider for row in rows}:
            lanes[name, provider] = learnt((row for row in rows if row.provider == provider), found[name])
    return found, lanes


@dataclass(frozen=True, slots=True)
class Learnt:
    """Curves by signal, and by signal and mailbox provider."""

    curves: Mapping[str, Curve]
    lanes: Mapping[tuple[str, str], Curve]


def learn(told: Iterable[tuple[str, str, int, int, float]]) -> Learnt:
    """What past events teach, from (tally, provider, bin of the delay, events, minutes since their mail left)."""
    grouped: dict[tuple[str, str, int], dict[int, int]] = {}
    for tally, provider, late, n, age in told:
        if tally in _SIGNAL_OF:
            until = int(bin_of(np.array([max(age, 0.0)]))[0])
            counts = grouped.setdefault((_SIGNAL_OF[tally], provider, until), {})
            counts[late] = counts.get(late, 0) + n
    return Learnt(*curves(Watched(*key, by_bin(counts)) for key, counts in sorted(grouped.items())))


def tempos(
    told: Iterable[tuple[int, str, str, int, int]], ages: Mapping[tuple[int, str], Numbers], known: Learnt
) -> dict[str, Tempo]:
    """How fast a campaign's own events come, from (wave, provider, tally, bin of the delay, events).

    `ages` counts the messages of each lane of a wave by the bin of their age. An event's message is one of those, the
    older the likelier to have shown it by now.
    """
    delays: dict[str, Numbers] = {}
    by_age: dict[str, Numbers] = {}
    for wave, provider, tally, late, n in told:
        name = _SIGNAL_OF.get(tally)
        sent = ages.get((wave, provider))
        if name is None or sent is None:
            continue
        curve = known.curves.get(name) or CURVES[SIGNALS[name].curve]
        likely = sent * curve.raw(EDGES[1:]) * (np.arange(BINS) >= late)
        if likely.sum() <= 0:
            continue
        counted = np.zeros(BINS)
        counted[late] = n
        delays[name] = delays.get(name, np.zeros(BINS)) + counted
        by_age[name] = by_age.get(name, np.zeros(BINS)) + n * likely / likely.sum()
    return {
        name: learnt_tempo(known.curves.get(name) or CURVES[SIGNALS[name].curve], delays[name], by_age[name])
        for name in delays
    }


_SIGNAL_OF: Final = {signal.tallies[0].value: name for name, signal in SIGNALS.items() if len(signal.tallies) == 1}
"""The signal a tally is the numerator of."""


def moved(curve: Curve, other: Curve) -> float:
    """How far two curves are apart at most, in shares."""
    return float(np.abs(curve.raw(EDGES[1:]) - other.raw(EDGES[1:])).max())


def middle(curve: Curve) -> float:
    """Minutes after which half of the events are reported."""
    ages = np.array([0.0, *(minutes for minutes, _ in curve.points)])
    shares = np.array([0.0, *(share for _, share in curve.points)])
    return float(np.expm1(np.interp(0.5, shares, [log1p(age) for age in ages])))


def by_bin(counts: Mapping[int, int]) -> Numbers:
    """Events per bin as an array."""
    found = np.zeros(BINS)
    for place, n in counts.items():
        found[min(max(place, 0), BINS - 1)] += n
    return found
