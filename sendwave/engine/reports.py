"""What became of a campaign's messages, per person and without reading an event: the store's bitmaps laid end to end.

One 16-bit word a person: what the ESP answered, and one bit per tally. Rows of `sends` find their word by batch and
position, and are counted by group and word. Ten million people take 20 MB and about a second, however many events they
caused; a de-duplicating join of fifty million events takes a quarter of a minute and gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sendwave.rules.lifecycle import Batch
from sendwave.rules.signals import Tally

STATES: Final = {Batch.ACCEPTED: 1, Batch.REFUSED: 2, Batch.UNKNOWN: 3, Batch.HANDED: 3}
"""Codes of what the ESP answered, the two lowest bits of a word; 0 for people who were not handed over."""

MARKED: Final = (
    Tally.DELIVERED, Tally.DEFERRAL, Tally.HARD_BOUNCE, Tally.SOFT_BOUNCE, Tally.BLOCK, Tally.SUPPRESSED,
    Tally.COMPLAINT, Tally.UNSUBSCRIBE, Tally.OPEN, Tally.MACHINE_OPEN, Tally.CLICK,
)  # fmt: skip
"""Tallies of a word, from its third bit on."""

WORDS: Final = 4 << len(MARKED)
"""Different words there can be."""

_BITS: Final = {tally.value: 4 << place for place, tally in enumerate(MARKED)}
_DENSE: Final = 512
"""Groups up to which words are counted in an array of all of them."""

Key = tuple[str, str | None, str]
"""(tier, group, price): '' for no tier, None for no known group."""

Words = dict[int, int]


def bit(tally: Tally) -> int:
    """The bit of a tally in a word."""
    return _BITS[tally.value]


class Ledger:
    """Words of everybody released, by batch and position."""

    def __init__(self, batches: Mapping[int, tuple[int, str]]) -> None:
        """`batches` are id -> (people, status) of the released ones."""
        self._ids = np.array(sorted(batches), dtype=np.int64)
        sizes = np.array([batches[number][0] for number in self._ids.tolist()], dtype=np.int64)
        self._starts = np.concatenate(([0], np.cumsum(sizes)))
        states = [STATES.get(Batch(batches[number][1]), 0) for number in self._ids.tolist()]
        self.words = np.repeat(np.array(states, dtype=np.uint16), sizes)
        self._place = {number: place for place, number in enumerate(self._ids.tolist())}

    def mark(self, batch: int, tally: str, bits: bytes) -> None:
        """Set a tally's bit of everybody in its bitmap; tallies no report shows are passed over."""
        place = self._place.get(batch)
        if place is None or tally not in _BITS:
            return
        start, stop = self._starts[place], self._starts[place + 1]
        found = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=stop - start, bitorder="little")
        self.words[start:stop] |= found.astype(np.uint16) * np.uint16(_BITS[tally])

    def answer(self, batch: int, position: int, state: str) -> None:
        """What the ESP answered about one person who does not share the fate of their batch."""
        place = self._place.get(batch)
        if place is not None:
            index = self._starts[place] + position
            self.words[index] = (int(self.words[index]) & ~3) | _STATE_WORDS.get(state, 0)

    def of(self, batch: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.uint16]:
        """The words of these people; 0 for those of batches nobody knows."""
        if not len(self._ids):
            return np.zeros(len(batch), dtype=np.uint16)
        place = np.minimum(np.searchsorted(self._ids, batch), len(self._ids) - 1)
        index = self._starts[place] + position
        known = (self._ids[place] == batch) & (index < self._starts[place + 1])
        return np.where(known, self.words[np.where(known, index, 0)], 0).astype(np.uint16)

    def count(self, parts: Iterable[pa.RecordBatch]) -> dict[Key, Words]:
        """Rows of (batch, position, tier, grp, price) as people per word, by the last three."""
        found: dict[Key, Words] = {}
        for part in parts:
            if part.num_rows:
                words = self.of(_numbers(part["batch"]), _numbers(part["position"]))
                _add(found, [part[name].dictionary_encode() for name in ("tier", "grp", "price")], words)
        return found


def _add(found: dict[Key, Words], by: list[pa.DictionaryArray], words: NDArray[np.uint16]) -> None:
    """Count people by their values of `by` and their word."""
    known = [[*one.dictionary.to_pylist(), None] for one in by]
    codes = np.zeros(len(words), dtype=np.int64)
    for one, values in zip(by, known, strict=True):
        codes = codes * len(values) + _codes(one)
    span, pairs = prod(map(len, known)), codes * WORDS + words
    if span <= _DENSE:
        every = np.bincount(pairs, minlength=span * WORDS)
        seen = np.flatnonzero(every)
        counts = every[seen]
    else:
        seen, counts = np.unique(pairs, return_counts=True)
    tiers, groups, prices = known
    for pair, count in zip(seen.tolist(), counts.tolist(), strict=True):
        code, word = divmod(pair, WORDS)
        rest, price = divmod(code, len(prices))
        tier, group = divmod(rest, len(groups))
        counted = found.setdefault((tiers[tier] or "", groups[group], prices[price] or ""), {})
        counted[word] = counted.get(word, 0) + count


_STATE_WORDS: Final = {state.value: code for state, code in STATES.items()}


def _numbers(column: pa.Array) -> NDArray[np.int64]:
    return np.asarray(column.fill_null(-1).to_numpy(zero_copy_only=False)).astype(np.int64)


def _codes(encoded: pa.DictionaryArray) -> NDArray[np.int64]:
    """Places in the dictionary; one past its end for NULL."""
    return np.asarray(encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)).astype(
        np.int64
    )
