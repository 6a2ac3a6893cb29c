"""A report as one self-contained HTML page: no script, nothing fetched, good on paper, in English or in French."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from typing import Any, Final

from sendwave.web import whiskers
from sendwave.web.phrases import Tongue
from sendwave.web.tables import table
from sendwave.web.whiskers import Whisker

Document = Mapping[str, Any]

_RATES: Final = ("delivered", "opened", "machine_opened", "clicked", "unsubscribed", "complained", "hard_bounced")
_LIFTS: Final = ("visited", "converted", "revenue")

_STYLE: Final = files("sendwave.web").joinpath("templates/report.css").read_text("utf-8")


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
    cards = [(say("accepted_messages"), say.number(total["accepted"]), "")]
    if only_experiments(document):
        cards = [(say("mailed_people"), say.number(total["accepted"]), "")]
    lift = _lift_of(total)
    if lift is not None:
        people = lift["revenue"]["people"]
        ends = [lift["revenue"][name] for name in ("difference", "low", "high")]
        money = [None if end is None else say.money(end * people, currency) for end in ends]
        cards.append((say("revenue_added"), money[0] or "–", _between(say, *money[1:])))
        one = lift["converted"]
        ends = [one[name] * 1_000 for name in ("difference", "low", "high")]
        cards.append((say("conversion_lift"), say.signed(ends[0]), _between(say, *map(say.signed, ends[1:]))))
    rates = total["rates"]
    if "complained" in rates:
        left = f"{say('unsubscribed')} {say.percent(rates['unsubscribed']['value'], 2)}"
        cards.append((say("complained"), say.percent(rates["complained"]["value"], 3), left))
    cards.append((say("cost"), say.cost(total["cost"], currency), ""))
    body = "".join(
        f'<div class="card"><span>{escape(name)}</span><b>{escape(big)}</b><span>{escape(small)}</span></div>'
        for name, big, small in cards[:4]
    )
    return f'<div class="cards">{body}</div>'


def _between(say: Tongue, low: str | None, high: str | None) -> str:
    return say("few_buyers") if low is None or high is None else f"{low} … {high}"


def only_experiments(document: Document) -> bool:
    """Whether nothing is known of messages, only of people assigned to a mailing."""
    return all(source["type"] == "experiment" for source in document["campaigns"])


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
    if verdict["low"] is None:
        return say("more_buyers", n=say.number(verdict["more"]))
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


def cut_sentence(channel: str, cutoff: Document, document: Document, say: Tongue) -> str:
    """The cut-off of a channel in one sentence; groups that are no tiers have no order: those that bring are named."""
    told = {"channel": channel, "level": say.percent(cutoff["confidence"], 0)}
    names, places = names_of(document, say), [one["tier"] for one in cutoff["verdicts"]]
    if places == [""]:
        return say("cut_all" if cutoff["tier"] is not None else "cut_all_unknown", **told)
    if judged_by(document, say) != say("tier"):
        brings = [names.get(one["tier"], one["tier"]) for one in cutoff["verdicts"] if one["says"] == "brings"]
        if brings:
            return say("cut_groups", by=document["by"], groups=", ".join(brings), **told)
        return say("cut_no_group", by=document["by"], **told)
    if cutoff["tier"] is None:
        return say("cut_nowhere", **told)
    return say("cut_at", tier=names.get(cutoff["tier"], cutoff["tier"]), **told)


def _stops(document: Document, say: Tongue) -> Iterable[str]:
    currency, names = document["assumptions"]["currency"], names_of(document, say)
    for channel, cutoff in document["cutoffs"].items():
        lines, others = [], []
        for one in cutoff["verdicts"]:
            name, words = names.get(one["tier"], one["tier"]), verdict_words(one, say)
            if one["profit"] is None:
                others.append([name, (words, "words")])
            else:
                lines.append(_whisker(name, one, "profit", words=words))
        picture = whiskers.draw(say("profit"), lines, lambda value: say.money(value, currency)) if lines else ""
        picture += table([judged_by(document, say), (say("verdict"), "words")], others) if others else ""
        colour = "good" if cutoff["tier"] is not None else ""
        yield (
            f"<section><h2>{escape(say('cutoff'))}</h2>"
            f'<p class="say {colour}">{escape(cut_sentence(channel, cutoff, document, say))}</p>'
            f"<h3>{escape(say('profit'))}</h3>{picture}</section>"
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
        body = f'<section><h2>{escape(_beside(say("lift"), title))}</h2><p class="quiet">'
        body += escape(say("lift_lead", level=level)) + "</p>" + "".join(pictures) + "</section>"
    return body + _messages(document, key, rows, title, say)


def _beside(what: str, title: str) -> str:
    return f"{what} · {title[:1].lower()}{title[1:]}"


def _pictures(document: Document, key: str, rows: Sequence[Document], measure: str, say: Tongue) -> str:
    currency = document["assumptions"]["currency"]
    arms = dict.fromkeys(arm for row in rows for arm in row["lift"] if measure in row["lift"][arm])
    total = document["total"]["lift"]
    drawn = []
    for arm in arms:
        if arm == "all":
            continue
        found = [(row_name(row, key, say), row["lift"].get(arm, {})) for row in rows]
        lines = [_whisker(name, lifts[measure]) for name, lifts in found if measure in lifts]
        if len(rows) > 1 and arm in total:
            lines.append(_whisker(say("total"), total[arm][measure])._replace(total=True))
        name = {"visited": "visited_lift", "converted": "conversion_lift", "revenue": "revenue_lift"}[measure]
        heading = say(name) + (f" · {arm}" if len(arms) > 1 else "")
        written = (lambda value: say.money(value, currency)) if measure == "revenue" else _signed(say)
        drawn.append(f"<h3>{escape(heading)}</h3>" + whiskers.draw(heading, lines, written))
    return "".join(drawn)


def _signed(say: Tongue) -> Any:
    return lambda value: say.signed(value, 1)


def _whisker(name: str, known: Document, value: str = "difference", *, words: str = "") -> Whisker:
    """A line per 1,000 people or messages."""
    low, high = (None if known[end] is None else known[end] * 1_000 for end in ("low", "high"))
    return Whisker(name, known[value] * 1_000, low, high, words)


def _messages(document: Document, key: str, rows: Sequence[Document], title: str, say: Tongue) -> str:
    currency = document["assumptions"]["currency"]
    shown = [name for name in (*_RATES, "converted") if any(name in row["rates"] for row in rows)]
    sent = say("given" if only_experiments(document) else "accepted")
    named = [(say(name), "", say(f"short_{name}")) for name in (*shown, "revenue")]
    heads: list[Any] = ["", sent, *named, say("cost"), say("roi")]
    every = [*rows, document["total"]] if len(rows) > 1 else list(rows)
    body = []
    for row in every:
        name = say("total") if row is document["total"] and len(rows) > 1 else row_name(row, key, say)
        cells: list[Any] = [(name, "", row["label"] if key == "tier" else "")]
        fewer = f"{say('planned')} {say.number(row['planned'])}" if row["planned"] != row["accepted"] else ""
        cells.append((say.number(row["accepted"]), "", fewer))
        cells += [_rate(row["rates"].get(rate), say, 2 if rate == "complained" else 1) for rate in shown]
        cells += [say.money(row["revenue"], currency), say.cost(row["cost"], currency)]
        cells.append("–" if row["roi"] is None else say.number(row["roi"], 1))
        body.append(cells)
    return (
        f"<section><h2>{escape(_beside(say('messages'), title))}</h2>"
        + ("" if only_experiments(document) else f'<p class="quiet">{escape(say("messages_lead"))}</p>')
        + table(heads, body, total=len(rows) > 1)
        + "</section>"
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
    for name, line in habit_lines(met, say):
        cells: list[Any] = [name]
        cells += [say.number(line[name]["planned"]) for name in ("kept", "gained")]
        cells.append(say.number(line["lost"]["people"]))
        cells += [_rate(line[name].get("rates", {}).get("converted"), say, 2) for name in ("kept", "gained", "lost")]
        cells += [_rate(line[name].get("rates", {}).get("complained"), say, 3) for name in ("kept", "gained")]
        body.append(cells)
    told = {"habit": say.number(met["by_the_habit"]), "score": say.number(met["written_to"])}
    lead = say("coverage_lead", rule=met["rule"], **told)
    return (
        f'<section><h2>{escape(say("coverage"))}</h2><p class="quiet">{escape(lead)}</p>'
        + table(heads, body, total=True)
        + "</section>"
    )


def habit_lines(met: Document, say: Tongue) -> list[tuple[str, Document]]:
    """Tiers in which score or habit chose anybody, by name, and the total."""
    told = [
        (line["tier"] or say("no_tier"), line)
        for line in met["tiers"]
        if line["kept"]["planned"] or line["gained"]["planned"] or line["lost"]["people"]
    ]
    return [*told, (say("total"), met["total"])]


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
    body = table(heads, rows) if rows else ""
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
    message = ", ".join(dict.fromkeys(_price(told["prices"][channel]) for channel in channels))
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


def _price(prices: Document) -> str:
    """A price, and those of countries that have their own."""
    others = ", ".join(f"{country} {price}" for country, price in prices["countries"].items())
    return f"{prices['price']} ({others})" if others else str(prices["price"])


def _percent(written: str, say: Tongue) -> str:
    """A percentage of a policy file as the language writes it."""
    value = float(written.rstrip("%"))
    return say.percent(value / 100, 0 if value == int(value) else 1)


def _assumptions(document: Document, say: Tongue) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in assumed(document, say))
    return f'<section class="quiet"><h2>{escape(say("assumptions"))}</h2><ul>{items}</ul></section>'
