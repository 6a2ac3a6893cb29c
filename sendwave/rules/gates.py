"""Pass, hold, halt or blind: matured counts + policy + now > Verdict, with its evidence and the next look."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from sendwave.rules.units import Duration, Percent, Policy, parse_duration, parse_percent


class Decision(StrEnum):
    """The four answers, from best to worst."""

    PASS = "pass"
    HOLD = "hold"  # too early to say, or over the hold level
    BLIND = "blind"  # the feed is silent: nothing can be said
    HALT = "halt"


class Mode(StrEnum):
    """What a gate may do with its verdict."""

    ENFORCE = "enforce"
    OBSERVE = "observe"  # assessed, shown, recorded; cannot act
    OFF = "off"


class Rule(StrEnum):
    """How counts are compared with the limit."""

    EXACT_BOUND = "exact_bound"  # one-sided exact binomial bound
    POINT_RATE = "point_rate"  # events / exposure, as ESP contracts are written


class Gate(Policy):
    """Limits of one signal. `hold` stops for a look, `halt` stops for good until a person resumes."""

    hold: Percent | None = Field(None, description="Rate at which the next wave is not opened.")
    halt: Percent | None = Field(None, description="Rate at which the wave in flight and all later ones stop.")
    min_sample: int = Field(500, ge=1, description="Matured exposure (messages) under which only a hold is possible.")
    min_events: int = Field(1, ge=1, description="Fewer events than this never halt.")
    confidence: Percent = Field(parse_percent("99.9%"), description="Of the one-sided exact bound.")
    rule: Rule = Rule.EXACT_BOUND
    mode: Mode = Mode.ENFORCE

    @model_validator(mode="after")
    def _levels(self) -> Self:
        if self.hold is None and self.halt is None and self.mode is not Mode.OFF:
            raise ValueError("a gate needs a hold or a halt level, or mode: off")
        if self.hold is not None and self.halt is not None and self.hold > self.halt:
            raise ValueError("the hold level is above the halt level")
        return self


class GateSet(Policy):
    """One named set of gates (`default`, `strict`, …), by signal."""

    signals: dict[str, Gate]
    blind_after: Duration = Field(parse_duration("30m"), description="Silence after which a feed counts as broken.")
    blind_below: Percent = Field(parse_percent("20%"), description="Share of owed deliveries seen.")
    blind_min: int = Field(50, ge=1, description="Owed deliveries under which silence proves nothing.")
    halt_share: Percent = Field(
        parse_percent("50%"), description="Share of mail in suspended lanes at which the campaign halts."
    )
    lane_patience: Duration = Field(
        parse_duration("72h"), description="How long a suspended lane waits for a person before it is given up."
    )


@dataclass(frozen=True, slots=True)
class Cohort:
    """Messages sent together, and what came back of them: one batch or minute of batches."""

    sent_at: datetime
    sent: int
    events: int


@dataclass(frozen=True, slots=True)
class Cell:
    """What one gate looks at: a signal in one scope."""

    signal: str
    wave: int  # 0: the whole campaign
    provider: str  # '': all lanes
    cohorts: tuple[Cohort, ...]

    @property
    def sent(self) -> int:
        """Messages accepted in the cell."""
        return sum(c.sent for c in self.cohorts)

    @property
    def events(self) -> int:
        """Distinct events booked to those messages."""
        return sum(c.events for c in self.cohorts)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one cell, with everything a person needs to compute it again."""

    cell: Cell
    decision: Decision
    mode: Mode
    rule: Rule
    events: int
    exposure: float  # matured messages: sent × share of the signal expected by now
    maturity: float  # that share, 0 to 1
    rate: float | None  # events / exposure
    low: float  # bounds of the rate at the gate's confidence
    high: float
    hold_limit: float | None
    halt_limit: float | None
    sentence: str
    next_look: timedelta | None = field(default=None)
