"""One simulated campaign, tick by tick, told in the words of `sendwave gates replay` and steered by its answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np

from gates.worlds import LANES, LIMITS, World
from sendwave.rules.maturity import CURVES
from sendwave.rules.signals import SIGNALS

TICK: Final = 120
PACE: Final = 10_000
"""Mails a minute in a campaign of a million; others take as long."""

PATIENCE: Final = 3 * 3_600
HORIZON: Final = 26 * 3_600
"""Seconds watched after the last mail; a campaign that waits longer than its longest soak waits for a person."""

CALM: Final = 2 * 3_600
"""Seconds without mail after which a look every sixteen minutes is enough."""


class Rule(Protocol):
    """A rule that is looked at every tick and answers with actions."""

    def look(self, tick: dict[str, Any]) -> list[dict[str, Any]]: ...


@dataclass
class Outcome:
    """What became of one campaign."""

    halted: bool = False
    suspended: set[str] = field(default_factory=set)
    sent: int = 0
    bad_sent: int = 0
    bad_planned: int = 0
    minutes: float = 0.0  # from the first mail to the last
    through: bool = False  # everything not suspended has left
    illegal: int = 0

    def caught(self, bad_lanes: set[str], kind: str) -> bool:
        """Halted, its bad lane suspended, or stopped before the bad mail was out and left to a person."""
        if kind == "lane":
            return bool(bad_lanes & self.suspended)
        return self.halted or not self.through

    @property
    def stopped(self) -> bool:
        return self.halted or bool(self.suspended)


def plan(world: World) -> list[dict[str, int]]:
    """People by lane of each wave; the pilot of the last one is a wave before it."""
    shares = list(world.ramp)
    if world.pilot:
        shares[-1:] = [shares[-1] * world.pilot, shares[-1] * (1 - world.pilot)]
    return [{lane: max(1, int(world.size * part * share)) for lane, (share, _) in LANES.items()} for part in shares]


def hello(world: World, waves: list[dict[str, int]]) -> dict[str, Any]:
    """The first line of the protocol."""
    curves = {name: [list(p) for p in CURVES[SIGNALS[name].curve].points] for name in LIMITS}
    return {
        "type": "hello", "v": 1, "run": world.name, "tick_s": TICK,
        "campaign": {"id": "c1", "n": world.size, "pace_per_min": max(1, world.size * PACE // 1_000_000),
                     "waves": [{"wave": n, "tier": f"t{n}", "planned": p} for n, p in enumerate(waves, 1)]},
        "lanes": {lane: {"fbl": tells} for lane, (_, tells) in LANES.items()},
        "policy": {**{name: {"threshold": limit, "halts": True} for name, limit in LIMITS.items()},
                   "unsubscribe": {"threshold": 0.01, "halts": False}},
        "alpha": 0.01, "beta": 0.1, "soak_max_min": 1440, "delay_curves": curves,
    }  # fmt: skip


class Campaign:
    """A campaign in one world."""

    def __init__(self, world: World, rule: Callable[[dict[str, Any]], Rule], draw: np.random.Generator) -> None:
        self.world, self.draw = world, draw
        self.waves = plan(world)
        self.left = [dict(wave) for wave in self.waves]
        self.rule = rule(hello(world, self.waves))
        self.lanes, self.factor = dict.fromkeys(LANES, "active"), dict.fromkeys(LANES, 1.0)
        self.current, self.paused, self.clock = 1, False, 0
        self.due: dict[int, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        self.out: tuple[int, int] | None = None
        self.first_sent: dict[int, int] = {}
        self.last_sent = 0
        self.outcome = Outcome(bad_planned=self._bad_planned())

    def play(self) -> Outcome:
        """The campaign to its end, its halt, or its standstill."""
        while not self.outcome.halted:
            waited = self.clock - self.last_sent
            if waited > (PATIENCE if self._done() and self.current == len(self.waves) else HORIZON):
                break
            self.clock += TICK if waited < CALM else 8 * TICK
            tick = self._tick()
            for act in self.rule.look(tick):
                self._obey(act)
        told = self.outcome
        told.minutes = self.last_sent / 60
        told.through = self.current == len(self.waves) and self._done()
        return told

    def _tier(self, wave: int) -> int:
        """The tier of a wave: a pilot is of the tier that follows it."""
        return wave if not self.world.pilot or wave < len(self.waves) - 1 else len(self.waves) - 1

    def _bad_planned(self) -> int:
        found = 0.0
        for wave, people in enumerate(self.waves, 1):
            for lane, n in people.items():
                found += n * float(np.mean([self.world.bad(self._tier(wave), lane, p / 40) for p in range(40)]))
        return int(found)

    def _done(self) -> bool:
        return not any(self.left[self.current - 1][lane] for lane in LANES if self.lanes[lane] == "active")

    def _tick(self) -> dict[str, Any]:
        tick: dict[str, Any] = {"type": "tick", "t": self.clock, "sent": [], "delivered": [], "events": [],
                                "events_agg": []}  # fmt: skip
        left = self.left[self.current - 1]
        active = [lane for lane in LANES if self.lanes[lane] == "active" and left[lane]]
        if active and not self.paused:
            self._send(tick, active)
        silent = self.out is not None and self.out[0] <= self.clock < self.out[1]
        for slot in [slot for slot in self.due if slot <= self.clock]:
            for kind, row in self.due.pop(slot):
                if silent and self.out:
                    self.due[-(-self.out[1] // TICK) * TICK].append((kind, row))
                else:
                    tick[kind].append(row)
        tick["state"] = {"campaign": "running", "wave": self.current, "wave_done": self._done(),
                         "remaining": sum(left.values()), "lanes": dict(self.lanes)}  # fmt: skip
        return tick

    def _send(self, tick: dict[str, Any], active: list[str]) -> None:
        wave, left = self.current, self.left[self.current - 1]
        whole, people = sum(left[lane] for lane in active), sum(self.waves[wave - 1].values())
        part, quota = 1 - sum(left.values()) / people, self.world.size * PACE * TICK / 60 / 1_000_000
        at = self.clock - TICK
        for lane in active:
            n = min(left[lane], max(1, int(quota * self.factor[lane] * left[lane] / whole)))
            left[lane] -= n
            self.outcome.sent += n
            if self.world.bad(self._tier(wave), lane, part):
                self.outcome.bad_sent += n
                if self.world.outage and self.out is None:
                    self.out = (self.clock, self.clock + int(self.world.outage * 60))
            self._batch(tick, wave, lane, at, n, part)
        self.last_sent = self.clock

    def _batch(self, tick: dict[str, Any], wave: int, lane: str, at: int, n: int, part: float) -> None:  # noqa: PLR0917
        """Hand a batch over, and draw what comes back of it and when."""
        name = f"{wave}.{lane}.{at}"
        tick["sent"].append({"wave": wave, "lane": lane, "batch": name, "t": at, "n": n})
        lost = 0
        for signal, limit in LIMITS.items():
            if signal == "complaint" and not LANES[lane][1]:
                continue
            ratio = self.world.rate(signal, self._tier(wave), lane, part)
            if self.world.burst:
                ratio *= float(self.draw.gamma(1 / self.world.burst**2, self.world.burst**2))
            events = int(self.draw.binomial(n, min(1.0, ratio * limit)))
            lost += events if signal == "hard_bounce" else 0
            if events:
                self._events(signal, wave, lane, name, at, events)
        given = int(self.draw.binomial(n - lost, 0.995))
        row = {"wave": wave, "lane": lane}
        for slot, count in self._slots("delivered", at, given):
            self.due[slot].append(("delivered", {**row, "n": count}))

    def _events(self, signal: str, wave: int, lane: str, name: str, at: int, n: int) -> None:  # noqa: PLR0917
        row = {"type": signal, "lane": lane, "wave": wave, "batch": name}
        if not self.world.single:
            for slot, count in self._slots(signal, at, n):
                self.due[slot].append(("events_agg", {**row, "n": count}))
            return
        happened = at + 60 * self._delays(signal, n)
        slots = np.maximum(np.ceil(happened / TICK), self.clock // TICK).astype(int) * TICK
        for index, (slot, when) in enumerate(zip(slots.tolist(), happened.tolist(), strict=True)):
            event = {**row, "id": f"{name}.{signal}.{index}", "msg": f"{name}.{signal}.{index}", "t": round(when, 1),
                     "sent_t": at}  # fmt: skip
            self.due[slot].append(("events", event))
            if self.draw.random() < 0.03:
                later = slot + TICK * int(self.draw.integers(0, 60))
                self.due[later].append(("events", {**event, "id": f"{event['id']}.again"}))

    def _slots(self, signal: str, at: int, n: int) -> list[tuple[int, int]]:
        """(tick, count) of so many events."""
        if n > 4_000:
            edges = np.arange(self.clock, self.clock + 14 * 24 * 3_600, TICK)
            shares = np.diff(CURVES[SIGNALS[signal].curve].raw((edges - at) / 60 * self.world.speed), prepend=0.0)
            chosen = shares > 0
            counts = self.draw.multinomial(n, shares[chosen] / shares[chosen].sum())
            return [(int(s), int(c)) for s, c in zip(edges[chosen], counts, strict=True) if c]
        happened = at + 60 * self._delays(signal, n)
        slots, counts = np.unique(np.maximum(np.ceil(happened / TICK), self.clock // TICK), return_counts=True)
        return [(int(s) * TICK, int(c)) for s, c in zip(slots, counts, strict=True)]

    def _delays(self, signal: str, n: int) -> np.ndarray:
        """Minutes until so many events are told, drawn from the curve of their signal."""
        ages, shares = zip((0.0, 0.0), *CURVES[SIGNALS[signal].curve].points, strict=True)
        return np.expm1(np.interp(self.draw.random(n), shares, np.log1p(ages))) / self.world.speed

    def _obey(self, act: Mapping[str, Any]) -> None:
        match act["do"]:
            case "halt_campaign":
                self.outcome.halted = True
            case "suspend_lane":
                self.lanes[act["lane"]] = "suspended"
                self.outcome.suspended.add(act["lane"])
            case "throttle_lane":
                self.factor[act["lane"]] = act["factor"]
            case "pause_wave" | "resume_wave":
                self.paused = act["do"] == "pause_wave"
            case "release_wave" if act["wave"] == 1:
                pass
            case "release_wave" if act["wave"] == self.current + 1 and self._done():
                self.current += 1
            case _:
                self.outcome.illegal += 1
