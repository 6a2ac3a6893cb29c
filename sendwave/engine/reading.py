"""Files as people export them, read by DuckDB: CSV, words, Parquet and JSON lines become rows of text with their line.

DuckDB parses in parallel and keeps going after a bad record, but counts records where people count lines. Every file
is therefore copied once, in its order, to a scratch Parquet file; the n-th row is on line n + 2 (after the heading)
unless a value spans lines, a line is empty or a record was refused, and only then is the file walked again, by
Python's csv module, to learn where its records start.
"""

from __future__ import annotations

import csv
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import duckdb

from sendwave.engine.sources import IS_OBJECT, Source, forget_rejects, literal, quoted, text_lines
from sendwave.errors import BadInput
from sendwave.rules.imports import find_column
from sendwave.rules.layout import Skip

_REASONS: Final = {
    "INVALID ENCODING": "broken_utf8",
    "MISSING COLUMNS": "too_few_columns",
    "TOO MANY COLUMNS": "too_many_columns",
    "UNQUOTED VALUE": "broken_quotes",
    "LINE SIZE OVER MAXIMUM": "line_too_long",
}
_WORDS: Final = "string_split_regex(trim(line, '\t '), '[\t ]+')"


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that could not be read at all: its first and last line, and why."""

    line: int
    last: int
    reason: str


@dataclass(slots=True)
class Lines:
    """Where the rows of one file are. `shifts` are (row, line - row) from that row on, rows counted from 0."""

    shifts: list[tuple[int, int]]
    spans: dict[int, int] = field(default_factory=dict)  # first line -> last line, where a record has several


@dataclass(frozen=True, slots=True)
class Staged:
    """A file as rows of clean text (NULL: nothing). `query` gives f (file), n (row from 0) and what headings fill."""

    source: Source
    targets: frozenset[str]
    query: str
    rows: int
    refused: tuple[Refused, ...]
    lines: Lines


def stage(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    targets: Mapping[str, str],
    scratch: Path,
    skip: Sequence[Skip] = (),
) -> Staged:
    """Read one file; `targets` (column -> name) says which columns are kept. Raises BadInput when it cannot be read.

    Rows of `skip` have `__skip`.
    """
    if source.format == "parquet":
        return _stage_parquet(connection, source, targets, skip)
    kept = scratch / f"read-{source.number}.parquet"
    relation, values = _rows_of(source, targets, skip)
    forget_rejects(connection)
    connection.execute("SET preserve_insertion_order = true")
    try:
        rows = connection.execute(
            f"COPY (SELECT {values} FROM {relation}) TO {literal(kept)} (FORMAT parquet)"
        ).fetchone()
        errors = connection.execute(
            "SELECT line_byte_position, min(error_type) FROM reject_errors GROUP BY 1"
        ).fetchall()
    except duckdb.InvalidInputException as fault:
        raise BadInput(f"{source.path} cannot be read: {str(fault).splitlines()[0]}") from fault
    finally:
        connection.execute("SET preserve_insertion_order = false")
    count = int(rows[0]) if rows else 0
    starts = _lines_at(
        source.content, {int(position) - 1: _REASONS.get(kind, "unreadable") for position, kind in errors}
    )
    lines, refused = _locate(source, count, starts)
    query = (
        f"SELECT {source.number} AS f, file_row_number AS n, * EXCLUDE (file_row_number) "
        f"FROM read_parquet({literal(kept)}, file_row_number = true)"
    )
    return Staged(source, frozenset(targets.values()), query, count, refused, lines)


def _rows_of(source: Source, targets: Mapping[str, str], skip: Sequence[Skip]) -> tuple[str, str]:
    """The relation that reads a text file, and the values taken from it."""
    if source.format == "json":
        relation, places, state = _json_rows(source, {*targets, *(one.column for one in _known(source, skip))})
    elif source.format == "words":
        relation, places, state = _word_rows(source)
    else:
        relation, places, state = _csv_rows(source)
    values = [f"value_of({places[column]}) AS {quoted(target)}" for column, target in targets.items()]
    return relation, ", ".join([*values, *state, *_left_out(source, places, skip)])


_Rows = tuple[str, Mapping[str, str], tuple[str, ...]]
"""A relation, the SQL of every column, and further values: why a line is broken, whether it is no row."""


def _csv_rows(source: Source) -> _Rows:
    names = [f"c{place}" for place in range(len(source.columns))]
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    relation = (
        f"read_csv({literal(source.content)}, auto_detect = false, header = {str(source.heading).lower()}, "
        f"delim = {literal(source.delimiter)}, quote = '\"', escape = '\"', columns = {{{columns}}}, "
        "store_rejects = true, rejects_limit = 0)"
    )
    return relation, dict(zip(source.columns, names, strict=True)), ()


def _word_rows(source: Source) -> _Rows:
    wide = len(source.columns)
    relation = (
        f"(SELECT {_WORDS} AS words, value_of(line) IS NULL AS blank FROM "
        f"{text_lines(source.content, heading=source.heading)})"
    )
    broken = (
        f"CASE WHEN blank OR len(words) = {wide} THEN NULL "
        f"WHEN len(words) < {wide} THEN 'too_few_columns' ELSE 'too_many_columns' END"
    )
    places = {column: f"words[{place}]" for place, column in enumerate(source.columns, 1)}
    return relation, places, (f"{broken} AS __broken", f"blank OR len(words) <> {wide} AS __blank")


def _json_rows(source: Source, columns: Iterable[str]) -> _Rows:
    shape = "{" + ", ".join(f'"{_escaped(column)}": "VARCHAR"' for column in sorted(columns)) + "}"
    relation = (
        f"(SELECT line IS NOT NULL AND NOT {IS_OBJECT} AS broken, "
        f"CASE WHEN {IS_OBJECT} THEN from_json(line, {literal(shape)}) END AS item "
        f"FROM {text_lines(source.content)})"
    )
    places = {column: f"item[{literal(column)}]" for column in columns}
    return relation, places, ("CASE WHEN broken THEN 'broken_json' END AS __broken", "item IS NULL AS __blank")


def _known(source: Source, skip: Sequence[Skip]) -> list[Skip]:
    """What this file has of it, columns as it spells them."""
    found = [(find_column(source.columns, one.column), one.pattern) for one in skip]
    return [Skip(column, pattern) for column, pattern in found if column is not None]


def _left_out(source: Source, places: Mapping[str, str], skip: Sequence[Skip]) -> list[str]:
    """SQL: whether a row is one to leave out."""
    tests = [
        f"coalesce(lower(value_of({places[column]})) GLOB {literal(pattern.lower().replace('[', '[[]'))}, false)"
        if pattern
        else f"value_of({places[column]}) IS NULL"
        for column, pattern in ((one.column, one.pattern) for one in _known(source, skip))
    ]
    return [f"{' OR '.join(tests)} AS __skip"] if tests else []


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _stage_parquet(
    connection: duckdb.DuckDBPyConnection, source: Source, targets: Mapping[str, str], skip: Sequence[Skip]
) -> Staged:
    relation = f"read_parquet({literal(source.path)}, file_row_number = true)"
    kinds = dict(
        connection.execute(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {relation})").fetchall()
    )
    places = {column: _as_text(quoted(column), kinds[column]) for column in source.columns}
    values = [f"value_of({places[column]}) AS {quoted(name)}" for column, name in targets.items()]
    taken = ", ".join([*values, *_left_out(source, places, skip)])
    query = f"SELECT {source.number} AS f, file_row_number AS n, {taken} FROM {relation}"
    row = connection.execute(f"SELECT count(*) FROM read_parquet({literal(source.path)})").fetchone()
    return Staged(source, frozenset(targets.values()), query, int(row[0]) if row else 0, (), Lines([(0, 1)]))


def _as_text(column: str, kind: str) -> str:
    """SQL: a value of Parquet as text. A whole number is written as one, also where a tool kept it as a fraction."""
    text = f"CAST({column} AS VARCHAR)"
    if kind not in ("DOUBLE", "FLOAT"):
        return text
    whole = f"{column} = floor({column}) AND abs({column}) < 9007199254740992"
    return f"CASE WHEN {whole} THEN CAST(CAST({column} AS BIGINT) AS VARCHAR) ELSE {text} END"


def _lines_at(path: Path, starts: Mapping[int, str]) -> dict[int, str]:
    """Line -> reason, from byte offset -> reason; empty lines before a record are not its start."""
    found: dict[int, str] = {}
    if not starts:
        return found
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        line, seen = 1, 0
        for offset in sorted(starts):
            start = offset
            while content[start : start + 1] in (b"\n", b"\r"):
                start += 1
            line += _newlines(content, seen, start)
            seen = start
            found[line] = starts[offset]
    return found


def _newlines(content: mmap.mmap, start: int, end: int, block: int = 1 << 24) -> int:
    return sum(content[at : min(at + block, end)].count(b"\n") for at in range(start, end, block))


def _locate(source: Source, rows: int, starts: Mapping[int, str]) -> tuple[Lines, tuple[Refused, ...]]:
    """The line of every row, and the extent of every refused record."""
    with source.content.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        physical = _newlines(content, 0, len(content)) + (content[-1:] != b"\n")
    expected = rows + source.first_line - 1
    lines = Lines([(0, source.first_line)])
    refused: list[Refused] = []
    if not starts and (source.format in ("json", "words") or physical == expected):
        return lines, ()
    row, shift = 0, source.first_line
    for first, last in _records(source):
        if last > first:
            lines.spans[first] = last
        if first in starts:
            refused.append(Refused(first, last, starts[first]))
            continue
        if first - row != shift:
            shift = first - row
            lines.shifts.append((row, shift))
        row += 1
    return lines, tuple(refused)


def _records(source: Source) -> Iterator[tuple[int, int]]:
    """First and last line of every record after the heading; empty lines are none, except in a file of one column."""
    if source.format in ("json", "words"):
        with source.content.open("rb") as lines:
            yield from ((line, line) for line, _ in enumerate(lines, 1) if line >= source.first_line)
        return
    csv.field_size_limit(1 << 30)
    with source.content.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=source.delimiter)
        if source.heading:
            next(reader, None)
        last = reader.line_num
        for values in reader:
            first, last = last + 1, reader.line_num
            if values or len(source.columns) == 1:
                yield first, last


def pick(staged: Staged, wanted: Iterable[int]) -> Iterator[tuple[int, str]]:
    """(line, text) of the records that start at these lines, in order, as they stand in the file."""
    if staged.source.format == "parquet":
        return
    with staged.source.content.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        at = 1
        for line in sorted(set(wanted)):
            last = staged.lines.spans.get(line, line)
            text = "".join(islice(file, line - at, last - at + 1))
            at = last + 1
            yield line, text.rstrip("\r\n")


def columns_of(sources: Sequence[Source]) -> tuple[str, ...]:
    """The headings of all files, each once."""
    return tuple(dict.fromkeys(column for source in sources for column in source.columns))
