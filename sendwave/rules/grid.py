"""The scoring grid (score.yaml): touchpoints, the age of an act and its points, what does not count.

A touchpoint scores in one of three styles. `last_act`: the last act of its kinds decides, by the band its age falls
into. `additive`: every act within a window counts points, up to a cap. `sign_up`: the sign-up date, for people without
an act of other touchpoints. Ages are whole 24-hour spans (`columns.age_days`), hence bands and windows are whole days.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum
from typing import Any, Final

from pydantic import Field

from sendwave.rules.conditions import Condition, When
from sendwave.rules.units import DailyTime, Duration, Key, Percent, Policy, format_duration, parse_percent

MAX_POINTS: Final = 1_000_000
"""Points of one act or band, either way; what one touchpoint can add up to is `MAX_SUM`."""
MAX_SUM: Final = 1_000_000_000
"""With at most `MAX_TOUCHPOINTS`, and decay over at most `MAX_DAYS`, every product stays below 2^53."""
MAX_TOUCHPOINTS: Final = 50
MAX_DAYS: Final = 20_000
MAX_REACH: Final = timedelta(days=31)

Finding = tuple[tuple[str | int, ...], str]
"""Where in the file, and what is wrong or worth a look there."""


class Style(StrEnum):
    """How a touchpoint turns acts into points."""

    LAST_ACT = "last_act"
    ADDITIVE = "additive"
    SIGN_UP = "sign_up"


class Band(Policy):
    """Points for an act of that age. Bands follow one another from today into the past."""

    after: Duration | None = Field(None, description="Where it begins; if given, where the band before it ends.")
    within: Duration | None = Field(None, description="Younger than this; none, in the last band: however old.")
    points: int = Field(ge=-MAX_POINTS, le=MAX_POINTS, description="Negative ones take away.")

    @property
    def seconds(self) -> int | None:
        """Its far edge; None without one."""
        return None if self.within is None else int(self.within.total_seconds())


class Case(Policy):
    """Other bands for some of a touchpoint's acts: the last act decides, by the first case it fits."""

    when: Condition = Field(description="What the act must be like.")
    bands: tuple[Band, ...] = Field(min_length=1)


class Touchpoint(Policy):
    """One kind of interaction with the brand, and its points."""

    label: str = Field(default="", description="What people read.")
    style: Style = Field(default=Style.LAST_ACT, description="How acts become points.")
    kinds: tuple[Key, ...] = Field(default=(), description="Kinds of interactions; none: the touchpoint's own name.")
    when: Condition = Field(default=When(), description="Which of them; acts it is not known of do not count.")
    machine: Percent = Field(
        default=parse_percent("0%"), description="What an act of a machine (a proxy's open, a scanner's click) weighs."
    )
    bands: tuple[Band, ...] = Field(default=(), description="last_act, sign_up: points by age.")
    cases: tuple[Case, ...] = Field(default=(), description="last_act: other bands where an act fits a case.")
    points: int = Field(default=0, ge=-MAX_POINTS, le=MAX_POINTS, description="additive: points of each act.")
    window: Duration | None = Field(None, description="additive: acts older than this no longer count.")
    cap: int | None = Field(None, ge=1, le=MAX_SUM, description="additive: at most so many points, either way.")
    unless: tuple[Key, ...] = Field(default=(), description="sign_up: touchpoints of which one act ends it.")

    @property
    def points_given(self) -> tuple[int, ...]:
        """Every number of points it may give."""
        banded = [band.points for bands in (self.bands, *(case.bands for case in self.cases)) for band in bands]
        return (self.points,) if self.style is Style.ADDITIVE else tuple(banded)

    @property
    def positive(self) -> bool:
        """Whether it can give points."""
        return max(self.points_given, default=0) > 0


class After(StrEnum):
    """What happens to points once the cycle's window is over."""

    RESET = "reset"  # gone at once
    LINEAR = "linear"  # fewer every day, none after `over`
    HALF_LIFE = "half_life"  # half of them left after each `over`


class Cycle(Policy):
    """The purchase cycle: what silence does. Points given fade; points taken away stay until their own band ends."""

    window: Duration = Field(description="How long after the last act that gives points the score stands, e.g. 90d.")
    then: After = Field(description="What happens afterwards.")
    over: Duration | None = Field(None, description="linear: until nothing is left; half_life: until half is left.")


