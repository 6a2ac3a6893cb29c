"""What a CRM is told about scores: everybody's, or only what differs from what it was told last."""

from __future__ import annotations

from typing import Any, Final

from sendwave.rules.columns import (
    CONTACTS,
    SCORES,
    ColumnElement,
    Select,
    String,
    case,
    cast,
    column,
    null,
    or_,
    select,
    table,
)
from sendwave.rules.tiers import Tiers, known_score, tier_key

TOLD: Final = table("scores_before", *(column(c.name, c.type) for c in SCORES.columns))
"""The scores the CRM was given last."""

AGAIN: Final = table("again", column("contact_id", String))
"""Contacts it did not take then."""


def everybody(tiers: Tiers) -> Select[Any]:
    """One row per contact with a score: contact_id, score, tier, label, scored_ts, grid_version."""
    rows = CONTACTS.join(SCORES, SCORES.c.contact == CONTACTS.c.contact)
    return select(*_columns(tiers)).select_from(rows).where(known_score(SCORES.c.score).is_not(None))


def changed(tiers: Tiers) -> Select[Any]:
    """The same for those whose score or tier is another one than `TOLD`, or who are to be told `AGAIN`.

    Somebody who lost their score is a row of NULLs.
    """
    now, then = known_score(SCORES.c.score), known_score(TOLD.c.score)
    is_, was = (tier_key(tiers, part.c.score, part.c.tier) for part in (SCORES, TOLD))
    rows = (
        CONTACTS.outerjoin(SCORES, SCORES.c.contact == CONTACTS.c.contact)
        .outerjoin(TOLD, TOLD.c.contact == CONTACTS.c.contact)
        .outerjoin(AGAIN, AGAIN.c.contact_id == CONTACTS.c.contact_id)
    )
    differs = or_(now.is_distinct_from(then), is_.is_distinct_from(was), AGAIN.c.contact_id.is_not(None))
    return select(*_columns(tiers)).select_from(rows).where(differs)


def _columns(tiers: Tiers) -> list[ColumnElement[Any]]:
    tier = tier_key(tiers, SCORES.c.score, SCORES.c.tier)
    labels = [(tier == own.key, f"{own.emoji} {own.label}".strip()) for own in tiers.tiers]
    return [
        CONTACTS.c.contact_id,
        known_score(SCORES.c.score).label("score"),
        tier.label("tier"),
        case(*labels, else_=cast(null(), String)).label("label"),
        SCORES.c.scored_ts,
        SCORES.c.grid_version,
    ]
