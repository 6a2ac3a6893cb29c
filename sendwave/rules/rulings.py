"""What follows from the verdicts on one campaign: lanes to suspend, a halt, waves to clear, its completion.

A pure function of what the store knows and of now. Nothing is remembered from one look to the next, so a crash, a late
event or a second judge changes no answer.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

from sendwave.rules import gates, silence
from sendwave.rules.attribution import culprits, share_of
from sendwave.rules.board import Board, Judged
from sendwave.rules.cells import Book
from sendwave.rules.facts import Facts, WaveFacts
from sendwave.rules.gates import ALARM, CALM, HALF, Decision, Mode, Rule, Verdict
from sendwave.rules.lifecycle import Wave
from sendwave.rules.maturity import USUAL
from sendwave.rules.signals import SIGNALS, Exposure
from sendwave.rules.waves import Inconclusive

INCONCLUSIVE: Final = "inconclusive"
"""Reason of a stop at `soak_max`: the rate stayed above the hold level, a person decides."""

PROBE: Final = 0.25
"""Factor on the pace of a lane that is slowed: enough to see whether it bears mail, little enough to do no harm."""

SETTLED: Final = 0.8
"""Share of the feedback due from which waiting tells little more: an alarm is then settled by a little fresh mail."""

PLAINLY: Final = 1.5
"""Multiple of the limit at which a halt needs no fresh mail, where none will come."""

_ACTIVE: Final = (Wave.RELEASED, Wave.SENDING, Wave.SOAKING, Wave.HELD)
_OVER: Final = (Wave.CLEARED, Wave.SKIPPED)


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
        told = [self._verdict(*cell, banded=True) for cell in self._board.cells()] + self.feeds
        curve, sheet = self.facts.curve("delivered"), self._book.sheet
        owed = self.facts.reports_delivery
        return told + (silence.lane_feeds(sheet, self.facts.gates, self.now, curve=curve) if owed else [])

    @cached_property
    def feeds(self) -> list[Verdict]:
        """Whether answers come, per wave in flight; none where the route owes none."""
        if not self.facts.reports_delivery:
            return []
        waves, curve = [wave.number for wave in self.active], self.facts.curve("delivered")
        return silence.feeds(self._book.sheet, self.facts.gates, self.now, curve=curve, waves=waves, without=self._deaf)

    @cached_property
    def _deaf(self) -> set[str]:
        """Lanes without any answer while most of the mail has them: they say nothing about the rest."""
        told = silence.deaf(self._book.sheet, self.facts.gates, self.now) if self.facts.reports_delivery else set()
        return told if told and self._share_of(told) < self.facts.gates.halt_share else set()

    @cached_property
    def blind(self) -> Verdict | None:
        """The verdict that says the feed is silent; once it was, until the answers owed have caught up."""
        silent = next((verdict for verdict in self.feeds if verdict.decision is Decision.BLIND), None)
        if silent is None and self.facts.silent:
            return next((feed for feed in self.feeds if silence.behind(feed)), None)
        return silent

    @cached_property
    def active(self) -> list[WaveFacts]:
        """Waves in flight."""
        return [wave for wave in self.facts.waves if wave.status in _ACTIVE]

    @cached_property
    def open(self) -> set[str]:
        """Lanes in which mail may leave; one the plan does not know counts as open."""
        return {*self._book.lanes, *self.facts.lanes} - set(self.facts.suspended)

    @cached_property
    def waits(self) -> list[Verdict]:
        """Verdicts that keep a wave in flight from being followed by the next one."""
        return [verdict for wave in self.active for verdict in self._in_the_way(wave)]

    @cached_property
    def halt(self) -> Stop | None:
        """Why the whole campaign must stop, if it must.

        No lane explains an alarm over all, `halt_share` of the mail is suspended, or the longest soak found no answer.
        """
        for verdict in self._whole:
            if not culprits(self._lanes_of(verdict)):
                return self._stop(verdict)
        if self.suspensions and self._shut_share() >= self.facts.gates.halt_share:
            whole = [v for v in self._halting if not v.cell.provider and not self._is_burst(v)]
            return self._stop(whole[0], rest=False) if whole else next(iter(self.suspensions.values()))
        stuck = [v for v in self._stopping() if not v.cell.provider]
        since, acts = self.facts.alarmed, self.facts.plan.on_inconclusive is not Inconclusive.HOLD
        if acts and self.alarm and since and self.blind is None and self.now - since >= self.facts.plan.soak_max:
            stuck.append(self.alarm.verdict)
        return self._stop(stuck[0], INCONCLUSIVE) if stuck and not self.suspensions else None

    @cached_property
    def alarm(self) -> Stop | None:
        """Why the wave in flight waits: strong evidence over all, of which feedback, not fresh mail, tells more."""
        bursts = {v.cell.signal for v in self._bursts if not v.cell.provider}
        found = [v for v in self._alarms if v.cell.signal not in bursts and not self._is_settled(v)]
        return self._stop(found[0]) if found else None

    @cached_property
    def slow(self) -> dict[str, Stop]:
        """Lanes to slow to `PROBE`, so that a little fresh mail decides.

        A burst would halt them; or waiting would not settle an alarm over all, or doubts about a lane after its wave.
        """
        found: dict[str, Stop] = {}
        for verdict in [*self._bursts, *(v for v in self._alarms if self._is_settled(v)), *self._doubts]:
            provider = verdict.cell.provider
            blamed = (provider,) if provider else culprits(self._lanes_of(verdict)) or self.open
            for lane in sorted({*blamed} & self.open - {*self.suspensions}):
                found.setdefault(lane, self._stop(verdict))
        return {lane: stop for lane, stop in found.items() if lane not in self.facts.slowed}

    @cached_property
    def restored(self) -> list[str]:
        """Slowed lanes without an alarm, whose fresh mail is surely below the limit of what comes in bursts."""
        loud = {v.cell.provider for v in self._telling if max(v.above, v.alarm) >= CALM and v.halt_limit is not None}
        quiet = self._probing - {*self.suspensions} - loud
        if "" in loud:
            return []
        clear = {name: self.facts.gates.signals[name].clear for name in self.facts.bursty}
        return [lane for lane in sorted(quiet) if all(self._verdict(n, 0, lane).below >= c for n, c in clear.items())]

    @cached_property
    def suspensions(self) -> dict[str, Stop]:
        """Lanes to suspend: those a gate halts, those that explain an alarm over all, those on hold for too long."""
        found: dict[str, Stop] = {}
        own = [(v.cell.provider, v) for v in self._condemning]
        for provider, verdict in [*own, *((lane, v) for v in self._whole for lane in culprits(self._lanes_of(v)))]:
            found.setdefault(provider, self._stop(verdict))
        for verdict in self._stopping():
            if verdict.cell.provider:
                found.setdefault(verdict.cell.provider, self._stop(verdict, INCONCLUSIVE))
        return found

    @cached_property
    def cleared(self) -> list[int]:
        """Waves the next one may follow: soaked, and no enforced verdict in the way. Never while the feed is silent."""
        if self.blind is not None or any(silence.behind(feed) for feed in self.feeds):
            return []
        return [wave.number for wave in self.active if self._soaked(wave) and self._may_pass(wave)]

    @cached_property
    def undecided(self) -> dict[int, Verdict]:
        """Waves whose longest soak is over and that a person must release, by number, with a verdict in the way."""
        if self.facts.plan.on_inconclusive is not Inconclusive.HOLD or self.halt is not None:
            return {}
        late = (wave.number for wave in self.active if self._late(wave))
        doubts = {number: [v for v in self._overdue() if v.cell.wave in {0, number}] for number in late}
        return {number: told[0] for number, told in doubts.items() if told}

    @property
    def complete(self) -> bool:
        """Every wave is over, and whoever is left waits in a lane no person reopened within `lane_patience`."""
        over = all(wave.status in _OVER or wave.number in self.cleared for wave in self.facts.waves)
        since = [self.facts.suspended.get(provider) for provider in self.facts.waiting]
        patience = self.facts.gates.lane_patience
        return over and not self.suspensions and all(at is not None and at + patience <= self.now for at in since)

    @cached_property
    def _book(self) -> Book:
        waves = [wave.number for wave in self.facts.waves]
        return Book(self.facts.mail, self.now, waves=waves, mute=self.facts.mute, own=self.facts.lane_curves)

    @cached_property
    def _board(self) -> Board:
        """Everything weighed at once; of a bursty signal what left once its lane was slowed and the burst over."""
        told = {n: g for n, g in self.facts.gates.signals.items() if g.mode is not Mode.OFF and n in SIGNALS}
        halting = [n for n, g in told.items() if g.halt is not None and g.mode is Mode.ENFORCE]
        tempos, since = self.facts.tempos, {n: self.facts.since(n, self._book.lanes) for n in told}
        judged = [Judged(n, g, self.facts.curve(n), tempos.get(n, USUAL), since[n]) for n, g in told.items()]
        waves, tested = [wave.number for wave in self.active], len(halting) * (len(self.facts.lanes) + 1)
        return Board(self._book, judged, waves=waves, open_lanes=self.open - self._deaf, now=self.now, tested=tested)

    def _verdict(self, name: str, wave: int, provider: str, *, banded: bool = False) -> Verdict:
        return self._judge(self._board, name, wave, provider, banded=banded)

    def _stop(self, verdict: Verdict, reason: str = "", *, rest: bool = True) -> Stop:
        """A stop for the verdict's signal, or another reason; its verdict with the bounds of the rate.

        Over all lanes it tells of the `rest` of them, without the condemned ones, unless these are the reason.
        """
        name, wave, provider = verdict.cell.signal, verdict.cell.wave, verdict.cell.provider
        if name not in self._board.names:
            return Stop(reason or name, verdict)  # the feed
        board = self._rests.get(name, self._board) if rest and not provider else self._board
        return Stop(reason or name, self._judge(board, name, wave, provider, banded=True))

    def _judge(self, board: Board, name: str, wave: int, provider: str, *, banded: bool = False) -> Verdict:
        one = board.judged[board.names.index(name)]
        concerned = [told for told in self.active if wave in {0, told.number}]
        soaked, late = all(map(self._soaked, concerned)), all(map(self._late, concerned))
        return gates.judge(
            board.cell(name, wave, provider, apart=banded), one.gate, self.now, curve=one.curve, tempo=one.tempo,
            soaked=soaked, late=late, weighed=board.balance(name, wave, provider),
            band=board.band(name, wave, provider) if banded else (0.0, 1.0),
        )  # fmt: skip

    @cached_property
    def _telling(self) -> list[Verdict]:
        """Verdicts that may act and say anything against the mail; not those of lanes suspended already."""
        enforced = {name for name, gate in self.facts.gates.signals.items() if gate.mode is Mode.ENFORCE}
        told = self._board.telling(CALM)
        return [self._verdict(*cell) for cell in told if cell[0] in enforced and cell[2] in {"", *self.open}]

    @cached_property
    def _halting(self) -> list[Verdict]:
        return [verdict for verdict in self._telling if verdict.decision is Decision.HALT]

    @cached_property
    def _bursts(self) -> list[Verdict]:
        """Halts that fresh mail must confirm first; those over all lanes where they remain without condemned ones."""
        told = [v for v in self._halting if not v.cell.provider and self._is_burst(v)]
        return self._lane_bursts + [v for v in told if self._left(v).decision is Decision.HALT]

    @cached_property
    def _lane_bursts(self) -> list[Verdict]:
        return [verdict for verdict in self._halting if verdict.cell.provider and self._is_burst(verdict)]

    @cached_property
    def _probed(self) -> list[Verdict]:
        """Doubts about lanes on `PROBE` from now on, unless they are half of the mail: the next wave decides them."""
        told = [*self._lane_bursts, *self._doubts]
        return told if self._share_of({v.cell.provider for v in told}) < self.facts.gates.halt_share else []

    @cached_property
    def _others(self) -> Board:
        """The board without the lanes in doubt."""
        return self._board.without({v.cell.provider for v in self._probed}) if self._probed else self._board

    @cached_property
    def _probing(self) -> set[str]:
        """Slowed lanes in which mail leaves."""
        return {*self.facts.slowed} & self.open & {*self._book.lanes}

    @cached_property
    def _doubts(self) -> list[Verdict]:
        """Holds of one lane of a wave that was sent: waiting says no more, a little mail of the next wave does."""
        if any(wave.status != Wave.SOAKING for wave in self.active):
            return []
        told = [v for v in self._telling if v.cell.provider and v.decision is Decision.HOLD and v.rule is Rule.EVIDENCE]
        return [verdict for verdict in told if self._is_settled(verdict)]

    @cached_property
    def _condemning(self) -> list[Verdict]:
        """Verdicts on single lanes that stop them by their own counts."""
        found = [verdict for verdict in self._halting if verdict.cell.provider and not self._is_burst(verdict)]
        probes = [self._verdict(name, 0, lane) for lane in sorted(self._probing) for name in self.facts.bursty]
        return found + [probe for probe in probes if probe.above >= ALARM and not self._may_be_burst(probe)]

    @cached_property
    def _rests(self) -> dict[str, Board]:
        """By signal, the board without the lanes it condemned; more bounces of a lane never excuse its complaints."""
        told = [(verdict.cell.signal, verdict.cell.provider) for verdict in self._condemning]
        return {name: self._board.without({lane for n, lane in told if n == name}) for name, _ in told}

    @cached_property
    def _whole(self) -> list[Verdict]:
        """Halts over all lanes that remain without the condemned ones."""
        told = [self._left(v) for v in self._halting if not v.cell.provider and not self._is_burst(v)]
        return [verdict for verdict in told if verdict.decision is Decision.HALT]

    def _left(self, verdict: Verdict) -> Verdict:
        """A verdict over all lanes, without the condemned ones."""
        name = verdict.cell.signal
        return self._judge(self._rests[name], name, verdict.cell.wave, "") if name in self._rests else verdict

    @cached_property
    def _alarms(self) -> list[Verdict]:
        """Verdicts over all lanes with evidence of `ALARM`, or one that is not under `CALM` again."""
        enough, found = (CALM if self.facts.alarmed else ALARM), []
        for verdict in self._telling:
            gate = self.facts.gates.signals[verdict.cell.signal]
            plain = verdict.rule is not Rule.EVIDENCE or gate.halt is None or gate.persist is not None
            if verdict.cell.provider or plain or verdict.alarm < enough:
                continue
            found += [left] if (left := self._left(verdict)).alarm >= enough else []
        return found

    def _is_settled(self, verdict: Verdict) -> bool:
        """Whether an alarm is one that fresh mail settles, rather than waiting."""
        name, wave, lane = verdict.cell.signal, verdict.cell.wave, verdict.cell.provider
        return self.facts.gates.signals[name].confirm and self._board.due(name, wave, lane) >= SETTLED

    def _lanes_of(self, verdict: Verdict) -> dict[str, tuple[float, float]]:
        """Events and allowance of each lane behind a verdict over all, from the point that carries it."""
        name, wave = verdict.cell.signal, verdict.cell.wave
        rest, odds = self._rests.get(name, self._board), verdict.rule is Rule.EVIDENCE
        return rest.lanes_from(name, wave, rest.balance(name, wave, "").halt.point if odds else None)

    def _is_burst(self, verdict: Verdict) -> bool:
        """Whether a halt needs fresh mail first: its signal comes in bursts, or it could be one.

        Of a signal that is told late, only where there is enough mail for bursts: its events come a few at a time.
        """
        cell, gate = verdict.cell, self.facts.gates.signals[verdict.cell.signal]
        if not cell.provider and self._is_stuck(verdict):
            return False
        if gate.persist is not None:
            return True
        if not gate.confirm or verdict.rule is not Rule.EVIDENCE:
            return False
        late = verdict.maturity < HALF and not self._board.dense(cell.signal, cell.wave, cell.provider)
        return not late and self._may_be_burst(verdict)

    def _is_stuck(self, verdict: Verdict) -> bool:
        """Whether no fresh mail will tell more: all is sent and soaked, and `PLAINLY` above the limit."""
        name, wave = verdict.cell.signal, verdict.cell.wave
        sent = bool(self.active) and all(map(self._soaked, self.active))
        halts = sent and self._judge(self._others, name, wave, "").decision is Decision.HALT
        return halts and self._others.beyond(name, wave, "", PLAINLY) >= ALARM

    def _may_be_burst(self, verdict: Verdict) -> bool:
        """Whether a few slots of mail may carry a verdict, and more is to come: of a slowed lane in the next wave."""
        cell = verdict.cell
        flying = any(wave.status != Wave.SOAKING for wave in self.active if cell.wave in {0, wave.number})
        return self._board.is_burst(
            cell.signal, cell.wave, cell.provider, more=flying or cell.provider in self._probing
        )

    def _soaked(self, wave: WaveFacts) -> bool:
        past = wave.sent_at is not None and wave.sent_at + self.facts.plan.soak <= self.now
        return past and wave.status == Wave.SOAKING

    def _late(self, wave: WaveFacts) -> bool:
        """Whether its longest soak is over."""
        past = wave.sent_at is not None and wave.sent_at + self.facts.plan.soak_max <= self.now
        return past and self._soaked(wave)

    def _shut_share(self) -> float:
        """Share of the planned mail in lanes suspended by now; of those that report the reason, where only some do."""
        shut = {*self.facts.suspended, *self.suspensions}
        reasons = {stop.reason for stop in self.suspensions.values()}
        told = any(SIGNALS[name].exposure is Exposure.REPORTED for name in reasons if name in SIGNALS)
        return max(self._share_of(shut), self._share_of(shut, without=self.facts.mute) if told else 0.0)

    def _share_of(self, lanes: set[str], without: Collection[str] = ()) -> float:
        return share_of(lanes, [wave.planned for wave in self.facts.waves], self.facts.lanes, without=without)

    def _in_the_way(self, wave: WaveFacts) -> list[Verdict]:
        """Verdicts that keep a wave from being cleared; not those of, or because of, lanes on `PROBE` from now on."""
        told = [v for v in self._telling if v.cell.wave in {0, wave.number} and v not in self._probed]
        for name, number, _ in (cell for cell in self._board.cells() if cell[1:] == (wave.number, "")):
            if self.facts.gates.signals[name].mode is Mode.ENFORCE:
                verdict = self._verdict(name, number, "")
                told += [verdict] if verdict not in told else []
        told += [feed for feed in self.feeds if feed.cell.wave == wave.number]
        return [v for v in told if v.decision is not Decision.PASS and not self._passes(v)]

    def _passes(self, verdict: Verdict) -> bool:
        """Whether a verdict over all lanes is that of lanes on `PROBE` alone."""
        cell = verdict.cell
        whole = cell.signal in self._board.names and not cell.provider and self._others is not self._board
        return whole and self._judge(self._others, cell.signal, cell.wave, "").decision is Decision.PASS

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
        doubts = [v for wave in self.active if self._late(wave) for v in self._in_the_way(wave)]
        return [v for v in doubts if v.decision is Decision.HOLD and not v.early]