class Same(StrEnum):
    """What two acts must share for one to imply the other."""

    ANY = "any"
    CAMPAIGN = "campaign"
    MESSAGE = "message"


class Ignored(Policy):
    """Acts that do not count because another act of the same person implies them."""

    kinds: tuple[Key, ...] = Field(min_length=1, description="What does not count …")
    preceded_by: tuple[Key, ...] = Field(default=(), description="… when one of these came before it, or with it, …")
    accompanied_by: tuple[Key, ...] = Field(default=(), description="… or, instead, before or after it, …")
    within: Duration = Field(description="… no further apart than this; 31d at most.")
    same: Same = Field(default=Same.ANY, description="… and about the same campaign or message.")

    @property
    def by(self) -> tuple[str, ...]:
        """The kinds that imply."""
        return self.preceded_by + self.accompanied_by

    @property
    def seconds(self) -> int:
        """How far apart."""
        return int(self.within.total_seconds())


class NeverPositive(Policy):
    """Acts that say goodbye: they never give points, whatever touchpoint they belong to."""

    kinds: tuple[Key, ...] = Field(default=(), description="All acts of these kinds; none: of every kind.")
    when: Condition = Field(default=When(), description="Only those like this.")


_GOODBYES: Final = (
    NeverPositive(kinds=("unsubscribe",)),
    NeverPositive(when=When.parse({"link_kind": ["unsubscribe", "unsub", "optout", "desinscription"]})),
)


class Grid(Policy):
    """The whole grid. Its version is on every score."""

    daily: DailyTime | None = Field(None, description="When the daemon scores everybody; none: only when asked.")
    touchpoints: dict[Key, Touchpoint] = Field(min_length=1, max_length=MAX_TOUCHPOINTS)
    ignore: tuple[Ignored, ...] = Field(default=(), max_length=20, description="Acts another act implies.")
    never_positive: tuple[NeverPositive, ...] = Field(default=_GOODBYES, description="Clicks that unsubscribe.")
    cycle: Cycle | None = Field(None, description="What silence does to a score; none: only the bands age.")

    @property
    def version(self) -> str:
        """sha256 (hex) of the canonical grid: comments and the order of keys inside a touchpoint do not matter."""
        return digest(self.model_dump(mode="json"))

    def kinds_of(self, key: str) -> tuple[str, ...]:
        """The kinds of interactions a touchpoint counts."""
        return self.touchpoints[key].kinds or (key,)

    @property
    def known_kinds(self) -> frozenset[str]:
        """Every kind the grid speaks of."""
        counted = [kind for key, point in self.touchpoints.items() if point.style is not Style.SIGN_UP
                   for kind in self.kinds_of(key)]  # fmt: skip
        implied = [kind for rule in self.ignore for kind in rule.kinds + rule.by]
        return frozenset([*counted, *implied, *(kind for one in self.never_positive for kind in one.kinds)])

    @property
    def reach(self) -> tuple[int, int]:
        """Seconds (before, after) an act that one act may make count or not, over all of `ignore`."""
        around = max((rule.seconds for rule in self.ignore if rule.accompanied_by), default=0)
        return around, max([around, *(rule.seconds for rule in self.ignore)])


