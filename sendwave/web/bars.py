"""Bars: a histogram of scores, and stacked bars of segments by tier, as self-contained SVG without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from sendwave.web.charts import INK, QUIET, WARM_TO_COLD

WIDTH: Final = 960
LEFT: Final = 190
RIGHT: Final = 30
TOP: Final = 84
PLOT: Final = 300
ROW: Final = 30
SPOKEN: Final = 40
"""Pixels a bar needs for its volume to be written above it, and for its share beside that."""
SPOKEN_WHOLE: Final = 74
NONE: Final = "#ced4da"
"""The colour of people without a score."""


def histogram(title: str, subtitle: str, bars: Sequence[tuple[str, int, str]]) -> str:
    """Upright bars: (label, contacts, colour) each, with volume and share above. Thinned out where there is no room."""
    total = sum(contacts for _, contacts, _ in bars) or 1
    marks = ticks(max((contacts for _, contacts, _ in bars), default=0))
    room = (WIDTH - 2 * RIGHT - 60) / max(len(bars), 1)
    every = max(1, round(len(bars) * 46 / (WIDTH - 2 * RIGHT - 60) + 0.49))
    body = []
    for mark in marks:
        y = TOP + PLOT * (1 - mark / marks[-1])
        body.append(f'<line x1="{RIGHT + 56}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#dee2e6"/>')
        body.append(_text(RIGHT + 50, y + 4, short(mark), size=11, anchor="end", colour=QUIET))
    for place, (label, contacts, colour) in enumerate(bars):
        x, height = RIGHT + 60 + place * room, PLOT * contacts / marks[-1]
        hint = f"{label}: {contacts:,} contacts, {contacts / total:.1%}"
        body.append(_bar(x + 1, TOP + PLOT - height, room - 2, height, colour=colour, hint=hint))
        if place % every == 0:
            body.append(_text(x + room / 2, TOP + PLOT + 18, label, size=11, anchor="middle", colour=QUIET))
        if room >= SPOKEN:
            told = f"{short(contacts)} · {contacts / total:.0%}" if room >= SPOKEN_WHOLE else short(contacts)
            body.append(_text(x + room / 2, TOP + PLOT - height - 6, told, size=11, anchor="middle"))
    return _document(title, subtitle, TOP + PLOT + 40, body)


def ticks(most: int) -> list[int]:
    """Whole numbers from 0 to `most` or just above: two to five, apart by 1, 2 or 5 times a power of ten."""
    power = 10 ** max(len(str(most)) - 2, 0)
    step = next(step * power for step in (1, 2, 5, 10, 20, 50) if step * power * 4 >= most)
    return list(range(0, max(-(-most // step), 1) * step + 1, step))


def stacked(
    title: str, subtitle: str, rows: Sequence[tuple[str, Mapping[str, int]]], parts: Sequence[tuple[str, str, str]]
) -> str:
    """Lying bars of full width: per row its label and contacts by part; `parts` are (key, label, colour) in order."""
    width, body = WIDTH - LEFT - RIGHT - 70, []
    for place, (label, counted) in enumerate(rows):
        y, x, total = TOP + 24 + place * ROW, float(LEFT), sum(counted.values())
        body.append(_text(LEFT - 10, y + 15, _shortened(label, 24), anchor="end"))
        for key, name, colour in parts:
            contacts = counted.get(key, 0)
            length = width * contacts / total if total else 0.0
            if contacts:
                hint = f"{label}, {name}: {contacts:,} contacts, {contacts / total:.1%}"
                body.append(_bar(x, y, length, ROW - 9, colour=colour, hint=hint))
            x += length
        body.append(_text(WIDTH - RIGHT, y + 15, short(total), size=12, anchor="end", colour=QUIET))
    x = float(LEFT)
    for _, name, colour in parts:
        body.append(f'<rect x="{x:.1f}" y="{TOP - 10}" width="12" height="12" fill="{colour}"/>')
        body.append(_text(x + 17, TOP + 1, name, size=12))
        x += 17 + 7.2 * len(name) + 16
    return _document(title, subtitle, TOP + 24 + len(rows) * ROW + 16, body)


def colours(tiers: int) -> list[str]:
    """One colour per tier, from fire to ice."""
    last = len(WARM_TO_COLD) - 1
    return [WARM_TO_COLD[round(place * last / max(tiers - 1, 1))] for place in range(tiers)]


def short(contacts: int) -> str:
    """A count in few characters: 950, 12.3k, 4.1M."""
    if contacts < 10_000:
        return f"{contacts:,}"
    return f"{contacts / 1e3:.1f}k" if contacts < 1_000_000 else f"{contacts / 1e6:.1f}M"


def _document(title: str, subtitle: str, height: float, body: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label={quoteattr(title)} font-family="system-ui, sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>\n'
        + _text(24, 34, title, size=20, weight="bold")
        + _text(24, 56, subtitle, colour=QUIET)
        + "\n"
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _bar(x: float, y: float, width: float, height: float, *, colour: str, hint: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" fill="{colour}">'
        f"<title>{escape(hint)}</title></rect>"
    )


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _text(
    x: float, y: float, text: str, *, size: int = 13, weight: str = "normal", anchor: str = "start", colour: str = INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
