"""The daemon: ticks over the store. Every stage reads what is due from the database, so a restart forgets nothing.

`Daemon.step(now)` is one round of all stages in the order of the story; the demo and the simulations call it on virtual
time. `Daemon.run` has APScheduler call the same stages at their own pace on the wall clock, until told to stop.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import FrameType
from typing import Any, Final

from apscheduler.schedulers.background import BackgroundScheduler

from sendwave import log
from sendwave.clock import Clock, SystemClock, wall
from sendwave.cluster import Node
from sendwave.errors import BadInput, Busy, FullDisk, SendwaveError, Unreachable
from sendwave.flow import alerts, crm, dispatch, feedback, janitor, judge, release, score, settle, tiers, waiting
from sendwave.rules.lifecycle import FINAL, Campaign, Wave
from sendwave.rules.policy import PolicySet
from sendwave.store import batches, campaigns, holds, inbox
from sendwave.store import policies as pinned
from sendwave.workspace import Workspace

_LOG = log.get("daemon")

PERIODS: Final = {
    "release": (1.0, 1.0),
    "dispatch": (0.2, 5.0),
    "collect": (0.5, 2.0),
    "feedback": (0.2, 2.0),
    "judge": (1.0, 5.0),
    "settle": (60.0, 60.0),
    "policies": (5.0, 5.0),
    "score": (30.0, 30.0),
    "alerts": (20.0, 20.0),
    "crm": (30.0, 30.0),
    "janitor": (600.0, 600.0),
}
"""Seconds between two ticks of a stage, while a campaign is being sent and while none is.

