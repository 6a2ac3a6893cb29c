"""One simulated campaign, tick by tick, told in the words of `sendwave gates replay` and steered by its answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np

from gates.worlds import LIMITS, World, good
from sendwave.rules.maturity import CURVES
from sendwave.rules.signals import SIGNALS

PATIENCE: Final = 3 * 3_600
HORIZON: Final = 26 * 3_600
"""Seconds watched after the last mail; a campaign that waits longer than its longest soak waits for a person."""

CALM: Final = 2 * 3_600
"""Seconds without mail after which a look every sixteen minutes is enough."""


class Rule(Protocol):
    """A rule that is looked at every tick and answers with actions."""

    def look(self, tick: dict[str, Any]) -> list[dict[str, Any]]: ...

    def overrule(self, told: dict[str, Any]) -> None: ...


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
    again: bool = False  # stopped once more after a person had resumed it
    bad_again: int = 0  # bad mail sent after that

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
    return [
        {lane: max(1, int(world.size * part * share)) for lane, (share, _) in world.lanes.items()} for part in shares
    ]


def hello(world: World, waves: list[dict[str, int]]) -> dict[str, Any]:
    """The first line of the protocol."""
    curves = {name: [list(p) for p in CURVES[SIGNALS[name].curve].points] for name in LIMITS}
    return {
        "type": "hello", "v": 1, "run": world.name, "tick_s": world.tick,
        "campaign": {"id": "c1", "n": world.size, "pace_per_min": max(1, int(world.size / world.hours / 60)),
                     "waves": [{"wave": n, "tier": f"t{n}", "planned": p} for n, p in enumerate(waves, 1)]},
        "lanes": {lane: {"fbl": tells} for lane, (_, tells) in world.lanes.items()},
        "policy": {**{name: {"threshold": limit, "halts": True} for name, limit in LIMITS.items()},
                   "unsubscribe": {"threshold": 0.01, "halts": False}},
        "alpha": 0.01, "beta": 0.1, "soak_max_min": 1440, "delay_curves": curves,
    }  # fmt: skip


class Campaign:
    """A campaign in one world."""

    def __init__(self, world: World, rule: Callable[[dict[str, Any]], Rule], draw: np.random.Generator) -> None:
        self.world, self.draw, self.tick = world, draw, world.tick
        self.waves = plan(world)
        self.left = [dict(wave) for wave in self.waves]
        self.rule = rule(hello(world, self.waves))
        self.lanes, self.factor = dict.fromkeys(world.lanes, "active"), dict.fromkeys(world.lanes, 1.0)
        self.current, self.paused, self.clock = 1, False, 0
        self.due: dict[int, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        self.out: tuple[int, int] | None = None
        self.last_sent = 0
        self.resumed, self.stopped_at = False, None  # by a person; the first stop
        self.outcome = Outcome(bad_planned=self._bad_planned())

    def play(self) -> Outcome:
        """The campaign to its end, its halt, or its standstill; a person resumes once where the world has one."""
        while not self.outcome.halted or self._waits():
            waited = self.clock - max(self.last_sent, self.stopped_at or 0)
            if waited > (PATIENCE if self._done() and self.current == len(self.waves) else HORIZON):
                break
            self.clock += self.tick if waited < CALM else 8 * self.tick
            tick = self._tick()
            self._resume()
            for act in self.rule.look(tick):
                self._obey(act)
            late = bool(self.world.opened) and waited >= 60 * self.world.opened
            if late and self._done() and self.current < len(self.waves):
                self.current += 1
        told = self.outcome
        told.minutes = self.last_sent / 60
        told.through = self.current == len(self.waves) and self._done()
        return told

    def _waits(self) -> bool:
        """Whether a person is about to resume."""
        return bool(self.world.resumed) and not self.resumed and self.stopped_at is not None

    def _resume(self) -> None:
        """The person's turn, `resumed` minutes after the first stop."""
        if not self._waits() or self.clock < (self.stopped_at or 0) + 60 * self.world.resumed:
            return
        self.resumed = True
        lanes = [{"do": "resume_lane", "lane": lane} for lane in sorted(self.outcome.suspended)]
        for act in [{"do": "resume_campaign"}] if self.outcome.halted else lanes:
            self.rule.overrule({"type": "override", "t": self.clock, "by": "ops", **act})
        self.outcome.halted, self.lanes = False, dict.fromkeys(self.lanes, "active")

    def _is_bad(self, wave: int, lane: str, part: float) -> bool:
        mended = self.resumed and self.world.kind == "mended"
        return not mended and self.world.bad(self._tier(wave), lane, part)

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
        return not any(self.left[self.current - 1][lane] for lane in self.world.lanes if self.lanes[lane] == "active")

    def _tick(self) -> dict[str, Any]:
        tick: dict[str, Any] = {"type": "tick", "t": self.clock, "sent": [], "delivered": [], "events": [],
                                "events_agg": []}  # fmt: skip
        left = self.left[self.current - 1]
        active = [lane for lane in self.world.lanes if self.lanes[lane] == "active" and left[lane]]
        if active and not self.paused and not self.outcome.halted:
            self._send(tick, active)
        silent = self.out is not None and self.out[0] <= self.clock < self.out[1]
        for slot in [slot for slot in self.due if slot <= self.clock]:
            for kind, row in self.due.pop(slot):
                if silent and self.out:
                    self.due[-(-self.out[1] // self.tick) * self.tick].append((kind, row))
                else:
                    tick[kind].append(row)
        status = "halted" if self.outcome.halted else "running"
        tick["state"] = {"campaign": status, "wave": self.current, "wave_done": self._done(),
                         "remaining": sum(left.values()), "lanes": dict(self.lanes)}  # fmt: skip
        return tick

    def _send(self, tick: dict[str, Any], active: list[str]) -> None:
        wave, left = self.current, self.left[self.current - 1]
        whole, people = sum(left[lane] for lane in active), sum(self.waves[wave - 1].values())
        part, quota = 1 - sum(left.values()) / people, self.world.size * self.tick / 3_600 / self.world.hours
        at = self.clock - self.tick
        if self.world.silent and self.out is None and (wave, part) >= self.world.silent[:2]:
            self.out = self.clock, self.clock + int(self.world.silent[2] * 60)
        for lane in active:
            n = min(left[lane], max(1, int(quota * self.factor[lane] * left[lane] / whole)))
            left[lane] -= n
            self.outcome.sent += n
            if self._is_bad(wave, lane, part):
                self.outcome.bad_sent += n
                self.outcome.bad_again += n if self.resumed else 0
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
            if signal == "complaint" and not self.world.lanes[lane][1]:
                continue
            mended = self.resumed and self.world.kind == "mended"
            ratio = (good if mended else self.world.rate)(signal, self._tier(wave), lane, part)
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
        if not self.world.single or signal in self.world.summed:
            for slot, count in self._slots(signal, at, n):
                self.due[slot].append(("events_agg", {**row, "n": count}))
            return
        happened = at + 60 * self._delays(signal, n)
        slots = np.maximum(np.ceil(happened / self.tick), self.clock // self.tick).astype(int) * self.tick
        again = (self.draw.random(n) < 0.03).tolist()
        for index, (slot, when) in enumerate(zip(slots.tolist(), happened.round(1).tolist(), strict=True)):
            event = {**row, "id": f"{name}.{signal}.{index}", "msg": f"{name}.{signal}.{index}", "t": when,
                     "sent_t": at}  # fmt: skip
            self.due[slot].append(("events", event))
            if again[index]:
                later = slot + self.tick * int(self.draw.integers(0, 60))
                self.due[later].append(("events", {**event, "id": f"{event['id']}.again"}))

    def _slots(self, signal: str, at: int, n: int) -> list[tuple[int, int]]:
        """(tick, count) of so many events."""
        if n > 4_000:
            edges = np.arange(self.clock, self.clock + 14 * 24 * 3_600, self.tick)
            shares = np.diff(CURVES[SIGNALS[signal].curve].raw((edges - at) / 60 * self.world.speed), prepend=0.0)
            chosen = shares > 0
            counts = self.draw.multinomial(n, shares[chosen] / shares[chosen].sum())
            return [(int(s), int(c)) for s, c in zip(edges[chosen], counts, strict=True) if c]
        happened = at + 60 * self._delays(signal, n)
        slots, counts = np.unique(
            np.maximum(np.ceil(happened / self.tick), self.clock // self.tick), return_counts=True
        )
        return [(int(s) * self.tick, int(c)) for s, c in zip(slots, counts, strict=True)]

    def _delays(self, signal: str, n: int) -> np.ndarray:
        """Minutes until so many events are told, drawn from the curve of their signal."""
        ages, shares = zip((0.0, 0.0), *CURVES[SIGNALS[signal].curve].points, strict=True)
        found = np.expm1(np.interp(self.draw.random(n), shares, np.log1p(ages))) / self.world.speed
        if self.world.tail and signal != "delivered":
            late = self.draw.random(n) < self.world.tail
            found = np.where(late, self.draw.lognormal(np.log(1_440), 1.0, n), found)
        return found

    def _stops(self) -> None:
        self.outcome.again |= self.resumed
        self.stopped_at = self.stopped_at or self.clock

    def _obey(self, act: Mapping[str, Any]) -> None:
        match act["do"]:
            case "halt_campaign" if not self.outcome.halted:
                self.outcome.halted = True
                self._stops()
            case "suspend_lane" if self.lanes.get(act["lane"]) == "active":
                self.lanes[act["lane"]] = "suspended"
                self.outcome.suspended.add(act["lane"])
                self._stops()
            case "throttle_lane" if act["lane"] in self.lanes and 0 < act["factor"] <= 1:
                self.factor[act["lane"]] = act["factor"]
            case "pause_wave" | "resume_wave":
                self.paused = act["do"] == "pause_wave"
            case "release_wave" if act["wave"] == 1:
                pass
            case "release_wave" if act["wave"] == self.current + 1 and self._done():
                self.current += 1
            case _:
                self.outcome.illegal += 1
