"""INSERT … ON CONFLICT, which SQLite and PostgreSQL spell alike and SQLAlchemy keeps in two dialects.

Statements by the dialect's name (`conn.dialect.name`), each built once.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(conn: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert whose `on_conflict_do_nothing` and `on_conflict_do_update` suit the database of `conn`."""
    return inserting(conn.dialect.name, table)


@cache
def inserting(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """The same by the dialect's name, for who builds a statement once."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@cache
def first(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Inserts the rows it is run with, those apart that are there already."""
    return inserting(dialect, table).on_conflict_do_nothing()


@cache
def latest(
    dialect: str, table: Table, key: tuple[str, ...], fresh: tuple[str, ...]
) -> sqlite.Insert | postgresql.Insert:
    """Inserts the rows it is run with; one that is there already (by `key`) takes their `fresh` columns."""
    statement = inserting(dialect, table)
    return statement.on_conflict_do_update(index_elements=key, set_={name: statement.excluded[name] for name in fresh})


@cache
def added(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Inserts the rows it is run with; to one that is there already their `n` is added."""
    statement, key = inserting(dialect, table), list(table.primary_key)
    return statement.on_conflict_do_update(index_elements=key, set_={"n": table.c.n + statement.excluded.n})
