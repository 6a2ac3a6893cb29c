"""A recorded or simulated campaign judged by the gates: messages in, the decisions of `rules/rulings.py` out.

The other side owns time and says what was sent and what came back; nothing here decides anything by itself. What one
message must look like is said in docs/guides/gates.md.

The `history` of a `hello` is not used. Past rates may not speak against a campaign: a bar of 200 would hold no longer.
As one more bet on a rate below the limit they open waves sooner by 3 % where they are true and later by 5 % where the
campaign is twice as bad as they say (healthy millions, simulated): not worth a second way to compute a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, Final

from sendwave.rules.facts import Facts, WaveFacts
from sendwave.rules.gates import GateSet, Mode, Rule
from sendwave.rules.lifecycle import Wave
from sendwave.rules.maturity import CURVES, Curve, Tempo
from sendwave.rules.recording import Told, count, seconds
from sendwave.rules.rulings import INCONCLUSIVE, PROBE, Ruling
from sendwave.rules.waves import WavePlan

START: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""The campaign's start in virtual time: the other side counts seconds from here."""

SOAK: Final = timedelta(minutes=20)
"""Least wait between two waves: after it, evidence that the wave is good opens the next one."""

STEP: Final = timedelta(minutes=10)
"""How long a lane that a person reopened keeps its pace before it grows."""

RESUMING: Final = ("resume_campaign", "resume_lane")
"""Overrides after which mail leaves that had been stopped."""

OVER: Final = ("halted", "done", "completed", "cancelled")
"""States of a campaign in which there is nothing left to decide."""

BURSTY: Final = {"deferral": timedelta(minutes=10), "block": timedelta(minutes=10)}
"""Signals that come in bursts, and how long such a burst lasts."""


def curve_of(points: Iterable[Iterable[float]]) -> Curve:
    """A curve from (minutes, share) points that may go down or end early: never falling, and 1 at the last.

    Raises TypeError or ValueError for what is no list of pairs of numbers.
    """
    told = sorted((max(float(minutes), 0.01), min(max(float(share), 0.0), 1.0)) for minutes, share in points)
    if not all(isfinite(minutes + share) for minutes, share in told):
        raise ValueError("a delay curve is made of numbers")
    rising: dict[float, float] = {}
    for minutes, share in told:
        rising[minutes] = max([share, *rising.values()])
    last = max(rising, default=1.0)
    return Curve((*((m, s) for m, s in rising.items() if m != last), (last, 1.0)))


def curves_of(told: Any) -> dict[str, Curve]:
    """The curves a `hello` tells, by signal. One that is missing, empty or no curve is left to the shipped one."""
    found: dict[str, Curve] = {}
    for name, points in told.items() if isinstance(told, Mapping) else ():
        with suppress(TypeError, ValueError):
            found.update({str(name): curve_of(points)} if points else {})
    return found


def gates_of(policy: Mapping[str, Mapping[str, Any]], *, alpha: float, beta: float, tick: timedelta) -> GateSet:
    """A limit and whether it halts, per signal, as gates; a feed is silent after a tick without answers.

    Raises ValueError for a limit that is no share.
    """
    signals = {}
    for name, told in policy.items():
        limit, halts = _share(name, told.get("threshold")), bool(told.get("halts", True))
        minutes = told.get("persist_min")
        persist = BURSTY.get(name) if minutes is None else timedelta(minutes=float(minutes)) or None
        signals[name] = {
            "halt" if halts else "hold": limit,
            "rule": Rule.EVIDENCE,
            "mode": Mode.ENFORCE if halts else Mode.OBSERVE,
            "confidence": Decimal(str(1 - alpha)),
            "clearing": Decimal(str(beta)),
            "confirm": halts,
            "persist": persist if halts else None,
        }
    return GateSet.model_validate({"signals": signals, "blind_after": max(tick, timedelta(minutes=2))})


def _share(name: str, told: Any) -> Decimal:
    try:
        limit = Decimal(str(told))
    except InvalidOperation:
        limit = Decimal(-1)
    if not 0 <= limit <= 1:
        raise ValueError(f"policy {name}: the threshold is a share from 0 to 1, not {told}")
    return limit


@dataclass(frozen=True, slots=True)
class State:
    """What the other side says of its campaign: the wave it is at (0: none yet) and whether all of it has left."""

    campaign: str = "running"
    wave: int = 0
    done: bool = False
    lanes: Mapping[str, str] = field(default_factory=dict)

    def after(self, told: Any) -> State:
        """The state after a tick: what it leaves out, or tells in a form nobody can read, stays as it was."""
        known = told if isinstance(told, Mapping) else {}
        wave, lanes, done = self.wave, known.get("lanes"), known.get("wave_done")
        with suppress(TypeError, ValueError, OverflowError):
            wave = count(known.get("wave"))
        return State(
            str(known.get("campaign") or self.campaign),
            wave,
            bool(done) if done is not None else self.done and wave == self.wave,
            {str(lane): str(status) for lane, status in lanes.items()} if isinstance(lanes, Mapping) else self.lanes,
        )


