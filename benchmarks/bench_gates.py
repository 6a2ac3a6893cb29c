"""Simulated campaigns, good and bad, judged by `sendwave gates replay` and by eight published rule forms.

    python benchmarks/bench_gates.py [--runs 3] [--seed 1] [--only WORLD ...] [--scale 1.0]

Every world is sent in 100 minutes (a million at 10,000 a minute), in five waves over six mailbox providers, and looked
at every five minutes. Published forms are looked at as often, divide by all that was sent and open a wave an hour after
the one before was sent. Raise --runs where the machine is yours: intervals shrink with it.
Figures are shares of runs with their 95 % interval (Clopper-Pearson). Assumed, not measured on a sender: the delay
curves, the rates and how they burst.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from sendwave.rules import bounds
from sendwave.rules.maturity import CURVES
from sendwave.rules.replay import Replay
from sendwave.rules.signals import SIGNALS

LANES = {"gmail": (0.40, False), "microsoft": (0.20, True), "orange": (0.15, True), "yahoo": (0.10, True),
         "free": (0.08, True), "other": (0.07, True)}  # fmt: skip
LIMITS = {"hard_bounce": 0.02, "complaint": 0.001, "deferral": 0.10}
RAMP = (0.05, 0.10, 0.20, 0.30, 0.35)
TICK = 300
SENDING = 6_000  # seconds of sending in all: a million leaves at 10,000 a minute
HORIZON = 5 * 24 * 3600


@dataclass(frozen=True)
class World:
    """Rates as multiples of the limit, by (signal, wave 1-5, lane, share of the wave that has left)."""

    name: str
    kind: str  # healthy, limit, bad, lane
    size: int
    rate: Callable[[str, int, str, float], float]
    speed: float = 1.0  # feedback faster than assumed
    burst: float = 0.0  # coefficient of variation of the rate from tick to tick
    outage: tuple[float, float] = (0, 0)  # seconds after the bad wave began, length
    bad: Callable[[str, int, str, float], bool] = field(default=lambda *_: False)


def flat(ratio: float) -> Callable[[str, int, str, float], float]:
    return lambda *_: ratio


def always(*_: Any) -> bool:
    return True


def from_wave(first: int, only: str = "") -> Callable[[int, str, float], bool]:
    def where(wave: int, lane: str, part: float) -> bool:  # noqa: ARG001  # every place has three parts
        return wave >= first and only in {"", lane}

    return where


def inside_wave_3(wave: int, lane: str, part: float) -> bool:  # noqa: ARG001  # every place has three parts
    return wave > 3 or (wave == 3 and part >= 0.5)


def worse(signal: str, ratio: float, where: Callable[[int, str, float], bool], base: float = 0.4) -> dict[str, Any]:
    def rate(name: str, wave: int, lane: str, part: float) -> float:
        return ratio if name == signal and where(wave, lane, part) else base

    return {"rate": rate, "bad": lambda name, wave, lane, part: name == signal and where(wave, lane, part)}


def worlds(scale: float) -> Iterator[World]:
    big = int(1_000_000 * scale)
    for size in sorted({5_000, 200_000, big}):
        yield World(f"healthy {size:,}", "healthy", size, flat(0.4))
    yield World(f"healthy, bursts, {big:,}", "healthy", big, flat(0.4), burst=0.7)
    yield World(f"near limits (0.9 x), {big:,}", "healthy", big, flat(0.9))
    for size in sorted({5_000, big}):
        yield World(f"on every limit {size:,}", "limit", size, flat(1.0))
    yield World(f"on every limit, feedback 3 x faster, {big:,}", "limit", big, flat(1.0), speed=3)
    yield World("bounces 2 x from the start", "bad", big, **worse("hard_bounce", 2, always))
    yield World("bounces 3 x from wave 4 on", "bad", big, **worse("hard_bounce", 3, from_wave(4)))
    yield World("bounces 5 x, second half of wave 3 on", "bad", big,
                **worse("hard_bounce", 5, inside_wave_3))  # fmt: skip
    yield World("complaints 2 x from the start", "bad", big, **worse("complaint", 2, always))
    yield World("complaints 4 x from wave 3 on", "bad", big, **worse("complaint", 4, from_wave(3)))
    yield World("complaints 3 x in the last wave", "bad", big, **worse("complaint", 3, from_wave(5)))
    yield World("bounces 4 x from wave 3 on, feed out for 2 h", "bad", big, outage=(0, 7200),
                **worse("hard_bounce", 4, from_wave(3)))  # fmt: skip
    yield World("orange: bounces 6 x from wave 2 on", "lane", big,
                **worse("hard_bounce", 6, from_wave(2, "orange")))  # fmt: skip
    yield World("yahoo: complaints 10 x from wave 2 on", "lane", big,
                **worse("complaint", 10, from_wave(2, "yahoo")))  # fmt: skip


@dataclass
class Outcome:
    """What became of one run."""

    stopped: bool = False
    lanes: set[str] = field(default_factory=set)
    sent: int = 0
    bad_sent: int = 0
    bad_planned: int = 0
    hours: float = 0.0
    finished: bool = False
    wrong: bool = False


class Gates:
    """The gates of sendwave, through the replay."""

    def __init__(self, waves: list[dict[str, int]]) -> None:
        self.replay = Replay.of({
            "campaign": {"waves": [{"wave": n, "planned": p} for n, p in enumerate(waves, 1)]},
            "lanes": {lane: {"fbl": tells} for lane, (_, tells) in LANES.items()},
            "policy": {name: {"threshold": limit, "halts": True} for name, limit in LIMITS.items()},
        })  # fmt: skip

    def look(self, tick: dict[str, Any]) -> list[dict[str, Any]]:
        self.replay.hear(tick)
        return self.replay.decide(tick["state"])[0]


class Published:
    """A published rule over all lanes and each lane by itself, as a count of events against all that was sent."""

    def __init__(
        self, waves: list[dict[str, int]], *, rule: Callable[[int, int, float], bool], window: int = 0
    ) -> None:
        self.rule, self.window, self.waves = rule, window, len(waves)
        self.rows: list[tuple[str, int]] = []
        self.events: dict[tuple[int, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.sent: dict[str, int] = defaultdict(int)
        self.counts: dict[tuple[str, str], int] = defaultdict(int)
        self.recent: list[tuple[dict[str, int], dict[tuple[str, str], int]]] = []
        self.wave, self.done_at = 0, None

    def look(self, tick: dict[str, Any]) -> list[dict[str, Any]]:
        sent: dict[str, int] = defaultdict(int)
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for row in tick["sent"]:
            sent[row["lane"]] += row["n"]
        for row in tick["events_agg"]:
            counts[row["type"], row["lane"]] += row["n"]
        self.recent.append((sent, counts))
        while self.window and len(self.recent) > 1 and sum(sum(s.values()) for s, _ in self.recent[1:]) >= self.window:
            self.recent.pop(0)
        sums, found = defaultdict(int), defaultdict(int)
        for part, told in self.recent:
            for lane, n in part.items():
                sums[lane] += n
            for key, n in told.items():
                found[key] += n
        open_lanes = {lane for lane, status in tick["state"]["lanes"].items() if status == "active"}
        return self._act(tick, sums, found, open_lanes)

    def _act(self, tick: Any, sums: Any, found: Any, open_lanes: set[str]) -> list[dict[str, Any]]:
        bad = [
            lane
            for lane in open_lanes
            for signal, limit in LIMITS.items()
            if (LANES[lane][1] or signal != "complaint") and self.rule(found[signal, lane], sums[lane], limit)
        ]
        rest = open_lanes - set(bad)
        for signal, limit in LIMITS.items():
            told = [lane for lane in rest if LANES[lane][1] or signal != "complaint"]
            if self.rule(sum(found[signal, lane] for lane in told), sum(sums[lane] for lane in told), limit):
                return [{"do": "halt_campaign"}]
        if sum(LANES[lane][0] for lane in {*bad, *(set(LANES) - open_lanes)}) >= 0.5 and bad:
            return [{"do": "halt_campaign"}]
        state, actions = tick["state"], [{"do": "suspend_lane", "lane": lane} for lane in set(bad)]
        if state["wave_done"] and self.wave != state["wave"]:
            self.wave, self.done_at = state["wave"], tick["t"]
        if state["wave_done"] and tick["t"] - (self.done_at or 0) >= 3600 and state["wave"] < self.waves:
            actions.append({"do": "release_wave", "wave": state["wave"] + 1})
        return actions


def _rate(seen: int, sent: int, limit: float, *, least: int, events: int = 1, times: float = 1.0) -> bool:
    return sent >= least and seen >= events and seen > times * limit * sent


def _wilson(seen: int, sent: int, limit: float) -> bool:
    if not sent or not seen:
        return False
    p, z2 = min(seen / sent, 1.0), 2.326**2
    low = (p + z2 / (2 * sent) - 2.326 * np.sqrt(p * (1 - p) / sent + z2 / (4 * sent * sent))) / (1 + z2 / sent)
    return bool(low > limit)


RULES: dict[str, Callable[[list[dict[str, int]]], Any]] = {
    "sendwave": Gates,
    "rate, at least 100": partial(Published, rule=partial(_rate, least=100)),
    "rate, at least 1,000": partial(Published, rule=partial(_rate, least=1_000)),
    "rate, at least 10,000": partial(Published, rule=partial(_rate, least=10_000)),
    "rate, at least 100 and 10 events": partial(Published, rule=partial(_rate, least=100, events=10)),
    "rate x 1.5, at least 1,000 and 10": partial(Published, rule=partial(_rate, least=1_000, events=10, times=1.5)),
    "rate of the last 5,000": partial(Published, rule=partial(_rate, least=500), window=5_000),
    "Wilson 99 % bound": partial(Published, rule=_wilson),
    "exact 99.9 % bound": partial(
        Published, rule=lambda seen, sent, limit: seen > 0 and bounds.at_least(seen, max(sent, seen), limit) <= 0.001
    ),
}


def play(  # noqa: C901, PLR0912  # one loop: reading a campaign tick by tick is the point
    world: World, rule: Callable[[list[dict[str, int]]], Any], draw: np.random.Generator
) -> Outcome:
    """One campaign to its end, its halt, or five days."""
    waves = [{lane: int(world.size * part * share) for lane, (share, _) in LANES.items()} for part in RAMP]
    gate, outcome = rule(waves), Outcome()
    left = [dict(wave) for wave in waves]
    due: dict[int, list[dict[str, Any]]] = defaultdict(list)
    lanes, factor = dict.fromkeys(LANES, "active"), dict.fromkeys(LANES, 1.0)
    current, paused, began, bad_at, clock, idle = 1, False, 0, None, 0, 0
    outcome.bad_planned = sum(
        n // 20 for w, wave in enumerate(waves, 1) for lane, n in wave.items()
        for part in range(20) if any(world.bad(s, w, lane, part / 20) for s in LIMITS)
    )  # fmt: skip
    while clock < HORIZON:
        clock += TICK
        tick: dict[str, Any] = {"type": "tick", "t": clock, "sent": [], "delivered": [], "events_agg": []}
        active = [lane for lane in LANES if lanes[lane] == "active" and left[current - 1][lane]]
        if active and not paused:
            whole = sum(left[current - 1][lane] for lane in active)
            part = 1 - sum(left[current - 1].values()) / max(sum(waves[current - 1].values()), 1)
            wobble = {s: float(draw.gamma(1 / world.burst**2, world.burst**2)) if world.burst else 1.0 for s in LIMITS}
            for lane in active:
                n = min(
                    left[current - 1][lane],
                    max(1, int(world.size * TICK / SENDING * factor[lane] * left[current - 1][lane] / whole)),
                )
                left[current - 1][lane] -= n
                _send(world, tick, due, current, lane, n, part, wobble, clock, draw)
                outcome.sent += n
                if any(world.bad(s, current, lane, part) for s in LIMITS):
                    outcome.bad_sent += n
                    bad_at = bad_at or clock
        out = bad_at is not None and bad_at + world.outage[0] <= clock < bad_at + world.outage[0] + world.outage[1]
        for row in due.pop(clock, []):
            if out:
                due[int(bad_at + world.outage[0] + world.outage[1]) // TICK * TICK + TICK].append(row)
            else:
                tick["delivered" if row["type"] == "delivered" else "events_agg"].append(row)
        done = not any(left[current - 1][lane] for lane in LANES if lanes[lane] == "active")
        tick["state"] = {"campaign": "running", "wave": current, "wave_done": done, "lanes": dict(lanes)}
        acts = gate.look(tick)
        for act in acts:
            if act["do"] == "halt_campaign":
                outcome.stopped = True
            elif act["do"] == "suspend_lane":
                lanes[act["lane"]] = "suspended"
                outcome.lanes.add(act["lane"])
            elif act["do"] == "throttle_lane":
                factor[act["lane"]] = act["factor"]
            elif act["do"] in {"pause_wave", "resume_wave"}:
                paused = act["do"] == "pause_wave"
            elif act["do"] == "release_wave" and act["wave"] == current + 1 and done:
                current += 1
                began = clock
        last = current == len(waves) and done
        outcome.hours = clock / 3600
        idle = idle + 1 if last else 0
        if outcome.stopped or idle > 36:
            break
    outcome.finished = current == len(waves)
    outcome.wrong = any(
        not any(world.bad(s, w, lane, 1.0) for s in LIMITS for w in range(1, 6)) for lane in outcome.lanes
    )
    assert began >= 0
    return outcome


def _send(  # noqa: PLR0917
    world: World, tick: dict[str, Any], due: dict[int, list[dict[str, Any]]], wave: int, lane: str, n: int, part: float,
    wobble: dict[str, float], clock: int, draw: np.random.Generator,
) -> None:  # fmt: skip
    """Hand n mails over, and draw when which of them come back."""
    name = f"{wave}.{lane}.{clock}"
    at = clock - TICK // 2
    tick["sent"].append({"wave": wave, "lane": lane, "batch": name, "t": at, "n": n})
    row = {"wave": wave, "lane": lane, "batch": name}
    due[clock + TICK].append({**row, "type": "delivered", "n": int(0.97 * n)})
    for signal, limit in LIMITS.items():
        if signal == "complaint" and not LANES[lane][1]:
            continue
        chance = min(1.0, limit * world.rate(signal, wave, lane, part) * wobble[signal])
        events = int(draw.binomial(n, chance))
        if not events:
            continue
        arrive = at + delays(signal, events, draw) / world.speed * 60
        slots, counts = np.unique(
            np.maximum(np.ceil(arrive / TICK), clock // TICK).astype(int) * TICK, return_counts=True
        )
        for slot, count in zip(slots.tolist(), counts.tolist(), strict=True):
            told = {**row, "type": signal, "n": count}
            (tick["events_agg"] if slot <= clock else due[slot]).append(told)


def delays(signal: str, n: int, draw: np.random.Generator) -> np.ndarray:
    """Minutes until so many events are told, drawn from the curve of their signal."""
    ages, shares = zip((0.0, 0.0), *CURVES[SIGNALS[signal].curve].points, strict=True)
    return np.expm1(np.interp(draw.random(n), shares, np.log1p(ages)))


def interval(hits: int, runs: int) -> str:
    """A share with its 95 % interval."""
    low, high = bounds.lower(hits, runs, 0.025), bounds.upper(hits, runs, 0.025)
    return f"{hits / runs:5.0%} [{low:.0%}-{high:.0%}]"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="of the campaigns of a million")
    parser.add_argument("--only", nargs="*", default=None, help="worlds whose name contains one of these")
    parser.add_argument("--rules", nargs="*", default=None, help="rules whose name contains one of these")
    told = parser.parse_args()
    for number, world in enumerate(worlds(told.scale)):
        if told.only and not any(word in world.name for word in told.only):
            continue
        print(f"\n{world.name} ({world.kind}, {told.runs} runs)")
        print(f"  {'rule':34} {'stopped':18} {'lane only':18} {'wrong lane':18} {'bad mail sent':>13} {'hours':>7}")
        for name, rule in RULES.items():
            if told.rules and not any(word in name for word in told.rules):
                continue
            found = [play(world, rule, np.random.default_rng([told.seed, number, run])) for run in range(told.runs)]
            stops = sum(o.stopped or bool(o.lanes) for o in found)
            alone = sum(bool(o.lanes) and not o.stopped and not o.wrong for o in found)
            wrong = sum(o.wrong for o in found)
            leak = f"{np.mean([o.bad_sent / o.bad_planned for o in found]):.1%}" if found[0].bad_planned else "-"
            shares = " ".join(f"{interval(hits, told.runs):18}" for hits in (stops, alone, wrong))
            print(f"  {name:34} {shares} {leak:>13} {np.median([o.hours for o in found]):7.1f}", flush=True)


if __name__ == "__main__":
    main()
