"""Where everybody of a plan stands: sent, unknown, or not sent and why. Each person exactly once, at any moment.

One statement over the plan's file, the campaign's `sends` files and four small tables of the store (see `*_TABLE`).
The freeze in which a person's message left is their truth, else their newest one; nobody whose fate is `handed` or
`unknown` may be counted as sent or unsent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sendwave.rules.columns import (
    PLAN,
    SENDS,
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    String,
    and_,
    case,
    column,
    func,
    literal,
    null,
    or_,
    select,
    table,
)
from sendwave.rules.lifecycle import Batch, Campaign, Lane, Wave

SENT: Final = "sent"
UNKNOWN: Final = "unknown"
NOT_SENT: Final = "not_sent"

STANDINGS_TABLE: Final = table(
    "standings", column("batch", BigInteger), column("status", String), column("settled", String)
)
"""Released batches: what everybody in one shares, and since when (ISO 8601 text)."""

OUTCOMES_TABLE: Final = table(
    "outcomes",
    column("batch", BigInteger),
    column("position", Integer),
    column("state", String),
    column("reason", String),
    column("settled", String),
)
"""People who do not share their batch's status, in the coordinates of the batch they were released in."""

WAVES_TABLE: Final = table("wave_rows", column("number", Integer), column("status", String))
LANES_TABLE: Final = table("lane_rows", column("provider", String), column("status", String))


@dataclass(frozen=True, slots=True)
class Asked:
    """The campaign in question, as it stands. `planned` is ISO 8601 text: when the plan excluded people."""

    campaign: int
    status: str
    last_wave: int | None
    planned: str | None


@lru_cache(maxsize=64)
def standing_statement(asked: Asked) -> Select[Any]:
    """contact_id, state, reason, wave, provider, tier, at: one row per row of the plan, in no order."""
    counting = _counting(asked.campaign)
    wave, lane = WAVES_TABLE.c, LANES_TABLE.c
    fate = counting.c.fate
    excluded = func.coalesce(PLAN.c.excluded_by, counting.c.excluded_by)
    waiting = _waiting(asked, fate, wave.status, lane.status)
    state = case(
        (excluded.is_not(None), literal(NOT_SENT)),
        (fate == Batch.ACCEPTED, literal(SENT)),
        (fate.in_((Batch.UNKNOWN, Batch.HANDED)), literal(UNKNOWN)),
        else_=literal(NOT_SENT),
    )
    reason = case(
        (excluded.is_not(None), excluded),
        (fate == Batch.ACCEPTED, null()),
        (fate == Batch.UNKNOWN, func.nullif(counting.c.reason, "")),
        (fate == Batch.HANDED, literal("being handed over")),
        (fate.in_((Batch.REFUSED, "dropped")), _coded(fate, counting.c.reason)),
        else_=waiting,
    )
    settled = fate.in_((Batch.ACCEPTED, Batch.UNKNOWN, Batch.HANDED, Batch.REFUSED, Batch.RECALLED, "dropped"))
    at = case(
        (PLAN.c.excluded_by.is_not(None), literal(asked.planned, String)),
        (settled, counting.c.settled),
        else_=null(),
    )
    return select(
        PLAN.c.contact_id,
        state.label("state"),
        reason.label("reason"),
        PLAN.c.wave,
        PLAN.c.provider,
        PLAN.c.tier,
        at.label("at"),
    ).select_from(
        PLAN.outerjoin(counting, counting.c.contact == PLAN.c.contact)
        .outerjoin(WAVES_TABLE, wave.number == PLAN.c.wave)
        .outerjoin(LANES_TABLE, lane.provider == PLAN.c.provider)
    )


@lru_cache(maxsize=64)
def totals_statement(asked: Asked) -> Select[Any]:
    """state, reason, contacts: the same rows, counted."""
    rows = standing_statement(asked).subquery("standing")
    return select(rows.c.state, rows.c.reason, func.count().label("contacts")).group_by(rows.c.state, rows.c.reason)


def _counting(campaign: int) -> Any:
    """Each person's `sends` row in the campaign that counts, with their fate in it: one row a person.

    It is the newest, but for who had left unheard, was to go again, and was then left out by a newer freeze.
    """
    batch, one = STANDINGS_TABLE.c, OUTCOMES_TABLE.c
    fate = func.coalesce(one.state, batch.status)
    left = case((fate == Batch.ACCEPTED, 0), else_=1)
    turn = func.row_number().over(
        partition_by=SENDS.c.contact,
        order_by=(left, SENDS.c.freeze.desc(), SENDS.c.batch.desc(), SENDS.c.position),
    )
    told = (fate.label("fate"), one.reason.label("reason"), func.coalesce(one.settled, batch.settled).label("settled"))
    rows = (
        select(SENDS.c.contact, SENDS.c.excluded_by, *told, turn.label("turn"))
        .select_from(
            SENDS.outerjoin(STANDINGS_TABLE, batch.batch == SENDS.c.batch).outerjoin(
                OUTCOMES_TABLE, and_(one.batch == SENDS.c.batch, one.position == SENDS.c.position)
            )
        )
        .where(SENDS.c.campaign == campaign)
    )
    ordered = rows.subquery("frozen")
    return select(*(c for c in ordered.c if c.name != "turn")).where(ordered.c.turn == 1).subquery("counting")


def _coded(fate: ColumnElement[Any], detail: ColumnElement[Any]) -> ColumnElement[Any]:
    """`refused:5.1.1`, `dropped:suppressed`; the bare word where nothing more is known."""
    return case((func.coalesce(detail, "") == "", fate), else_=fate.concat(":").concat(detail))


def _waiting(
    asked: Asked, fate: ColumnElement[Any], wave: ColumnElement[Any], lane: ColumnElement[Any]
) -> ColumnElement[Any]:
    """Why somebody the plan wants has not been handed over: the first thing that stands in the way."""
    shortened = or_(wave == Wave.SKIPPED, and_(literal(asked.last_wave is not None), _after(asked.last_wave)))
    if asked.status == Campaign.CANCELLED:
        return case((_after(asked.last_wave), literal("shortened")), else_=literal("cancelled"))
    stopped = {Campaign.HALTED: "halted", Campaign.PAUSED: "paused"}.get(Campaign(asked.status))
    ways: list[tuple[ColumnElement[bool], ColumnElement[Any]]] = [
        (shortened, literal("shortened")),
        (wave == Wave.HALTED, literal("halted")),
    ]
    if stopped is not None:
        ways.append((literal(value=True), literal(stopped)))
    frozen = fate.is_not(None)
    return case(
        *ways,
        (and_(frozen, wave != Wave.WAITING, lane == Lane.SUSPENDED), literal("lane_suspended")),
        (and_(fate == Batch.RECALLED, wave != Wave.WAITING), literal("recalled")),
        (fate.in_((Batch.READY, Batch.CLAIMED)), literal("ready")),
        else_=literal("waiting"),
    )


def _after(last_wave: int | None) -> ColumnElement[bool]:
    """Whether a person's wave comes after the last one that may be sent; false where there is no such limit."""
    return literal(value=False) if last_wave is None else PLAN.c.wave > last_wave
