"""Draws that depend on a seed and on what is drawn, never on earlier draws: dropping a step changes no other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

_Option = TypeVar("_Option")


@dataclass(frozen=True, slots=True)
class Chance:
    """The chance of one seed."""

    seed: int

    def unit(self, *what: object) -> float:
        """A number in [0, 1)."""
        digest = hashlib.blake2b(repr((self.seed, what)).encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64

    def happens(self, share: float, *what: object) -> bool:
        return self.unit(*what) < share

    def below(self, limit: int, *what: object) -> int:
        """A whole number from 0 to `limit` - 1."""
        return int(self.unit(*what) * limit)

    def pick(self, options: Sequence[_Option], *what: object) -> _Option:
        return options[self.below(len(options), *what)]
