"""Campaigns, their waves and lanes. The only caller of the lifecycle table for them.

A transition is a compare-and-set UPDATE and a journal row in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, func, insert, or_, select, update

from sendwave.errors import BadInput, NotAllowed, NotFound, did_you_mean
from sendwave.rules import lifecycle
from sendwave.rules.campaign import CampaignFile
from sendwave.store import campaign_rows, journal, tables
from sendwave.store.campaign_rows import Campaign, LaneRow, WaveRow
from sendwave.store.tables import campaigns
from sendwave.store.transitions import Row, move
from sendwave.store.upsert import upsert

__all__ = ["Campaign", "LaneRow", "WaveRow"]
# The rows are read from here with the functions that give them.

SLOWED: Final = "lane.slow"
"""Action in the journal when a lane goes on at a part of its pace."""


def create(conn: Connection, file: CampaignFile, channel: str, *, by: str, now: datetime) -> Campaign:
    """A new draft. Raises BadInput when the name is taken: names are never used again."""
    row = {
        "name": file.name,
        "title": file.title,
        "type": file.type,
        "channel": channel,
        "status": lifecycle.Campaign.DRAFT,
        "settings": file.model_dump(mode="json"),
        "start_at": file.start,
        "created_at": now,
        "created_by": by,
    }
    statement = upsert(conn, campaigns).values(row).on_conflict_do_nothing().returning(campaigns.c.id)
    campaign_id = conn.execute(statement).scalar()
    if campaign_id is None:
        raise BadInput(f"there is already a campaign named {file.name!r}: names are never used again, choose another")
    journal.write(conn, at=now, actor=by, action="campaign.create", campaign_id=campaign_id)
    return by_id(conn, campaign_id)


def get(conn: Connection, name: str) -> Campaign:
    """The campaign of that name or, failing that, of that number. Raises NotFound with the nearest names."""
    row = conn.execute(campaign_rows.NAMED, {"campaign": name}).mappings().one_or_none()
    if row is None and name.isdecimal():
        row = conn.execute(campaign_rows.NUMBERED, {"campaign": int(name)}).mappings().one_or_none()
    if row is None:
        hint = did_you_mean(name, conn.execute(select(campaigns.c.name)).scalars())
        raise NotFound(f"there is no campaign {name!r}.{hint or ' `sendwave campaign list` shows them all.'}")
    return campaign_rows.campaign(row)


def by_id(conn: Connection, campaign_id: int) -> Campaign:
    """The campaign of that store id. Raises NotFound."""
    row = conn.execute(campaign_rows.NUMBERED, {"campaign": campaign_id}).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no campaign number {campaign_id}")
    return campaign_rows.campaign(row)


def listing(conn: Connection, statuses: Collection[str] | None = None) -> list[Campaign]:
    """All campaigns, oldest first, or those in the given statuses."""
    asked, told = campaign_rows.ALL, {}
    if statuses is not None:
        asked, told = campaign_rows.IN_STATUS, {"statuses": list(statuses)}
    return [campaign_rows.campaign(row) for row in conn.execute(asked, told).mappings()]


def waves(conn: Connection, campaign_id: int) -> list[WaveRow]:
    """The waves of the plan, first one first."""
    return [WaveRow(*row) for row in conn.execute(campaign_rows.WAVES, {"campaign": campaign_id})]


def lanes(conn: Connection, campaign_id: int) -> list[LaneRow]:
    """The lanes of the plan, by provider."""
    return [LaneRow(*row) for row in conn.execute(campaign_rows.LANES, {"campaign": campaign_id})]


def exclusions(conn: Connection, campaign_id: int) -> dict[tuple[str, str], int]:
    """People the plan leaves out: {(reason, tier): contacts}."""
    table = tables.exclusions
    rows = conn.execute(
        select(table.c.reason, table.c.tier, table.c.contacts)
        .where(table.c.campaign_id == campaign_id)
        .order_by(table.c.reason, table.c.tier)
    )
    return {(row.reason, row.tier): row.contacts for row in rows}


def store_plan(
    conn: Connection,
    campaign_id: int,
    *,
    plan_file: int,
    pins: Mapping[str, Sequence[int]],
    policy_version: str,
    waves: Sequence[WaveRow],
    lanes: Sequence[str],
    exclusions: Mapping[tuple[str, str], int],
    by: str,
    now: datetime,
) -> None:
    """Make a plan the campaign's plan; it replaces an earlier one, and with it an approval given to that one.

    `policy_version` must be remembered in the store already. Raises NotAllowed once sending has begun.
    """
    again = by_id(conn, campaign_id).status == lifecycle.Campaign.APPROVED
    transition(
        conn,
        campaign_id,
        "replan" if again else "plan",
        by=by,
        now=now,
        evidence={"planned": sum(wave.planned for wave in waves), "excluded": _by_reason(exclusions)},
        plan_file=plan_file,
        plan_pins={dataset: list(ids) for dataset, ids in pins.items()},
        policy_version=policy_version,
        planned_at=now,
        approved_at=None,
        approved_by=None,
        last_wave=None,
    )
    for table in (tables.waves, tables.lanes, tables.exclusions):
        conn.execute(delete(table).where(table.c.campaign_id == campaign_id))
    _insert(conn, tables.waves, [{"campaign_id": campaign_id, **_columns(wave)} for wave in waves])
    _insert(
        conn,
        tables.lanes,
        [{"campaign_id": campaign_id, "provider": p, "status": lifecycle.Lane.OPEN, "throttle": 1.0} for p in lanes],
    )
    _insert(
        conn,
        tables.exclusions,
        [
            {"campaign_id": campaign_id, "reason": reason, "tier": tier, "contacts": contacts}
            for (reason, tier), contacts in exclusions.items()
        ],
    )


def recut(
    conn: Connection, campaign_id: int, rows: Sequence[WaveRow], *, plan_file: int, last_wave: int | None
) -> None:
    """Replace the waves from the first of `rows` on, with the plan's file they were counted from."""
    table = tables.waves
    conn.execute(delete(table).where(table.c.campaign_id == campaign_id, table.c.number >= rows[0].number))
    _insert(conn, table, [{"campaign_id": campaign_id, **_columns(wave)} for wave in rows])
    values = {"plan_file": plan_file, "last_wave": last_wave}
    conn.execute(update(campaigns).where(campaigns.c.id == campaign_id).values(values))


