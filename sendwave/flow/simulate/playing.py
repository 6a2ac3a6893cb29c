"""One run of a campaign: mail leaves, answers come late, and the rules decide as they would in the daemon.

Counts only, no people: per tick one cohort of each lane, its events drawn once (binomial) with the delay of each. The
clock moves from look to look: often while mail leaves, seldom while a wave soaks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sendwave.flow.simulate.worlds import World
from sendwave.rules.cells import SLOT, Sheet
from sendwave.rules.evidence import STAGES
from sendwave.rules.facts import Facts, WaveFacts
from sendwave.rules.lifecycle import Wave
from sendwave.rules.maturity import Curve
from sendwave.rules.rulings import INCONCLUSIVE, PROBE, Ruling
from sendwave.rules.signals import SIGNALS, Tally
from sendwave.rules.throttle import LOCAL, is_open, opens_at

LOOKS: Final = 20
"""Looks while a wave leaves, at least; it takes longer than that many minutes to send, one every two minutes."""

LONGEST: Final = timedelta(days=30)
"""A run that is not over by then is given up as waiting for a person."""

_DELIVERED: Final = Tally.DELIVERED.value


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run ended. Minutes are of virtual time from the first mail on."""

    end: str  # completed, halted, inconclusive (a person is needed)
    reason: str  # signal, for a halt
    minutes: float
    sent: int
    past: int  # mails sent where the true rate was above a halt level
    suspended: tuple[str, ...]  # lanes
    halted_wave: int | None


