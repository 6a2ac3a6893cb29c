"""Opening the store: SQLite (WAL, every commit durable) or PostgreSQL, behind one pair of transactions.

SQLite admits one writer and its busy handler is unfair (one of four competing writers got nothing at all), so the
writers of one process queue on a lock and take the database with BEGIN IMMEDIATE; other processes wait up to
`BUSY_SECONDS`.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import OperationalError

from sendwave.errors import BadInput, Busy, FullDisk
from sendwave.store.migrations import upgrade

__all__ = ["BUSY_SECONDS", "Connection", "Database"]
# `Connection` is what `read` and `write` give: flow names it from here and needs no SQLAlchemy of its own.

BUSY_SECONDS: Final = 15.0


class Database:
    """The store's engine and its two kinds of transaction."""

    def __init__(self, url: str) -> None:
        """Open `sqlite:///FILE` or `postgresql+psycopg://…`; nothing is read yet. Raises BadInput for another URL."""
        self.url: URL = make_url(url)
        if self.url.get_backend_name() not in ("sqlite", "postgresql"):
            raise BadInput(f"the store must be sqlite or postgresql, not {self.url.get_backend_name()!r}")
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine: Engine = create_engine(self.url, pool_pre_ping=not self.is_sqlite)
        self._writer = threading.RLock()
        if self.is_sqlite:
            _prepare_sqlite(self.engine)

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
            with self._translated(), self.engine.begin() as connection:
                yield connection
            return
        with self._writer, self._translated(), self.engine.connect() as plain:
            connection = plain.execution_options(sendwave_write=True)
            with connection.begin():
                yield connection

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
        except OperationalError as fault:
            text = str(fault.orig)
            if "database is locked" in text:
                raise Busy("another process is writing to the store; try again in a moment") from fault
            if "disk is full" in text or getattr(fault.orig, "errno", None) == errno.ENOSPC:
                raise FullDisk("the disk that holds the store is full; free some room and try again") from fault
            if self.is_sqlite:
                raise
            raise Busy(f"the store cannot be used right now ({text.splitlines()[0]}); try again in a moment") from fault

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def _prepare_sqlite(engine: Engine) -> None:
    """WAL with synchronous=FULL: NORMAL can lose the last commits at power loss, and with them a hand-over."""

    @event.listens_for(engine, "connect")
    def _settings(dbapi: Any, _record: object) -> None:
        dbapi.isolation_level = None  # SQLAlchemy's begin event below decides, not the driver
        cursor = dbapi.cursor()
        for pragma in (
            f"busy_timeout={int(BUSY_SECONDS * 1000)}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("sendwave_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
