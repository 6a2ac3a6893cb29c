"""Differences with their intervals as one self-contained SVG: a dot, a bar, and the line where nothing changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from sendwave.web.charts import INK, QUIET

ROOM: Final = 420
LEFT: Final = 150
RIGHT: Final = 190
LETTER: Final = 7.2
"""How wide a letter is at most, on average, at the size of the labels: what is written at either side must fit."""
ROW: Final = 34
TOP: Final = 14
GOOD: Final = "#2b8a3e"
BAD: Final = "#c92a2a"
OPEN: Final = "#868e96"


class Whisker(NamedTuple):
    """One line; `low` and `high` are None where there is no interval."""

    label: str
    value: float
    low: float | None
    high: float | None


def draw(title: str, rows: Sequence[Whisker], written: Callable[[float], str]) -> str:
    """The picture; green where the whole interval lies above zero, red where it lies below."""
    low, high, step = _axis(rows)
    told = [_told(row, written) for row in rows]
    left = max(LEFT, 20 + LETTER * max((len(row.label) for row in rows), default=0))
    right = max(RIGHT, 22 + LETTER * max(map(len, told), default=0))

    def x(value: float) -> float:
        return left + ROOM * (min(max(value, low), high) - low) / (high - low)

    bottom = TOP + ROW * len(rows)
    body = [_tick(x(at), bottom, written(at), zero=at == 0) for at in _ticks(low, high, step)]
    for place, row in enumerate(rows):
        y = TOP + ROW * place + ROW / 2
        body.append(_text(left - 12, y, row.label, 'font-size="13" text-anchor="end"'))
        body.append(_row(row, y, x, edges=(low, high)))
        body.append(_text(left + ROOM + 14, y, told[place], 'font-size="12"'))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + ROOM + right:.0f} {bottom + 26}" role="img" '
        f'aria-label={quoteattr(title)} font-family="inherit">' + "".join(body) + "</svg>"
    )


def colour(low: float | None, high: float | None) -> str:
    """What an interval says: up, down, or nothing yet."""
    if low is None or high is None:
        return OPEN
    return GOOD if low > 0 else BAD if high < 0 else OPEN


def _axis(rows: Sequence[Whisker]) -> tuple[float, float, float]:
    """(from, to, step) of an axis that shows zero, every value, and every interval up to four times the values."""
    values = [row.value for row in rows]
    reach = max((abs(value) for value in values), default=0.0) * 4
    ends = [end for row in rows for end in (row.low, row.high) if end is not None]
    kept = [*values, *(max(min(end, reach), -reach) if reach else end for end in ends)]
    low, high = min([0.0, *kept]), max([0.0, *kept])
    if low == high:
        high = 1.0
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(part * power for part in (1, 2, 2.5, 5, 10) if part * power >= rough)
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def _ticks(low: float, high: float, step: float) -> list[float]:
    return [round(low / step + place) * step for place in range(round((high - low) / step) + 1)]


def _tick(x: float, bottom: float, text: str, *, zero: bool) -> str:
    stroke, width = (INK, 1.4) if zero else ("#e9ecef", 1)
    return (
        f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom}" stroke="{stroke}" stroke-width="{width}"/>'
        f'<text x="{x:.1f}" y="{bottom + 16}" font-size="11" text-anchor="middle" fill="{QUIET}">{escape(text)}</text>'
    )


def _told(row: Whisker, written: Callable[[float], str]) -> str:
    """The value, and its interval where it has one."""
    if row.low is None or row.high is None:
        return written(row.value)
    return f"{written(row.value)}  ({written(row.low)} … {written(row.high)})"


def _text(x: float, y: float, words: str, how: str) -> str:
    return f'<text x="{x:.1f}" y="{y + 4:.1f}" {how} fill="{INK}">{escape(words)}</text>'


def _row(row: Whisker, y: float, x: Callable[[float], float], *, edges: tuple[float, float]) -> str:
    paint, parts = colour(row.low, row.high), []
    if row.low is not None and row.high is not None:
        left, right = x(row.low), x(row.high)
        parts.append(
            f'<rect x="{left:.1f}" y="{y - 4:.1f}" width="{max(right - left, 1):.1f}" height="8" rx="4" fill="{paint}" '
            'fill-opacity="0.28"/>'
        )
        for end, at, beyond in ((row.low, left, row.low < edges[0]), (row.high, right, row.high > edges[1])):
            mark = f"M{at:.1f} {y - 7:.1f}V{y + 7:.1f}" if not beyond else _arrow(at, y, -1 if end < 0 else 1)
            parts.append(f'<path d="{mark}" stroke="{paint}" stroke-width="1.6" fill="none"/>')
    parts.append(f'<circle cx="{x(row.value):.1f}" cy="{y:.1f}" r="5.5" fill="{paint}"/>')
    return "".join(parts)


def _arrow(x: float, y: float, way: int) -> str:
    """The bar goes on beyond the picture."""
    return f"M{x - way * 5:.1f} {y - 5:.1f}L{x:.1f} {y:.1f}L{x - way * 5:.1f} {y + 5:.1f}"
