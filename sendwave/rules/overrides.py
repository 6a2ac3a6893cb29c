"""A person overrules a gate: why, by how much, and how small the campaign begins again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from math import ceil
from typing import Any, Final

from sendwave.errors import BadInput, NotAllowed
from sendwave.rules.units import format_percent, parse_percent

START: Final = Decimal("0.1")
"""A campaign that resumes by ramp begins with that share of the wave that was halted."""

GROWTH: Final = Decimal(3)
"""Each wave of such a ramp is so many times the one before: 10 %, 30 %, 90 % of the halted wave, then whole waves."""


def check_reason(reason: str, name: str) -> None:
    """Raises BadInput without one: whoever reads the journal later must know why the gates were overruled."""
    if not reason.strip():
        raise BadInput(f"a gate stopped campaign {name}: to overrule it say why (--reason), for the journal")


def check_role(approvers: Collection[str], by: str, what: str) -> None:
    """Raises NotAllowed when only some people may do that (`what` in words) and `by` is none of them."""
    if approvers and by not in approvers:
        names = ", ".join(sorted(approvers))
        raise NotAllowed(f"{by} may not {what}: that is for the approvers of this workspace ({names})")


def ramp(halted: int, left: int, *, most: int, start: Decimal = START, growth: Decimal = GROWTH) -> tuple[int, ...]:
    """People per wave when `left` people of a campaign go on after a wave of `halted` people was stopped.

    The first wave is `start` of the halted one, each later one `growth` times as big, none above `most` people (the
    biggest wave that was planned). Raises BadInput for a start that is not smaller, or a growth below 1.
    """
    if not 0 < start < 1:
        raise BadInput(f"a ramp begins with less than what was halted: --start {format_percent(start)} is not")
    if growth < 1:
        raise BadInput(f"a ramp grows: --growth {growth} would shrink it")
    found: list[int] = []
    size = start * max(halted, 1)
    while left > 0:
        people = min(left, max(1, min(ceil(size), max(most, 1))))
        found.append(people)
        left -= people
        size = min(size * growth, Decimal(max(most, 1)))
    return tuple(found)


def limit(texts: Mapping[str, str | None], before: Mapping[str, str]) -> dict[str, str]:
    """The levels a person sets ({"hold": "0.2%", "halt": None}) over those set before; None leaves one as it is.

    Raises BadInput for a rate without its unit or above 100 %, or when nothing is set.
    """
    told = dict(before)
    for level, text in texts.items():
        if text is not None:
            try:
                told[level] = format_percent(parse_percent(text))
            except ValueError as wrong:
                raise BadInput(f"--{level} {text}: {wrong}") from wrong
    if told == before:
        raise BadInput("say which level changes: --hold RATE, --halt RATE, or --reset for those of the policy")
    return told


def overruled(verdicts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What stood against going on: every verdict that was no pass, the worst first."""
    order = {"halt": 0, "blind": 1, "hold": 2}
    return sorted((v for v in verdicts if v["verdict"] in order), key=lambda v: order[v["verdict"]])
