"""What every world stands on: a contact base, policies, planned campaigns, in a template copied for each history."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sendable
from sqlalchemy import update

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow.plan import plan
from sendwave.rules.budgets import Budgets
from sendwave.rules.policy import PolicySet
from sendwave.store import campaigns, policies, tables
from sendwave.store.database import Database
from simulation.history import World
from simulation.quick import QuickEngine
from simulation.trouble import shared

START: Final = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
NAMES: Final = ("spring", "summer", "autumn", "winter", "sale", "news")
ZONES: Final = ("Europe/Paris", "America/Montreal", None)


PACE: Final = {"pace": "20 per 1m", "burst": 5}
LANE_PACE: Final = {"pace": "6 per 1m"}
PER_DAY: Final = 30
WARM_UP: Final = (8, 16)


def policy_of(world: World, edition: int = 0) -> PolicySet:
    """The policies of a world. A later edition allows everything: no campaign approved under this one may notice."""
    if edition:
        found = sendable.policy_set(waves={"soak": "1m"})
        label = found.types["newsletter"].model_copy(update={"label": f"Edition {edition}"})
        return found.model_copy(update={"types": {"newsletter": label}})
    waves: dict[str, Any] = {"soak": "1h", "soak_max": "12h"}
    if world.window:
        waves["window"] = "08:00-20:00 local"
    route = (PACE if world.pace else {}) | ({"per_day": PER_DAY} if world.per_day else {})
    found = sendable.policy_set(
        caps=[{"max": f"{world.cap} per 30d", "counts": "all"}] if world.cap else [],
        ramp=world.ramp,
        waves=waves,
        settle_unknown="2h",
        routes={"main": route | ({"warm_up": WARM_UP} if world.warm_up else {})},
        providers=dict.fromkeys(sendable.PROVIDERS, LANE_PACE) if world.lane_pace else {},
    )
    if not world.money:
        return found
    price = {"email": {"price": "1 EUR", "per_month": f"{world.money} EUR"}}
    return found.model_copy(update={"budgets": Budgets.model_validate({"channels": price})})


class Ground:
    """Templates by world, made once: a store with its people and, unless the world plans itself, approved campaigns."""

    def __init__(self, folder: Path, template: Path) -> None:
        """`template` is a migrated, empty SQLite file; `folder` takes the templates and the histories."""
        self.folder, self._template = folder, template
        self.engine = QuickEngine(threads=1, memory_limit="500MB")
        self.engine._shared.execute("SET GLOBAL parquet_metadata_cache = true")
        self._made: dict[object, Path] = {}
        self._lives = 0

    def copy(self, world: World) -> Path:
        """A folder with `s.db` and `lake`, for one history alone."""
        key = (world.people, world.campaigns, world.ramp, world.cap, world.planned_here)  # what a plan depends on
        if key not in self._made:
            self._made[key] = self._make(world, self.folder / f"template-{len(self._made)}")
        self._lives += 1
        home = self.folder / f"life-{self._lives}"
        shutil.copytree(self._made[key], home)
        if not world.planned_here:
            db = shared(Database(f"sqlite:///{home / 's.db'}"))
            with db.write() as conn:  # as if they had been planned and approved under the policies of this very world
                version = policies.remember(conn, policy_of(world), START)
                conn.execute(update(tables.campaigns).values(policy_version=version))
            db.close()
        return home

    def _make(self, world: World, home: Path) -> Path:
        (home / "lake").mkdir(parents=True)
        shutil.copyfile(self._template, home / "s.db")
        db, lake = shared(Database(f"sqlite:///{home / 's.db'}")), Lake(home / "lake")
        sendable.write_base(db, lake, world.people, START - timedelta(days=1), ZONES)
        policy = policy_of(world)
        with db.write() as conn:
            policies.remember(conn, policy, START)
        names = NAMES[: world.campaigns]
        for name in names:
            create(db, name)
        if not world.planned_here:  # all of them planned before any is approved: at release they compete
            for approving in (False, True):
                for name in names:
                    make_plan(db, self.engine, lake, world, name=name, now=START, approving=approving)
        with db.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
        return home


def create(db: Database, name: str) -> None:
    """A campaign nobody has planned yet."""
    told = {"type": "newsletter", "route": "main", "sender": "news@lune.example", "subject": "Hello {{ first_name }}"}
    with db.write() as conn:
        campaigns.create(
            conn, sendable.CampaignFile.model_validate({**told, "name": name}), "email", by="ann", now=START
        )


def make_plan(
    db: Database, engine: DuckdbEngine, lake: Lake, world: World, *, name: str, now: datetime, approving: bool = True
) -> None:
    """Plan and approve, as two people would one after the other; what is done stays done."""
    policy = policy_of(world)
    with db.read() as conn:
        campaign = campaigns.get(conn, name)
    if campaign.status == "draft":
        plan(db, engine, lake, policy, campaign, by="ann", now=now)
    with db.write() as conn:
        found = campaigns.get(conn, name)
        if found.status == "planned" and approving:
            campaigns.transition(conn, found.id, "approve", by="eve", now=now, approved_at=now, approved_by="eve")


def template(folder: Path) -> Path:
    """An empty store of this version's schema, in that folder."""
    path = folder / "empty.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path
