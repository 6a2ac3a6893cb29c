"""Tables of pages. A wide one names every figure, so that a telephone can show each row as a block of its own."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Final

WIDE: Final = 5
"""Columns from which a table is wide."""

LONG: Final = 14
"""Letters of a name from which a telephone shows its short form."""


def table(heads: Sequence[Any], rows: Sequence[Sequence[Any]], *, total: bool = False) -> str:
    """Cells are text, or (text, class) or (text, class, small print); with `total` the last row is the sum.

    The third part of a head is its short form, for paper.
    """
    head = "".join(map(_head, heads))
    wide, body = len(heads) >= WIDE, []
    for place, row in enumerate(rows):
        cells = "".join(_cell(cell, name if wide else None) for name, cell in zip(heads, row, strict=True))
        last = total and place == len(rows) - 1
        body.append(f"<tr{' class=total' if last else ''}>{cells}</tr>")
    kind = ' class="wide"' if wide else ""
    return f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _head(cell: Any) -> str:
    short = _short(cell)
    told = f' data-short="{escape(short)}"' if short else ""
    return f'<th scope="col"{_class(cell)}{told}><span>{escape(_text(cell))}</span></th>'


def _cell(cell: Any, head: Any) -> str:
    name = "" if head is None else _text(head)
    if len(name) > LONG:
        name = _short(head) or name
    name = f' data-name="{escape(name)}"' if name else ""
    small = f"<small>{escape(cell[2])}</small>" if isinstance(cell, tuple) and len(cell) > 2 and cell[2] else ""
    return f"<td{_class(cell)}{name}>{escape(_text(cell))}{small}</td>"


def _short(head: Any) -> str:
    return str(head[2]) if isinstance(head, tuple) and len(head) > 2 else ""


def _text(cell: Any) -> str:
    return str(cell[0]) if isinstance(cell, tuple) else str(cell)


def _class(cell: Any) -> str:
    return f' class="{cell[1]}"' if isinstance(cell, tuple) and cell[1] else ""
