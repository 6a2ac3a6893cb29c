"""What a planned wave can tell: whether its people are enough to clear it, and what rate it would stop at.

A bad rate in a wave too small for its gate is found in later waves only. So the plan says it before anybody approves:
per wave and signal how many people are needed, how many there are, and the smallest multiple of the limit that would be
halted before the next wave opens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sendwave.rules.gates import Gate, GateSet, Mode, Rule
from sendwave.rules.maturity import CURVES, Curve
from sendwave.rules.signals import SIGNALS, Exposure
from sendwave.rules.units import format_percent
from sendwave.rules.waves import WavePlan, detectable, needed

BLUNT: Final = 5.0
"""A wave that would halt nothing below so many times the limit carries no gate: only absolute counts hold it."""


@dataclass(frozen=True, slots=True)
class Power:
    """One signal in one wave. `share` is the part of its feedback due when the soak is over."""

    wave: int
    signal: str
    people: int  # those who can show the signal: for complaints, where the provider reports them
    share: float
    needed: int | None  # people so that good mail clears, nine times in ten, at half of the limit; None: nobody can
    detects: float | None  # smallest multiple of the halt level that is halted on average; None: not even ten times
    halts: bool  # the gate has a halt level

    @property
    def clears(self) -> bool:
        """Whether good mail clears the wave by the end of its soak."""
        return self.needed is not None and self.people >= self.needed

    @property
    def is_blunt(self) -> bool:
        """Whether the wave is too small for this gate to stop anything but a disaster."""
        return self.halts and (self.detects is None or self.detects > BLUNT)

    def document(self) -> dict[str, Any]:
        """Plain JSON values; keys are stable."""
        return {
            "signal": self.signal,
            "people": self.people,
            "share": round(self.share, 4),
            "needed": self.needed,
            "clears": self.clears,
            "detects": self.detects,
        }


def powers(
    waves: Mapping[int, Mapping[str, int]],
    gates: GateSet,
    plan: WavePlan,
    *,
    mute: Collection[str],
    curves: Mapping[str, Curve] = CURVES,
) -> list[Power]:
    """Every enforced gate in every wave, from people by wave and mailbox provider."""
    told = {name: gate for name, gate in gates.signals.items() if gate.mode is Mode.ENFORCE and name in SIGNALS}
    return [
        _power(number, people, name, gate, plan, mute=mute, curves=curves)
        for number, people in sorted(waves.items())
        for name, gate in told.items()
    ]


def _power(
    number: int,
    people: Mapping[str, int],
    name: str,
    gate: Gate,
    plan: WavePlan,
    *,
    mute: Collection[str],
    curves: Mapping[str, Curve],
) -> Power:
    signal = SIGNALS[name]
    reported = signal.exposure is Exposure.REPORTED
    exposed = sum(n for lane, n in people.items() if not (reported and lane in mute))
    share = (curves.get(name) or curves[signal.curve]).share(plan.soak)
    hold = float(gate.hold if gate.hold is not None else gate.halt or 0)
    halt = float(gate.halt if gate.halt is not None else hold)
    found = detectable(exposed, halt, share)
    if gate.rule is not Rule.EVIDENCE and exposed * share < gate.min_sample:
        found = None
    return Power(number, name, exposed, share, needed(hold, share), found, gate.halt is not None)


def warnings(found: Sequence[Power], gates: GateSet, plan: WavePlan) -> list[str]:
    """One sentence per gate and the waves that cannot carry it alike, with what would help."""
    alike: dict[tuple[str, float | None], list[Power]] = {}
    for power in sorted(found, key=lambda power: power.wave):
        if power.is_blunt:
            alike.setdefault((power.signal, power.detects), []).append(power)
    return [_warning(blunt, gates, plan) for blunt in alike.values()]


def _warning(blunt: Sequence[Power], gates: GateSet, plan: WavePlan) -> str:
    first = blunt[0]
    limit = gates.signals[first.signal].halt
    level = "" if limit is None else format_percent(limit)
    waves = ("waves " if len(blunt) > 1 else "wave ") + _listed([power.wave for power in blunt])
    fewest, most = (choose(power.people for power in blunt) for choose in (min, max))
    people = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    return (
        f"{waves} cannot carry a {SIGNALS[first.signal].label} gate: of {people} people who could show it, "
        f"{_would_stop(first, level)}; held on absolute counts only{_advice(first, plan)}"
    )


def _listed(numbers: Sequence[int]) -> str:
    """1, 2 and 5; four or more in a row as 1 to 5."""
    if len(numbers) > 3 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    *head, last = map(str, numbers)
    return f"{', '.join(head)} and {last}" if head else last


def _would_stop(power: Power, level: str) -> str:
    if power.detects is None:
        return f"not even ten times the {level} limit would stop it before the next wave opens"
    return f"only {power.detects:g} times the {level} limit would stop it before the next wave opens"


def _advice(power: Power, plan: WavePlan) -> str:
    if power.needed is None:
        return ""
    longer = " or a longer soak" if power.share < 0.5 else ""
    pilot = "" if plan.pilot is not None else "; a `pilot` keeps the damage small"
    return f" ({power.needed:,} people{longer} would do{pilot})"
