"""A node among the others of one store: its life, and whether it leads.

Every node hands batches over and takes webhooks; one leads: its ticks release, count, judge, score and tell. Each write
of such a tick asks first, inside its own transaction, whether the term it began in still stands, so that a leader that
slept writes nothing after its successor began. A SQLite workspace has one daemon (Workspace.only_daemon), which leads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sendwave import log
from sendwave.clock import Clock, wall
from sendwave.errors import Busy, SendwaveError
from sendwave.store import leases, nodes
from sendwave.store.database import Connection, Database
from sendwave.store.leases import Lease

_LOG: Final = log.get("cluster")

BEAT_SECONDS: Final = 2.0
"""Between two signs of life; `nodes.LIFE` outlasts several."""


@dataclass
class Node:
    """One daemon's place among the others. `beat` is called by a thread of its own between `start` and `stop`."""

    db: Database
    holder: str
    clock: Clock
    led: Database = field(init=False)  # the store, for ticks: it takes writes of the leader alone

    def __post_init__(self) -> None:
        self.alone = self.db.is_sqlite
        self.led = self.db if self.alone else self.db.fenced(self._check)
        self._life: Lease | None = None
        self._lead: Lease | None = None
        self._reached: datetime | None = None  # since when every beat reached the store
        self._joined = False
        self._term = threading.local()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeated, args=told, name=told[0], daemon=True)
            for told in (("beat", self.beat), ("watch", self.watch))
        ]

    @property
    def leads(self) -> bool:
        """Whether this node's ticks are wanted: as far as it knows, for writes are checked when they are made."""
        if self.alone or not self._joined:
            return True
        lead = self._lead
        return lead is not None and lead.until > wall()

    @contextmanager
    def term(self) -> Iterator[None]:
        """What this thread writes through `led` meanwhile belongs to the present term, and fails once that is over."""
        self._term.lead = self._lead
        try:
            yield
        finally:
            del self._term.lead

    def start(self) -> None:
        """Join: from here on this node lives, and leads when nobody else does. Raises Busy without a store."""
        if not self.alone:
            self.beat()
            for thread in self._threads:
                thread.start()

    def stop(self) -> None:
        """Leave: another node may lead at once. What this one still holds should have been given back."""
        if self.alone or not self._threads[0].is_alive():
            return
        self._stop.set()
        for thread in self._threads:
            thread.join()
        with suppress(SendwaveError), self.db.write() as conn:  # else its leases end by themselves
            for lease in (self._lead, self._life):
                if lease is not None:
                    leases.release(conn, lease, now=wall())
        self._lead = None

    def beat(self) -> None:
        """Show that this node lives; lead where nobody does, and bury who fell silent. Raises Busy without a store."""
        if self.alone:
            return
        now = wall()
        try:
            with self.db.write() as conn:
                life = nodes.beat(conn, self.holder, self._life, wall=now)
            if self._life is not None and life.epoch != self._life.epoch:
                _LOG.warning("node_was_buried", holder=self.holder, epoch=life.epoch, reason="silent for too long")
            self._life, self._joined = life, True
            self._run(now)
        except SendwaveError:
            self._reached = None
            raise
        self._reached = self._reached or now

    def _run(self, now: datetime) -> None:
        """Renew the lead or take it; then look after the dead."""
        before = self._lead
        try:
            with self.db.write() as conn:
                self._lead = leases.acquire(conn, nodes.LEADER, self.holder, now=now, life=nodes.LIFE)
                if before is None or before.epoch != self._lead.epoch:
                    nodes.succeed(conn, now=self.clock.now())
        except Busy:  # another node leads, or the store is gone: the next beat tells which
            self._lead = None
        if self._lead is not None and (before is None or before.epoch != self._lead.epoch):
            _LOG.info("leads", holder=self.holder, epoch=self._lead.epoch)
        elif before is not None and self._lead is None:
            _LOG.warning("leads_no_more", holder=self.holder, epoch=before.epoch)
        if self._lead is not None and self._reached is not None and now - self._reached >= nodes.LIFE:
            with self.db.write() as conn:
                leases.fence(conn, self._lead)
                dead = nodes.bury(conn, wall=now, now=self.clock.now())
            for holder in dead:
                _LOG.warning("node_buried", holder=holder, reason="silent for too long; its batches go back")

    def watch(self) -> None:
        """End what a node that hangs holds in the store. Not a part of `beat`, which may be what waits for it."""
        if ended := self.db.end_stuck():
            _LOG.warning("stuck_sessions_ended", sessions=ended, reason="a node was silent in the middle of a request")

    def _repeated(self, name: str, act: Callable[[], None]) -> None:
        told = False
        while not self._stop.wait(BEAT_SECONDS):
            try:
                act()
            except Exception as fault:  # noqa: BLE001  # whatever it is, the next one tries again
                if not told:
                    _LOG.error(f"{name}_failed", reason=f"{type(fault).__name__}: {fault}", retry=f"next {name}")
                told = True
            else:
                if told:
                    _LOG.info(f"{name}_recovered", holder=self.holder)
                told = False

    def _check(self, conn: Connection) -> None:
        """Raises Busy unless the term of this thread's tick still stands."""
        if not self._joined:
            return
        lead: Lease | None = getattr(self._term, "lead", self._lead)
        if lead is None:
            raise Busy("another node leads: its ticks do this")
        leases.fence(conn, lead)
