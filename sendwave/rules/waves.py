"""How big is wave n, and which part of the day it may use."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from itertools import accumulate, pairwise
from math import ceil
from typing import Any, Final, Self

from pydantic import Field, model_validator

from sendwave.rules.columns import BigInteger, ColumnElement, Integer, and_, case, cast, func, literal
from sendwave.rules.units import DailyWindow, Duration, Percent, Policy, format_percent, parse_duration


class WithinWave(StrEnum):
    """Order of the people inside one wave and lane."""

    SHUFFLED = "shuffled"  # stable hash: the first batches represent the wave, so its gate can be believed
    BEST_FIRST = "best_first"


class Inconclusive(StrEnum):
    """What becomes of a wave that can be neither cleared nor halted when its longest soak is over."""

    HALT = "halt"  # the campaign, or the lanes in the way, stop until a person resumes
    HOLD = "hold"  # the next wave stays closed until late answers clear it or a person releases it
    RELEASE = "release"  # the next wave opens; the gates go on judging


class WavePlan(Policy):
    """The ramp, the wait between waves and the hours of the day."""

    ramp: tuple[Percent, ...] = Field(min_length=1, max_length=100, description="Shares of the plan, first wave first.")
    soak: Duration = Field(parse_duration("4h"), description="Wait after a wave so that feedback can arrive.")
    soak_max: Duration = Field(parse_duration("24h"), description="After that the rule of `on_inconclusive` applies.")
    on_inconclusive: Inconclusive = Field(
        Inconclusive.HALT,
        description="A wave neither good nor bad by then: `halt`, `hold` (a person decides) or `release`.",
    )
    pilot: Percent | None = Field(
        None, description="Head of each colder tier that goes alone, as a wave of its own, before the rest of the tier."
    )
    by_tier: bool = Field(
        default=False, description="Each tier begins a wave of its own, so that its gates judge it alone."
    )
    window: DailyWindow | None = Field(None, description="Hours in which mail may leave; none means always.")
    within_wave: WithinWave = WithinWave.SHUFFLED

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = sum(self.ramp, Decimal(0))
        if total != 1:
            raise ValueError(f"the ramp adds up to {format_percent(total)}, it must be 100%")
        if any(not share for share in self.ramp):
            raise ValueError("a wave of 0% is no wave: take it out of the ramp")
        if self.pilot is not None and not 0 < self.pilot < 1:
            raise ValueError("a pilot is a part of its tier: more than 0% and less than 100%; leave it out for none")
        if self.soak_max < self.soak:
            raise ValueError("soak_max is shorter than soak")
        return self


PILOT_LEAST: Final = 200
"""People in a pilot at least: fewer would show no hard bounce rate of five times a 2 % limit (112 do, `TO_HALT`)."""


def sizes(
    ramp: Sequence[Decimal], total: int, *, tiers: Sequence[int] = (), pilot: Decimal | None = None,
    by_tier: bool = False,
) -> tuple[int, ...]:  # fmt: skip
    """People per wave, first wave first: a partition of `total`.

    Each wave ends at the ceiling of its cumulated share, so that the first wave of a small plan has somebody in it and
    the last one takes what is left; waves nobody falls into are dropped and the others numbered without a gap. With
    `pilot`, the head of each of the `tiers` (people of each, best first) but the first is a wave of its own; an end of
    the ramp that falls into it moves to its end. `by_tier`: the end of each tier is one of a wave.
    """
    ends = [-(-total * above // scale) for above, scale in _cumulated(ramp)]
    found = heads(tiers, pilot)
    for start, head in found:
        ends = [head if start < end < head else end for end in ends]
    starts = [*accumulate(tiers)] if by_tier else []
    cuts = sorted({0, *ends, *starts, *(cut for pair in found for cut in pair)})
    return tuple(size for size in (b - a for a, b in pairwise(cuts)) if size)


def heads(tiers: Sequence[int], pilot: Decimal | None) -> list[tuple[int, int]]:
    """(people before it, people up to its end) of each pilot, given the people of each tier, best first.

    The first tier needs none, the ramp's own first wave being small. Nor has one a tier too small for it: the head is
    `PILOT_LEAST` people at least, and a half of its tier at most.
    """
    found: list[tuple[int, int]] = []
    if pilot is None:
        return found
    above, scale = _whole(pilot)
    before = 0
    for size in tiers:
        head = max(-(-size * above // scale), PILOT_LEAST)
        if before and 2 * head <= size:
            found.append((before, before + head))
        before += size
    return found


def head_ends(
    tiers: Sequence[ColumnElement[Any]], pilot: Decimal, total: ColumnElement[Any]
) -> list[tuple[ColumnElement[int], ColumnElement[int]]]:
    """As `heads`, in expressions of the people per tier: a tier without a pilot has two ends at `total`."""
    above, scale = _whole(pilot)
    found: list[tuple[ColumnElement[int], ColumnElement[int]]] = []
    before: ColumnElement[Any] = literal(0, BigInteger)
    for size in tiers:
        share = cast(func.floor((size * above + (scale - 1)) / float(scale)), BigInteger)
        head = case((share < PILOT_LEAST, PILOT_LEAST), else_=share)
        piloted = and_(before > 0, 2 * head <= size)
        ends = (case((piloted, before), else_=total), case((piloted, before + head), else_=total))
        found.append((cast(ends[0], BigInteger), cast(ends[1], BigInteger)))
        before = before + size
    return found


def tier_starts(tiers: Sequence[ColumnElement[Any]], total: ColumnElement[Any]) -> list[ColumnElement[int]]:
    """The last rank before each tier but the first, in expressions of the people per tier; `total` for an empty one."""
    found: list[ColumnElement[int]] = []
    before: ColumnElement[Any] = literal(0, BigInteger)
    for size in tiers:
        found.append(cast(case((and_(before > 0, size > 0), before), else_=total), BigInteger))
        before = before + size
    return found


def moved(
    end: ColumnElement[Any], found: Sequence[tuple[ColumnElement[Any], ColumnElement[Any]]]
) -> ColumnElement[int]:
    """An end of the ramp, moved to the end of the pilot it falls into."""
    inside = [(and_(start < end, end < head), head) for start, head in found]
    return cast(case(*inside, else_=end), BigInteger) if inside else end


def wave_ends(ramp: Sequence[Decimal], total: ColumnElement[Any]) -> tuple[ColumnElement[int], ...]:
    """The last rank of each wave of the ramp, as expressions of the plan's size: the same ceilings as `sizes`."""
    return tuple(
        cast(func.floor((total * above + (scale - 1)) / float(scale)), BigInteger) for above, scale in _cumulated(ramp)
    )


