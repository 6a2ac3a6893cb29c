"""Claimed batches, taken one after the other by whichever hand is free."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from sendwave.store.batches import Claimed


class Turns:
    """An iterator several threads may share: each batch is given to one of them, in order."""

    def __init__(self, claimed: Iterable[Claimed]) -> None:
        self._left = iter(claimed)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Claimed]:
        return self

    def __next__(self) -> Claimed:
        with self._lock:
            return next(self._left)

    def end(self) -> None:
        """Nobody gets any of those left."""
        with self._lock:
            self._left = iter(())
