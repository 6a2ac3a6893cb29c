"""What a node knows and the store does not, while the store is away: an answer of the ESP, batches to give back.

The store may be restarted, cut off, locked or full between a hand-over and its record. The answer waits in the thread
that got it and is written as soon as that works; only a node that dies meanwhile leaves its batch unknown.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import tenacity

from sendwave import log
from sendwave.errors import Busy, FullDisk, StaleTransition
from sendwave.flow.dispatch.settling import Progress, Record
from sendwave.store import batches
from sendwave.store.database import Database
from sendwave.store.group_commit import Together

_LOG: Final = log.get("dispatch")

AWAY: Final = (Busy, FullDisk)
"""The store does not take it now, and will later."""

LAST_TRIES: Final = 10.0
"""A node told to stop tries for so many seconds to record its answers."""

SOON, LATEST = 0.05, 1.0
"""Seconds to the next try, at first and at most."""


@dataclass
class Keeper:
    """For one node. Safe for several threads."""

    db: Database
    together: Together
    holder: str
    stopping: threading.Event
    _owing: bool = False  # batches are to be given back
    _unsure: set[int] = field(default_factory=set)  # handed over as far as the store knows, perhaps; never called
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, record: Record) -> Progress:
        """Write what became of a batch, however long the store is away. Raises Busy or FullDisk when stopping."""
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(AWAY),
            wait=tenacity.wait_exponential(SOON, LATEST),
            stop=tenacity.stop_all(
                tenacity.stop_when_event_set(self.stopping), tenacity.stop_after_delay(LAST_TRIES)
            ),
            before_sleep=_tell,
            reraise=True,
        )  # fmt: skip
        try:
            done: Progress = tries(self.together.run, record)
        except StaleTransition:
            if tries.statistics["attempt_number"] == 1:
                raise
            done = Progress(batches=1)  # the first commit came through, and only its acknowledgement was lost
        return done

    def failed(self) -> None:
        """A step failed: batches it claimed are still ours, perhaps without our knowing."""
        with self._lock:
            self._owing = True

    def unsure(self, batch_id: int) -> None:
        """The store failed while this batch was marked as handed over; its ESP was not called."""
        with self._lock:
            self._unsure.add(batch_id)
            self._owing = True  # its thread may outlast the step that failed

    def give_back(self) -> None:
        """After a failed step, let go of everything that was not handed over.

        Raises Busy or FullDisk while the store is away: the next call does it.
        """
        with self._lock:
            if not self._owing:
                return
            with self.db.write() as conn:
                batches.let_go(conn, self.holder)
                for batch_id in sorted(self._unsure):
                    with suppress(StaleTransition):  # its commit did not come through
                        batches.return_unsent(conn, batch_id, holder=self.holder)
            self._unsure.clear()
            self._owing = False


def _tell(state: tenacity.RetryCallState) -> None:
    """Say once that an answer waits, for whoever wonders why nothing leaves."""
    if state.attempt_number == 1 and state.outcome is not None:
        _LOG.error("answer_waits", reason=str(state.outcome.exception()), retry="until the store takes it")
