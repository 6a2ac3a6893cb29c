"""A recorded or simulated campaign judged by the gates: messages in, the decisions of `rules/rulings.py` out.

The other side owns time and says what was sent and what came back; nothing here decides anything by itself. What one
message must look like is said in docs/guides/gates.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sendwave.rules.cells import Handed, gather
from sendwave.rules.gates import GateSet, Mode, Rule
from sendwave.rules.lifecycle import Wave
from sendwave.rules.maturity import CURVES, Curve
from sendwave.rules.rulings import INCONCLUSIVE, PROBE, Facts, Ruling, WaveFacts
from sendwave.rules.signals import SIGNALS
from sendwave.rules.waves import WavePlan

START: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""The campaign's start in virtual time: the other side counts seconds from here."""

SOAK: Final = timedelta(minutes=20)
"""Least wait between two waves: after it, evidence that the wave is good opens the next one."""

BURSTY: Final = {"deferral": timedelta(minutes=10), "block": timedelta(minutes=10)}
"""Signals that come in bursts, and how long such a burst lasts."""

_ANSWERED: Final = 0.9
"""Deliveries come as sums per lane: the oldest batches are taken as answered when so much of them is."""


def curve_of(points: Iterable[Iterable[float]]) -> Curve:
    """A curve from (minutes, share) points that may go down or end early: never falling, and 1 at the last."""
    told = sorted((max(float(minutes), 0.01), min(max(float(share), 0.0), 1.0)) for minutes, share in points)
    rising: dict[float, float] = {}
    for minutes, share in told:
        rising[minutes] = max([share, *rising.values()])
    last = max(rising, default=1.0)
    return Curve((*((m, s) for m, s in rising.items() if m != last), (last, 1.0)))


def gates_of(policy: Mapping[str, Mapping[str, Any]], alpha: float) -> GateSet:
    """A limit and whether it halts, per signal, as gates. Raises ValueError for a limit that is no share."""
    signals = {}
    for name, told in policy.items():
        limit, halts = Decimal(str(told.get("threshold"))), bool(told.get("halts", True))
        if not 0 <= limit <= 1:
            raise ValueError(f"policy {name}: the threshold is a share from 0 to 1, not {told.get('threshold')}")
        minutes = told.get("persist_min")
        persist = BURSTY.get(name) if minutes is None else timedelta(minutes=float(minutes)) or None
        signals[name] = {
            "halt" if halts else "hold": limit,
            "rule": Rule.EVIDENCE,
            "mode": Mode.ENFORCE if halts else Mode.OBSERVE,
            "confidence": Decimal(str(1 - alpha)),
            "persist": persist if halts else None,
        }
    return GateSet.model_validate({"signals": signals, "blind_after": timedelta(minutes=10)})


