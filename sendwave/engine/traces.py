"""Traces by position: contact numbers are dense, so a matrix of contacts by slots takes the place of a hash table.

One pass over the clean log costs less than grouping it: no hash, no key is kept twice, four bytes a cell. Instants are
unsigned 32-bit epoch seconds (up to 2106; 0 is never), as are counts. A large base goes in blocks of contacts, so that
memory stays below `ROOM` whatever its size. Kept traces are one Arrow file that is mapped, not read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sendwave.engine.base import Written
from sendwave.engine.datasets import publish
from sendwave.engine.duckdb import disk_faults
from sendwave.rules.acts import slots
from sendwave.rules.grid import Grid
from sendwave.rules.traces import edges, sign_up_edges, traced, windows

ROOM: Final = 1 << 30
"""Bytes that the traces of one block of contacts may take."""
AHEAD: Final = 3
"""Files read while another is being counted."""
_LATEST: Final = (1 << 32) - 1
_FOREVER: Final = 1 << 40  # seconds: acts of any age count
_BESIDE: Final = 40  # bytes a contact costs beside its row: number, sign-up, former and new score, positions
Numbers = NDArray[np.int64]
Marks = NDArray[np.uint32]


class Acts(NamedTuple):
    """Rows of the clean log as columns."""

    contact: Numbers
    ts: Numbers
    slot: NDArray[np.int32]

    def where(self, chosen: NDArray[np.bool_]) -> Acts:
        """Those chosen."""
        return self if chosen.all() else Acts(self.contact[chosen], self.ts[chosen], self.slot[chosen])


@dataclass(frozen=True)
class Layout:
    """Where a slot's last instant and its count stand in a row; -1 for nowhere. Arrays are indexed by slot number."""

    lasts: tuple[str, ...]
    counts: tuple[str, ...]
    last_column: NDArray[np.int64]
    count_column: NDArray[np.int64]
    window: Numbers  # seconds
    edges: dict[int, frozenset[int]]  # age in seconds -> slots
    signed: frozenset[int]

    @classmethod
    def of(cls, grid: Grid) -> Self:
        """The layout of a grid's traces."""
        lasts, counts = traced(grid)
        columns = {name: place for place, name in enumerate((*lasts, *counts))}
        numbered = slots(grid)
        last, count = (np.full(len(numbered) + 1, -1, np.int64) for _ in range(2))
        window = np.full(len(numbered) + 1, _FOREVER, np.int64)
        by_age: dict[int, set[int]] = {}
        for slot in numbered:
            last[slot.number] = columns.get(slot.last, -1)
            count[slot.number] = columns.get(slot.count, -1)
            window[slot.number] = windows(grid).get(slot.number, _FOREVER)
            for age in edges(grid)[slot.number] | {0}:  # at 0 an act that lay in the future begins to count
                by_age.setdefault(age, set()).add(slot.number)
        ages = {age: frozenset(found) for age, found in by_age.items()}
        return cls(lasts, counts, last, count, window, ages, sign_up_edges(grid) | {0})

    @property
    def windows(self) -> list[int]:
        """Lengths (seconds) of the windows that acts leave."""
        return sorted({int(window) for window in self.window[self.count_column >= 0]} - {_FOREVER})

    @property
    def width(self) -> int:
        """Cells of a row."""
        return len(self.lasts) + len(self.counts)

    def blocks(self, last: int) -> list[tuple[int, int]]:
        """First and last contact of every block, up to the contact numbered `last`."""
        size = max(1, ROOM // (4 * self.width + _BESIDE))
        return [(first, min(first + size - 1, last)) for first in range(0, last + 1, size)]


def read_days(paths: Iterable[Path], block: tuple[int, int]) -> Iterator[Acts]:
    """The clean log's files one after the other, of the contacts of a block; the next are read meanwhile."""
    waiting = iter(paths)
    with ThreadPoolExecutor(AHEAD) as readers:
        reading = deque(readers.submit(_read, path, block) for path in islice(waiting, AHEAD))
        while reading:
            acts = reading.popleft().result()
            reading.extend(readers.submit(_read, path, block) for path in islice(waiting, 1))
            if acts is not None:
                yield acts


def _read(path: Path, block: tuple[int, int]) -> Acts | None:
    """A file's acts of the contacts of a block; row groups of others are not read."""
    with pq.ParquetFile(path, memory_map=True) as file:
        chosen = [n for n in range(file.num_row_groups) if _touches(file.metadata.row_group(n).column(0), block)]
        if not chosen:
            return None
        table = file.read_row_groups(chosen, columns=["contact", "ts", "slot"], use_threads=False)
    acts = Acts(*(table.column(name).to_numpy() for name in ("contact", "ts", "slot")))
    return acts.where((acts.contact >= block[0]) & (acts.contact <= block[1]))


def _touches(column: Any, block: tuple[int, int]) -> bool:
    known = column.statistics
    return known is None or not known.has_min_max or (known.min <= block[1] and known.max >= block[0])


class Traces:
    """Traces of some contacts: `contacts` sorted, `signed_up` and a row of `marks` for each."""

    def __init__(self, layout: Layout, contacts: Numbers, signed_up: Marks, marks: Marks | None = None) -> None:
        self.layout, self.contacts, self.signed_up = layout, contacts, signed_up
        self.marks: Marks = np.zeros((len(contacts), layout.width), np.uint32) if marks is None else marks

    def __len__(self) -> int:
        return len(self.contacts)

    def add(self, days: Iterable[Acts], as_of: int) -> None:
        """Acts that happened up to `as_of` (epoch seconds); counts take those inside their window."""
        for acts in days:
            self._mark(acts.where((acts.ts <= as_of) & (acts.ts > 0)), as_of)

    def _mark(self, acts: Acts, as_of: int) -> None:
        if not len(acts.ts):
            return
        cells, layout = self.marks.reshape(-1), self.layout
        row = rows_of(self.contacts, acts.contact)
        last = np.take(layout.last_column, acts.slot)
        place, chosen = _places(row, last, layout.width)
        instant = acts.ts.astype(np.uint32)
        np.maximum.at(cells, place, instant if chosen is None else instant[chosen])
        if layout.counts:
            count = np.take(layout.count_column, acts.slot)
            count = np.where(acts.ts > as_of - np.take(layout.window, acts.slot), count, -1)
            np.add.at(cells, _places(row, count, layout.width)[0], np.uint32(1))

    def expire(self, days: Iterable[Acts], window: int, before: int, as_of: int, until: int) -> None:
        """Take away the acts earlier than `until` that left a window of that length between `before` and `as_of`."""
        cells, width = self.marks.reshape(-1), self.layout.width
        for acts in days:
            row, column = rows_of(self.contacts, acts.contact), self.layout.count_column[acts.slot]
            left = (acts.ts > before - window) & (acts.ts <= as_of - window) & (acts.ts < until)
            chosen = (row >= 0) & (column >= 0) & (self.layout.window[acts.slot] == window) & left
            np.subtract.at(cells, row[chosen] * width + column[chosen], np.uint32(1))

    def of(self, contacts: Numbers, signed_up: Marks) -> Traces:
        """A copy for these contacts alone, in their order; those who are not here have no trace yet."""
        row = rows_of(self.contacts, contacts)
        marks = np.zeros((len(contacts), self.layout.width), np.uint32)
        known = row >= 0
        marks[known] = self.marks[row[known]]
        return Traces(self.layout, contacts, signed_up, marks)

    def tables(self, rows: int = 1_000_000, together: int = 65_536) -> Iterator[pa.Table]:
        """The columns of `rules.traces.base_table` (0 for NULL), some rows at a time, in chunks threads may share."""
        for start in range(0, len(self), rows):
            end = min(start + rows, len(self))
            chunks = (slice(at, min(at + together, end)) for at in range(start, end, together))
            yield pa.Table.from_batches([self._batch(chunk) for chunk in chunks])

    def _batch(self, part: slice) -> pa.RecordBatch:
        columns = {"contact": pa.array(self.contacts[part]), "signed_up_ts": pa.array(self.signed_up[part])}
        for place, name in enumerate((*self.layout.lasts, *self.layout.counts)):
            columns[name] = pa.array(np.ascontiguousarray(self.marks[part, place]))
        return pa.RecordBatch.from_pydict(columns)

    def save(self, destination: Path) -> Written:
        """As an Arrow file, under its final name once it is whole. Raises FullDisk."""
        temporary = destination.with_name(f".{destination.name}.part")
        marks = pa.FixedSizeListArray.from_arrays(pa.array(self.marks.reshape(-1)), self.layout.width)
        table = pa.table({"contact": pa.array(self.contacts), "signed_up": pa.array(self.signed_up), "marks": marks})
        try:
            with disk_faults():
                with pa.ipc.new_file(pa.OSFile(str(temporary), "wb"), table.schema) as writer:
                    writer.write_table(table)
                publish(temporary, destination)
        finally:
            temporary.unlink(missing_ok=True)
        return Written(destination, len(self), destination.stat().st_size)

    @classmethod
    def empty(cls, layout: Layout) -> Self:
        """Traces of nobody."""
        return cls(layout, np.zeros(0, np.int64), np.zeros(0, np.uint32))

    @classmethod
    def load(cls, layout: Layout, path: Path) -> Self:
        """Saved traces, mapped: what is not looked at is not read. They cannot be changed; `of` copies."""
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
        marks = _flat(table.column("marks")).reshape(-1, layout.width)
        return cls(layout, table.column("contact").to_numpy(), table.column("signed_up").to_numpy(), marks)


def _places(row: Numbers, column: Numbers, width: int) -> tuple[Numbers, NDArray[np.bool_] | None]:
    """Cells by row and column, without those that have none; and which remain, None for all of them."""
    if row.min() >= 0 and column.min() >= 0:  # by far the most frequent, and no copy
        return row * width + column, None
    chosen = (row >= 0) & (column >= 0)
    return row[chosen] * width + column[chosen], chosen


def _flat(column: pa.ChunkedArray) -> Marks:
    cells: Marks = column.chunk(0).flatten().to_numpy() if column.num_chunks else np.zeros(0, np.uint32)
    return cells


def instants(column: pa.ChunkedArray) -> Marks:
    """Epoch seconds of a nullable column, 0 where unknown or out of range."""
    values = column.fill_null(0).to_numpy()
    fair: Marks = np.where((values > 0) & (values <= _LATEST), values, 0).astype(np.uint32)
    return fair


def between_instants(cells: Marks, after: int, until: int) -> NDArray[np.bool_]:
    """Which known instants are later than `after` and not later than `until`."""
    low, high = (min(max(bound, 0), _LATEST) for bound in (after, until))
    return (cells > np.uint32(low)) & (cells <= np.uint32(high))


def read_scores(path: Path) -> NDArray[np.float64]:
    """The scores of a file, in its order."""
    found: NDArray[np.float64] = pq.read_table(path, columns=["score"], memory_map=True).column(0).to_numpy()
    return found


def crossing(layout: Layout, days: Iterable[Acts], age: int, before: int, as_of: int) -> Iterator[Numbers]:
    """Contacts of acts that came to that age between two instants, where it makes them bring something else."""
    for acts in days:
        come = (acts.ts > before - age) & (acts.ts <= as_of - age)
        yield acts.contact[come & np.isin(acts.slot, list(layout.edges[age]))]


def rows_of(contacts: Numbers, asked: Numbers) -> Numbers:
    """The place of each asked contact among `contacts` (sorted), -1 for one that is not among them."""
    if not len(contacts):
        return np.full(len(asked), -1, np.int64)
    first = int(contacts[0])
    if int(contacts[-1]) - first + 1 == len(contacts):  # no number is left out
        found = asked - first
        if len(found) and found.min() >= 0 and found.max() < len(contacts):
            return found
        return np.where((found >= 0) & (found < len(contacts)), found, -1)
    found = np.searchsorted(contacts, asked)
    return np.where(contacts[np.minimum(found, len(contacts) - 1)] == asked, found, -1)
