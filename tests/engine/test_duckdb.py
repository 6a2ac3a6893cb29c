"""The embedded engine: what it reads and writes, and that a full disk leaves no partial file."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import column, func, select, table

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import FullDisk, NotFound
from sendwave.rules.columns import CONTACTS, DATASETS

NUMBERS = table("numbers", column("n"))


def test_a_dataset_nobody_imported_is_empty(engine: DuckdbEngine) -> None:
    with engine.session({}) as session:
        for name, dataset in DATASETS.items():
            found = session.read(select(dataset))
            assert (name, found.num_rows, found.column_names) == (name, 0, [c.name for c in dataset.columns])


def test_files_of_different_columns_are_one_dataset(engine: DuckdbEngine, tmp_path: Path) -> None:
    pq.write_table(pa.table({"contact": [1], "attr_a": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"contact": [2], "attr_b": ["y"]}), tmp_path / "2's.parquet")
    with engine.session({"contacts": [tmp_path / "1.parquet", tmp_path / "2's.parquet"]}) as session:
        rows = session.read(select(CONTACTS.c.contact, column("attr_a"), column("attr_b")).select_from(CONTACTS))
    assert sorted(rows.to_pylist(), key=lambda row: row["contact"]) == [
        {"contact": 1, "attr_a": "x", "attr_b": None},
        {"contact": 2, "attr_a": None, "attr_b": "y"},
    ]


def test_a_file_that_is_gone_is_named(engine: DuckdbEngine, tmp_path: Path) -> None:
    with (
        pytest.raises(NotFound, match=r"lost\.parquet is gone"),
        engine.session({"contacts": [tmp_path / "lost.parquet"]}),
    ):
        pass


def test_files_of_an_earlier_version_have_every_declared_column(engine: DuckdbEngine, tmp_path: Path) -> None:
    pq.write_table(pa.table({"contact": [1], "attr_a": ["x"]}), tmp_path / "1.parquet")
    for name, dataset in DATASETS.items():
        with engine.session({name: [tmp_path / "1.parquet"]}) as session:
            (row,) = session.read(select(*(c for c in dataset.columns if c.name != "contact"))).to_pylist()
        assert set(row.values()) == {None}, name


def test_what_is_written_is_read_back(engine: DuckdbEngine, lake: Lake) -> None:
    numbers = {"numbers": pa.table({"n": list(range(1000))})}
    with engine.session({}, numbers) as session:
        written = session.write(select(NUMBERS).where(NUMBERS.c.n >= 10), lake.new("plan", "some"))
        streamed = sum(batch.num_rows for batch in session.stream(select(NUMBERS), batch_rows=100))
    assert (written.rows, streamed) == (990, 1000)
    assert written.bytes == written.path.stat().st_size
    assert pq.read_metadata(written.path).num_rows == 990


def test_a_full_disk_leaves_no_partial_file(engine: DuckdbEngine, lake: Lake) -> None:
    wide = select(NUMBERS.c.n, func.sha256(func.concat(NUMBERS.c.n)))
    destination = lake.new("plan", "some")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with engine.session({}, {"numbers": pa.table({"n": list(range(100_000))})}) as session:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            with pytest.raises(FullDisk, match="full"):
                session.write(wide, destination)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert list(destination.parent.iterdir()) == []
        assert session.write(wide, destination).rows == 100_000
