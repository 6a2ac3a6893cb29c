"""INSERT … ON CONFLICT, which SQLite and PostgreSQL spell alike and SQLAlchemy keeps in two dialects."""

from __future__ import annotations

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(conn: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert whose `on_conflict_do_nothing` and `on_conflict_do_update` suit the database of `conn`."""
    return postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)
