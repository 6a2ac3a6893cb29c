"""A whole copy of the store and the lake, taken while everything runs, and an empty workspace filled from it.

The store's rows are of one moment; the lake's files never change once they are listed there, so they are copied
afterwards. `manifest.json` is written last and knows the checksum of every file: without it there is no backup.
After a restore every campaign that could send is paused: what left after the backup was taken is not in it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sendwave.engine.base import Written
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput
from sendwave.rules.holds import Kind
from sendwave.rules.lifecycle import Campaign as Status
from sendwave.store import backup as rows
from sendwave.store import campaigns, files, holds, migrations
from sendwave.store.database import Connection, Database

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
RESTORED: Final = "restored"
"""Reason of the pause each campaign is under after a restore."""

_STORE, _LAKE = "store", "lake"
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Backup:
    """What a folder holds: rows by table, and every file with its bytes and sha256 (hex)."""

    taken_at: datetime
    tables: Mapping[str, int]
    files: Mapping[str, tuple[int, str]]
    last_ids: Mapping[str, int] = field(repr=False)
    gone: Sequence[int] = ()  # ids of replaced files that were removed while it was taken
    schema: str = migrations.HEAD  # revision of the store's tables

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())

    def document(self) -> dict[str, Any]:
        """As `sendwave backup --json` prints it."""
        told = {"taken_at": self.taken_at.isoformat(), "rows": sum(self.tables.values()), "bytes": self.size}
        return {**told, "lake_files": sum(name.startswith(f"{_LAKE}/") for name in self.files)}


def take(db: Database, lake: Lake, folder: Path, *, now: datetime) -> Backup:
    """Copy store and lake into a new or empty folder, readable by its owner only: it holds the key of all tokens.

    Raises BadInput when the folder holds something, or a listed file is missing; OSError (a full disk) leaves a
    folder without manifest, which no restore accepts.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty: a backup overwrites nothing, name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with rows.snapshot(db) as conn:
        tables = rows.dump(conn, folder / _STORE)
        ids = rows.last_ids(conn)
        listed = files.present(conn)
    told = {f"{_STORE}/{name}.parquet": _summed(folder / _STORE / f"{name}.parquet") for name in tables}
    gone: list[int] = []
    for file in listed:
        try:
            with lake.reading(file.path) as source:
                told[f"{_LAKE}/{file.path}"] = _copy(source, folder / _LAKE / file.path)
        except FileNotFoundError:
            _expect_removed(db, file)
            gone.append(file.id)
    made = Backup(now, tables, told, ids, gone)
    _write_manifest(folder, made)
    return made


def _expect_removed(db: Database, file: files.LakeFile) -> None:
    with db.read() as conn:
        if file.id in {one.id for one in files.present(conn)}:
            raise BadInput(f"{file.path} is listed but not in the lake: this workspace is damaged, restore a backup")


