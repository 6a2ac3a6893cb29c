"""What providers tell per day: kept once per source, signal, provider, scope and day; the newest word counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, time, timedelta
from email.utils import parseaddr
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, bindparam, func, select

from sendwave.rules.campaign import CampaignFile
from sendwave.rules.daily_figures import Telling
from sendwave.rules.daily_rates import DayRate
from sendwave.store.campaigns import Campaign
from sendwave.store.tables import aggregates, batches, campaigns
from sendwave.store.upsert import upsert

_TOLD: Final = (
    select(aggregates)
    .where(
        aggregates.c.provider.in_(bindparam("lanes", expanding=True)),
        aggregates.c.day.between(bindparam("first"), bindparam("last")),
    )
    .order_by(aggregates.c.day, aggregates.c.provider)
)


def keep(conn: Connection, rows: Sequence[Telling], *, by: str, now: datetime) -> tuple[int, int]:
    """Keep these days; one told before takes the new figure. Returns (new, changed)."""
    key = [column.name for column in aggregates.primary_key]
    names = [*key, "n", "rate"]
    new = changed = 0
    for row in rows:
        values = {name: getattr(row, name) for name in names}
        same = [aggregates.c[name] == values[name] for name in key]
        before = conn.execute(select(aggregates.c.n, aggregates.c.rate).where(*same)).one_or_none()
        if before is not None and tuple(before) == (row.n, row.rate):
            continue
        new, changed = new + (before is None), changed + (before is not None)
        fresh = {"n": row.n, "rate": row.rate, "imported_at": now, "by": by}
        statement = upsert(conn, aggregates).values(**{**values, **fresh})
        conn.execute(statement.on_conflict_do_update(index_elements=key, set_=fresh))
    return new, changed


def of_campaign(conn: Connection, campaign: Campaign, lanes: Collection[str], now: datetime) -> list[Telling]:
    """What is told of the days on which a campaign's mail may have left, about its sender and route, by day."""
    started = campaign.started_at
    if started is None or not lanes:
        return []
    ended = campaign.ended_at or now
    days = {"first": started.astimezone(UTC).date(), "last": ended.astimezone(UTC).date()}
    rows = conn.execute(_TOLD, {"lanes": sorted(lanes), **days})
    domain = sender_domain(campaign.settings)
    told = [Telling(**{name: row[name] for name in Telling.__dataclass_fields__}) for row in rows.mappings()]
    mine = [one for one in told if one.sender in {"", domain} and one.route in {"", campaign.settings.route}]
    narrowest: dict[tuple[str, str, str, str, date], Telling] = {}
    for one in sorted(mine, key=lambda row: bool(row.sender) + bool(row.route)):  # the narrowest last
        narrowest[one.source, one.signal, one.provider, one.ip, one.day] = one
    return list(narrowest.values())


def rate(conn: Connection, told: Telling) -> float:
    """Events per message: a count is shared by all mail of its scope that left that day."""
    if told.rate is not None:
        return told.rate
    sent = mail(conn, told)
    return min(1.0, (told.n or 0) / sent) if sent else 0.0


def rates(conn: Connection, told: Sequence[Telling]) -> list[DayRate]:
    """Events per message of each day, by source; counts of several addresses add up."""
    found: dict[tuple[str, str, str, date], float] = {}
    for one in told:
        key = (one.source, one.signal, one.provider, one.day)
        found[key] = (found.get(key, 0.0) if one.ip else 0.0) + rate(conn, one)
    return [DayRate(signal, provider, day, min(value, 1.0)) for (_, signal, provider, day), value in found.items()]


def mail(conn: Connection, told: Telling) -> int:
    """Messages accepted on that day, by the provider, of the sender and by the route it is about."""
    of, begin = batches.c, datetime.combine(told.day, time(), UTC)
    that_day = (of.provider == told.provider, of.handed_at >= begin, of.handed_at < begin + timedelta(days=1))
    statement = select(of.campaign_id, func.sum(of.accepted)).where(*that_day).group_by(of.campaign_id)
    if told.route:
        statement = statement.where(of.route == told.route)
    sent = {row[0]: int(row[1]) for row in conn.execute(statement)}
    if told.sender and sent:
        rows = conn.execute(select(campaigns.c.id, campaigns.c.settings).where(campaigns.c.id.in_(list(sent))))
        mine = {row.id for row in rows if sender_domain(CampaignFile.model_validate(row.settings)) == told.sender}
        sent = {campaign_id: n for campaign_id, n in sent.items() if campaign_id in mine}
    return sum(sent.values())


def sender_domain(settings: CampaignFile) -> str:
    """The domain of a campaign's From header, lower case."""
    return _domain(settings.sender)


@lru_cache(maxsize=256)
def _domain(sender: str) -> str:
    """Asked at every look of the judge."""
    return parseaddr(sender)[1].rpartition("@")[2].lower()
