"""Troubles, injected between any two statements, commits, files and calls of a node's step.

Every opportunity of a step is counted; a trouble strikes at the n-th of its kind. A crash is a BaseException nobody
catches, after which the node's store answers nothing any more: what a clean-up handler would still do, a dead process
does not.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from sendwave import faults
from sendwave.engine import datasets
from sendwave.store.database import Connection, Database


class Killed(BaseException):
    """The node died here."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong in a step, at the n-th opportunity (from 0) of that kind."""

    kind: str
    at: int


KINDS: Final = {
    "kill_statement": 60,  # between two statements, most of them inside a transaction that is then lost
    "kill_commit": 12,  # the commit never reaches the disk
    "kill_committed": 12,  # the commit is on disk, its caller never learns of it
    "kill_point": 8,  # at a point named in faults.py
    "kill_call": 3,  # while the ESP is called: half of the time it has the batch
    "kill_file": 3,  # while a file of the lake is written
    "locked": 40,
    "disk_full": 40,
    "store_gone": 40,
    "disk_full_lake": 3,
    "other_node": 6,  # the other node has its turn in the middle of ours
}
"""Kinds, and how many opportunities a busy step has, about."""


@dataclass
class Troubles:
    """The opportunities of the node whose turn it is. One at a time: nested turns push and pop."""

    elsewhere: Callable[[], None] = lambda: None  # gives the other node a turn
    told: Trouble | None = None
    seen: Counter[str] = field(default_factory=Counter)
    struck: bool = False

    def due(self, kind: str) -> bool:
        """Count one opportunity; whether the trouble strikes at it."""
        n = self.seen[kind]
        self.seen[kind] += 1
        if self.told is None or self.struck or self.told.kind != kind or self.told.at != n:
            return False
        self.struck = True
        return True

    @contextmanager
    def turn(self, told: Trouble | None) -> Iterator[None]:
        """A step of a node, with this trouble."""
        before = (self.told, self.seen, self.struck)
        self.told, self.seen, self.struck = told, Counter(), False
        try:
            yield
        finally:
            self.told, self.seen, self.struck = before

    def point(self, _name: str) -> None:
        """Stands in for `faults.point`."""
        if self.due("kill_point"):
            raise Killed
        if self.due("other_node"):
            self.elsewhere()

    def file(self) -> None:
        """A file of the lake is about to be made durable."""
        if self.due("kill_file"):
            raise Killed
        if self.due("disk_full_lake"):
            raise OSError(errno.ENOSPC, "no space left on device")


_ERRORS: Final = {
    "locked": "database is locked",
    "disk_full": "database or disk is full",
    "store_gone": "disk I/O error",
}


_COMPILED: Final[dict[Any, Any]] = {}
"""Statements compiled once for all histories: each has engines of its own, with an empty cache."""


class Store(Database):
    """A node's way to the store, on which troubles strike. After its death it answers nothing."""

    def __init__(self, url: str, troubles: Troubles, *, alone: bool) -> None:
        """`alone`: no other node works on this store, which is what SQLite means to the daemon."""
        super().__init__(url)
        self.engine = self.engine.execution_options(compiled_cache=_COMPILED)
        self.is_sqlite = alone
        self.dead = False
        self.troubles = troubles
        event.listen(self.engine, "before_cursor_execute", self._before)
        event.listen(self.engine, "commit", self._commit)

    def die(self) -> None:
        self.dead = True

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with super().write() as connection:
            yield connection
        self._may_die("kill_committed")

    def _before(self, _conn: Any, _cursor: Any, text: str, parameters: Any, _context: Any, _many: bool) -> None:
        self._may_die("kill_statement")
        for kind, words in _ERRORS.items():
            if self.troubles.due(kind):
                raise OperationalError(text, parameters, sqlite3.OperationalError(words))

    def _commit(self, _conn: Any) -> None:
        self._may_die("kill_commit")

    def _may_die(self, kind: str) -> None:
        if self.dead or self.troubles.due(kind):
            self.dead = True
            raise Killed


@contextmanager
def injected(troubles: Troubles) -> Iterator[None]:
    """Let troubles strike fault points and files of the lake while the block runs."""
    point, sync = faults.point, os.fsync

    def synced(_descriptor: int) -> None:
        troubles.file()  # and nothing else: what a simulation writes need not outlive the machine

    faults.point = troubles.point
    datasets.os.fsync = synced  # type: ignore[attr-defined]
    try:
        yield
    finally:
        faults.point = point
        os.fsync = sync