def _write_manifest(folder: Path, made: Backup) -> None:
    document = {
        "format": FORMAT,
        "schema": made.schema,
        "taken_at": made.taken_at.isoformat(),
        "tables": dict(made.tables),
        "files": {name: {"bytes": size, "sha256": digest} for name, (size, digest) in made.files.items()},
        "last_ids": dict(made.last_ids),
        "gone": list(made.gone),
    }
    unfinished = folder / f"{MANIFEST}.tmp"
    with unfinished.open("w", encoding="utf-8") as out:
        json.dump(document, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    unfinished.rename(folder / MANIFEST)


def check(folder: Path) -> Backup:
    """Read a backup through, every byte of it. Raises BadInput naming everything that is missing or changed."""
    made = _manifest(folder)
    wrong = [name for name, told in made.files.items() if not _is(folder / name, told)]
    if wrong:
        raise BadInput(
            f"{folder} is damaged: {len(wrong)} of {len(made.files)} files are missing or changed; use another backup",
            tuple(wrong),
        )
    return made


def _manifest(folder: Path) -> Backup:
    path = folder / MANIFEST
    if not path.is_file():
        raise BadInput(f"{folder} is no finished backup: it has no {MANIFEST}")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        made = Backup(
            datetime.fromisoformat(told["taken_at"]),
            told["tables"],
            {name: (one["bytes"], one["sha256"]) for name, one in told["files"].items()},
            told["last_ids"],
            told["gone"],
            told["schema"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise BadInput(f"{path} cannot be read: {wrong}; use another backup") from wrong
    if told["format"] != FORMAT or not migrations.known(made.schema):
        raise BadInput(f"{folder} was made by a newer sendwave (schema {made.schema!r}): upgrade, then restore it")
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in made.files):
        raise BadInput(f"{path} names files outside of the backup: it is not one of ours")
    return made


def restore(db: Database, lake: Lake, folder: Path, *, by: str, now: datetime) -> tuple[Backup, list[str]]:
    """Fill an empty store and lake from a backup that was read through first; returns it and the campaigns it paused.

    The store is filled by one transaction after all files are in place: an interrupted restore can be run again.
    What an earlier sendwave took is upgraded with it. Raises BadInput for a damaged backup or one of a newer sendwave,
    a store that is not empty, or a file of the lake it would overwrite.
    """
    made = check(folder)
    with db.read() as conn:
        rows.expect_empty(conn)
    names = [name.removeprefix(f"{_LAKE}/") for name in made.files if name.startswith(f"{_LAKE}/")]
    wanted = lake.missing(names)
    if taken := [name for name in sorted({*names} - {*wanted}) if not _same(lake, name, made)]:
        told = tuple(str(lake.root / name) for name in taken)
        raise BadInput("the lake has other files of the same names, and a restore overwrites nothing", told)
    for name in wanted:
        size, _ = _copy(folder / _LAKE / name, place := lake.root / name)
        lake.share(Written(place, 0, size))
    with db.write() as conn:
        found = rows.load(conn, folder / _STORE, made.last_ids, made.schema)
        if found != dict(made.tables):
            raise BadInput(f"{folder} has other rows than its {MANIFEST} says: use another backup")
        files.removed(conn, made.gone, now)
        return made, _pause(conn, made, by=by, now=now)


def _same(lake: Lake, name: str, made: Backup) -> bool:
    with lake.reading(name) as there:
        return _is(there, made.files[f"{_LAKE}/{name}"])


def _pause(conn: Connection, made: Backup, *, by: str, now: datetime) -> list[str]:
    """Nobody knows what left after the backup was taken: a person looks before anything goes on."""
    detail = f"restored from a backup of {made.taken_at:%Y-%m-%d %H:%M} UTC; what left later is not in it"
    could = campaigns.listing(conn, (Status.APPROVED, Status.SENDING))
    for one in could:
        campaigns.transition(conn, one.id, "pause", by=by, now=now, reason=detail)
        holds.place(conn, kind=Kind.PAUSE, reason=RESTORED, by=by, now=now, campaign_id=one.id, detail=detail)
    return [one.name for one in could]


def _copy(source: Path, place: Path) -> tuple[int, str]:
    """Copy a file durably; its bytes and sha256. Half a copy never has the final name."""
    place.parent.mkdir(parents=True, exist_ok=True)
    digest, size, unfinished = hashlib.sha256(), 0, place.with_name(f".{place.name}.tmp")
    with source.open("rb") as given, unfinished.open("wb") as out:
        while piece := given.read(_PIECE):
            digest.update(piece)
            out.write(piece)
            size += len(piece)
        out.flush()
        os.fsync(out.fileno())
    unfinished.rename(place)
    return size, digest.hexdigest()


def _summed(path: Path) -> tuple[int, str]:
    """Bytes and sha256 of a file that was just written, on disk from here on."""
    with path.open("rb") as given:
        os.fsync(given.fileno())
        return path.stat().st_size, hashlib.file_digest(given, "sha256").hexdigest()


def _is(path: Path, told: tuple[int, str]) -> bool:
    return path.is_file() and path.stat().st_size == told[0] and _summed(path) == told
