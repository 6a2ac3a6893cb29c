"""A counter where tests hand files in: they are written, imported, and the lake is read back as plain rows."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow.intake import ImportSummary, import_files
from sendwave.rules.throttle import Lanes, Provider
from sendwave.store import files
from sendwave.store.database import Database

LANES: Final = Lanes(
    providers={
        "google": Provider(label="Gmail", domains=("gmail.com",)),
        "orange": Provider(label="Orange", domains=("orange.fr", "wanadoo.fr")),
        "other": Provider(label="Others"),
    }
)


@dataclass(frozen=True, slots=True)
class Desk:
    """One workspace's imports, at one instant."""

    db: Database
    engine: DuckdbEngine
    lake: Lake
    folder: Path
    now: datetime

    def file(self, name: str, content: str | bytes) -> Path:
        """A file to import."""
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def take(self, kind: str, *contents: str | bytes | Path, name: str | None = None, **options: Any) -> ImportSummary:
        """Import contents (CSV unless `name` says otherwise) or files."""
        paths = [
            content if isinstance(content, Path) else self.file(name or f"{kind}-{place}.csv", content)
            for place, content in enumerate(contents)
        ]
        given: dict[str, Any] = {"lanes": LANES, "now": self.now, "by": "zoe", "rejects_dir": self.folder / "rejects"}
        return import_files(self.db, self.engine, self.lake, kind, paths, **(given | options))

    def rows(self, dataset: str, *columns: str) -> list[Any]:
        """What the dataset holds, in the order of its first columns; single values where one column is asked."""
        with self.db.read() as connection:
            listed = files.live(connection, [dataset])
        found: list[dict[str, Any]] = []
        for path in self.lake.paths(listed)[dataset]:
            found += pq.ParquetFile(path).read().to_pylist()
        picked = [tuple(row.get(column) for column in columns) for row in found]
        ordered = sorted(picked, key=lambda row: tuple((value is None, str(value)) for value in row))
        return [row[0] for row in ordered] if len(columns) == 1 else ordered

    def registered(self) -> dict[str, int]:
        """How many files each dataset has."""
        with self.db.read() as connection:
            listed = files.live(connection, ["contacts", "consents", "ids", "scores", "interactions", "sends"])
        return {dataset: len(found) for dataset, found in listed.items() if found}

    def on_disk(self) -> list[str]:
        """Every file under the lake."""
        return sorted(path.relative_to(self.lake.root).parts[0] for path in self.lake.root.rglob("*") if path.is_file())

    @staticmethod
    def report(summary: ImportSummary) -> list[tuple[str, int, str, str]]:
        """(file, line, outcome, reason) of every row of the report."""
        assert summary.rejects_file is not None
        with summary.rejects_file.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            return [(Path(row["file"]).name, int(row["line"]), row["outcome"], row["reason"]) for row in rows]
