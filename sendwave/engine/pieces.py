"""One Parquet file from several statements, each about some of the contacts: memory does not grow with the base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from sendwave.engine.base import Written
from sendwave.engine.datasets import publish
from sendwave.engine.duckdb import disk_faults

PIECE: Final = 1_000_000
"""Numbers of contacts in a piece."""


def pieces(last: int) -> list[tuple[int, int]]:
    """First and last contact of every piece, up to the contact numbered `last`; the first also takes what is below."""
    ends = [(k * PIECE, (k + 1) * PIECE - 1) for k in range(max(last, 0) // PIECE + 1)]
    return [(-(1 << 62), ends[0][1]), *ends[1:]]


class PieceWriter:
    """Writes batches of one schema to one file, under its final name only when `finish` is called."""

    def __init__(self, destination: Path, schema: pa.Schema, constants: Mapping[str, pa.Scalar] | None = None) -> None:
        """`constants` are columns of `schema` that have one value throughout, in its order after the batches' own."""
        self.destination = destination
        self.schema = schema
        self._constants = dict(constants or {})
        self._temporary = destination.with_name(f".{destination.name}.part")
        self._writer: Any = None
        self.rows = 0

    def write(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Append. Raises FullDisk."""
        with disk_faults():
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._temporary, self.schema, compression="zstd", compression_level=1)
            for batch in batches:
                self._writer.write_table(self._filled(pa.Table.from_batches([batch])))
                self.rows += batch.num_rows

    def _filled(self, batch: pa.Table) -> pa.Table:
        for name, value in self._constants.items():
            batch = batch.append_column(name, _repeated(value, len(batch)))
        return batch.select(self.schema.names).cast(self.schema)

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


def _repeated(value: pa.Scalar, rows: int) -> pa.Array:
    """A text is kept once, with an index per row: 64 bytes for each of ten million rows would be the whole file."""
    if not pa.types.is_string(value.type):
        return pa.repeat(value, rows)
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int8()), rows), pa.array([value.as_py()]))
