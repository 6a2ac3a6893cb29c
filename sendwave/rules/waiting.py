"""What a campaign waits for, and until when: what a person in front of a quiet terminal wants to know.

Nothing is decided here. Windows are those of `throttle`, soaks those of `waves`, holds those of `holds`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sendwave.rules import throttle
from sendwave.rules.holds import Hold, blocking
from sendwave.rules.units import LocalWindow, format_duration
from sendwave.rules.waves import WavePlan


class For(StrEnum):
    """Reasons of a wait, as they are logged."""

    START = "start"
    WINDOW = "window"
    SECOND_TRY = "second_try"
    SOAK = "soak"
    VERDICT = "verdict"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Wait:
    """One reason nothing leaves now. `until` is None where only a person or an event ends it."""

    reason: For
    wave: int | None
    until: datetime | None
    words: str

    def document(self) -> dict[str, Any]:
        """As `campaign show --json` and the log tell it."""
        until = None if self.until is None else self.until.isoformat(timespec="seconds")
        return {"for": self.reason.value, "wave": self.wave, "until": until, "words": self.words}


@dataclass(frozen=True, slots=True)
class Lying:
    """Batches of one wave, lane, route and time zone ('' where the window is nobody's own) that nobody has claimed."""

    wave: int
    provider: str
    route: str
    zone: str
    not_before: datetime | None  # the soonest of them


@dataclass(frozen=True, slots=True)
class Soaking:
    """A wave that is sent; `sent_at` is when its last batch was settled."""

    number: int
    sent_at: datetime


def for_start(start_at: datetime | None, now: datetime) -> Wait | None:
    """The wait of an approved campaign; None when it starts at the next tick."""
    if start_at is None or start_at <= now:
        return None
    return Wait(For.START, None, start_at, "its start")


def for_batches(
    plan: WavePlan, lying: Iterable[Lying], standing: Sequence[Hold], campaign_id: int, *, zone: str, now: datetime
) -> Wait | None:
    """Why none of these batches leaves now; None where some may, or where there are none.

    `zone` (IANA) is that of contacts without one. Of several reasons the one that ends first is told.
    """
    found: list[Wait] = []
    for one in lying:
        place = one.zone or zone
        if held := blocking(
            standing, campaign_id=campaign_id, now=now, wave=one.wave, provider=one.provider, route=one.route
        ):
            found.append(_held(held[0], one.wave))
        elif not throttle.is_open(plan.window, place, now):
            found.append(_closed(plan.window, place, one.wave, now))
        elif one.not_before is not None and one.not_before > now:
            words = "a second try at people the ESP asked to wait for"
            found.append(Wait(For.SECOND_TRY, one.wave, one.not_before, words))
        else:
            return None
    return min(found, key=lambda wait: (wait.until is None, wait.until), default=None)


def for_feedback(plan: WavePlan, soaking: Soaking, now: datetime) -> Wait:
    """Why a wave that is sent is not cleared yet."""
    ends = soaking.sent_at + plan.soak
    if now < ends:
        soak = format_duration(plan.soak)
        return Wait(For.SOAK, soaking.number, ends, f"reactions to wave {soaking.number} (soak {soak})")
    words = f"enough reactions to wave {soaking.number} to judge it; then on_inconclusive: {plan.on_inconclusive}"
    return Wait(For.VERDICT, soaking.number, soaking.sent_at + plan.soak_max, words)


def for_wave(standing: Sequence[Hold], campaign_id: int, number: int, now: datetime) -> Wait | None:
    """Why a wave whose turn it is does not open; None where it opens at the next tick."""
    held = blocking(standing, campaign_id=campaign_id, wave=number, now=now)
    return _held(held[0], number) if held else None


def foretold(plan: WavePlan, waves: int) -> str:
    """How long a campaign of so many waves takes at least, for whoever is about to start it."""
    words = f"{waves} wave{'' if waves == 1 else 's'}, {format_duration(plan.soak)} of soak after each"
    if waves > 1:
        words += f": the last one leaves {format_duration((waves - 1) * plan.soak)} after the first, or later"
    return words + (f"; mail leaves in the hours {plan.window}" if plan.window else "")


def _held(hold: Hold, wave: int) -> Wait:
    return Wait(For.HOLD, wave, hold.until, f"{hold.kind} of {hold.scope}: {hold.reason}")


def _closed(window: LocalWindow | None, zone: str, wave: int, now: datetime) -> Wait:
    opens = throttle.opens_at(window, zone, now)
    return Wait(For.WINDOW, wave, opens, f"the hours {window} in {zone}: wave {wave} leaves then")
