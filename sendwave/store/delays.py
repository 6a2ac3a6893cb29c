"""How late events came after their hand-over, counted in bins; read back with the ages of the mail they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, Connection, bindparam, func, select

from sendwave.store import upsert
from sendwave.store.tables import batches, campaigns, delays

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


_THESE: Final[BindParameter[int]] = bindparam("ids", expanding=True)
_COUNTED: Final = select(*(delays.c[name] for name in Lateness._fields), delays.c.n).where(
    delays.c.campaign_id.in_(_THESE)
)
_GROUP: Final = (batches.c.campaign_id, batches.c.wave, batches.c.provider)
_HANDED: Final = (
    select(*_GROUP, func.min(batches.c.handed_at), func.max(batches.c.handed_at))
    .where(batches.c.campaign_id.in_(_THESE), batches.c.handed_at.is_not(None))
    .group_by(*_GROUP)
)
_LATER: Final = (
    select(campaigns.c.id, campaigns.c.settings)
    .where(
        campaigns.c.started_at >= bindparam("oldest"),
        campaigns.c.started_at < bindparam("now"),
        campaigns.c.id != bindparam("without"),
    )
    .order_by(campaigns.c.started_at.desc())
    .limit(5 * MOST)
)


def count(conn: Connection, added: Mapping[Lateness, int]) -> None:
    """Add new events to their bins."""
    if not added:
        return
    conn.execute(
        upsert.added(conn.dialect.name, delays), [{**late._asdict(), "n": n} for late, n in sorted(added.items())]
    )


def of_campaign(conn: Connection, campaign_id: int) -> dict[Lateness, int]:
    """What came back of one campaign so far."""
    return _read(conn, [campaign_id])


def history(conn: Connection, route: str, now: datetime, *, without: int) -> list[Late]:
    """What came back by that route of earlier campaigns, the one numbered `without` apart."""
    rows = conn.execute(_LATER, {"oldest": now - RECENT, "now": now, "without": without})
    chosen = [row.id for row in rows if row.settings.get("route") == route][:MOST]
    told = _read(conn, chosen)
    handed = _handed(conn, chosen) if told else {}
    return [Late(*late[2:], n, handed[late[:3]]) for late, n in told.items() if late[:3] in handed]


def _read(conn: Connection, ids: Sequence[int]) -> dict[Lateness, int]:
    rows = conn.execute(_COUNTED, {"ids": list(ids)}) if ids else ()
    return {Lateness(*row[:-1]): row[-1] for row in rows}


def _handed(conn: Connection, ids: Sequence[int]) -> dict[tuple[Any, ...], datetime]:
    """The middle between first and last hand-over, by campaign, wave and provider."""
    rows = conn.execute(_HANDED, {"ids": list(ids)})
    return {tuple(row[:3]): row[3] + (row[4] - row[3]) / 2 for row in rows}
