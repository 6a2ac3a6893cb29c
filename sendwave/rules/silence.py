"""Is the feed silent: answers owed that do not come mean that nothing can be said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

import numpy as np

from sendwave.rules import cells
from sendwave.rules.cells import Sheet
from sendwave.rules.gates import Cell, Cohort, Counted, Decision, GateSet, Mode, Rule, Verdict, heading, next_look
from sendwave.rules.maturity import Curve
from sendwave.rules.signals import ANSWERS

CAUGHT_UP: Final = 0.5
"""Share of the answers owed that must have come before a wave is cleared: after a silence they come late."""

_SAID: Final = {
    Decision.BLIND: "the feed is silent",
    Decision.HOLD: "too few to go by yet",
    Decision.PASS: "the feed is alive",
}


def behind(feed: Verdict) -> bool:
    """Whether fewer than `CAUGHT_UP` of the answers owed have come."""
    return bool(feed.cell.sent) and (feed.rate or 0) < CAUGHT_UP


def deaf(sheet: Sheet, gates: GateSet, now: datetime) -> set[str]:
    """Lanes that owe answers and never gave one, neither good nor bad: nothing is known of their mail."""
    old = now.timestamp() / 60 - sheet.minute >= gates.blind_after.total_seconds() / 60
    owed = np.bincount(sheet.lane, np.where(old, sheet.accepted, 0.0), len(sheet.lanes))
    answers = np.bincount(sheet.lane, sheet.tally(*ANSWERS) + sheet.refused, len(sheet.lanes))
    none = (owed >= gates.blind_min) & (answers == 0)
    return {lane for lane, is_deaf in zip(sheet.lanes, none, strict=True) if is_deaf}


def feeds(
    sheet: Sheet, gates: GateSet, now: datetime, *, curve: Curve, waves: Iterable[int], without: Iterable[str]
) -> list[Verdict]:
    """Whether answers come, per wave, from the lanes that are not left out."""
    lanes = {*sheet.lanes} - {*without}
    told = [cells.feed(sheet, wave=wave, lanes=lanes) for wave in waves]
    return [judge_feed(cell, gates, now, curve=curve) for cell in told if cell.cohorts]


def lane_feeds(sheet: Sheet, gates: GateSet, now: datetime, *, curve: Curve) -> list[Verdict]:
    """Whether answers come from each lane with mail. They are told, and stop nothing by themselves."""
    told = [replace(cells.feed(sheet, lanes=(lane,)), provider=lane) for lane in sheet.lanes]
    return [judge_feed(cell, gates, now, curve=curve) for cell in told if cell.cohorts]


def judge_feed(cell: Cell, gates: GateSet, now: datetime, *, curve: Curve) -> Verdict:
    """BLIND when messages older than `blind_after` owe us answers and hardly any came; the cell counts answers.

    HOLD while fewer than `CAUGHT_UP` have. `curve` is that of deliveries. Messages that are younger, or fewer than
    `blind_min`, prove nothing; of older ones the newest tell, or answers from before a silence would hide it.
    """
    owing = replace(cell, cohorts=_newest(cell, gates, now))
    counted = Counted.of(owing, now, curve)
    below = counted.rate is not None and counted.rate < float(gates.blind_below)
    blind = below and owing.sent >= gates.blind_min
    decision = Decision.BLIND if blind else Decision.PASS
    if not blind and counted.rate is not None and counted.rate < CAUGHT_UP:
        decision = Decision.HOLD
    came = f"{counted.events:,} of {counted.exposure:,.0f} answers owed have come"
    return Verdict(
        cell=owing,
        decision=decision,
        mode=Mode.ENFORCE,
        rule=Rule.POINT_RATE,
        events=counted.events,
        exposure=counted.exposure,
        maturity=counted.share,
        rate=counted.rate,
        low=0.0,
        high=1.0,
        hold_limit=float(gates.blind_below),
        halt_limit=None,
        sentence=f"{heading(owing)}: {came}; {_SAID[decision]}",
        next_look=next_look(cell, now, curve),
    )


def _newest(cell: Cell, gates: GateSet, now: datetime) -> tuple[Cohort, ...]:
    """The newest messages that owe an answer: `blind_min` of them, or those of a quarter of `blind_after`."""
    owing = sorted((c for c in cell.cohorts if now - c.sent_at >= gates.blind_after), key=lambda c: c.sent_at)
    found: list[Cohort] = []
    for cohort in reversed(owing):
        near = found and found[0].sent_at - cohort.sent_at <= gates.blind_after / 4
        if not near and sum(c.sent for c in found) >= gates.blind_min:
            break
        found.append(cohort)
    return tuple(found)