def wave_number(
    rank: ColumnElement[Any], ends: Sequence[ColumnElement[Any]], cuts: Sequence[ColumnElement[Any]] = ()
) -> ColumnElement[int]:
    """The wave of a rank, 1 is first: one more than the waves that end before it, those with nobody in them apart.

    `ends` are in order, as the ramp has them; `cuts` are further ends, those of pilots, each once at most.
    """
    number: ColumnElement[Any] = literal(1, Integer)
    for before, end in pairwise([literal(0, BigInteger), *ends[:-1]]):
        number = number + case((and_(end < rank, end > before), 1), else_=0)
    for cut in cuts:
        number = number + case((and_(cut < rank, *(cut != end for end in ends)), 1), else_=0)
    return cast(number, Integer)


def _whole(share: Decimal) -> tuple[int, int]:
    """A share as two whole numbers, the second a power of ten: no engine's fractions are involved."""
    scale = 10 ** max(0, -int(share.normalize().as_tuple().exponent))
    return int(share * scale), scale


def _cumulated(ramp: Sequence[Decimal]) -> tuple[tuple[int, int], ...]:
    """The cumulated shares as whole numbers over one power of ten: no engine's fractions are involved."""
    scale = 10 ** max(max(0, -int(share.normalize().as_tuple().exponent)) for share in ramp)
    return tuple((int(above * scale), scale) for above in accumulate(ramp))


TO_CLEAR: Final = 34.7
"""Events a sender at its limit would show in a wave that clears, nine times in ten, one at half of that limit."""

TO_HALT: Final = ((1.5, 82.7), (2.0, 23.1), (3.0, 6.9), (5.0, 2.2), (10.0, 0.67))
"""(multiple of the limit, events a sender at its limit would have shown, on average, when that multiple is halted).

Computed for evidence against a limit at 2,000 to 1, what a wave's own start needs at a weight of a tenth and 99 %.
"""


def needed(limit: float, share: float) -> int | None:
    """People a wave needs so that evidence can clear it, once that share of its feedback is due; None: nobody can.

    Only people count who show the signal: for complaints, those whose provider reports them.
    """
    return ceil(TO_CLEAR / (limit * share)) if limit > 0 and share > 0 else None


def detectable(people: int, limit: float, share: float) -> float | None:
    """The smallest multiple of the limit that is halted on average by then; None: not even ten times the limit."""
    shown = people * limit * share
    return next((multiple for multiple, events in TO_HALT if events <= shown), None)
