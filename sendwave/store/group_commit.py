"""One transaction for what several threads want written at the same moment.

A durable commit costs a sync of the disk, whoever waits for it. Writers queue; the first of them leads: it writes what
all of them want, commits once, and hands each its answer. Nobody is answered before the commit is durable.

Those who were answered together come again at nearly the same moment, so a leader waits for as many as came the last
time, for a part of what a commit costs at most; who writes alone never waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sendwave.clock import stopwatch
from sendwave.errors import Busy, FullDisk
from sendwave.store.database import Connection, Database

T = TypeVar("T")

LINGER: Final = 0.25
"""Of the time the last transaction took, a leader waits for others at most."""


@dataclass(slots=True)
class _Wish:
    """What one thread wants written, and what came of it."""

    action: Callable[[Connection], Any]
    done: bool = False
    answer: Any = None
    fault: BaseException | None = None


class Together:
    """Commits of several threads as one. An action that raises harms nobody else's."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: list[_Wish] = []
        self._turn = threading.Condition()
        self._writing = False
        self._last, self._took = 1, 0.0  # wishes in the last transaction, and its seconds

    def run(self, action: Callable[[Connection], T]) -> T:
        """Do this in a transaction, committed durably when it returns; raises what it raised.

        It may be run a second time, after a rollback, when another's action in the same transaction raised. To a server
        on another machine each goes by itself: it works on several at once, while one transaction of eight waits for
        every round trip of each.
        """
        if not self._db.is_near:
            with self._db.write() as conn:
                return action(conn)
        wish = _Wish(action)
        with self._turn:
            self._waiting.append(wish)
            self._turn.notify_all()  # a leader may be waiting for one more
            self._turn.wait_for(lambda: wish.done or not self._writing)
            leads = not wish.done
            self._writing = self._writing or leads
        if leads:
            self._lead()
        if wish.fault is not None:
            raise wish.fault
        answer: T = wish.answer
        return answer

    def _lead(self) -> None:
        with self._turn:
            self._turn.wait_for(lambda: len(self._waiting) >= self._last, self._took * LINGER)
            wishes, self._waiting = self._waiting, []
        began = stopwatch()
        try:
            self._write(wishes)
        finally:
            with self._turn:
                self._last, self._took = len(wishes), stopwatch() - began
                for wish in wishes:
                    wish.done = True
                self._writing = False
                self._turn.notify_all()

    def _write(self, wishes: Sequence[_Wish]) -> None:
        try:
            with self._db.write() as conn:
                for wish in wishes:
                    wish.answer = wish.action(conn)
        except BaseException as fault:  # noqa: BLE001  # each gets its own, once it is known whose it is
            if len(wishes) == 1 or isinstance(fault, (Busy, FullDisk)):  # the store's: it may be committed all the same
                for wish in wishes:
                    wish.fault = fault
            else:
                for wish in wishes:
                    self._alone(wish)

    def _alone(self, wish: _Wish) -> None:
        try:
            with self._db.write() as conn:
                wish.answer = wish.action(conn)
        except BaseException as fault:  # noqa: BLE001  # raised in the thread whose it is
            wish.fault = fault
