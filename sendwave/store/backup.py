"""The store's rows as Parquet files, one per table, and back: the same files whichever database they came from.

Rows are read in one snapshot (PostgreSQL: REPEATABLE READ; SQLite: a read transaction over its WAL), so a copy taken
while everything runs is the store as it was at one moment. Writers are not held up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Date,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    cast,
    delete,
    func,
    insert,
    inspect,
    select,
    text,
    type_coerce,
)

from sendwave.errors import BadInput
from sendwave.store import migrations
from sendwave.store.database import Database
from sendwave.store.tables import METADATA, Instant, campaigns, files, inbox, journal, policies, suppressions

AT_ONCE: Final = 1_000
"""Rows in memory at a time: payloads of batches are tens of kilobytes each."""

_LAST_IDS: Final = "sqlite_sequence"
_KINDS: Final = (
    (Instant, pa.timestamp("us", "UTC")),
    (Date, pa.date32()),
    (Boolean, pa.bool_()),
    (Float, pa.float64()),
    (Integer, pa.int64()),  # BigInteger too
    (LargeBinary, pa.large_binary()),
)


@contextmanager
def snapshot(db: Database) -> Iterator[Connection]:
    """A transaction that sees the store as it is now until it ends, whatever others commit meanwhile."""
    with db.read() as conn:
        if not db.is_sqlite:
            conn.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        yield conn


def dump(conn: Connection, folder: Path) -> dict[str, int]:
    """Write every table of the snapshot to `folder`/TABLE.parquet; returns rows by table. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    return {table.name: _dump(conn, table, folder / f"{table.name}.parquet") for table in METADATA.sorted_tables}


def _dump(conn: Connection, table: Table, path: Path) -> int:
    schema = pa.schema([(column.name, _kind(column)) for column in table.columns])
    told = [_written(conn, column).label(column.name) for column in table.columns]
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as out:
        found = conn.execute(select(*told), execution_options={"yield_per": AT_ONCE})
        for part in found.partitions():
            columns = list(zip(*part, strict=True))
            out.write_table(
                pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
            )
            rows += len(part)
    return rows


def _kind(column: Column[Any]) -> pa.DataType:
    return next((kind for known, kind in _KINDS if isinstance(column.type, known)), pa.string())


def _written(conn: Connection, column: Column[Any]) -> Any:
    """JSON stays the text it is: JSON's null and no document at all are two things."""
    if not isinstance(column.type, JSON):
        return column
    return cast(column, Text) if conn.dialect.name == "postgresql" else type_coerce(column, Text)


def last_ids(conn: Connection) -> dict[str, int]:
    """The highest id each table ever gave out, where rows may have gone since: no id is ever given twice."""
    if conn.dialect.name == "sqlite":
        return {row[0]: int(row[1]) for row in conn.execute(text(f"SELECT name, seq FROM {_LAST_IDS}"))}
    found = {}
    for table, sequence in _sequences(conn):
        row = conn.execute(text(f"SELECT last_value, is_called FROM {sequence}")).one()
        found[table] = int(row[0]) if row[1] else 0
    return found


def _sequences(conn: Connection) -> list[tuple[str, str]]:
    """(table, its sequence) of a PostgreSQL store."""
    named = [table.name for table in METADATA.sorted_tables if "id" in table.c]
    told = [(name, conn.execute(select(func.pg_get_serial_sequence(name, "id"))).scalar()) for name in named]
    return [(name, sequence) for name, sequence in told if sequence is not None]


def expect_empty(conn: Connection) -> None:
    """Raise BadInput unless nothing was ever kept in this store."""
    for table in (campaigns, files, inbox, journal, policies, suppressions):
        if conn.execute(select(table.c[table.primary_key.columns.keys()[0]]).limit(1)).first() is not None:
            raise BadInput(
                f"this store has {table.name} already, and a backup is never restored over anything: "
                "name an empty store in sendwave.yaml, or move the old one away"
            )


def load(conn: Connection, folder: Path, ids: Mapping[str, int], schema: str = migrations.HEAD) -> dict[str, int]:
    """Fill an empty store from what `dump` wrote, and never give out the ids of `last_ids` again; rows by table.

    Rows of an earlier `schema` go into a store of that schema, which is upgraded with them. Nothing is there until the
    transaction commits. Raises BadInput when the store is not empty.
    """
    expect_empty(conn)
    earlier = schema != migrations.HEAD
    if earlier:
        migrations.rebuild(conn, schema)
    found = {}
    for table in _tables_now(conn) if earlier else METADATA.sorted_tables:
        conn.execute(delete(table))  # keys made when the store was opened
        kept = folder / f"{table.name}.parquet"
        if kept.exists():
            found[table.name] = _load(conn, table, kept)
    if earlier:
        migrations.go_on(conn)
    _go_on_from(conn, ids)
    return found


def _tables_now(conn: Connection) -> list[Table]:
    """The tables of an earlier schema as they are in the store; columns known today have today's types."""
    seen = inspect(conn)
    found = []
    for name, _ in seen.get_sorted_table_and_fkc_names():
        if name is None or name == migrations.TABLE:
            continue
        today = {} if name not in METADATA.tables else {one.name: one.type for one in METADATA.tables[name].columns}
        columns = [Column(one["name"], today.get(one["name"], one["type"])) for one in seen.get_columns(name)]
        found.append(Table(name, MetaData(), *columns))
    return found


def _load(conn: Connection, table: Table, path: Path) -> int:
    kept = pq.ParquetFile(path)
    names = [name for name in kept.schema_arrow.names if name in table.c]
    statement = insert(table).values({name: _given(conn, table.c[name]) for name in names})
    rows = 0
    for part in kept.iter_batches(AT_ONCE, columns=names):
        given = [{f"new_{name}": value for name, value in row.items()} for row in part.to_pylist()]
        conn.execute(statement, given)
        rows += len(given)
    return rows


def _given(conn: Connection, column: Column[Any]) -> Any:
    if not isinstance(column.type, JSON):
        return bindparam(f"new_{column.name}", type_=column.type)
    plain = bindparam(f"new_{column.name}", type_=Text())
    return cast(plain, JSON) if conn.dialect.name == "postgresql" else plain


def _go_on_from(conn: Connection, ids: Mapping[str, int]) -> None:
    if conn.dialect.name == "postgresql":
        for table, sequence in _sequences(conn):
            highest = conn.execute(select(func.max(METADATA.tables[table].c.id))).scalar() or 0
            if last := max(highest, ids.get(table, 0)):
                conn.execute(
                    text("SELECT setval(CAST(:sequence AS regclass), :last)"), {"sequence": sequence, "last": last}
                )
        return
    for one in METADATA.sorted_tables:
        if one.dialect_options["sqlite"]["autoincrement"] and ids.get(one.name):
            told = {"name": one.name, "last": ids[one.name]}
            if not conn.execute(
                text(f"UPDATE {_LAST_IDS} SET seq = max(seq, :last) WHERE name = :name"), told
            ).rowcount:
                conn.execute(text(f"INSERT INTO {_LAST_IDS} (name, seq) VALUES (:name, :last)"), told)
