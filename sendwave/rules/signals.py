"""How a rate is computed: which events are its numerator, which messages its denominator.

`tally_of` puts every event into exactly one tally; a tally counts each recipient once, whatever the number of reports.
A signal divides tallies by messages. Judge, report, metrics and pages loop over `SIGNALS`, none names a signal itself;
a new one is one line here (docs/adding/signal.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sendwave.rules.events import Cause, Event, EventType, Permanence


class Tally(StrEnum):
    """What is counted, one bit per recipient and tally."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    DEFERRAL = "deferral"
    HARD_BOUNCE = "hard_bounce"
    SOFT_BOUNCE = "soft_bounce"
    BLOCK = "block"  # refused for reputation, policy or content: about us, not about the address
    SUPPRESSED = "suppressed"  # the ESP's own list: says nothing fresh about the mail
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    RESUBSCRIBE = "resubscribe"
    OPEN = "open"
    MACHINE_OPEN = "machine_open"  # privacy proxies and scanners (Apple MPP, image caches)
    CLICK = "click"
    FAIL = "fail"
    UNKNOWN = "unknown"


REPEATED: Final = frozenset({Tally.OPEN, Tally.MACHINE_OPEN, Tally.CLICK})
"""Tallies whose events each keep a row of their own in the lake; the tally still counts a recipient once."""

ANSWERS: Final = (
    Tally.DELIVERED, Tally.HARD_BOUNCE, Tally.SOFT_BOUNCE, Tally.BLOCK, Tally.SUPPRESSED, Tally.FAIL, Tally.DEFERRAL,
)  # fmt: skip
"""Tallies that prove the feed alive: what an ESP owes us about every message."""


LATER: Final = frozenset(
    {
        Tally.ACCEPTED, Tally.DELIVERED, Tally.HARD_BOUNCE, Tally.COMPLAINT, Tally.UNSUBSCRIBE, Tally.OPEN,
        Tally.MACHINE_OPEN, Tally.CLICK,
    }
)  # fmt: skip
"""Tallies no message that was only put off at hand-over can have."""


def proof(*, put_off: bool, refused: bool = False) -> frozenset[Tally]:
    """Tallies that prove that the ESP had somebody of whom it gave no answer.

    Any word does, but those of hand-overs that answered: that it put them off, or that it refused them the next time.
    """
    if refused:
        return LATER - {Tally.HARD_BOUNCE}
    return LATER if put_off else frozenset(Tally)


class Exposure(StrEnum):
    """The messages a rate is divided by. The words stand in verdict sentences."""

    HANDED_OVER = "handed over"  # accepted and refused: a refusal at hand-over is a bounce too
    ACCEPTED = "accepted"
    REPORTED = "accepted by lanes that report complaints"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class Signal:
    """One rate: its numerator, its denominator, and how late its events come (`rules/maturity.py`)."""

    name: str
    label: str
    tallies: tuple[Tally, ...]
    exposure: Exposure
    curve: str


def _all(*signals: Signal) -> dict[str, Signal]:
    return {signal.name: signal for signal in signals}


SIGNALS: Final = _all(
    Signal("hard_bounce", "hard bounce", (Tally.HARD_BOUNCE,), Exposure.HANDED_OVER, "bounce"),
    Signal("soft_bounce", "soft bounce", (Tally.SOFT_BOUNCE,), Exposure.HANDED_OVER, "bounce"),
    Signal("block", "block", (Tally.BLOCK,), Exposure.HANDED_OVER, "bounce"),
    Signal("deferral", "deferral", (Tally.DEFERRAL,), Exposure.HANDED_OVER, "deferral"),
    Signal("complaint", "complaint", (Tally.COMPLAINT,), Exposure.REPORTED, "complaint"),
    Signal("unsubscribe", "unsubscribe", (Tally.UNSUBSCRIBE,), Exposure.ACCEPTED, "unsubscribe"),
    Signal("suppressed", "refused by the ESP's list", (Tally.SUPPRESSED,), Exposure.HANDED_OVER, "bounce"),
    Signal("fail", "ESP failure", (Tally.FAIL,), Exposure.HANDED_OVER, "bounce"),
    Signal("unknown", "unknown event", (Tally.UNKNOWN,), Exposure.ACCEPTED, "bounce"),
    Signal("delivered", "delivery", (Tally.DELIVERED,), Exposure.ACCEPTED, "delivered"),
    Signal("open", "open", (Tally.OPEN,), Exposure.DELIVERED, "open"),
    Signal("machine_open", "machine open", (Tally.MACHINE_OPEN,), Exposure.DELIVERED, "delivered"),
    Signal("click", "click", (Tally.CLICK,), Exposure.DELIVERED, "open"),
)

