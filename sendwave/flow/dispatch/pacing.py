"""What may leave now: windows, holds, and the pace of routes and lanes, spent by one pacer in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from sendwave.esp.base import Message
from sendwave.rules import lifecycle, throttle
from sendwave.rules.holds import Hold, blocking
from sendwave.rules.policy import CampaignType, PolicySet
from sendwave.store import batches, campaigns, holds, paces, policies
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Connection


@dataclass(frozen=True, slots=True)
class Job:
    """A campaign as its batches need it."""

    campaign: Campaign
    policy: PolicySet
    kind: CampaignType
    factors: Mapping[str, float]  # provider -> what its pace is multiplied by
    unsubscribe: str | None = None  # our own one-click URL with {token}, for campaigns that name none

    @property
    def message(self) -> Message:
        """What is sent, merge fields apart. Service mail is no list one could leave."""
        told = self.campaign.settings
        way_out = told.unsubscribe or (None if self.kind.is_service else self.unsubscribe)
        return Message(
            *(self.campaign.name, self.campaign.type, told.sender, told.subject, told.content),
            *(told.reply_to, way_out, told.provider_template),
        )

    def limits(self, group: batches.Group) -> dict[str, throttle.Limit]:
        """The paces a batch of that group spends from, by their key."""
        lanes = self.policy.lanes
        route = lanes.routes.get(group.route)
        lane = throttle.lane_limit(lanes.providers.get(group.provider), route, self.factors.get(group.provider, 1.0))
        return {
            paces.lane_key(group.route, group.provider): lane,
            paces.route_key(group.route): throttle.route_limit(route),
        }


@dataclass(slots=True)
class Pacer:
    """Chooses and claims batches for one node."""

    holder: str
    zone: str  # IANA; of contacts who have none
    at_once: int  # batches per route and importance
    unsubscribe: str | None = None  # as in Job
    _policies: dict[str, PolicySet] = field(default_factory=dict)

    def jobs(self, conn: Connection, campaign_ids: Iterable[int]) -> dict[int, Job]:
        """The campaigns of these batches, each under the policy it was approved with."""
        found = {}
        for campaign_id in campaign_ids:
            campaign = campaigns.by_id(conn, campaign_id)
            version = campaign.policy_version or ""
            if version not in self._policies:
                self._policies[version] = policies.pinned(conn, version)
            policy = self._policies[version]
            factors = {lane.provider: lane.throttle for lane in campaigns.lanes(conn, campaign_id)}
            found[campaign_id] = Job(campaign, policy, policy.types[campaign.type], factors, self.unsubscribe)
        return found

    def claim(
        self,
        conn: Connection,
        waiting: Collection[batches.Group],
        jobs: Mapping[int, Job],
        now: datetime,
        until: datetime,
        *,
        probing: Collection[str] = (),
    ) -> list[batches.Claimed]:
        """Take what may leave now, the most important campaigns first, and spend its pace.

        Routes of `probing` took nothing the last time: one batch finds out whether they do again.
        """
        standing = holds.open_holds(conn)
        may = [group for group in waiting if self.may_leave(group, jobs[group.campaign_id], standing, now)]
        limits = {group: jobs[group.campaign_id].limits(group) for group in may}
        spent = paces.lock(conn, {key for each in limits.values() for key in each})

        def rank(group: batches.Group) -> tuple[str, int]:
            return group.route, -jobs[group.campaign_id].kind.importance

        chosen: list[int] = []
        tried: set[str] = set()
        for (route, _), equals in groupby(sorted(may, key=rank), rank):
            moving = [group for group in equals if throttle.take_all(spent, limits[group], 1, now) is not None]
            for ready in batches.ready(conn, moving, now, 1 if route in probing else self.at_once):
                if route in tried:
                    continue
                tried |= {route} & set(probing)
                taken = throttle.take_all(spent, limits[ready.group], ready.size, now)
                if taken is not None:
                    spent.update(taken)
                    chosen.append(ready.id)
        paces.spend(conn, spent if chosen else {})
        claimed = batches.claim(conn, chosen, holder=self.holder, until=until)
        self._take_off(conn, claimed, now)
        return claimed

    def may_leave(self, group: batches.Group, job: Job, standing: Sequence[Hold], now: datetime) -> bool:
        """Nothing holds these batches, and where their people are the window is open."""
        if blocking(
            standing,
            campaign_id=group.campaign_id,
            wave=group.wave,
            provider=group.provider,
            route=group.route,
            now=now,
        ):
            return False
        return throttle.is_open(job.kind.waves.window, group.zone or self.zone, now)

    def _take_off(self, conn: Connection, claimed: Sequence[batches.Claimed], now: datetime) -> None:
        """The waves of these batches are being sent from now on; follow-ups alone do not end a soak."""
        flying = {(batch.group.campaign_id, batch.group.wave) for batch in claimed if batch.origins is None}
        for campaign_id, number in sorted(flying):
            status = next(wave.status for wave in campaigns.waves(conn, campaign_id) if wave.number == number)
            event = {lifecycle.Wave.RELEASED: "send", lifecycle.Wave.SOAKING: "reopen"}.get(lifecycle.Wave(status))
            if event is not None:
                campaigns.transition_wave(conn, campaign_id, number, event, by=self.holder, now=now)


def soak(conn: Connection, *, by: str, now: datetime) -> None:
    """Waves of which every batch is through, those in suspended lanes apart, wait for feedback from now on."""
    for campaign_id, number in through(conn):
        last = batches.settled_at(conn, campaign_id, number)
        campaigns.transition_wave(conn, campaign_id, number, "soak", by=by, now=now, sent_at=last or now)


def through(conn: Connection) -> list[tuple[int, int]]:
    """(campaign, wave) of the waves in flight of which nothing is left to send."""
    flying = (lifecycle.Wave.RELEASED, lifecycle.Wave.SENDING)
    return [
        (campaign.id, wave.number)
        for campaign in campaigns.listing(conn, (lifecycle.Campaign.SENDING,))
        for wave in campaigns.waves(conn, campaign.id)
        if wave.status in flying and not batches.unsettled(conn, campaign.id, wave.number)
    ]