def transition(
    conn: Connection,
    campaign_id: int,
    event: str,
    *,
    by: str,
    now: datetime,
    reason: str = "",
    evidence: Mapping[str, Any] | None = None,
    seen: str | None = None,
    **columns: Any,
) -> str:
    """Apply an event to a campaign, with further `columns` of its row; returns its new status.

    Raises NotAllowed, which says what may happen instead, and StaleTransition when somebody moved the row first:
    since it was read here, or since the caller saw it in the status `seen`.
    """
    row = Row("campaign", campaign_id)
    return move(conn, row, event, by=by, now=now, reason=reason, evidence=evidence, seen=seen, columns=columns)


def transition_wave(
    conn: Connection,
    campaign_id: int,
    number: int,
    event: str,
    *,
    by: str,
    now: datetime,
    reason: str = "",
    evidence: Mapping[str, Any] | None = None,
    seen: str | None = None,
    **columns: Any,
) -> str:
    """Apply an event to one wave; as `transition`."""
    row = Row("wave", campaign_id, wave=number)
    return move(conn, row, event, by=by, now=now, reason=reason, evidence=evidence, seen=seen, columns=columns)


def wait_again(conn: Connection, campaign_id: int, number: int, *, by: str, now: datetime) -> None:
    """Let a wave wait for its release once more, for its people an ESP gave back; not one that was stopped or cut."""
    campaign = by_id(conn, campaign_id)
    cut = campaign.last_wave is not None and number > campaign.last_wave
    status = next((wave.status for wave in waves(conn, campaign_id) if wave.number == number), None)
    if campaign.status not in lifecycle.FINAL and not cut and status in lifecycle.WAVE["again"][0]:
        transition_wave(conn, campaign_id, number, "again", by=by, now=now, reason="called back")


def transition_waves(
    conn: Connection,
    campaign_id: int,
    event: str,
    *,
    by: str,
    now: datetime,
    reason: str = "",
    after: int = 0,
    only: Collection[str] | None = None,
) -> list[int]:
    """Apply an event to every wave later than `after` that it may happen to (`only`: in these statuses); their numbers.

    What a halt, a resume or a cancel does to the waves: those the table leaves alone stay as they are.
    """
    moved = [
        wave.number
        for wave in waves(conn, campaign_id)
        if wave.number > after
        and lifecycle.next_status(lifecycle.WAVE, wave.status, event) is not None
        and (only is None or wave.status in only)
    ]
    for number in moved:
        transition_wave(conn, campaign_id, number, event, by=by, now=now, reason=reason)
    return moved


