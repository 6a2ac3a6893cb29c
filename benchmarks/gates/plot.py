"""The report as a picture: what each rule lets out, and how often it stops mail that stands on its limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from gates.report import RIVAL, UNPILOTED, Row, leaks, mean, per_world, share
from gates.rules import OURS, RULES
from gates.worlds import worlds

WIDE: Final = 860
ROW: Final = 26
LEFT: Final = 210
ROOM: Final = 250
GAP: Final = 70
"""Pixels: the picture, a row, the names, one column of bars and what lies between two."""

NOTE: Final = "Thin lines: 95 % intervals, where there are enough campaigns of a world. Short is good in both columns."


def draw(rows: Sequence[Row]) -> str:
    """An SVG of bars, a row for each rule; thin lines are 95 % intervals."""
    high = 74 + ROW * len(RULES)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {high}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDE}" height="{high}" fill="white"/>',
        *_heads(), *(part for place, rule in enumerate(RULES) for part in _row(place, rule, rows)),
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
    edge = [row for row in own if row["kind"] in {"limit", "opened", "fast"}]
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


NAMES: Final = 380
BAR: Final = 330
"""Pixels of the second picture: the names, and bars of all the bad mail."""

COLOURS: Final = {OURS: "#2166ac", RIVAL: "#b2b2b2"}


def by_world(rows: Sequence[Row]) -> str:
    """An SVG of the bad mail that leaves, world by world: ours above the rival that is as quiet on the limit."""
    told = [world.name for world in worlds() if any(leaks([r]) for r in rows if r["world"] == world.name)]
    high = 74 + 2 * ROW * len(told)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {high}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDE}" height="{high}" fill="white"/>',
        f'<text x="{NAMES}" y="24" font-weight="bold">bad mail that leaves</text>',
        *(part for place, name in enumerate(told) for part in _world(40 + 2 * ROW * place, name, rows)),
        f'<text x="8" y="{high - 10}" fill="#666">Blue: {OURS}. Grey: {RIVAL}. Thin lines: 95 % intervals.</text>',
        "</svg>", "",
    ])  # fmt: skip


def _world(y: int, name: str, rows: Sequence[Row]) -> Iterator[str]:
    yield f'<text x="8" y="{y + 20}">{escape(name)}</text>'
    for place, (rule, colour) in enumerate(COLOURS.items()):
        found = mean(leaks([row for row in rows if row["world"] == name and row["rule"] == rule]))
        if found.value <= 0 and found.low < -1:
            continue  # no campaign of it
        top = y + 17 * place
        yield f'<rect x="{NAMES}" y="{top}" width="{max(1.0, BAR * found.value):.1f}" height="14" fill="{colour}"/>'
        end = found.value
        if found.high <= 2:
            low, end = max(found.low, 0.0), min(max(found.high, found.value), 1.0)
            x1, x2 = NAMES + BAR * low, NAMES + BAR * end
            yield f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{top + 7}" y2="{top + 7}" stroke="#333"/>'
        yield f'<text x="{NAMES + BAR * end + 5:.1f}" y="{top + 11}" fill="#333">{found.value:.0%}</text>'
