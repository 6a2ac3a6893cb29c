"""A campaign as one picture: columns are waves, rows are mailbox providers, areas are people.

A full cell was sent, a hatched one never left, a red one is the lane that was stopped there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape, quoteattr

WIDTH: Final = 960
LEFT: Final = 150
TOP: Final = 110
GRID: Final = 340
GAP: Final = 6
WARM_TO_COLD: Final = ("#d9480f", "#f08c00", "#e0a92e", "#74a9cf", "#3b7fb8", "#1c5a94")
STOPPED: Final = "#b3001b"
INK: Final = "#20262e"
QUIET: Final = "#5b6673"


@dataclass(frozen=True, slots=True)
class Square:
    """One wave of one lane, in people."""

    planned: int
    sent: int
    stopped: str = ""  # why the lane or campaign was stopped here; empty where it was not


@dataclass(frozen=True, slots=True)
class Picture:
    """What to draw: titles of waves (columns) and lanes (rows), and a square for each pair that has people."""

    title: str
    subtitle: str
    waves: Sequence[str]
    lanes: Sequence[str]
    squares: Mapping[tuple[int, int], Square]  # (wave index, lane index)


def draw(picture: Picture) -> str:
    """The picture as a self-contained SVG document."""
    columns = [sum(s.planned for (w, _), s in picture.squares.items() if w == i) for i in range(len(picture.waves))]
    rows = [sum(s.planned for (_, r), s in picture.squares.items() if r == i) for i in range(len(picture.lanes))]
    across = _spans(columns, LEFT, WIDTH - LEFT - 30, least=76)
    down = _spans(rows, TOP, GRID, least=17)
    height = TOP + GRID + 74
    body = [
        _text(24, 34, picture.title, size=20, weight="bold"),
        _text(24, 58, picture.subtitle, colour=QUIET),
        *(_wave(title, x, w) for title, (x, w) in zip(picture.waves, across, strict=True)),
        *(
            _text(LEFT - 10, y + h / 2 + 4, name, anchor="end")
            for name, (y, h) in zip(picture.lanes, down, strict=True)
        ),
    ]
    for (wave, lane), square in sorted(picture.squares.items()):
        body.append(_square(square, _colour(wave, len(picture.waves)), across[wave], down[lane]))
    for (wave, lane), square in picture.squares.items():
        if square.stopped:
            body.append(_reason(square.stopped, *across[wave], *down[lane]))
    body.append(_legend(height - 26))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label={quoteattr(picture.title)} font-family="system-ui, sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n{_HATCH}\n' + "\n".join(body) + "\n</svg>\n"
    )


_HATCH: Final = (
    '<defs><pattern id="kept" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" fill="#f1f3f5"/><line x1="0" y1="0" x2="0" y2="6" stroke="#adb5bd" stroke-width="2"/>'
    "</pattern></defs>"
)


def _spans(sizes: Sequence[int], start: float, room: float, *, least: float) -> list[tuple[float, float]]:
    """(offset, length) per size: at least `least`, the rest of the room shared in proportion."""
    free = room - GAP * (len(sizes) - 1) - least * len(sizes)
    total = sum(sizes) or 1
    spans, offset = [], start
    for size in sizes:
        length = least + max(free, 0.0) * size / total
        spans.append((offset, length))
        offset += length + GAP
    return spans


def _colour(wave: int, waves: int) -> str:
    return WARM_TO_COLD[round(wave * (len(WARM_TO_COLD) - 1) / max(waves - 1, 1))]


def _text(
    x: float, y: float, text: str, *, size: int = 13, weight: str = "normal", anchor: str = "start", colour: str = INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )


def _wave(title: str, x: float, width: float) -> str:
    first, _, second = title.partition("\n")
    return _text(x + width / 2, TOP - 26, first, weight="bold", anchor="middle") + _text(
        x + width / 2, TOP - 10, second, size=12, anchor="middle", colour=QUIET
    )


def _square(square: Square, colour: str, across: tuple[float, float], down: tuple[float, float]) -> str:
    (x, width), (y, height) = across, down
    sent = width * square.sent / square.planned if square.planned else 0.0
    hint = f"{square.sent} of {square.planned} sent" + (f": {square.stopped}" if square.stopped else "")
    edge = f' stroke="{STOPPED}" stroke-width="2"' if square.stopped else ""
    return (
        f"<g><title>{escape(hint)}</title>"
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="url(#kept)"{edge}/>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{sent:.1f}" height="{height:.1f}" '
        f'fill="{STOPPED if square.stopped else colour}"/></g>'
    )


def _reason(reason: str, x: float, width: float, y: float, height: float) -> str:
    """The reason on a plate of its own, kept inside the picture."""
    room = 6.4 * len(reason) + 14
    left = min(x + width / 2 - room / 2, WIDTH - room - 12)
    middle = y + height / 2
    return (
        f'<rect x="{left:.1f}" y="{middle - 10:.1f}" width="{room:.1f}" height="20" rx="4" fill="#ffffff" '
        f'stroke="{STOPPED}"/>' + _text(left + room / 2, middle + 4, reason, size=12, anchor="middle", colour=STOPPED)
    )


def _legend(y: float) -> str:
    plates = [(LEFT, WARM_TO_COLD[0], "sent, the most engaged first"), (LEFT + 250, "url(#kept)", "never sent")]
    plates.append((LEFT + 390, STOPPED, "sent before the gate stopped the lane"))
    return "".join(
        f'<rect x="{x}" y="{y - 11:.1f}" width="14" height="14" fill="{fill}"/>' + _text(x + 22, y, label, size=12)
        for x, fill, label in plates
    )
