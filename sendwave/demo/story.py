"""The demo's end in words and in one picture, from what the store says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sendwave.demo import stage
from sendwave.rules.lifecycle import Lane
from sendwave.store import batches, campaigns
from sendwave.web.charts import Picture, Square
from sendwave.workspace import Workspace

SHOWN_LANES: Final = 9


def tell(shown: dict[str, Any], accounted: dict[str, Any]) -> Iterator[str]:
    """What stopped, why, and what was never sent."""
    sent, total = accounted["sent"], shown["planned"]
    unknown = accounted["unknown"]
    yield f"{sent:,} of the {total:,} people of the plan were written to; nobody twice, {unknown:,} unknown."
    halts = [s for s in shown["signals"] if s["verdict"] == "halt"]
    for signal in halts[:4]:
        yield f"stopped: {signal['sentence']}"
    if shown["status"] == "halted":
        yield "the campaign is halted: later waves were never opened. `campaign resume` needs a person and a reason."
    elif any(lane["status"] == Lane.SUSPENDED for lane in shown["lanes"]):
        going = [lane["provider"] for lane in shown["lanes"] if lane["status"] != Lane.SUSPENDED]
        yield f"only that lane stopped: {', '.join(going[:6])} went on to the last wave."
    elif not halts:
        yield "every gate passed: all waves went out."
    for reason in ("halted", "lane_suspended", "waiting"):
        if kept := accounted["not_sent"].get(reason):
            yield f"never sent ({reason.replace('_', ' ')}): {kept:,} people, kept in their order for a later decision."


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
            text = f"{signal['signal'].replace('_', ' ')} {rate:.1%}, limit {limit:.1%}"
            stops.setdefault((signal["wave"], signal["provider"]), text)
    return stops


def _headline(shown: dict[str, Any]) -> str:
    stopped = [lane["provider"] for lane in shown["lanes"] if lane["status"] == Lane.SUSPENDED]
    if shown["status"] == "halted":
        return "halted by its gates"
    return f"{', '.join(stopped).capitalize()} stopped, everybody else went on" if stopped else "sent to the end"
