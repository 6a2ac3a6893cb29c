"""Which tier: ordered slices of the engagement score, the most engaged first.

Cut by score (`min_score`), or by share of the scored base (`share`): `rules/cutoffs.py` turns shares into the scores of
a day, and the run that writes the scores names the tier beside each.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

from pydantic import Field, field_validator

from sendwave.rules.columns import ColumnElement, Double, Integer, Reason, String, case, cast, column, func, null
from sendwave.rules.units import Key, Percent, Policy, format_percent


class Tier(Policy):
    """One slice of the score: from `min_score` (inclusive) up, or a share of the base. The coldest takes the rest."""

    key: Key = Field(description="Name used by campaign types, files and reports.")
    label: str = Field(description="What people read.")
    emoji: str = ""
    min_score: float | None = Field(
        default=None, allow_inf_nan=False, description="Lowest score; none for the coldest."
    )
    share: Percent | None = Field(
        default=None, description="Share of the scored base, in place of min_score; of all tiers but the coldest."
    )


class Tiers(Policy):
    """2 to 10 tiers, the most engaged first."""

    tiers: tuple[Tier, ...] = Field(min_length=2, max_length=10)

    @field_validator("tiers")
    @classmethod
    def _ordered(cls, tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
        keys = [t.key for t in tiers]
        if len(set(keys)) < len(keys):
            raise ValueError(f"a tier key is used twice: {', '.join(sorted({k for k in keys if keys.count(k) > 1}))}")
        if any(t.share is not None for t in tiers):
            _check_shares(tiers)
            return tiers
        cuts = [t.min_score for t in tiers if t is not tiers[-1] or t.min_score is not None]
        if any(c is None for c in cuts):
            raise ValueError("only the coldest (last) tier may leave min_score out")
        if any(a <= b for a, b in pairwise(cuts)):  # type: ignore[operator]  # None ruled out above
            raise ValueError("tiers must go from the highest min_score down, without two equal ones")
        return tiers

    @property
    def keys(self) -> tuple[str, ...]:
        """Tier keys, the most engaged first."""
        return tuple(t.key for t in self.tiers)

    @property
    def by_share(self) -> bool:
        """Whether tiers are shares of the base: then no score says its tier by itself."""
        return any(t.share is not None for t in self.tiers)


def _check_shares(tiers: tuple[Tier, ...]) -> None:
    """Raise ValueError for tiers that are not all shares of one base."""
    if any(t.min_score is not None for t in tiers):
        raise ValueError("tiers are cut by min_score or by share, all of them in the same way")
    shares = [t.share for t in tiers if t.share is not None]
    if len(shares) < len(tiers) - 1 or (tiers[-1].share is None) is (len(shares) == len(tiers)):
        raise ValueError("every tier needs its share; only the coldest (last) may leave it out")
    if not all(shares):
        raise ValueError("a share of 0% leaves a tier empty for good: leave that tier out")
    total = sum(shares, Decimal())
    if tiers[-1].share is not None and total != 1:
        raise ValueError(f"the shares add up to {format_percent(total)}, not 100%")
    if tiers[-1].share is None and total >= 1:
        raise ValueError(f"the shares add up to {format_percent(total)} and leave nothing for {tiers[-1].key!r}")


_LARGEST: Final = 1.7976931348623157e308
"""The largest finite double: NaN and infinity sort above it on every engine, and are no score."""


def known_score(score: ColumnElement[Any]) -> ColumnElement[float]:
    """The score, NULL for what is none (NaN, infinity)."""
    return case((score <= _LARGEST, score), else_=cast(null(), Double))


def tier_key(tiers: Tiers, score: ColumnElement[Any], given: ColumnElement[Any]) -> ColumnElement[str]:
    """The tier somebody was given, or the one their score falls into; NULL when neither is known.

    Tiers by share are only ever given: which scores make the best 5 % is a question about everybody at once.
    """
    if tiers.by_share:
        return given
    known = known_score(score)
    rungs = [
        (known.is_not(None) if tier.min_score is None else known >= tier.min_score, tier.key) for tier in tiers.tiers
    ]
    return func.coalesce(given, case(*rungs, else_=cast(null(), String)))


def tier_rank(tiers: Tiers, key: ColumnElement[Any]) -> ColumnElement[int]:
    """1 for the most engaged tier; NULL for a key tiers.yaml does not have."""
    return case(*((key == name, place) for place, name in enumerate(tiers.keys, 1)), else_=cast(null(), Integer))


def reasons(contacted: Collection[str]) -> tuple[Reason, ...]:
    """`no_score`, `unknown_tier` and `tier_not_contacted`, over the columns `tier` and `tier_rank`."""
    key, place = column("tier", String), column("tier_rank", Integer)
    return (
        Reason("no_score", key.is_not(None)),
        Reason("unknown_tier", place.is_not(None)),
        Reason("tier_not_contacted", key.in_(sorted(contacted))),
    )
