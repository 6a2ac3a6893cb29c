"""A campaign accounted for: everybody of its plan exactly once, and where its waves, lanes and signals stand.

The answer holds at any moment and after any crash: it is read from what was committed, never from what ran.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sendwave.engine.base import Engine, Session
from sendwave.engine.datasets import Lake
from sendwave.errors import NotAllowed
from sendwave.rules import accounting
from sendwave.rules.accounting import Asked
from sendwave.rules.grounds import grounds
from sendwave.rules.holds import Hold
from sendwave.rules.lifecycle import Batch
from sendwave.store import aggregates, batches, campaigns, files, freezes, holds
from sendwave.store import verdicts as kept
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Connection, Database

COLUMNS: Final = ("contact_id", "state", "reason", "wave", "provider", "tier", "at")
"""Of the CSV; `reason` and `at` (ISO 8601, UTC) are empty where there is none."""


@dataclass(frozen=True, slots=True)
class Audit:
    """People by state. Their total is the rows of the plan: nobody twice, nobody left out."""

    campaign: str
    total: int
    sent: int
    unknown: int
    not_sent: Mapping[str, int]
    ledger: Ledger = field(repr=False)

    def document(self) -> dict[str, Any]:
        """As `campaign audit --json` prints it."""
        reasons = dict(sorted(self.not_sent.items()))
        return {"total": self.total, "sent": self.sent, "unknown": self.unknown, "not_sent": reasons}

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One row per person, in the order of COLUMNS, from the very records the totals were counted from."""
        with self.ledger.session() as session:
            for part in session.stream(accounting.standing_statement(self.ledger.asked)):
                yield from zip(*(column.to_pylist() for column in part.columns), strict=True)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What an audit reads: immutable files, and the store's rows as they were at one moment."""

    engine: Engine
    asked: Asked
    files: Mapping[str, list[Path]]
    tables: Mapping[str, pa.Table]

    def session(self) -> AbstractContextManager[Session]:
        """Open the set engine over it."""
        return self.engine.session(self.files, self.tables)


def audit(db: Database, engine: Engine, lake: Lake, name: str) -> Audit:
    """Account for everybody of a campaign's plan. Raises NotFound, and NotAllowed when it has no plan yet."""
    campaign, ledger = _ledger(db, engine, lake, name)
    states: dict[str, int] = dict.fromkeys((accounting.SENT, accounting.UNKNOWN), 0)
    reasons: dict[str, int] = {}
    with ledger.session() as session:
        for row in session.read(accounting.totals_statement(ledger.asked)).to_pylist():
            if row["state"] == accounting.NOT_SENT:
                reasons[row["reason"]] = row["contacts"]
            else:
                states[row["state"]] += row["contacts"]
    total = sum(states.values()) + sum(reasons.values())
    return Audit(campaign.name, total, states[accounting.SENT], states[accounting.UNKNOWN], reasons, ledger)


def _ledger(db: Database, engine: Engine, lake: Lake, name: str) -> tuple[Campaign, Ledger]:
    with db.read() as conn:
        campaign = campaigns.get(conn, name)
        plan = None if campaign.plan_file is None else files.get(conn, campaign.plan_file)
        if plan is None:
            raise NotAllowed(f"campaign {campaign.name} has no plan yet: there is nobody to account for")
        # Freezes before batches: a freeze committed in between is then missing whole, its people still wait.
        sends = [files.get(conn, file_id) for file_id in freezes.file_ids(conn, campaign.id)]
        tables = {
            "standings": _standings(batches.standings(conn, campaign.id)),
            "outcomes": _outcomes(batches.outcomes(conn, campaign.id)),
            "wave_rows": _statuses(
                "number", pa.int32(), [(w.number, w.status) for w in campaigns.waves(conn, campaign.id)]
            ),
            "lane_rows": _statuses(
                "provider", pa.string(), [(n.provider, n.status) for n in campaigns.lanes(conn, campaign.id)]
            ),
        }
    paths = lake.paths({"plan": [plan], "sends": [file for file in sends if file is not None]})
    asked = Asked(campaign.id, campaign.status, campaign.last_wave, _text(campaign.planned_at))
    return campaign, Ledger(engine, asked, paths, tables)


def _standings(rows: list[batches.Standing]) -> pa.Table:
    return pa.table(
        {
            "batch": pa.array([row.batch_id for row in rows], pa.int64()),
            "status": pa.array([row.status for row in rows], pa.string()),
            "settled": pa.array([_text(row.settled_at or row.handed_at) for row in rows], pa.string()),
        }
    )


def _outcomes(rows: list[batches.Outcome]) -> pa.Table:
    return pa.table(
        {
            "batch": pa.array([row.batch_id for row in rows], pa.int64()),
            "position": pa.array([row.position for row in rows], pa.int32()),
            "state": pa.array([row.state for row in rows], pa.string()),
            "reason": pa.array([_code(row) for row in rows], pa.string()),
            "settled": pa.array([_text(row.at) for row in rows], pa.string()),
        }
    )


def _code(row: batches.Outcome) -> str:
    """The code of a refusal, without the text, which would make a reason of every person; else the reason."""
    return row.code if row.state == Batch.REFUSED else row.reason


