"""Troubles, injected between any two statements, commits, files and calls of whatever a node does.

A trouble is armed by a step and strikes at the n-th opportunity of its kind from then on, in whichever step that comes.
A crash is a BaseException nobody catches, after which the node's store answers nothing any more: what a clean-up
handler would still do, a dead process does not.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from sqlalchemy import Engine
from sqlalchemy.engine import Dialect

from sendwave import cluster, faults
from sendwave.engine import datasets
from sendwave.errors import Busy
from sendwave.store.begin import to_write
from sendwave.store.database import Connection, Database


class Killed(BaseException):
    """The node died here."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong, at the n-th opportunity (from 0) of that kind."""

    kind: str
    at: int


KINDS: Final = {
    "kill_statement": (60, 3),  # between two statements, most of them inside a transaction that is then lost
    "kill_commit": (12, 3),  # the commit never reaches the disk
    "kill_committed": (12, 4),  # the commit is on disk, its caller never learns of it
    "kill_point": (6, 4),  # at a point named in faults.py
    "kill_call": (3, 3),  # while the ESP is called: half of the time it has the batch
    "kill_file": (2, 2),  # while a file of the lake is written
    "locked": (40, 2),
    "answer_lost": (12, 4),  # the commit is on disk, and the connection broke before that was said
    "disk_full": (40, 2),
    "store_gone": (40, 2),
    "disk_full_lake": (2, 2),
    "meanwhile": (12, 10),  # another node, or another thread of this one, has a turn in the middle of ours
    "person": (12, 6),  # somebody decides something in the middle of it
    "hang_in_hand": (3, 4),  # a node sleeps for longer than its leases, with batches in its hands
    "stopped_in_hand": (3, 18),  # somebody stops just what a node has in its hands, and everybody else has a turn
}
"""Kind -> (opportunities a busy step has, about; how often it is drawn compared with the others)."""


KILLS: Final = tuple(kind for kind in KINDS if kind.startswith("kill"))

IN_MIDDLE: Final = ("hang_in_hand", "meanwhile")
"""Kinds in which others have a turn in the middle of one."""

IN_HAND: Final = ("after_claim", "after_handed", "after_call", "release_file_written", "feedback_file_written")
"""Fault points between a look and the act that rests on it."""


@dataclass
class Troubles:
    """What is armed. `meanwhile`, `person`, `stop`, `hang` give others a turn; `die` silences its store."""

    meanwhile: Callable[[], None] = lambda: None
    person: Callable[[], None] = lambda: None
    stop: Callable[[], bool] = lambda: True  # False: nothing is in hand
    die: Callable[[], None] = lambda: None
    hang: Callable[[], None] = lambda: None
    led: Callable[[Connection, str], None] = lambda _connection, _holder: None  # looks at a write of the leader's
    armed: list[tuple[Trouble, int]] = field(default_factory=list)  # with the opportunities that still pass
    told: list[str] = field(default_factory=list)  # what struck since somebody looked
    writing: int = 0  # transactions open that write: nobody else has a turn in the middle of one
    others: int = 0  # turns others had
    calm: bool = False  # a person acts, whose process is no node's: it does not die half-way
    dying: bool = False  # a node is being killed: what it would still clean up, it does not

    def arm(self, trouble: Trouble | None) -> None:
        if trouble is not None:
            self.armed.append((trouble, trouble.at))

    def due(self, kind: str) -> bool:
        """Count one opportunity; whether a trouble strikes at it."""
        for n, (trouble, left) in enumerate(self.armed):
            if trouble.kind == kind:
                if left:
                    self.armed[n] = (trouble, left - 1)
                    return False
                del self.armed[n]
                self.told.append(kind)
                return True
        return False

    def between(self) -> None:
        """Nothing of ours is half done in the store: others may have their turn."""
        if self.writing:
            return
        for kind, act in (("meanwhile", self.meanwhile), ("person", self.person)):
            if self.due(kind):
                self.others += 1
                act()

    def kill(self) -> NoReturn:
        """The process whose turn it is dies here."""
        self.die()
        self.dying = True
        raise Killed

    def point(self, name: str) -> None:
        """Stands in for `faults.point`."""
        if self.calm:
            return
        if self.due("kill_point"):
            self.kill()
        if name in IN_HAND and not self.writing and self.due("stopped_in_hand"):
            self.others += 1
            if not self.stop():
                self.told.remove("stopped_in_hand")
                self.armed.append((Trouble("stopped_in_hand", 0), 0))  # at the next opportunity
        if name in IN_HAND and not self.writing and self.due("hang_in_hand"):
            self.others += 1
            self.hang()
        self.between()

    def file(self) -> None:
        """A file of the lake is about to be made durable."""
        if not self.calm and self.due("kill_file"):
            self.kill()
        if self.due("disk_full_lake"):
            raise OSError(errno.ENOSPC, "no space left on device")


