"""Is the feed silent: answers owed that do not come mean that nothing can be said."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sendwave.rules.gates import Cell, Cohort, Counted, Decision, GateSet, Mode, Rule, Verdict, heading, next_look
from sendwave.rules.maturity import Curve


def judge_feed(cell: Cell, gates: GateSet, now: datetime, *, curve: Curve) -> Verdict:
    """BLIND when messages older than `blind_after` owe us answers and hardly any came; the cell counts answers.

    `curve` is that of deliveries. Messages that are younger, or fewer than `blind_min`, prove nothing; of older ones
    the newest tell, or answers from before a silence would hide it.
    """
    owing = replace(cell, cohorts=_newest(cell, gates, now))
    counted = Counted.of(owing, now, curve)
    below = counted.rate is not None and counted.rate < float(gates.blind_below)
    blind = below and owing.sent >= gates.blind_min
    came = f"{counted.events:,} of {counted.exposure:,.0f} answers owed have come"
    return Verdict(
        cell=owing,
        decision=Decision.BLIND if blind else Decision.PASS,
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
        sentence=f"{heading(owing)}: {came}; {'the feed is silent' if blind else 'the feed is alive'}",
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
