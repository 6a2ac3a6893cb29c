"""Release: open the next wave, ask everything again about its people, freeze them into batches; give slots back.

Under a lease of the contact base, so that of two campaigns over the same people the second one sees what the first
one froze. From the commit on, the frozen people count as sent: nobody is put over a cap, however many campaigns run.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sendwave import faults
from sendwave.engine.base import Engine, Written
from sendwave.engine.datasets import Lake
from sendwave.errors import Busy, NotAllowed, StaleTransition
from sendwave.rules import lifecycle, plan, throttle
from sendwave.rules.columns import SENDS, BigInteger, Integer, String, and_, column, select, table
from sendwave.rules.policy import CampaignType, PolicySet
from sendwave.store import batches, campaigns, files, freezes, holds, leases, paces, payloads, policies, suppressions
from sendwave.store.campaigns import Campaign, WaveRow
from sendwave.store.database import Connection, Database

LEASE_LIFE: Final = timedelta(minutes=5)
"""After a crash in the middle of a freeze, other nodes wait that long before they freeze people."""

BATCH_SIZE: Final = 1_000
"""People per batch where the ESP takes as many: 28 kB of payload, and the step in which a halt takes hold."""

RETURN_WAIT: Final = timedelta(minutes=10)
"""Refused and dropped people are given back together: a file for each of them would drown the lake."""

RETURN_BATCHES: Final = 50
"""So many batches with such people are given back without waiting."""

AT_ONCE: Final = 5_000
"""Batches given back in one transaction."""

_GIVEN: Final = table("given", column("batch", BigInteger), column("position", Integer), column("reason", String))


@dataclass(frozen=True, slots=True)
class Released:
    """One wave that was opened."""

    campaign: str
    wave: int
    people: int
    batches: int
    dropped: Mapping[str, int]  # reason -> people taken out since the plan was made


@dataclass(frozen=True, slots=True)
class _Freeze:
    """What one wave becomes, before it is committed."""

    id: int
    drafts: Sequence[batches.Draft]
    dropped: Mapping[str, int]
    people: int
    written: Written | None  # None when there was nobody to ask about


def release(
    db: Database,
    engine: Engine,
    lake: Lake,
    *,
    now: datetime,
    by: str = "daemon",
    batch_sizes: Mapping[str, int] | None = None,
) -> list[Released]:
    """Start the campaigns that are due, and open every wave that may open; returns what was opened.

    `batch_sizes` says how many people an ESP takes per batch, by route. A wave opens when those before it are over
    and nothing holds it. While another worker freezes people, the rest waits for the next call.
    """
    with db.read() as conn:
        due = campaigns.listing(conn, (lifecycle.Campaign.APPROVED, lifecycle.Campaign.SENDING))
    if any(c.status == lifecycle.Campaign.APPROVED and (c.start_at is None or c.start_at <= now) for c in due):
        with suppress(NotAllowed), db.write() as conn:  # another node was first: just as well
            campaigns.start_due(conn, by=by, now=now)
    worker = _Release(db, engine, lake, now, by, batch_sizes or {})
    return [opened for campaign in due for opened in worker.open_waves(campaign.id)]


@contextmanager
def _lease(db: Database, now: datetime) -> Iterator[leases.Lease]:
    """The right to freeze people of the contact base, ours alone. Raises Busy."""
    with db.write() as conn:
        lease = leases.acquire(conn, freezes.LEASE, f"release:{uuid.uuid4().hex}", now=now, life=LEASE_LIFE)
    try:
        yield lease
    finally:
        with db.write() as conn:
            leases.release(conn, lease, now=now)


@dataclass(frozen=True, slots=True)
class _Release:
    db: Database
    engine: Engine
    lake: Lake
    now: datetime
    by: str
    batch_sizes: Mapping[str, int]

    def open_waves(self, campaign_id: int) -> Iterator[Released]:
        """Open its next wave, and those after it while they turn out empty."""
        while self._look(campaign_id) is not None:
            try:
                with _lease(self.db, self.now) as lease:
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
        people, consents = self._ask_again(campaign, kind, wave.number)
        freeze = self._freeze(campaign, kind, wave.number, people, most)
        try:
            self._commit(campaign, wave, freeze, consents, lease)
        except BaseException:
            if freeze.written is not None:
                freeze.written.path.unlink(missing_ok=True)  # not registered, hence no part of the truth
            raise
        return Released(campaign.name, wave.number, freeze.people, len(freeze.drafts), freeze.dropped)

    def _ask_again(self, campaign: Campaign, kind: CampaignType, wave: int) -> tuple[pa.Table, list[int]]:
        """The wave's people in the order in which they should leave, with `excluded_by`; the consent files asked."""
        with self.db.read() as conn:
            listed = files.live(conn, plan.INPUTS)
            planned = files.get(conn, campaign.plan_file or 0)
            suppressed = suppressions.table(conn, kind.channel)
        assert planned is not None, "the lifecycle lets no campaign send without a plan"
        paths = {**self.lake.paths(listed), "plan": [self.lake.root / planned.path]}
        names = {name for path in paths["contacts"] for name in pq.read_schema(path).names}
        attributes = sorted(name for name in names if name.startswith(payloads.FIELD_PREFIX))
        instant = int(self.now.timestamp())
        statement = plan.recheck_statement(kind, campaign.name, campaign.id, wave, instant, attributes=attributes)
        with self.engine.session(paths, {"suppressions": suppressed}) as session:
            return session.read(statement), [file.id for file in listed["consents"]]

    def _batch_size(self, conn: Connection, policy: PolicySet, campaign: Campaign) -> int:
        route = campaign.settings.route
        spent = paces.look(conn, [paces.route_key(route)])[paces.route_key(route)]
        most = min(self.batch_sizes.get(route, BATCH_SIZE), BATCH_SIZE)
        return throttle.largest_batch(throttle.route_limit(policy.lanes.routes.get(route)), spent, self.now, most)

    def _freeze(self, campaign: Campaign, kind: CampaignType, wave: int, people: pa.Table, most: int) -> _Freeze:
        """Batches and `sends` rows of these people: the file is written, of the store only ids are taken."""
        window = kind.waves.window
        goes = pc.is_null(people["excluded_by"])
        kept = payloads.arrange(people.filter(goes), local=window is not None and window.zone == throttle.LOCAL)
        out = people.filter(pc.invert(goes))
        cuts = payloads.cut(kept, most)
        with self.db.write() as conn:
            freeze_id, first_id = freezes.reserve(conn, freeze_ids=1, batch_ids=len(cuts))
        payload, route = payloads.kept(kept), campaign.settings.route
        drafts = [
            batches.Draft(
                *(first_id + cut.place, campaign.id, wave, freeze_id, cut.provider, route, cut.zone, cut.place),
                size=cut.stop - cut.start,
                payload=payloads.encode(payload.slice(cut.start, cut.stop - cut.start)),
            )
            for cut in cuts
        ]
        written = None
        if people.num_rows:
            same: dict[str, int | str] = {"campaign": campaign.id, "type": campaign.type, "channel": campaign.channel}
            same |= {"wave": wave, "freeze": freeze_id, "sent_ts": int(self.now.timestamp())}
            rows = payloads.sends(kept, out, cuts, first_id, same)
            with self.engine.session({}, {"sends": rows}) as session:
                written = session.write(select(SENDS), self.lake.new("sends", f"{campaign.name}-{wave}"))
            faults.point("release_file_written")
        dropped = {one["values"]: one["counts"] for one in pc.value_counts(out["excluded_by"]).to_pylist()}
        return _Freeze(freeze_id, drafts, dropped, kept.num_rows, written)

    def _commit(
        self, campaign: Campaign, wave: WaveRow, freeze: _Freeze, consents: Sequence[int], lease: leases.Lease
    ) -> None:
        """Everything at once: the file is registered, the batches are ready, the wave is released."""
        move = partial(campaigns.transition_wave, campaign_id=campaign.id, number=wave.number, by=self.by, now=self.now)
        with self.db.write() as conn:
            leases.fence(conn, lease)
            if _next_wave(conn, campaign.id, self.now) != wave:
                raise StaleTransition(f"wave {wave.number} of {campaign.name} may not open any more")
            told = {"people": freeze.people, "batches": len(freeze.drafts), "dropped": dict(freeze.dropped)}
            move(conn, event="release", evidence=told)
            if freeze.written is not None:
                details = {"consents": list(consents)}
                file_id = _register(
                    conn, self.lake, "sends", freeze.written, now=self.now, part=str(campaign.id), details=details
                )
                freezes.add(
                    conn,
                    freeze.id,
                    campaign_id=campaign.id,
                    wave=wave.number,
                    file_id=file_id,
                    contacts=freeze.people,
                    dropped=freeze.dropped,
                    now=self.now,
                )
                batches.add(conn, freeze.drafts)
            if not freeze.drafts and not batches.unsettled(conn, campaign.id, wave.number):
                sent_at = batches.settled_at(conn, campaign.id, wave.number)
                move(conn, event="soak", sent_at=sent_at or self.now)
                if sent_at is None:  # nobody was ever written to in it: there is no feedback to wait for
                    move(conn, event="clear", reason="empty")
            faults.point("release_registered")


