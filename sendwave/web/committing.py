"""Reports made durable together: many requests share one commit, and each is answered only after it.

A commit costs a wait for the disk whatever is in it. While one is on its way the next reports gather, so the busier the
door, the more of them share one; nobody waits for a timer.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from sendwave import log
from sendwave.errors import Busy, SendwaveError
from sendwave.esp.base import RawReport

_LOG: Final = log.get("web")

Told = tuple[str, RawReport]
"""A route and what came by it."""

Store = Callable[[Sequence[Told]], None]
"""Makes reports durable, all or none."""

MOST: Final = 1_000
"""Reports in one commit."""

MOST_BYTES: Final = 16 << 20
"""Bodies in one commit."""

WAITING_BYTES: Final = 256 << 20
"""Bodies that may wait for one; beyond it the ESP is asked to come again, before memory runs out."""


class Committer:
    """One thread that commits what many requests bring."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: queue.SimpleQueue[tuple[Told, Future[None]] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="web-commit", daemon=True)
        self._thread.start()

    def put(self, route: str, report: RawReport) -> Future[None]:
        """Done once the report is durable; its exception says why it is not. Raises Busy when too much waits."""
        done: Future[None] = Future()
        with self._lock:
            if self._closed or self._waiting + len(report.body) > WAITING_BYTES:
                raise Busy("more reports wait to be stored than fit in memory; send this one again")
            self._waiting += len(report.body)
            self._queue.put(((route, report), done))
        return done

    def close(self) -> None:
        """Commit what waits, then end."""
        with self._lock:
            self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            first = self._queue.get()
            if first is None:
                return
            group, size = [first], len(first[0][1].body)
            while len(group) < MOST and size < MOST_BYTES:
                try:
                    further = self._queue.get_nowait()
                except queue.Empty:
                    break
                if further is None:
                    going = False
                    break
                group.append(further)
                size += len(further[0][1].body)
            self._commit(group)
            with self._lock:
                self._waiting -= size

    def _commit(self, group: Sequence[tuple[Told, Future[None]]]) -> None:
        try:
            self._store([told for told, _ in group])
        except SendwaveError as fault:  # the store's state: the same for everybody
            _LOG.error("reports_not_stored", reports=len(group), reason=str(fault))
            _fail(group, fault)
        except Exception as fault:  # noqa: BLE001  # one report nobody can store must not keep the others out
            if len(group) > 1:
                for one in group:
                    self._commit([one])
                return
            _LOG.error("reports_not_stored", reports=1, reason=f"{type(fault).__name__}: {fault}")
            _fail(group, fault)
        else:
            for _, done in group:
                done.set_result(None)


def _fail(group: Sequence[tuple[Told, Future[None]]], fault: Exception) -> None:
    for _, done in group:
        done.set_exception(fault)
