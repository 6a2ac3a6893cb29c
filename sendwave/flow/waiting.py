"""Tell what sending campaigns wait for and until when, so that a quiet terminal is no riddle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from sendwave.rules import waiting
from sendwave.rules.lifecycle import Campaign as Status
from sendwave.rules.lifecycle import Wave
from sendwave.rules.policy import PolicySet
from sendwave.rules.waiting import Soaking, Wait
from sendwave.store import campaigns, holds, lying, policies
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Connection, Database


def foretold(db: Database, campaign: Campaign) -> str:
    """How long an approved campaign takes at least, in words."""
    with db.read() as conn:
        approved = campaigns.by_id(conn, campaign.id)
        plan = policies.pinned(conn, approved.policy_version or "").types[approved.type].waves
        return waiting.foretold(plan, len(campaigns.waves(conn, campaign.id)))


def waits(db: Database, name: str, *, zone: str, now: datetime) -> list[Wait]:
    """What a campaign waits for; empty while it sends, and where only a person can move it. Raises NotFound."""
    with db.read() as conn:
        campaign = campaigns.get(conn, name)
        if campaign.status not in (Status.APPROVED, Status.SENDING):
            return []
        return list(_of(conn, campaign, policies.pinned(conn, campaign.policy_version or ""), zone, now))


def _of(conn: Connection, campaign: Campaign, policy: PolicySet, zone: str, now: datetime) -> Iterator[Wait]:
    if campaign.status == Status.APPROVED:
        yield from _one(waiting.for_start(campaign.start_at, now))
        return
    plan, standing = policy.types[campaign.type].waves, holds.open_holds(conn, campaign.id)
    ready = lying.of_campaign(conn, campaign.id, now)
    yield from _one(waiting.for_batches(plan, ready, standing, campaign.id, zone=zone, now=now))
    waves = [w for w in campaigns.waves(conn, campaign.id) if w.status not in (Wave.CLEARED, Wave.SKIPPED)]
    for wave in waves:
        if wave.status == Wave.SOAKING and wave.sent_at is not None:
            yield waiting.for_feedback(plan, Soaking(wave.number, wave.sent_at), now)
    if waves and waves[0].status == Wave.WAITING:
        yield from _one(waiting.for_wave(standing, campaign.id, waves[0].number, now))


def _one(found: Wait | None) -> Iterator[Wait]:
    if found is not None:
        yield found


@dataclass
class Watch:
    """Tells each wait once, for a log that is read while it is written."""

    zone: str  # IANA; of contacts who have none
    _told: dict[str, list[Wait]] = field(default_factory=dict)
    _policies: dict[str, PolicySet] = field(default_factory=dict)

    def news(self, db: Database, now: datetime) -> list[tuple[str, Wait]]:
        """(campaign, wait) of those that began since the last look."""
        found: dict[str, list[Wait]] = {}
        with db.read() as conn:
            for campaign in campaigns.listing(conn, (Status.APPROVED, Status.SENDING)):
                found[campaign.name] = list(_of(conn, campaign, self._policy(conn, campaign), self.zone, now))
        told, self._told = self._told, found
        return [(name, wait) for name, every in found.items() for wait in every if wait not in told.get(name, ())]

    def _policy(self, conn: Connection, campaign: Campaign) -> PolicySet:
        version = campaign.policy_version or ""
        if version not in self._policies:
            self._policies = {version: policies.pinned(conn, version)} | dict(list(self._policies.items())[:8])
        return self._policies[version]
