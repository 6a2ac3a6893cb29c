"""Reach: whether the money comes to one person of a plan, and the figures that say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sendwave.engine.base import Engine, Session
from sendwave.engine.datasets import Lake
from sendwave.flow.release.budgeting import COUNTRY, purse
from sendwave.flow.release.measuring import Texts
from sendwave.rules import budgets
from sendwave.rules.budgets import Budgets, Reach
from sendwave.rules.lifecycle import Batch
from sendwave.store import batches, files, payloads
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database


@dataclass(frozen=True, slots=True)
class Reaching:
    """One campaign's money, asked about people of its plan."""

    db: Database
    engine: Engine
    lake: Lake
    campaign: Campaign
    texts: Texts
    now: datetime

    def of(self, money: Budgets, contact: int, rank: int) -> Reach | None:
        """None where nothing limits what the campaign may spend. Raises BadInput as `purse` does."""
        found = purse(self.db, self.engine, self.lake, self.campaign, money, now=self.now)
        if found is None or found.left is None:
            return None
        priced, told = money.channels[self.campaign.channel], self.campaign.settings
        with self.db.read() as conn:
            listed = self.lake.paths(files.live(conn, ("contacts", "sends", "returns")))
            planned = files.get(conn, self.campaign.plan_file or 0)
            standings = batches.standings(conn, self.campaign.id)
        paths = {**listed, "plan": [] if planned is None else [self.lake.path(planned)]}
        waits = [s.batch_id for s in standings if s.status in (Batch.READY, Batch.CLAIMED)]
        with self.engine.session(paths, {"waiting": pa.table({"batch": pa.array(waits, pa.int64())})}) as session:
            held = session.read(budgets.reserved_statement(self.campaign.id)).to_pylist()
            frozen = session.read(budgets.person_statement(self.campaign.id, contact)).to_pylist()
            [last] = session.read(budgets.ended_statement(self.campaign.id)).to_pylist()
            queue = [] if frozen else self._queue(session, paths, money, rank)
        kept = budgets.spent(priced, held, {self.campaign.id: told.parts})["ever"].get(self.campaign.id, 0)
        if not frozen:
            return Reach(found, kept, queue[-1] if queue else 0, sum(queue[:-1]), last["ended"], served=None)
        return Reach(
            found, kept, self._cost(frozen[0], money), 0, last["ended"], frozen[0]["excluded_by"] != budgets.OVER
        )

    def _cost(self, row: Mapping[str, Any], money: Budgets) -> int:
        parts = row["parts"] or self.campaign.settings.parts
        [cost] = budgets.costs(money.channels[self.campaign.channel], [row[COUNTRY]], parts).tolist()
        return int(cost)

    def _queue(self, session: Session, paths: Mapping[str, Any], money: Budgets, rank: int) -> list[int]:
        """What messages to everybody up to that rank cost, those apart whose wave was frozen; theirs comes last."""
        own, found = self.texts.measured(self.campaign), list[int]()
        names = {name for path in paths["contacts"] for name in pq.read_schema(path).names}
        fields = sorted(name for name in names if name.startswith(payloads.FIELD_PREFIX)) if own else []
        for batch in session.stream(budgets.planned_statement(fields, self.campaign.id, rank)):
            people = pa.Table.from_batches([batch])
            parts: NDArray[np.int64] = np.full(people.num_rows, self.campaign.settings.parts, np.int64)
            if own:
                parts = self.texts.parts(self.campaign, people)
            found += budgets.costs(money.channels[self.campaign.channel], people[COUNTRY].to_pylist(), parts).tolist()
        return found