def transition_lane(
    conn: Connection,
    campaign_id: int,
    provider: str,
    event: str,
    *,
    by: str,
    now: datetime,
    reason: str = "",
    evidence: Mapping[str, Any] | None = None,
    seen: str | None = None,
    **columns: Any,
) -> str:
    """Apply an event to one lane; as `transition`."""
    row = Row("lane", campaign_id, provider=provider)
    return move(conn, row, event, by=by, now=now, reason=reason, evidence=evidence, seen=seen, columns=columns)


def pace_lane(
    conn: Connection,
    campaign_id: int,
    provider: str,
    factor: float,
    *,
    by: str,
    now: datetime,
    reason: str = "",
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """Slow a lane to `factor` of its pace (below 1), or give it its pace back (1)."""
    table, action = tables.lanes, SLOWED if factor < 1 else "lane.restore"
    chosen = (table.c.campaign_id == campaign_id) & (table.c.provider == provider)
    conn.execute(update(table).where(chosen).values(throttle=factor))
    told: dict[str, Any] = {"provider": provider, "reason": reason, "evidence": evidence}
    journal.write(conn, at=now, actor=by, action=action, campaign_id=campaign_id, **told)


def slowed_at(conn: Connection, campaign_id: int) -> dict[str, datetime]:
    """When each lane was slowed last, also if it has its pace back."""
    rows = tables.journal.c
    when = select(rows.provider, func.max(rows.at)).where(rows.campaign_id == campaign_id, rows.action == SLOWED)
    return {row[0]: row[1] for row in conn.execute(when.group_by(rows.provider))}


def judge_from(conn: Connection, campaign_id: int, instant: datetime) -> None:
    """A person overruled the gates: in every lane only mail sent after `instant` is judged."""
    table = tables.lanes
    conn.execute(update(table).where(table.c.campaign_id == campaign_id).values(judged_from=instant))


def set_limits(conn: Connection, campaign_id: int, limits: Mapping[str, Mapping[str, str]]) -> None:
    """Keep the limits a person set for this campaign alone; an empty mapping is none."""
    conn.execute(update(campaigns).where(campaigns.c.id == campaign_id).values(limits=dict(limits) or None))


def start_due(conn: Connection, *, by: str, now: datetime) -> list[Campaign]:
    """Start the approved campaigns whose start has come (or that name none); returns them as they are now."""
    due = select(campaigns.c.id).where(
        campaigns.c.status == lifecycle.Campaign.APPROVED,
        or_(campaigns.c.start_at.is_(None), campaigns.c.start_at <= now),
    )
    started = []
    for campaign_id in conn.execute(due.order_by(campaigns.c.id)).scalars().all():
        transition(conn, campaign_id, "start", by=by, now=now)
        started.append(by_id(conn, campaign_id))
    return started


def shorten(conn: Connection, campaign_id: int, last_wave: int, *, by: str, now: datetime, reason: str = "") -> None:
    """Record the last wave that may be sent; what becomes of the later ones is `transition_waves`.

    Raises NotAllowed for a campaign that ended or was shortened to this wave or an earlier one.
    """
    named, of = by_id(conn, campaign_id), campaigns.c
    shorter = or_(of.last_wave.is_(None), of.last_wave > last_wave)
    going = of.status.not_in([*lifecycle.FINAL, lifecycle.Campaign.DRAFT])
    cut = update(campaigns).where(of.id == campaign_id, shorter, going).values(last_wave=last_wave)
    if conn.execute(cut).rowcount != 1:
        raise NotAllowed(
            f"campaign {named.name} is {named.status}"
            + (f" and ends after wave {named.last_wave} already" if named.last_wave is not None else "")
            + ": it cannot be shortened"
        )
    journal.write(
        conn,
        at=now,
        actor=by,
        action="campaign.shorten",
        campaign_id=campaign_id,
        reason=reason,
        evidence={"last_wave": last_wave, "before": named.last_wave},
        policy_version=named.policy_version,
    )


def _columns(wave: WaveRow) -> dict[str, Any]:
    return {name: getattr(wave, name) for name in WaveRow.__dataclass_fields__}


def _insert(conn: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        conn.execute(insert(table), rows)


def _by_reason(counts: Mapping[tuple[str, str], int]) -> dict[str, int]:
    total: dict[str, int] = {}
    for (reason, _tier), contacts in counts.items():
        total[reason] = total.get(reason, 0) + contacts
    return total
