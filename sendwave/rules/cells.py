"""What a gate looks at: mail and what came back of it, as one cell per signal and scope.

The numerator and the denominator of every rate are put together here and nowhere else; `rules/signals.py` says of what.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sendwave.rules.evidence import STAGES
from sendwave.rules.gates import FEED, Cell, Cohort
from sendwave.rules.maturity import FLOOR, USUAL, Curve, Tempo
from sendwave.rules.signals import ANSWERS, Exposure, Signal, Tally

Numbers = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

SENT, EVENTS, FAST, MIDDLE, SLOWLY = range(5)
"""Columns of `Book.counts`: messages, events, and messages matured were feedback fast, as usual, slow."""

SLOT: Final = 2
"""Minutes of sending that are taken as one burst of mail."""


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


def _instant(minute: float) -> datetime:
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


@dataclass(frozen=True)
class Sheet:
    """A campaign's mail in columns. `lane` and `place` are indexes into `lanes` and `waves` (wave numbers)."""

    lanes: tuple[str, ...]
    waves: tuple[int, ...]
    lane: Codes
    place: Codes
    stage: Codes
    slot: Codes  # mail of one slot left together: a burst hits all of it
    minute: Numbers  # of the hand-over, since 1970
    accepted: Numbers
    refused: Numbers
    tallies: Mapping[str, Numbers]
    untold: Mask | None = None  # mail of which nobody will tell complaints, beside that of mute lanes

    @classmethod
    def of(cls, mail: Sequence[Mail]) -> Sheet:
        """The same mail in columns."""
        lanes, waves = sorted({one.provider for one in mail}), sorted({one.wave for one in mail})
        codes = {lane: code for code, lane in enumerate(lanes)}
        places = {wave: place for place, wave in enumerate(waves)}
        minute = np.array([one.sent_at.timestamp() / 60 for one in mail])
        names = {name for one in mail for name in one.tallies}
        return cls(
            lanes=tuple(lanes),
            waves=tuple(waves),
            lane=np.array([codes[one.provider] for one in mail], dtype=np.int64),
            place=np.array([places[one.wave] for one in mail], dtype=np.int64),
            stage=np.array([one.stage for one in mail], dtype=np.int64),
            slot=np.floor(minute / SLOT).astype(np.int64),
            minute=minute,
            accepted=np.array([one.accepted for one in mail], dtype=np.float64),
            refused=np.array([one.refused for one in mail], dtype=np.float64),
            tallies={name: np.array([one.tallies.get(name, 0) for one in mail], dtype=np.float64) for name in names},
        )

    def tally(self, *names: str) -> Numbers:
        """The recipients these tallies count, per row."""
        found = np.zeros(len(self.lane))
        for name in names:
            if name in self.tallies:
                found = found + self.tallies[name]
        return found

    def exposed(self, signal: Signal) -> Numbers:
        """The messages a rate is divided by, per row."""
        if signal.exposure is Exposure.HANDED_OVER:
            return self.accepted + self.refused
        return self.tally(Tally.DELIVERED) if signal.exposure is Exposure.DELIVERED else self.accepted


