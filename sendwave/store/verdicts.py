"""The latest verdict of every cell (signal, wave, mailbox provider), with every number it was decided on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from math import isinf
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from sendwave.rules.gates import Cell, Decision, Verdict
from sendwave.store import journal
from sendwave.store import upsert as upserts
from sendwave.store.tables import campaigns, verdicts

_TOLD: Final = verdicts.c.evidence
_NUMBERS: Final = select(  # built once: asked at every look
    *(verdicts.c[name] for name in ("signal", "wave", "provider", "verdict")),
    _TOLD["sent"].as_integer(),
    _TOLD["events"].as_integer(),
    _TOLD["maturity"].as_float(),
).where(verdicts.c.campaign_id == bindparam("campaign"))
_DECISIONS: Final = select(*(verdicts.c[name] for name in ("signal", "wave", "provider", "verdict"))).where(
    verdicts.c.campaign_id == bindparam("campaign")
)
_PINNED: Final = select(campaigns.c.policy_version).where(campaigns.c.id == bindparam("campaign"))
_KEY: Final = ("campaign_id", "signal", "wave", "provider")


@dataclass(frozen=True, slots=True)
class Reading:
    """A cell as it was last judged; rates are fractions, `wave` 0 is the whole campaign, `provider` '' all lanes."""

    signal: str
    wave: int
    provider: str
    verdict: str
    at: datetime
    mode: str
    rule: str
    sent: int
    events: int
    exposure: float
    maturity: float
    rate: float | None
    low: float
    high: float
    hold_limit: float | None
    halt_limit: float | None
    sentence: str
    next_look: float | None  # seconds after `at`
    early: bool = False
    above: float = 1.0  # evidence against, for: see rules/gates.py
    alarm: float = 1.0
    below: float = 1.0
    bar: float | None = None
    clear: float | None = None
    waves: int = 1
    tested: int = 1
    points: Sequence[Mapping[str, Any]] = ()  # per restart point: sent, events, messages matured fast, usual, slow

    def document(self) -> dict[str, Any]:
        """As plain JSON values; the instant as ISO 8601 text."""
        return {**asdict(self), "limit": self.limit, "at": self.at.isoformat()}

    @property
    def limit(self) -> float | None:
        """The limit that matters next: what was crossed, else the first one that could be."""
        if self.verdict == Decision.HALT or self.hold_limit is None:
            return self.halt_limit
        return self.hold_limit


def upsert(
    conn: Connection, campaign_id: int, found: Sequence[Verdict], now: datetime, *, by: str = "daemon"
) -> list[Verdict]:
    """Keep each verdict as the latest of its cell; returns those whose decision is another one than before.

    A change, the first verdict included unless it is a pass, is also a journal row.
    """
    if not found:
        return []
    before = {tuple(row[:3]): row.verdict for row in conn.execute(_DECISIONS, {"campaign": campaign_id})}
    conn.execute(
        upserts.latest(conn.dialect.name, verdicts, _KEY, ("verdict", "evidence", "at")),
        [_row(campaign_id, verdict, now) for verdict in found],
    )
    changed = [one for one in found if one.decision != (before.get(_place(one)) or Decision.PASS)]
    pinned = conn.execute(_PINNED, {"campaign": campaign_id}).scalar() if changed else None
    for verdict in changed:
        journal.write(
            conn,
            at=now,
            actor=by,
            action=f"verdict.{verdict.decision.value}",
            campaign_id=campaign_id,
            wave=verdict.cell.wave or None,
            provider=verdict.cell.provider or None,
            reason=verdict.sentence,
            evidence={"before": before.get(_place(verdict)), **evidence(verdict)},
            policy_version=pinned,
        )
    return changed


def _place(verdict: Verdict) -> tuple[str, int, str]:
    return verdict.cell.signal, verdict.cell.wave, verdict.cell.provider


def _row(campaign_id: int, verdict: Verdict, now: datetime) -> dict[str, Any]:
    signal, wave, provider = _place(verdict)
    return {
        "campaign_id": campaign_id,
        "signal": signal,
        "wave": wave,
        "provider": provider,
        "verdict": verdict.decision.value,
        "evidence": evidence(verdict),
        "at": now,
    }


def evidence(verdict: Verdict) -> dict[str, Any]:
    """A verdict's numbers as plain JSON values: enough to compute it again by hand."""
    return {
        "signal": verdict.cell.signal,
        "wave": verdict.cell.wave,
        "provider": verdict.cell.provider,
        "mode": verdict.mode.value,
        "rule": verdict.rule.value,
        "sent": verdict.cell.sent,
        "events": verdict.events,
        "exposure": verdict.exposure,
        "maturity": verdict.maturity,
        "rate": verdict.rate,
        "low": verdict.low,
        "high": verdict.high,
        "hold_limit": verdict.hold_limit,
        "halt_limit": verdict.halt_limit,
        "sentence": verdict.sentence,
        "next_look": None if verdict.next_look is None else verdict.next_look.total_seconds(),
        "early": verdict.early,
        "above": verdict.above,
        "alarm": verdict.alarm,
        "below": verdict.below,
        "bar": None if verdict.bar is None or isinf(verdict.bar) else verdict.bar,  # no evidence ever halts: no bar
        "clear": verdict.clear,
        "waves": verdict.cell.waves,
        "tested": verdict.cell.tested,
        "points": _points(verdict.cell),
    }


def _points(cell: Cell) -> list[dict[str, Any]]:
    """What was counted per restart point, in order; without mail matured by a curve there are none."""
    return [
        {
            "point": cohort.point,
            "newest": cohort.sent_at.isoformat(),
            "sent": cohort.sent,
            "events": cohort.events,
            **dict(zip(("fast", "usual", "slow"), (round(m, 3) for m in cohort.matured), strict=True)),
        }
        for cohort in cell.cohorts
        if cohort.matured is not None
    ]


def latest(conn: Connection, campaign_id: int) -> list[Reading]:
    """The latest verdict of each cell, whole campaign first, then by wave, provider and signal."""
    table = verdicts
    rows = conn.execute(
        select(table).where(table.c.campaign_id == campaign_id).order_by(table.c.wave, table.c.provider, table.c.signal)
    )
    return [
        Reading(
            **{**row.evidence, "signal": row.signal, "wave": row.wave, "provider": row.provider},
            verdict=row.verdict,
            at=row.at,
        )
        for row in rows
    ]


def numbers(conn: Connection, campaign_id: int) -> dict[tuple[str, int, str], tuple[str, int, int, float]]:
    """(verdict, sent, events, maturity) by (signal, wave, provider): what tells whether a verdict is news.

    The database picks them out of the evidence, which is ten times cheaper than reading it all on every tick.
    """
    rows = conn.execute(_NUMBERS, {"campaign": campaign_id})
    return {(row[0], row[1], row[2]): (row[3], row[4], row[5], row[6]) for row in rows}
