"""Give slots back: people recalled, refused, dropped or bounced hard no longer count as written to.

Who was to go again after a call nobody answered keeps theirs: the first message may have come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sendwave.engine.base import Engine, Written
from sendwave.engine.datasets import Lake
from sendwave.errors import Busy, StaleTransition
from sendwave.flow.release.bounces import give_back_bounced, news
from sendwave.flow.release.leasing import lease_people, register
from sendwave.rules.columns import SENDS, BigInteger, Integer, String, and_, column, select, table
from sendwave.store import batches, files, journal, leases, unknowns
from sendwave.store.database import Connection, Database

RETURN_WAIT: Final = timedelta(minutes=10)
"""Refused and dropped people are given back together: a file for each of them would drown the lake."""

RETURN_BATCHES: Final = 50
"""So many batches with such people are given back without waiting."""

AT_ONCE: Final = 5_000
"""Batches given back in one transaction."""

_GIVEN: Final = table("given", column("batch", BigInteger), column("position", Integer), column("reason", String))


def give_back(db: Database, engine: Engine, lake: Lake, *, now: datetime) -> int:
    """Recall what stopped campaigns and waves did not send, and give the slots of everybody not sent to back.

    Returns the slots given back. Recalled people may be released again; the refused and the dropped may not. Whoever of
    them may have an earlier message that nobody answered for is unknown again, and a person's to decide about.
    """
    with db.read() as conn:
        stopped = batches.recallable(conn, AT_ONCE)
        owed = batches.owed(conn, AT_ONCE)
        bounced = news(conn, now)
    pressing = len(owed) >= RETURN_BATCHES or any(settled_at <= now - RETURN_WAIT for _, settled_at in owed)
    ids = [*stopped, *(batch_id for batch_id, _ in owed if stopped or pressing)]
    if not ids and not bounced:
        return 0
    try:
        with lease_people(db, now) as lease:
            found = _GiveBack(db, engine, lake, now).run(stopped, ids, lease) if ids else 0
            return found + (give_back_bounced(db, engine, lake, bounced, lease, now) if bounced else 0)
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
        written = None
        if given.num_rows:
            with self.engine.session(self.lake.paths({"sends": sends}), {"given": given}) as session:
                written = session.write(statement, self.lake.new("returns", "given-back"))
        try:
            if written is not None:
                self.lake.share(written)
            with self.db.write() as conn:
                leases.fence(conn, lease)
                self._commit(conn, stopped, ids, written)
        except BaseException as fault:
            self.lake.withdraw(fault, [written])
            raise
        return 0 if written is None else written.rows

    def _commit(self, conn: Connection, stopped: Sequence[int], ids: Sequence[int], written: Written | None) -> None:
        doubtful = unknowns.take_back(conn, stopped, now=self.now)
        if batches.recall(conn, stopped, now=self.now) + len(doubtful) != len(stopped):
            raise StaleTransition("a batch that was to be recalled is on its way: look again")
        for one in doubtful:
            self._tell(conn, one)
        batches.returned(conn, ids, self.now)
        if written is not None:
            register(conn, self.lake, "returns", written, now=self.now)

    def _tell(self, conn: Connection, one: unknowns.TakenBack) -> None:
        journal.write(
            conn,
            at=self.now,
            actor="daemon",
            action="batch.undecide",
            campaign_id=one.campaign_id,
            wave=one.wave,
            provider=one.provider,
            reason="they were to go again and were stopped before: whether they have the first message is not known",
            evidence={"batch": one.id, "people": one.size},
        )
