"""JSON of many alike documents, written by columns: what they share once, what is each person's in one go.

A thousand messages as dictionaries cost more to make than to send. Here one document stands for all of them, with a
`Column` wherever they differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import Any, Final, TypeVar

import orjson

Pieces = Sequence[bytes | Sequence[bytes]]
"""JSON in order: bytes that all share, or the bytes of each."""

Row = Sequence[bytes]
"""One person's document, in pieces."""

_Kind = TypeVar("_Kind")
_NUL: Final = b"\0"  # stands in no JSON: where a column goes
_HERE: Final = orjson.Fragment(_NUL)


class Column:
    """A value for each person as it stands in JSON. No dataclass: orjson would write that as an object."""

    __slots__ = ("pieces",)

    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces

    @property
    def is_empty(self) -> bool:
        """Whether it is the empty text for everybody."""
        shared = b"".join(one for one in self.pieces if isinstance(one, bytes))
        return shared == b'""' and not any(any(one) for one in self.pieces if not isinstance(one, bytes))

    def of(self, rows: Sequence[int]) -> Column:
        """The column for these people alone, by position."""
        return Column([one if isinstance(one, bytes) else [one[row] for row in rows] for one in self.pieces])


class Ready:
    """JSON that is written already, in the pieces it has with others in common.

    Nothing is copied before the request as a whole is.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.parts = parts


def texts(values: Sequence[str], *, before: str = "", after: str = "") -> Column:
    """A text for each, with what all have before and after it."""
    return Column([b'"' + in_json(before), all_in_json(values), in_json(after) + b'"'])


def anything(values: Iterable[Any]) -> Column:
    """Any value for each; what JSON has no form for as text."""
    return Column([[written(value) for value in values]])


def quoted(document: Any) -> Column:
    """The document with its columns, as the JSON text that a field of another one holds."""
    return Column([b'"', *map(_quoted, _pieces(document)), b'"'])


def rows(document: Any, count: int) -> list[Row]:
    """The document for each of `count` people: what its columns hold in their places."""
    return list(zip(*[repeat(one, count) if isinstance(one, bytes) else one for one in _pieces(document)], strict=True))


def listed(documents: Sequence[Row]) -> Ready:
    """The JSON list of them."""
    apart = chain.from_iterable(zip(repeat((b",",)), documents, strict=False))
    return Ready([b"[", *list(chain.from_iterable(apart))[1:], b"]"])


def written(document: Any) -> bytes:
    """JSON in UTF-8; what JSON has no form for (dates, decimals) as text."""
    frame, ready = _taken_apart(document, Ready)
    if not ready:
        return frame[0]
    found = [frame[0]]
    for text, after in zip(ready, frame[1:], strict=True):
        found += text.parts
        found.append(after)
    return b"".join(found)


def in_json(text: str) -> bytes:
    """What stands between the quotes."""
    try:
        return orjson.dumps(text)[1:-1]
    except TypeError:  # half of a surrogate pair
        return json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")[1:-1]


def all_in_json(values: Sequence[str]) -> list[bytes]:
    """`in_json` of each: written together and cut at `","`, unless a quote and a comma stand in one of them too."""
    try:
        together = orjson.dumps(list(values))
    except TypeError:
        together = b""
    if not together or not values or b'\\",' in together:
        return [in_json(value) for value in values]
    return together[2:-2].split(b'","')


def _quoted(piece: bytes | Sequence[bytes]) -> bytes | Sequence[bytes]:
    """JSON as it stands in a text: it has no control characters left to escape."""
    if isinstance(piece, bytes):
        return piece.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    quoted_all = _quoted(b"\n".join(piece))
    assert isinstance(quoted_all, bytes)
    return quoted_all.split(b"\n")


def _pieces(document: Any) -> list[bytes | Sequence[bytes]]:
    """The document's JSON: what stands between its columns, and what they hold."""
    frame, columns = _taken_apart(document, Column)
    found: list[bytes | Sequence[bytes]] = [frame[0]]
    for column, after in zip(columns, frame[1:], strict=True):
        for piece in (*column.pieces, after):
            last = found[-1]
            if isinstance(piece, bytes) and isinstance(last, bytes):
                found[-1] = last + piece
            else:
                found.append(piece)
    return found


def _taken_apart(document: Any, kind: type[_Kind]) -> tuple[list[bytes], list[_Kind]]:
    """The document's JSON without what is of that kind, cut where it goes; and what goes there."""
    found: list[_Kind] = []

    def instead(value: Any) -> Any:
        if not isinstance(value, kind):
            return str(value)
        found.append(value)
        return _HERE

    def marked(value: Any) -> Any:
        return "\0" if instead(value) is _HERE else str(value)

    try:
        frame = orjson.dumps(document, default=instead, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # half of a surrogate pair, a number of more than 64 bits
        found.clear()
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), default=marked)
        frame = text.replace('"\\u0000"', "\0").encode("utf-8", "replace")
    return frame.split(_NUL), found
