"""Daily figures of providers taken in: Google Postmaster Tools, Signal Spam and the like, from CSV or JSON lines.

A few rows a day, so they go straight to the store. The same file twice changes nothing; a corrected figure replaces the
one before; a bad row is reported with its file and line, and the rest lands unless `strict`.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sendwave.errors import BadInput
from sendwave.rules import daily_figures, imports
from sendwave.rules.daily_figures import Telling
from sendwave.rules.throttle import Lanes
from sendwave.store import aggregates, journal
from sendwave.store.database import Database

KIND: Final = "signals"

_Row = tuple[int, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Summary:
    """What an import of daily figures did, in rows."""

    landed: int
    new: int
    changed: int
    rejects: Mapping[str, int]
    rejects_file: str | None = None
    days: Sequence[str] = field(default=())

    def document(self) -> dict[str, Any]:
        """Plain JSON values; keys are those of every import."""
        same = self.landed - self.new - self.changed
        counts = {"new": self.new, "changed": self.changed, "known already": same}
        return {
            "landed": self.landed,
            "rejected": sum(self.rejects.values()),
            "counts": {name: n for name, n in counts.items() if n},
            "rejects": dict(self.rejects),
            "rejects_file": self.rejects_file,
            "notes": {},
            "days": list(self.days),
        }


def import_files(
    db: Database,
    paths: Sequence[Path],
    *,
    lanes: Lanes,
    mapping: Mapping[str, str],
    constants: Mapping[str, str],
    strict: bool,
    rejects_dir: Path,
    now: datetime,
    by: str,
) -> Summary:
    """Read the files and keep what they tell. Raises BadInput for a file nobody can read, or a bad row if `strict`."""
    imports.check_constants(imports.kind_of(KIND), constants)
    good: dict[tuple[Any, ...], Telling] = {}
    bad: list[tuple[str, int, str]] = []
    landed = 0
    files = [(path, *_read(path)) for path in paths]
    imports.check_mapping(mapping, [name for _, columns, _ in files for name in columns])
    for path, columns, rows in files:
        fills = imports.match_headings(imports.kind_of(KIND), columns, mapping, str(path), constants)
        for line, row in rows:
            told = {target: row.get(column, "") for column, target in fills.items()} | dict(constants)
            try:
                one = daily_figures.read(told, lanes, now.date())
            except ValueError as wrong:
                bad.append((str(path), line, str(wrong)))
                continue
            landed += 1
            good[one.source, one.signal, one.provider, one.sender, one.route, one.ip, one.day] = one
    if bad and (strict or not good):
        raise BadInput("nothing was imported", tuple(f"{path}:{line}: {why}" for path, line, why in bad[:20]))
    with db.write() as conn:
        new, changed = aggregates.keep(conn, list(good.values()), by=by, now=now)
        days = sorted({one.day.isoformat() for one in good.values()})
        evidence = {"landed": landed, "new": new, "changed": changed, "rejected": len(bad), "days": days}
        journal.write(conn, at=now, actor=by, action="import.signals", evidence=evidence)
    rejects = _write(bad, rejects_dir, now)
    return Summary(landed, new, changed, Counter(why for _, _, why in bad), rejects, days)


def _read(path: Path) -> tuple[list[str], list[_Row]]:
    """(columns, rows with their lines) of a file. Raises BadInput when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as wrong:
        raise BadInput(f"{path} cannot be read: {wrong}; save it as UTF-8 text, CSV or JSON lines") from wrong
    if not text.strip():
        raise BadInput(f"{path} is empty: a header and one row per day are needed")
    rows = list(_json_rows(path, text) if text.lstrip()[0] in "{[" else _csv_rows(text))
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    return columns, rows


def _csv_rows(text: str) -> Iterator[_Row]:
    head = text.splitlines()[0]
    delimiter = max(";,\t|", key=head.count)
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    for row in reader:
        yield reader.line_num, {name: value or "" for name, value in row.items() if name and isinstance(value, str)}


def _json_rows(path: Path, text: str) -> Iterator[_Row]:
    for line, piece in enumerate(text.splitlines(), 1):
        if not piece.strip():
            continue
        try:
            row = json.loads(piece)
        except json.JSONDecodeError as wrong:
            raise BadInput(f"{path}:{line}: not JSON, one object a line is needed: {wrong.msg}") from wrong
        if not isinstance(row, dict):
            raise BadInput(f"{path}:{line}: one JSON object a line is needed, not {type(row).__name__}")
        yield line, {str(name): "" if value is None else str(value) for name, value in row.items()}


def _write(bad: Sequence[tuple[str, int, str]], folder: Path, now: datetime) -> str | None:
    """The rejected rows, with file, line and reason; None where there are none."""
    if not bad:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"signals-{now:%Y%m%dT%H%M%S}.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("file", "line", "reason"), *bad])
    return str(path)
