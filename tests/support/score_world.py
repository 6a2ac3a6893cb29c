"""A workspace that scores: a base, acts landed as files of the lake, a grid, and the scores it gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
from bases import policy, table
from score_by_hand import Act, contacts, interactions, score

from sendwave.engine.base import Written
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow import score as flow
from sendwave.rules.grid import Grid
from sendwave.rules.policy import PolicySet
from sendwave.rules.tiers import Tiers
from sendwave.store import files as registry
from sendwave.store.database import Database


@dataclass
class ScoreWorld:
    """One workspace. `acts` and `people` remember what was landed, for the score by hand."""

    db: Database
    engine: DuckdbEngine
    lake: Lake
    grid: Grid
    now: datetime
    people: dict[int, int | None] = field(default_factory=dict)
    acts: list[Act] = field(default_factory=list)
    cut: Tiers | None = None  # other tiers than those of the tests' policy

    @property
    def policy(self) -> PolicySet:
        """The tests' policy with this grid."""
        others = {} if self.cut is None else {"tiers": self.cut}
        return policy().model_copy(update={"score": self.grid, **others})

    def land(self, dataset: str, rows: Any, **details: Any) -> int:
        """A table as a registered file of the lake."""
        path = self.lake.new(dataset, dataset)
        pq.write_table(rows, path)
        self.lake.share(Written(path, len(rows), 1))
        with self.db.write() as connection:
            return registry.register(
                connection, dataset=dataset, path=self.lake.relative(path), rows=len(rows), size=path.stat().st_size,
                details=details, now=self.now,
            )  # fmt: skip

    def know(self, people: Mapping[int, int | None]) -> None:
        """A new snapshot of contacts, with their sign-up instants, in place of the former one."""
        self.people |= people
        with self.db.write() as connection:
            former = registry.live(connection, ["contacts"])["contacts"]
            registry.retire(connection, [file.id for file in former], self.now)
        self.land("contacts", contacts(self.people))

    def hear(self, *acts: Act) -> None:
        """One file of interactions."""
        self.acts += acts
        self.land("interactions", interactions(acts), **{"from": ["made.csv"]})

    def place_scores(self, given: Mapping[int, float], **details: Any) -> None:
        """Scores that came from elsewhere, as an import leaves them."""
        rows = table("scores", [{"contact": who, "score": float(score)} for who, score in given.items()])
        self.land("scores", rows, **{"from": ["scores.csv"]}, **details)

    def score(self, at: datetime | None = None, **options: Any) -> flow.Summary:
        """Run the stage at an instant, which becomes now."""
        self.now = at or self.now
        return flow.score(self.db, self.engine, self.lake, self.policy, now=self.now, by="zoe", **options)

    def due(self, at: str, **options: Any) -> flow.Summary | None:
        """What the daemon does at an instant (ISO, UTC unless it says otherwise)."""
        told = datetime.fromisoformat(at)
        self.now = (told if told.tzinfo else told.replace(tzinfo=UTC)).astimezone(UTC)
        return flow.run_due(self.db, self.engine, self.lake, self.policy, now=self.now, **options)

    def rows(self, dataset: str) -> list[dict[str, Any]]:
        """What the dataset's live files hold."""
        with self.db.read() as connection:
            listed = registry.live(connection, [dataset])
        return [row for path in self.lake.paths(listed)[dataset] for row in pq.ParquetFile(path).read().to_pylist()]

    @property
    def scores(self) -> dict[int, float]:
        """Scores in place."""
        return {row["contact"]: row["score"] for row in self.rows("scores")}

    def by_hand(self, as_of: datetime | None = None) -> dict[int, int]:
        """The same, worked out act by act."""
        instant = int((as_of or self.now).timestamp())
        return {who: score(self.grid, self.acts, who, since, instant) for who, since in self.people.items()}


def acts(rows: Iterable[tuple[int, str, datetime]], **same: Any) -> list[Act]:
    """(contact, kind, instant) as acts."""
    return [Act(contact, kind, int(when.timestamp()), **same) for contact, kind, when in rows]
