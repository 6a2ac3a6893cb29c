"""Campaigns that were sent, with what people did, made straight in store and lake: the truth is known, size is free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import campaigns_made
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sqlalchemy import Connection, insert, select, update

from sendwave.engine.base import Written
from sendwave.engine.datasets import Lake
from sendwave.rules.columns import DATASETS, Boolean, Double, Integer, String
from sendwave.rules.policy import PolicySet
from sendwave.store import campaigns, files, freezes, tables
from sendwave.store import policies as kept
from sendwave.store.campaigns import Campaign, WaveRow
from sendwave.store.database import Database

POLICY: Mapping[str, Any] = {
    "tiers": {
        "tiers": [
            {"key": "burning", "label": "Burning", "min_score": 80},
            {"key": "hot", "label": "Hot", "min_score": 60},
            {"key": "warm", "label": "Warm", "min_score": 40},
            {"key": "cool", "label": "Cool", "min_score": 20},
            {"key": "cold", "label": "Cold"},
        ]
    },
    "types": {
        "newsletter": {
            "type": "newsletter",
            "tiers": {
                "burning": {"share": "100%"},
                "hot": {"share": "100%"},
                "warm": {"share": "50%"},
                "cool": {"share": "10%"},
            },
            "control": "10%",
            "waves": {"ramp": ["20%", "80%"]},
        },
        "text": {"type": "text", "channel": "sms", "tiers": {"hot": {"share": "100%"}}, "waves": {"ramp": ["100%"]}},
    },
    "gates": {"default": {"signals": {"hard_bounce": {"hold": "1%", "halt": "2%"}}}},
    "lanes": {"providers": {"gmail": {"label": "Gmail", "domains": ["gmail.com"]}, "other": {"label": "Other"}}},
    "report": {"margin": "40%", "costs": {"email": "0.01 EUR", "unsubscribe": "2 EUR", "complaint": "10 EUR"}},
}


@dataclass(frozen=True)
class Slice:
    """One tier: its people, and what share of them does what."""

    tier: str
    people: int
    score: float
    share: float = 1.0
    buys: float = 0.01  # without a message
    lift: float = 0.0  # more of them, with one
    basket: float = 50.0  # median
    spread: float = 0.8  # sigma of its logarithm
    opens: float = 0.2
    unsubscribes: float = 0.002
    complains: float = 0.0005
    bounces: float = 0.004


SLICES = (
    Slice("burning", 6_000, 90, 1.0, 0.05, 0.02, opens=0.55, unsubscribes=0.0005),
    Slice("hot", 12_000, 70, 1.0, 0.03, 0.012, opens=0.4, unsubscribes=0.001),
    Slice("warm", 20_000, 50, 0.5, 0.015, 0.006, opens=0.25),
    Slice("cool", 30_000, 30, 0.1, 0.008, 0.0, opens=0.1, unsubscribes=0.004, complains=0.001, bounces=0.01),
    Slice("cold", 30_000, 10, 0.0, 0.004, opens=0.03),
)


@dataclass
class World:
    """A store and a lake to make campaigns in."""

    db: Database
    lake: Lake
    now: datetime
    seed: int = 1
    policy: PolicySet = field(default_factory=lambda: PolicySet.model_validate(POLICY))

    def campaign(self, name: str = "spring", slices: Sequence[Slice] = SLICES, **told: Any) -> Campaign:
        """A campaign sent ten days ago in one wave per tier, and its sales; `control` is the share that got nothing."""
        made = _Made(self, name, slices, np.random.default_rng(self.seed), **told)
        return made.run()

    def file(self, dataset: str, rows: pa.Table, part: str = "") -> int:
        """A registered file of the lake."""
        path = self.lake.new(dataset, "made")
        pq.write_table(rows, path)
        self.lake.share(Written(path, rows.num_rows, 1))
        with self.db.write() as conn:
            return files.register(
                conn,
                dataset=dataset,
                path=self.lake.relative(path),
                rows=rows.num_rows,
                size=1,
                now=self.now,
                part=part,
            )

    def interactions(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Acts by hand: contact, kind, ts and whatever else is known."""
        numbered = [
            {"interaction_id": f"by-hand-{n}-{row['contact']}-{row['ts']}", **row} for n, row in enumerate(rows)
        ]
        self.file("interactions", table("interactions", numbered))


