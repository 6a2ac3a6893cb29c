"""Which interactions count, and where: correlated acts are left out, the others fall into the slots of the grid.

A slot is what one touchpoint has to tell apart: people and machines, and its cases. The whole of this module is a
function of the grid's `recipe`, which leaves points and bands out: they may change without reading the interactions
again.

An act is implied by any other that the grid names, also by one that does not count itself: a visit that an unsubscribe
click led to is no visit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sendwave.rules.columns import (
    EVENTS,
    INTERACTIONS,
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Select,
    String,
    Subquery,
    and_,
    case,
    cast,
    column,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    table,
    true,
    union_all,
)
from sendwave.rules.conditions import When
from sendwave.rules.grid import Grid, Same, Style, Touchpoint, digest

DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Slot:
    """One column of what is known of a contact: the last act of it, and how many. Numbers begin at 1."""

    number: int
    touchpoint: str
    case: int | None = None  # None: acts that fit no case
    machine: bool = False

    @property
    def last(self) -> str:
        """Column of the instant of the last act, NULL without one."""
        return f"last_{self.number}"

    @property
    def count(self) -> str:
        """Column of the number of acts."""
        return f"count_{self.number}"


def slots(grid: Grid) -> tuple[Slot, ...]:
    """Every slot, in the order of the grid. Sign-up dates have none: they are no acts."""
    named = [place for key, point in grid.touchpoints.items() for place in _of_touchpoint(key, point)]
    return tuple(Slot(number, *place) for number, place in enumerate(named, 1))


def _of_touchpoint(key: str, point: Touchpoint) -> Iterator[tuple[str, int | None, bool]]:
    if point.style is Style.SIGN_UP:
        return
    for machine in (False, True) if point.machine else (False,):
        yield from ((key, number, machine) for number in range(len(point.cases)))
        yield key, None, machine


def recipe(grid: Grid) -> str:
    """sha256 (hex) of all this module asks the grid: another one means that interactions are cleaned anew."""
    asked = [
        [slot.touchpoint, slot.case, slot.machine, grid.kinds_of(slot.touchpoint), point.when.document(),
         [one.when.document() for one in point.cases], point.positive]
        for slot in slots(grid) for point in [grid.touchpoints[slot.touchpoint]]
    ]  # fmt: skip
    rules = [rule.model_dump(mode="json") for rule in (*grid.ignore, *grid.never_positive)]
    return digest({"slots": asked, "rules": rules, "edition": 1})


def once(interactions: FromClause = INTERACTIONS) -> Select[Any]:
    """Interactions of which the same id counts once: the earliest. For data that did not come through an import."""
    i = interactions.c
    again = func.row_number().over(partition_by=i.interaction_id, order_by=(i.ts, i.contact)).label("again")
    numbered = select(*i, again).subquery("numbered")
    return select(*(numbered.c[name] for name in i.keys())).where(  # noqa: SIM118  # columns, not a dict
        or_(numbered.c.interaction_id.is_(None), numbered.c.again == 1)
    )


MAILINGS: Final = table("mailings", column("campaign", BigInteger), column("name", String), column("channel", String))
"""The campaigns of this workspace: whose reactions count as interactions."""

_HEARD: Final = ("open", "click")  # told by channel: email_open, sms_click …
_SAID: Final = ("unsubscribe", "complaint")


def reactions() -> Select[Any]:
    """What ESPs reported about our own mailings, as the columns of INTERACTIONS: tomorrow's interactions.

    Kinds are `<channel>_open` and `<channel>_click`, `unsubscribe`, `complaint` and `hard_bounce`.
    """
    e, m = EVENTS.c, MAILINGS.c
    hard = and_(e.type == "bounce", e.permanence == "hard")
    kind = case(
        (e.type.in_(_HEARD), m.channel + "_" + e.type), (e.type.in_(_SAID), e.type), (hard, "hard_bounce")
    ).label("kind")
    message = cast(e.batch, String) + "-" + cast(e.position, String)
    none = cast(null(), String)
    columns = (
        e.contact, none.label("interaction_id"), kind, e.event_ts.label("ts"), cast(null(), Double).label("value"),
        m.channel, m.name.label("campaign"), message.label("message_id"), e.machine, none.label("attributes"),
    )  # fmt: skip
    return (
        select(*columns)
        .select_from(EVENTS.join(MAILINGS, m.campaign == e.campaign))
        .where(e.contact.is_not(None), kind.is_not(None))
    )


def acts_statement(grid: Grid, since: int, until: int) -> Select[Any]:
    """All acts of that half-open span (epoch seconds) that the lake knows, with the columns the grid asks about.

    The others are NULL: texts nobody reads cost most of an interaction's memory.
    """
    asked = {"contact", "kind", "ts", "machine"} | {rule.same.value for rule in grid.ignore}
    asked |= {"message_id"} if "message" in asked else set()
    asked |= {"value", "attributes", "channel", "campaign"} if any(whens(grid)) else set()
    parts = []
    for source in (select(INTERACTIONS), reactions()):
        c = source.subquery("source").c
        told = [c[k.name] if k.name in asked else cast(null(), k.type).label(k.name) for k in INTERACTIONS.c]
        parts.append(select(*told).where(c.ts >= since, c.ts < until))
    return select(*union_all(*parts).subquery("acts").c)


def kept(grid: Grid, acts: FromClause, *, since: int | None = None, until: int | None = None) -> Select[Any]:
    """The acts that no other implies; with `since` and `until` (epoch seconds) those in that half-open span alone.

    `acts` has to reach further by `Grid.reach`. The anti-join is a left join by equal columns on purpose: with a
    correlated EXISTS over a range ClickHouse 26.9 gives wrong results and says nothing.
    """
    a = acts.c
    source: FromClause = acts
    conditions: list[ColumnElement[bool]] = [a.contact.is_not(None), a.ts.is_not(None)]
    for number in range(len(grid.ignore)):
        implied = _implied(grid, number, acts)
        same = [implied.c[name] == a[name] for name in implied.c.keys() if name != "implied"]  # noqa: SIM118  # columns
        source = source.outerjoin(implied, and_(*same))
        conditions.append(func.coalesce(implied.c.implied, 0) == 0)
    if since is not None:
        conditions.append(a.ts >= since)
    if until is not None:
        conditions.append(a.ts < until)
    return select(*a).select_from(source).where(*conditions)


def _implied(grid: Grid, number: int, acts: FromClause) -> Subquery:
    """What acts have in common that another implies by that rule, each once. The other's instant may be the same."""
    rule = grid.ignore[number]
    one, other = acts.alias(f"one_{number}"), acts.alias(f"other_{number}")
    a, b = one.c, other.c
    near = [a.kind.in_(rule.kinds), b.kind.in_(rule.by), b.ts >= a.ts - rule.seconds]
    near.append(b.ts <= (a.ts + rule.seconds if rule.accompanied_by else a.ts))
    shared = {Same.ANY: (), Same.CAMPAIGN: ("campaign",), Same.MESSAGE: ("message_id",)}[rule.same]
    joined = one.join(other, and_(b.contact == a.contact, *(b[name] == a[name] for name in shared)))
    told = [a[name] for name in ("contact", "kind", "ts", *shared)]
    found = select(*told, literal(1, Integer).label("implied")).distinct().select_from(joined).where(*near)
    return found.subquery(f"implied_{number}")


