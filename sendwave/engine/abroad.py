"""A customer's PostgreSQL as the engine: it computes where the data are, and only the result travels.

Rows come by COPY as CSV, which the server writes and Arrow reads in pieces; nothing is written over there.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import csv
from sqlalchemy import Select

from sendwave.engine.dialects import text_of
from sendwave.errors import BadInput, Busy


def fetch(url: str, statement: Select[Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of a statement run by the PostgreSQL at `url`, as columns of `schema`, in its order.

    Raises:
        BadInput: psycopg is not installed, or the database refuses the statement (a missing table, column or right).
        Busy: the database cannot be reached.

    """
    try:
        import psycopg
    except ImportError:
        raise BadInput("a PostgreSQL engine needs psycopg: install sendwave[postgresql]") from None
    try:
        with psycopg.connect(url, autocommit=False) as connection, connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            text = text_of(statement, "postgresql")
            with cursor.copy(f"COPY ({text}) TO STDOUT (FORMAT csv)".encode()) as rows:
                yield from _read(rows, schema)
    except psycopg.OperationalError as fault:
        raise Busy(f"the engine's database cannot be used right now ({_first_line(fault)}); try again") from fault
    except psycopg.Error as fault:
        raise BadInput(f"the engine's database refuses the statement: {_first_line(fault)}") from fault


def _first_line(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0]


def _read(rows: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    stream = io.BufferedReader(_Chunks(iter(rows)), 1 << 20)
    if not stream.peek(1):  # Arrow takes an empty file for a broken one
        return
    yield from csv.open_csv(
        stream,
        read_options=csv.ReadOptions(column_names=schema.names),
        convert_options=csv.ConvertOptions(
            column_types=schema, strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )


class _Chunks(io.RawIOBase):
    """What COPY sends, piece by piece, as a file."""

    def __init__(self, pieces: Iterator[Any]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(bytes(piece))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