class Book:
    """A campaign's mail at one moment: what every signal shows, by lane and restart point."""

    def __init__(
        self, mail: Sequence[Mail] | Sheet, now: datetime, *, waves: Collection[int], mute: Collection[str],
        own: Mapping[tuple[str, str], Curve] | None = None,
    ) -> None:  # fmt: skip
        self.sheet = mail if isinstance(mail, Sheet) else Sheet.of(mail)
        self.waves = sorted({*waves, *self.sheet.waves})
        self.lanes, self.mute = self.sheet.lanes, {*mute}
        self._now = now
        places = np.array([self.waves.index(wave) for wave in self.sheet.waves], dtype=np.int64)
        self._wave = places[self.sheet.place] if len(places) else self.sheet.place
        self._points = self._wave * STAGES + self.sheet.stage
        self._minutes = now.timestamp() / 60 - self.sheet.minute
        self._told = ~self._of(mute) if self.sheet.untold is None else ~self._of(mute) & ~self.sheet.untold
        self._own = own or {}  # curves of single lanes, by signal and lane
        self._columns: dict[str, Rows] = {}

    def counts(
        self, signal: Signal, curve: Curve, tempo: Tempo = USUAL, since: Mapping[str, datetime] | None = None
    ) -> Numbers:
        """[message, event, matured fast, usual, slow][lane][restart point]; mail of a lane before `since` left out."""
        rows = self._rows(signal, curve, tempo)
        lanes, points = len(self.lanes), len(self.waves) * STAGES
        cell = self.sheet.lane * points + self._points
        kept = rows.counted & self._fresh(since or {})
        return np.array(
            [
                np.bincount(cell, np.where(kept, column, 0), lanes * points).reshape(lanes, points)
                for column in rows.columns
            ]
        )

    def slots(
        self, signal: Signal, curve: Curve, lanes: Collection[str], *, wave: int = 0, tempo: Tempo = USUAL,
        since: Mapping[str, datetime] | None = None,
    ) -> Numbers:  # fmt: skip
        """[event, matured fast][slot][restart point] of the mail of these lanes."""
        rows = self._rows(signal, curve, tempo)
        picked = self._of(lanes) & rows.counted & self._fresh(since or {})
        if wave:
            picked &= self._wave == self.waves.index(wave)
        chosen = np.flatnonzero(picked)
        names, slot = np.unique(self.sheet.slot[chosen], return_inverse=True)
        points = len(self.waves) * STAGES
        cell = slot * points + self._points[chosen]
        return np.array(
            [
                np.bincount(cell, rows.columns[column][chosen], len(names) * points).reshape(len(names), points)
                for column in (EVENTS, FAST)
            ]
        )

    def youngest(self) -> Numbers:
        """[lane][restart point]: the age in minutes of the newest mail; infinite where there is none."""
        lanes, points = len(self.lanes), len(self.waves) * STAGES
        found = np.full(lanes * points, np.inf)
        np.minimum.at(found, self.sheet.lane * points + self._points, self._minutes)
        return found.reshape(lanes, points)

    def _rows(self, signal: Signal, curve: Curve, tempo: Tempo) -> Rows:
        """Messages, events and matured messages of all mail; an event is a message at least."""
        if signal.name not in self._columns:
            sent, events = self.sheet.exposed(signal), self.sheet.tally(*signal.tallies)
            counted = self._told if signal.exposure is Exposure.REPORTED else np.ones(len(sent), dtype=bool)
            more = FLOOR * np.maximum(events - sent, 0)
            owed = self._shares(signal, curve, tempo) * sent + more
            self._columns[signal.name] = Rows(counted, np.array([sent, events, *owed]))
        return self._columns[signal.name]

    def _shares(self, signal: Signal, curve: Curve, tempo: Tempo) -> Numbers:
        """[fast, usual, slow][row]: shares reported by now, by the lane's own curve where it has one."""
        found = tempo.shares(curve, self._minutes)
        for lane in self.lanes:
            if (own := self._own.get((signal.name, lane))) is not None:
                rows = self._of((lane,))
                found[:, rows] = tempo.shares(own, self._minutes[rows])
        return found

    def _fresh(self, since: Mapping[str, datetime]) -> Mask:
        """Which mail left after its lane's instant in `since`."""
        found = np.ones(len(self.sheet.lane), dtype=bool)
        for lane, instant in since.items():
            found &= ~self._of((lane,)) | (self._minutes < (self._now - instant).total_seconds() / 60)
        return found

    def _of(self, lanes: Collection[str]) -> Mask:
        """Which mail is of these lanes."""
        chosen = np.array([lane in lanes for lane in self.lanes], dtype=bool)
        return chosen[self.sheet.lane] if len(self.lanes) else np.zeros(0, dtype=bool)


@dataclass(frozen=True, slots=True)
class Rows:
    """What one signal shows, per row of the sheet: which rows count, and the columns `SENT` to `SLOWLY`."""

    counted: Mask
    columns: Numbers


def feed(mail: Sequence[Mail] | Sheet, *, wave: int = 0, lanes: Collection[str] | None = None) -> Cell:
    """The cell of the feed itself: accepted messages, and those of them that were answered in any way, per minute.

    Of these `lanes`, or all.
    """
    sheet = mail if isinstance(mail, Sheet) else Sheet.of(mail)
    places = [place for place, number in enumerate(sheet.waves) if wave in {0, number}]
    codes = [code for code, lane in enumerate(sheet.lanes) if lanes is None or lane in lanes]
    rows = np.flatnonzero(np.isin(sheet.place, places) & np.isin(sheet.lane, codes))
    answered = np.minimum(sheet.accepted, sheet.tally(*ANSWERS))[rows]
    minutes, which = np.unique(sheet.minute[rows], return_inverse=True)
    sent = np.bincount(which, sheet.accepted[rows], len(minutes))
    came = np.bincount(which, answered, len(minutes))
    told = zip(minutes.tolist(), sent.tolist(), came.tolist(), strict=True)
    return Cell(FEED, wave, "", tuple(Cohort(_instant(m), round(n), round(a)) for m, n, a in told))


def _exposed(mail: Mail, signal: Signal) -> int:
    if signal.exposure is Exposure.HANDED_OVER:
        return mail.handed_over
    return mail.tallies.get(Tally.DELIVERED, 0) if signal.exposure is Exposure.DELIVERED else mail.accepted