@dataclass
class Replay:
    """One campaign, as the messages told it so far."""

    gates: GateSet
    planned: Mapping[int, Mapping[str, int]]  # people by wave and lane
    lanes: Mapping[str, bool]  # does it report complaints
    soak_max: timedelta
    told: Told
    curves: Mapping[str, Curve] = field(default_factory=dict)
    paused: bool = False
    halted: bool = False
    silent: bool = False
    released: int = 0
    alarmed: datetime | None = None
    state: State = field(default_factory=State)
    _overruled: datetime = START - timedelta(days=1)
    _done: dict[int, datetime] = field(default_factory=dict)
    _armed: dict[str, float] = field(default_factory=dict)  # lane -> only mail sent later is judged
    _suspended: dict[str, datetime | None] = field(default_factory=dict)
    _slowed: set[str] = field(default_factory=set)
    _probed: dict[str, datetime] = field(default_factory=dict)
    _resumed: dict[str, tuple[datetime, float]] = field(default_factory=dict)  # lane -> its last step, its pace
    _tempos: dict[str, Tempo] = field(default_factory=dict)

    @classmethod
    def of(cls, hello: Mapping[str, Any]) -> Replay:
        """A replay of the campaign a `hello` describes. Raises ValueError, KeyError or TypeError for nonsense."""
        tick = min(max(float(hello.get("tick_s") or 300), 1.0), 3600.0)
        planned = {int(w["wave"]): _people(w.get("planned")) for w in hello["campaign"]["waves"]}
        curves, lanes = {**CURVES, **curves_of(hello.get("delay_curves"))}, hello["lanes"]
        alpha, beta = float(hello.get("alpha") or 0.01), float(hello.get("beta") or 0.1)
        return cls(
            gates=gates_of(hello["policy"], alpha=alpha, beta=beta, tick=timedelta(seconds=tick)),
            planned=planned,
            lanes={str(lane): _tells(lanes[lane] if isinstance(lanes, Mapping) else None) for lane in lanes},
            soak_max=max(SOAK, timedelta(minutes=float(hello.get("soak_max_min") or 1440))),
            told=Told({w: sum(p.values()) for w, p in planned.items()}, tick, curves),
            curves=curves,
        )

    @property
    def now(self) -> datetime:
        """Virtual time. A clock that steps back stands still."""
        return START + timedelta(seconds=self.told.clock)

    def begin(self) -> list[dict[str, Any]]:
        """What opens the campaign: its first wave."""
        return self._release(min(self.planned)) if self.planned else []

    def hear(self, tick: Mapping[str, Any]) -> None:
        """Book what was sent and what came back. Raises KeyError, TypeError or ValueError for a tick without a time."""
        self.told.hear(tick, silent=self.silent)
        self.state = self.state.after(tick.get("state"))
        self._follow()

    def overrule(self, told: Mapping[str, Any]) -> None:
        """A person decided otherwise: only what is sent from now on is judged."""
        self.told.clock = max(self.told.clock, seconds(told.get("t") or 0.0))
        lane = told.get("lane") or None if told.get("do") == "resume_lane" else None
        for name in [str(lane)] if lane is not None else [*self.lanes, *self.told.lanes]:
            self._armed[name] = self.told.clock
            self._suspended.pop(name, None)
            if name in self.lanes and told.get("do") in RESUMING:
                self._slowed.discard(name)
                self._resumed[name] = (self.now, 0.0)
        if told.get("do") == "release_wave" and told.get("wave") in self.planned:
            self.released = max(self.released, int(told["wave"]))
        self._overruled = self.now
        if lane is None:
            self.halted, self.alarmed = False, None

    def decide(self) -> tuple[list[dict[str, Any]], Ruling]:
        """The actions that follow, in order, and the ruling they follow from."""
        if not self.silent:
            self._tempos = self.told.tempos()
        ruling = Ruling(self._facts(), self.now)
        if self.state.campaign in OVER or self.halted:
            return [], ruling
        if ruling.halt is not None and ruling.halt.reason != INCONCLUSIVE:
            self.halted = True
            return [{"do": "halt_campaign", "reason": ruling.halt.verdict.sentence}], ruling
        paced = [*self._pace_lanes(ruling), *self._grow(ruling)]
        return [*paced, *self._hold(ruling), *self._open(ruling)], ruling

    def _grow(self, ruling: Ruling) -> list[dict[str, Any]]:
        """Resume by ramp: a lane a person reopened begins at `PROBE`, twice the pace every `STEP` without an alarm."""
        actions: list[dict[str, Any]] = []
        for lane in [*self._resumed]:
            since, pace = self._resumed[lane]
            if lane in self._suspended or lane in self._slowed:
                del self._resumed[lane]  # judged afresh, and stopped or slowed once more
            elif not pace or (ruling.alarm is None and ruling.blind is None and self.now - since >= STEP):
                pace = min(2 * pace, 1.0) or PROBE
                self._resumed[lane] = (self.now, pace)
                actions.append({"do": "throttle_lane", "lane": lane, "factor": pace})
                if pace >= 1:
                    del self._resumed[lane]
        return actions

    def _pace_lanes(self, ruling: Ruling) -> list[dict[str, Any]]:
        actions: list[dict[str, Any]] = []
        for lane in (name for name, stop in ruling.suspensions.items() if stop.reason != INCONCLUSIVE):
            if lane in self.lanes:
                self._suspended[lane] = self.now
                self._slowed.discard(lane)
                actions.append({"do": "suspend_lane", "lane": lane})
        for lane in sorted(self.lanes.keys() & ruling.slow.keys()):
            self._slowed.add(lane)
            self._probed[lane] = self.now
            actions.append({"do": "throttle_lane", "lane": lane, "factor": PROBE})
        for lane in ruling.restored:
            self._slowed.discard(lane)
            actions.append({"do": "throttle_lane", "lane": lane, "factor": 1.0})
        return actions

    def _hold(self, ruling: Ruling) -> list[dict[str, Any]]:
        self.alarmed = None if ruling.alarm is None else self.alarmed or self.now
        self.silent = ruling.blind is not None
        waits = self.silent or ruling.alarm is not None
        if waits and not self.paused and not self.state.done:
            self.paused = True
            return [{"do": "pause_wave"}]
        if self.paused and not waits:
            self.paused = False
            return [{"do": "resume_wave"}]
        return []

    def _open(self, ruling: Ruling) -> list[dict[str, Any]]:
        """The next wave, where the one before is done and clear. A wave of lanes all suspended is followed at once."""
        if not self.released:
            return self.begin()
        later = [wave for wave in sorted(self.planned) if wave > self.released]
        here = self.state.done and self.state.wave == self.released
        here = here and self.now > self._overruled  # a state of that very moment may be older than what a person did
        ready = here and self.released in ruling.cleared and ruling.alarm is None
        return self._release(later[0]) if later and ready else []

    def _release(self, wave: int) -> list[dict[str, Any]]:
        self.released = wave
        return [{"do": "release_wave", "wave": wave}]

    def _follow(self) -> None:
        """Take over what the other side says of its lanes and its wave."""
        for lane, status in self.state.lanes.items():
            since = self._suspended.setdefault(lane, None)
            fresh = since is not None and self.now - since < 2 * timedelta(seconds=self.told.tick)
            if status != "suspended" and not fresh:  # what was asked for may take a tick to show
                del self._suspended[lane]
        wave = self.state.wave
        self.released = max(self.released, wave)
        if not self.state.done:
            self._done.pop(wave, None)
        elif wave not in self._done:
            self._done[wave] = START + timedelta(seconds=self.told.last(wave))

    def _facts(self) -> Facts:
        return Facts(
            gates=self.gates,
            plan=WavePlan.model_validate({"ramp": (Decimal(1),), "soak": SOAK, "soak_max": self.soak_max}),
            waves=[self._wave(number, self.state.wave) for number in sorted(self.planned)],
            lanes=list(self.lanes),
            suspended=self._suspended,
            mail=self.told.sheet(START, self._armed),
            waiting=(),
            mute={lane for lane, tells in self.lanes.items() if not tells},
            reports_delivery=True,
            alarmed=self.alarmed,
            slowed=self._slowed,
            probed=self._probed,
            curves=self.curves,
            tempos=self._tempos,
            silent=self.silent,
        )

    def _wave(self, number: int, current: int) -> WaveFacts:
        status = Wave.CLEARED if number < current else Wave.WAITING
        if number == current:
            status = Wave.SOAKING if number in self._done else Wave.SENDING
        return WaveFacts(number, status, self._done.get(number), self.planned[number])


def _people(told: Any) -> dict[str, int]:
    """People by lane of one wave; none where nothing readable is said."""
    return {str(lane): count(n) for lane, n in told.items()} if isinstance(told, Mapping) else {}


def _tells(told: Any) -> bool:
    """Whether a lane's provider reports complaints: yes, where nothing is said."""
    return bool(told.get("fbl", True)) if isinstance(told, Mapping) else True
