"""Pictures of simulated campaigns: per policy one bar of how its runs ended, as self-contained SVG without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from sendwave.web.charts import INK, QUIET, STOPPED

WIDTH: Final = 960
LEFT: Final = 210
TOP: Final = 100
ROW: Final = 64
_BAR: Final = 430
_ENDS: Final = (
    ("completed", "completed", "#2f9e44"),
    ("waits_for_a_person", "waits for a person", "#e0a92e"),
    ("halted", "halted", STOPPED),
)


def draw(title: str, variants: Sequence[Mapping[str, Any]]) -> str:
    """One row per policy variant: how its runs ended, mails past a limit, hours."""
    height = TOP + ROW * len(variants) + 30
    body = [_text(24, 34, title, size=20, weight="bold"), _legend()]
    for place, one in enumerate(variants):
        body += _row(TOP + place * ROW, one)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label={quoteattr(title)} font-family="system-ui, sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _row(y: float, one: Mapping[str, Any]) -> list[str]:
    name = str(one["policy"])
    parts = [_text(LEFT - 12, y + 22, name if len(name) < 26 else "…" + name[-24:], anchor="end")]
    x = float(LEFT)
    for key, label, colour in _ENDS:
        share = float(one[key]["share"])
        width = _BAR * share
        hint = f"{name}: {label} {share:.0%}, surely within {one[key]['low']:.0%} and {one[key]['high']:.0%}"
        if width:
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="30" fill="{colour}">'
                f"<title>{escape(hint)}</title></rect>"
            )
        if width > 44:
            parts.append(_text(x + width / 2, y + 20, f"{share:.0%}", anchor="middle", colour="#ffffff"))
        x += width
    past, hours = one["mails_past_limit"], one["hours"]
    told = f"{past['median']:,.0f} mails past a limit" if one["people_past_limit"] else "no rate is past its limit"
    parts.append(_text(LEFT + _BAR + 16, y + 13, told, size=12))
    if hours is not None:
        took = f"{hours['median']:.0f} h, nine of ten within {hours['p90']:.0f} h"
        parts.append(_text(LEFT + _BAR + 16, y + 30, took, size=12, colour=QUIET))
    return parts


def _legend() -> str:
    x, parts = float(LEFT), []
    for _, label, colour in _ENDS:
        parts.append(f'<rect x="{x:.1f}" y="58" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 18, 69, label, size=12))
        x += 40 + 7 * len(label)
    return "".join(parts)


def _text(
    x: float, y: float, text: str, *, size: int = 13, weight: str = "normal", anchor: str = "start", colour: str = INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
