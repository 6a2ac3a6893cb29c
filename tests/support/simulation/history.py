"""What happens, step by step, drawn from a seed before it begins: a history can be replayed, cut short and shrunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simulation.chance import Chance
from simulation.trouble import KINDS, Trouble

ACTS: Final = {
    "tick": 60,
    "wait": 8,  # time passes and nobody looks
    "pause": 3,
    "resume": 6,
    "resume_lane": 3,
    "release_wave": 1,
    "shorten": 1,
    "cancel": 1,
    "halt": 2,  # as a gate would, whatever the figures say
    "suspend": 2,
    "suppress": 4,  # somebody asks to be left alone, by another way than mail
    "withdraw": 2,  # a new consent file says no
    "hold_route": 1,
    "restart": 4,  # a clean stop and a new start
    "hang": 2,  # a node sleeps longer than its leases last, then goes on where it was
    "back": 1,  # a node's clock steps back
    "reload": 1,  # a policy file was edited
}
"""What may happen, and how often compared with the others."""

STAGES: Final = ("feedback", "judge", "release", "dispatch")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens. `n` is its number in the history as drawn, which names its draws for ever."""

    n: int
    act: str
    node: int
    campaign: int
    after: float  # seconds since the step before
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class World:
    """What does not change during a history."""

    seed: int
    people: int
    campaigns: int
    nodes: int
    ramp: tuple[str, ...]
    cap: bool  # a cap over both campaigns
    window: bool  # sending hours in each person's zone
    pace: bool
    idempotent: bool  # the ESP knows keys
    recall: bool  # the ESP gives accepted batches back for a while
    mood: str  # how the ESP answers: kind | picky | flaky
    bad: bool  # bounces far over the limits
    planned_here: bool  # the plan is made inside the history, under troubles


def world(seed: int) -> World:
    """The world of a seed."""
    chance = Chance(seed)
    campaigns = 2 if chance.happens(0.35, "campaigns") else 1
    return World(
        seed,
        people=chance.pick((12, 24, 40), "people"),
        campaigns=campaigns,
        nodes=2 if chance.happens(0.35, "nodes") else 1,
        ramp=chance.pick((("100%",), ("20%", "80%"), ("20%", "30%", "50%")), "ramp"),
        cap=campaigns == 2 and chance.happens(0.7, "cap"),
        window=chance.happens(0.25, "window"),
        pace=chance.happens(0.3, "pace"),
        idempotent=chance.happens(0.3, "idempotent"),
        recall=chance.happens(0.3, "recall"),
        mood=chance.pick(("kind", "picky", "flaky", "flaky"), "mood"),
        bad=chance.happens(0.2, "bad"),
        planned_here=chance.happens(0.15, "planned here"),
    )


def history(seed: int) -> tuple[Step, ...]:
    """The steps of a seed."""
    chance, told = Chance(seed), world(seed)
    troubled = chance.pick((0.0, 0.15, 0.35, 0.35), "troubled")
    return tuple(_step(chance, told, n, troubled) for n in range(25 + chance.below(30, "steps")))


def _step(chance: Chance, told: World, n: int, troubled: float) -> Step:
    act = _weighed(chance, n)
    trouble = None
    if act in ("tick", "restart") and chance.happens(troubled, "trouble", n):
        kind = chance.pick(tuple(KINDS), "kind", n)
        trouble = Trouble(kind, int(KINDS[kind] * chance.unit("at", n) ** 2))  # idle ticks have few opportunities
    after = chance.pick((1, 2, 5, 20, 60, 300, 1200), "after", n)
    if act == "wait":
        after = chance.pick((600, 3600, 6 * 3600, 20 * 3600), "wait", n)
    return Step(
        n, act, chance.below(told.nodes, "node", n), chance.below(told.campaigns, "campaign", n), float(after), trouble
    )


def _weighed(chance: Chance, n: int) -> str:
    left = chance.below(sum(ACTS.values()), "act", n)
    for act, weight in ACTS.items():
        left -= weight
        if left < 0:
            return act
    raise AssertionError("weights")
