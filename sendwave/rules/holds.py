"""What stands in the way: holds are a set, and work runs where none of them covers it.

hold = waits on a reason and lifts itself; pause = a person; halt = a gate tripped, a person resumes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """Who ends it: its own reason, a person, or a person with the approver role."""

    HOLD = "hold"
    PAUSE = "pause"
    HALT = "halt"


@dataclass(frozen=True, slots=True)
class Hold:
    """One reason not to send. A scope left None is every campaign, wave, lane or ESP route."""

    id: int
    kind: str
    reason: str
    since: datetime
    by: str
    campaign_id: int | None = None
    wave: int | None = None
    provider: str | None = None
    route: str | None = None
    detail: str = ""
    until: datetime | None = None

    @property
    def scope(self) -> str:
        """The scope in words, for instance `wave 3, lane orange`."""
        parts = [
            f"{word} {value}"
            for word, value in (("wave", self.wave), ("lane", self.provider), ("route", self.route))
            if value is not None
        ]
        if parts:
            return ", ".join(parts)
        return "everything" if self.campaign_id is None else "campaign"


def covers(
    hold: Hold,
    *,
    campaign_id: int,
    now: datetime,
    wave: int | None = None,
    provider: str | None = None,
    route: str | None = None,
) -> bool:
    """Whether the hold stops this work now.

    A hold on one wave, lane or route does not cover a question that names none: the campaign as a whole goes on.
    """
    if hold.until is not None and hold.until <= now:
        return False
    scopes = ((hold.campaign_id, campaign_id), (hold.wave, wave), (hold.provider, provider), (hold.route, route))
    return all(limited is None or limited == asked for limited, asked in scopes)


def blocking(
    holds: Iterable[Hold],
    *,
    campaign_id: int,
    now: datetime,
    wave: int | None = None,
    provider: str | None = None,
    route: str | None = None,
) -> list[Hold]:
    """The holds of the set that stop this work now; an empty list means it may run."""
    return [
        hold
        for hold in holds
        if covers(hold, campaign_id=campaign_id, now=now, wave=wave, provider=provider, route=route)
    ]