_ERRORS: Final = {
    "locked": "database is locked",
    "disk_full": "database or disk is full",
    "store_gone": "disk I/O error",
}


class _Compiled(dict[Any, Any]):
    """Statements compiled once for all histories: each has engines of its own, whose dialects are equal but not one."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key[1:], default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(key[1:], compiled)


_COMPILED: Final = _Compiled()


@dataclass(frozen=True, slots=True)
class _Writing:
    """Where two nodes share one SQLite: a write takes its one lock at once."""

    engine: Engine

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with self.engine.connect() as connection, to_write(connection).begin():
            yield connection

    def dispose(self) -> None:
        """Its connections are those of the engine."""


class Store(Database):
    """A node's way to the store, on which troubles strike. After its death it answers nothing."""

    def __init__(self, url: str, troubles: Troubles, *, alone: bool) -> None:
        """`alone`: no other node works on this store, which is what SQLite means to the daemon."""
        super().__init__(url)
        self.engine = self.engine.execution_options(compiled_cache=_COMPILED)
        self.is_sqlite = alone
        self._writing = _Writing(self.engine)  # type: ignore[assignment]
        self.holder = ""
        self._died: list[bool] = []  # shared with the copies `fenced` makes
        self.troubles = troubles
        self.others_at_commit = 0  # turns others had had when this node committed last
        self._strike(self.engine.dialect)

    @property
    def dead(self) -> bool:
        return bool(self._died)

    def die(self) -> None:
        self._died.append(True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Another thread of the node has its turn: what it commits is not what the interrupted one committed last."""
        before = self.others_at_commit
        try:
            yield
        finally:
            self.others_at_commit = before

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self.troubles.between()
        with super().write() as connection:
            self.troubles.writing += 1
            try:
                yield connection
                if self._fence is not None:
                    self.troubles.led(connection, self.holder)
            finally:
                self.troubles.writing -= 1
        self.others_at_commit = self.troubles.others
        self._may_die("kill_committed")
        if not self.is_sqlite and self.troubles.due("answer_lost"):
            raise Busy("the store cannot be used right now (server closed the connection unexpectedly)")
        self.troubles.between()

    def _strike(self, dialect: Dialect) -> None:
        """Troubles come where the dialect calls the driver: listeners to an engine cost more, at every statement."""
        begin, commit = dialect.do_begin, dialect.do_commit
        execute, execute_many = dialect.do_execute, dialect.do_executemany

        def begun(dbapi: Any) -> None:
            self._before()
            begin(dbapi)

        def executed(*told: Any) -> None:
            self._before()
            execute(*told)

        def executed_many(*told: Any) -> None:
            self._before()
            execute_many(*told)

        def committed(dbapi: Any) -> None:
            self._may_die("kill_commit")
            commit(dbapi)

        struck = {"do_begin": begun, "do_commit": committed, "do_execute": executed, "do_executemany": executed_many}
        dialect.__dict__.update(struck)

    def _before(self) -> None:
        if not (self.troubles.armed or self.dead):
            return
        self._may_die("kill_statement")
        for kind, words in _ERRORS.items():
            if self.troubles.due(kind):
                raise sqlite3.OperationalError(words)

    def _may_die(self, kind: str) -> None:
        if self.dead:
            raise Killed
        if self.troubles.due(kind):
            self.die()
            self.troubles.dying = True
            raise Killed


@contextmanager
def injected(troubles: Troubles, wall: Callable[[], datetime]) -> Iterator[None]:
    """Let troubles strike fault points and files of the lake while the block runs; nodes' lives run on `wall`."""
    point, sync, unlink, own = faults.point, os.fsync, Path.unlink, cluster.wall

    def removed(path: Path, missing_ok: bool = False) -> None:
        if not troubles.dying:
            unlink(path, missing_ok)

    def synced(_descriptor: int) -> None:
        troubles.file()  # and nothing else: what a simulation writes need not outlive the machine

    faults.point, cluster.wall = troubles.point, wall
    Path.unlink = removed  # type: ignore[method-assign]
    datasets.os.fsync = synced  # type: ignore[attr-defined]
    try:
        yield
    finally:
        faults.point, cluster.wall, Path.unlink = point, own, unlink  # type: ignore[method-assign]
        os.fsync = sync


def shared(database: Database) -> Database:
    """That database, with the statements compiled for all histories."""
    database.engine = database.engine.execution_options(compiled_cache=_COMPILED)
    return database
