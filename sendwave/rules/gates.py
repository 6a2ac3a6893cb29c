"""Pass, hold, halt or blind: matured counts + policy + now > Verdict, with its evidence and the next look."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final, Self

import numpy as np
from pydantic import Field, model_validator

from sendwave.rules import bounds, evidence
from sendwave.rules.evidence import Balance
from sendwave.rules.maturity import FLOOR, USUAL, Curve, Tempo, matured
from sendwave.rules.signals import SIGNALS, Exposure
from sendwave.rules.units import Duration, Percent, Policy, format_percent, parse_duration, parse_percent

LIKELY: Final = 0.10
"""A hold asks for less than a halt: the counts would come up at the hold level one time in ten at most."""

FEW: Final = 3
"""Events that are no alarm in a sample too small to judge, once its soak is over (WarmySender and Plunk act from 3)."""

FEED: Final = "feed"
"""Name under which the verdict on the feed itself is kept, beside those of the signals."""

ALARM: Final = 10.0
"""Evidence above the limit at which the wave in flight waits; it goes on under `CALM`."""

CALM: Final = 3.0
"""Evidence under which an alarm is over."""

HALF: Final = 0.5
"""Share of the feedback due at which a wave too small to be cleared may pass."""


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
    EVIDENCE = "evidence"  # e-values, valid however often they are looked at


class Gate(Policy):
    """Limits of one signal. `hold` stops for a look, `halt` stops for good until a person resumes."""

    hold: Percent | None = Field(None, description="Rate at which the next wave is not opened.")
    halt: Percent | None = Field(None, description="Rate at which the wave in flight and all later ones stop.")
    min_sample: int = Field(500, ge=1, description="Matured exposure (messages) under which only a hold is possible.")
    min_events: int = Field(1, ge=1, description="Fewer events than this never halt.")
    confidence: Percent = Field(
        parse_percent("99%"), description="Of a halt: that it is right, ever (evidence) or per look (exact_bound)."
    )
    clearing: Percent = Field(
        parse_percent("10%"), gt=0, description="Chance that a sender on its limit is cleared for the next wave."
    )
    rule: Rule = Field(
        Rule.EVIDENCE,
        description="`evidence` is valid however often it is asked, without a sample; `point_rate` is as in contracts.",
    )
    mode: Mode = Mode.ENFORCE
    confirm: bool = Field(
        default=False,
        description="A halt that could be a burst slows its lane first, until slot after slot of mail bears it out.",
    )
    persist: Duration | None = Field(
        None, description="For bursts: a lane is slowed first, and stopped if mail sent so much later is bad as well."
    )

    @model_validator(mode="after")
    def _levels(self) -> Self:
        if self.hold is None and self.halt is None and self.mode is not Mode.OFF:
            raise ValueError("a gate needs a hold or a halt level, or mode: off")
        if self.hold is not None and self.halt is not None and self.hold > self.halt:
            raise ValueError("the hold level is above the halt level")
        return self

    @property
    def clear(self) -> float:
        """Evidence below the limit at which the next wave may open."""
        return 1 / float(self.clearing)

    def bar(self, cells: int = 1) -> float:
        """Evidence above the limit that halts, where so many cells are tested."""
        return evidence.bar(float(1 - self.confidence), cells)


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
    """Messages sent together, and what came back of them: one batch, or all since one restart point of the evidence."""

    sent_at: datetime  # of the newest
    sent: int
    events: int
    point: int = 0  # the last restart point before them (rules/evidence.py), counted from the campaign's start
    matured: tuple[float, float, float] | None = None  # messages that can have shown their event: fast, usual, slow

    def exposures(self, now: datetime, curve: Curve, tempo: Tempo) -> tuple[float, float, float]:
        """Matured messages were feedback fast, as usual, or slow."""
        if self.matured is not None:
            return self.matured
        age = now - self.sent_at
        fast, usual, slow = (curve.share(age / factor) for factor in (tempo.fast, tempo.usual, tempo.slow))
        return self.sent * fast, self.sent * usual, self.sent * slow


@dataclass(frozen=True, slots=True)
class Cell:
    """What one gate looks at: a signal in one scope."""

    signal: str
    wave: int  # 0: the whole campaign
    provider: str  # '': all lanes
    cohorts: tuple[Cohort, ...]
    waves: int = 1  # planned in the campaign: how many restart points there are
    tested: int = 1  # cells of the campaign that may halt: with many of them the bar is higher

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
    early: bool = False  # held only because the sample is too small to judge
    above: float = 1.0  # evidence that the rate is above the halt level (the hold level where there is none)
    below: float = 1.0  # evidence that it is below the level that holds
    alarm: float = 1.0  # as `above`, were feedback no faster than usual: what makes the wave in flight wait
    bar: float | None = None  # of `above`, at which it halts; None where the rule is no evidence
    clear: float | None = None  # of `below`, at which the next wave may open


def judge(
    cell: Cell, gate: Gate, now: datetime, *, curve: Curve, soaked: bool = False, late: bool = False,
    tempo: Tempo = USUAL, weighed: Balance | None = None, band: tuple[float, float] | None = None,
) -> Verdict:  # fmt: skip
    """Compare a cell with its gate. `weighed` and `band` are told where many cells were weighed at once.

    Under EVIDENCE: HALT at 2 / (1 - confidence), were feedback as fast as the events allow; HOLD at `ALARM` above the
    hold level. A wave passes at 1 / clearing below that level, were feedback slow, or when it is too small to be
    cleared: once half of its feedback is due and no more came than the limit allows. At the end of the longest soak
    (`late`) the latter is enough. Under the other rules:

    HALT when the rate is above the halt level, surely so (`confidence`), in a matured sample of `min_sample` with at
    least `min_events`. HOLD when it is likely above the hold level, or when the sample is still too small (`early`).
    A sample too small after its soak (`soaked`) passes unless it shows `FEW` events and is likely above.

    A tail of a sum of unequal chances is at most that of the binomial with their mean (Hoeffding 1956), so delayed
    feedback keeps EXACT_BOUND exact or cautious. It is exact for one look; looks add up. Measured at 99.9 %, looked at
    1,000 times while 100,000 messages leave: a sender exactly on a 0.3 % limit is stopped in 1.6 % of its campaigns, at
    0.9 times the limit in 0.1 %, at 0.8 times in none of 4,000.
    """
    counted = Counted.of(cell, now, curve, tempo)
    weighed = weighed or _weighed(cell, gate, now, curve, tempo)
    if gate.rule is Rule.EVIDENCE:
        decision, early, why = _weigh(cell, counted, gate, weighed, soaked=soaked, late=late)
    else:
        decision, early, why = _decide(counted, gate, soaked=soaked)
    low, high = band or _band(counted.events, counted.exposure, gate.confidence)
    return Verdict(
        cell=cell,
        decision=decision,
        mode=gate.mode,
        rule=gate.rule,
        events=counted.events,
        exposure=counted.exposure,
        maturity=counted.share,
        rate=counted.rate,
        low=low,
        high=high,
        hold_limit=None if gate.hold is None else float(gate.hold),
        halt_limit=None if gate.halt is None else float(gate.halt),
        sentence=f"{heading(cell)}: {_numbers(cell, counted, gate, decision)}; {why}",
        next_look=next_look(cell, now, curve),
        early=early,
        above=weighed.halt.value,
        below=weighed.below,
        alarm=weighed.alarm.value,
        bar=gate.bar(cell.tested) if gate.rule is Rule.EVIDENCE else None,
        clear=gate.clear if gate.rule is Rule.EVIDENCE else None,
    )


def _band(events: int, exposure: float, confidence: Decimal) -> tuple[float, float]:
    low, high = evidence.band(np.array([float(events)]), np.array([exposure]), float(1 - confidence))
    return float(low[0]), float(high[0])


@dataclass(frozen=True, slots=True)
class Counted:
    """A cell reduced to numbers. `size` is at least `events`: events can outrun the ledger by a moment."""

    events: int
    size: int
    exposure: float
    share: float

    @classmethod
    def of(cls, cell: Cell, now: datetime, curve: Curve, tempo: Tempo = USUAL) -> Counted:
        size = max(cell.sent, cell.events)
        known = sum(c.matured[1] for c in cell.cohorts if c.matured is not None)  # those events are in it already
        fresh = [c for c in cell.cohorts if c.matured is None]
        more = max(0, sum(c.events for c in fresh) - sum(c.sent for c in fresh))
        exposure = known + matured(((c.sent_at, c.sent) for c in fresh), now, curve, tempo) + FLOOR * more
        return cls(cell.events, size, exposure, exposure / size if size else 1.0)

    @property
    def rate(self) -> float | None:
        """Events per matured message, at most 1."""
        return min(1.0, self.events / self.exposure) if self.exposure else None

    @property
    def sample(self) -> float:
        """Matured messages, or those that have shown their event already."""
        return max(self.exposure, self.events)

    def above(self, limit: Decimal, gate: Gate, chance: float) -> bool:
        """Whether the rate is above `limit`, erring with a probability of at most `chance`."""
        if gate.rule is Rule.POINT_RATE:
            return self.rate is not None and self.rate > float(limit)
        if limit >= 1:
            return False
        return bounds.at_least(self.events, self.size, float(limit) * self.share) <= chance


def _weighed(cell: Cell, gate: Gate, now: datetime, curve: Curve, tempo: Tempo) -> Balance:
    """The evidence in one cell. A wave has its own restart points only; a cohort's events are messages at least."""
    told = sorted(cell.cohorts, key=lambda c: (c.sent_at, c.sent, c.events))
    rows = [
        (c.point, c.events, FLOOR * max(0, c.events - c.sent) if c.matured is None else 0.0,
         *c.exposures(now, curve, tempo))
        for c in told
    ]  # fmt: skip
    size = max((c.point for c in told), default=0) + 1
    events, exposures = np.zeros(size), np.zeros((3, size))
    for point, seen, more, *owed in rows:
        events[point] += seen
        exposures[:, point] += np.array(owed) + more
    start = min((c.point for c in told), default=0) // evidence.STAGES * evidence.STAGES if cell.wave else None
    hold, halt = levels(gate)
    return Balance.of(events, exposures, hold=hold, halt=halt, waves=cell.waves, start=start)


