"""A person stops one ESP route for every campaign, or lets it go again before the reason ends by itself."""

from __future__ import annotations

from datetime import datetime

from sendwave.errors import NotAllowed
from sendwave.flow.steer.life import PAUSED
from sendwave.rules.holds import Hold, Kind
from sendwave.store import holds
from sendwave.store.database import Connection, Database


def pause_route(db: Database, route: str, *, reason: str, by: str, now: datetime) -> None:
    """Nothing more is handed to this route until a person frees it. Raises NotAllowed when one paused it before."""
    with db.write() as conn:
        if any(hold.kind == Kind.PAUSE for hold in route_holds(conn, route)):
            raise NotAllowed(f"route {route} is paused already")
        holds.place(conn, kind=Kind.PAUSE, reason=PAUSED, detail=reason, route=route, by=by, now=now)


def free_route(db: Database, route: str, *, by: str, now: datetime) -> list[Hold]:
    """Lift whatever holds the route as a whole: a person's pause, an ESP that stopped the account, a used-up quota.

    Returns what was lifted. Raises NotAllowed when nothing held it. If the ESP still takes nothing, the first batch
    finds out and the hold is placed again.
    """
    with db.write() as conn:
        found = route_holds(conn, route)
        if not found:
            raise NotAllowed(f"nothing holds route {route}")
        for hold in found:
            holds.lift(conn, reason=hold.reason, route=route, by=by, now=now)
        return found


def route_holds(conn: Connection, route: str) -> list[Hold]:
    """The open holds on the route as a whole, whatever the campaign."""
    every = holds.open_holds(conn)
    return [
        hold for hold in every if hold.route == route and (hold.campaign_id, hold.wave, hold.provider) == (None,) * 3
    ]
