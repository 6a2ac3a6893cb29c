"""One route's adapters lent to the threads that hand batches over: an instance is used by one thread at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from sendwave.esp.base import EspAdapter, Receipt, Submission


class Lending:
    """The route's own adapter and, where a factory is given, up to `most` in all. Counts failures in a row."""

    def __init__(self, adapter: EspAdapter, most: int = 1, make: Callable[[], EspAdapter] | None = None) -> None:
        self._idle: queue.LifoQueue[EspAdapter] = queue.LifoQueue()
        self._idle.put(adapter)
        self.adapter = adapter
        self._shared = adapter if adapter.capabilities.concurrent else None
        self._make, self._left = make, most - 1 if make is not None else 0
        self._made: list[EspAdapter] = []
        self._lock = threading.Lock()
        self.failures = 0
        self.held: set[str] = set()  # reasons of its holds that are more than a failure

    def submit(self, submission: Submission) -> Receipt:
        """Hand over with an idle adapter; waits for one when all are busy. Raises as `EspAdapter.submit`.

        An adapter that serves several threads at once is the only one.
        """
        if self._shared is not None:
            return self._shared.submit(submission)
        adapter = self._take()
        try:
            return adapter.submit(submission)
        finally:
            self._idle.put(adapter)

    def _take(self) -> EspAdapter:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            with self._lock:
                if self._make is not None and self._left > 0:
                    self._left -= 1
                    self._made.append(self._make())
                    return self._made[-1]
            return self._idle.get()

    def close(self) -> None:
        """Close the adapters made here; the route's own belongs to who gave it."""
        for adapter in self._made:
            adapter.close()
