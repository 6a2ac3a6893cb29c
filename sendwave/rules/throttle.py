"""How many now: pace per route and per lane (GCRA), daily ceilings, warm-up days."""

from __future__ import annotations

from pydantic import Field

from sendwave.rules.units import PerWindow, Policy


class Provider(Policy):
    """A mailbox provider: its lane in every campaign."""

    label: str
    domains: tuple[str, ...] = ()
    mx_suffixes: tuple[str, ...] = ()
    country: str = ""
    feedback_loop: bool = Field(True, description="False where the provider reports no complaint per message (Gmail).")
    pace: PerWindow | None = Field(None, description="What the provider bears, per route; none means the route's pace.")


class Route(Policy):
    """How we reach an ESP: its pace, its daily ceiling and the warm-up of a new IP or domain."""

    pace: PerWindow | None = Field(None, description="For instance '6000 per 1m'; none means as fast as it takes.")
    burst: int = Field(1000, ge=1, description="Messages that may leave at once before the pace applies.")
    per_day: int | None = Field(None, ge=1, description="Messages a day (UTC), quota or habit.")
    warm_up: tuple[int, ...] = Field((), description="Messages allowed on sending day 1, 2, 3 …; then per_day.")


class Lanes(Policy):
    """Mailbox providers and ESP routes. `other` catches every domain no provider names."""

    providers: dict[str, Provider]
    routes: dict[str, Route] = Field(default_factory=dict)
