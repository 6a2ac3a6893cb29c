"""Which tier: ordered slices of the engagement score, the most engaged first."""

from __future__ import annotations

from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator

from sendwave.rules.units import Policy


class Tier(Policy):
    """One slice of the score. `min_score` is inclusive; the coldest tier has none."""

    key: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Name used by campaign types, files and reports.")
    label: str = Field(description="What people read.")
    emoji: str = ""
    min_score: float | None = Field(None, description="Lowest score of the tier; none for the coldest.")


class Tiers(Policy):
    """2 to 10 tiers, the most engaged first."""

    tiers: tuple[Tier, ...] = Field(min_length=2, max_length=10)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        keys = [t.key for t in self.tiers]
        if len(set(keys)) < len(keys):
            raise ValueError(f"a tier key is used twice: {', '.join(sorted({k for k in keys if keys.count(k) > 1}))}")
        cuts = [t.min_score for t in self.tiers[:-1]]
        if any(c is None for c in cuts):
            raise ValueError("only the coldest (last) tier may leave min_score out")
        if any(a <= b for a, b in pairwise(cuts)):  # type: ignore[operator]  # None ruled out above
            raise ValueError("tiers must go from the highest min_score down, without two equal ones")
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """Tier keys, the most engaged first."""
        return tuple(t.key for t in self.tiers)