def digest(document: Any) -> str:
    """sha256 (hex) of a JSON document, whatever the order of its keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def weighed(points: int, weight: Decimal) -> int:
    """A share of points, rounded towards 0."""
    return int((points * weight).to_integral_value(ROUND_DOWN))


def mistakes(grid: Grid) -> Iterator[Finding]:
    """What cannot be meant: bands that overlap or leave days out, keys of another style, points for goodbyes."""
    for key, point in grid.touchpoints.items():
        loc = ("touchpoints", key)
        yield from ((loc + where, problem) for where, problem in _style(point, grid))
        yield from ((loc + where, problem) for where, problem in _spans(point))
        yield from ((loc, problem) for problem in _goodbyes(key, point, grid))
    for number, rule in enumerate(grid.ignore):
        yield from ((("ignore", number, *where), problem) for where, problem in _ignored(rule))
    if grid.cycle is not None:
        if (grid.cycle.then is After.RESET) != (grid.cycle.over is None):
            yield ("cycle", "then"), "linear and half_life need `over`, for instance 90d; a reset has none"
        for name, span in (("window", grid.cycle.window), ("over", grid.cycle.over)):
            yield from _whole(("cycle", name), span)


def _style(point: Touchpoint, grid: Grid) -> Iterator[Finding]:
    own = {
        Style.LAST_ACT: {"kinds", "when", "machine", "bands", "cases"},
        Style.ADDITIVE: {"kinds", "when", "machine", "points", "window", "cap"},
        Style.SIGN_UP: {"bands", "unless"},
    }[point.style]
    for name in sorted(point.model_fields_set - own - {"label", "style"}):
        yield (name,), f"{name!r} means nothing in the style {point.style}"
    if point.style is Style.ADDITIVE and "points" not in point.model_fields_set:
        yield (), "an additive touchpoint needs the points of an act"
    if point.style is not Style.ADDITIVE and not point.bands and not point.cases:
        yield (), "needs bands: points by the age of the last act, for instance {within: 30d, points: 20}"
    for index, name in enumerate(point.unless):
        other = grid.touchpoints.get(name)
        if other is None or other.style is Style.SIGN_UP:
            yield ("unless", index), f"there is no touchpoint {name!r} that acts belong to"


def _spans(point: Touchpoint) -> Iterator[Finding]:
    yield from _bands(("bands",), point.bands)
    for number, case in enumerate(point.cases):
        yield from _bands(("cases", number, "bands"), case.bands)
    yield from _whole(("window",), point.window)


def _bands(loc: tuple[str | int, ...], bands: Sequence[Band]) -> Iterator[Finding]:
    """Bands must lie edge to edge, the youngest first."""
    edge: timedelta | None = timedelta(0)
    for number, band in enumerate(bands):
        here = (*loc, number)
        yield from _whole((*here, "within"), band.within)
        yield from _whole((*here, "after"), band.after)
        if edge is None:
            yield here, "overlaps: the band before it has no `within`, it takes acts however old"
            return
        if band.after is not None and band.after != edge:
            over = f"overlaps the band before it, which ends at {format_duration(edge)}"
            gap = f"leaves days out: nothing from {format_duration(edge)} to {format_duration(band.after)} has points"
            yield (*here, "after"), over if band.after < edge else gap
        elif band.within is not None and band.within <= edge and number:
            problem = f"overlaps the band before it, which ends at {format_duration(edge)}"
            yield (*here, "within"), f"{problem}; write the youngest band first"
        edge = band.within if band.within is None or edge is None else max(edge, band.within)


def _whole(loc: tuple[str | int, ...], span: timedelta | None) -> Iterator[Finding]:
    if span is not None and (span % timedelta(days=1) or not timedelta(0) <= span <= timedelta(days=MAX_DAYS)):
        yield loc, f"ages are whole days, up to {MAX_DAYS}d: write for instance 30d"
    elif span is not None and not span and loc[-1] != "after":
        yield loc, "is empty: write 1d or more"


def _goodbyes(key: str, point: Touchpoint, grid: Grid) -> Iterator[str]:
    always = {kind for one in grid.never_positive if not one.when for kind in one.kinds}
    if point.style is not Style.SIGN_UP and point.positive and (told := always & set(grid.kinds_of(key))):
        yield f"gives points for {', '.join(sorted(told))}, which `never_positive` forbids"


def _ignored(rule: Ignored) -> Iterator[Finding]:
    if bool(rule.preceded_by) == bool(rule.accompanied_by):
        yield (), "needs either `preceded_by` or `accompanied_by`"
    if both := sorted(set(rule.kinds) & set(rule.by)):
        yield ("kinds",), f"{', '.join(both)} would imply itself"
    if not timedelta(0) <= rule.within <= MAX_REACH:
        yield ("within",), f"31d at most, not {format_duration(rule.within)}: every new act asks that far back"


def doubts(grid: Grid) -> Iterator[Finding]:
    """What is worth a second look: an older act that scores more, a touchpoint that always gives the same."""
    for key, point in grid.touchpoints.items():
        lists: Mapping[tuple[str | int, ...], Sequence[Band]] = {
            ("bands",): point.bands,
            **{("cases", number, "bands"): case.bands for number, case in enumerate(point.cases)},
        }
        for where, bands in lists.items():
            for number in range(1, len(bands)):
                if abs(bands[number].points) > abs(bands[number - 1].points):
                    yield ("touchpoints", key, *where, number, "points"), "an older act weighs more than a recent one"
        if not any(point.points_given):
            yield ("touchpoints", key), "gives 0 points whatever happens"
