"""The lake's registry: a Parquet file is part of the truth from the commit that lists it here, and only then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select, update

from sendwave.errors import Busy
from sendwave.store.tables import files

_IMPORTS: Final = 0x53454E4457415645
"""Key of the advisory lock (PostgreSQL): the letters SENDWAVE."""


@dataclass(frozen=True, slots=True)
class LakeFile:
    """One registered file; `path` is relative to the lake's root."""

    id: int
    dataset: str
    part: str
    path: str
    rows: int
    details: Mapping[str, Any]
    registered_at: datetime


def register(
    connection: Connection,
    *,
    dataset: str,
    path: str,
    rows: int,
    size: int,
    now: datetime,
    part: str = "",
    details: Mapping[str, Any] | None = None,
) -> int:
    """List a file that is already in place under its final name; returns its id."""
    statement = insert(files).values(
        dataset=dataset, path=path, part=part, rows=rows, bytes=size, details=dict(details or {}), registered_at=now
    )
    return int(connection.execute(statement.returning(files.c.id)).scalar_one())


def retire(connection: Connection, ids: Iterable[int], now: datetime) -> None:
    """Take files out of the truth; they stay on disk until the janitor removes them."""
    connection.execute(
        update(files).where(files.c.id.in_(list(ids)), files.c.retired_at.is_(None)).values(retired_at=now)
    )


def live(connection: Connection, datasets: Sequence[str], part: str | None = None) -> dict[str, list[LakeFile]]:
    """The files that make up each dataset now, oldest first; a dataset without files maps to an empty list."""
    found: dict[str, list[LakeFile]] = {dataset: [] for dataset in datasets}
    statement = (
        select(files).where(files.c.dataset.in_(list(datasets)), files.c.retired_at.is_(None)).order_by(files.c.id)
    )
    if part is not None:
        statement = statement.where(files.c.part == part)
    for row in connection.execute(statement):
        found[row.dataset].append(_lake_file(row))
    return found


def retired(connection: Connection, dataset: str, part: str = "") -> list[LakeFile]:
    """Files that newer ones replaced, newest first; the janitor may have removed them from disk."""
    statement = select(files).where(files.c.dataset == dataset, files.c.part == part, files.c.retired_at.is_not(None))
    return [_lake_file(row) for row in connection.execute(statement.order_by(files.c.id.desc()))]


def claim(connection: Connection) -> None:
    """Let one import at a time change the registry, until the transaction ends. SQLite's writers queue anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_IMPORTS)))


def expect(seen: Iterable[LakeFile], found: Iterable[LakeFile], dataset: str) -> None:
    """Raise Busy unless a dataset still is what a computation read."""
    if [file.id for file in seen] != [file.id for file in found]:
        raise Busy(f"another import changed the {dataset} meanwhile, and nothing of this one landed: run it again")


def get(connection: Connection, file_id: int) -> LakeFile | None:
    """One file by id, retired or not."""
    row = connection.execute(select(files).where(files.c.id == file_id)).one_or_none()
    return None if row is None else _lake_file(row)


def _lake_file(row: Any) -> LakeFile:
    return LakeFile(row.id, row.dataset, row.part, row.path, row.rows, row.details, row.registered_at)
