"""What providers tell per day: kept once per source, signal, provider, scope and day; the newest word counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from email.utils import parseaddr

from sqlalchemy import Connection, func, select

from sendwave.rules.campaign import CampaignFile
from sendwave.rules.daily import DayRate
from sendwave.store.campaigns import Campaign
from sendwave.store.tables import aggregates, batches, campaigns
from sendwave.store.upsert import upsert


@dataclass(frozen=True, slots=True)
class Told:
    """One day. `n` events or a `rate` (0 to 1) of the mail sent to the provider that day, UTC."""

    source: str
    signal: str
    provider: str
    sender: str  # domain of the From header; '' for all
    route: str  # '' for all
    day: date
    n: int | None
    rate: float | None
    imported_at: datetime | None = None
    by: str = ""

    @property
    def narrowness(self) -> int:
        """How much of a day's mail it is about: the larger, the less."""
        return bool(self.sender) + bool(self.route)


def keep(conn: Connection, rows: Sequence[Told], *, by: str, now: datetime) -> tuple[int, int]:
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


def of_campaign(conn: Connection, campaign: Campaign, lanes: Collection[str], now: datetime) -> list[Told]:
    """What is told of the days on which a campaign's mail may have left, about its sender and route, by day."""
    started = campaign.started_at
    if started is None or not lanes:
        return []
    of = aggregates.c
    ended = campaign.ended_at or now
    within = of.day.between(started.astimezone(UTC).date(), ended.astimezone(UTC).date())
    rows = conn.execute(select(aggregates).where(of.provider.in_(sorted(lanes)), within).order_by(of.day, of.provider))
    domain = sender_domain(campaign.settings)
    told = [Told(**row) for row in rows.mappings()]
    mine = [one for one in told if one.sender in {"", domain} and one.route in {"", campaign.settings.route}]
    narrowest: dict[tuple[str, str, str, date], Told] = {}
    for one in sorted(mine, key=lambda row: row.narrowness):
        narrowest[one.source, one.signal, one.provider, one.day] = one
    return list(narrowest.values())


def rates(conn: Connection, told: Sequence[Told]) -> list[DayRate]:
    """Events per message of each of these days: a count is shared by all mail of its scope that left that day."""
    found = []
    for one in told:
        rate = one.rate
        if rate is None:
            sent = mail(conn, one)
            rate = (one.n or 0) / sent if sent else 0.0
        found.append(DayRate(one.signal, one.provider, one.day, min(rate, 1.0)))
    return found


def mail(conn: Connection, told: Told) -> int:
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
    return parseaddr(settings.sender)[1].rpartition("@")[2].lower()
