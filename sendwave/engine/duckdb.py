"""The embedded engine: DuckDB over Parquet files, imported by the first session: 20 MB an idle daemon does without.

Statements are compiled with SQLAlchemy's PostgreSQL dialect, whose SQL DuckDB reads, instead of the unkept DuckDB
dialect; a conformance test holds every rule to equal results on both databases.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from sqlalchemy import Boolean, Double, Integer, Select, String
from sqlalchemy.dialects import postgresql

from sendwave.engine.base import Session, Written
from sendwave.engine.datasets import NO_ROOM, column_names, publish
from sendwave.errors import FullDisk, NotFound
from sendwave.rules.columns import DATASETS

if TYPE_CHECKING:
    import duckdb

_DIALECT: Final = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


def compile_statement(statement: Select[Any]) -> tuple[str, list[Any]]:
    """SQL text with $1, $2 … and its parameters in that order."""
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    names: Sequence[str] = compiled.positiontup or ()
    return str(compiled), [compiled.params[name] for name in names]


@dataclass(frozen=True)
class DuckdbEngine:
    """DuckDB in this process. `memory_limit` is DuckDB's text (`2GB`); beyond it sets spill to `spill`.

    One instance serves all sessions, each on a cursor with temporary views of its own: starting an instance takes
    34 ms of CPU, a cursor 0.01 ms, and the daemon opens several sessions a second. `hold` has files of a lake that is
    elsewhere here while a session is open (`Lake.hold`).
    """

    threads: int = 2
    memory_limit: str = "2GB"
    spill: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    hold: Callable[[Iterable[Path]], AbstractContextManager[None]] | None = field(default=None, repr=False)
    _starting: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @contextmanager
    def session(
        self, files: Mapping[str, Sequence[Path]], tables: Mapping[str, pa.Table] | None = None
    ) -> Iterator[Session]:
        """See `engine.base.Engine.session`. Threads may have a session each at once."""
        with self._starting:
            connection = self._shared.cursor()
        try:
            with self._held(files):
                yield _opened(connection, files, tables or {})
        finally:
            connection.close()

    @contextmanager
    def workshop(self, files: Mapping[str, Sequence[Path]]) -> Iterator[DuckdbSession]:
        """A session on an instance of its own, for work that makes tables and macros on the way."""
        with self._start() as connection, self._held(files):
            yield _opened(connection, files, {})

    def _held(self, files: Mapping[str, Sequence[Path]]) -> AbstractContextManager[None]:
        return nullcontext() if self.hold is None else self.hold([path for paths in files.values() for path in paths])

    def close(self) -> None:
        """End the shared instance, if one was started."""
        shared = self.__dict__.pop("_shared", None)
        if shared is not None:
            shared.close()

    @cached_property
    def _shared(self) -> duckdb.DuckDBPyConnection:
        return self._start()

    def _start(self) -> duckdb.DuckDBPyConnection:
        """An instance in which every dataset exists, empty."""
        import duckdb

        config: dict[str, str | int] = {"threads": self.threads, "memory_limit": self.memory_limit, **self.settings}
        if self.spill is not None:
            config["temp_directory"] = str(self.spill)
        connection = duckdb.connect(config=config)  # type: ignore[arg-type]  # the stub wants dict[str, str]
        connection.execute("SET GLOBAL preserve_insertion_order = false")
        for name, dataset in DATASETS.items():
            columns = ", ".join(f'CAST(NULL AS {_type(c.type)}) AS "{c.name}"' for c in dataset.columns)
            connection.execute(f'CREATE VIEW "{name}" AS SELECT {columns} WHERE false')
        return connection


def _opened(
    connection: duckdb.DuckDBPyConnection, files: Mapping[str, Sequence[Path]], tables: Mapping[str, pa.Table]
) -> DuckdbSession:
    """The inputs as temporary views, which go before the empty datasets of the same names."""
    for name, table in tables.items():
        connection.register(name, table)
    for name, paths in files.items():
        if paths and name not in tables:
            listing = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
            try:
                columns = ", ".join(("*", *_missing(name, paths)))
                source = f"SELECT {columns} FROM read_parquet([{listing}], union_by_name = true)"
                connection.execute(f'CREATE TEMP VIEW "{name}" AS {source}')
            except Exception as fault:
                if gone := [path for path in paths if not path.exists()]:
                    raise NotFound(f"{gone[0]} is gone from the lake: `sendwave doctor` says what to do") from fault
                raise
    return DuckdbSession(connection)


def _missing(name: str, paths: Sequence[Path]) -> list[str]:
    """The declared columns that files of an earlier version do not have, as NULL."""
    if name not in DATASETS:
        return []
    known = frozenset[str]().union(*(column_names(path) for path in paths))
    return [f'CAST(NULL AS {_type(c.type)}) AS "{c.name}"' for c in DATASETS[name].c if c.name not in known]


def _type(kind: Any) -> str:
    if isinstance(kind, Boolean):
        return "BOOLEAN"
    if isinstance(kind, String):
        return "VARCHAR"
    if isinstance(kind, Double):
        return "DOUBLE"
    return "INTEGER" if type(kind) is Integer else "BIGINT"


@dataclass(frozen=True, slots=True)
class DuckdbSession:
    """Statements over the registered inputs. `connection` is DuckDB's own, for this package only."""

    connection: duckdb.DuckDBPyConnection

    def read(self, statement: Select[Any]) -> pa.Table:
        """The result as Arrow columns."""
        text, parameters = compile_statement(statement)
        with disk_faults():
            return self.connection.sql(text, params=parameters).to_arrow_table()

    def stream(self, statement: Select[Any], batch_rows: int = 100_000) -> Iterator[pa.RecordBatch]:
        """The result in pieces, never whole in memory."""
        text, parameters = compile_statement(statement)
        with disk_faults():
            yield from self.connection.sql(text, params=parameters).to_arrow_reader(batch_rows)

    def write(self, statement: Select[Any], destination: Path) -> Written:
        """The result as one Parquet file. Raises FullDisk and leaves nothing behind when the disk is full."""
        text, parameters = compile_statement(statement)
        return self.write_text(text, parameters, destination)

    def write_text(
        self, text: str, parameters: Sequence[Any], destination: Path, *, row_group: int = 122_880
    ) -> Written:
        """Like `write`, for SQL this package wrote itself."""
        temporary = destination.with_name(f".{destination.name}.part")
        target = str(temporary).replace("'", "''")
        try:
            with disk_faults():
                rows = self.connection.execute(
                    f"COPY ({text}) TO '{target}' "
                    f"(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {row_group})",
                    list(parameters),
                ).fetchone()
                publish(temporary, destination)
        finally:
            temporary.unlink(missing_ok=True)
        return Written(destination, int(rows[0]) if rows else 0, destination.stat().st_size)


@contextmanager
def disk_faults() -> Iterator[None]:
    """Raise FullDisk where the disk, the quota or the largest file allowed is full."""
    try:
        yield
    except Exception as fault:
        import duckdb

        if not isinstance(fault, duckdb.IOException | duckdb.OutOfMemoryException | OSError):
            raise
        text = str(fault)
        if getattr(fault, "errno", None) in NO_ROOM or any(os.strerror(code) in text for code in NO_ROOM):
            raise FullDisk(
                "the disk that holds the lake is full; nothing was written, free some room and retry"
            ) from fault
        raise
