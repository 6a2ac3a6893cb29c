"""One transaction for what several threads want written at the same moment.

A durable commit costs a sync of the disk, whoever waits for it. Writers queue; whoever gets through first writes what
all of them want, commits once, and hands each its answer. Nobody is answered before the commit is durable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sendwave.errors import Busy, FullDisk
from sendwave.store.database import Connection, Database

T = TypeVar("T")


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
        self._queue, self._pen = threading.Lock(), threading.Lock()

    def run(self, action: Callable[[Connection], T]) -> T:
        """Do this in a transaction, committed durably when it returns; raises what it raised.

        On SQLite it may be run a second time, after a rollback, when another's action in the same transaction raised.
        """
        if not self._db.is_sqlite:  # PostgreSQL does the same below, and works on several at once
            with self._db.write() as conn:
                return action(conn)
        wish = _Wish(action)
        with self._queue:
            self._waiting.append(wish)
        with self._pen:
            if not wish.done:
                self._write()
        if wish.fault is not None:
            raise wish.fault
        answer: T = wish.answer
        return answer

    def _write(self) -> None:
        with self._queue:
            wishes, self._waiting = self._waiting, []
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
        for wish in wishes:
            wish.done = True

    def _alone(self, wish: _Wish) -> None:
        try:
            with self._db.write() as conn:
                wish.answer = wish.action(conn)
        except BaseException as fault:  # noqa: BLE001  # raised in the thread whose it is
            wish.fault = fault