@dataclass
class Run:
    """One campaign under way."""

    world: World
    draw: np.random.Generator
    start: datetime
    now: datetime = field(init=False)
    left: NDArray[np.int64] = field(init=False)
    wave: int = 0  # place of the wave in flight
    sent_at: datetime | None = None
    alarmed: datetime | None = None
    suspended: dict[str, datetime | None] = field(default_factory=dict)
    slowed: set[str] = field(default_factory=set)
    probed: dict[str, datetime] = field(default_factory=dict)
    _rows: list[tuple[int, int, int, float, float]] = field(default_factory=list)  # lane, wave, stage, minute, people
    _due: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)  # signal > [row, minute it comes] to come
    _came: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # signal > events by row
    _late: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.now = self.start
        self.left = self.world.people.copy()
        self._due = {signal: [] for signal in self.world.signals}
        self._came = {signal: np.zeros(0) for signal in self.world.signals}
        for signal in self.world.signals:
            self._late[signal] = _inverse(self.world.curves.get(signal) or self.world.curves[SIGNALS[signal].curve])

    # ── sending ───────────────────────────────────────────────────────────────────────────────────────────────────
    def send(self, minutes: float) -> None:
        """Let mail of the wave in flight leave for so long, its lanes side by side."""
        room = self.world.per_minute * minutes
        here = self.left[self.wave]
        open_lanes = np.array([0.0 if lane in self.suspended else self._pace(lane) for lane in self.world.lanes])
        wanted = here * open_lanes
        if not wanted.sum():
            return
        share = min(1.0, room / float(here[open_lanes > 0].sum()))
        gone = np.minimum(np.ceil(wanted * share).astype(np.int64), here)
        planned, before = int(self.world.people[self.wave].sum()), int((self.world.people - self.left)[self.wave].sum())
        stage = min(STAGES - 1, STAGES * before // max(planned, 1))
        minute = self.now.timestamp() / 60
        for lane, people in enumerate(gone.tolist()):
            if people:
                self._leave(lane, people, stage, minute)
        self.left[self.wave] -= gone

    def _pace(self, lane: str) -> float:
        return PROBE if lane in self.slowed else 1.0

    def _leave(self, lane: int, people: int, stage: int, minute: float) -> None:
        row = len(self._rows)
        self._rows.append((lane, self.wave, stage, minute, people))
        for place, signal in enumerate(self.world.signals):
            events = int(self.draw.binomial(people, min(1.0, self.world.rates[place, self.wave, lane])))
            if events:
                shares, logs = self._late[signal]
                late = np.expm1(np.interp(self.draw.random(events), shares, logs))
                self._due[signal].append(np.stack([np.full(events, float(row)), minute + late]))

    @property
    def is_sent(self) -> bool:
        """Nobody of the wave in flight is left whose lane is open."""
        here = self.left[self.wave]
        return not any(n for lane, n in zip(self.world.lanes, here.tolist(), strict=True) if lane not in self.suspended)

    # ── judging ───────────────────────────────────────────────────────────────────────────────────────────────────
    def ruling(self) -> Ruling:
        """What the rules say now."""
        world = self.world
        facts = Facts(
            gates=world.gates,
            plan=world.kind.waves,
            waves=[self._facts(place) for place in range(len(world.waves))],
            lanes=world.lanes,
            suspended=self.suspended,
            mail=self.sheet(),
            waiting=(),
            mute=world.mute,
            reports_delivery=True,
            alarmed=self.alarmed,
            slowed=self.slowed,
            probed=self.probed,
            curves=world.curves,
        )
        return Ruling(facts, self.now)

    def _facts(self, place: int) -> WaveFacts:
        status = Wave.CLEARED if place < self.wave else Wave.WAITING
        if place == self.wave:
            status = Wave.SENDING if self.sent_at is None else Wave.SOAKING
        people = dict(zip(self.world.lanes, self.world.people[place].tolist(), strict=True))
        return WaveFacts(self.world.waves[place], status, self.sent_at if place == self.wave else None, people)

    def sheet(self) -> Sheet:
        """The mail so far and what has come back of it."""
        rows = np.array(self._rows).reshape(-1, 5)
        minute, people = rows[:, 3], rows[:, 4]
        now = self.now.timestamp() / 60
        tallies = {SIGNALS[signal].tallies[0].value: self._arrived(signal, now) for signal in self.world.signals}
        came = self.world.curves["delivered"].raw(now - minute)
        tallies[_DELIVERED] = np.floor(people * came)
        places, place = np.unique(rows[:, 1].astype(np.int64), return_inverse=True)
        return Sheet(
            lanes=self.world.lanes,
            waves=tuple(self.world.waves[n] for n in places.tolist()),
            lane=rows[:, 0].astype(np.int64),
            place=place.astype(np.int64),
            stage=rows[:, 2].astype(np.int64),
            slot=np.floor(minute / SLOT).astype(np.int64),
            minute=minute,
            accepted=people,
            refused=np.zeros(len(rows)),
            tallies=tallies,
        )

    def _arrived(self, signal: str, now: float) -> NDArray[np.float64]:
        """Events of a signal that have come by now, by row; those to come stay for later."""
        came = np.zeros(len(self._rows))
        came[: len(self._came[signal])] = self._came[signal]
        if self._due[signal]:
            told = np.concatenate(self._due[signal], axis=1)
            here = told[1] <= now
            came += np.bincount(told[0, here].astype(np.int64), minlength=len(came))
            self._due[signal] = [told[:, ~here]]
        self._came[signal] = came
        return came

    def follow(self, ruling: Ruling) -> str:
        """Do what follows; returns the reason of a halt, '' while it goes on."""
        if ruling.halt is not None:
            return ruling.halt.reason
        self.alarmed = None if ruling.alarm is None else self.alarmed or self.now
        for lane in ruling.suspensions:
            self.suspended[lane] = self.now
        for lane in ruling.slow:
            self.slowed.add(lane)
            self.probed[lane] = self.now
        self.slowed -= {*ruling.restored}
        return ""


def play(world: World, *, seed: int, start: datetime = datetime(2026, 1, 5, 9, tzinfo=UTC)) -> Outcome:
    """One run, the same for the same seed. A person never acts in it: what waits for one ends it."""
    run = Run(world, np.random.default_rng(seed), _opening(world, start))
    while run.now - run.start < LONGEST:
        ruling = run.ruling()
        reason = run.follow(ruling)
        if reason:
            return _outcome(run, INCONCLUSIVE if reason == INCONCLUSIVE else "halted", reason)
        if ruling.undecided:
            return _outcome(run, INCONCLUSIVE, next(iter(ruling.undecided.values())).cell.signal)
        if world.waves[run.wave] in ruling.cleared:
            if run.wave + 1 == len(world.waves):
                return _outcome(run, "completed", "")
            run.wave, run.sent_at = run.wave + 1, None
        _go_on(run)
    return _outcome(run, INCONCLUSIVE, "too long")


def _go_on(run: Run) -> None:
    """Send for a tick, or wait until the next look is worth it."""
    plan = run.world.kind.waves
    if run.sent_at is None and run.is_sent:
        run.sent_at = run.now
    if run.sent_at is not None:
        waited = run.now - run.sent_at
        run.now += max(plan.soak - waited, timedelta()) or min(
            max(waited / 6, timedelta(minutes=10)), timedelta(hours=2)
        )
        return
    if run.alarmed is not None:
        run.now += timedelta(minutes=5)
        return
    people = float(run.world.people[run.wave].sum())
    tick = max(min(people / run.world.per_minute / LOOKS, 2.0), people / run.world.per_minute / (4 * LOOKS), 0.5)
    zone = "UTC" if plan.window is not None and plan.window.zone == LOCAL else ""
    if not is_open(plan.window, zone or "UTC", run.now):
        run.now = opens_at(plan.window, zone or "UTC", run.now)
    run.send(tick)
    run.now += timedelta(minutes=tick)


def _opening(world: World, start: datetime) -> datetime:
    return opens_at(world.kind.waves.window, "UTC", start)


def _outcome(run: Run, end: str, reason: str) -> Outcome:
    gone = run.world.people - run.left
    return Outcome(
        end=end,
        reason=reason,
        minutes=(run.now - run.start).total_seconds() / 60,
        sent=int(gone.sum()),
        past=int(gone[run.world.past_limit].sum()),
        suspended=tuple(sorted(run.suspended)),
        halted_wave=run.world.waves[run.wave] if end == "halted" else None,
    )


def _inverse(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A curve as (shares, ln(1 + minutes)): interpolated, a uniform draw becomes a delay."""
    ages = np.array([0.0, *(minutes for minutes, _ in curve.points)])
    shares = np.array([0.0, *(share for _, share in curve.points)])
    return shares, np.log1p(ages)
