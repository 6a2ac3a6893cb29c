"""A workspace's parts, its imports, and a CRM to exchange with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import bases
import pytest
from import_desk import LANES, Desk

from sendwave import crm
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow import crm as flow
from sendwave.flow.intake import ImportSummary, import_files
from sendwave.store.database import Database


@dataclass
class Counter:
    """The two directions of one CRM over one house."""

    desk: Desk
    home: Path
    now: datetime

    def open(self, system: str, **settings: Any) -> Any:
        kind = crm.find(system)
        return kind(kind.Settings.model_validate({"system": system, **settings}), home=self.home)

    def land(self, kind: str, paths: Sequence[Path], mapping: Mapping[str, str]) -> ImportSummary:
        desk = self.desk
        return import_files(
            desk.db, desk.engine, desk.lake, kind, paths, lanes=LANES, mapping=mapping, now=self.now, by="zoe",
            rejects_dir=self.home / "rejects",
        )  # fmt: skip

    def pull(self, opened: Any, name: str = "main") -> flow.PullReport:
        return flow.pull(self.desk.db, opened, self.land, name=name, now=self.now, by="zoe")

    def push(self, opened: Any, name: str = "main") -> flow.PushReport:
        desk, reports = self.desk, self.home / "rejects"
        policy = bases.policy()
        return flow.push(
            desk.db, desk.engine, desk.lake, policy, opened, name=name, now=self.now, by="zoe", reports=reports
        )

    def score(self, scores: Mapping[str, float | None]) -> None:
        """Import scores in place of all earlier ones."""
        lines = [f"{contact},{value}" for contact, value in scores.items()]
        self.desk.take("scores", "\n".join(["contact_id,score", *lines]) + "\n", now=self.now)


@pytest.fixture
def counter(sqlite_database: Database, engine: DuckdbEngine, lake: Lake, tmp_path: Path, now: datetime) -> Counter:
    home = tmp_path / "home"
    home.mkdir()
    return Counter(Desk(sqlite_database, engine, lake, tmp_path, now), home, now)
