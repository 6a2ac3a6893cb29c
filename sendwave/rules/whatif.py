"""What if: changes to the rates a simulated campaign is put through, in the words of whoever asks.

complaint x3 in tier cold        three times the rate, for that tier alone
hard_bounce = 6% in lane orange  that rate, whatever history says
block x10 from wave 3            from the third wave on
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from sendwave.errors import BadInput, did_you_mean
from sendwave.rules.signals import SIGNALS
from sendwave.rules.units import parse_percent

_SHAPE: Final = re.compile(
    r"(?P<signal>[a-z_ ]+?)\s*(?:[x×*]\s*(?P<factor>[0-9]+(?:\.[0-9]+)?)|=\s*(?P<rate>[0-9.]+\s?%))"
    r"(?:\s+(?P<how>in|from)\s+(?P<scope>tier|lane|provider|wave)\s+(?P<name>\S+))?",
    re.IGNORECASE,
)
_EXAMPLE: Final = (
    "write for instance 'complaint x3 in tier cold', 'hard_bounce = 6% in lane orange', 'block x10 from wave 3'"
)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One change: a factor or a rate (0 to 1), for everybody or for one tier, lane or wave."""

    text: str
    signal: str
    factor: float | None
    rate: float | None
    scope: str = ""  # tier, lane, wave; '' for everybody
    name: str = ""
    onwards: bool = False  # from that wave on

    def applies(self, wave: int, lane: str, tier: str) -> bool:
        """Whether these people are meant."""
        if self.scope == "wave":
            return wave >= int(self.name) if self.onwards else wave == int(self.name)
        return {"": True, "lane": lane == self.name, "tier": tier == self.name}[self.scope]

    def changed(self, rate: float) -> float:
        """The rate as it would be."""
        return min(1.0, self.rate if self.rate is not None else rate * (self.factor or 0.0))


def parse(text: str) -> WhatIf:
    """One change in words. Raises BadInput, saying how to write it."""
    match = _SHAPE.fullmatch(text.strip())
    if match is None:
        raise BadInput(f"--what-if {text!r} is not understood: {_EXAMPLE}")
    signal = match["signal"].strip().lower().replace(" ", "_")
    if signal not in SIGNALS:
        raise BadInput(f"--what-if {text!r}: there is no signal {signal!r}.{did_you_mean(signal, SIGNALS)}")
    scope, name = (match["scope"] or "").lower(), match["name"] or ""
    scope = "lane" if scope == "provider" else scope
    if (scope == "wave") != (name.isdecimal() and scope == "wave") or (match["how"] or "").lower() == "from" != scope:
        if scope == "wave" and not name.isdecimal():
            raise BadInput(f"--what-if {text!r}: a wave is a number: {_EXAMPLE}")
        if scope != "wave":
            raise BadInput(f"--what-if {text!r}: only a wave can be a beginning: {_EXAMPLE}")
    try:
        rate = None if match["rate"] is None else float(parse_percent(match["rate"]))
    except ValueError as wrong:
        raise BadInput(f"--what-if {text!r}: {wrong}") from wrong
    factor = None if match["factor"] is None else float(match["factor"])
    return WhatIf(text.strip(), signal, factor, rate, scope, name, (match["how"] or "").lower() == "from")


def check(
    told: Collection[WhatIf], *, tiers: Collection[str], lanes: Collection[str], waves: Mapping[int, object]
) -> None:
    """Raise BadInput for a change about nobody: a tier, lane or wave the plan does not have."""
    for one in told:
        known = {"tier": tiers, "lane": lanes, "wave": [str(number) for number in waves], "": [""]}[one.scope]
        if one.name not in known:
            hint = did_you_mean(one.name, known) or f" There are {', '.join(sorted(known))}."
            raise BadInput(f"--what-if {one.text!r}: nobody of the plan is in {one.scope} {one.name!r}.{hint}")
