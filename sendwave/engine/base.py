"""What a set engine promises: run one SQLAlchemy Core select over named files and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from sqlalchemy import Select


@dataclass(frozen=True, slots=True)
class Written:
    """A Parquet file that was written whole and renamed into place; not yet registered in the store."""

    path: Path
    rows: int
    bytes: int


class Session(Protocol):
    """One set of registered inputs; statements name them as tables."""

    def read(self, statement: Select[Any]) -> pa.Table:
        """The result as Arrow columns."""
        ...

    def stream(self, statement: Select[Any], batch_rows: int = 100_000) -> Iterator[pa.RecordBatch]:
        """The result in pieces, never whole in memory."""
        ...

    def write(self, statement: Select[Any], destination: Path) -> Written:
        """The result as one Parquet file (zstd): written to a temporary name, synced, renamed. Raises FullDisk."""
        ...


class Engine(Protocol):
    """Where sets are computed."""

    def session(
        self, files: Mapping[str, Sequence[Path]], tables: Mapping[str, pa.Table] | None = None
    ) -> AbstractContextManager[Session]:
        """Open a session over Parquet files per dataset and over Arrow tables in memory.

        A dataset of `rules.columns` without files is an empty table of its declared columns, so that a statement never
        needs to know what has been imported. `contacts` keeps its further `attr_*` columns.
        """
        ...
