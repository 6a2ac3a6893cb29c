"""Opening the store: SQLite (WAL, every commit durable) or PostgreSQL, behind one pair of transactions.

SQLite admits one writer and its busy handler is unfair (one of four competing writers got nothing at all), so the
writers of one process queue on a lock and take the database with BEGIN IMMEDIATE; other processes wait up to
`BUSY_SECONDS`.

A process that is stopped in the middle of a write holds its row locks for as long as its connection lives. PostgreSQL
ends such a session after `STUCK_SECONDS` without a statement, so that a pause never waits longer for a node that hangs.
PostgreSQL does not notice all that stop in the middle of a write: others end those (`end_stuck`).
"""

from __future__ import annotations

import copy
import errno
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as InTurnTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from sendwave.clock import stopwatch
from sendwave.errors import BadInput, Busy, FullDisk
from sendwave.store import begin
from sendwave.store.begin import to_write
from sendwave.store.migrations import upgrade

__all__ = ["BUSY_SECONDS", "Connection", "Database"]
# `Connection` is what `read` and `write` give: flow names it from here and needs no SQLAlchemy of its own.

BUSY_SECONDS: Final = 15.0

STUCK_SECONDS: Final = 10
"""A PostgreSQL session that does nothing for so long in the middle of a write is ended by the server."""

RESTED_SECONDS: Final = 1.0
"""A PostgreSQL connection unused for so long is asked whether it lives: a round trip nobody pays at full speed."""

KEPT: Final = 16
"""Connections to PostgreSQL of one process, for reading and for writing each; whoever wants one more waits.

All are kept: one that is opened for a single hand-over costs the server more than the hand-over.
"""

IN_TURN_SECONDS: Final = 30.0
"""So long it waits, then the store is busy: all of them may hang where a network swallows everything."""

_REACH: Final = {
    "connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}  # fmt: skip
"""libpq's words, in seconds, the last in ms: a network that swallows packets is noticed, not waited for.

Keepalives find it where nothing is under way; what was sent and never acknowledged would be waited for a quarter of an
hour without the last one.
"""

_NAME: Final = "sendwave"
"""What DBAs see in pg_stat_activity, unless the URL names another; sessions that write add a word."""

_END_STUCK: Final = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user AND application_name = :name"
    " AND (state LIKE 'idle in transaction%' OR state = 'active' AND wait_event IN ('ClientRead', 'ClientWrite'))"
    " AND state_change < clock_timestamp() - make_interval(secs => :seconds)"
)
"""Ours that wait for the rest of a request, for the client to take its answer, or for the next request of a write.

For the last the server has its own time-out, but a Flush message after the Sync that ended a pipeline, as the driver
sends for many rows, disarms it (PostgresMain disables the timer at any message; only Sync and Query arm it again).
"""

_json: Final = partial(json.dumps, allow_nan=False)
"""Infinity and NaN are no JSON: PostgreSQL refuses to keep them, SQLite to read them back."""

_PASSING: Final = ("08", "40", "53", "55P03", "57P", "25P03")
"""Starts of SQLSTATE (PostgreSQL manual, appendix A) of what passes: connection lost, serialization failure or
deadlock, no resources, lock not available, server shutting down or starting, session ended for being idle.
"""


_UNUSABLE: Final = ("readonly database", "unable to open database file", "not a database")
"""What SQLite says of a file or folder that a person has to put right."""


