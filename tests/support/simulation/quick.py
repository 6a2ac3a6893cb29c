"""The engine of the daemon, for thousands of questions about a dozen people: what is asked again is not read again.

DuckDB runs the same statements over the same files. Left out is what a big result needs and a small one pays for:
SQLAlchemy compiles a statement once for all histories, DuckDB parses it once, and a result is copied on its way to
Arrow where the daemon has the statement bound twice instead.
"""

from __future__ import annotations

import atexit
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
from sqlalchemy import Select
from sqlalchemy.sql.compiler import SQLCompiler

from sendwave.engine.base import Engine, Session, Written
from sendwave.engine.duckdb import _DIALECT, DuckdbEngine, DuckdbSession, compile_statement, disk_faults

_COMPILED: Final[dict[Any, SQLCompiler]] = {}
_PARSED: Final[dict[str, Any]] = {}
atexit.register(_PARSED.clear)  # before DuckDB goes, which says so of every statement that outlives it


def compiled(statement: Select[Any]) -> tuple[str, list[Any]]:
    """What `compile_statement` makes of it."""
    key = statement._generate_cache_key()
    if key is None:
        return compile_statement(statement)
    found = _COMPILED.get(key.key)
    if found is None:
        made = statement.compile(dialect=_DIALECT, cache_key=key)
        assert isinstance(made, SQLCompiler)
        found = _COMPILED[key.key] = made
    given = found.construct_params(extracted_parameters=key.bindparams, escape_names=False, _no_postcompile=True)
    state = found.construct_expanded_state(given)
    return state.statement, list(state.positional_parameters)


@dataclass(frozen=True, slots=True)
class QuickSession(DuckdbSession):
    """Statements parsed once."""

    def read(self, statement: Select[Any]) -> pa.Table:
        text, parameters = compiled(statement)
        if text not in _PARSED:
            (_PARSED[text],) = self.connection.extract_statements(text)
        with disk_faults(), warnings.catch_warnings(action="ignore"):  # of the copy
            return self.connection.execute(_PARSED[text], parameters).to_arrow_table()

    def stream(self, statement: Select[Any], batch_rows: int = 100_000) -> Iterator[pa.RecordBatch]:
        yield from self.read(statement).to_batches(max_chunksize=batch_rows)

    def write(self, statement: Select[Any], destination: Path) -> Written:
        text, parameters = compiled(statement)
        return self.write_text(text, parameters, destination)


class Kept:
    """An engine whose session stays open while the same inputs are asked, until the block ends."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._open = engine, ExitStack()
        self._inputs: tuple[object, ...] = ()
        self._session: Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @contextmanager
    def session(
        self, files: Mapping[str, Sequence[Path]], tables: Mapping[str, pa.Table] | None = None
    ) -> Iterator[Session]:
        """The one that is open, when it was opened over these very objects."""
        inputs: tuple[object, ...] = (files, tables)
        if self._session is None or any(new is not old for new, old in zip(inputs, self._inputs, strict=True)):
            self._open.close()
            self._session, self._inputs = self._open.enter_context(self._engine.session(files, tables)), inputs
        yield self._session


@dataclass(frozen=True)
class QuickEngine(DuckdbEngine):
    """Sessions as above, on the daemon's own."""

    @contextmanager
    def session(
        self, files: Mapping[str, Sequence[Path]], tables: Mapping[str, pa.Table] | None = None
    ) -> Iterator[QuickSession]:
        with super().session(files, tables) as session:
            yield QuickSession(session.connection)
