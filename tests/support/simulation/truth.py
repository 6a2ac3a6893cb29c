"""What must hold, whatever happens: looked at with the test's own eyes, from the store's rows and the ESP's memory."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import sendable
from sqlalchemy import bindparam, null, select

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import NotAllowed
from sendwave.esp.base import Submission
from sendwave.flow.audit import audit
from sendwave.rules import lifecycle
from sendwave.store import tables
from sendwave.store.database import Database
from simulation.ground import PER_DAY, START, WARM_UP
from simulation.history import World
from simulation.provider import Provider
from simulation.quick import Kept

_WAITS: Final = ("waiting", "ready", "claimed", "in_flight")
_CUT: Final = ("cancelled", "shortened", "recalled")
"""Reasons of people who were still to come when somebody ended it; a resume sends all of them. A campaign completes
without the lanes nobody reopened.
"""

_AT_HAND_OVER: Final = ("fail", "deferral")
"""Tallies of what the ESP answers at once: where the answer is lost, so are they."""

_PER_SECOND, _BURST, _LANE_PER_SECOND = 20 / 60, 5, 6 / 60
"""Of `ground.PACE` and `LANE_PACE`; a batch larger than the burst may leave alone, and a lane has none."""


def _reachable() -> dict[str, set[str]]:
    """The statuses a batch may have some time after each."""
    steps: dict[str, set[str]] = defaultdict(set)
    for sources, target in lifecycle.BATCH.values():
        for source in sources:
            steps[source].add(target)
    for _ in steps:
        for source, found in steps.items():
            steps[source] = found.union(*(steps.get(one, set()) for one in tuple(found)))
    return steps


_REACHABLE: Final = _reachable()

_OF_CAMPAIGN, _OF_WAVE, _OF_LANE = tables.campaigns.c, tables.waves.c, tables.lanes.c
_STATUSES: Final = {
    "campaign": select(_OF_CAMPAIGN.id, null(), _OF_CAMPAIGN.status),
    "wave": select(_OF_WAVE.campaign_id, _OF_WAVE.number, _OF_WAVE.status),
    "lane": select(_OF_LANE.campaign_id, _OF_LANE.provider, _OF_LANE.status),
}
_JOURNAL: Final = select(tables.journal).where(tables.journal.c.id > bindparam("seen")).order_by(tables.journal.c.id)
_BATCH: Final = select(tables.batches).where(tables.batches.c.id == bindparam("batch"))
_BATCHES: Final = select(
    *(tables.batches.c[name] for name in ("id", "status", "size", "accepted", "refused", "unknown", "dropped", "moved"))
)
_CAMPAIGN: Final = select(_OF_CAMPAIGN.status).where(_OF_CAMPAIGN.id == bindparam("campaign"))
_WAVE: Final = select(_OF_WAVE.status).where(
    _OF_WAVE.campaign_id == bindparam("campaign"), _OF_WAVE.number == bindparam("wave")
)
_LANE: Final = select(_OF_LANE.status).where(
    _OF_LANE.campaign_id == bindparam("campaign"), _OF_LANE.provider == bindparam("lane")
)


@dataclass
class Truth:
    """The invariants. Each method raises AssertionError with words that say what is wrong."""

    db: Database
    engine: Engine
    lake: Lake
    world: World
    stopped: dict[str, datetime] = field(default_factory=dict)  # address -> when they asked to be left alone
    cut: set[str] = field(default_factory=set)  # campaigns somebody shortened or cancelled
    resent: Counter[tuple[int, str]] = field(default_factory=Counter)  # how often a person risked one more message
    struck: set[str] = field(default_factory=set)  # troubles that came
    seen: int = 0  # journal rows looked at
    first: dict[tuple[Any, ...], str] = field(default_factory=dict)  # status at the first look
    statuses: dict[tuple[Any, ...], str] = field(default_factory=dict)  # by the journal
    batches: dict[int, str] = field(default_factory=dict)
    left: list[tuple[datetime, int, str]] = field(default_factory=list)  # decided at, people, lane: first calls
    keys: set[str] = field(default_factory=set)
    wrong: AssertionError | None = None  # what did not hold at a hand-over
    reasons: Counter[str] = field(default_factory=Counter)

    def stop(self, address: str, at: datetime) -> None:
        """They asked to be left alone."""
        self.stopped.setdefault(address, at)

    # ── at each hand-over ─────────────────────────────────────────────────────────────────────────────────────────
    def handed(self, submission: Submission, now: datetime, *, skew: timedelta, holder: str | None) -> None:
        """What the store says when the ESP is called by `holder`; None where others had a turn since its commit."""
        alone = holder is not None
        again = submission.key in self.keys
        with self.db.read() as conn:
            batch = conn.execute(_BATCH, {"batch": submission.batch_id}).mappings().one()
            assert batch["status"] in ("handed", "unknown") or not alone, (
                f"called for a batch that is {batch['status']}"
            )
            assert not alone or batch["claimed_by"] == holder, f"{holder} handed over what {batch['claimed_by']} has"
            taken_over = batch["handed_at"] is not None and batch["handed_at"] < submission.now  # from a dead node
            if alone and self.world.nodes > 1 and not again and not taken_over:
                life = select(tables.leases.c.epoch).where(tables.leases.c.name == f"node:{holder}")
                assert conn.execute(life).scalar() == batch["epoch"], (
                    f"{holder} handed over what it claimed in a life before"
                )
            at = submission.now - skew  # the instant at which it was decided that it may leave
            self._nothing_held(conn, submission, batch, at, at_once=alone and not again)
            if alone:
                self._sends(conn, submission)
            self._left_alone(conn, submission, at)
        self._in_hours(batch, submission.now)
        assert now - at < timedelta(hours=1), "it was decided long ago"
        if not again:
            self.keys.add(submission.key)
            self._paced(batch["handed_at"] or submission.now, submission.provider, len(submission.recipients.addresses))

    def _sends(self, conn: Any, submission: Submission) -> None:
        """Campaign, wave and lane are on their way at this very moment."""
        told = {"campaign": submission.campaign_id, "wave": submission.wave, "lane": submission.provider}
        status = conn.execute(_CAMPAIGN, told).scalar()
        assert status == "sending", f"left while its campaign is {status}"
        status = conn.execute(_WAVE, told).scalar()
        assert status in ("released", "sending", "soaking", "cleared"), f"left while its wave is {status}"
        status = conn.execute(_LANE, told).scalar()
        assert status == "open", f"left while its lane is {status}"

    def _nothing_held(self, conn: Any, submission: Submission, batch: Any, at: datetime, *, at_once: bool) -> None:
        """`at_once`: whatever stands now stood when the hand-over was committed."""
        holds = tables.holds.c
        since = holds.lifted_at.is_(None) if at_once else holds.since < at
        for hold in conn.execute(select(tables.holds).where(since)).mappings():
            over = [end for end in (hold["lifted_at"], hold["until"]) if end is not None]
            covers = (
                hold["campaign_id"] in (None, submission.campaign_id)
                and hold["wave"] in (None, submission.wave)
                and hold["provider"] in (None, submission.provider)
                and hold["route"] in (None, batch["route"])
            )
            held = covers and not any(end <= max(at, submission.now) + timedelta(seconds=30) for end in over)
            assert not held, f"left under a hold: {hold['reason']} ({hold['kind']}), batch {submission.batch_id}"

    def _left_alone(self, conn: Any, submission: Submission, at: datetime) -> None:
        table = tables.suppressions
        hashes = {sendable.hashlib.sha256(a.encode()).hexdigest()[:32]: a for a in submission.recipients.addresses}
        rows = conn.execute(
            select(table.c.address_hash).where(table.c.address_hash.in_(hashes), table.c.recorded_at < at)
        ).scalars()
        left = [hashes[row] for row in rows]
        assert not left, f"written to although suppressed: {left}"
        gone = [a for a in submission.recipients.addresses if self.stopped.get(a, at) < at]
        assert not gone, f"written to although they asked to be left alone: {gone}"

    def _in_hours(self, batch: Any, at: datetime) -> None:
        if self.world.window:
            local = at.astimezone(ZoneInfo(batch["zone"] or "Europe/Paris"))
            assert 8 <= local.hour < 20, f"left out of hours: at {local:%H:%M} in {batch['zone'] or 'the default zone'}"

    def _paced(self, at: datetime, provider: str, people: int) -> None:
        """Over every stretch of time around it: no more than the burst and what the pace lets through in it.

        A batch counts when it was marked as handed over: one whose node died before its call goes under its key later,
        beside what leaves then.
        """
        self.left.append((at, people, provider))
        if self.world.pace:
            _within(sorted((then, n) for then, n, _ in self.left), at, _PER_SECOND, _BURST, "its pace")
        if self.world.lane_pace:
            lane = sorted((then, n) for then, n, of in self.left if of == provider)
            _within(lane, at, _LANE_PER_SECOND, 5, f"the pace of {provider}")
        day = (at.date() - START.date()).days
        ceilings = [PER_DAY] * self.world.per_day + list(WARM_UP[day : day + 1]) * self.world.warm_up
        today = sum(n for start, n, _ in self.left if start.date() == at.date())
        assert today <= min(ceilings, default=today), f"more than the day allows: {today} on {at:%d}"

    def _paid(self, provider: Provider) -> None:
        """No more messages than the months pay for: one a person had sent again once, one that bounced hard never."""
        if self.world.money:
            months = {(at.year, at.month) for at in (START, *(one.at for one in provider.arrivals))}
            paid = len({(one.campaign, one.address) for one in provider.arrivals} - provider.bounced)
            assert paid <= self.world.money * len(months), f"over the budget of {self.world.money}: {paid}"

    # ── after each step ───────────────────────────────────────────────────────────────────────────────────────────
    def between(self, provider: Provider) -> None:
        """Nobody twice; nobody over the cap; every status came by an allowed way that is in the journal."""
        if self.wrong is not None:
            raise self.wrong
        got = Counter((one.campaign, one.address) for one in provider.arrivals)
        twice = [who for who, n in got.items() if n > 1 + self.resent[who]]
        assert not twice, f"written to twice: {twice}"
        if self.world.cap:
            both = Counter(address for _, address in got)
            over = [address for address, n in both.items() if n > self.world.cap]
            assert not over, f"over the cap of {self.world.cap}: {over}"
        self._paid(provider)
        self._journal()
        self._batches()

    def _journal(self) -> None:
        """Fold the journal over the lifecycle tables, and compare with the rows."""
        with self.db.read() as conn:
            rows = conn.execute(_JOURNAL, {"seen": self.seen}).mappings().all()
            current: dict[tuple[Any, ...], str] = {}
            for kind, asked in _STATUSES.items():
                current |= {(kind, *which): status for *which, status in conn.execute(asked)}
        for row in rows:
            self.seen = row["id"]
            kind, _, event = row["action"].partition(".")
            told = row["evidence"]
            if kind not in ("campaign", "wave", "lane") or "from" not in told or event not in lifecycle.TABLES[kind]:
                continue
            sources, target = lifecycle.TABLES[kind][event]
            assert told["from"] in sources, f"not allowed: {row['action']} from {told['from']}"
            assert told["to"] == target
            which = {"campaign": None, "wave": row["wave"], "lane": row["provider"]}[kind]
            key = (kind, row["campaign_id"], which)
            before = self.statuses.get(key)
            assert before in (None, told["from"]), f"no such journal: {key} was {before}, it says {told['from']}"
            self.statuses[key] = target
            if "ramp" in told:  # the waves after the halted one are others from here on
                cut = [key for key in self.first if key[:2] == ("wave", row["campaign_id"])]
                for key in (key for key in cut if key[2] > told["halted_wave"]):
                    self.statuses.pop(key, None)
                    self.first.pop(key)
        for key, status in current.items():
            told = self.statuses.get(key, self.first.setdefault(key, status))
            assert status == told, f"no journal: {key} is {status}, its journal says {told}"

    def _batches(self) -> None:
        """A batch's status is one it can have come to, and whom it settled are all of its people."""
        with self.db.read() as conn:
            rows = conn.execute(_BATCHES).all()
        for row in rows:
            was = self.batches.get(row.id, row.status)
            ways = _REACHABLE.get(was, set())
            assert row.status == was or row.status in ways, f"batch {row.id}: {was}, then {row.status}"
            if row.status in ("accepted", "refused") and was != row.status:
                people = row.accepted + row.refused + row.unknown + row.dropped + row.moved
                assert people == row.size, f"of {row.size} people of a batch {people} are settled: {row}"
            self.batches[row.id] = row.status

    # ── the audit ─────────────────────────────────────────────────────────────────────────────────────────────────
    def accounted(self, provider: Provider, names: Sequence[str], *, over: bool = False) -> None:
        """Everybody of each plan exactly once; who is sent got it, who is not did not."""
        for name in names:
            with Kept(self.engine) as engine:
                self._accounted(engine, provider, name, over=over)

    def _accounted(self, engine: Engine, provider: Provider, name: str, *, over: bool) -> None:
        try:
            found = audit(self.db, engine, self.lake, name)
        except NotAllowed:  # nobody has planned it
            return
        with self.db.read() as conn:
            number = conn.execute(select(_OF_CAMPAIGN.id).where(_OF_CAMPAIGN.name == name)).scalar()
            lanes = conn.execute(_STATUSES["lane"].where(_OF_LANE.campaign_id == number))
            suspended = {provider for _, provider, status in lanes if status == "suspended"}
        arrived = {one.address for one in provider.arrivals if one.campaign == number}
        came_back = {one.address for one in provider.given_back if one.campaign == number}
        back = set() if over else came_back  # nobody may have heard of it yet
        heard = {address for of, address in provider.heard if of == number}
        rows = {row[0]: row for row in found.rows()}
        assert len(rows) == found.total == self.world.people, (
            f"lost from the audit of {name}: {len(rows)} of {self.world.people}"
        )
        for contact, row in rows.items():
            who = _address(contact)
            self._fate(name, who, row, arrived, back, over=over)
            if over and name not in self.cut and row[4] not in suspended:
                assert row[2] not in _CUT, f"nobody cut it short, and it forgot them: {name}, {row}"
            if over and who in heard:
                assert row[1] != "unknown", f"events told of them, and they are unknown still: {name}, {row}"

    def _fate(self, name: str, who: str, row: Sequence[Any], arrived: set[str], back: set[str], *, over: bool) -> None:
        state, reason = row[1], row[2]
        if over:
            self.reasons[f"{state} {reason}"] += 1
        if state == "sent":
            assert who in arrived | back, f"said to be sent and never arrived: {who} ({row})"
        elif state == "not_sent":
            assert who not in arrived, f"said not to be sent and arrived: {who} ({row})"
            if over:
                assert reason not in _WAITS, f"over and still waits: {name}, {row}"

    def counted(self, provider: Provider) -> None:
        """Counters equal the truth: each person once per batch and tally, however often and late it was told."""
        want: Mapping[tuple[int, str], int] = {key: len(people) for key, people in provider.told.items() if people}
        with self.db.read() as conn:
            rows = conn.execute(select(tables.tallies).where(tables.tallies.c.tally.not_in(_AT_HAND_OVER)))
            found = {(r.batch_id, r.tally): r.n for r in rows if r.n}
        assert found == want, f"miscounted: {sorted(set(found.items()) ^ set(want.items()))}"


def _within(left: Sequence[tuple[datetime, int]], at: datetime, rate: float, burst: int, what: str) -> None:
    """No stretch of time with `at` in it saw more people than `burst` and `rate` a second."""
    for first, (start, _) in enumerate(left):
        total = 0
        for end, n in left[first:]:  # a node that slept hands over what it decided before others did
            total += n
            over = start <= at <= end and total > burst + rate * (end - start).total_seconds() + 1e-6
            assert not over, f"faster than {what}: {total} since {start:%d %H:%M:%S}"


def _address(contact: str) -> str:
    """Their address."""
    return sendable.address(int(contact.removeprefix("C")))


def fingerprint(db: Database) -> str:
    """Of the whole journal and of what became of each batch: equal for two lives of one history."""
    columns = [c for c in tables.journal.c if c.name != "id"]
    of = tables.batches.c
    with db.read() as conn:
        told = conn.execute(select(*columns).order_by(tables.journal.c.id)).all()
        ends = conn.execute(select(of.id, of.status, of.accepted, of.settled_at).order_by(of.id)).all()
    return hashlib.blake2b(repr((told, ends)).encode(), digest_size=8).hexdigest()
