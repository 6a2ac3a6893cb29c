"""What happens, step by step, drawn from a seed before it begins: a history can be replayed, cut short and shrunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from simulation.chance import Chance
from simulation.trouble import KINDS, Trouble

PEOPLE: Final = {
    "pause": 3,
    "resume": 5,
    "resume_lane": 3,
    "release_wave": 2,
    "shorten": 1,
    "cancel": 1,
    "halt": 4,  # as a gate would, whatever the figures say
    "suspend": 3,
    "suppress": 4,  # somebody asks to be left alone, by another way than mail
    "one_click": 3,  # somebody presses the link of a mail they got
    "withdraw": 2,  # a new consent file says no
    "hold_route": 1,
    "pause_route": 1,
    "free_route": 3,
    "set_limit": 1,  # another limit of a gate, for one campaign
    "ramp": 3,  # a halted campaign goes on by small waves: its plan is cut anew
    "settle": 3,  # somebody decides about people nobody knows the fate of
}
"""What people may do, and how often compared with the others."""

STOPS: Final = {
    "pause": 4,
    "halt": 3,
    "cancel": 1,
    "suspend": 4,
    "suppress": 4,
    "withdraw": 3,
    "hold_route": 2,
    "pause_route": 1,
}
"""What stops something at once."""

ACTS: Final = {
    "tick": 62,
    "wait": 9,  # time passes and nobody looks
    **PEOPLE,
    "restart": 3,  # a clean stop and a new start
    "hang": 2,  # a node sleeps longer than its leases last, then goes on where it was
    "back": 1,  # a node's clock steps back
    "ahead": 1,  # a node's clock runs ahead for a while
    "silent": 1,  # the beats of a node do not reach the others for a while
    "intake": 1,  # files are imported while campaigns run
    "reload": 2,  # the policy files were edited, or broken: campaigns keep those they were approved under
    "janitor": 1,  # once a day what nobody needs goes
}
"""What may happen, and how often compared with the others."""

STAGES: Final = ("feedback", "judge", "release", "dispatch", "settle")


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
    cap: int  # messages a person may get of all campaigns together; 0: no cap
    window: bool  # sending hours in each person's zone
    pace: bool
    lane_pace: bool  # each mailbox provider has a pace of its own
    per_day: bool  # a ceiling for each day
    warm_up: bool  # a lower one on the first days of a route
    money: int  # messages the budget of a month pays for, of all campaigns together; 0: no budget
    idempotent: bool  # the ESP knows keys
    recall: bool  # the ESP gives accepted batches back for a while
    mood: str  # how the ESP answers: kind | picky | flaky | mute
    bad: bool  # bounces far over the limits
    planned_here: bool  # the plan is made inside the history, under troubles


def world(seed: int) -> World:
    """The world of a seed."""
    chance = Chance(seed)
    campaigns = chance.pick((1, 2, 3, 4, 6, 6), "campaigns")
    return World(
        seed,
        people=12,
        campaigns=campaigns,
        nodes=2 if chance.happens(0.35, "nodes") else 1,
        ramp=chance.pick((("100%",), ("20%", "80%"), ("20%", "30%", "50%")), "ramp"),
        cap=max(1, campaigns // 2) if campaigns > 1 and chance.happens(0.5, "cap") else 0,
        window=chance.happens(0.15, "window"),
        pace=chance.happens(0.3, "pace"),
        lane_pace=chance.happens(0.15, "lane pace"),
        per_day=chance.happens(0.08, "per day"),
        warm_up=chance.happens(0.08, "warm up"),
        money=chance.pick((5, 12, 24), "money") if chance.happens(0.12, "budget") else 0,
        idempotent=chance.happens(0.3, "idempotent"),
        recall=chance.happens(0.3, "recall"),
        mood=chance.pick(("kind", "picky", "flaky", "flaky", "flaky", "mute"), "mood"),
        bad=chance.happens(0.2, "bad"),
        planned_here=chance.happens(0.15, "planned here"),
    )


def history(seed: int, told: World | None = None, only: Sequence[str] = ()) -> tuple[Step, ...]:
    """The steps of a seed: in the world it draws or in another, with every trouble or some kinds `only`, and often."""
    chance, told = Chance(seed), told or world(seed)
    troubled = 0.7 if only else chance.pick((0.0, 0.2, 0.4, 0.4), "troubled")
    kinds = {kind: often for kind, (_, often) in KINDS.items() if not only or kind in only}
    return tuple(_step(chance, told, n, troubled, kinds) for n in range(25 + chance.below(25, "steps")))


def _step(chance: Chance, told: World, n: int, troubled: float, kinds: Mapping[str, int]) -> Step:
    act = weighed(chance, ACTS, n)
    trouble = None
    if act in ("tick", "restart", "intake", "reload", "janitor") and chance.happens(troubled, "trouble", n):
        kind = weighed(chance, kinds, "kind", n)
        trouble = Trouble(kind, int(KINDS[kind][0] * chance.unit("at", n)))
    after = chance.pick((1, 2, 5, 20, 60, 300, 1200), "after", n)
    if act == "wait":
        after = chance.pick((600, 3600, 3600, 6 * 3600, 20 * 3600), "wait", n)
    return Step(
        n, act, chance.below(told.nodes, "node", n), chance.below(told.campaigns, "campaign", n), float(after), trouble
    )


def weighed(chance: Chance, weights: Mapping[str, int], *what: object) -> str:
    """One of the words, as often as its weight says."""
    left = chance.below(sum(weights.values()), "weighed", *what)
    for word, weight in weights.items():
        left -= weight
        if left < 0:
            return word
    raise AssertionError("weights")