@dataclass
class _Batch:
    """Messages sent together, and the events of each type counted for them."""

    wave: int
    lane: str
    at: float  # seconds since the start
    sent: int = 0
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass
class Replay:
    """One campaign. `rest` of the fields is what the messages told so far."""

    gates: GateSet
    planned: Mapping[int, Mapping[str, int]]  # people by wave and lane
    lanes: Mapping[str, bool]  # does it report complaints
    soak_max: timedelta
    curves: Mapping[str, Curve] = field(default_factory=dict)
    clock: float = 0.0
    paused: bool = False
    halted: bool = False
    released: int = 0
    alarmed: datetime | None = None
    _batches: dict[str, _Batch] = field(default_factory=dict)
    _seen: set[tuple[str, str]] = field(default_factory=set)
    _delivered: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    _done: dict[int, datetime] = field(default_factory=dict)
    _armed: dict[str, float] = field(default_factory=dict)  # lane -> only mail sent later is judged
    _suspended: dict[str, datetime | None] = field(default_factory=dict)
    _slowed: set[str] = field(default_factory=set)
    _probed: dict[str, datetime] = field(default_factory=dict)

    @classmethod
    def of(cls, hello: Mapping[str, Any]) -> Replay:
        """A replay of the campaign a `hello` describes. Raises ValueError, KeyError or TypeError for nonsense."""
        curves = {name: curve_of(points) for name, points in (hello.get("delay_curves") or {}).items() if points}
        return cls(
            gates=gates_of(hello["policy"], float(hello.get("alpha", 0.01))),
            planned={int(w["wave"]): dict(w.get("planned") or {}) for w in hello["campaign"]["waves"]},
            lanes={lane: bool(told.get("fbl", True)) for lane, told in hello["lanes"].items()},
            soak_max=max(SOAK, timedelta(minutes=float(hello.get("soak_max_min", 1440)))),
            curves={**CURVES, **curves},
        )

    @property
    def now(self) -> datetime:
        """Virtual time. A clock that steps back stands still."""
        return START + timedelta(seconds=self.clock)

    def begin(self) -> list[dict[str, Any]]:
        """What opens the campaign: its first wave."""
        return self._release(min(self.planned)) if self.planned else []

    def hear(self, tick: Mapping[str, Any]) -> None:
        """Book what was sent and what came back. Events count once per message and type, to the batch that sent it."""
        self.clock = max(self.clock, float(tick["t"]))
        for sent in tick.get("sent") or ():
            batch = self._batch(sent, float(sent["t"]))
            batch.wave, batch.lane, batch.at = int(sent["wave"]), str(sent["lane"]), float(sent["t"])
            batch.sent += max(0, int(sent["n"]))
        for told in tick.get("delivered") or ():
            self._delivered[int(told["wave"]), str(told["lane"])] += max(0, int(told["n"]))
        for event in tick.get("events") or ():
            key = (str(event.get("msg") or event.get("id")), str(event["type"]))
            if key not in self._seen:
                self._seen.add(key)
                self._batch(event, float(event.get("sent_t", event.get("t", self.clock)))).counts[key[1]] += 1
        for told in tick.get("events_agg") or ():
            self._batch(told, self.clock).counts[str(told["type"])] += max(0, int(told["n"]))
        self._follow(tick.get("state") or {})

    def overrule(self, told: Mapping[str, Any]) -> None:
        """A person decided otherwise: only what is sent from now on is judged."""
        self.clock = max(self.clock, float(told.get("t", self.clock)))
        lane = told.get("lane") if told.get("do") == "resume_lane" else None
        for name in [str(lane)] if lane is not None else [*self.lanes, *{b.lane for b in self._batches.values()}]:
            self._armed[name] = self.clock
            self._suspended.pop(name, None)
        if told.get("do") == "release_wave":
            self.released = max(self.released, int(told.get("wave") or 0))
        if lane is None:
            self.halted, self.alarmed = False, None

    def decide(self, state: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Ruling]:
        """The actions that follow, in order, and the ruling they follow from."""
        ruling = Ruling(self._facts(state), self.now)
        if state.get("campaign") in {"halted", "done", "cancelled"} or self.halted:
            return [], ruling
        if ruling.halt is not None and ruling.halt.reason != INCONCLUSIVE:
            self.halted = True
            return [{"do": "halt_campaign", "reason": ruling.halt.verdict.sentence}], ruling
        return [*self._pace_lanes(ruling), *self._hold(ruling, state), *self._open(ruling)], ruling

    def _pace_lanes(self, ruling: Ruling) -> list[dict[str, Any]]:
        actions: list[dict[str, Any]] = []
        for lane in (name for name, stop in ruling.suspensions.items() if stop.reason != INCONCLUSIVE):
            if lane in self.lanes:
                self._suspended[lane] = self.now
                actions.append({"do": "suspend_lane", "lane": lane})
        for lane in self.lanes.keys() & ruling.slow.keys():
            self._slowed.add(lane)
            self._probed[lane] = self.now
            actions.append({"do": "throttle_lane", "lane": lane, "factor": PROBE})
        for lane in ruling.restored:
            self._slowed.discard(lane)
            actions.append({"do": "throttle_lane", "lane": lane, "factor": 1.0})
        return actions

    def _hold(self, ruling: Ruling, state: Mapping[str, Any]) -> list[dict[str, Any]]:
        self.alarmed = None if ruling.alarm is None else self.alarmed or self.now
        waits = ruling.blind is not None or ruling.alarm is not None
        if waits and not self.paused and not state.get("wave_done"):
            self.paused = True
            return [{"do": "pause_wave"}]
        if self.paused and not waits:
            self.paused = False
            return [{"do": "resume_wave"}]
        return []

    def _open(self, ruling: Ruling) -> list[dict[str, Any]]:
        if not self.released:
            return self.begin()
        later = [wave for wave in sorted(self.planned) if wave > self.released]
        return self._release(later[0]) if later and self.released in ruling.cleared and ruling.alarm is None else []

    def _release(self, wave: int) -> list[dict[str, Any]]:
        self.released = wave
        return [{"do": "release_wave", "wave": wave}]

    def _batch(self, told: Mapping[str, Any], at: float) -> _Batch:
        """The batch of that name; of an event that came before its batch, one that has sent nothing yet."""
        wave, lane = int(told.get("wave") or max(self.released, 1)), str(told.get("lane"))
        name = str(told.get("batch") or f"{wave}.{lane}.{at}")
        return self._batches.setdefault(name, _Batch(wave, lane, at))

    def _follow(self, state: Mapping[str, Any]) -> None:
        """Take over what the other side says of its lanes and its wave."""
        for lane, status in (state.get("lanes") or {}).items():
            if status != "suspended":
                self._suspended.pop(lane, None)
            else:
                self._suspended.setdefault(lane, None)
        wave = int(state.get("wave") or 0)
        self.released = max(self.released, wave)
        if not state.get("wave_done"):
            self._done.pop(wave, None)
        elif wave not in self._done:
            last = max((b.at for b in self._batches.values() if b.wave == wave and b.sent), default=self.clock)
            self._done[wave] = START + timedelta(seconds=last)

    def _facts(self, state: Mapping[str, Any]) -> Facts:
        current = int(state.get("wave") or 0)
        return Facts(
            gates=self.gates,
            plan=WavePlan.model_validate({"ramp": (Decimal(1),), "soak": SOAK, "soak_max": self.soak_max}),
            waves=[self._wave(number, current) for number in sorted(self.planned)],
            lanes=list(self.lanes),
            suspended=self._suspended,
            mail=gather(self._handed(), self.now, {w: sum(p.values()) for w, p in self.planned.items()}),
            waiting=(),
            mute={lane for lane, tells in self.lanes.items() if not tells},
            reports_delivery=True,
            alarmed=self.alarmed,
            slowed=self._slowed,
            probed=self._probed,
            curves=self.curves,
        )

    def _wave(self, number: int, current: int) -> WaveFacts:
        status = Wave.CLEARED if number < current else Wave.WAITING
        if number == current:
            status = Wave.SOAKING if number in self._done else Wave.SENDING
        return WaveFacts(number, status, self._done.get(number), self.planned[number])

    def _handed(self) -> list[Handed]:
        left = dict(self._delivered)
        told = []
        for batch in sorted(self._batches.values(), key=lambda b: b.at):
            if batch.at <= self._armed.get(batch.lane, -1.0):
                continue
            key = (batch.wave, batch.lane)
            answered = min(int(_ANSWERED * batch.sent), left.get(key, 0))
            left[key] = left.get(key, 0) - answered
            tallies = {SIGNALS[name].tallies[0]: n for name, n in batch.counts.items() if name in SIGNALS}
            tallies[SIGNALS["delivered"].tallies[0]] = answered
            at = START + timedelta(seconds=batch.at)
            told.append(Handed(batch.wave, batch.lane, at, batch.sent, 0, 0, {str(k): n for k, n in tallies.items()}))
        return told