_PLAIN: Final = {
    EventType.ACCEPTED: Tally.ACCEPTED,
    EventType.DELIVERED: Tally.DELIVERED,
    EventType.COMPLAINT: Tally.COMPLAINT,
    EventType.UNSUBSCRIBE: Tally.UNSUBSCRIBE,
    EventType.RESUBSCRIBE: Tally.RESUBSCRIBE,
    EventType.OPEN: Tally.OPEN,
    EventType.CLICK: Tally.CLICK,
    EventType.UNKNOWN: Tally.UNKNOWN,
}
_BLOCKS: Final = frozenset({Cause.BLOCKED_REPUTATION, Cause.POLICY, Cause.CONTENT})
_ADDRESS: Final = frozenset({Cause.UNKNOWN_USER, Cause.BAD_DOMAIN})
_LATER: Final = frozenset({Cause.MAILBOX_FULL, Cause.EXPIRED})


def tally_of(event: Event) -> Tally:
    """The one tally an event counts in. A word nobody knows counts as `unknown`, it is never dropped."""
    return tally(event.type, event.permanence, event.cause, machine=event.machine_open is True)


def tally(kind: EventType, permanence: Permanence, cause: Cause | None, *, machine: bool) -> Tally:
    """As `tally_of`, from the four fields that decide: feedback remembers the answer for each combination."""
    if kind in _PLAIN:
        return Tally.MACHINE_OPEN if machine and kind is EventType.OPEN else _PLAIN[kind]
    if cause is Cause.SUPPRESSED:
        return Tally.SUPPRESSED
    if kind is EventType.DEFERRED:
        return Tally.BLOCK if cause is Cause.BLOCKED_REPUTATION else Tally.DEFERRAL
    if cause in _BLOCKS:
        return Tally.BLOCK
    return _bounce(kind, permanence, cause)


def _bounce(kind: EventType, permanence: Permanence, cause: Cause | None) -> Tally:
    """A bounce or a refusal that is about the address, or about nothing we were told."""
    if kind is EventType.FAIL or (kind is EventType.REJECT and cause in {None, Cause.OTHER}):
        return Tally.FAIL
    if cause is Cause.THROTTLED:
        return Tally.DEFERRAL
    if cause in _LATER or permanence is Permanence.SOFT:
        return Tally.SOFT_BOUNCE  # a full mailbox answers 5.2.2, yet the address exists
    if permanence is Permanence.HARD or cause is Cause.UNKNOWN_USER:
        return Tally.HARD_BOUNCE
    return Tally.SOFT_BOUNCE


class Scope(StrEnum):
    """How far a suppression reaches."""

    ALL = "all"
    PURPOSE = "purpose"  # that of the campaign's type; all where the campaign is not known


def suppression_of(counted: Tally, cause: Cause | None) -> tuple[str, Scope] | None:
    """(reason, scope) when an event must stop further mail to its address at once; None otherwise.

    An address that does not exist and a complaint stop everything, an unsubscribe its purpose. A soft bounce, a block
    or a hard bounce of unknown cause stops nothing: a provider that answers 5xx to everybody for an hour would
    otherwise empty the base.
    """
    if counted is Tally.HARD_BOUNCE and cause in _ADDRESS:
        return "hard_bounce", Scope.ALL
    if counted is Tally.COMPLAINT:
        return "complaint", Scope.ALL
    if counted is Tally.UNSUBSCRIBE:
        return "unsubscribe", Scope.PURPOSE
    return ("suppressed", Scope.ALL) if counted is Tally.SUPPRESSED else None
