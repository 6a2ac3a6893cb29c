"""The payload of a batch: its people as one Arrow IPC stream, compressed with lz4, in one row of the store.

Its lasting twin are the wave's `sends` rows; both are made here, so that batch and position mean the same person.

Measured against a row per recipient: five times faster to store, a third of the disk, and settling a batch touches
one row. lz4 costs a third of zstd's processor time, which was half of a freeze, and the row is gone once its people
are settled. Columns: contact, contact_id, address, address_hash, tier, provider, timezone, language, then the `attr_*`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sendwave.rules.columns import SENDS, BigInteger, Integer, String
from sendwave.rules.throttle import interleave
from sendwave.rules.units import check_zone

KEPT: Final = ("contact", "contact_id", "address", "address_hash", "tier", "provider", "timezone", "language")
"""What every payload has; `attr_<name>` columns follow."""

_REPEATED: Final = ("tier", "provider", "timezone", "language")

FIELD_PREFIX: Final = "attr_"
"""Columns of the contact base that become merge fields: `attr_first_name` is `{{ first_name }}`."""

_ARROW: Final = {BigInteger: pa.int64(), Integer: pa.int32(), String: pa.string()}
SENT: Final = pa.schema([(c.name, _ARROW[type(c.type)]) for c in SENDS.c])
"""Columns of a `sends` file."""

_OPTIONS: Final = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)  # 1,000 people: threads only cost


class Cut(NamedTuple):
    """One batch of a wave: its rows are start to stop (exclusive), its place in the wave counts from 0."""

    provider: str
    zone: str  # '' where the window is not local, and for people whose zone is not known
    start: int
    stop: int
    place: int


def encode(people: pa.Table) -> bytes:
    """The bytes of one batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, people.schema, options=_OPTIONS) as writer:
        writer.write_table(people)
    payload: bytes = sink.getvalue().to_pybytes()
    return payload


def decode(payload: bytes) -> pa.Table:
    """The people of one batch, in the order of their positions; plain columns."""
    with pa.ipc.open_stream(payload) as reader:
        people = reader.read_all()
    return people.cast(pa.schema([(f.name, pa.string() if f.name in _REPEATED else f.type) for f in people.schema]))


def kept(people: pa.Table) -> pa.Table:
    """The columns a payload has, in one piece each so that batches are slices; repeated words are stored once."""
    extra = [name for name in people.column_names if name.startswith(FIELD_PREFIX)]
    found = people.select([*KEPT, *extra]).combine_chunks()
    for name in _REPEATED:
        found = found.set_column(found.column_names.index(name), name, found[name].dictionary_encode())
    return found


def parts(people: pa.Table, cuts: Sequence[Cut]) -> Iterator[pa.Table]:
    """The people of each batch, as `encode` takes them."""
    whole = kept(people)
    return (whole.slice(cut.start, cut.stop - cut.start) for cut in cuts)


def fields(people: pa.Table) -> dict[str, list[object]]:
    """Merge fields by the name templates use."""
    named = {name.removeprefix(FIELD_PREFIX): name for name in people.column_names if name.startswith(FIELD_PREFIX)}
    return {field: people.column(name).to_pylist() for field, name in {"language": "language", **named}.items()}


def arrange(people: pa.Table, *, local: bool) -> pa.Table:
    """People lane by lane, as they came inside each; with a `local` window also zone by zone (column `zone`)."""
    zones = _zones(people["timezone"]) if local else pa.repeat(pa.scalar("", pa.string()), people.num_rows)
    zoned = people.append_column("zone", zones)
    if not people.num_rows:
        return zoned
    order = np.lexsort((_codes(zoned["zone"]), _codes(zoned["provider"])))  # stable: the order inside stays
    return zoned if (np.diff(order) == 1).all() else zoned.take(pa.array(order))


def cut(people: pa.Table, most: int) -> list[Cut]:
    """Arranged people as batches of one lane and zone, `most` people or fewer, nearly equal, in sending order."""
    if not people.num_rows:
        return []
    keys = np.stack([_codes(people["provider"]), _codes(people["zone"])])
    starts = np.flatnonzero(np.r_[True, (np.diff(keys, axis=1) != 0).any(axis=0)])
    stops = np.r_[starts[1:], people.num_rows]
    edges = [_edges(int(start), int(stop), most) for start, stop in zip(starts, stops, strict=True)]
    names = [(people["provider"][int(start)].as_py(), people["zone"][int(start)].as_py()) for start in starts]
    turns = interleave([len(edge) - 1 for edge in edges])
    return [Cut(*names[lane], edges[lane][n], edges[lane][n + 1], place) for place, (lane, n) in enumerate(turns)]


def _edges(start: int, stop: int, most: int) -> list[int]:
    parts = -(-(stop - start) // most)
    return [start + (stop - start) * n // parts for n in range(parts + 1)]


def _codes(values: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Equal numbers for equal words."""
    words = values.combine_chunks().dictionary_encode()
    found: np.ndarray[tuple[int], np.dtype[np.int32]] = words.indices.to_numpy(zero_copy_only=False)
    return found


def _zones(zones: pa.ChunkedArray) -> pa.Array:
    """Zones a clock can be set to; anything else becomes ''."""
    words = pc.fill_null(zones, "").combine_chunks().dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        words.indices, pa.array([_known(word) for word in words.dictionary.to_pylist()], pa.string())
    ).cast(pa.string())


def _known(zone: str) -> str:
    if not zone:
        return zone  # asked as a name, it would be compared with those of all zones for a hint nobody reads
    try:
        check_zone(zone)
    except ValueError:
        return ""
    return zone


def sends(people: pa.Table, out: pa.Table, cuts: Sequence[Cut], first_id: int) -> pa.Table:
    """Rows of columns.SENDS: arranged people with their batch (`first_id` + place) and position, then the people out.

    The people out have their reason in `excluded_by` and neither batch nor position. What is the same for everybody
    (campaign, type, channel, wave, freeze, sent_ts) is left to whoever writes the file.
    """
    ordered = sorted(cuts, key=lambda cut: cut.start)
    sizes = [cut.stop - cut.start for cut in ordered]
    batch = np.repeat(np.array([first_id + cut.place for cut in ordered], np.int64), sizes)
    position = np.arange(people.num_rows) - np.repeat(np.array([cut.start for cut in ordered], np.int64), sizes)
    told = ["contact", "tier", "provider", "address_hash", "excluded_by"]
    told += ["parts"] if "parts" in people.column_names else []
    found = pa.concat_tables([people.select(told), out.select(told)])
    if "parts" not in told:
        found = found.append_column("parts", pa.nulls(found.num_rows, SENT.field("parts").type))
    for name, values in (("batch", batch), ("position", position)):
        kind = SENT.field(name).type
        column = pa.chunked_array([pa.array(values, kind), pa.nulls(out.num_rows, kind)])
        found = found.append_column(name, column)
    return found
