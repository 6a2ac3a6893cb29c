"""How big is wave n, and which part of the day it may use."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from sendwave.rules.units import DailyWindow, Duration, Percent, Policy, parse_duration


class WithinWave(StrEnum):
    """Order of the people inside one wave and lane."""

    SHUFFLED = "shuffled"  # stable hash: the first batches represent the wave, so its gate can be believed
    BEST_FIRST = "best_first"


class WavePlan(Policy):
    """The ramp, the wait between waves and the hours of the day."""

    ramp: tuple[Percent, ...] = Field(min_length=1, max_length=100, description="Shares of the plan, first wave first.")
    soak: Duration = Field(parse_duration("4h"), description="Wait after a wave so that feedback can arrive.")
    soak_max: Duration = Field(parse_duration("24h"), description="After that the rule of `on_inconclusive` applies.")
    window: DailyWindow | None = Field(None, description="Hours in which mail may leave; none means always.")
    within_wave: WithinWave = WithinWave.SHUFFLED

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = sum(self.ramp, Decimal(0))
        if total != 1:
            raise ValueError(f"the ramp adds up to {total * 100:g}%, it must be 100%")
        if any(not share for share in self.ramp):
            raise ValueError("a wave of 0% is no wave: take it out of the ramp")
        if self.soak_max < self.soak:
            raise ValueError("soak_max is shorter than soak")
        return self
