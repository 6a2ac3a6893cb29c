"""The daemon: ticks over the store. Every stage reads what is due from the database, so a restart forgets nothing.

`Daemon.step(now)` is one round of all stages in the order of the story; the demo and the simulations call it on virtual
time. `Daemon.run` has APScheduler call the same stages at their own pace on the wall clock, until told to stop.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import FrameType
from typing import Any, Final

from apscheduler.schedulers.background import BackgroundScheduler

from sendwave import log
from sendwave.clock import Clock, SystemClock
from sendwave.errors import BadInput, Busy, FullDisk, SendwaveError
from sendwave.flow import alerts, dispatch, feedback, judge, release
from sendwave.rules.lifecycle import FINAL, Campaign, Wave
from sendwave.rules.policy import PolicySet
from sendwave.store import batches, campaigns, holds, inbox
from sendwave.store import policies as pinned
from sendwave.workspace import Workspace

_LOG = log.get("daemon")

PERIODS: Final = {"dispatch": 0.2, "feedback": 0.5, "judge": 1.0, "release": 1.0, "policies": 5.0, "alerts": 20.0}
"""Seconds between two ticks of a stage; a tick that has nothing to do costs one indexed query."""

IDLE_ROUNDS: Final = 15
"""Looks, 0.2 s apart, that must all find nothing to do before `--until idle` believes it."""

BUSY_STATUSES: Final = (Campaign.APPROVED, Campaign.SENDING)


@dataclass
class Daemon:
    """All stages of one node over one workspace."""

    workspace: Workspace
    clock: Clock = field(default_factory=SystemClock)
    threads: int = 0  # threads handing batches over; 0 keeps everything on the caller's

    def __post_init__(self) -> None:
        self.holder = f"{socket.gethostname()}:{os.getpid()}"
        self._stop = threading.Event()
        self._policy_stamp: object = None
        self._policy: PolicySet | None = None  # the newest good one; campaigns keep their pinned version
        self.dispatcher = dispatch.Dispatcher(
            self.workspace.db,
            self.workspace.engine,
            self.workspace.lake,
            self.workspace.adapters,
            self.workspace.token_key,
            self.holder,
            threads=self.threads,
            factory=self.workspace.adapter,
            time_zone=self.workspace.settings.time_zone,
        )

    # ── the stages ────────────────────────────────────────────────────────────────────────────────────────────────
    def feedback(self, now: datetime) -> int:
        """Fetch, store, normalise, count. Returns the number of events taken in."""
        house = self.workspace
        feedback.collect(house.db, house.adapters, now)
        taken = 0
        while (
            done := feedback.digest(house.db, house.engine, house.lake, house.adapters, house.token_key, now=now)
        ).reports:
            taken += done.events
        return taken

    def judge(self, now: datetime) -> None:
        """Turn counts into verdicts and act on them."""
        judge.judge(self.workspace.db, now=now, reports_delivery=self._reports_delivery)

    def release(self, now: datetime) -> None:
        """Open the waves that may open, give back the slots nobody will use."""
        house = self.workspace
        release.release(house.db, house.engine, house.lake, now=now, batch_sizes=self._batch_sizes)
        release.give_back(house.db, house.engine, house.lake, now=now)

    def dispatch(self, now: datetime) -> int:
        """Hand over what may go now. Returns the recipients handed over."""
        return self.dispatcher.step(now).handed

    def policies(self, now: datetime) -> None:
        """Notice changed policy files; a bad edit keeps the old set. Running campaigns keep their pinned version."""
        stamp = self.workspace.policy_stamp()
        if stamp == self._policy_stamp:
            return
        self._policy_stamp = stamp
        try:
            policy = self.workspace.read_policy()
        except BadInput as wrong:
            _LOG.error("policy_reload_refused", reason=str(wrong), findings=list(wrong.findings))
            return
        self._policy = policy
        with self.workspace.db.write() as connection:
            pinned.remember(connection, policy, now)
        _LOG.info("policy_loaded", version=policy.version)

    def alerts(self, now: datetime) -> None:
        """Say what new scores give to say, deliver what waits. Without new scores this costs three indexed queries."""
        house = self.workspace
        alerts.raise_alerts(house.db, house.engine, house.lake, self._policy or house.policy, now=now)
        alerts.deliver(house.db, house.channels, now=now, sleep=self.clock.sleep)

    @property
    def _batch_sizes(self) -> dict[str, int]:
        return {route: adapter.capabilities.batch_size for route, adapter in self.workspace.adapters.items()}

    @property
    def _reports_delivery(self) -> dict[str, bool]:
        return {route: adapter.capabilities.reports_delivery for route, adapter in self.workspace.adapters.items()}

    # ── virtual time ──────────────────────────────────────────────────────────────────────────────────────────────
    def step(self, now: datetime) -> int:
        """One round of every stage at one instant. Returns the recipients handed over."""
        self.feedback(now)
        self.judge(now)
        self.release(now)
        return self.dispatch(now)

    # ── wall clock ────────────────────────────────────────────────────────────────────────────────────────────────
    def start_up(self, now: datetime) -> None:
        """Put right what a crash left: claimed batches go back, handed ones without an answer are unknown."""
        found = dispatch.reconcile(self.workspace.db, self.holder, now=now)
        _LOG.info("started", holder=self.holder, reconciled=found)

    def run(self, *, until_idle: bool = False, until: datetime | None = None) -> None:
        """Tick until SIGTERM or SIGINT, until `until`, or until nothing is left to do without a person.

        A batch in hand is finished before this returns. Raises Busy when another daemon owns the workspace.
        """
        with self.workspace.only_daemon(self.clock.now()):
            self.start_up(self.clock.now())
            with _signals(self._stop):
                scheduler = self._scheduler()
                scheduler.start()
                try:
                    self._wait(until_idle=until_idle, until=until)
                finally:
                    scheduler.shutdown(wait=True)
                    self.dispatcher.close()
                    _LOG.info("stopped", holder=self.holder)

    def _scheduler(self) -> Any:
        scheduler = BackgroundScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        for name, seconds in PERIODS.items():
            scheduler.add_job(self._guarded(name), "interval", seconds=seconds, id=name)
        return scheduler

    def _guarded(self, name: str) -> Callable[[], None]:
        """A tick that survives the faults an operator can mend: it says so and tries again at the next one."""
        stage: Callable[[datetime], object] = getattr(self, name)

        def tick() -> None:
            try:
                stage(self.clock.now())
            except (FullDisk, Busy) as fault:
                _LOG.error("tick_failed", stage=name, reason=str(fault), retry="next tick")
            except SendwaveError as fault:
                _LOG.error("tick_refused", stage=name, reason=str(fault))
            except Exception:
                _LOG.exception("tick_crashed", stage=name)
                raise

        return tick

    def _wait(self, *, until_idle: bool, until: datetime | None) -> None:
        quiet = 0
        while not self._stop.wait(0.2):
            now = self.clock.now()
            if until is not None and now >= until:
                return
            quiet = quiet + 1 if until_idle and self.idle(now) else 0
            if quiet >= IDLE_ROUNDS:  # every stage had its tick meanwhile and found nothing new
                return

    def stop(self) -> None:
        """Ask `run` to end after the ticks in hand."""
        self._stop.set()

    # ── what is left ──────────────────────────────────────────────────────────────────────────────────────────────
    def idle(self, now: datetime) -> bool:
        """Whether nothing is left to do before a person decides something or a start time comes."""
        with self.workspace.db.read() as connection:
            if inbox.backlog(connection)[0]:
                return False
            return not any(
                self._works(connection, campaign, now)
                for campaign in campaigns.listing(connection, statuses=BUSY_STATUSES)
            )

    def _works(self, connection: Any, campaign: campaigns.Campaign, now: datetime) -> bool:
        if campaign.status in FINAL:
            return False
        if campaign.start_at is not None and campaign.start_at > now + timedelta(seconds=1):
            return False
        stopped = [hold for hold in holds.open_holds(connection, campaign.id) if hold.kind in ("pause", "halt")]
        if any(hold.wave is None and hold.provider is None for hold in stopped):
            return False
        open_waves = [
            w for w in campaigns.waves(connection, campaign.id) if w.status not in (Wave.CLEARED, Wave.SKIPPED)
        ]
        if open_waves:
            return True
        barred = {hold.provider for hold in stopped if hold.provider}
        left = batches.counts(connection, campaign.id)
        return any(cell.ready for (_, provider), cell in left.items() if provider not in barred)


class _signals:  # noqa: N801  # reads as a verb where it is used
    """SIGTERM and SIGINT set an event while the block runs; the former handlers come back after it."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event
        self.former: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.former[number] = signal.signal(number, self._caught)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        _LOG.info("stopping", signal=signal.Signals(number).name)
        self.event.set()
