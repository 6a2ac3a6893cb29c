"""How many now: pace per route and per lane (GCRA), daily ceilings, warm-up days, hours of the day, second tries.

The pace is the Generic Cell Rate Algorithm (GCRA, ITU-T I.371): one number per pace, the theoretical arrival time
(TAT) of the next message. A batch of n leaves when the TAT is no further ahead than what the burst allows, and moves it
on by n / rate, so that no window of W seconds sees more than max(burst, n) + rate × W messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from pydantic import Field

from sendwave.rules.units import Key, LocalWindow, PerWindow, Policy


class Provider(Policy):
    """A mailbox provider: its lane in every campaign."""

    label: str = Field(default="", description="What people read; its key where it is left out.")
    domains: tuple[str, ...] = Field(default=(), description="Domains of its addresses: lower case, IDN as xn--.")
    mx_suffixes: tuple[str, ...] = Field(default=(), description="Ends of its MX host names, such as '.google.com'.")
    country: str = Field(default="", description="ISO 3166 code, for people.")
    feedback_loop: bool = Field(default=True, description="False where complaints are not told per message (Gmail).")
    pace: PerWindow | None = Field(default=None, description="What it bears, per route; none means the route's pace.")


class Route(Policy):
    """How we reach an ESP: its pace, its daily ceiling and the warm-up of a new IP or domain."""

    pace: PerWindow | None = Field(default=None, description="Such as '6000 per 1m'; none means as fast as it takes.")
    burst: int = Field(default=1000, ge=1, description="Messages that may leave at once before the pace applies.")
    per_day: int | None = Field(default=None, ge=1, description="Messages a day (UTC), quota or habit.")
    ips: tuple[str, ...] = Field(default=(), description="Addresses it sends from: daily complaint counts name these.")
    warm_up: tuple[int, ...] = Field(default=(), description="Messages allowed on sending day 1, 2, 3 …; then per_day.")


class Lanes(Policy):
    """Mailbox providers and ESP routes. `other` catches every domain no provider names."""

    providers: dict[Key, Provider] = Field(default_factory=dict, description="By key, the name of the lane.")
    routes: dict[str, Route] = Field(default_factory=dict, description="By name, that of a route of sendwave.yaml.")

    @property
    def mute(self) -> frozenset[str]:
        """Providers that report no complaint per message: they leave both sides of the complaint rate."""
        return frozenset(key for key, provider in self.providers.items() if not provider.feedback_loop)


DEFERRAL_WAITS: Final = (timedelta(minutes=15), timedelta(hours=1), timedelta(hours=4))
"""Between the tries of people an ESP deferred at hand-over; after the last one they count as refused.

RFC 5321 §4.5.4.1 asks for at least 30 minutes between tries and 4 to 5 days in all, of a relay. The ESP is our relay
and does that; these waits outlast greylisting (RFC 6647: minutes), and a campaign does not wait for days.
"""

LOCAL: Final = "local"
"""The zone of a window that means: the contact's own."""

