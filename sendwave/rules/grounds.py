"""What a verdict rests on, told from its stored numbers alone: what carries it, what would clear or halt it.

The numbers are those the journal keeps: per restart point the messages, the events and the messages whose answers are
due, were feedback fast, as usual or slow. Whoever has that row can compute the verdict again by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Final

import numpy as np

from sendwave.rules import evidence
from sendwave.rules.evidence import STAGES

_MOST: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class Carried:
    """The restart point whose evidence weighs most."""

    point: int
    since: str
    events: int
    allowance: float  # events a sender on the halt level would have shown
    weight: float
    odds: float  # of that point alone


@dataclass(frozen=True, slots=True)
class Grounds:
    """A verdict explained. `more` is what would change it."""

    carried: Carried | None
    lanes: Sequence[Mapping[str, Any]]  # provider, events, allowance: the lanes that show more than they may
    to_clear: int | None  # further messages without an event at which the wave is cleared; None: it is, or cannot be
    to_halt: int | None  # further events at which it halts; None: it does, or no gate can
    words: Sequence[str]

    def document(self) -> dict[str, Any]:
        """Plain JSON values; keys are stable."""
        return {
            "carried": None if self.carried is None else asdict(self.carried),
            "lanes": [dict(lane) for lane in self.lanes],
            "to_clear": self.to_clear,
            "to_halt": self.to_halt,
            "words": list(self.words),
        }


def grounds(told: Mapping[str, Any], others: Sequence[Mapping[str, Any]] = ()) -> Grounds:
    """Explain one verdict as the store keeps it; `others` are those of the same campaign."""
    carried = carrying(told)
    lanes = _lanes(told, others) if not told["provider"] else []
    clear, halt = to_clear(told), to_halt(told)
    return Grounds(carried, lanes, clear, halt, _words(told, carried, lanes, clear, halt))


def carrying(told: Mapping[str, Any]) -> Carried | None:
    """The restart point that says most against the rate; None without a halt level or without mail."""
    limit, points = told["halt_limit"], told.get("points") or ()
    if limit is None or not 0 < limit < 1 or not points:
        return None
    seen, owed, first = _onward(told, "fast")
    weights = np.asarray(evidence.weights(max(told["waves"], -(-(first + len(seen)) // STAGES))))[first:][: len(seen)]
    allowed = owed * evidence.factor(limit)
    odds = evidence.log_mean(seen, allowed, evidence.UP)
    best = int(np.argmax(odds + np.log(weights)))
    point = first + best
    value = float(np.exp(min(odds[best], evidence.MOST)))
    return Carried(point, since(point), round(float(seen[best])), float(allowed[best]), float(weights[best]), value)


def since(point: int) -> str:
    """A restart point in words."""
    wave, stage = divmod(point, STAGES)
    if not point:
        return "from the campaign's start"
    return f"since {stage}/{STAGES} of wave {wave + 1} had left" if stage else f"since wave {wave + 1} began"


def to_clear(told: Mapping[str, Any]) -> int | None:
    """Further messages, answered and without one event, at which the evidence for the wave would open the next one."""
    limit = told["hold_limit"] if told["hold_limit"] is not None else told["halt_limit"]
    clears = told["wave"] and not told["provider"] and told.get("clear") is not None  # a wave is cleared as a whole
    if not clears or limit is None or not 0 < limit < 1 or told["below"] >= told["clear"]:
        return None
    _, owed, _ = _onward(told, "slow")
    matured = float(owed[0]) if len(owed) else 0.0
    return _least(lambda more: evidence.below(told["events"], matured + more, limit) >= told["clear"])


def to_halt(told: Mapping[str, Any]) -> int | None:
    """Further events of the newest mail, at once, at which the gate would halt."""
    limit, points = told["halt_limit"], told.get("points") or ()
    if told.get("bar") is None or limit is None or not 0 < limit < 1 or not points or told["above"] >= told["bar"]:
        return None
    events, owed = _columns(told, "fast")
    start = min(point["point"] for point in points) // STAGES * STAGES if told["wave"] else 0
    last = max(point["point"] for point in points)

    def over(more: int) -> bool:
        seen = events.copy()
        seen[last] += more
        found = evidence.against(seen, owed, limit, waves=told["waves"], start=start).value
        return found >= float(told["bar"])

    return _least(over)


def _columns(told: Mapping[str, Any], tempo: str) -> tuple[evidence.Array, evidence.Array]:
    """(events, matured messages) per restart point, from the campaign's first one on."""
    size = max((point["point"] for point in told["points"]), default=0) + 1
    events, owed = np.zeros(size), np.zeros(size)
    for point in told["points"]:
        events[point["point"]] += point["events"]
        owed[point["point"]] += point[tempo]
    return events, owed


def _onward(told: Mapping[str, Any], tempo: str) -> tuple[evidence.Array, evidence.Array, int]:
    """(events, matured messages) counted from each restart point on, and the first point of the scope."""
    events, owed = _columns(told, tempo)
    points = [point["point"] for point in told["points"]]
    first = min(points) // STAGES * STAGES if told["wave"] and points else 0
    return evidence.onward(events)[first:], evidence.onward(owed)[first:], first


def _least(holds: Any) -> int | None:
    """The least whole number for which it holds, from where on it holds; None when it is absurdly large."""
    high = 1
    while not holds(high):
        high *= 2
        if high > _MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _lanes(told: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lanes that show more events than a sender on the halt level would have, the worst first."""
    limit = told["halt_limit"] if told["halt_limit"] is not None else told["hold_limit"]
    if limit is None or limit >= 1:
        return []
    found = [
        {"provider": one["provider"], "events": one["events"], "allowance": evidence.allowance(limit, one["exposure"])}
        for one in others
        if one["provider"] and (one["signal"], one["wave"]) == (told["signal"], told["wave"])
    ]
    over = [lane for lane in found if lane["events"] > lane["allowance"]]
    return sorted(over, key=lambda lane: lane["allowance"] - lane["events"])


def _words(
    told: Mapping[str, Any],
    carried: Carried | None,
    lanes: Sequence[Mapping[str, Any]],
    clear: int | None,
    halt: int | None,
) -> list[str]:
    words = [f"{told['maturity']:.0%} of this signal is expected to be in by now"]
    if carried is not None and carried.events > carried.allowance:
        shown = f"{carried.events:,} events, {carried.allowance:,.1f} allowed"
        words.append(f"carried by what was sent {carried.since}: {shown}")
    if lanes:
        named = ", ".join(f"{lane['provider']} ({lane['events']:,} to {lane['allowance']:,.1f})" for lane in lanes)
        words.append(f"above the limit in {named}")
    if told["verdict"] == "hold" and clear is not None:
        words.append(f"{clear:,} more messages answered without one event would clear it")
    if halt is not None:
        words.append(f"{halt:,} more event{'' if halt == 1 else 's'} now would halt it")
    if told["next_look"] is not None and told["verdict"] != "pass":
        words.append(f"worth another look in {_minutes(told['next_look'])}")
    return words


def _minutes(seconds: float) -> str:
    minutes = ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"
