"""Reading CSV: DuckDB's rows, and the line each of them stands on."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendwave.engine.landing import _macros
from sendwave.engine.reading import Staged, pick, stage
from sendwave.engine.sources import look
from sendwave.rules.layout import Layout

CELLS = st.text(st.sampled_from('ab ",;\né1'), max_size=6)
ROWS = st.lists(st.tuples(CELLS, CELLS), max_size=12)


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    opened = duckdb.connect(config={"threads": 2})
    opened.execute(_macros("UTC", Layout()))
    return opened


def read(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[Staged, dict[int, tuple[str, str]]]:
    """The staged file, and its rows by line."""
    source = look(connection, path, 0, path.parent)
    staged = stage(connection, source, {name: name for name in source.columns if name}, path.parent)
    rows = connection.execute(f"SELECT * FROM ({staged.query}) ORDER BY n").fetchall()
    placed = {}
    for _, row, *values in rows:
        shift = [shift for start, shift in staged.lines.shifts if start <= row][-1]
        placed[row + shift] = tuple(values)
    return staged, placed


@settings(max_examples=60)
@given(rows=ROWS, blanks=st.lists(st.integers(0, 11), max_size=3), ending=st.sampled_from(["\n", "\r\n"]))
def test_every_row_is_on_its_line(
    connection: duckdb.DuckDBPyConnection, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]],
    blanks: list[int], ending: str,
) -> None:  # fmt: skip
    text, expected, raw = "a,b" + ending, {}, {}
    for place, cells in enumerate(rows):
        text += ending * blanks.count(place)
        line = text.count("\n") + 1
        record = io.StringIO()
        csv.writer(record, lineterminator=ending, quoting=csv.QUOTE_ALL).writerow(cells)
        text += record.getvalue()
        expected[line] = tuple(cell.strip(" \n") or None for cell in cells)
        raw[line] = record.getvalue().removesuffix(ending)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_text(text, encoding="utf-8", newline="")
    staged, placed = read(connection, path)
    assert placed == expected
    assert dict(pick(staged, raw)) == raw


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_seen_in_the_heading(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, delimiter: str
) -> None:
    (tmp_path / "a.csv").write_text(delimiter.join("ab") + "\n" + delimiter.join("12") + "\n")
    assert read(connection, tmp_path / "a.csv")[1] == {2: ("1", "2")}


def test_a_file_of_one_column_may_have_empty_lines(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("email\na@free.fr\n\nb@free.fr\n")
    assert {k: v for k, v in read(connection, tmp_path / "a.csv")[1].items() if v != (None,)} == {
        2: ("a@free.fr",), 4: ("b@free.fr",)
    }  # fmt: skip


def test_lines_are_right_in_a_file_of_many_blocks(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """Larger than DuckDB's buffer, so that several threads read it: records that span lines, are refused or empty."""
    text, good, bad = ["a,b,c\n"], {}, {}
    line = 2
    for place in range(20_000):
        if place % 1000 == 7:
            text.append(f'{place},"one\ntwo\n{"x" * 400}",c\n')
            good[line], line = str(place), line + 3
        elif place % 1000 == 9:
            text.append(f"{place},b\n")
            bad[line], line = "too_few_columns", line + 1
        elif place % 1000 == 11:
            text.append(f'\n{place},"b"b,c\n')
            bad[line + 1], line = "broken_quotes", line + 2
        else:
            text.append(f"{place},{'y' * 2000},c\n")
            good[line], line = str(place), line + 1
    (tmp_path / "a.csv").write_text("".join(text))
    staged, placed = read(connection, tmp_path / "a.csv")
    assert {line: row[0] for line, row in placed.items()} == good
    assert {one.line: one.reason for one in staged.refused} == bad
