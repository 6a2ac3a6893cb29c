"""The report as a picture: what each rule lets out, and how often it stops mail that stands on its limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from gates.report import UNPILOTED, Row, leaks, mean, per_world, share
from gates.rules import OURS, RULES

WIDE: Final = 860
ROW: Final = 26
LEFT: Final = 210
ROOM: Final = 250
GAP: Final = 70
"""Pixels: the picture, a row, the names, one column of bars and what lies between two."""

NOTE: Final = "Thin lines: 95 % intervals, where there are enough campaigns of a world. Short is good in both columns."


def draw(rows: Sequence[Row]) -> str:
    """An SVG of bars, a row for each rule; thin lines are 95 % intervals."""
    newest = [row for row in rows if row["state"] == rows[-1]["state"]] if rows else []
    high = 74 + ROW * len(RULES)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {high}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDE}" height="{high}" fill="white"/>',
        *_heads(), *(part for place, rule in enumerate(RULES) for part in _row(place, rule, newest)),
        f'<text x="8" y="{high - 10}" fill="#666">{NOTE}</text>', "</svg>", "",
    ])  # fmt: skip


def _heads() -> Iterator[str]:
    for column, words in enumerate(("bad mail that leaves, mean of the worlds", "stopped while exactly on the limit")):
        yield f'<text x="{_x(column)}" y="24" font-weight="bold">{words}</text>'


def _x(column: int) -> int:
    return LEFT + column * (ROOM + GAP)


def _row(place: int, rule: str, rows: Sequence[Row]) -> Iterator[str]:
    own, y = [row for row in rows if row["rule"] == rule], 40 + ROW * place
    bad = [row for row in own if row["kind"] in {"bad", "lane"} and row["world"] != UNPILOTED]
    edge = [row for row in own if row["kind"] in {"limit", "fast"}]
    weight = "bold" if rule == OURS else "normal"
    yield f'<text x="8" y="{y + 14}" font-weight="{weight}">{escape(rule)}</text>'
    told = (per_world(bad, lambda some: mean(leaks(some))), share(sum(row["stopped"] for row in edge), len(edge)))
    for column, (found, runs) in enumerate(zip(told, (len(bad), len(edge)), strict=True)):
        if not runs:
            continue
        x, colour = _x(column), "#2166ac" if rule == OURS else "#b2b2b2"
        words = f"{found.value:.0%} of {runs}" if column else f"{found.value:.0%}"
        yield f'<rect x="{x}" y="{y}" width="{max(1.0, ROOM * found.value):.1f}" height="16" fill="{colour}"/>'
        low, high = max(found.low, 0.0), min(found.high, 1.0)
        if found.high <= 1.0 and found.low >= 0.0:
            yield (
                f'<line x1="{x + ROOM * low:.1f}" x2="{x + ROOM * high:.1f}" y1="{y + 8}" y2="{y + 8}" stroke="#333"/>'
            )
        end = max(found.value, high) if found.high <= 1.0 else found.value
        yield f'<text x="{x + ROOM * end + 5:.1f}" y="{y + 13}" fill="#333">{words}</text>'
