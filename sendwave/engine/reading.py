"""Files as people export them, read by DuckDB: CSV, Parquet and JSON lines become rows of text with their line.

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

from sendwave.errors import BadInput, NotFound
from sendwave.rules.addresses import BLANKS

DELIMITERS: Final = ",;\t|"
"""What separates columns, the likeliest first: most exports of French tools use the semicolon."""

_HEAD: Final = 1 << 18  # bytes looked at to find the heading
_REASONS: Final = {
    "INVALID ENCODING": "broken_utf8",
    "MISSING COLUMNS": "too_few_columns",
    "TOO MANY COLUMNS": "too_many_columns",
    "UNQUOTED VALUE": "broken_quotes",
    "LINE SIZE OVER MAXIMUM": "line_too_long",
}
_IS_OBJECT: Final = "coalesce(CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' END, false)"


@dataclass(frozen=True, slots=True)
class Source:
    """A file and its heading. `number` is its place among the files of the import."""

    number: int
    path: Path
    format: str  # csv | parquet | json
    columns: tuple[str, ...]
    delimiter: str = ","

    @property
    def first_line(self) -> int:
        """The line of the first row when nothing spans lines; for Parquet, row 1."""
        return 2 if self.format == "csv" else 1


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


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: object) -> str:
    """An SQL string."""
    return "'" + str(text).replace("'", "''") + "'"


def look(connection: duckdb.DuckDBPyConnection, path: Path, number: int) -> Source:
    """The format and heading of a file. Raises NotFound and BadInput (empty, not UTF-8, two columns of one name)."""
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    if path.suffix.lower() in (".parquet", ".pq"):
        columns = _described(connection, f"read_parquet({literal(path)})", path)
        return Source(number, path, "parquet", columns)
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return Source(number, path, "json", _json_keys(connection, path))
    columns, delimiter = _heading(path)
    return Source(number, path, "csv", columns, delimiter)


def _described(connection: duckdb.DuckDBPyConnection, relation: str, path: Path) -> tuple[str, ...]:
    try:
        return tuple(row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall())
    except duckdb.Error as fault:
        raise BadInput(f"{path} cannot be read: {str(fault).splitlines()[0]}") from fault


def _heading(path: Path) -> tuple[tuple[str, ...], str]:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInput(f"{path} is UTF-16: export it as CSV UTF-8")
    first = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0]
    try:
        text = first.decode().rstrip("\r")
    except UnicodeDecodeError:
        raise BadInput(f"{path}:1: the heading is not UTF-8 (Windows-1252?): export it as CSV UTF-8") from None
    delimiter = max(DELIMITERS, key=text.count)
    columns = tuple(name.strip(BLANKS) for name in next(csv.reader([text], delimiter=delimiter), []))
    if not any(columns):
        raise BadInput(f"{path} is empty: its first line should name its columns")
    if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
        raise BadInput(f"{path}:1: two columns have the same name: {', '.join(twice)}")
    return columns, delimiter


def _text_lines(path: Path) -> str:
    """Every line as one value: no byte can be its delimiter or quote in a file of text."""
    return (
        f"read_csv({literal(path)}, auto_detect = false, header = false, delim = '\x01', quote = '', escape = '', "
        "columns = {'line': 'VARCHAR'}, max_line_size = 16000000, store_rejects = true, rejects_limit = 0)"
    )


def _json_keys(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[str, ...]:
    _forget_rejects(connection)
    rows = connection.execute(
        f"SELECT DISTINCT unnest(json_keys(CASE WHEN {_IS_OBJECT} THEN line END)) FROM {_text_lines(path)} ORDER BY 1"
    ).fetchall()
    if not rows:
        raise BadInput(f"{path} has no line that is a JSON object: JSON lines need one object a line")
    return tuple(row[0] for row in rows)


def stage(connection: duckdb.DuckDBPyConnection, source: Source, targets: Mapping[str, str], scratch: Path) -> Staged:
    """Read one file; `targets` (column -> name) says which columns are kept. Raises BadInput when it cannot be read."""
    if source.format == "parquet":
        return _stage_parquet(connection, source, targets)
    kept = scratch / f"read-{source.number}.parquet"
    relation, values = _rows_of(source, targets)
    _forget_rejects(connection)
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
    starts = _lines_at(source.path, {int(position) - 1: _REASONS.get(kind, "unreadable") for position, kind in errors})
    lines, refused = _locate(source, count, starts)
    query = (
        f"SELECT {source.number} AS f, file_row_number AS n, * EXCLUDE (file_row_number) "
        f"FROM read_parquet({literal(kept)}, file_row_number = true)"
    )
    return Staged(source, frozenset(targets.values()), query, count, refused, lines)


def _rows_of(source: Source, targets: Mapping[str, str]) -> tuple[str, str]:
    """The relation that reads a text file, and the values taken from it."""
    if source.format == "json":
        shape = "{" + ", ".join(f'"{_escaped(column)}": "VARCHAR"' for column in targets) + "}"
        values = [f"value_of(item[{literal(column)}]) AS {quoted(target)}" for column, target in targets.items()]
        inner = (
            f"(SELECT line IS NOT NULL AND NOT {_IS_OBJECT} AS broken, "
            f"CASE WHEN {_IS_OBJECT} THEN from_json(line, {literal(shape)}) END AS item "
            f"FROM {_text_lines(source.path)})"
        )
        return inner, ", ".join([*values, "broken AS __broken", "item IS NULL AS __blank"])
    names = [f"c{place}" for place in range(len(source.columns))]
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    relation = (
        f"read_csv({literal(source.path)}, auto_detect = false, header = true, delim = {literal(source.delimiter)}, "
        f"quote = '\"', escape = '\"', columns = {{{columns}}}, store_rejects = true, rejects_limit = 0)"
    )
    place = dict(zip(source.columns, names, strict=True))
    return relation, ", ".join(f"value_of({place[column]}) AS {quoted(target)}" for column, target in targets.items())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _forget_rejects(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")


def _stage_parquet(connection: duckdb.DuckDBPyConnection, source: Source, targets: Mapping[str, str]) -> Staged:
    values = ", ".join(
        f"value_of(CAST({quoted(column)} AS VARCHAR)) AS {quoted(name)}" for column, name in targets.items()
    )
    relation = f"read_parquet({literal(source.path)}, file_row_number = true)"
    query = f"SELECT {source.number} AS f, file_row_number AS n, {values} FROM {relation}"
    row = connection.execute(f"SELECT count(*) FROM read_parquet({literal(source.path)})").fetchone()
    return Staged(source, frozenset(targets.values()), query, int(row[0]) if row else 0, (), Lines([(0, 1)]))


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
    with source.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        physical = _newlines(content, 0, len(content)) + (content[-1:] != b"\n")
    expected = rows + source.first_line - 1
    lines = Lines([(0, source.first_line)])
    refused: list[Refused] = []
    if not starts and (source.format == "json" or physical == expected):
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
    if source.format == "json":
        with source.path.open("rb") as lines:
            yield from ((line, line) for line, _ in enumerate(lines, 1))
        return
    csv.field_size_limit(1 << 30)
    with source.path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=source.delimiter)
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
    with staged.source.path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        at = 1
        for line in sorted(set(wanted)):
            last = staged.lines.spans.get(line, line)
            text = "".join(islice(file, line - at, last - at + 1))
            at = last + 1
            yield line, text.rstrip("\r\n")


def columns_of(sources: Sequence[Source]) -> tuple[str, ...]:
    """The headings of all files, each once."""
    return tuple(dict.fromkeys(column for source in sources for column in source.columns))
