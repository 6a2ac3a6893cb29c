"""INSERT … ON CONFLICT, which SQLite and PostgreSQL spell alike and SQLAlchemy keeps in two dialects."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(conn: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert whose `on_conflict_do_nothing` and `on_conflict_do_update` suit the database of `conn`."""
    return _insert(conn.dialect.name, table)


def insert_for(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """The same by the dialect's name, for who builds a statement once."""
    return _insert(dialect, table)


def first(conn: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Inserts the rows it is run with, those apart that are there already. Built once, as the two below."""
    return _first(conn.dialect.name, table)


def latest(
    conn: Connection, table: Table, key: tuple[str, ...], fresh: tuple[str, ...]
) -> sqlite.Insert | postgresql.Insert:
    """Inserts the rows it is run with; one that is there already (by `key`) takes their `fresh` columns."""
    return _latest(conn.dialect.name, table, key, fresh)


def added(conn: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Inserts the rows it is run with; to one that is there already their `n` is added."""
    return _added(conn.dialect.name, table)


@cache
def _insert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@cache
def _first(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    return _insert(dialect, table).on_conflict_do_nothing()


@cache
def _latest(
    dialect: str, table: Table, key: tuple[str, ...], fresh: tuple[str, ...]
) -> sqlite.Insert | postgresql.Insert:
    statement = _insert(dialect, table)
    return statement.on_conflict_do_update(index_elements=key, set_={name: statement.excluded[name] for name in fresh})


@cache
def _added(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    statement, key = _insert(dialect, table), list(table.primary_key)
    return statement.on_conflict_do_update(index_elements=key, set_={"n": table.c.n + statement.excluded.n})