def _register(
    conn: Connection,
    lake: Lake,
    dataset: str,
    written: Written,
    *,
    now: datetime,
    part: str = "",
    details: Mapping[str, Any] | None = None,
) -> int:
    path, size = lake.relative(written.path), written.bytes
    return files.register(
        conn, dataset=dataset, path=path, rows=written.rows, size=size, now=now, part=part, details=details
    )


def _next_wave(conn: Connection, campaign_id: int, now: datetime) -> WaveRow | None:
    """The wave that may open now: those before it are over, nothing holds it."""
    campaign = campaigns.by_id(conn, campaign_id)
    over = (lifecycle.Wave.CLEARED, lifecycle.Wave.SKIPPED)
    wave = next((wave for wave in campaigns.waves(conn, campaign_id) if wave.status not in over), None)
    if campaign.status != lifecycle.Campaign.SENDING or wave is None or wave.status != lifecycle.Wave.WAITING:
        return None
    if campaign.last_wave is not None and wave.number > campaign.last_wave:
        return None
    return None if holds.blocks(conn, campaign_id, now=now, wave=wave.number) else wave


def give_back(db: Database, engine: Engine, lake: Lake, *, now: datetime) -> int:
    """Recall what stopped campaigns and waves did not send, and give the slots of everybody not sent to back.

    Returns the slots given back. Recalled people may be released again; the refused and the dropped may not.
    """
    with db.read() as conn:
        stopped = batches.recallable(conn, AT_ONCE)
        owed = batches.owed(conn, AT_ONCE)
    pressing = len(owed) >= RETURN_BATCHES or any(settled_at <= now - RETURN_WAIT for _, settled_at in owed)
    ids = [*stopped, *(batch_id for batch_id, _ in owed if stopped or pressing)]
    if not ids:
        return 0
    try:
        with _lease(db, now) as lease:
            return _GiveBack(db, engine, lake, now).run(stopped, ids, lease)
    except (Busy, StaleTransition):
        return 0  # a freeze is under way, or a batch was claimed meanwhile: the next call looks afresh


