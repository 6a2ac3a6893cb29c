"""Whose fault is it: the lanes that explain an alarm over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sendwave.rules.gates import Cell, Decision, Gate, Verdict, judge
from sendwave.rules.maturity import Curve


def culprits(lanes: Sequence[Cell], gate: Gate, now: datetime, *, curve: Curve) -> tuple[str, ...]:
    """The lanes that explain an alarm over all of them, the worst first; () when the alarm is everybody's.

    At most half of the lanes, each above the halt level itself; what is left must neither halt nor be above it.
    """
    verdicts = sorted((judge(lane, gate, now, curve=curve) for lane in lanes), key=_badness, reverse=True)
    for count in range(1, len(verdicts) // 2 + 1):
        worst, rest = verdicts[:count], verdicts[count:]
        if not _over(worst[-1]):
            break
        left = judge(merge([v.cell for v in rest]), gate, now, curve=curve)
        if left.decision is not Decision.HALT and not _over(left):
            return tuple(v.cell.provider for v in worst)
    return ()


def merge(cells: Sequence[Cell]) -> Cell:
    """Cells of one signal and wave as one, over all their lanes."""
    return replace(cells[0], provider="", cohorts=tuple(cohort for cell in cells for cohort in cell.cohorts))


def _over(verdict: Verdict) -> bool:
    return verdict.rate is not None and verdict.halt_limit is not None and verdict.rate > verdict.halt_limit


def _badness(verdict: Verdict) -> tuple[float, float, str]:
    return verdict.low, verdict.rate or 0.0, verdict.cell.provider