_FIRST_WAIT: Final = timedelta(seconds=5)
_LONGEST_WAIT: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Limit:
    """What one pace allows: of a route, or of a lane on a route."""

    rate: float | None = None  # messages per second, None: unlimited
    burst: int = 0  # messages at once; a batch larger than that may still leave alone
    per_day: int | None = None  # messages per UTC day
    warm_up: tuple[int, ...] = ()  # messages on sending day 1, 2, 3 …, before `per_day` applies

    def ceiling(self, sending_day: int) -> int | None:
        """Messages allowed on that sending day (1 is the first day anything left); None: no ceiling."""
        if sending_day > len(self.warm_up):
            return self.per_day
        warm = self.warm_up[sending_day - 1]
        return warm if self.per_day is None else min(warm, self.per_day)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a pace has let through so far: a row of the store."""

    tat: float = 0.0  # theoretical arrival time, epoch seconds
    day: date | None = None  # UTC day of the last message
    today: int = 0  # messages on that day
    days: int = 0  # days on which anything left, that one included

    def on(self, day: date) -> Spent:
        """The same, seen on that day: a new day has its own count and is one sending day more."""
        return self if self.day == day else Spent(self.tat, day, 0, self.days + 1)


def route_limit(route: Route | None) -> Limit:
    """The pace of a whole route; one that lanes.yaml does not name is unlimited."""
    if route is None:
        return Limit()
    return Limit(route.pace.per_second if route.pace else None, route.burst, route.per_day, route.warm_up)


def lane_limit(provider: Provider | None, route: Route | None, factor: float) -> Limit:
    """The pace of a mailbox provider on a route, slowed down by `factor` (0 < factor <= 1). A lane has no burst.

    Without a pace of its own a lane that was slowed down gets that part of its route's pace.
    """
    own = provider.pace if provider is not None else None
    pace = own or (route.pace if route is not None and factor < 1 else None)
    return Limit(pace.per_second * factor if pace else None)


def take(spent: Spent, limit: Limit, size: int, now: datetime) -> Spent | None:
    """The row after `size` messages left at once, or None when they may not leave now."""
    today = spent.on(now.astimezone(UTC).date())
    ceiling = limit.ceiling(today.days)
    if ceiling is not None and today.today + size > ceiling:
        return None
    instant, tat = now.timestamp(), spent.tat
    if limit.rate is not None:
        if tat - instant > max(limit.burst - size, 0) / limit.rate:
            return None
        tat = max(tat, instant) + size / limit.rate
    return Spent(tat, today.day, today.today + size, today.days)


def largest_batch(limit: Limit, spent: Spent, now: datetime, most: int) -> int:
    """How many people a batch released now should have at most, so that it fits into a day of a warming route."""
    ceiling = limit.ceiling(spent.on(now.astimezone(UTC).date()).days)
    return most if ceiling is None else max(1, min(most, ceiling))


def is_open(window: LocalWindow | None, zone: str, now: datetime) -> bool:
    """Whether mail may leave now; `zone` (IANA) is the contacts' own, used where the window is `local`."""
    if window is None:
        return True
    clock = now.astimezone(ZoneInfo(zone if window.zone == LOCAL else window.zone)).time()
    if window.start < window.end:
        return window.start <= clock < window.end
    return clock >= window.start or clock < window.end  # spans midnight


def opens_at(window: LocalWindow | None, zone: str, now: datetime) -> datetime:
    """The first instant from `now` on at which mail may leave (UTC)."""
    if window is None or is_open(window, zone, now):
        return now
    place = ZoneInfo(zone if window.zone == LOCAL else window.zone)
    today = now.astimezone(place).date()
    starts = (datetime.combine(today + timedelta(days=n), window.start, place).astimezone(UTC) for n in range(3))
    return next(start for start in starts if start > now)


def next_day(now: datetime) -> datetime:
    """When daily ceilings begin anew: the next midnight, UTC."""
    return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(), UTC)


def deferral_wait(attempt: int) -> timedelta | None:
    """How long people deferred on that attempt (0 is the first) wait; None: no further try."""
    return DEFERRAL_WAITS[attempt] if attempt < len(DEFERRAL_WAITS) else None


def unreachable_wait(failures: int, retry_after: float | None) -> timedelta:
    """How long a route rests after so many failures in a row (1 or more): 5 s, 10 s, 20 s … 15 min.

    `retry_after` (seconds) is what the ESP asked for: it is honoured when longer, up to a day.
    """
    grown: timedelta = min(_FIRST_WAIT * 2 ** min(failures - 1, 20), _LONGEST_WAIT)
    return grown if retry_after is None else max(grown, timedelta(seconds=min(retry_after, 86_400.0)))


def interleave(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Places of the batches of several lanes, as (lane, n-th of that lane), so that all lanes drain evenly.

    Each lane's batches lie at equal distances over the whole wave: lane a's k-th of n at (k + 1/2) / n.
    """
    places = [((k + 0.5) / n, lane, k) for lane, n in enumerate(lengths) for k in range(n)]
    return [(lane, k) for _, lane, k in sorted(places)]


def take_all(
    spent: Mapping[str, Spent], limits: Mapping[str, Limit], size: int, now: datetime
) -> dict[str, Spent] | None:
    """The rows after `size` messages left, by key, when every limit lets them pass; None when one does not."""
    taken: dict[str, Spent] = {}
    for key, limit in limits.items():
        row = take(spent[key], limit, size, now)
        if row is None:
            return None
        taken[key] = row
    return taken