def levels(gate: Gate) -> tuple[float, float]:
    """The hold and the halt level, each standing in for the other one."""
    hold = gate.hold if gate.hold is not None else gate.halt
    halt = gate.halt if gate.halt is not None else gate.hold
    return (1.0 if hold is None else float(hold)), (1.0 if halt is None else float(halt))


def _weigh(
    cell: Cell, counted: Counted, gate: Gate, weighed: Balance, *, soaked: bool, late: bool
) -> tuple[Decision, bool, str]:
    """(decision, early, why in words) by the evidence."""
    enough = counted.events >= gate.min_events
    bar = gate.bar(cell.tested)
    if enough and gate.halt is not None and weighed.halt.value >= bar:
        return Decision.HALT, False, f"{weighed.halt.in_words('the limit')}, {bar:,.0f} needed: halt"
    if enough and weighed.hold.value >= ALARM:
        return Decision.HOLD, False, weighed.hold.in_words("the hold level")
    if not cell.wave or cell.provider or gate.halt is None:
        return Decision.PASS, False, "no evidence that the rate is above the limit"
    return _clear(counted, gate, weighed, soaked=soaked, late=late)


def _clear(counted: Counted, gate: Gate, weighed: Balance, *, soaked: bool, late: bool) -> tuple[Decision, bool, str]:
    """Whether a wave without an alarm may be followed by the next one."""
    calm = counted.events <= max(weighed.allowed, 1.0)  # a single event proves nothing
    if weighed.below >= gate.clear:
        return Decision.PASS, False, f"{weighed.below:,.0f} to 1 that the rate is below the limit"
    if counted.size * levels(gate)[0] < 1:
        return Decision.PASS, False, "too few people to show anything"
    if calm and (counted.share >= HALF or late):
        return (
            Decision.PASS,
            False,
            f"{counted.share:.0%} of the feedback is due, and no more came than the limit allows",
        )
    odds = f"{weighed.below:,.1f} to 1, {gate.clear:,.0f} needed"
    return Decision.HOLD, not soaked, f"not surely below the limit yet ({odds})"