def clean_statement(grid: Grid, acts: FromClause) -> Select[Any]:
    """The columns of CLEAN for acts that were `kept`: one row per act and slot it counts in."""
    parts = [_layer(grid, acts, layer) for layer in _layers(grid)]
    everything = (union_all(*parts) if len(parts) > 1 else parts[0]).subquery("slotted")
    return select(*everything.c).where(everything.c.slot.is_not(None))


def _layers(grid: Grid) -> list[list[str]]:
    """Touchpoints by layers in which no two count the same kind, so that one CASE serves a layer."""
    layers: list[tuple[set[str], list[str]]] = []
    for key in dict.fromkeys(slot.touchpoint for slot in slots(grid)):
        kinds = set(grid.kinds_of(key))
        free = next((layer for layer in layers if not layer[0] & kinds), None)
        if free is None:
            free = (set(), [])
            layers.append(free)
        free[0].update(kinds)
        free[1].append(key)
    return [keys for _, keys in layers]


def _layer(grid: Grid, acts: FromClause, keys: Sequence[str]) -> Select[Any]:
    rungs = [
        (and_(*_fits(grid, acts, slot)), literal(slot.number, Integer))
        for slot in slots(grid)
        if slot.touchpoint in keys
    ]
    a = acts.c
    return select(a.contact, a.ts, cast(case(*rungs), Integer).label("slot"))


def _fits(grid: Grid, acts: FromClause, slot: Slot) -> Iterator[ColumnElement[bool]]:
    """Rungs of one touchpoint are asked in the order of its slots: the first case that fits decides."""
    point = grid.touchpoints[slot.touchpoint]
    yield acts.c.kind.in_(grid.kinds_of(slot.touchpoint))
    machine = func.coalesce(acts.c.machine, false())
    yield machine if slot.machine else not_(machine)
    asked = [point.when] if slot.case is None else [point.when, point.cases[slot.case].when]
    yield from (held for when in asked if (held := when.holds(acts)) is not None)
    if point.positive:
        yield from (not_(func.coalesce(left, false())) for left in _goodbyes(grid, slot.touchpoint, acts))


def _goodbyes(grid: Grid, key: str, acts: FromClause) -> Iterator[ColumnElement[bool]]:
    for one in grid.never_positive:
        if one.kinds and not set(one.kinds) & set(grid.kinds_of(key)):
            continue
        parts = [acts.c.kind.in_(one.kinds)] if one.kinds else []
        held = one.when.holds(acts)
        yield and_(true(), *parts, *([] if held is None else [held]))


def whens(grid: Grid) -> Iterator[When]:
    """Every condition of the grid."""
    for point in grid.touchpoints.values():
        yield from (point.when, *(one.when for one in point.cases))
    yield from (one.when for one in grid.never_positive)