class Database:
    """The store's engine and its two kinds of transaction."""

    def __init__(self, url: str) -> None:
        """Open `sqlite:///FILE` or `postgresql+psycopg://…`; nothing is read yet. Raises BadInput for another URL."""
        self.url: URL = make_url(url)
        if self.url.get_backend_name() not in ("sqlite", "postgresql"):
            raise BadInput(f"the store must be sqlite or postgresql, not {self.url.get_backend_name()!r}")
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine: Engine = _engine(self.url)
        self._writing = self.engine if self.is_sqlite else _engine(self.url, STUCK_SECONDS)
        self._writer = threading.RLock()
        self._fence: Callable[[Connection], None] | None = None

    def fenced(self, fence: Callable[[Connection], None]) -> Database:
        """The store for somebody whose right to write can end: `fence` begins each write, and raises when it did."""
        limited = copy.copy(self)
        limited._fence = fence  # noqa: SLF001  # of its own kind
        return limited

    @property
    def is_near(self) -> bool:
        """Whether the store is on this machine, where processor time is dear and a round trip cheap."""
        host = self.url.host or str(self.url.query.get("host", ""))  # none, or a folder: the server's socket
        return self.is_sqlite or host.startswith("/") or host in ("", "localhost", "127.0.0.1", "::1")

    @property
    def is_fenced(self) -> bool:
        """Whether the right to write can end."""
        return self._fence is not None

    def migrate(self) -> None:
        """Bring the schema to this version. Raises BadInput when it was written by a newer sendwave."""
        if self.is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        with self._translated():
            upgrade(self.engine)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may change rows; committed durably when the block ends, rolled back when it raises."""
        if not self.is_sqlite:
            with self._translated(), self._writing.begin() as connection:
                yield self._allowed(connection)
            return
        with self._writer, self._translated(), self.engine.connect() as connection, to_write(connection).begin():
            yield self._allowed(connection)

    def _allowed(self, connection: Connection) -> Connection:
        if self._fence is not None:
            self._fence(connection)
        return connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only looks; one consistent snapshot on SQLite."""
        with self._translated(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Database faults a person can act upon, as sendwave errors."""
        try:
            yield
        except InTurnTimeout as fault:
            raise Busy("every connection to the store is in use; try again in a moment") from fault
        except DBAPIError as fault:
            said = str(fault.orig).strip()
            if "database is locked" in said:
                raise Busy("another process is writing to the store; try again in a moment") from fault
            full = getattr(fault.orig, "sqlstate", None) == "53100"  # PostgreSQL's disk_full
            if full or "is full" in said or getattr(fault.orig, "errno", None) == errno.ENOSPC:
                raise FullDisk("the disk that holds the store is full; free some room and try again") from fault
            if self.is_sqlite and "disk I/O error" in said:  # what SQLite says over a quota, too
                raise FullDisk("the disk that holds the store takes no more: full, over a quota, or failing") from fault
            if self.is_sqlite and any(words in said for words in _UNUSABLE):
                told = f"the store {self.url.database} cannot be used ({said}): check the path, and who may write there"
                raise BadInput(told) from fault
            if self.is_sqlite or not _passes(fault):
                raise
            why = said.splitlines()[0] if said else type(fault.orig).__name__
            raise Busy(f"the store cannot be used right now ({why}); try again in a moment") from fault

    def end_stuck(self) -> int:
        """End writes of processes that stopped in the middle and PostgreSQL's time-out does not see; returns how many.

        What they hold nobody else would get: not the paces of a route, not the lead. A request of several messages is
        what the driver makes of many rows, or of more than fits a buffer.
        """
        if self.is_sqlite:
            return 0
        with self.read() as conn:
            return len(conn.execute(_END_STUCK, {"name": _name(self.url, writes=True), "seconds": STUCK_SECONDS}).all())

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()
        self._writing.dispose()


def _engine(url: URL, stuck_seconds: float = 0) -> Engine:
    """Connections to the store; PostgreSQL ends a session stuck in a transaction for so long, 0 waits for ever."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, json_serializer=_json)
        _prepare_sqlite(engine)
        return engine
    named = {"application_name": _name(url, writes=bool(stuck_seconds))}
    told = {**named, **_REACH, **{name: value for name, value in url.query.items() if name in _REACH}}
    asked = f"-c idle_in_transaction_session_timeout={int(stuck_seconds * 1000)}" if stuck_seconds else ""
    options = " ".join(part for part in (str(url.query.get("options", "")), asked) if part)
    arguments = {**told, **({"options": options} if options else {})}
    engine = create_engine(
        url, connect_args=arguments, json_serializer=_json, pool_size=KEPT, max_overflow=0, pool_timeout=IN_TURN_SECONDS
    )
    _ask_rested(engine)
    return engine


def _name(url: URL, *, writes: bool) -> str:
    name = str(url.query.get("application_name", _NAME))
    return f"{name} writing" if writes else name


def _ask_rested(engine: Engine) -> None:
    """A connection that rested may have been cut: ask it first. One in use tells by itself, as Busy."""

    @event.listens_for(engine, "checkin")
    def _rests(_dbapi: Any, record: ConnectionPoolEntry) -> None:
        record.info["since"] = stopwatch()

    @event.listens_for(engine, "checkout")
    def _ask(dbapi: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        since = record.info.get("since")
        if since is None or stopwatch() - since < RESTED_SECONDS:
            return
        try:
            engine.dialect.do_ping(dbapi)
        except engine.dialect.loaded_dbapi.Error as fault:
            raise InvalidatePoolError from fault  # the pool opens another


def _passes(fault: DBAPIError) -> bool:
    """Whether the store will be there again: a lost connection, or a state in `_PASSING`."""
    state = getattr(fault.orig, "sqlstate", None)
    return fault.connection_invalidated or (
        isinstance(fault, OperationalError) if state is None else state.startswith(_PASSING)
    )


def _prepare_sqlite(engine: Engine) -> None:
    """WAL with synchronous=FULL: NORMAL can lose the last commits at power loss, and with them a hand-over."""

    @event.listens_for(engine, "connect")
    def _settings(dbapi: Any, _record: object) -> None:
        dbapi.isolation_level = None  # `store/begin.py` decides, not the driver
        cursor = dbapi.cursor()
        for pragma in (
            f"busy_timeout={int(BUSY_SECONDS * 1000)}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    begin.prepare(engine)
