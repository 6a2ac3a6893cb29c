"""Verdicts as a picture: per gate its rate with the band it surely lies in, the limits, how much of it is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from sendwave.web.charts import INK, QUIET, STOPPED

WIDTH: Final = 960
LEFT: Final = 250
TOP: Final = 96
ROW: Final = 58
PLOT: Final = 400
COLOURS: Final = {"pass": "#2f9e44", "hold": "#e0a92e", "halt": STOPPED, "blind": "#5b6673"}
_TERMINAL: Final = 34


def scale(told: Mapping[str, Any]) -> float:
    """The largest rate of a gate's axis: beyond its limits and its rate, not all of a wide band."""
    limits = [told[key] for key in ("hold_limit", "halt_limit") if told[key] is not None]
    top = max([*limits, told["rate"] or 0.0, 1e-9])
    return float(min(1.0, max(1.25 * top, min(told["high"], 2 * top))))


def bar(told: Mapping[str, Any], width: int = _TERMINAL) -> str:
    """One gate on a line of text: `━` where the rate surely lies, `●` the rate, `┆` the hold and `│` the halt level."""
    top = scale(told)

    def place(rate: float) -> int:
        return min(width - 1, max(0, round(rate / top * (width - 1))))

    cells = [" "] * width
    for x in range(place(told["low"]), place(told["high"]) + 1):
        cells[x] = "━"
    for key, mark in (("hold_limit", "┆"), ("halt_limit", "│")):
        if told[key] is not None:
            cells[place(told[key])] = mark
    if told["rate"] is not None:
        cells[place(told["rate"])] = "●"
    return "".join(cells)


def draw(title: str, subtitle: str, verdicts: Sequence[Mapping[str, Any]]) -> str:
    """A row per verdict (as `campaign verdicts --json` tells them), each on its own scale."""
    height = TOP + ROW * len(verdicts) + 24
    body = [_text(24, 34, title, size=20, weight="bold"), _text(24, 56, subtitle, colour=QUIET), _legend()]
    for place, one in enumerate(verdicts):
        body += _row(TOP + place * ROW, one)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label={quoteattr(title)} font-family="system-ui, sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _row(y: float, one: Mapping[str, Any]) -> list[str]:
    top, colour = scale(one), COLOURS.get(one["verdict"], QUIET)
    where = f"{'wave ' + str(one['wave']) if one['wave'] else 'all waves'}, {one['provider'] or 'all lanes'}"
    parts = [
        f"<g><title>{escape(one['sentence'])}</title>",
        _text(LEFT - 14, y + 16, one["signal"].replace("_", " "), anchor="end", weight="bold"),
        _text(LEFT - 14, y + 33, where, size=12, anchor="end", colour=QUIET),
        f'<line x1="{LEFT}" y1="{y + 16}" x2="{LEFT + PLOT}" y2="{y + 16}" stroke="#dee2e6" stroke-width="2"/>',
    ]
    low, high = (LEFT + PLOT * min(one[key] / top, 1.0) for key in ("low", "high"))
    parts.append(
        f'<rect x="{low:.1f}" y="{y + 11}" width="{max(high - low, 1.5):.1f}" height="10" fill="{colour}" '
        'opacity="0.35"/>'
    )
    parts += [
        _limit(y, one[key] / top, name)
        for key, name in (("hold_limit", "hold"), ("halt_limit", "halt"))
        if one[key] is not None
    ]
    if one["rate"] is not None:
        x = LEFT + PLOT * min(one["rate"] / top, 1.0)
        parts.append(f'<circle cx="{x:.1f}" cy="{y + 16}" r="5" fill="{colour}"/>')
    parts.append(_arrived(y, one["maturity"]))
    words = f"{one['events']:,} of {one['sent']:,}, {_percent(one['rate'])}"
    parts.append(_text(LEFT + PLOT + 96, y + 13, one["verdict"], weight="bold", colour=colour))
    parts.append(_text(LEFT + PLOT + 96, y + 30, words, size=12))
    parts.append("</g>")
    return parts


def _limit(y: float, place: float, name: str) -> str:
    x = LEFT + PLOT * min(place, 1.0)
    dash = ' stroke-dasharray="3 3"' if name == "hold" else ""
    return (
        f'<line x1="{x:.1f}" y1="{y + 4}" x2="{x:.1f}" y2="{y + 28}" stroke="{INK}" stroke-width="1.5"{dash}/>'
        + _text(x, y + 41, name, size=10, anchor="middle", colour=QUIET)
    )


def _arrived(y: float, share: float) -> str:
    """How much of the signal is expected to be in, as a small filled box."""
    x = LEFT + PLOT + 22
    return (
        f'<rect x="{x}" y="{y + 9}" width="54" height="12" fill="none" stroke="#adb5bd"/>'
        f'<rect x="{x}" y="{y + 9}" width="{54 * min(share, 1.0):.1f}" height="12" fill="#adb5bd"/>'
        + _text(x + 27, y + 35, f"{share:.0%} in", size=11, anchor="middle", colour=QUIET)
    )


def _legend() -> str:
    words = "dot: rate of what is due · band: where the rate surely lies, at every look · box: share of the answers in"
    return _text(24, 76, words, size=12, colour=QUIET)


def _percent(rate: float | None) -> str:
    return "no mail due" if rate is None else f"{rate * 100:.3g} %"


def _text(
    x: float, y: float, text: str, *, size: int = 13, weight: str = "normal", anchor: str = "start", colour: str = INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
