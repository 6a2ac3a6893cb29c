"""What follows from the verdicts on one campaign: lanes to suspend, a halt, waves to clear, its completion.

A pure function of what the store knows and of now. Nothing is remembered from one look to the next, so a crash, a late
event or a second judge changes no answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final

from sendwave.rules import cells, culprits, gates
from sendwave.rules.cells import Book, Mail
from sendwave.rules.gates import ALARM, CALM, CLEAR, FEED, Cell, Decision, GateSet, Mode, Rule, Verdict
from sendwave.rules.lifecycle import Wave
from sendwave.rules.maturity import CURVES, Curve
from sendwave.rules.signals import SIGNALS
from sendwave.rules.waves import Inconclusive, WavePlan

INCONCLUSIVE: Final = "inconclusive"
"""Reason of a stop at `soak_max`: the rate stayed above the hold level, a person decides."""

PROBE: Final = 0.25
"""Factor on the pace of a lane that is slowed: enough to see whether it bears mail, little enough to do no harm."""

CAUGHT_UP: Final = 0.5
"""Share of the answers owed that must have come before a wave is cleared: after a silence they come late."""

_ACTIVE: Final = (Wave.RELEASED, Wave.SENDING, Wave.SOAKING, Wave.HELD)
_OVER: Final = (Wave.CLEARED, Wave.SKIPPED)


@dataclass(frozen=True, slots=True)
class WaveFacts:
    """One wave. `sent_at` is when its last batch was settled: its soak starts there."""

    number: int
    status: str
    sent_at: datetime | None
    planned: Mapping[str, int]  # people by mailbox provider


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of a campaign being sent."""

    gates: GateSet
    plan: WavePlan
    waves: Sequence[WaveFacts]
    lanes: Collection[str]
    suspended: Mapping[str, datetime | None]  # lane -> since when it waits for a person, where that is known
    mail: Sequence[Mail]
    waiting: Collection[str]  # lanes in which somebody has still to be written to
    mute: Collection[str]  # lanes whose provider reports no complaint per message
    reports_delivery: bool  # the route tells of delivered mail too, so that silence means something
    alarmed: datetime | None = None  # since when the wave in flight waits because of an alarm
    slowed: Collection[str] = ()  # lanes on `PROBE` now
    probed: Mapping[str, datetime] = field(
        default_factory=dict
    )  # lane -> when it was slowed last: bursts before count not
    curves: Mapping[str, Curve] = field(default_factory=lambda: CURVES)  # by signal, or by the name its signal gives


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a lane or a campaign stops: a signal's name or `inconclusive`, and the verdict it rests on."""

    reason: str
    verdict: Verdict


