"""How a transaction of SQLite begins: BEGIN for who looks, BEGIN IMMEDIATE for who writes.

The driver's own BEGIN would come before the first write only, so a reader would see several moments. It is said where
the dialect begins, not by a listener: once an engine has one of those, every statement pays for events.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.engine import Engine

_WRITES: Final = "sendwave_writes"


def prepare(engine: Engine) -> None:
    """Let its transactions begin so; its connections must leave that to us (`isolation_level = None`)."""
    engine.dialect.do_begin = _begin  # type: ignore[assignment,method-assign]


def to_write(connection: Connection) -> Connection:
    """The same: the transaction that begins next on it takes SQLite's one right to write at once."""
    if connection.dialect.name == "sqlite":
        connection.info[_WRITES] = True
    return connection


def _begin(dbapi: Any) -> None:
    dbapi.execute("BEGIN IMMEDIATE" if dbapi.info.pop(_WRITES, False) else "BEGIN")
