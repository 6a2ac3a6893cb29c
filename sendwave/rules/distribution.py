"""How the base spreads over scores, tiers and attributes, and who moved between two runs: statements that count.

The base is everybody of the newest contacts snapshot, scored or not. `scores_before` has the columns of `scores`: what
another run gave people.
"""

from __future__ import annotations

from typing import Any, Final

from sendwave.rules.columns import (
    CONTACTS,
    SCORES,
    ColumnElement,
    Double,
    Select,
    String,
    Subquery,
    case,
    cast,
    column,
    func,
    literal,
    null,
    select,
    table,
)
from sendwave.rules.tiers import Tiers, known_score, tier_key

BEFORE: Final = table("scores_before", *(column(c.name, c.type) for c in SCORES.columns))
"""Scores of an earlier run."""

_LARGEST: Final = 1.7976931348623157e308

BINS: Final = 2_048
"""Most bars of a histogram; finer scores share one, which begins at the lowest score in it."""


def standing(tiers: Tiers, *further: ColumnElement[Any]) -> Subquery:
    """Everybody with score and tier, NULL where they are not known, and further columns of `contacts`."""
    return (
        select(
            CONTACTS.c.contact,
            case((SCORES.c.score >= -_LARGEST, known_score(SCORES.c.score)), else_=cast(null(), Double)).label("score"),
            tier_key(tiers, SCORES.c.score, SCORES.c.tier).label("tier"),
            *further,
        )
        .select_from(CONTACTS.outerjoin(SCORES, SCORES.c.contact == CONTACTS.c.contact))
        .subquery("standing")
    )


def by_tier(tiers: Tiers) -> Select[Any]:
    """One row per tier (NULL for nobody's), contacts, min_score, max_score; empty tiers are left out."""
    base = standing(tiers)
    lowest, highest = func.min(base.c.score).label("min_score"), func.max(base.c.score).label("max_score")
    told: tuple[ColumnElement[Any], ...] = (base.c.tier, func.count().label("contacts"), lowest, highest)
    return select(*told).group_by(base.c.tier)


def extent(tiers: Tiers) -> Select[Any]:
    """One row: contacts with a score, distinct scores, lowest, highest."""
    base = standing(tiers)
    told: tuple[ColumnElement[Any], ...] = (
        func.count(base.c.score).label("contacts"),
        func.count(base.c.score.distinct()).label("distinct"),
        func.min(base.c.score).label("low"),
        func.max(base.c.score).label("high"),
    )
    return select(*told)


def histogram(tiers: Tiers, *, low: float = 0.0, width: float | None = None) -> Select[Any]:
    """score, contacts: per distinct score, or per bin of `width` points from `low`, named by its lowest score."""
    base = standing(tiers)
    step: ColumnElement[Any] = base.c.score
    if width is not None:
        step = func.floor((base.c.score - literal(low, Double)) / literal(width, Double))
    lowest = func.min(base.c.score)
    told: tuple[ColumnElement[Any], ...] = (lowest.label("score"), func.count().label("contacts"))
    return select(*told).where(base.c.score.is_not(None)).group_by(step).order_by(lowest)


def by_attribute(tiers: Tiers, name: str) -> Select[Any]:
    """Rows of value (NULL where not known), tier, contacts; `name` is a column of the contacts snapshot."""
    known = CONTACTS.c[name] if name in CONTACTS.c else column(name, String)
    base = standing(tiers, cast(known, String).label("value"))
    return select(base.c.value, base.c.tier, func.count().label("contacts")).group_by(base.c.value, base.c.tier)


def moves(tiers: Tiers) -> Select[Any]:
    """known, was, is, contacts: who stood in which tier then and now, NULL where a score or its tier is not known.

    `known` is 'both', or 'new' and 'gone' for contacts that only the later or the earlier run has.
    """
    now = select(SCORES.c.contact, tier_key(tiers, SCORES.c.score, SCORES.c.tier).label("tier")).subquery("later")
    then = select(BEFORE.c.contact, tier_key(tiers, BEFORE.c.score, BEFORE.c.tier).label("tier")).subquery("earlier")
    known = case((then.c.contact.is_(None), "new"), (now.c.contact.is_(None), "gone"), else_="both")
    met = (
        select(known.label("known"), then.c.tier.label("was"), now.c.tier.label("is"))
        .select_from(then.outerjoin(now, now.c.contact == then.c.contact, full=True))
        .subquery("met")
    )
    return select(*met.c, func.count().label("contacts")).group_by(*met.c)


def named(cuts: Tiers) -> Select[Any]:
    """The columns of `scores`, with a tier for everybody who has a score but none yet; `cuts` are tiers by score."""
    tier = tier_key(cuts, SCORES.c.score, SCORES.c.tier)
    columns = [SCORES.c[c.name] if c.name != "tier" else tier.label("tier") for c in SCORES.columns]
    return select(*columns).order_by(SCORES.c.contact)


def unnamed() -> Select[Any]:
    """One row, contacts: how many have a score and no tier."""
    score = known_score(SCORES.c.score)
    return select(func.count().label("contacts")).where(score.is_not(None), SCORES.c.tier.is_(None))
