"""What can still be done about a batch that left: ask once more under its idempotency key, or call it back.

An ESP with idempotency keys answers a repeated call as it answered the first, or takes it now if the first never
came: the one case in which a batch nobody answered for may go again. One that takes mail to send it later gives it
back until then, which a halt, a cancelled campaign or a suspended lane asks for. Their wave then waits once more for
its release, unless it is stopped: what is released again in a suspended lane leaves when the lane reopens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sendwave.errors import HandOverError, Transient
from sendwave.esp.adapter_pool import Lending
from sendwave.esp.base import EspAdapter, Recall, RecallingAdapter
from sendwave.store import campaigns, handed, journal
from sendwave.store.database import Connection, Database
from sendwave.store.handed import Waiting

ASK_FOR: Final = timedelta(minutes=15)
"""For so long after hand-over an open batch is asked about, if its key lives that long: a wave waits for it."""

ASK_EVERY: Final = timedelta(seconds=30)
"""Between two questions about the same batch."""

RETRY: Final = timedelta(seconds=30)
"""Between two attempts to call batches back from an ESP that did not answer the last one."""

AT_ONCE: Final = 100
"""Batches called back in one go."""

ASKING: Final = timedelta(minutes=2)
"""For so long a call-back is a node's own: then its answer will not be recorded any more, and it is asked for again."""

_NOT_KNOWN: Final = "it was called back, and whether it came is not known"


def lives(adapters: Mapping[str, EspAdapter]) -> dict[str, timedelta]:
    """For how long after hand-over a batch of each route may be asked about; routes without keys are left out."""
    known = {route: adapter.capabilities.idempotency for route, adapter in adapters.items()}
    return {route: min(life, ASK_FOR) for route, life in known.items() if life is not None}


@dataclass(slots=True)
class CallBack:
    """Takes back what was accepted to be sent later, once its campaign, wave or lane is stopped."""

    db: Database
    routes: Mapping[str, Lending]
    holder: str
    _again: dict[str, datetime] = field(default_factory=dict)  # by route, after one that did not answer

    def run(self, now: datetime) -> int:
        """Ask for everything that is to come back now; returns the batches of which nobody is written to."""
        self._give_up(now)
        asked = [route for route in self._able() if self._again.get(route, now) <= now]
        if not asked:
            return 0
        with self.db.read() as conn:
            waiting = handed.to_call_back(conn, asked, now, AT_ONCE)
        return sum(self._ask(route, [one for one in waiting if one.route == route], now) for route in asked)

    def _able(self) -> list[str]:
        return [route for route, lent in self.routes.items() if lent.adapter.capabilities.recall is not Recall.NONE]

    def _ask(self, route: str, waiting: Sequence[Waiting], now: datetime) -> int:
        waiting = self._begin(waiting, now)
        if not waiting:
            return 0
        adapter: RecallingAdapter = self.routes[route].adapter  # type: ignore[assignment]  # its capabilities say so
        try:
            surely = adapter.recall([one.ref for one in waiting], now)
        except HandOverError as fault:
            self._again[route] = now + RETRY
            self._tell_failure(waiting, fault, now)
            return 0
        back, told = 0, list[int]()
        with self.db.write() as conn:
            for one, sure in zip(waiting, surely, strict=True):
                if sure:
                    back += self._is_back(conn, one, now)
                elif one.begun:  # what it said the first time is not known, and may have been yes
                    self._doubt(conn, one, now, _NOT_KNOWN)
                else:
                    self._tell(conn, one, "batch.call_back", now, evidence={"surely": False})
                    told.append(one.id)
            handed.asked(conn, told)
        return back

    def _begin(self, waiting: Sequence[Waiting], now: datetime) -> Sequence[Waiting]:
        """Those of them another node did not begin to ask for."""
        if not waiting:
            return ()
        with self.db.write() as conn:
            ours = handed.begin(conn, [one.id for one in waiting], now=now, until=now + ASKING)
        return [one for one in waiting if one.id in ours]

    def _is_back(self, conn: Connection, one: Waiting, now: datetime) -> bool:
        if one.doubted:  # what came back is the second message
            self._doubt(conn, one, now, "it came back, and an earlier call of its people was never answered")
            return False
        if not handed.call_back(conn, one.id, now=now):
            return False
        self._tell(conn, one, "batch.call_back", now, evidence={"surely": True})
        campaigns.wait_again(conn, one.campaign_id, one.wave, by=self.holder, now=now)
        return True

    def _give_up(self, now: datetime) -> None:
        """Of a call-back that died before its answer was recorded, once it is too late to ask again."""
        if not self._able():
            return
        with self.db.read() as conn:
            found = handed.doubtful(conn, now)
        if found:
            with self.db.write() as conn:
                for one in found:
                    self._doubt(conn, one, now, _NOT_KNOWN)

    def _doubt(self, conn: Connection, one: Waiting, now: datetime, why: str) -> None:
        if handed.doubt(conn, one.id):
            self._tell(conn, one, "batch.doubt", now, reason=why)

    def _tell_failure(self, waiting: Sequence[Waiting], fault: HandOverError, now: datetime) -> None:
        with self.db.write() as conn:
            if isinstance(fault, Transient):  # the ESP was not reached
                handed.not_asked(conn, [one.id for one in waiting if not one.begun])
            told = {"batches": len(waiting)}
            self._tell(conn, waiting[0], "batch.call_back_failed", now, reason=str(fault), evidence=told)

    def _tell(
        self, conn: Connection, one: Waiting, action: str, now: datetime, *, reason: str = "", evidence: Any = None
    ) -> None:
        journal.write(
            conn,
            at=now,
            actor=self.holder,
            action=action,
            campaign_id=one.campaign_id,
            wave=one.wave,
            provider=one.provider,
            reason=reason,
            evidence={"batch": one.id, "route": one.route, **(evidence or {})},
        )
