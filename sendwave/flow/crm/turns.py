"""When the daemon turns to a CRM: every so often to read it, and to write as soon as there are new scores.

Each direction of each CRM is taken in hand in the store first, so that of several daemons one does it. A fault puts it
off; the next attempt begins where the last complete one ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

from sendwave import log
from sendwave.crm.base import Crm, CrmSettings
from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import SendwaveError
from sendwave.flow.crm.exchanging import Land, pull, push
from sendwave.rules.policy import PolicySet
from sendwave.store import exchanges, files
from sendwave.store.database import Database
from sendwave.store.exchanges import Way

_LOG = log.get("crm")

IN_HAND: Final = timedelta(hours=2)
"""How long an exchange may take before another daemon takes it for dead."""
AGAIN: Final = timedelta(minutes=5)
"""Wait after a fault, unless the CRM names a longer one."""


@dataclass
class Turns:
    """All CRMs of a workspace. `opener` opens one by its name, `reports` is the folder for refused records."""

    db: Database
    engine: Engine
    lake: Lake
    opener: Callable[[str], Crm]
    reports: Path
    by: str = "daemon"
    _open: list[Crm] = field(default_factory=list)

    def take(self, policy: PolicySet, crms: Mapping[str, CrmSettings], land: Land, *, now: datetime) -> None:
        """Do what is due, one CRM after the other; a fault of one is told and holds nobody else up."""
        for name, settings in crms.items():
            if settings.pull_every is not None:
                self._guarded(name, "pull", self.pull, name, settings.pull_every, land, now=now)
            if settings.push_scores:
                self._guarded(name, "push", self.push, name, policy, now=now)

    def pull(self, name: str, every: timedelta, land: Land, *, now: datetime) -> None:
        """Bring in what is new, if its time has come. Raises what the CRM raises, and plans another attempt."""
        with self._turn(name, "pull", now, every) as opened:
            if opened is not None:
                report = pull(self.db, opened, land, name=name, now=now, by=self.by)
                if report.deliveries:
                    _LOG.info("crm_pulled", **report.document())

    def push(self, name: str, policy: PolicySet, *, now: datetime) -> None:
        """Hand over scores it does not have yet. Raises what the CRM raises, and plans another attempt."""
        with self.db.read() as connection:
            newest = files.live(connection, ["scores"])["scores"][-1:]
            known = exchanges.get(connection, name).pushed_file
        if not newest or newest[0].id == known:
            return
        with self._turn(name, "push", now, timedelta()) as opened:
            if opened is not None:
                report = push(
                    self.db, self.engine, self.lake, policy, opened,
                    name=name, now=now, by=self.by, reports=self.reports,
                )  # fmt: skip
                _LOG.info("crm_pushed", **report.document())

    def stop(self) -> None:
        """End what is under way, from another thread; a CRM may be at work for an hour."""
        for opened in [*self._open]:
            opened.close()

    def _guarded(self, name: str, way: Way, exchange: Callable[..., None], *given: Any, now: datetime) -> None:
        try:
            exchange(*given, now=now)
        except SendwaveError as fault:
            with self.db.read() as connection:
                again = exchanges.get(connection, name).due(way)
            _LOG.error("crm_failed", crm=name, way=way, reason=str(fault), again_at=str(again))

    @contextmanager
    def _turn(self, name: str, way: Way, now: datetime, every: timedelta) -> Iterator[Crm | None]:
        """The CRM opened, if it is its turn; afterwards the next one is planned."""
        if not self._mine(name, way, now):
            yield None
            return
        again = now + every
        try:
            with closing(cast("Any", self.opener(name))) as opened:
                self._open.append(opened)
                try:
                    yield opened
                finally:
                    self._open.remove(opened)
        except BaseException as fault:
            again = now + max(AGAIN, timedelta(seconds=getattr(fault, "retry_after", None) or 0))
            raise
        finally:
            with self.db.write() as connection:
                exchanges.plan_next(connection, name, way, again)

    def _mine(self, name: str, way: Way, now: datetime) -> bool:
        """Whether its time has come and no other daemon has it in hand; if so it is in ours."""
        with self.db.read() as connection:
            due = exchanges.get(connection, name).due(way)
        if due is not None and due > now:
            return False
        with self.db.write() as connection:
            return exchanges.claim(connection, name, way, now=now, until=now + IN_HAND)
