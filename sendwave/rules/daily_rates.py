"""Counts a provider tells per day, not per message (Google Postmaster Tools, Signal Spam), booked to that day's mail.

Gmail reports no complaint per message: its mail leaves both sides of the complaint rate. Once a day is told, that day's
mail and its complaints enter both sides. Where single complaints are told as well, the larger number counts: a daily
count includes them. Everything is booked anew at each look, so a day told twice, late, or corrected counts once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from sendwave.rules.cells import Sheet
from sendwave.rules.signals import SIGNALS, Exposure

_DAY = 24 * 60
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class DayRate:
    """Events per message that a provider tells of one day's mail (UTC)."""

    signal: str
    provider: str
    day: date
    rate: float


def booked(sheet: Sheet, told: Iterable[DayRate], mute: Collection[str]) -> tuple[Sheet, set[str]]:
    """(the sheet with these days' events in it, the lanes of which nothing at all is told).

    Of a lane in `mute` the mail of days that are not told stays out of the complaint rate.
    """
    days = list(told)
    heard = {day.provider for day in days if SIGNALS[day.signal].exposure is Exposure.REPORTED} & {*sheet.lanes}
    if not days:
        return sheet, {*mute}
    tallies = {name: column.copy() for name, column in sheet.tallies.items()}
    untold = np.isin(sheet.lane, [n for n, lane in enumerate(sheet.lanes) if lane in mute and lane in heard])
    for signal, provider, day, rate in _largest(days):
        rows = _rows(sheet, provider, day)
        tally = SIGNALS[signal].tallies[0].value
        column = tallies.setdefault(tally, np.zeros(len(sheet.lane)))
        column[rows] += _spread(sheet.accepted[rows], rate, float(column[rows].sum()))
        if SIGNALS[signal].exposure is Exposure.REPORTED:
            untold[rows] = False
    return replace(sheet, tallies=tallies, untold=untold), {*mute} - heard


def _largest(days: Iterable[DayRate]) -> list[tuple[str, str, date, float]]:
    """Of several sources for one day the one that tells most."""
    found: dict[tuple[str, str, date], float] = {}
    for one in days:
        key = (one.signal, one.provider, one.day)
        found[key] = max(found.get(key, 0.0), one.rate)
    return [(*key, rate) for key, rate in sorted(found.items())]


def _rows(sheet: Sheet, provider: str, day: date) -> NDArray[np.int64]:
    if provider not in sheet.lanes:
        return np.zeros(0, dtype=np.int64)
    here = sheet.lane == sheet.lanes.index(provider)
    found: NDArray[np.int64] = np.flatnonzero(here & (sheet.minute // _DAY == day.toordinal() - _EPOCH))
    return found


def _spread(sent: NDArray[np.float64], rate: float, known: float) -> NDArray[np.float64]:
    """Whole events over the mail of a day, in proportion, beyond those known by message."""
    total = min(round(float(sent.sum()) * min(max(rate, 0.0), 1.0)), round(float(sent.sum())))
    more = max(0.0, total - known)
    if not more or not sent.sum():
        return np.zeros(len(sent))
    ends = np.floor(np.cumsum(sent) / sent.sum() * more + 0.5)
    found: NDArray[np.float64] = np.diff(ends, prepend=0.0)
    return found
