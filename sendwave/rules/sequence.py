"""Who first: the most engaged, and among equals a stable draw, so that no alphabet or sign-up date decides."""

from __future__ import annotations

from typing import Any, Final

from sendwave.rules.columns import BigInteger, ColumnElement, Double, Integer, String, column, func

UNRANKED: Final = 1_000
"""Place of people without a tier (only service messages write to them): after every tier."""

_TIER_RANK: Final = column("tier_rank", Integer)
_SCORE: Final = column("score", Double)
_TIE: Final = column("tie", String)
_CONTACT: Final = column("contact", BigInteger)


def best_first() -> tuple[ColumnElement[Any], ...]:
    """Sort keys over tier_rank, score, tie (a draw) and contact: total, hence the same on every engine and replay."""
    return (
        func.coalesce(_TIER_RANK, UNRANKED).asc(),
        _SCORE.desc().nulls_last(),
        _TIE.asc(),
        _CONTACT.asc(),
    )


def rank() -> ColumnElement[int]:
    """1 for the first person of the plan."""
    return func.row_number().over(order_by=best_first())
