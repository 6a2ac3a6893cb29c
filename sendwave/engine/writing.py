"""One Parquet file written piece by piece, for results that never stand whole in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sendwave.engine.base import Written
from sendwave.engine.datasets import publish
from sendwave.engine.duckdb import disk_faults


class TableWriter:
    """Appends tables to one file, which gets its name only when `finish` is called."""

    def __init__(self, destination: Path, schema: pa.Schema, constants: Mapping[str, pa.Scalar] | None = None) -> None:
        """`constants` are columns of `schema` that have one value throughout; tables bring the others."""
        self.destination = destination
        self._constants = {name: _once(value) for name, value in (constants or {}).items()}
        kinds = {name: value.type for name, value in self._constants.items()}
        self.schema = pa.schema([(field.name, kinds.get(field.name, field.type)) for field in schema])
        self._temporary = destination.with_name(f".{destination.name}.part")
        self._writer: Any = None
        self.rows = 0

    def write(self, tables: Iterable[pa.Table | pa.RecordBatch]) -> None:
        """Append. Raises FullDisk."""
        with disk_faults():
            if self._writer is None:
                self._writer = pq.ParquetWriter(
                    self._temporary,
                    self.schema,
                    compression="zstd",
                    compression_level=1,
                    use_dictionary=[name for name in self.schema.names if name != "contact"],
                    column_encoding={"contact": "DELTA_BINARY_PACKED"} if "contact" in self.schema.names else None,
                    store_schema=False,  # a text kept once is a text for every reader
                )
            for table in tables:
                whole = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
                self._writer.write_table(self._filled(whole))
                self.rows += table.num_rows

    def _filled(self, table: pa.Table) -> pa.Table:
        for name, value in self._constants.items():
            table = table.append_column(name, pa.repeat(value, len(table)))
        return table.select(self.schema.names).cast(self.schema)

    def finish(self) -> Written:
        """Close, sync and rename. Raises FullDisk."""
        self.write(())
        with disk_faults():
            self._writer.close()
            publish(self._temporary, self.destination)
        return Written(self.destination, self.rows, self.destination.stat().st_size)

    def abandon(self) -> None:
        """Remove what was written so far; harmless after `finish`."""
        if self._writer is not None:
            self._writer.close()
        self._temporary.unlink(missing_ok=True)


@contextmanager
def writing(
    destination: Path, schema: pa.Schema, constants: Mapping[str, pa.Scalar] | None = None
) -> Iterator[TableWriter]:
    """A writer that leaves no half-written file behind when the block raises."""
    writer = TableWriter(destination, schema, constants)
    try:
        yield writer
    except BaseException:
        writer.abandon()
        raise


def _once(value: pa.Scalar) -> pa.Scalar:
    """A text is kept once, with an index per row: 64 bytes for each of ten million rows would be the whole file."""
    if not pa.types.is_string(value.type) or not value.is_valid:
        return value
    return pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array([value.as_py()], pa.string()))[0]