`release` notices that there is something to send; until then the others rest, and an idle daemon costs next to nothing.
"""

LED: Final = frozenset({"release", "collect", "feedback", "judge", "settle", "score", "alerts", "crm", "janitor"})
"""Stages of the node that leads; every node dispatches and reads its policy files."""

REPEAT: Final = timedelta(minutes=1)
"""A fault that stays is told again after so long, not at every tick."""

IDLE_ROUNDS: Final = 15
"""Looks, 0.2 s apart, that must all find nothing to do before `--until idle` believes it."""

LISTEN_ROUNDS: Final = 300
"""Looks, a minute, for which it waits for that once only reactions still come: they may trickle in for days."""

BUSY_STATUSES: Final = (Campaign.APPROVED, Campaign.SENDING)


@dataclass
class Daemon:
    """All stages of one node over one workspace."""

    workspace: Workspace
    clock: Clock = field(default_factory=SystemClock)
    threads: int = 0  # threads handing batches over; 0 keeps everything on the caller's

    def __post_init__(self) -> None:
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"  # containers share the first two
        self.node = Node(self.workspace.db, self.holder, self.clock)
        self._stop = threading.Event()
        self._policy_stamp: object = None
        self._memory = judge.Memory()  # what the judge need not read again; lost with the process, and nothing with it
        self._fast = False  # whether ticks come often
        self._sending = False  # whether they should
        self._ticks: Any = None  # the scheduler, while `run` runs
        self._complaints: dict[str, tuple[str, datetime]] = {}  # stage -> what was told last, and when
        self._watch = waiting.Watch(self.workspace.settings.time_zone)
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
            unsubscribe=self.workspace.settings.unsubscribe_url,
        )
        self.crms = crm.Turns(
            self.node.led, self.workspace.engine, self.workspace.lake, self.workspace.crm, self.workspace.rejects
        )

    # ── the stages ────────────────────────────────────────────────────────────────────────────────────────────────
    def collect(self, now: datetime) -> int:
        """Fetch what waits at polled feeds and mailboxes. Returns the reports stored."""
        return feedback.collect(self.node.led, self.workspace.adapters, now)

    def digest(self, now: datetime) -> int:
        """Normalise and count what was stored. Returns the number of events taken in."""
        return sum(done.events for done in self._digests(now))

    def _digests(self, now: datetime) -> Iterator[feedback.Digest]:
        house = self.workspace
        while (
            done := feedback.digest(self.node.led, house.engine, house.lake, house.adapters, house.token_key, now=now)
        ).reports:
            yield done

    def feedback(self, now: datetime) -> int:
        """Fetch, store, normalise, count. Returns the number of events taken in."""
        self.collect(now)
        return self.digest(now)

    def judge(self, now: datetime, only: Collection[int] | None = None) -> None:
        """Turn counts into verdicts and act on them; with `only` of these campaigns, before the others."""
        told = self._reports_delivery
        judge.judge(self.node.led, now=now, reports_delivery=told, memory=self._memory, only=only)

    def release(self, now: datetime) -> None:
        """Open the waves that may open, give back the slots nobody will use."""
        house = self.workspace
        release.release(
            *(self.node.led, house.engine, house.lake), now=now, batch_sizes=self._batch_sizes, texts=house.texts
        )
        release.give_back(self.node.led, house.engine, house.lake, now=now)

    def dispatch(self, now: datetime) -> int:
        """Hand over what may go now. Returns the recipients handed over."""
        return self.dispatcher.step(now).handed

    def settle(self, now: datetime) -> None:
        """Accept people nobody answered for whom events have told about since."""
        if done := settle.settle_due(self.node.led, by=self.holder, now=now):
            _LOG.info("settled_by_events", people=done)

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

    def score(self, now: datetime) -> None:
        """Score everybody when the policy's time of day has come, once a date, also after days switched off."""
        house = self.workspace
        policy = self._policy or house.policy
        elsewhere = house.settings.engine.url
        if done := score.run_due(self.node.led, house.engine, house.lake, policy, now=now, elsewhere=elsewhere):
            _LOG.info("scored", **done.document())

    def alerts(self, now: datetime) -> None:
        """Say what new scores give to say, deliver what waits. Without new scores this costs three indexed queries."""
        house = self.workspace
        policy = self._policy or house.policy
        tiers.name_tiers(self.node.led, house.engine, house.lake, policy.tiers, now=now, by="daemon")
        alerts.raise_alerts(self.node.led, house.engine, house.lake, policy, now=now)
        alerts.deliver(self.node.led, house.channels, now=now, sleep=self.clock.sleep)

    def crm(self, now: datetime) -> None:
        """Bring in what CRMs have and hand new scores over, as their settings say."""
        house = self.workspace
        if not house.crms:
            return
        policy = self._policy or house.policy
        tiers.name_tiers(self.node.led, house.engine, house.lake, policy.tiers, now=now, by="daemon")
        self.crms.take(policy, house.crms, house.landing(policy, now, "daemon"), now=now)

    def janitor(self, now: datetime) -> None:
        """Remove what the settings say need not be kept, once a day over all nodes."""
        house = self.workspace
        keep = house.settings.retention
        if done := janitor.tidy_due(self.node.led, house.engine, house.lake, keep, holder=self.holder, now=now):
            _LOG.info("tidied", **done.document())

    @property
    def _batch_sizes(self) -> dict[str, int]:
        return {route: adapter.capabilities.batch_size for route, adapter in self.workspace.adapters.items()}

    @property
    def _reports_delivery(self) -> dict[str, bool]:
        return {route: adapter.capabilities.reports_delivery for route, adapter in self.workspace.adapters.items()}

    # ── virtual time ──────────────────────────────────────────────────────────────────────────────────────────────
    def step(self, now: datetime) -> int:
        """One round of every stage at one instant. Returns the recipients handed over."""
        self.node.beat()
        if not self.node.leads:
            return self.dispatch(now)
        self.feedback(now)
        self.settle(now)
        self.judge(now)
        self.release(now)
        return self.dispatch(now)

    # ── wall clock ────────────────────────────────────────────────────────────────────────────────────────────────
    def start_up(self, now: datetime) -> None:
        """Put right what a crash left: claimed batches go back, handed ones without an answer are unknown."""
        found = dispatch.reconcile(self.workspace.db, self.holder, now, self.workspace.adapters)
        _LOG.info("started", holder=self.holder, reconciled=found)

    def run(self, *, until_idle: bool = False, until: datetime | None = None) -> None:
        """Tick until SIGTERM or SIGINT, until `until`, or until nothing is left to do without a person.

        A batch in hand is finished before this returns. Raises Busy when another daemon owns the workspace.
        """
        with self.workspace.only_daemon(self.clock.now()):
            self.start_up(self.clock.now())
            self.node.start()
            web = self._web()
            with _signals(self._stop):
                scheduler = self._scheduler()
                scheduler.start()
                try:
                    self._wait(until_idle=until_idle, until=until)
                finally:
                    if web is not None:
                        web.stop()  # what it took is durable; the next run digests it
                    self.dispatcher.stop()  # batches only claimed go back, those in hand are finished
                    self.crms.stop()
                    scheduler.shutdown(wait=True)
                    self.dispatcher.close()
                    self.node.stop()
                    _LOG.info("stopped", holder=self.holder)

    def _web(self) -> Any:
        """The web side, answering; None where the settings ask for none. Raises BadInput when it cannot listen."""
        settings = self.workspace.settings.web
        if settings is None:
            return None
        from sendwave.web.server import Server  # half a second and 20 MB, for those who want it

        web = Server(self.workspace, settings, clock=self.clock)
        web.start()
        return web

    def _scheduler(self) -> Any:
        logging.getLogger("apscheduler").setLevel(logging.ERROR)  # a tick longer than its period is no news
        scheduler = BackgroundScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        for name, (_, at_rest) in PERIODS.items():
            scheduler.add_job(self._guarded(name), "interval", seconds=at_rest, id=name, next_run_time=wall())
        self._ticks = scheduler
        return scheduler

    def _release_tick(self, now: datetime) -> None:
        if self.node.leads:
            self.release(now)
            for campaign, wait in self._watch.news(self.workspace.db, now):
                _LOG.info("waiting", campaign=campaign, **wait.document())
        with self.workspace.db.read() as connection:
            self._sending = bool(campaigns.listing(connection, statuses=(Campaign.SENDING,)))

    def _feedback_tick(self, now: datetime) -> None:
        for done in self._digests(now):  # what was fetched or posted since; a slow mailbox holds nothing up
            if done.campaigns:
                self.judge(now, done.campaigns)  # at once: every second of a bad wave counts

    def _set_pace(self) -> None:
        """Tick often while something is being sent, seldom while nothing is.

        Not in a tick: a scheduler that shuts down waits for its ticks under the lock that rescheduling takes.
        """
        if (sending := self._sending) is self._fast:
            return
        self._fast = sending
        for name, (busy, at_rest) in PERIODS.items():
            if busy != at_rest:
                self._ticks.reschedule_job(name, trigger="interval", seconds=busy if sending else at_rest)

    def _guarded(self, name: str) -> Callable[[], None]:
        """A tick that survives the faults an operator can mend: it says so and tries again at the next one."""
        stage: Callable[[datetime], object] = getattr(self, f"_{name}_tick", None) or getattr(self, name)

        def tick() -> None:
            now = self.clock.now()
            if name in LED - {"release"} and not self.node.leads:
                return
            try:
                with self.node.term():
                    stage(now)
            except (FullDisk, Busy, Unreachable) as fault:
                self._complain(now, name, "tick_failed", str(fault))
            except SendwaveError as fault:
                self._complain(now, name, "tick_refused", str(fault))
            except Exception as fault:  # noqa: BLE001  # told in full; the other stages and the next tick go on
                self._complain(now, name, "tick_crashed", f"{type(fault).__name__}: {fault}", exc_info=True)
            else:
                if self._complaints.pop(name, None) is not None:
                    _LOG.info("tick_recovered", stage=name)

        return tick

    def _complain(self, now: datetime, name: str, event: str, reason: str, **more: Any) -> None:
        """Tell what went wrong, the same thing at most once in `REPEAT`."""
        told = self._complaints.get(name)
        if told is None or told[0] != reason or now - told[1] >= REPEAT:
            self._complaints[name] = (reason, now)
            _LOG.error(event, stage=name, reason=reason, retry="next tick", **more)

    def _wait(self, *, until_idle: bool, until: datetime | None) -> None:
        resting = quiet = 0
        while not self._stop.wait(0.2):
            self._set_pace()
            now = self.clock.now()
            if until is not None and now >= until:
                return
            resting = resting + 1 if until_idle and self._rests(now) else 0
            quiet = quiet + 1 if resting and not self._unread() else 0
            if quiet >= IDLE_ROUNDS:  # every stage had its tick meanwhile and found nothing new
                return
            if quiet and resting >= LISTEN_ROUNDS:  # what comes later is taken in by the next run
                return

    def stop(self) -> None:
        """Ask `run` to end after the ticks in hand."""
        self._stop.set()

    # ── what is left ──────────────────────────────────────────────────────────────────────────────────────────────
    def idle(self, now: datetime) -> bool:
        """Whether nothing is left to do before a person decides something or a start time comes."""
        return not self._unread() and self._rests(now)

    def _unread(self) -> bool:
        """Whether reports wait to be counted."""
        with self.workspace.db.read() as connection:
            return bool(inbox.backlog(connection)[0])

    def _rests(self, now: datetime) -> bool:
        """Whether every campaign waits for a person or a start to come, or is over."""
        with self.workspace.db.read() as connection:
            return not any(
                self._works(connection, campaign, now)
                for campaign in campaigns.listing(connection, statuses=BUSY_STATUSES)
            )

    def _works(self, connection: Any, campaign: campaigns.Campaign, now: datetime) -> bool:
        if campaign.status in FINAL:
            return False
        if campaign.start_at is not None and campaign.start_at > now + timedelta(seconds=1):
            return False
        routes = (None, campaign.settings.route)  # another route's pause is none of ours
        every = holds.open_holds(connection, campaign.id)
        stopped = [hold for hold in every if hold.kind in ("pause", "halt") and hold.route in routes]
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
