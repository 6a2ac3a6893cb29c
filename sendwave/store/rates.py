"""What past campaigns showed: events per message, by mailbox provider, and how tiers differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from sendwave.rules.signals import SIGNALS
from sendwave.store.tables import batches, campaigns, counters, waves

RECENT: Final = timedelta(days=180)
MOST: Final = 40
"""Campaigns that are asked at most, the newest ones."""


@dataclass(frozen=True)
class Past:
    """Messages, and events by signal, of earlier campaigns of a type."""

    campaigns: int = 0
    sent: Mapping[str, int] = field(default_factory=dict)  # by lane
    events: Mapping[tuple[str, str], int] = field(default_factory=dict)  # by signal and lane
    tier_sent: Mapping[str, float] = field(default_factory=dict)
    tier_events: Mapping[tuple[str, str], float] = field(default_factory=dict)  # by signal and tier

    def rate(self, signal: str, lane: str, usual: float, belief: float) -> float:
        """Events per message in that lane: believed by its events, else all lanes' rate, else `usual`."""
        all_sent = sum(self.sent.values())
        all_events = sum(n for (name, _), n in self.events.items() if name == signal)
        whole = _shrunk(all_events, all_sent, usual, belief)
        return _shrunk(self.events.get((signal, lane), 0), self.sent.get(lane, 0), whole, belief)

    def factor(self, signal: str, tier: str, belief: float) -> float:
        """How many times the average rate a tier shows; 1 where nothing is known."""
        sent, events = sum(self.tier_sent.values()), sum(n for (s, _), n in self.tier_events.items() if s == signal)
        if not sent or not events:
            return 1.0
        whole = events / sent
        return _shrunk(self.tier_events.get((signal, tier), 0.0), self.tier_sent.get(tier, 0.0), whole, belief) / whole


def _shrunk(events: float, sent: float, towards: float, belief: float) -> float:
    """Events per message, with `belief` events at the rate `towards` added: Gamma prior of a Poisson rate."""
    if towards <= 0:
        return events / sent if sent else 0.0
    return (events + belief) / (sent + belief / towards)


def past(conn: Connection, kind: str, now: datetime, *, without: int) -> Past:
    """What the campaigns of that type showed that started in the last `RECENT`, the one numbered `without` apart."""
    of = campaigns.c
    chosen = (of.type == kind, of.started_at >= now - RECENT, of.started_at < now, of.id != without)
    ids = list(conn.execute(select(of.id).where(*chosen).order_by(of.started_at.desc()).limit(MOST)).scalars())
    if not ids:
        return Past()
    sent = _by_wave(conn, ids)
    tiers = {(row[0], row[1]): row[2] for row in conn.execute(
        select(waves.c.campaign_id, waves.c.number, waves.c.tiers).where(waves.c.campaign_id.in_(ids))
    )}  # fmt: skip
    names = {signal.tallies[0].value: name for name, signal in SIGNALS.items() if len(signal.tallies) == 1}
    by_lane: dict[str, int] = defaultdict(int)
    events: dict[tuple[str, str], int] = defaultdict(int)
    tier_sent: dict[str, float] = defaultdict(float)
    tier_events: dict[tuple[str, str], float] = defaultdict(float)
    for (campaign_id, wave, provider), n in sent.items():
        by_lane[provider] += n
        for tier, share in _shares(tiers.get((campaign_id, wave), {})).items():
            tier_sent[tier] += n * share
    for campaign_id, wave, provider, tally, n in _counted(conn, ids):
        if tally in names:
            events[names[tally], provider] += n
            for tier, share in _shares(tiers.get((campaign_id, wave), {})).items():
                tier_events[names[tally], tier] += n * share
    return Past(len(ids), by_lane, events, tier_sent, tier_events)


def _shares(tiers: Mapping[str, int]) -> dict[str, float]:
    total = sum(tiers.values())
    return {tier: people / total for tier, people in tiers.items()} if total else {}


def _by_wave(conn: Connection, ids: list[int]) -> dict[tuple[int, int, str], int]:
    of = batches.c
    group = (of.campaign_id, of.wave, of.provider)
    handed = func.sum(of.accepted + of.refused)
    rows = conn.execute(select(*group, handed).where(of.campaign_id.in_(ids)).group_by(*group))
    return {(row[0], row[1], row[2]): int(row[3]) for row in rows}


def _counted(conn: Connection, ids: list[int]) -> list[tuple[int, int, str, str, int]]:
    of = counters.c
    group = (of.campaign_id, of.wave, of.provider, of.tally)
    rows = conn.execute(select(*group, func.sum(of.n)).where(of.campaign_id.in_(ids)).group_by(*group))
    return [(row[0], row[1], row[2], row[3], int(row[4])) for row in rows]