@dataclass(frozen=True, slots=True)
class _GiveBack:
    db: Database
    engine: Engine
    lake: Lake
    now: datetime

    def run(self, stopped: Sequence[int], ids: Sequence[int], lease: leases.Lease) -> int:
        """One `returns` file for all these batches; `stopped` are those of them to be recalled with it."""
        with self.db.read() as conn:
            campaign_ids, given = batches.returns(conn, ids)
            parts = {str(campaign_id) for campaign_id in campaign_ids}
            sends = [file for file in files.live(conn, ["sends"])["sends"] if file.part in parts]
        same = and_(SENDS.c.batch == _GIVEN.c.batch, SENDS.c.position == _GIVEN.c.position)
        statement = select(SENDS.c.freeze, SENDS.c.contact, _GIVEN.c.reason).select_from(SENDS.join(_GIVEN, same))
        with self.engine.session(self.lake.paths({"sends": sends}), {"given": given}) as session:
            written = session.write(statement, self.lake.new("returns", "given-back"))
        try:
            with self.db.write() as conn:
                leases.fence(conn, lease)
                self._commit(conn, stopped, ids, written)
        except BaseException:
            written.path.unlink(missing_ok=True)
            raise
        return written.rows

    def _commit(self, conn: Connection, stopped: Sequence[int], ids: Sequence[int], written: Written) -> None:
        if batches.recall(conn, stopped, now=self.now) != len(stopped):
            raise StaleTransition("a batch that was to be recalled is on its way: look again")
        batches.returned(conn, ids, self.now)
        _register(conn, self.lake, "returns", written, now=self.now)
