"""A drop folder: files people or other systems put there are imported, and the scores of the day are put out.

    in/       contacts-….csv, consents-….parquet, interactions….jsonl … : the first word says the kind
    working/  what is being imported; after a crash it is imported again, which changes nothing twice
    done/     what landed, its rejected lines beside it as ….rejects.csv
    failed/   what did not, with the reason beside it as ….report.txt
    out/      scores-YYYY-MM-DD.csv or .parquet, complete as soon as it has that name

A file is taken once it has rested for `quiet`, so that a slow upload is not read halfway; names that begin with a dot
or end in .part, .tmp or .filepart never are.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pydantic import Field

from sendwave.crm.base import CrmSettings, Delivery, Outcome, Pushed
from sendwave.errors import Busy
from sendwave.rules.imports import KINDS
from sendwave.rules.units import Duration

_UNFINISHED: Final = (".part", ".tmp", ".filepart", ".crdownload")
_ORDER: Final = ("contacts", "consents", "suppressions", "interactions", "sends", "scores")
"""Contacts first: rows about contacts nobody knows are rejected."""

_SHAPE: Final = pa.schema(
    [
        ("contact_id", pa.string()),
        ("score", pa.float64()),
        ("tier", pa.string()),
        ("label", pa.string()),
        ("scored_at", pa.string()),
        ("grid_version", pa.string()),
    ]
)


class FilesSettings(CrmSettings):
    """Where the folder is, and what its files look like."""

    folder: Path = Field(description="Relative to the workspace.")
    format: Literal["csv", "parquet"] = Field(default="csv", description="Of the files put out.")
    quiet: Duration = Field(default=timedelta(seconds=30), description="How long a file rests before it is taken.")
    map: dict[str, dict[str, str]] = Field(default_factory=dict, description="By kind: column -> field.")


class Adapter:
    """See the module."""

    name: ClassVar[str] = "files"
    Settings: ClassVar[type[CrmSettings]] = FilesSettings
    changes_only: ClassVar[bool] = False

    def __init__(self, settings: FilesSettings, *, home: Path) -> None:
        """Make the folders."""
        self.settings = settings
        self.folder = home / settings.folder
        for name in ("in", "working", "done", "failed", "out"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def pull(self, cursor: str, *, now: datetime) -> Iterator[Delivery]:  # noqa: ARG002  # files carry their own state
        """One delivery per file; a file whose name says no kind goes to failed/ at once."""
        with self._alone():
            for path in self._taken(now):
                kind = _kind(path.name)
                delivery = Delivery(kind or "", (path,), self.settings.map.get(kind or "", {}))
                if kind is None:
                    known = ", ".join(_ORDER)
                    problem = f"the name says no kind of file: begin it with one of {known}"
                    self.settle(delivery, Outcome(problem=problem), now=now)
                else:
                    yield delivery

    def settle(self, delivery: Delivery, outcome: Outcome, *, now: datetime) -> None:
        """Move the file to done/ or failed/, under its name with the instant in front."""
        folder = self.folder / ("failed" if outcome.problem else "done")
        for path in delivery.paths:
            target = _free(folder / f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{path.name}")
            if outcome.problem:
                told = "\n".join([outcome.problem, *outcome.findings, ""])
                target.with_name(f"{target.name}.report.txt").write_text(told, encoding="utf-8")
            elif outcome.report is not None and outcome.report.exists():
                shutil.copyfile(outcome.report, target.with_name(f"{target.name}.rejects.csv"))
            path.rename(target)

    def push(self, rows: Iterable[pa.RecordBatch], *, now: datetime) -> Pushed:
        """All scores into one file named after the UTC day; a second push of a day replaces the first."""
        final = self.folder / "out" / f"scores-{now.astimezone(UTC):%Y-%m-%d}.{self.settings.format}"
        temporary = final.with_name(f".{final.name}.part")
        written = 0
        writers: Mapping[str, Callable[..., Any]] = {"csv": pa_csv.CSVWriter, "parquet": pq.ParquetWriter}
        try:
            with temporary.open("wb") as file:
                with writers[self.settings.format](file, _SHAPE) as out:
                    for batch in rows:
                        out.write_table(_shaped(batch))
                        written += batch.num_rows
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(final)
        finally:
            temporary.unlink(missing_ok=True)
        return Pushed(written)

    def close(self) -> None:
        """Nothing is kept open."""

    def _taken(self, now: datetime) -> list[Path]:
        """Files of in/ that have come to rest, moved to working/, and those a crash left there."""
        working = self.folder / "working"
        for path in sorted((self.folder / "in").iterdir()):
            rested = now - datetime.fromtimestamp(path.stat().st_mtime, UTC) >= self.settings.quiet
            if path.is_file() and rested and not path.name.startswith(".") and path.suffix not in _UNFINISHED:
                path.rename(_free(working / path.name))
        return sorted(working.iterdir(), key=lambda path: (_place(path.name), path.name))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.folder / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"another process is importing from {self.folder} already") from None
            yield


def _kind(name: str) -> str | None:
    word = re.split(r"[^a-z]", name.lower(), maxsplit=1)[0]
    return word if word in KINDS else None


def _place(name: str) -> int:
    kind = _kind(name)
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _free(path: Path) -> Path:
    """The path, or the next one nobody has taken."""
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def _shaped(batch: pa.RecordBatch) -> pa.Table:
    """Our columns, the instant as ISO text in UTC."""
    columns = {name: batch.column(name) for name in _SHAPE.names if name != "scored_at"}
    stamps = [
        None if ts is None else datetime.fromtimestamp(ts, UTC).isoformat(timespec="seconds")
        for ts in batch.column("scored_ts").to_pylist()
    ]
    return pa.table({**columns, "scored_at": pa.array(stamps, pa.string())}).select(_SHAPE.names).cast(_SHAPE)
