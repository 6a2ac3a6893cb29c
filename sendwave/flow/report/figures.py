"""Figures of a group of people: what they were sent, what came back, what it cost and brought."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from sendwave.engine.reports import Words, bit
from sendwave.rules.lift import SCALE, rate
from sendwave.rules.signals import Tally


@dataclass(frozen=True, slots=True)
class Figures:
    """People each counted once; `amount` is revenue in parts of SCALE, `cost` in the currency's unit."""

    planned: int = 0
    sent: int = 0  # handed to the ESP
    accepted: int = 0
    followed: int = 0  # accepted, and what became of it can be known: not in experiments run elsewhere
    refused: int = 0
    unknown: int = 0
    delivered: int = 0
    opened: int = 0  # by a person, as far as one can tell
    machine_opened: int = 0  # by machines alone
    clicked: int = 0
    unsubscribed: int = 0
    complained: int = 0
    hard_bounced: int = 0
    soft_bounced: int = 0
    blocked: int = 0
    deferred: int = 0
    visited: int = 0
    converted: int = 0
    amount: int = 0
    cost: float = 0.0

    def __add__(self, other: Figures) -> Figures:
        """Both together."""
        return Figures(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def revenue(self) -> float:
        """In the currency's unit."""
        return self.amount / SCALE

    def roi(self, margin: float) -> float | None:
        """What is left per unit of cost: (margin of the revenue - cost) / cost. None where nothing was spent."""
        return (self.revenue * margin - self.cost) / self.cost if self.cost else None

    def document(self, margin: float, level: float) -> dict[str, Any]:
        """Plain JSON values; rates are shares of the accepted messages, those of bounces of the ones handed over."""
        hidden = ("amount", "cost", "followed", *(() if self.followed else HEARD))
        told: dict[str, Any] = {f.name: None if f.name in hidden else getattr(self, f.name) for f in fields(self)}
        del told["amount"], told["followed"]
        told |= {"revenue": self.revenue, "cost": round(self.cost, 4), "roi": self.roi(margin)}
        rates = {name: rate(getattr(self, name), self.base(name), level) for name in RATES if self.base(name)}
        return told | {"rates": {name: known.document() for name, known in rates.items()}}

    def base(self, name: str) -> int:
        """The messages a rate is a share of; 0 where nobody could know it."""
        if name in _OF_SENT:
            return self.sent if self.followed else 0
        return self.followed if name in HEARD else self.accepted


RATES: Final = (
    "delivered", "opened", "machine_opened", "clicked", "unsubscribed", "complained", "hard_bounced", "soft_bounced",
    "blocked", "converted",
)  # fmt: skip
"""Figures that are shown as rates, too."""

HEARD: Final = (
    "refused", "unknown", "delivered", "opened", "machine_opened", "clicked", "unsubscribed", "complained",
    "hard_bounced", "soft_bounced", "blocked", "deferred",
)  # fmt: skip
"""Figures that ESPs tell us."""

_OF_SENT: Final = ("hard_bounced", "soft_bounced", "blocked")

_STATE: Final = 3


def _has(tally: Tally) -> Callable[[int], bool]:
    mask = bit(tally)
    return lambda word: bool(word & mask)


def _delivered(word: int) -> bool:
    """Told to be delivered, and not bounced for good afterwards."""
    return bool(word & bit(Tally.DELIVERED)) and not word & bit(Tally.HARD_BOUNCE)


_BOUNCED: Final = bit(Tally.HARD_BOUNCE) | bit(Tally.SOFT_BOUNCE) | bit(Tally.BLOCK) | bit(Tally.SUPPRESSED)

_COUNTS: Final[Mapping[str, Callable[[int], bool]]] = {
    "sent": lambda word: word & _STATE != 0,
    "accepted": lambda word: word & _STATE == 1,
    "refused": lambda word: word & _STATE == 2,
    "unknown": lambda word: word & _STATE == 3,
    "delivered": _delivered,
    "opened": _has(Tally.OPEN),
    "machine_opened": lambda word: bool(word & bit(Tally.MACHINE_OPEN)) and not word & bit(Tally.OPEN),
    "clicked": _has(Tally.CLICK),
    "unsubscribed": _has(Tally.UNSUBSCRIBE),
    "complained": _has(Tally.COMPLAINT),
    "hard_bounced": _has(Tally.HARD_BOUNCE),
    "soft_bounced": _has(Tally.SOFT_BOUNCE),
    "blocked": _has(Tally.BLOCK),
    "deferred": _has(Tally.DEFERRAL),
}


def of_words(words: Words, *, reports_delivery: bool, cost: float) -> Figures:
    """Figures of people by their word (engine/reports.py); `cost` is that of one accepted message.

    Where nobody reports deliveries, those accepted that did not bounce count as delivered.
    """
    counts = {name: sum(people for word, people in words.items() if holds(word)) for name, holds in _COUNTS.items()}
    if not reports_delivery:
        counts["delivered"] = sum(n for word, n in words.items() if word & _STATE == 1 and not word & _BOUNCED)
    return Figures(**counts, followed=counts["accepted"], cost=cost * counts["accepted"])
