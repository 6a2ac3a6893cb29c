"""A report as rows for other tools: CSV and Parquet, the same columns in both, one row per tier and group."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

_NESTED: Final = ("rates", "lift")


def rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Flat rows: what they are `by`, their `key`, figures, `rate_…` and `lift_…` with their ends."""
    parts = [("tier", "tier", document["tiers"]), (document["by"], "group", document["groups"])]
    parts.append(("total", "tier", [document["total"]]))
    found = [dict(_row(by, key, row)) for by, key, every in parts for row in every]
    names = dict.fromkeys(name for row in found for name in row)
    return [{name: row.get(name) for name in names} for row in found]


def _row(by: str, key: str, row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "by", by
    yield "key", row[key]
    yield from ((name, value) for name, value in row.items() if name not in (*_NESTED, key))
    for name, known in row["rates"].items():
        yield from ((f"rate_{name}{'' if end == 'value' else '_' + end}", value) for end, value in known.items())
    for arm, lifts in row["lift"].items():
        for measure, lift in lifts.items():
            yield from ((f"lift_{arm}_{measure}_{end}", value) for end, value in lift.items())


def write_csv(document: Mapping[str, Any], path: Path) -> None:
    """UTF-8, comma between columns, an empty cell for what nobody knows."""
    found = rows(document)
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(found[0]))
        writer.writeheader()
        writer.writerows(found)


def write_parquet(document: Mapping[str, Any], path: Path) -> None:
    """Numbers as numbers; counts are 64-bit integers."""
    pq.write_table(pa.Table.from_pylist(rows(document)), path)