def _statuses(key: str, kind: pa.DataType, rows: list[tuple[Any, str]]) -> pa.Table:
    return pa.table(
        {key: pa.array([row[0] for row in rows], kind), "status": pa.array([row[1] for row in rows], pa.string())}
    )


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def show(db: Database, name: str, *, now: datetime | None = None) -> dict[str, Any]:
    """Where a campaign stands, as `campaign show --json` prints it. Raises NotFound.

    Without `now` what providers tell per day is shown up to the campaign's end, or of the day it started.
    """
    with db.read() as conn:
        campaign = campaigns.get(conn, name)
        waves = campaigns.waves(conn, campaign.id)
        excluded: dict[str, int] = {}
        for (reason, _tier), people in campaigns.exclusions(conn, campaign.id).items():
            excluded[reason] = excluded.get(reason, 0) + people
        counts = batches.counts(conn, campaign.id)
        lanes = campaigns.lanes(conn, campaign.id)
        overruled = _overruled(lanes)
        return {
            "id": campaign.name,
            "name": campaign.name,
            "title": campaign.title,
            "type": campaign.type,
            "status": campaign.status,
            "policy_version": campaign.policy_version,
            "planned": sum(wave.planned for wave in waves),
            "excluded": excluded,
            "waves": [_wave(wave, counts) for wave in waves],
            "lanes": [{"provider": lane.provider, "status": lane.status} for lane in lanes],
            "holds": [_hold(hold) for hold in holds.open_holds(conn, campaign.id)],
            "signals": [_signal(reading, overruled) for reading in kept.latest(conn, campaign.id)],
            "limits": {signal: dict(levels) for signal, levels in (campaign.limits or {}).items()},
            "told_per_day": _told_per_day(conn, campaign, [lane.provider for lane in lanes], now),
        }


def verdicts(db: Database, name: str) -> list[dict[str, Any]]:
    """Every gate's latest answer with all its numbers, and what it rests on. Raises NotFound."""
    with db.read() as conn:
        campaign = campaigns.get(conn, name)
        told = [reading.document() for reading in kept.latest(conn, campaign.id)]
        overruled = _overruled(campaigns.lanes(conn, campaign.id))
    return [
        {
            **one,
            "overruled": _is_overruled(one["provider"], datetime.fromisoformat(one["at"]), overruled),
            "grounds": grounds(one, told).document(),
        }
        for one in told
    ]


def _overruled(lanes: Sequence[campaigns.LaneRow]) -> dict[str, datetime]:
    """Since when only later mail is judged, by lane; '' for all lanes together."""
    found = {lane.provider: lane.judged_from for lane in lanes if lane.judged_from is not None}
    if len(found) == len(lanes) > 0:
        found[""] = min(found.values())
    return found


def _is_overruled(provider: str, at: datetime, overruled: Mapping[str, datetime]) -> bool:
    """Whether a person has since answered for the mail a verdict was given on."""
    since = overruled.get(provider)
    return since is not None and at <= since


def _told_per_day(
    conn: Connection, campaign: Campaign, lanes: Sequence[str], now: datetime | None
) -> list[dict[str, Any]]:
    """What providers tell of whole days on which the campaign's mail left; `rate` is per message of that day."""
    until = now or campaign.ended_at or campaign.started_at
    if until is None:
        return []
    told = aggregates.of_campaign(conn, campaign, lanes, until)
    return [
        {
            "day": one.day.isoformat(),
            "provider": one.provider,
            "signal": one.signal,
            "events": one.n,
            "rate": aggregates.rate(conn, one),
            "source": one.source,
        }
        for one in told
    ]


def _wave(wave: campaigns.WaveRow, counts: Mapping[tuple[int, str], batches.Counts]) -> dict[str, Any]:
    """A wave's people: `unknown` includes those being handed over, `not_sent` everybody in none of the others."""
    cells = [cell for (number, _provider), cell in counts.items() if number == wave.number]
    accepted = sum(cell.accepted for cell in cells)
    refused = sum(cell.refused for cell in cells)
    unknown = sum(cell.unknown + cell.handed for cell in cells)
    return {
        "number": wave.number,
        "status": wave.status,
        "pilot": wave.pilot or None,
        "planned": wave.planned,
        "released": sum(cell.released - cell.recalled for cell in cells),
        "accepted": accepted,
        "refused": refused,
        "unknown": unknown,
        "not_sent": wave.planned - accepted - refused - unknown,
    }


def _hold(hold: Hold) -> dict[str, Any]:
    return {
        "reason": hold.reason,
        "scope": hold.scope,
        "since": _text(hold.since),
        "by": hold.by,
        "kind": hold.kind,
        "detail": hold.detail,
        "until": _text(hold.until),
    }


def _signal(reading: kept.Reading, overruled: Mapping[str, datetime]) -> dict[str, Any]:
    """A verdict as it was given, in short."""
    return {
        "signal": reading.signal,
        "wave": reading.wave,
        "provider": reading.provider,
        "events": reading.events,
        "exposure": reading.exposure,
        "rate": reading.rate,
        "low": reading.low,
        "high": reading.high,
        "limit": reading.limit,
        "verdict": reading.verdict,
        "overruled": _is_overruled(reading.provider, reading.at, overruled),
        "maturity": reading.maturity,
        "mode": reading.mode,
        "sentence": reading.sentence,
        "at": _text(reading.at),
    }
