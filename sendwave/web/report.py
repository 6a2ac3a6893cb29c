"""A report as one self-contained HTML page: no script, nothing fetched, good on paper, in English or in French."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any, Final

from sendwave.web import whiskers
from sendwave.web.phrases import Tongue
from sendwave.web.whiskers import Whisker

Document = Mapping[str, Any]

_RATES: Final = ("delivered", "opened", "machine_opened", "clicked", "unsubscribed", "complained", "hard_bounced")
_LIFTS: Final = ("visited", "converted", "revenue")
_KINDS: Final = {"brings": "good", "costs": "bad"}

_STYLE: Final = """
:root{color-scheme:light}*{box-sizing:border-box}
body{margin:0 auto;max-width:1040px;padding:36px 32px 48px;background:#fff;color:#20262e;
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
header{border-bottom:3px solid #d9480f;padding-bottom:14px}
h1{font-size:27px;margin:0 0 2px;letter-spacing:-.3px}h2{font-size:19px;margin:38px 0 4px}
h3{font-size:14px;margin:22px 0 2px;color:#39424e}p{margin:4px 0 10px}.quiet{color:#5b6673}
.cards{display:grid;grid-template-columns:repeat(4,1fr);gap:12px;margin:20px 0 0}
.card{border:1px solid #dee2e6;border-radius:8px;padding:12px 14px}
.card b{display:block;font-size:22px;line-height:1.25}
.card span{color:#5b6673;font-size:12.5px;display:block}
.say{border-left:5px solid #868e96;background:#f8f9fa;padding:10px 14px;font-weight:600;margin:10px 0}
.say.good{border-color:#2b8a3e;background:#ebfbee}.say.bad{border-color:#c92a2a;background:#fff5f5}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums;margin:8px 0}
th{font-weight:600;color:#5b6673;text-align:right;hyphens:auto;vertical-align:bottom;
 padding:5px;border-bottom:1.5px solid #adb5bd}
td{text-align:right;padding:6px 5px;border-bottom:1px solid #e9ecef}th:first-child,td:first-child{text-align:left}
td small{display:block;color:#868e96;font-size:10.5px;line-height:1.15;white-space:nowrap}
tr.total td{font-weight:700;border-top:1.5px solid #adb5bd}
td.good{color:#2b8a3e;font-weight:600}td.bad{color:#c92a2a;font-weight:600}td.words,th.words{text-align:left}
svg{display:block;width:100%;height:auto}ul{padding-left:20px;margin:6px 0}li{margin:3px 0}
footer{margin-top:40px;border-top:1px solid #dee2e6;padding-top:8px;font-size:12px;color:#868e96}
@media print{body{padding:0;max-width:none;font-size:12px}h2{break-after:avoid}section{break-inside:avoid}
 table{font-size:11px}.cards{gap:8px}@page{size:A4;margin:14mm}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
@media (max-width:720px){.cards{grid-template-columns:1fr 1fr}body{padding:18px}section{overflow-x:auto}}
"""


def render(document: Document, until: datetime, say: Tongue) -> str:
    """The page of `Report.document()`; `until` is the instant it speaks of."""
    title = _title(document, say)
    parts = [_header(document, until, title, say), _cards(document, say), *_stops(document, say)]
    parts += [_tables(document, say), _coverage(document, say), _fairness(document, say), _notes(document, say)]
    parts.append(_assumptions(document, say))
    return (
        f'<!doctype html>\n<html lang="{say.code}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<footer>{escape(say('made_by'))} · {escape(say('until', at=say.day(until)))}</footer>\n</body></html>\n"
    )


def _title(document: Document, say: Tongue) -> str:
    sources = document["campaigns"]
    if len(sources) > 1:
        return f"{say('report')} · {say('pooled', n=len(sources))}"
    return f"{say('report')} · {sources[0]['title'] or sources[0]['id']}"


def _header(document: Document, until: datetime, title: str, say: Tongue) -> str:
    lines = []
    for source in document["campaigns"]:
        kind = say("experiment") if source["type"] == "experiment" else source["type"]
        told = f"<b>{escape(source['id'])}</b> · {escape(kind)} · {escape(source['channel'])}"
        if source["opens"]:
            when = say("sent_on", opens=say.day(source["opens"]), closes=say.day(source["closes"]))
            told += f" · {escape(when)}"
        lines.append(told)
    lines.append(escape(say("until", at=say.day(until))))
    return f'<header><h1>{escape(title)}</h1><p class="quiet">{"<br>".join(lines)}</p></header>'


def _cards(document: Document, say: Tongue) -> str:
    total, currency = document["total"], document["assumptions"]["currency"]
    cards = [(say.number(total["accepted"]), f"{say('messages').lower()} {say('accepted')}")]
    lift = _lift_of(total)
    if lift is not None:
        people = lift["revenue"]["people"]
        ends = [lift["revenue"][name] for name in ("difference", "low", "high")]
        money = [None if end is None else say.money(end * people, currency) for end in ends]
        cards.append((money[0] or "–", say.pair(say("revenue"), say("difference")) + _between(money[1], money[2])))
        one = lift["converted"]
        ends = [one[name] * 1_000 for name in ("difference", "low", "high")]
        cards.append((say.signed(ends[0]), say("conversion_lift") + _between(*(say.signed(end) for end in ends[1:]))))
    rates = total["rates"]
    if "complained" in rates:
        told = f"{say('complained')} · {say('unsubscribed')} {say.percent(rates['unsubscribed']['value'], 2)}"
        cards.append((say.percent(rates["complained"]["value"], 3), told))
    cards.append((say.money(total["cost"], currency), say("cost")))
    body = "".join(
        f"<div class=card><b>{escape(big)}</b><span>{escape(small)}</span></div>" for big, small in cards[:4]
    )
    return f'<div class="cards">{body}</div>'


def _between(low: str | None, high: str | None) -> str:
    return "" if low is None or high is None else f" ({low} … {high})"


def _lift_of(row: Document) -> Document | None:
    """The lift of everybody mailed: of the one arm, or of all arms together."""
    lifts = row["lift"]
    found = lifts.get("all") or next(iter(lifts.values()), None)
    return found if isinstance(found, Mapping) else None


def verdict_words(verdict: Document, say: Tongue) -> str:
    """What is known of a tier, and what it would take to know more."""
    says = verdict["says"]
    words = say("says_unknown") if says == "unknown" else say(says)
    if says != "unknown":
        return words
    if verdict["more"] is None:
        return say.pair(words, say("out_of_reach"))
    return say.pair(words, say("send_more", n=say.number(verdict["more"])))


def row_name(row: Document, key: str, say: Tongue) -> str:
    """What a row is called: tiers by their key, bands of a number by their ends."""
    if key == "group":
        return row["label"] or row[key] or say("unknown")
    return row[key] or say("all")


def names_of(document: Document, say: Tongue) -> Mapping[str, str]:
    """What the places of a cut-off are called."""
    return {row["group"]: row_name(row, "group", say) for row in document["groups"]} | {"": say("all")}


def judged_by(document: Document, say: Tongue) -> str:
    """What cut-offs are told by: tiers, or the groups of an experiment that knows none."""
    tiers = {row["tier"] for row in document["tiers"]}
    return say("tier") if tiers != {""} or not document["groups"] else document["by"]


def cut_sentence(channel: str, cutoff: Document, say: Tongue, names: Mapping[str, str]) -> str:
    """The cut-off of a channel in one sentence."""
    level = say.percent(cutoff["confidence"], 0)
    if cutoff["tier"] is None:
        return say("cut_nowhere", channel=channel, level=level)
    return say("cut_at", channel=channel, tier=names.get(cutoff["tier"], cutoff["tier"]), level=level)


def _stops(document: Document, say: Tongue) -> Iterable[str]:
    currency, names = document["assumptions"]["currency"], names_of(document, say)
    for channel, cutoff in document["cutoffs"].items():
        rows = []
        shown = [one for one in cutoff["verdicts"] if one["profit"] is not None]
        for one in cutoff["verdicts"]:
            kind = _KINDS.get(one["says"], "")
            rows.append([names.get(one["tier"], one["tier"]), (verdict_words(one, say), f"words {kind}")])
        lines = [_whisker(names.get(one["tier"], one["tier"]), one, "profit") for one in shown]
        picture = whiskers.draw(say("profit"), lines, lambda value: say.money(value, currency)) if lines else ""
        paint = "good" if cutoff["tier"] is not None else ""
        yield (
            f"<section><h2>{escape(say('cutoff'))}</h2>"
            f'<p class="say {paint}">{escape(cut_sentence(channel, cutoff, say, names))}</p>'
            f"<h3>{escape(say('profit'))}</h3>{picture}"
            + _table([judged_by(document, say), (say("verdict"), "words")], rows)
            + "</section>"
        )


def _tables(document: Document, say: Tongue) -> str:
    parts = []
    if len(document["tiers"]) > 1 or not document["groups"]:
        parts.append(_part(document, "tier", document["tiers"], say("by_tier"), say))
    if document["groups"]:
        parts.append(_part(document, "group", document["groups"], say("by", by=document["by"]), say))
    return "".join(parts)


def _part(document: Document, key: str, rows: Sequence[Document], title: str, say: Tongue) -> str:
    pictures = [_pictures(document, key, rows, measure, say) for measure in _LIFTS]
    level = say.percent(float(document["assumptions"]["confidence"].rstrip("%")) / 100, 0)
    body = ""
    if any(pictures):
        body = f'<section><h2>{escape(say("lift"))} · {escape(title)}</h2><p class="quiet">'
        body += escape(say("lift_lead", level=level)) + "</p>" + "".join(pictures) + "</section>"
    return body + _messages(document, key, rows, title, say)


def _pictures(document: Document, key: str, rows: Sequence[Document], measure: str, say: Tongue) -> str:
    currency = document["assumptions"]["currency"]
    arms = dict.fromkeys(arm for row in rows for arm in row["lift"] if measure in row["lift"][arm])
    total = document["total"]["lift"]
    drawn = []
    for arm in arms:
        if arm == "all":
            continue
        found = [(row_name(row, key, say), row["lift"].get(arm, {})) for row in rows]
        if len(rows) > 1 and arm in total:
            found.append((say("total"), total[arm]))
        lines = [_whisker(name, lifts[measure]) for name, lifts in found if measure in lifts]
        name = {"visited": "visited_lift", "converted": "conversion_lift", "revenue": "revenue_lift"}[measure]
        heading = say(name) + (f" · {arm}" if len(arms) > 1 else "")
        written = (lambda value: say.money(value, currency)) if measure == "revenue" else _signed(say)
        drawn.append(f"<h3>{escape(heading)}</h3>" + whiskers.draw(heading, lines, written))
    return "".join(drawn)


def _signed(say: Tongue) -> Any:
    return lambda value: say.signed(value, 1)


def _whisker(name: str, known: Document, value: str = "difference") -> Whisker:
    """A line per 1,000 people or messages."""
    low, high = (None if known[end] is None else known[end] * 1_000 for end in ("low", "high"))
    return Whisker(name, known[value] * 1_000, low, high)


def _messages(document: Document, key: str, rows: Sequence[Document], title: str, say: Tongue) -> str:
    currency = document["assumptions"]["currency"]
    shown = [name for name in (*_RATES, "converted") if any(name in row["rates"] for row in rows)]
    heads: list[Any] = ["", say("accepted"), *(say(name) for name in shown), say("revenue"), say("cost"), say("roi")]
    every = [*rows, document["total"]] if len(rows) > 1 else list(rows)
    body = []
    for row in every:
        name = say("total") if row is document["total"] and len(rows) > 1 else row_name(row, key, say)
        cells: list[Any] = [(name, "", row["label"] if key == "tier" else "")]
        cells.append((say.number(row["accepted"]), "", f"{say('planned')} {say.number(row['planned'])}"))
        cells += [_rate(row["rates"].get(rate), say, 2 if rate == "complained" else 1) for rate in shown]
        cells += [say.money(row["revenue"], currency), say.money(row["cost"], currency)]
        cells.append("–" if row["roi"] is None else say.number(row["roi"], 1))
        body.append(cells)
    return (
        f"<section><h2>{escape(say('messages'))} · {escape(title)}</h2>"
        f'<p class="quiet">{escape(say("messages_lead"))}</p>' + _table(heads, body, total=len(rows) > 1) + "</section>"
    )


def _rate(known: Document | None, say: Tongue, digits: int) -> Any:
    if known is None:
        return "–"
    digits = max(digits, 2 if known["value"] < 0.01 else 1)
    low = say.number(known["low"] * 100, digits)
    return (say.percent(known["value"], digits), "", f"{low}–{say.percent(known['high'], digits)}")


def _coverage(document: Document, say: Tongue) -> str:
    met = document["baseline"]
    if met is None:
        return ""
    heads = ["", *(say(name) for name in ("kept", "gained", "lost"))]
    heads += [say.pair(say("converted"), say(name)) for name in ("kept", "gained")]
    heads += [say.pair(say("lost"), say("lost_buy"))]
    heads += [say.pair(say("complained"), say(name)) for name in ("kept", "gained")]
    body = []
    for line in [*met["tiers"], met["total"]]:
        cells: list[Any] = [line["tier"] or say("total")]
        cells += [say.number(line[name]["planned"]) for name in ("kept", "gained")]
        cells.append(say.number(line["lost"]["people"]))
        cells += [_rate(line[name].get("rates", {}).get("converted"), say, 2) for name in ("kept", "gained", "lost")]
        cells += [_rate(line[name].get("rates", {}).get("complained"), say, 3) for name in ("kept", "gained")]
        body.append(cells)
    told = {"habit": say.number(met["by_the_habit"]), "score": say.number(met["written_to"])}
    lead = say("coverage_lead", rule=met["rule"], **told)
    return (
        f'<section><h2>{escape(say("coverage"))}</h2><p class="quiet">{escape(lead)}</p>'
        + _table(heads, body, total=True)
        + "</section>"
    )


def draw_findings(document: Document, say: Tongue) -> list[str]:
    """What the checks of the draw found, one sentence each; one that all is well where they found nothing."""
    found = [_odd_ratio(one, say) for one in document["draws"] if not one["fair"]]
    found += [
        say(
            "alike_odd",
            attribute=one["attribute"],
            value=one["value"] or say("unknown"),
            given=say.percent(one["given"]),
            control=say.percent(one["control"]),
        )
        for one in document["balance"]
        if not one["balanced"]
    ]
    if found:
        return found
    ratios, values = len(document["draws"]), len(document["balance"])
    if not ratios + values:
        return [say("draw_none")]
    if not ratios:
        return [say("draw_fair_values", values=say.number(values))]
    return [say("draw_fair", ratios=say.number(ratios), values=say.number(values))]


def _odd_ratio(one: Document, say: Tongue) -> str:
    return say(
        "ratio_odd",
        of=one["of"],
        kind=say(f"kind_{one['kind']}"),
        expected=say.percent(one["expected"], 1),
        people=say.number(one["people"]),
        found=say.percent(one["found"], 2),
        once=say.number(min(1 / max(one["probability"], 1e-15), 1e15)),
    )


def _fairness(document: Document, say: Tongue) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in draw_findings(document, say))
    worst = sorted(document["balance"], key=lambda one: -abs(one["standardised"]))[:6]
    rows = [
        [
            f"{one['attribute']} = {one['value'] or say('unknown')}",
            say.percent(one["given"]),
            say.percent(one["control"]),
            say.signed(one["standardised"], 3),
        ]
        for one in worst
    ]
    heads = [say("attribute"), say("given"), say("control"), say("standardised")]
    body = _table(heads, rows) if rows else ""
    return f"<section><h2>{escape(say('draw'))}</h2><ul>{items}</ul>{body}</section>"


def _notes(document: Document, say: Tongue) -> str:
    if not document["notes"]:
        return ""
    items = "".join(f"<li>{escape(say.note(_untold(note)))}</li>" for note in document["notes"])
    return f"<section><h2>{escape(say('notes'))}</h2><ul>{items}</ul></section>"


def _untold(note: Document) -> dict[str, Any]:
    return {key: value for key, value in note.items() if key != "text"}


def assumed(document: Document, say: Tongue) -> list[str]:
    """What the money and the intervals rest on, a sentence each."""
    told = document["assumptions"]
    costs = told["costs"]
    channels = list(document["cutoffs"])
    message = ", ".join(dict.fromkeys(costs.get(channel, costs["email"]) for channel in channels))
    sales = told["attribution"]
    kinds = {source["type"] == "experiment" for source in document["campaigns"]}
    harm = {name: costs[name] for name in ("unsubscribe", "complaint")}
    lines = [say("assume_sales", kinds=", ".join(sales["kinds"]), within=sales["within"])] if False in kinds else []
    lines += [say("assume_file")] if True in kinds else []
    lines.append(say("assume_money", margin=_percent(told["margin"], say), message=message, **harm))
    lines += [say("assume_parts")] if "sms" in channels else []
    if told["winsorise"]:
        lines.append(say("assume_cap", cap=_percent(told["winsorise"], say)))
    lines.append(say("assume_intervals", level=_percent(told["confidence"], say)))
    return lines


def _percent(written: str, say: Tongue) -> str:
    """A percentage of a policy file as the language writes it."""
    value = float(written.rstrip("%"))
    return say.percent(value / 100, 0 if value == int(value) else 1)


def _assumptions(document: Document, say: Tongue) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in assumed(document, say))
    return f'<section class="quiet"><h2>{escape(say("assumptions"))}</h2><ul>{items}</ul></section>'


def _table(heads: Sequence[Any], rows: Sequence[Sequence[Any]], *, total: bool = False) -> str:
    """Cells are text, or (text, class) or (text, class, small print)."""
    head = "".join(f"<th{_class(cell)}>{escape(_text(cell))}</th>" for cell in heads)
    body = []
    for place, row in enumerate(rows):
        cells = "".join(f"<td{_class(cell)}>{escape(_text(cell))}{_small(cell)}</td>" for cell in row)
        last = total and place == len(rows) - 1
        body.append(f"<tr{' class=total' if last else ''}>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _text(cell: Any) -> str:
    return str(cell[0]) if isinstance(cell, tuple) else str(cell)


def _class(cell: Any) -> str:
    return f' class="{cell[1]}"' if isinstance(cell, tuple) and cell[1] else ""


def _small(cell: Any) -> str:
    return f"<small>{escape(cell[2])}</small>" if isinstance(cell, tuple) and len(cell) > 2 else ""
