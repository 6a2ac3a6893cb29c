"""The lake's registry: a Parquet file is part of the truth from the commit that lists it here, and only then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, exists, func, insert, select, update

from sendwave.errors import Busy
from sendwave.rules.lifecycle import FINAL
from sendwave.store.tables import campaigns, files, freezes

JOINED: Final = "joined"
"""Among a file's details: the ids of those whose rows it holds now, and nothing else."""

_IMPORTS: Final = 0x53454E4457415645
"""Key of the advisory lock (PostgreSQL): the letters SENDWAVE."""

_LIVE: Final = (
    select(files)
    .where(files.c.dataset.in_(bindparam("datasets", expanding=True)), files.c.retired_at.is_(None))
    .order_by(files.c.id)
)
_LIVE_PART: Final = _LIVE.where(files.c.part == bindparam("of_part"))
_REGISTER: Final = insert(files).returning(files.c.id)
_NUMBERED: Final = select(files).where(files.c.id == bindparam("file"))

_OVER: Final = tuple(status.value for status in FINAL)
_LOOK_UP: Final = 500


@dataclass(frozen=True, slots=True)
class LakeFile:
    """One registered file; `path` is relative to the lake's root."""

    id: int
    dataset: str
    part: str
    path: str
    rows: int
    bytes: int
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
    row = {"dataset": dataset, "path": path, "part": part, "rows": rows, "bytes": size}
    told = {"details": dict(details or {}), "registered_at": now}
    return int(connection.execute(_REGISTER, {**row, **told}).scalar_one())


def retire(connection: Connection, ids: Iterable[int], now: datetime) -> None:
    """Take files out of the truth; they stay on disk until the janitor removes them."""
    connection.execute(
        update(files).where(files.c.id.in_(list(ids)), files.c.retired_at.is_(None)).values(retired_at=now)
    )


def live(connection: Connection, datasets: Sequence[str], part: str | None = None) -> dict[str, list[LakeFile]]:
    """The files that make up each dataset now, oldest first; a dataset without files maps to an empty list."""
    found: dict[str, list[LakeFile]] = {dataset: [] for dataset in datasets}
    asked, told = (_LIVE, {}) if part is None else (_LIVE_PART, {"of_part": part})
    for row in connection.execute(asked, {**told, "datasets": list(datasets)}):
        found[row.dataset].append(_lake_file(row))
    return found


def retired(connection: Connection, dataset: str, part: str = "") -> list[LakeFile]:
    """Files that newer ones replaced and the janitor did not remove, newest first."""
    of_it = (files.c.dataset == dataset, files.c.part == part)
    statement = select(files).where(*of_it, files.c.retired_at.is_not(None), files.c.removed_at.is_(None))
    return [_lake_file(row) for row in connection.execute(statement.order_by(files.c.id.desc()))]


def removable(connection: Connection, before: datetime) -> list[LakeFile]:
    """Files replaced before that instant which nobody needs: no running campaign was planned with them, and no batch
    names its people by them.
    """
    pinned: set[int] = set()
    for row in connection.execute(
        select(campaigns.c.plan_pins, campaigns.c.plan_file).where(~campaigns.c.status.in_(_OVER))
    ):
        pinned.update(*(row.plan_pins or {}).values(), *([[row.plan_file]] if row.plan_file else []))
    statement = select(files).where(
        files.c.retired_at < before, files.c.removed_at.is_(None), ~exists().where(freezes.c.file_id == files.c.id)
    )
    return [_lake_file(row) for row in connection.execute(statement.order_by(files.c.id)) if row.id not in pinned]


def present(connection: Connection) -> list[LakeFile]:
    """Files that are on disk, also those newer ones replaced."""
    statement = select(files).where(files.c.removed_at.is_(None)).order_by(files.c.id)
    return [_lake_file(row) for row in connection.execute(statement)]


def removed(connection: Connection, ids: Sequence[int], now: datetime) -> None:
    """These files are no longer on disk."""
    for start in range(0, len(ids), _LOOK_UP):
        chunk = ids[start : start + _LOOK_UP]
        connection.execute(update(files).where(files.c.id.in_(chunk)).values(removed_at=now))


def listed(connection: Connection, paths: Sequence[str]) -> set[str]:
    """Those of these paths that are, or were, part of the truth."""
    found: set[str] = set()
    for start in range(0, len(paths), _LOOK_UP):
        chosen = files.c.path.in_(paths[start : start + _LOOK_UP])
        found.update(connection.execute(select(files.c.path).where(chosen)).scalars())
    return found


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
    row = connection.execute(_NUMBERED, {"file": file_id}).one_or_none()
    return None if row is None else _lake_file(row)


def _lake_file(row: Any) -> LakeFile:
    return LakeFile(row.id, row.dataset, row.part, row.path, row.rows, row.bytes, row.details, row.registered_at)