@dataclass(frozen=True)
class Ruling:
    """The verdicts on a campaign and what follows from them."""

    facts: Facts
    now: datetime

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """Every gate over the campaign, each wave in flight, each lane and both, where there is mail; then the feed."""
        found = []
        for name, gate in self.facts.gates.signals.items():
            if gate.mode is Mode.OFF or name not in SIGNALS:
                continue
            for wave in (0, *(wave.number for wave in self.active)):
                scopes = ("", *sorted({mail.provider for mail in self._mail(wave)}))
                found += [self._judge(name, wave, provider) for provider in scopes]
        return [verdict for verdict in found if verdict.cell.cohorts] + self.feeds

    @cached_property
    def feeds(self) -> list[Verdict]:
        """Whether answers come, per wave in flight; none where the route owes none."""
        if not self.facts.reports_delivery:
            return []
        curve = self._curve("delivered")
        found = [cells.feed(self._mail(wave.number), wave=wave.number) for wave in self.active]
        return [gates.judge_feed(cell, self.facts.gates, self.now, curve=curve) for cell in found if cell.cohorts]

    @cached_property
    def blind(self) -> Verdict | None:
        """The verdict that says the feed is silent."""
        return next((verdict for verdict in self.feeds if verdict.decision is Decision.BLIND), None)

    @cached_property
    def active(self) -> list[WaveFacts]:
        """Waves in flight."""
        return [wave for wave in self.facts.waves if wave.status in _ACTIVE]

    @cached_property
    def open(self) -> set[str]:
        """Lanes in which mail may leave; one the plan does not know counts as open."""
        return ({mail.provider for mail in self.facts.mail} | set(self.facts.lanes)) - set(self.facts.suspended)

    @cached_property
    def enforced(self) -> list[Verdict]:
        """Verdicts that may act: not observed ones, not those of lanes suspended already."""
        acting = [v for v in self.verdicts if v.mode is Mode.ENFORCE and v.cell.signal != FEED]
        return [verdict for verdict in acting if verdict.cell.provider in {"", *self.open}]

    @cached_property
    def halt(self) -> Stop | None:
        """Why the whole campaign must stop, if it must.

        An alarm over all lanes that no lane explains; or lanes carrying `halt_share` of the mail suspended; or the
        longest soak over with all lanes together still on hold.
        """
        for verdict in self._halting():
            if not verdict.cell.provider and not self._bursts(verdict) and not self._culprits(verdict):
                return Stop(verdict.cell.signal, verdict)
        if self.suspensions and self._shut_share() >= self.facts.gates.halt_share:
            return next(iter(self.suspensions.values()))
        stuck = [verdict for verdict in self._stopping() if not verdict.cell.provider]
        waits = self.facts.plan.on_inconclusive is not Inconclusive.HOLD
        if waits and self.alarm is not None and self.facts.alarmed is not None and self.blind is None:
            stuck += [self.alarm.verdict] if self.now - self.facts.alarmed >= self.facts.plan.soak_max else []
        return Stop(INCONCLUSIVE, stuck[0]) if stuck and not self.suspensions else None

    @cached_property
    def alarm(self) -> Stop | None:
        """Why the wave in flight waits: the evidence over all lanes reached `ALARM`, and is not under `CALM` again."""
        enough = ALARM if self.facts.alarmed is None else CALM
        for verdict in self.enforced:
            whole = not verdict.cell.provider and self.facts.gates.signals[verdict.cell.signal].halt is not None
            if not whole or verdict.rule is not Rule.EVIDENCE or self._bursts(verdict) or verdict.above < enough:
                continue
            left = self._judge(verdict.cell.signal, verdict.cell.wave, "", without=self.suspensions)
            if left.above >= enough:
                return Stop(verdict.cell.signal, left)
        return None

    @cached_property
    def slow(self) -> dict[str, Stop]:
        """Lanes to slow to `PROBE`: a signal that comes in bursts would halt them."""
        found: dict[str, Stop] = {}
        for verdict in self._halting():
            if self._bursts(verdict):
                blamed = (verdict.cell.provider,) if verdict.cell.provider else self._culprits(verdict) or self.open
                for provider in sorted({*blamed} & self.open - {*self.facts.slowed} - {*self.suspensions}):
                    found.setdefault(provider, Stop(verdict.cell.signal, verdict))
        return found

    @cached_property
    def restored(self) -> list[str]:
        """Slowed lanes whose fresh mail is surely below the limit of every signal that comes in bursts."""
        return [
            lane
            for lane in sorted({*self.facts.slowed} & self.open - {*self.suspensions})
            if all(self._probe(name, lane).below >= CLEAR for name in self._bursty())
        ]

    @cached_property
    def suspensions(self) -> dict[str, Stop]:
        """Lanes to suspend: those a gate halts, those that explain an alarm over all, those on hold for too long."""
        found: dict[str, Stop] = {}
        for verdict in self._halting():
            if self._bursts(verdict):
                continue
            blamed = (verdict.cell.provider,) if verdict.cell.provider else self._culprits(verdict)
            for provider in blamed:
                found.setdefault(provider, Stop(verdict.cell.signal, verdict))
        for lane in sorted({*self.facts.slowed} & self.open):
            probes = [self._probe(name, lane) for name in self._bursty()]
            for probe in probes:
                if probe.above >= ALARM:
                    found.setdefault(lane, Stop(probe.cell.signal, probe))
        for verdict in self._stopping():
            if verdict.cell.provider:
                found.setdefault(verdict.cell.provider, Stop(INCONCLUSIVE, verdict))
        return found

    @cached_property
    def cleared(self) -> list[int]:
        """Waves the next one may follow: soaked, and no enforced verdict in the way. Never while the feed is silent."""
        if self.blind is not None or any((feed.rate or 0) < CAUGHT_UP for feed in self.feeds if feed.cell.sent):
            return []
        return [wave.number for wave in self.active if self._soaked(wave) and self._may_pass(wave)]

    @cached_property
    def undecided(self) -> dict[int, Verdict]:
        """Waves whose longest soak is over and that a person must release, by number, with a verdict in the way."""
        if self.facts.plan.on_inconclusive is not Inconclusive.HOLD or self.halt is not None:
            return {}
        found: dict[int, Verdict] = {}
        for wave in self.active:
            told = [verdict for verdict in self._overdue() if verdict.cell.wave in {0, wave.number}]
            if told and self._late(wave):
                found[wave.number] = told[0]
        return found

    @property
    def complete(self) -> bool:
        """Every wave is over, and whoever is left waits in a lane no person reopened within `lane_patience`."""
        over = all(wave.status in _OVER or wave.number in self.cleared for wave in self.facts.waves)
        return over and not self.suspensions and all(self._given_up(provider) for provider in self.facts.waiting)

    def _judge(self, name: str, wave: int, provider: str, *, without: Collection[str] = ()) -> Verdict:
        gate = self.facts.gates.signals[name]
        concerned = [one for one in self.active if wave in {0, one.number}]
        soaked, late = all(map(self._soaked, concerned)), all(map(self._late, concerned))
        cell = self._cell(name, wave, provider, without=without)
        return gates.judge(cell, gate, self.now, curve=self._curve(name), soaked=soaked, late=late)

    def _cell(self, name: str, wave: int, provider: str, *, without: Collection[str] = ()) -> Cell:
        """One lane, or all that are open: a suspended one has had its verdict and weighs on nobody else's.

        Of a signal that comes in bursts only what left after the lane was slowed, and the burst had its time to pass.
        """
        chosen = {provider} if provider else self.open - {*without}
        persist = self.facts.gates.signals[name].persist
        since = {} if persist is None else {lane: at + persist for lane, at in self.facts.probed.items()}
        return self._book.cell(
            SIGNALS[name], chosen, curve=self._curve(name), wave=wave, provider=provider, since=since
        )

    @cached_property
    def _book(self) -> Book:
        return Book(self.facts.mail, self.now, waves=[wave.number for wave in self.facts.waves], mute=self.facts.mute)

    def _curve(self, name: str) -> Curve:
        return self.facts.curves.get(name) or self.facts.curves[SIGNALS[name].curve]

    def _bursty(self) -> list[str]:
        """Signals whose gates slow a lane before they stop it."""
        told = self.facts.gates.signals.items()
        return [n for n, g in told if g.persist is not None and g.mode is Mode.ENFORCE and n in SIGNALS]

    def _bursts(self, verdict: Verdict) -> bool:
        return self.facts.gates.signals[verdict.cell.signal].persist is not None

    def _probe(self, name: str, lane: str) -> Verdict:
        """What mail says that left since the lane was slowed."""
        return self._judge(name, 0, lane)

    def _mail(self, wave: int) -> list[Mail]:
        return [mail for mail in self.facts.mail if wave in {0, mail.wave}]

    def _soaked(self, wave: WaveFacts) -> bool:
        sent_at = wave.sent_at if wave.status == Wave.SOAKING else None
        return sent_at is not None and sent_at + self.facts.plan.soak <= self.now

    def _late(self, wave: WaveFacts) -> bool:
        """Whether its longest soak is over."""
        past = wave.sent_at is not None and wave.sent_at + self.facts.plan.soak_max <= self.now
        return past and self._soaked(wave)

    def _halting(self) -> list[Verdict]:
        return [verdict for verdict in self.enforced if verdict.decision is Decision.HALT]

    def _culprits(self, verdict: Verdict) -> tuple[str, ...]:
        signal, wave = verdict.cell.signal, verdict.cell.wave
        lanes = [self._cell(signal, wave, provider) for provider in sorted(self.open)]
        told = [lane for lane in lanes if lane.cohorts]
        return culprits.culprits(told, self.facts.gates.signals[signal], self.now, curve=self._curve(signal))

    def _shut_share(self) -> float:
        """Share of the planned mail in lanes that are, or are about to be, suspended."""
        weights = dict.fromkeys(self.facts.lanes, 0)
        for wave in self.facts.waves:
            for provider, people in wave.planned.items():
                weights[provider] = weights.get(provider, 0) + people
        if not any(weights.values()):
            weights = dict.fromkeys(weights, 1)
        shut = sum(n for lane, n in weights.items() if lane in self.facts.suspended or lane in self.suspensions)
        return shut / max(sum(weights.values()), 1)

    def _in_the_way(self, wave: WaveFacts) -> list[Verdict]:
        """Verdicts that keep a wave from being cleared."""
        return [v for v in self.enforced if v.cell.wave in {0, wave.number} and v.decision is not Decision.PASS]

    def _may_pass(self, wave: WaveFacts) -> bool:
        """Nothing in the way; or nothing but doubts that the policy lets pass after the longest soak."""
        doubts = self._in_the_way(wave)
        lenient = self.facts.plan.on_inconclusive is Inconclusive.RELEASE and self._late(wave)
        return not doubts or (lenient and all(verdict.decision is Decision.HOLD for verdict in doubts))

    def _stopping(self) -> list[Verdict]:
        """Verdicts on hold for so long that the policy stops what they are about."""
        return self._overdue() if self.facts.plan.on_inconclusive is Inconclusive.HALT else []

    def _overdue(self) -> list[Verdict]:
        """Verdicts still on hold when the longest soak is over; none while a silent feed tells nothing."""
        if self.blind is not None:
            return []
        late = [wave for wave in self.active if self._late(wave)]
        return [v for wave in late for v in self._in_the_way(wave) if v.decision is Decision.HOLD and not v.early]

    def _given_up(self, provider: str) -> bool:
        since = self.facts.suspended.get(provider)
        return since is not None and since + self.facts.gates.lane_patience <= self.now
