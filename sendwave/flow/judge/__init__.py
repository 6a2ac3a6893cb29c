"""Judge: turn what came back into a verdict per signal, wave and mailbox provider, and act on it.

What follows from the verdicts is decided in `rules/rulings.py`; here it is read from the store and written to it, one
transaction per campaign.

    halt, one lane          the lane is suspended; the rest goes on
    halt, all lanes         the lanes that explain it are suspended; where none do, or they carry `halt_share` of the
                            mail, the campaign is halted with the wave in flight and all later ones
    hold                    the wave is not cleared; at `soak_max` a person is needed: the lanes on hold are suspended,
                            or the campaign halted, with the reason `inconclusive`
    alarm                   strong evidence, not enough for a halt: a hold `early_alarm` until it is gone or surely true
    halt, a signal that     the lane is slowed to a quarter; fresh mail then restores or suspends it
    comes in bursts
    blind                   a hold `feed_silent` on the campaign, lifted when answers come again
    pass after the soak     the wave is cleared; after the last one the campaign completes
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from sendwave.errors import NotAllowed
from sendwave.flow.judge.acting import ALARM, FEED_SILENT, Case
from sendwave.flow.judge.looking import RELEARN, Memory, facts
from sendwave.rules.gates import Verdict
from sendwave.rules.lifecycle import Campaign as Status
from sendwave.rules.rulings import Ruling
from sendwave.store import campaigns, holds, looks, verdicts
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Connection, Database

__all__ = ["ALARM", "FEED_SILENT", "Memory", "judge"]


def judge(
    db: Database,
    *,
    now: datetime,
    by: str = "daemon",
    reports_delivery: Mapping[str, bool] | None = None,
    memory: Memory | None = None,
    only: Collection[int] | None = None,
) -> list[Verdict]:
    """Judge every sending campaign, or at once those of `only` (ids), of which there is news; returns all verdicts.

    `reports_delivery` says by route whether delivered mail is reported too. Only then does silence mean something: a
    route that is not named, or that sends bounces back and nothing else, is never called blind. With a `memory` that
    stays from call to call a look costs what changed; without one everything is read. Threads may share it.
    """
    found: list[Verdict] = []
    memory = Memory() if memory is None else memory
    with db.read() as conn:
        sending = campaigns.listing(conn, (Status.SENDING,))
    for campaign in sending:
        if only is not None and campaign.id not in only:
            continue
        told = (reports_delivery or {}).get(campaign.settings.route, False)
        with memory.turn(urgent=only is not None):
            with db.read() as conn:
                case = _look(conn, campaign, now, by, reports_delivery=told, memory=memory)
            found += case.ruling.verdicts
            if case.has_news:
                with suppress(NotAllowed), db.write() as conn:  # somebody moved it meanwhile: the next call looks again
                    case.act(conn)
    if only is None:
        with memory.turn(urgent=False):
            _tidy(db, memory, [campaign.id for campaign in sending], now)
    return found


def _tidy(db: Database, memory: Memory, sending: Sequence[int], now: datetime) -> None:
    memory.forget(sending)
    if memory.trimmed_at is not None and now - memory.trimmed_at >= RELEARN:
        with db.write() as conn:
            looks.trim(conn)
        memory.trimmed_at = now
    memory.trimmed_at = memory.trimmed_at or now


def _look(
    conn: Connection, campaign: Campaign, now: datetime, by: str, *, reports_delivery: bool, memory: Memory
) -> Case:
    """All that the store says of one campaign, at one moment, and what follows from it."""
    placed = [hold for hold in holds.open_holds(conn, campaign.id) if hold.campaign_id == campaign.id]
    told = facts(conn, campaign, placed, now=now, reports_delivery=reports_delivery, memory=memory)
    kept = verdicts.numbers(conn, campaign.id)
    return Case(campaign, Ruling(told, now), kept, placed, now, by)
