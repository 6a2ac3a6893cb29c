"""How late events came after their hand-over, counted in bins; read back with the ages of the mail they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, func, select

from sendwave.store.tables import batches, campaigns, delays
from sendwave.store.upsert import upsert

RECENT: Final = timedelta(days=180)
"""Campaigns that ended earlier teach nothing: providers and people change."""

MOST: Final = 40
"""Campaigns that are asked at most, the newest ones."""


class Lateness(NamedTuple):
    """Distinct events of one lane of a wave that came so late (a bin of `rules/maturity.py`)."""

    campaign_id: int
    wave: int
    provider: str
    tally: str
    bin: int


class Late(NamedTuple):
    """Events that came so late, and the middle of their mail's hand-overs."""

    provider: str
    tally: str
    bin: int
    n: int
    handed_at: datetime


def count(conn: Connection, added: Mapping[Lateness, int]) -> None:
    """Add new events to their bins."""
    if not added:
        return
    statement = upsert(conn, delays)
    statement = statement.on_conflict_do_update(
        index_elements=list(delays.primary_key), set_={"n": delays.c.n + statement.excluded.n}
    )
    conn.execute(statement, [{**late._asdict(), "n": n} for late, n in sorted(added.items())])


def of_campaign(conn: Connection, campaign_id: int) -> dict[Lateness, int]:
    """What came back of one campaign so far."""
    return _read(conn, [campaign_id])


def history(conn: Connection, route: str, now: datetime, *, without: int) -> list[Late]:
    """What came back by that route of earlier campaigns, the one numbered `without` apart."""
    of = campaigns.c
    later = (of.started_at >= now - RECENT, of.started_at < now, of.id != without)
    statement = select(of.id, of.settings).where(*later).order_by(of.started_at.desc())
    rows = conn.execute(statement.limit(5 * MOST))
    chosen = [row.id for row in rows if row.settings.get("route") == route][:MOST]
    told, handed = _read(conn, chosen), _handed(conn, chosen)
    return [Late(*late[2:], n, handed[late[:3]]) for late, n in told.items() if late[:3] in handed]


def _read(conn: Connection, ids: Sequence[int]) -> dict[Lateness, int]:
    statement = select(*(delays.c[name] for name in Lateness._fields), delays.c.n)
    rows = conn.execute(statement.where(delays.c.campaign_id.in_(list(ids)))) if ids else ()
    return {Lateness(*row[:-1]): row[-1] for row in rows}


def _handed(conn: Connection, ids: Sequence[int]) -> dict[tuple[Any, ...], datetime]:
    """The middle between first and last hand-over, by campaign, wave and provider."""
    of = batches.c
    group = (of.campaign_id, of.wave, of.provider)
    statement = select(*group, func.min(of.handed_at), func.max(of.handed_at)).where(
        of.campaign_id.in_(list(ids)), of.handed_at.is_not(None)
    )
    rows = conn.execute(statement.group_by(*group))
    return {tuple(row[:3]): row[3] + (row[4] - row[3]) / 2 for row in rows}
