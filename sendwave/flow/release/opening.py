"""Open the next wave: ask everything again about its people, freeze them into batches.

Under a lease of the contact base, so that of two campaigns over the same people the second one sees what the first
one froze. From the commit on, the frozen people count as sent: nobody is put over a cap, however many campaigns run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import pyarrow as pa

from sendwave import faults
from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import Busy, NotAllowed, StaleTransition
from sendwave.flow.release.budgeting import COUNTRY, paid, purse, weighed
from sendwave.flow.release.freezing import Freeze, Wave, freeze
from sendwave.flow.release.leasing import lease_people, register
from sendwave.flow.release.measuring import Texts
from sendwave.rules import lifecycle, plan, throttle
from sendwave.rules.policy import CampaignType, PolicySet
from sendwave.store import (
    batches,
    campaigns,
    files,
    freezes,
    holds,
    leases,
    paces,
    payloads,
    policies,
    recalls,
    rivals,
    suppressions,
)
from sendwave.store.campaigns import Campaign, WaveRow
from sendwave.store.database import Connection, Database

BATCH_SIZE: Final = 1_000
"""People per batch where the ESP takes as many: 28 kB of payload, and the step in which a halt takes hold."""


@dataclass(frozen=True, slots=True)
class Released:
    """One wave that was opened."""

    campaign: str
    wave: int
    people: int
    batches: int
    dropped: Mapping[str, int]  # reason -> people taken out since the plan was made


def release(
    db: Database,
    engine: Engine,
    lake: Lake,
    *,
    now: datetime,
    by: str = "daemon",
    batch_sizes: Mapping[str, int] | None = None,
    texts: Texts | None = None,
) -> list[Released]:
    """Start the campaigns that are due, and open every wave that may open; returns what was opened.

    `batch_sizes` says how many people an ESP takes per batch, by route; `texts` measures text messages. A wave opens
    when those before it are over and nothing holds it. While another worker freezes people, the rest waits for the
    next call.
    """
    with db.read() as conn:
        due = campaigns.listing(conn, (lifecycle.Campaign.APPROVED, lifecycle.Campaign.SENDING))
    if any(c.status == lifecycle.Campaign.APPROVED and (c.start_at is None or c.start_at <= now) for c in due):
        with suppress(NotAllowed), db.write() as conn:  # another node was first: just as well
            campaigns.start_due(conn, by=by, now=now)
    worker = _Release(db, engine, lake, now, by, batch_sizes or {}, texts)
    return [opened for campaign in due for opened in worker.open_waves(campaign.id)]


@dataclass(frozen=True, slots=True)
class _Release:
    db: Database
    engine: Engine
    lake: Lake
    now: datetime
    by: str
    batch_sizes: Mapping[str, int]
    texts: Texts | None

    def open_waves(self, campaign_id: int) -> Iterator[Released]:
        """Open its next wave, and those after it while they turn out empty."""
        while self._look(campaign_id) is not None:
            try:
                with lease_people(self.db, self.now) as lease:
                    found = self._look(campaign_id)  # again: whoever had the lease before may have opened it
                    opened = None if found is None else self._open(*found, lease)
            except (Busy, StaleTransition):
                return  # somebody else is at it, or a person stopped it meanwhile: the next call looks afresh
            if opened is not None:
                yield opened

    def _look(self, campaign_id: int) -> tuple[Campaign, WaveRow] | None:
        with self.db.read() as conn:
            wave = _next_wave(conn, campaign_id, self.now)
            return None if wave is None else (campaigns.by_id(conn, campaign_id), wave)

    def _open(self, campaign: Campaign, wave: WaveRow, lease: leases.Lease) -> Released:
        with self.db.read() as conn:
            policy = policies.pinned(conn, campaign.policy_version or "")
            most = self._batch_size(conn, policy, campaign)
        kind = policy.types[campaign.type]
        money = purse(self.db, self.engine, self.lake, campaign, policy.budgets, now=self.now)
        people, consents = self._ask_again(campaign, kind, wave.number, priced=money is not None)
        people = paid(weighed(people, campaign, self.texts), money, campaign, policy.budgets)
        local = kind.waves.window is not None and kind.waves.window.zone == throttle.LOCAL
        frozen = freeze(self.db, self.lake, Wave(campaign, wave.number, local, most), people, now=self.now)
        try:
            self._commit(campaign, wave, frozen, consents, lease)
        except BaseException as fault:
            self.lake.withdraw(fault, [frozen.written])
            raise
        return Released(campaign.name, wave.number, frozen.people, len(frozen.drafts), frozen.dropped)

    def _ask_again(
        self, campaign: Campaign, kind: CampaignType, wave: int, *, priced: bool
    ) -> tuple[pa.Table, list[int]]:
        """The wave's people in the order in which they should leave, with `excluded_by`; the consent files asked."""
        with self.db.read() as conn:
            ahead = rivals.before(conn, campaign, kind.importance, self.now)
            listed = files.live(conn, plan.INPUTS)
            planned = files.get(conn, campaign.plan_file or 0)
            suppressed = suppressions.table(conn, kind.channel)
        assert planned is not None, "the lifecycle lets no campaign send without a plan"
        paths = {**self.lake.paths({**listed, **ahead.plans}), "plan": [self.lake.path(planned)]}
        columns = self.lake.columns(listed["contacts"])
        attributes = sorted(name for name in columns if name.startswith(payloads.FIELD_PREFIX))
        attributes += [COUNTRY] if priced else []
        instant = int(self.now.timestamp())
        statement = plan.recheck_statement(
            kind, campaign.name, campaign.id, wave, instant, attributes=attributes, rivals=ahead.rivals
        )
        with self.engine.session(paths, {"suppressions": suppressed}) as session:
            return session.read(statement), [file.id for file in listed["consents"]]

    def _batch_size(self, conn: Connection, policy: PolicySet, campaign: Campaign) -> int:
        route = campaign.settings.route
        spent = paces.look(conn, [paces.route_key(route)])[paces.route_key(route)]
        most = min(self.batch_sizes.get(route, BATCH_SIZE), BATCH_SIZE)
        return throttle.largest_batch(throttle.route_limit(policy.lanes.routes.get(route)), spent, self.now, most)

    def _commit(
        self, campaign: Campaign, wave: WaveRow, frozen: Freeze, consents: Sequence[int], lease: leases.Lease
    ) -> None:
        """Everything at once: the file is registered, the batches are ready, the wave is released."""
        move = partial(campaigns.transition_wave, campaign_id=campaign.id, number=wave.number, by=self.by, now=self.now)
        with self.db.write() as conn:
            leases.fence(conn, lease)
            if _next_wave(conn, campaign.id, self.now) != wave:
                raise StaleTransition(f"wave {wave.number} of {campaign.name} may not open any more")
            told = {"people": frozen.people, "batches": len(frozen.drafts), "dropped": dict(frozen.dropped)}
            move(conn, event="release", evidence=told)
            if frozen.written is not None:
                details = {"consents": list(consents)}
                file_id = register(
                    conn, self.lake, "sends", frozen.written, now=self.now, part=str(campaign.id), details=details
                )
                freezes.add(
                    conn,
                    frozen.id,
                    campaign_id=campaign.id,
                    wave=wave.number,
                    file_id=file_id,
                    contacts=frozen.people,
                    dropped=frozen.dropped,
                    now=self.now,
                )
                batches.add(conn, frozen.drafts)
            if not frozen.drafts and not batches.unsettled(conn, campaign.id, wave.number):
                sent_at = batches.settled_at(conn, campaign.id, wave.number)
                move(conn, event="soak", sent_at=sent_at or self.now)
                if sent_at is None:  # nobody was ever written to in it: there is no feedback to wait for
                    move(conn, event="clear", reason="empty")
            faults.point("release_registered")


def _next_wave(conn: Connection, campaign_id: int, now: datetime) -> WaveRow | None:
    """The wave that may open now: those before it are over, nothing holds it, nobody of it is on the way back."""
    campaign = campaigns.by_id(conn, campaign_id)
    over = (lifecycle.Wave.CLEARED, lifecycle.Wave.SKIPPED)
    wave = next((wave for wave in campaigns.waves(conn, campaign_id) if wave.status not in over), None)
    if campaign.status != lifecycle.Campaign.SENDING or wave is None or wave.status != lifecycle.Wave.WAITING:
        return None
    if campaign.last_wave is not None and wave.number > campaign.last_wave:
        return None
    if recalls.coming_back(conn, campaign_id, wave.number):
        return None
    return None if holds.blocks(conn, campaign_id, now=now, wave=wave.number) else wave
