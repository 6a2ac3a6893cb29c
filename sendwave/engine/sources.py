"""What kind of file somebody exported: its format, its columns, what separates them, and how its bytes spell text."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from sendwave.errors import BadInput, NotFound
from sendwave.rules.addresses import BLANKS
from sendwave.rules.layout import SPACES, Layout

DELIMITERS: Final = ",;\t|"
"""What separates columns, the likeliest first: most exports of French tools use the semicolon."""

_HEAD: Final = 1 << 18  # bytes looked at to find the heading
IS_OBJECT: Final = "coalesce(CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' END, false)"
"""SQL: whether a line is a JSON object."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file and its heading. `number` is its place among the files of the import.

    `content` is what is read: the file itself, or its copy in UTF-8. Of `words` any run of blanks is a delimiter.
    """

    number: int
    path: Path
    format: str  # csv | words | parquet | json
    columns: tuple[str, ...]
    content: Path
    delimiter: str = ","
    first_row: tuple[str, ...] = ()  # where no heading names the columns

    @property
    def heading(self) -> bool:
        """Whether the first line names the columns."""
        return not self.first_row

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns, and what they hold where their names say nothing."""
        if self.heading:
            return self.columns
        return tuple(f"{name} ({cell})" for name, cell in zip(self.columns, self.first_row, strict=True))

    @property
    def first_line(self) -> int:
        """The line of the first row when nothing spans lines; for Parquet, row 1."""
        return 2 if self.heading and self.format in ("csv", "words") else 1


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: object) -> str:
    """An SQL string."""
    return "'" + str(text).replace("'", "''") + "'"


def look(
    connection: duckdb.DuckDBPyConnection, path: Path, number: int, scratch: Path, layout: Layout | None = None
) -> Source:
    """The format and heading of a file; a copy in UTF-8 goes to `scratch` where it is written otherwise.

    Raises NotFound, and BadInput (empty, not in the encoding, two columns of one name).
    """
    layout = layout or Layout()
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    if path.suffix.lower() in (".parquet", ".pq"):
        columns = _described(connection, f"read_parquet({literal(path)})", path)
        return Source(number, path, "parquet", columns, path)
    content = _as_utf8(path, layout, scratch / f"utf8-{number}")
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return Source(number, path, "json", _json_keys(connection, path, content), content)
    cells, delimiter = _first_line(path, content, layout.delimiter)
    shape = "words" if delimiter == SPACES else "csv"
    if not layout.heading:
        columns = tuple(str(place) for place in range(1, len(cells) + 1))
        return Source(number, path, shape, columns, content, delimiter, cells)
    if twice := sorted({name for name in cells if name and cells.count(name) > 1}):
        hint = "; where it names none, say --no-header" if any(name[:1].isdigit() for name in twice) else ""
        raise BadInput(f"{path}:1: two columns have the same name: {', '.join(twice)}{hint}")
    return Source(number, path, shape, cells, content, delimiter)


def _as_utf8(path: Path, layout: Layout, copy: Path) -> Path:
    """The file, or a copy of it in UTF-8, line by line. UTF-16 is known by its byte order mark.

    Files of words are always copied, with one kind of line end: DuckDB does not read mixed ones line by line.
    """
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PK\x03\x04":
        raise BadInput(f"{path} is an Excel workbook or a zip archive: save the sheet as CSV UTF-8, or unpack it")
    words, encoding = layout.delimiter == SPACES, layout.encoding
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    if encoding == "utf-8" and not words:
        return path
    line, broken = 0, "surrogateescape" if encoding == "utf-8" else "strict"  # broken UTF-8 is one row's fault
    with (
        path.open(encoding=encoding, errors=broken, newline=None if words else "") as text,
        copy.open("w", encoding="utf-8", errors=broken, newline="") as out,
    ):
        try:
            for chunk in text:
                out.write(chunk)
                line += 1
        except UnicodeError as fault:
            raise BadInput(f"{path}:{line + 1}: not {encoding}: {fault}. Say what it is: --encoding NAME") from fault
    return copy


def _described(connection: duckdb.DuckDBPyConnection, relation: str, path: Path) -> tuple[str, ...]:
    try:
        return tuple(row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall())
    except duckdb.Error as fault:
        raise BadInput(f"{path} cannot be read: {str(fault).splitlines()[0]}") from fault


def _first_line(path: Path, content: Path, delimiter: str | None) -> tuple[tuple[str, ...], str]:
    """The cells of the first line, and what separates them."""
    with content.open("rb") as file:
        head = file.read(_HEAD)
    first = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0]
    try:
        text = first.decode().rstrip("\r")
    except UnicodeDecodeError:
        raise BadInput(
            f"{path}:1: not UTF-8. As Excel on Windows writes it: --encoding windows-1252; or export it as CSV UTF-8"
        ) from None
    delimiter = delimiter or max(DELIMITERS, key=text.count)
    split = text.split() if delimiter == SPACES else next(csv.reader([text], delimiter=delimiter), [])
    cells = tuple(name.strip(BLANKS) for name in split)
    if not any(cells):
        raise BadInput(f"{path} is empty: its first line should name its columns")
    return cells, delimiter


def text_lines(path: Path, *, heading: bool = False) -> str:
    """Every line, less the heading, as one value: no byte can be its delimiter or quote in a file of text."""
    header = str(heading).lower()
    return (
        f"read_csv({literal(path)}, auto_detect = false, header = {header}, delim = '\x01', quote = '', escape = '', "
        "columns = {'line': 'VARCHAR'}, max_line_size = 16000000, store_rejects = true, rejects_limit = 0)"
    )


def _json_keys(connection: duckdb.DuckDBPyConnection, path: Path, content: Path) -> tuple[str, ...]:
    forget_rejects(connection)
    keys = f"unnest(json_keys(CASE WHEN {IS_OBJECT} THEN line END))"
    rows = connection.execute(f"SELECT DISTINCT {keys} FROM {text_lines(content)} ORDER BY 1").fetchall()
    if not rows:
        raise BadInput(f"{path} has no line that is a JSON object: JSON lines need one object a line")
    return tuple(row[0] for row in rows)


def forget_rejects(connection: duckdb.DuckDBPyConnection) -> None:
    """Make room for the errors of the next file."""
    connection.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