def _decide(counted: Counted, gate: Gate, *, soaked: bool) -> tuple[Decision, bool, str]:
    """(decision, early, why in words)."""
    enough = counted.sample >= gate.min_sample
    likely = counted.events > 0 and gate.hold is not None and counted.above(gate.hold, gate, LIKELY)
    surely = (
        gate.halt is not None
        and counted.events >= gate.min_events
        and counted.above(gate.halt, gate, float(1 - gate.confidence))
    )
    if enough and surely:
        return Decision.HALT, False, "surely above: halt"
    if not enough and not soaked:
        short = f"{counted.sample:,.0f} of {gate.min_sample:,} matured messages"
        return Decision.HOLD, True, f"too early to judge ({short})"
    if (surely or likely) and (enough or counted.events >= FEW):
        return (
            Decision.HOLD,
            False,
            "likely above the hold level" if likely else "above the halt level in a small sample",
        )
    if not enough:
        return Decision.PASS, False, "a small sample without an alarm"
    return Decision.PASS, False, "within the limit"


def heading(cell: Cell) -> str:
    """What a cell is about, in words."""
    label = SIGNALS[cell.signal].label if cell.signal in SIGNALS else cell.signal
    return f"{label}, {cell.provider or 'all lanes'}, {f'wave {cell.wave}' if cell.wave else 'all waves'}"


def _numbers(cell: Cell, counted: Counted, gate: Gate, decision: Decision) -> str:
    word = SIGNALS[cell.signal].exposure if cell.signal in SIGNALS else Exposure.ACCEPTED
    seen = f"{counted.events:,} seen among {cell.sent:,} {word}"
    limit = gate.halt if decision is Decision.HALT or gate.hold is None else gate.hold
    if limit is None or not cell.sent:
        return seen
    return (
        f"{seen}; a sender at the {format_percent(limit)} limit would have shown {float(limit) * counted.exposure:,.1f}"
    )


def next_look(cell: Cell, now: datetime, curve: Curve) -> timedelta | None:
    """How long until the newest mail of a cell tells noticeably more."""
    newest = max((c.sent_at for c in cell.cohorts), default=None)
    return None if newest is None else curve.next_step(now - newest)
