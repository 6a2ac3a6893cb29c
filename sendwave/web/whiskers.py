"""Differences with their intervals: a dot, a bar, and the line where nothing changes.

Each row is a picture of its own between words that are text of the page: pictures shrink on a telephone, words must
not. Places in a picture are percentages of its width, so it fits any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final, NamedTuple

GOOD: Final = "good"
BAD: Final = "bad"
OPEN: Final = "open"
MIDDLE: Final = "50%"


class Whisker(NamedTuple):
    """One line; `low` and `high` are None where there is no interval."""

    label: str
    value: float
    low: float | None
    high: float | None
    words: str = ""  # what follows from it
    total: bool = False


def draw(title: str, rows: Sequence[Whisker], written: Callable[[float], str]) -> str:
    """The pictures; green where the whole interval lies above zero, red where it lies below."""
    low, high, step = _axis(rows)
    ticks = [round(low / step + place) * step for place in range(round((high - low) / step) + 1)]

    def x(value: float) -> float:
        return 100 * (min(max(value, low), high) - low) / (high - low)

    grid = "".join(_tick(x(at), zero=at == 0) for at in ticks)
    lines = "".join(_line(row, grid, x, written, edges=(low, high)) for row in rows)
    return f'<div class="plot" role="group" aria-label="{escape(title)}">{lines}{_axis_words(ticks, x, written)}</div>'


def paint(low: float | None, high: float | None) -> str:
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


def _tick(x: float, *, zero: bool) -> str:
    return f'<line class="{"zero" if zero else "grid"}" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="100%"/>'


def _axis_words(ticks: Sequence[float], x: Callable[[float], float], written: Callable[[float], str]) -> str:
    words = "".join(
        f'<i{" class=zero" if at == 0 else ""} style="left:{x(at):.2f}%">{escape(written(at))}</i>' for at in ticks
    )
    return f'<div class="line axis"><div class="ticks" aria-hidden="true">{words}</div></div>'


def _line(
    row: Whisker,
    grid: str,
    x: Callable[[float], float],
    written: Callable[[float], str],
    *,
    edges: tuple[float, float],
) -> str:
    value, span = written(row.value), ""
    if row.low is not None and row.high is not None:
        span = f"{written(row.low)} … {written(row.high)}"
    colour = paint(row.low, row.high)
    words = f'<div class="words">{escape(row.words)}</div>' if row.words else ""
    told = f"<b>{escape(value)}</b> <small>{escape(span)}</small>"
    alone = "" if row.words else " alone"
    spoken = f"{row.label}: {value}" + (f" ({span})" if span else "")
    return (
        f'<div class="line {colour}{" total" if row.total else ""}"><div class="name">{escape(row.label)}</div>'
        f'<div class="told{alone}">{told}</div>{words}<div class="picture">'
        f'<svg role="img" aria-label="{escape(spoken)}">{grid}{_marks(row, x, edges=edges)}</svg></div></div>'
    )


def _marks(row: Whisker, x: Callable[[float], float], *, edges: tuple[float, float]) -> str:
    parts = []
    if row.low is not None and row.high is not None:
        left, right = x(row.low), x(row.high)
        parts.append(
            f'<svg y="{MIDDLE}" overflow="visible"><rect class="bar" x="{left:.2f}%" y="-4" '
            f'width="{max(right - left, 0.2):.2f}%" height="8" rx="4"/></svg>'
        )
        for end, at, beyond in ((row.low, left, row.low < edges[0]), (row.high, right, row.high > edges[1])):
            mark = "M0 -7V7" if not beyond else _arrow(-1 if end < 0 else 1)
            parts.append(f'<svg x="{at:.2f}%" y="{MIDDLE}" overflow="visible"><path class="end" d="{mark}"/></svg>')
    parts.append(f'<circle class="dot" cx="{x(row.value):.2f}%" cy="{MIDDLE}" r="5.5"/>')
    return "".join(parts)


def _arrow(way: int) -> str:
    """The bar goes on beyond the picture."""
    return f"M{-way * 5} -5L0 0L{-way * 5} 5"
