"""What a gate looks at: mail and what came back of it, as one cell per signal and scope.

The numerator and the denominator of every rate are put together here and nowhere else; `rules/signals.py` says of what.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from sendwave.rules.evidence import STAGES
from sendwave.rules.gates import FEED, Cell, Cohort
from sendwave.rules.maturity import SLOW, Curve
from sendwave.rules.signals import ANSWERS, Exposure, Signal, Tally


@dataclass(frozen=True, slots=True)
class Mail:
    """Messages of one wave and lane that left in the same minute, and the recipients each tally counts."""

    wave: int
    provider: str
    sent_at: datetime
    accepted: int
    refused: int  # at hand-over
    tallies: Mapping[str, int]
    stage: int = 0  # quarters of the wave that had left before, 0 to 3: where the evidence starts afresh

    @property
    def handed_over(self) -> int:
        """All that reached the ESP."""
        return self.accepted + self.refused


@dataclass(frozen=True, slots=True)
class Handed:
    """One batch as the ledger and the tallies know it."""

    wave: int
    provider: str
    handed_at: datetime
    accepted: int
    refused: int
    unknown: int
    tallies: Mapping[str, int]


def gather(batches: Iterable[Handed], now: datetime, planned: Mapping[int, int] | None = None) -> list[Mail]:
    """Batches as mail per wave, lane, quarter of the wave and span of time, in that order.

    A span is a minute for what left in the last hour and a 64th of the age, at most, before that: delay curves are
    linear in the logarithm of the age, and a campaign of days stays a few hundred rows per lane. People of unknown fate
    count as accepted once anything came back of their batch: it did arrive then. `planned` is the people of each wave.
    """
    told = list(batches)
    stages = _stages(told, planned or {})
    accepted: dict[_Key, int] = defaultdict(int)
    refused: dict[_Key, int] = defaultdict(int)
    counts: dict[_Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for batch in told:
        stage = stages.get((batch.wave, _minute(batch.handed_at)), 0)
        key = (batch.wave, batch.provider, stage, _span(batch.handed_at, now))
        accepted[key] += batch.accepted + (batch.unknown if any(batch.tallies.values()) else 0)
        refused[key] += batch.refused
        for tally, n in batch.tallies.items():
            counts[key][tally] += n
    return [
        Mail(wave, provider, _instant(minute), accepted[key], refused[key], counts[key], stage)
        for key in sorted(accepted)
        for wave, provider, stage, minute in [key]
    ]


_Key = tuple[int, str, int, int]


def _stages(batches: Iterable[Handed], planned: Mapping[int, int]) -> dict[tuple[int, int], int]:
    """The quarter of its wave each minute begins in, from what had left before: known in advance, whoever answers."""
    left: dict[tuple[int, int], int] = defaultdict(int)
    for batch in batches:
        left[batch.wave, _minute(batch.handed_at)] += batch.accepted + batch.refused + batch.unknown
    found, before = {}, dict.fromkeys((wave for wave, _ in left), 0)
    for wave, minute in sorted(left):
        people = planned.get(wave, 0)
        found[wave, minute] = min(STAGES - 1, STAGES * before[wave] // people) if people else 0
        before[wave] += left[wave, minute]
    return found


def _minute(instant: datetime) -> int:
    return int(instant.timestamp()) // 60


def _instant(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


def _span(sent_at: datetime, now: datetime) -> int:
    """The first minute (since 1970) of the span an instant falls into."""
    minute = int(sent_at.timestamp()) // 60
    age = int(now.timestamp()) // 60 - minute
    width = 1 << max(age.bit_length() - 6, 0) if age > 0 else 1
    return minute - minute % width


def cell(
    mail: Iterable[Mail], signal: Signal, *, wave: int = 0, provider: str = "", mute: Collection[str] = ()
) -> Cell:
    """The cell of a signal over this mail, which is of that wave and provider already (0, '': of any).

    Lanes in `mute` report no complaints: they leave both sides of a rate over lanes that do.
    """
    reported = signal.exposure is Exposure.REPORTED
    cohorts = [
        Cohort(one.sent_at, _exposed(one, signal), sum(one.tallies.get(tally, 0) for tally in signal.tallies))
        for one in mail
        if not (reported and one.provider in mute)
    ]
    return Cell(signal.name, wave, provider, tuple(cohorts))


class Book:
    """A campaign's mail in columns, so that every scope of it is counted in a few sums."""

    def __init__(self, mail: Sequence[Mail], now: datetime, *, waves: Collection[int], mute: Collection[str]) -> None:
        self._mail = mail
        self._waves = sorted({*waves, *(one.wave for one in mail)})
        self._lanes = sorted({one.provider for one in mail})
        codes = {lane: code for code, lane in enumerate(self._lanes)}
        self._lane = np.array([codes[one.provider] for one in mail], dtype=np.int64)
        self._wave = np.array([one.wave for one in mail], dtype=np.int64)
        self._minutes = np.array([(now - one.sent_at).total_seconds() / 60 for one in mail])
        places = {wave: place * STAGES for place, wave in enumerate(self._waves)}
        self._points = np.array([places[one.wave] + one.stage for one in mail], dtype=np.int64)
        self._told = ~self._of(mute)
        self._now = now
        self._counted: dict[str, NDArray[np.float64]] = {}

    def cell(
        self, signal: Signal, chosen: Collection[str], *, curve: Curve, wave: int = 0, provider: str = "",
        since: Mapping[str, datetime] | None = None,
    ) -> Cell:  # fmt: skip
        """The cell of a signal in the `chosen` lanes, one cohort per restart point, matured by the curve.

        Mail of a lane sent before its instant in `since` does not count.
        """
        picked = self._of(chosen)
        if wave:
            picked &= self._wave == wave
        if signal.exposure is Exposure.REPORTED:
            picked &= self._told
        for lane, instant in (since or {}).items():
            fresh = self._minutes < (self._now - instant).total_seconds() / 60
            picked &= ~self._of((lane,)) | fresh
        rows = np.flatnonzero(picked)
        return Cell(signal.name, wave, provider, self._cohorts(rows, signal, curve), len(self._waves))

    def _of(self, lanes: Collection[str]) -> NDArray[np.bool_]:
        """Which mail is of these lanes."""
        chosen = np.array([lane in lanes for lane in self._lanes], dtype=bool)
        return chosen[self._lane] if len(self._lanes) else np.zeros(0, dtype=bool)

    def _cohorts(self, rows: NDArray[np.int64], signal: Signal, curve: Curve) -> tuple[Cohort, ...]:
        if not len(rows):
            return ()
        columns, points = self._columns(signal, curve)[:, rows], self._points[rows]
        summed = np.array([np.bincount(points, column) for column in columns])
        newest = np.full(summed.shape[1], np.inf)
        np.minimum.at(newest, points, self._minutes[rows])
        return tuple(
            Cohort(self._now - timedelta(minutes=newest[p]), round(n), round(events), int(p), (matured, slow))
            for p in np.unique(points)
            for n, events, matured, slow in [summed[:, p].tolist()]
        )

    def _columns(self, signal: Signal, curve: Curve) -> NDArray[np.float64]:
        """Messages, events, messages matured and matured if feedback is slow, of all mail."""
        if signal.name not in self._counted:
            exposed = np.array([_exposed(one, signal) for one in self._mail], dtype=np.float64)
            told = [[one.tallies.get(tally, 0) for one in self._mail] for tally in signal.tallies]
            events = np.array(told, dtype=np.float64).sum(axis=0)
            usual, late = curve.shares(self._minutes), curve.shares(self._minutes / SLOW)
            self._counted[signal.name] = np.array([exposed, events, exposed * usual, exposed * late])
        return self._counted[signal.name]


def feed(mail: Iterable[Mail], *, wave: int = 0) -> Cell:
    """The cell of the feed itself: accepted messages, and those of them that were answered in any way."""
    return Cell(
        FEED,
        wave,
        "",
        tuple(
            Cohort(one.sent_at, one.accepted, min(one.accepted, sum(one.tallies.get(tally, 0) for tally in ANSWERS)))
            for one in mail
        ),
    )


def _exposed(mail: Mail, signal: Signal) -> int:
    if signal.exposure is Exposure.HANDED_OVER:
        return mail.handed_over
    return mail.tallies.get(Tally.DELIVERED, 0) if signal.exposure is Exposure.DELIVERED else mail.accepted
