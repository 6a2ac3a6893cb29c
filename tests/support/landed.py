"""A base landed in lake and store as intake leaves it, for tests of the flows that read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import campaigns_made
import pyarrow as pa
import pyarrow.parquet as pq

from sendwave.engine.base import Written
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow.plan import PlanSummary, plan
from sendwave.rules.policy import PolicySet
from sendwave.store import campaigns, files, suppressions
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database
from sendwave.store.suppressions import Suppression


@dataclass
class Landed:
    """The places a flow needs."""

    db: Database
    engine: DuckdbEngine
    lake: Lake
    now: datetime

    def land(self, tables: Mapping[str, pa.Table]) -> None:
        """Each table becomes the file of its dataset; suppressions go to the store."""
        for dataset, rows in tables.items():
            if dataset == "suppressions":
                self.suppress(rows)
            elif rows.num_rows and dataset != "plan":
                self.land_file(dataset, rows)

    def land_file(self, dataset: str, rows: pa.Table) -> int:
        """One new file of a dataset."""
        path = self.lake.new(dataset, "test")
        pq.write_table(rows, path)
        self.lake.share(Written(path, rows.num_rows, 1))
        with self.db.write() as conn:
            if dataset not in ("sends", "returns", "history"):
                files.retire(conn, [file.id for file in files.live(conn, [dataset])[dataset]], self.now)
            return files.register(
                conn,
                dataset=dataset,
                path=self.lake.relative(path),
                rows=rows.num_rows,
                size=path.stat().st_size,
                now=self.now,
            )

    def suppress(self, rows: pa.Table, now: datetime | None = None) -> None:
        """Put addresses on the list."""
        with self.db.write() as conn:
            listed = [
                Suppression(
                    address_hash=row["address_hash"],
                    channel=row["channel"] or "email",
                    scope=row["scope"] or "all",
                    reason=row["reason"] or "manual",
                    since_at=self.now,
                )
                for row in rows.to_pylist()
            ]
            suppressions.add(conn, listed, source="test", now=now or self.now)

    def campaign(self, name: str = "spring", **fields: Any) -> Campaign:
        """A new draft."""
        with self.db.write() as conn:
            return campaigns.create(conn, campaigns_made.described(name, **fields), "email", by="ann", now=self.now)

    def read(self, name: str = "spring") -> Campaign:
        """The campaign as it stands."""
        with self.db.read() as conn:
            return campaigns.get(conn, name)

    def plan(self, policy: PolicySet, name: str = "spring", **options: Any) -> PlanSummary:
        """Plan it."""
        given = {"by": "ann", "now": self.now, **options}
        return plan(self.db, self.engine, self.lake, policy, self.read(name), **given)

    def rows(self, name: str = "spring") -> list[dict[str, Any]]:
        """The rows of its plan."""
        found = self.read(name)
        assert found.plan_file is not None
        with self.db.read() as conn:
            file = files.get(conn, found.plan_file)
        assert file is not None
        rows: list[dict[str, Any]] = pq.read_table(self.lake.root / file.path).to_pylist()
        return rows