def table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of a dataset; what a row leaves out is NULL."""
    return pa.table({c.name: pa.array([row.get(c.name) for row in rows], _arrow(c.type)) for c in DATASETS[name].c})


def columns(name: str, size: int, **given: Any) -> pa.Table:
    """Columns of a dataset; those not given are NULL. Further ones follow."""
    own = {c.name: _column(given.get(c.name), size, _arrow(c.type)) for c in DATASETS[name].c}
    return pa.table(own | {key: pa.array(values) for key, values in given.items() if key not in own})


def _column(values: Any, size: int, kind: pa.DataType) -> pa.Array:
    if values is None:
        return pa.nulls(size, kind)
    return pa.array(values, kind) if isinstance(values, np.ndarray | list) else pa.repeat(pa.scalar(values, kind), size)


def _arrow(kind: Any) -> pa.DataType:
    if isinstance(kind, Boolean):
        return pa.bool_()
    if isinstance(kind, String):
        return pa.string()
    if isinstance(kind, Double):
        return pa.float64()
    return pa.int32() if type(kind) is Integer else pa.int64()


BATCH = 1_000


@dataclass
class _Made:
    world: World
    name: str
    slices: Sequence[Slice]
    draw: np.random.Generator
    control: float = 0.1
    type: str = "newsletter"
    days_ago: int = 10
    sent_waves: int = 99  # the last ones were never sent
    events: bool = False  # whether the lake has an event per reaction, too

    def run(self) -> Campaign:
        tiers = np.repeat(np.arange(len(self.slices)), [one.people for one in self.slices])
        size = len(tiers)
        contact = np.arange(1, size + 1)
        self.provider = np.array(["gmail", "orange", "other"])[self.draw.integers(0, 3, size)]
        share = np.array([one.share for one in self.slices])[tiers]
        control = (self.draw.random(size) < self.control) & (share > 0)
        outside = (self.draw.random(size) >= share) & ~control & (share > 0)
        planned = ~control & ~outside & (share > 0)
        score = np.array([one.score for one in self.slices])[tiers] + self.draw.random(size) * 10
        self.sent_at = self.world.now - timedelta(days=self.days_ago)
        if self.world.seed == 1 and not self._has_contacts():
            self._contacts(contact)
        plan = self._plan(contact, tiers, score, control=control, outside=outside, planned=planned)
        with self.world.db.write() as conn:
            made = self._store(conn, plan, tiers, planned)
        sent = planned & (tiers < self.sent_waves)
        self._messages(made, contact[sent], tiers[sent], self.provider[sent])
        self._sales(contact, tiers, sent)
        with self.world.db.read() as conn:
            return campaigns.by_id(conn, made.id)

    def _has_contacts(self) -> bool:
        with self.world.db.read() as conn:
            return bool(files.live(conn, ["contacts"])["contacts"])

    def _contacts(self, contact: NDArray[Any]) -> None:
        size = len(contact)
        given = {
            "contact": contact,
            "contact_id": np.char.add("C-", contact.astype(str)).tolist(),
            "provider": self.provider.tolist(),
            "language": np.array(["fr", "fr", "en"])[self.draw.integers(0, 3, size)].tolist(),
            "seed": False,
            "attr_city": np.array(["Paris", "Lyon", "Lille", "Nantes"])[self.draw.integers(0, 4, size)].tolist(),
        }
        self.world.file("contacts", columns("contacts", size, **given))

    def _plan(self, contact: Any, tiers: Any, score: Any, *, control: Any, outside: Any, planned: Any) -> int:
        size = len(contact)
        excluded = np.full(size, None, dtype=object)
        excluded[control], excluded[outside] = "control_group", "not_in_share"
        excluded[~control & ~outside & ~planned] = "tier_not_contacted"
        wave = np.where(planned, tiers + 1, 0)
        given = {
            "contact": contact,
            "contact_id": np.char.add("C-", contact.astype(str)).tolist(),
            "tier": np.array([one.tier for one in self.slices])[tiers].tolist(),
            "tier_rank": (tiers + 1).astype(np.int32),
            "score": score,
            "provider": self.provider.tolist(),
            "excluded_by": excluded.tolist(),
            "wave": [int(number) or None for number in wave.tolist()],
        }
        return self.world.file("plan", columns("plan", size, **given))

    def _store(self, conn: Connection, plan: int, tiers: Any, planned: Any) -> Campaign:
        world = self.world
        version = kept.remember(conn, world.policy, world.now)
        path = conn.execute(select(tables.files.c.path).where(tables.files.c.id == plan)).scalar_one()
        conn.execute(tables.files.delete().where(tables.files.c.id == plan))
        made = campaigns_made.sending(
            conn, self.sent_at, name=self.name, waves=(1,), policy_version=version, plan_path=path, type=self.type
        )
        conn.execute(tables.waves.delete().where(tables.waves.c.campaign_id == made.id))
        for number, one in enumerate(self.slices, 1):
            mine = planned & (tiers == number - 1)
            names, counts = np.unique(self.provider[mine], return_counts=True)
            split = dict(zip(names.tolist(), counts.tolist(), strict=True))
            row = WaveRow(number, "waiting", int(mine.sum()), {one.tier: int(mine.sum())}, split)
            told = {name: getattr(row, name) for name in ("number", "status", "planned", "tiers", "providers")}
            conn.execute(insert(tables.waves).values(campaign_id=made.id, **told))
        conn.execute(update(tables.campaigns).where(tables.campaigns.c.id == made.id).values(planned_at=self.sent_at))
        return made

    def _messages(self, made: Campaign, contact: Any, tiers: Any, provider: Any) -> None:
        order = np.lexsort((contact, provider, tiers))
        contact, tiers, provider = contact[order], tiers[order], provider[order]
        cell = np.char.add(tiers.astype(str), provider)
        fresh = np.concatenate(([True], cell[1:] != cell[:-1]))
        start = np.flatnonzero(fresh)
        inside = np.arange(len(contact)) - np.repeat(start, np.diff(np.append(start, len(contact))))
        fresh |= inside % BATCH == 0
        batch, position = np.cumsum(fresh) - 1, inside % BATCH
        with self.world.db.write() as conn:
            freeze, first = freezes.reserve(conn, freeze_ids=1, batch_ids=int(fresh.sum()))
        sends = columns(
            "sends", len(contact), contact=contact, campaign=made.id, type=made.type, channel=made.channel,
            sent_ts=int(self.sent_at.timestamp()), freeze=freeze, batch=batch + first, position=position,
            wave=tiers + 1, provider=provider.tolist(),
            tier=np.array([one.tier for one in self.slices])[tiers].tolist(),
        )  # fmt: skip
        file = self.world.file("sends", sends, str(made.id))
        with self.world.db.write() as conn:
            told = {"campaign_id": made.id, "wave": 1, "file_id": file, "contacts": len(contact), "dropped": {}}
            freezes.add(conn, freeze, **told, now=self.sent_at)  # type: ignore[arg-type]
            self._batches(conn, made, freeze, batch=first + batch, tiers=tiers, provider=provider)
            self._tallies(conn, first + batch, tiers)

    def _batches(self, conn: Connection, made: Campaign, freeze: int, *, batch: Any, tiers: Any, provider: Any) -> None:
        ids, starts, sizes = np.unique(batch, return_index=True, return_counts=True)
        rows = [
            {
                "id": int(number), "campaign_id": made.id, "wave": int(tiers[at]) + 1, "freeze_id": freeze,
                "provider": str(provider[at]), "route": "main", "zone": "", "position": 0, "size": int(size),
                "status": "accepted", "accepted": int(size), "handed_at": self.sent_at, "settled_at": self.sent_at,
            }
            for number, at, size in zip(ids, starts, sizes, strict=True)
        ]  # fmt: skip
        conn.execute(insert(tables.batches), rows)

    def _tallies(self, conn: Connection, batch: Any, tiers: Any) -> None:
        ids, starts, sizes = np.unique(batch, return_index=True, return_counts=True)
        rates = {"open": "opens", "unsubscribe": "unsubscribes", "complaint": "complains", "hard_bounce": "bounces"}
        hits = {
            tally: self.draw.random(len(tiers)) < np.array([getattr(one, name) for one in self.slices])[tiers]
            for tally, name in rates.items()
        }
        hits["delivered"] = ~hits["hard_bounce"]
        for tally in ("open", "unsubscribe", "complaint"):
            hits[tally] &= hits["delivered"]
        hits["machine_open"] = hits["delivered"] & (self.draw.random(len(tiers)) < 0.3)
        hits["click"] = hits["open"] & (self.draw.random(len(tiers)) < 0.15)
        self.hits = hits
        rows = []
        for tally, hit in hits.items():
            for number, at, size in zip(ids.tolist(), starts.tolist(), sizes.tolist(), strict=True):
                part = hit[at : at + size]
                if n := int(part.sum()):
                    bits = np.packbits(part, bitorder="little").tobytes()
                    rows.append({"batch_id": number, "tally": tally, "bits": bits, "n": n})
        conn.execute(insert(tables.tallies), rows)

    def _sales(self, contact: Any, tiers: Any, sent: Any) -> None:
        rate = (
            np.array([one.buys for one in self.slices])[tiers] + sent * np.array([s.lift for s in self.slices])[tiers]
        )
        buys = self.draw.random(len(contact)) < rate
        who, of = contact[buys], tiers[buys]
        median, sigma = (np.array([getattr(s, n) for s in self.slices])[of] for n in ("basket", "spread"))
        amount = np.round(median * np.exp(sigma * self.draw.standard_normal(len(who))), 2)
        at = int(self.sent_at.timestamp()) + self.draw.integers(1, 7 * 86_400, len(who))
        ids = np.char.add(f"{self.name}-sale-", who.astype(str)).tolist()
        given = {"contact": who, "interaction_id": ids, "kind": "purchase", "ts": at, "value": amount}
        self.world.file("interactions", columns("interactions", len(who), **given))


def opened_before(world: World, contacts: Sequence[int], days: int) -> None:
    """Opens that many days ago: what a habit looks at."""
    at = int((world.now - timedelta(days=days)).timestamp())
    world.interactions([{"contact": one, "kind": "email_open", "ts": at, "machine": False} for one in contacts])
