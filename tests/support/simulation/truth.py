"""What must hold, whatever happens: looked at with the test's own eyes, from the store's rows and the ESP's memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sendable
from sqlalchemy import select

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import NotAllowed
from sendwave.esp.base import Submission
from sendwave.flow.audit import audit
from sendwave.rules import lifecycle
from sendwave.store import tables
from sendwave.store.database import Database
from simulation.history import World
from simulation.provider import Provider

_AT_HAND_OVER = ("fail", "deferral")
"""Tallies of what the ESP answers at once: where the answer is lost, so are they."""


@dataclass
class Truth:
    """The invariants. Each method raises AssertionError with words that say what is wrong."""

    db: Database
    engine: DuckdbEngine
    lake: Lake
    world: World
    withdrawn: dict[str, datetime] = field(default_factory=dict)  # address -> when its consent ended
    seen: int = 0  # journal rows looked at
    statuses: dict[tuple[Any, ...], str] = field(default_factory=dict)

    # ── at each hand-over ─────────────────────────────────────────────────────────────────────────────────────────
    def handed(self, submission: Submission, now: datetime) -> None:
        """The ESP looks up what the store said when this batch was marked as handed over."""
        with self.db.read() as conn:
            batch = (
                conn.execute(select(tables.batches).where(tables.batches.c.id == submission.batch_id)).mappings().one()
            )
            assert batch["status"] in ("handed", "unknown"), (
                f"called for batch {submission.batch_id}: {batch['status']}"
            )
            at = submission.now  # the instant at which it was decided that it may leave
            self._nothing_held(conn, submission, batch, at)
            self._left_alone(conn, submission, at)
        self._in_hours(submission, batch, at)
        assert now - at < timedelta(days=2), "it was decided days ago"

    def _nothing_held(self, conn: Any, submission: Submission, batch: Any, at: datetime) -> None:
        holds = tables.holds.c
        rows = conn.execute(select(tables.holds).where(holds.since < at)).mappings()
        for hold in rows:
            if hold["lifted_at"] is not None and hold["lifted_at"] <= at:
                continue
            if hold["until"] is not None and hold["until"] <= at:
                continue
            covers = (
                hold["campaign_id"] in (None, submission.campaign_id)
                and hold["wave"] in (None, submission.wave)
                and hold["provider"] in (None, submission.provider)
                and hold["route"] in (None, batch["route"])
            )
            assert not covers, f"batch {submission.batch_id} left under the hold {hold['reason']} ({hold['kind']})"

    def _left_alone(self, conn: Any, submission: Submission, at: datetime) -> None:
        table = tables.suppressions
        hashes = {sendable.hashlib.sha256(a.encode()).hexdigest()[:32]: a for a in submission.recipients.addresses}
        rows = conn.execute(
            select(table.c.address_hash).where(table.c.address_hash.in_(hashes), table.c.recorded_at < at)
        ).scalars()
        left = [hashes[row] for row in rows]
        assert not left, f"written to although suppressed: {left}"
        gone = [a for a in submission.recipients.addresses if self.withdrawn.get(a, at) < at]
        assert not gone, f"written to although their consent is withdrawn: {gone}"

    def _in_hours(self, submission: Submission, batch: Any, at: datetime) -> None:
        if not self.world.window:
            return
        from zoneinfo import ZoneInfo

        local = at.astimezone(ZoneInfo(batch["zone"] or "Europe/Paris"))
        assert 8 <= local.hour < 20, f"left at {local:%H:%M} in {batch['zone'] or 'the default zone'}"

    # ── after each step ───────────────────────────────────────────────────────────────────────────────────────────
    def between(self, provider: Provider, _now: datetime) -> None:
        """Nobody twice; nobody over the cap; every status came by an allowed way that is in the journal."""
        got = Counter((one.campaign, one.address) for one in provider.arrivals)
        twice = [who for who, n in got.items() if n > 1]
        assert not twice, f"written to twice: {twice}"
        if self.world.cap:
            both = Counter(one.address for one in provider.arrivals)
            over = [address for address, n in both.items() if n > 1]
            assert not over, f"over the cap of one message: {over}"
        self._journal()

    def _journal(self) -> None:
        """Fold the journal over the lifecycle tables, and compare with the rows."""
        journal = tables.journal
        with self.db.read() as conn:
            rows = conn.execute(select(journal).where(journal.c.id > self.seen).order_by(journal.c.id)).mappings().all()
            current = {("campaign", row.id, None): row.status for row in conn.execute(select(tables.campaigns))}
            current |= {("wave", r.campaign_id, r.number): r.status for r in conn.execute(select(tables.waves))}
            current |= {("lane", r.campaign_id, r.provider): r.status for r in conn.execute(select(tables.lanes))}
        for row in rows:
            self.seen = row["id"]
            kind, _, event = row["action"].partition(".")
            told = row["evidence"]
            if kind not in ("campaign", "wave", "lane") or "from" not in told or event not in lifecycle.TABLES[kind]:
                continue
            sources, target = lifecycle.TABLES[kind][event]
            assert told["from"] in sources, f"{row['action']} from {told['from']} is not allowed"
            assert told["to"] == target
            which = {"campaign": None, "wave": row["wave"], "lane": row["provider"]}[kind]
            key = (kind, row["campaign_id"], which)
            before = self.statuses.get(key)
            assert before in (None, told["from"]), f"{key} was {before}, the journal says {told['from']}"
            self.statuses[key] = target
        for key, status in self.statuses.items():
            assert current.get(key, status) == status, f"{key} is {current[key]}, its journal says {status}"

    # ── the audit ─────────────────────────────────────────────────────────────────────────────────────────────────
    def accounted(self, provider: Provider, names: Sequence[str], *, over: bool = False) -> None:
        """Everybody of each plan exactly once; who is sent got it, who is not did not."""
        for name in names:
            try:
                found = audit(self.db, self.engine, self.lake, name)
            except NotAllowed:  # nobody has planned it
                continue
            with self.db.read() as conn:
                number = conn.execute(select(tables.campaigns.c.id).where(tables.campaigns.c.name == name)).scalar()
            arrived = {one.address for one in provider.arrivals if one.campaign == number}
            rows = {row[0]: row for row in found.rows()}
            assert len(rows) == found.total == self.world.people, (
                f"{name}: {len(rows)} of {self.world.people} accounted for"
            )
            for contact, row in rows.items():
                address = sendable.address(int(contact.removeprefix("C")))
                if row[1] == "sent":
                    assert address in arrived, f"{name}: {address} is said to be sent and never arrived ({row})"
                elif row[1] == "not_sent":
                    assert address not in arrived, f"{name}: {address} is said not to be sent and arrived ({row})"
            if over:
                waiting = [row for row in rows.values() if row[2] in ("waiting", "ready", "claimed", "in_flight")]
                assert not waiting, f"{name} is over and these still wait: {waiting[:3]}"

    def counted(self, provider: Provider) -> None:
        """Counters equal the truth: each person once per batch and tally, however often and late it was told."""
        want: dict[tuple[int, str], set[str]] = defaultdict(set)
        for key, people in provider.told.items():
            want[key] |= people
        with self.db.read() as conn:
            rows = conn.execute(select(tables.tallies).where(tables.tallies.c.tally.not_in(_AT_HAND_OVER)))
            found = {(r.batch_id, r.tally): r.n for r in rows if r.n}
        assert found == {key: len(people) for key, people in want.items() if people}
