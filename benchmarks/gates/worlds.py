"""Worlds: how the mail of a campaign does, as multiples of each limit by signal, wave, lane and share of the wave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

LANES: Final = {"gmail": (0.38, False), "microsoft": (0.20, True), "orange": (0.15, True), "yahoo": (0.12, True),
                "free": (0.08, True), "other": (0.07, True)}  # fmt: skip
"""Share of the mail, and whether the provider reports complaints."""

LIMITS: Final = {"hard_bounce": 0.02, "complaint": 0.001, "deferral": 0.10}
MILLION: Final = 1_000_000
NONE: Final = frozenset[str]()
RAMP: Final = (0.10, 0.15, 0.20, 0.30, 0.25)
GOOD: Final = {"hard_bounce": (0.2, 0.25, 0.3, 0.4, 0.5), "complaint": (0.15, 0.2, 0.25, 0.35, 0.45),
               "deferral": (0.3, 0.3, 0.3, 0.35, 0.4)}  # fmt: skip
"""A healthy campaign, best people first: multiples of the limits, wave by wave."""

SMALL: Final = {"gmail": (0.55, False), "microsoft": (0.12, True), "orange": (0.09, True), "yahoo": (0.07, True),
                "free": (0.05, True), "sfr": (0.04, False), "laposte": (0.03, True), "web.de": (0.02, True),
                "gmx": (0.02, False), "bad.example": (0.01, True)}  # fmt: skip
"""Another mix: mostly a provider that reports nothing, many small lanes, the last one with 1 % of the mail."""

Rate = Callable[[str, int, str, float], float]


@dataclass(frozen=True)
class World:
    """One kind of campaign. `bad` is where its mail is past a limit, for the share of it that leaves."""

    name: str
    kind: str  # healthy, near, limit, opened, fast, bad, lane, mended, still
    size: int
    rate: Rate
    bad: Callable[[int, str, float], bool] = lambda *_: False
    speed: float = 1.0  # feedback faster than assumed
    burst: float = 0.0  # how much rates vary from batch to batch: coefficient of variation
    outage: float = 0.0  # minutes without feedback, from when the bad mail begins
    pilot: float = 0.0  # share of the last wave that goes ahead of it as a wave of its own
    ramp: tuple[float, ...] = RAMP
    single: bool = True  # events told one by one, with their times; sums in huge runs
    summed: frozenset[str] = frozenset({"deferral"})  # told as sums all the same, where they are not the point
    lanes: Mapping[str, tuple[float, bool]] = field(default_factory=lambda: LANES)
    hours: float = 5 / 3  # to send it all, were there no waiting
    tick: int = 120  # seconds between two looks
    silent: tuple[int, float, float] | None = None  # a feed out in good mail: wave, part of it, minutes
    tail: float = 0.0  # share of the feedback that comes in days instead (log-normal, median a day)
    opened: float = 0.0  # minutes after which the next wave is opened whatever the rule says
    resumed: float = 0.0  # minutes after a stop at which a person resumes, once


def good(signal: str, wave: int, lane: str, part: float) -> float:  # noqa: ARG001
    return GOOD[signal][min(wave, len(GOOD[signal])) - 1]


def wobbly(signal: str, wave: int, lane: str, part: float) -> float:
    """Good on the whole, with lanes and quarters of a wave that differ by a factor of two."""
    place = (sum(map(ord, lane)) + wave + int(4 * part)) % 3
    return good(signal, wave, lane, part) * (0.6, 1.0, 1.25)[place]


def flat(ratio: float) -> Rate:
    return lambda *_: ratio


def worse(signal: str, ratio: float, bad: Callable[[int, str, float], bool]) -> Rate:
    return lambda name, wave, lane, part: (
        ratio if name == signal and bad(wave, lane, part) else good(name, wave, lane, part)
    )


def since(wave: int, part: float = 0.0, only: str = "") -> Callable[[int, str, float], bool]:
    return lambda w, lane, p: (w > wave or (w == wave and p >= part)) and only in {"", lane}


def _bad(name: str, signal: str, ratio: float, where: Callable[[int, str, float], bool], **more: object) -> World:
    told: dict[str, object] = {"kind": "bad", "size": MILLION, **more}
    return World(name=name, rate=worse(signal, ratio, where), bad=where, **told)  # type: ignore[arg-type]


def worlds() -> Iterator[World]:
    """The worlds of the table in docs/guides/gates.md."""
    yield from _good()
    yield from _stopped()
    yield from _otherwise()


def _good() -> Iterator[World]:
    """Healthy, and on the limit."""
    yield World("healthy 5k", "healthy", 5_000, good)
    yield World("healthy 200k", "healthy", 200_000, good)
    yield World("healthy 1M", "healthy", MILLION, good)
    yield World("healthy 30M", "healthy", 30 * MILLION, good, single=False)
    yield World("healthy 1M, bursts of 55 %", "healthy", MILLION, good, burst=0.55, summed=NONE)
    yield World("healthy 1M, bursts of 100 %", "healthy", MILLION, good, burst=1.0, summed=NONE)
    yield World("near the limits (0.9 x) 1M", "near", MILLION, flat(0.9))
    yield World("on every limit 5k", "limit", 5_000, flat(1.0), summed=NONE)
    yield World("on every limit 1M", "limit", MILLION, flat(1.0), summed=NONE)
    yield World("on every limit 1M, feedback 3 x faster", "fast", MILLION, flat(1.0), speed=3.0, summed=NONE)


def _stopped() -> Iterator[World]:
    """Bad campaigns and bad lanes."""
    yield _bad("bounces 2 x from the start", "hard_bounce", 2, since(1))
    yield _bad("bounces 3 x from wave 4 on", "hard_bounce", 3, since(4))
    yield _bad("bounces 5 x, from mid-wave 3 on", "hard_bounce", 5, since(3, 0.5))
    yield _bad("bounces 6 x, 5k", "hard_bounce", 6, since(1), size=5_000)
    yield _bad("complaints 2 x from the start", "complaint", 2, since(1))
    yield _bad("complaints 4 x from wave 3 on", "complaint", 4, since(3))
    yield _bad("complaints 3 x in the last wave", "complaint", 3, since(5))
    yield _bad("complaints 3 x in the last wave, 3 % pilot", "complaint", 3, since(5), pilot=0.03)
    yield _bad("complaints 2 x from the start, 30M", "complaint", 2, since(1), size=30 * MILLION, single=False)
    yield _bad("bounces 4 x from wave 3 on, feed out 2 h", "hard_bounce", 4, since(3), outage=120.0)
    yield _bad("orange: bounces 6 x from wave 2 on", "hard_bounce", 6, since(2, only="orange"), kind="lane")
    yield _bad("yahoo: complaints 10 x from wave 2 on", "complaint", 10, since(2, only="yahoo"), kind="lane")
    yield _bad("gmail: 60 % deferred from wave 3 on", "deferral", 6, since(3, only="gmail"), kind="lane", summed=NONE)


def _otherwise() -> Iterator[World]:
    """Built differently: other lanes, paces, delays, silences, and people who resume."""
    apart: dict[str, object] = {"kind": "lane", "lanes": SMALL}
    yield World("healthy 300k, ten lanes, 5 h", "healthy", 300_000, wobbly, lanes=SMALL, hours=5.0, tick=300)
    yield World("healthy 1M, a tenth of the feedback days late", "healthy", MILLION, good, tail=0.1)
    yield World("healthy 1M, feedback 2 x slower", "healthy", MILLION, good, speed=0.5)
    yield World("healthy 1M, feed out 2 h in wave 3", "healthy", MILLION, good, silent=(3, 0.4, 120.0))
    yield _bad("1 % of the mail: bounces 8 x from wave 2 on", "hard_bounce", 8, since(2, only="bad.example"), **apart)
    yield _bad("5 % of the mail: complaints 8 x from wave 2 on, 8 h", "complaint", 8, since(2, only="free"), hours=8.0,
               tick=300, **apart)  # fmt: skip
    yield _bad("complaints 5 x from wave 2 on, told 2 x slower", "complaint", 5, since(2), speed=0.5)
    yield _bad("bounces 4 x, good once resumed", "hard_bounce", 4, since(2), kind="mended", resumed=60.0)
    yield _bad("orange: bounces 6 x, good once reopened", "hard_bounce", 6, since(2, only="orange"), kind="mended",
               resumed=60.0)  # fmt: skip
    yield _bad("bounces 4 x, resumed all the same", "hard_bounce", 4, since(2), kind="still", resumed=60.0)
    yield World("on every limit 1M, opened each hour", "opened", MILLION, flat(1.0), summed=NONE, opened=60.0)
    yield World("on every limit 200k, opened each hour", "opened", 200_000, flat(1.0), summed=NONE, opened=60.0)
