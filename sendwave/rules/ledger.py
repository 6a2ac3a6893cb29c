"""A campaign's batches in columns, kept up to date batch by batch, and turned into a sheet of mail at any moment.

The sums are those of `cells.gather`. There they are made from all batches, here from columns that stay: a look costs a
few passes over arrays, and only what changed is written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sendwave.rules.cells import SLOT, Sheet
from sendwave.rules.evidence import STAGES
from sendwave.rules.maturity import EDGES, bin_of
from sendwave.rules.signals import Tally

Codes = NDArray[np.int64]

WORDS: Final = tuple(word.value for word in Tally)
_PLACES: Final = {word: place for place, word in enumerate(WORDS)}
_NUMBERS: Final = 3
"""Columns before those of the tallies: accepted, refused, unknown."""
_ACCEPTED, _REFUSED, _UNKNOWN = range(_NUMBERS)


class Ledger:
    """Batches that were handed over, by id. `put` and `count` say what a batch is now, whatever it was before."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._lanes: dict[str, int] = {}
        self._where = np.zeros((3, 0), dtype=np.int64)  # wave, lane code, second of the hand-over
        self._numbers = np.zeros((_NUMBERS + len(WORDS), 0), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, batch_id: int) -> bool:
        return batch_id in self._rows

    def put(self, batch_id: int, wave: int, provider: str, handed_at: datetime, numbers: tuple[int, int, int]) -> None:
        """A batch as the ledger of batches has it; `numbers` are its accepted, refused and unknown people."""
        row = self._row(batch_id)
        code = self._lanes.setdefault(provider, len(self._lanes))
        self._where[:, row] = wave, code, int(handed_at.timestamp())
        self._numbers[:_NUMBERS, row] = numbers

    def count(self, batch_id: int, tally: str, n: int) -> None:
        """The people of a batch whom a tally counts by now. A tally nobody knows is left out."""
        if tally in _PLACES:
            self._numbers[_NUMBERS + _PLACES[tally], self._row(batch_id)] = n

    def _row(self, batch_id: int) -> int:
        row = self._rows.setdefault(batch_id, len(self._rows))
        if row >= self._where.shape[1]:
            more = max(1_024, row)
            self._where = np.concatenate([self._where, np.zeros((3, more), dtype=np.int64)], axis=1)
            self._numbers = np.concatenate([self._numbers, np.zeros((len(self._numbers), more), np.int64)], axis=1)
        return row

    def ages(self, now: datetime) -> dict[tuple[int, str], NDArray[np.float64]]:
        """Messages of each lane of a wave by the bin of their age (`maturity.bin_of`)."""
        wave, lane, second = self._where[:, : len(self._rows)]
        sent = self._numbers[_ACCEPTED, : len(self._rows)]
        bins = bin_of(np.maximum(now.timestamp() - second, 0) / 60)
        names, size = list(self._lanes), len(EDGES) - 1
        keys, place = np.unique(wave * len(names) + lane, return_inverse=True) if names else (wave, wave)
        found = np.bincount(place * size + bins, sent, len(keys) * size).reshape(len(keys), size)
        return {(key // len(names), names[key % len(names)]): found[n] for n, key in enumerate(keys.tolist())}

    def sheet(
        self,
        now: datetime,
        planned: Mapping[int, int],
        *,
        since: Mapping[str, datetime] | None = None,
        lanes: Collection[str] | None = None,
    ) -> Sheet:
        """The mail per wave, lane, quarter of the wave and span of time (see `cells.gather`), in that order.

        Mail of a lane sent up to its instant in `since` is left out: a person has answered for it. `lanes` of the plan
        are there even without mail; `planned` is the people of each wave.
        """
        wave, lane, second = self._where[:, : len(self._rows)]
        numbers = self._numbers[:, : len(self._rows)]
        kept = second > 0
        for name, instant in (since or {}).items():
            kept &= (lane != self._lanes.get(name, -1)) | (second > int(instant.timestamp()))
        wave, lane, minute, numbers = wave[kept], lane[kept], second[kept] // 60, numbers[:, kept]
        told = numbers.copy()
        told[_ACCEPTED] += np.where(numbers[_NUMBERS:].any(axis=0), numbers[_UNKNOWN], 0)
        stage = _stages(wave, minute, numbers[:_NUMBERS].sum(axis=0), planned)
        names = sorted({*self._lanes, *(lanes or ())})
        ranks = np.array([names.index(name) for name in self._lanes], dtype=np.int64)
        keys = np.stack([wave, ranks[lane], stage, _spans(minute, now)], axis=1)
        return _sheet(keys, told, tuple(names))


def _spans(minute: Codes, now: datetime) -> Codes:
    """The first minute of the span each minute falls into: a 64th of its age at most."""
    age = np.maximum(int(now.timestamp()) // 60 - minute, 0)
    bits = np.frexp(age.astype(np.float64))[1]  # how many binary digits the age has
    width = np.left_shift(1, np.maximum(bits - 6, 0))
    found: Codes = minute - minute % width
    return found


def _stages(wave: Codes, minute: Codes, people: Codes, planned: Mapping[int, int]) -> Codes:
    """The quarter of its wave each minute begins in, from what had left before."""
    found = np.zeros(len(wave), dtype=np.int64)
    for number in np.unique(wave).tolist():
        rows = np.flatnonzero(wave == number)
        minutes, place = np.unique(minute[rows], return_inverse=True)
        left = np.bincount(place, people[rows], len(minutes)).astype(np.int64)
        if planned.get(number):
            before = np.cumsum(left) - left
            found[rows] = np.minimum(STAGES - 1, STAGES * before // planned[number])[place]
    return found


def _sheet(keys: Codes, told: Codes, lanes: tuple[str, ...]) -> Sheet:
    """Rows of the same (wave, lane, stage, span) as one."""
    order = np.lexsort(keys.T[::-1])
    sorted_keys = keys[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (sorted_keys[1:] != sorted_keys[:-1]).any(axis=1)
    cell, cells = np.cumsum(first) - 1, sorted_keys[first]
    summed = [np.bincount(cell, column[order], len(cells)).astype(np.float64) for column in told]
    waves, place = np.unique(cells[:, 0], return_inverse=True)
    minute = cells[:, 3].astype(np.float64)
    return Sheet(
        lanes=lanes,
        waves=tuple(waves.tolist()),
        lane=cells[:, 1],
        place=place.astype(np.int64),
        stage=cells[:, 2],
        slot=np.floor(minute / SLOT).astype(np.int64),
        minute=minute,
        accepted=summed[_ACCEPTED],
        refused=summed[_REFUSED],
        tallies={word: summed[_NUMBERS + n] for n, word in enumerate(WORDS) if summed[_NUMBERS + n].any()},
    )
