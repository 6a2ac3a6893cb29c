"""The demo's end in words and in one picture, from what the store says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sendwave.demo import stage, words
from sendwave.rules.lifecycle import Campaign, Lane, Wave
from sendwave.store import batches, campaigns
from sendwave.web.charts import Picture, Square
from sendwave.workspace import Workspace

SHOWN_LANES: Final = 9


def tell(shown: dict[str, Any], accounted: dict[str, Any]) -> Iterator[str]:
    """What stopped, why, and what was never sent."""
    unknown = accounted["unknown"]
    fate = f"what became of {unknown:,} is unknown" if unknown else "nobody's fate is unknown"
    yield f"{accounted['sent']:,} of the {shown['planned']:,} people of the plan were written to, nobody twice; {fate}."
    suspended = [lane["provider"] for lane in shown["lanes"] if lane["status"] == Lane.SUSPENDED]
    if shown["status"] == Campaign.HALTED:
        yield from _halted(shown, accounted)
    elif suspended:
        yield from _suspended(shown, accounted, suspended)
    else:
        yield f"Every gate passed: all {len(shown['waves'])} waves went out, the most engaged first."


def _halted(shown: dict[str, Any], accounted: dict[str, Any]) -> Iterator[str]:
    stopped = [wave["number"] for wave in shown["waves"] if wave["status"] == Wave.HALTED]
    reached = [wave["number"] for wave in shown["waves"] if wave["accepted"]]
    yield f"It stopped itself in wave {max(reached, default=1)}:"
    yield from (f"  {_measured(one)}" for one in _halts(shown))
    unopened = [number for number in stopped if number > max(reached, default=0)]
    if unopened:
        yield f"Never opened: wave{'s' * (len(unopened) > 1)} {', '.join(map(str, unopened))}."
    kept = sum(accounted["not_sent"].get(reason, 0) for reason in ("halted", "waiting", "lane_suspended"))
    yield f"{kept:,} people were spared and keep their place. A person decides:"
    yield f'  sendwave campaign resume {shown["id"]} --reason "…"   writes to exactly those, if the cause is mended'
    yield f"  sendwave campaign cancel {shown['id']}                gives them up"


def _suspended(shown: dict[str, Any], accounted: dict[str, Any], suspended: list[str]) -> Iterator[str]:
    names = ", ".join(suspended)
    yield f"Only {names} stopped:"
    yield from (f"  {_measured(one)}" for one in _halts(shown) if one["provider"] in suspended)
    going = [lane["provider"] for lane in shown["lanes"] if lane["provider"] not in suspended]
    yield f"Everybody else went on to the last wave: {', '.join(going)}."
    kept = accounted["not_sent"].get("lane_suspended", 0)
    yield f"{kept:,} people of {names} were spared and keep their place. A person decides:"
    again = f"sendwave campaign resume {shown['id']} --provider {suspended[0]}"
    yield f'  {again} --reason "…"   writes to exactly those, if the cause is mended'


def _halts(shown: dict[str, Any]) -> list[dict[str, Any]]:
    """The verdicts that stopped something, the most telling first, one for each signal and lane."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in sorted(
        (s for s in shown["signals"] if s["verdict"] == "halt"), key=lambda s: (s["provider"], -s["wave"])
    ):
        found.setdefault((one["signal"], one["provider"]), one)
    return list(found.values())[:4]


def _measured(one: dict[str, Any]) -> str:
    where = f"{one['provider'] or 'all providers'}, {'wave ' + str(one['wave']) if one['wave'] else 'all waves'}"
    rate, limit = one["rate"] or 0.0, one["limit"] or 0.0
    return f"{words.signal(one['signal'])}: {rate:.1%} where {limit:.1%} is the limit ({one['events']:,} in {where})"


def picture(workspace: Workspace, shown: dict[str, Any]) -> Picture:
    """Waves across, mailbox providers down, people as areas."""
    with workspace.db.read() as connection:
        campaign = campaigns.get(connection, stage.CAMPAIGN)
        waves = campaigns.waves(connection, campaign.id)
        counts = batches.counts(connection, campaign.id)
    sizes: dict[str, int] = {}
    for wave in waves:
        for provider, people in wave.providers.items():
            sizes[provider] = sizes.get(provider, 0) + people
    lanes = sorted(sizes, key=lambda provider: -sizes[provider])
    main, rest = lanes[:SHOWN_LANES], lanes[SHOWN_LANES:]
    rows = [*((provider,) for provider in main), *([tuple(rest)] if rest else [])]
    why = _stops(shown)
    squares = {}
    for column, wave in enumerate(waves):
        for row, members in enumerate(rows):
            planned = sum(wave.providers.get(provider, 0) for provider in members)
            cells = [counts[wave.number, p] for p in members if (wave.number, p) in counts]
            sent = sum(cell.accepted + cell.refused + cell.unknown for cell in cells)
            reason = next((why[wave.number, p] for p in members if (wave.number, p) in why), "")
            if planned:
                squares[column, row] = Square(planned, sent, reason)
    names = [_short(workspace, p[0]) if len(p) == 1 else "the others" for p in rows]
    titles = [f"wave {wave.number}\n{wave.planned:,} people" for wave in waves]
    sent_total = sum(square.sent for square in squares.values())
    return Picture(
        title=f"{campaign.title}: {_headline(shown)}",
        subtitle=f"{shown['planned']:,} people in {len(waves)} waves · {sent_total:,} sent · "
        f"{shown['planned'] - sent_total:,} never sent",
        waves=titles,
        lanes=names,
        squares=squares,
    )


def _short(workspace: Workspace, provider: str) -> str:
    """The first name of a provider that has several: 'Outlook.com, Hotmail' fits no margin."""
    known = workspace.policy.lanes.providers.get(provider)
    return known.label.split(",")[0] if known else provider


def _stops(shown: dict[str, Any]) -> dict[tuple[int, str], str]:
    """Where a lane was stopped, and the sentence for it: the first wave with a halting verdict of that lane."""
    stops: dict[tuple[int, str], str] = {}
    for signal in shown["signals"]:
        if signal["verdict"] == "halt" and signal["wave"] and signal["provider"]:
            rate, limit = signal["rate"] or 0.0, signal["limit"] or 0.0
            text = f"{words.signal(signal['signal'])} {rate:.1%}, limit {limit:.1%}"
            stops.setdefault((signal["wave"], signal["provider"]), text)
    return stops


def _headline(shown: dict[str, Any]) -> str:
    stopped = [lane["provider"] for lane in shown["lanes"] if lane["status"] == Lane.SUSPENDED]
    if shown["status"] == Campaign.HALTED:
        return "halted by its gates"
    return f"{', '.join(stopped).capitalize()} stopped, everybody else went on" if stopped else "sent to the end"
