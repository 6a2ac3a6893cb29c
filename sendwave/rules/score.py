"""The engagement score: points of every touchpoint, faded by silence, summed. One contact, one whole number.

In three steps, each a statement over the one before. Traces (rules/traces.py): per contact and slot, the instant of the
last act and the number of acts. Points: per contact and touchpoint. Score: points given, faded by the purchase cycle,
minus points taken.

All of it is whole numbers. Where points fade, the rest is rounded down: linear, after d of n days,
floor(p * (n - d) / n); half-life of h days, k of them over and r days gone, floor(p * (2h - r) / (2h * 2^k)): exactly
half at each h, a straight line in between. Numerators stay below 2^53, so that a double's quotient rounds down as the
true one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sendwave.rules.acts import Slot, clean_statement, kept, once, slots
from sendwave.rules.columns import (
    CONTACTS,
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Select,
    String,
    age_days,
    and_,
    case,
    cast,
    func,
    literal,
    null,
    select,
    younger,
)
from sendwave.rules.grid import MAX_DAYS, MAX_SUM, After, Band, Cycle, Grid, Style, Touchpoint, weighed
from sendwave.rules.tiers import Tiers, known_score, tier_key
from sendwave.rules.traces import traces_statement

NEVER: Final = -(1 << 53)
"""Before every instant: in place of an act that never was."""
MAX_WEIGHED: Final = 900_000
"""Acts of machines that are counted: times 10^6 points and 10^4 for the weight, still below 2^53."""
MAX_POSITIVE_BITS: Final = 36
"""50 touchpoints of at most 10^9 points: nothing is left after so many halvings."""


def points_statement(grid: Grid, traces: FromClause, as_of: int) -> Select[Any]:
    """(contact, engaged_ts, points_<touchpoint> …) for rows of (contact, signed_up_ts, last_…, count_…)."""
    columns = [points(grid, key, traces, as_of).label(f"points_{key}") for key in grid.touchpoints]
    return select(traces.c.contact, _engaged(grid, traces).label("engaged_ts"), *columns)


def points(grid: Grid, key: str, traces: FromClause, as_of: int) -> ColumnElement[int]:
    """What one touchpoint brings a contact, 0 without an act; never NULL."""
    point = grid.touchpoints[key]
    if point.style is Style.SIGN_UP:
        signed = traces.c.signed_up_ts
        counts = [_last(grid, name, traces).is_(None) for name in point.unless]
        return case((and_(signed.is_not(None), signed <= as_of, *counts), _banded(signed, point.bands, as_of)), else_=0)
    own = [slot for slot in slots(grid) if slot.touchpoint == key]
    if point.style is Style.ADDITIVE:
        return _added(point, own, traces)
    people = _last_act(point, [slot for slot in own if not slot.machine], traces, as_of)
    machines = [slot for slot in own if slot.machine]
    if not machines:
        return func.coalesce(people, 0)
    machine = _last_act(point, machines, traces, as_of)
    return case((people.is_(None), func.coalesce(machine, 0)), (machine > people, machine), else_=people)


def _last_act(point: Touchpoint, own: Sequence[Slot], traces: FromClause, as_of: int) -> ColumnElement[Any]:
    """The bands of the slot that has the latest act, of two at once the first; NULL without an act."""
    rungs = []
    for slot in own:
        last = traces.c[slot.last]
        others = [last >= func.coalesce(traces.c[other.last], NEVER) for other in own if other is not slot]
        bands = point.bands if slot.case is None else point.cases[slot.case].bands
        if slot.machine:
            bands = tuple(b.model_copy(update={"points": weighed(b.points, point.machine)}) for b in bands)
        rungs.append((and_(last.is_not(None), *others), _banded(last, bands, as_of)))
    return case(*rungs, else_=cast(null(), BigInteger))


def _banded(then: ColumnElement[Any], bands: Sequence[Band], as_of: int) -> ColumnElement[Any]:
    rungs = [(younger(then, band.seconds, as_of), band.points) for band in bands if band.seconds is not None]
    oldest = bands[-1].points if bands and bands[-1].seconds is None else 0
    return cast(case(*rungs, else_=oldest) if rungs else literal(oldest), BigInteger)


def _added(point: Touchpoint, own: Sequence[Slot], traces: FromClause) -> ColumnElement[Any]:
    """Points times acts; a machine's weigh less, rounded towards 0. No more than the cap, and never beyond MAX_SUM."""
    size, ceiling = abs(point.points), min(point.cap or MAX_SUM, MAX_SUM)
    total: ColumnElement[Any] = cast(literal(0), BigInteger)
    for slot in own:
        acts = cast(func.coalesce(traces.c[slot.count], 0), BigInteger)
        if slot.machine:
            total = total + rounded(_at_most(acts, MAX_WEIGHED) * _big(int(size * point.machine * 10_000)), 10_000)
        else:
            total = total + _at_most(acts, MAX_SUM) * _big(size)
    limited = _at_most(total, ceiling)
    return cast(limited if point.points >= 0 else -limited, BigInteger)


def _at_most(number: ColumnElement[Any], ceiling: int) -> ColumnElement[Any]:
    return case((number > _big(ceiling), _big(ceiling)), else_=number)


def _big(number: int) -> ColumnElement[int]:
    """A constant of 64 bits: engines multiply a count by a plain one in 32."""
    return literal(number, BigInteger)


def rounded(numerator: ColumnElement[Any], denominator: int) -> ColumnElement[Any]:
    """floor(numerator / denominator), exact for whole numbers from 0 to 2^53 on every engine."""
    return cast(func.floor(cast(numerator, Double) / cast(literal(denominator, Double), Double)), BigInteger)


def _last(grid: Grid, key: str, traces: FromClause) -> ColumnElement[Any]:
    """The last act of a touchpoint, machines' apart; NULL without one."""
    return _latest([traces.c[slot.last] for slot in slots(grid) if slot.touchpoint == key and not slot.machine])


def _engaged(grid: Grid, traces: FromClause) -> ColumnElement[Any]:
    """The last act of any touchpoint that gives points, NEVER without one; what silence is measured from."""
    if grid.cycle is None:
        return cast(literal(NEVER), BigInteger)
    giving = [slot for slot in slots(grid) if grid.touchpoints[slot.touchpoint].positive]
    signed = [point.style is Style.SIGN_UP and point.positive for point in grid.touchpoints.values()]
    instants = [traces.c[slot.last] for slot in giving] + ([traces.c.signed_up_ts] if any(signed) else [])
    return func.coalesce(_latest(instants), NEVER) if instants else cast(literal(NEVER), BigInteger)


def _latest(instants: Sequence[ColumnElement[Any]]) -> ColumnElement[Any]:
    """The greatest that is known. GREATEST is NULL on some engines as soon as one of them is, and not on others."""
    if len(instants) == 1:
        return instants[0]
    found = func.greatest(*(func.coalesce(instant, NEVER) for instant in instants))
    return func.nullif(found, NEVER)


def score_statement(grid: Grid, traces: FromClause, as_of: int) -> Select[Any]:
    """(contact, score) for rows of (contact, signed_up_ts, last_…, count_…)."""
    p = points_statement(grid, traces, as_of).subquery("points")
    own = [p.c[f"points_{key}"] for key in grid.touchpoints]
    given = _summed([case((one > 0, one), else_=0) for one in own])
    taken = _summed([case((one < 0, one), else_=0) for one in own])
    sums = select(p.c.contact, p.c.engaged_ts, given.label("given"), taken.label("taken")).subquery("sums").c
    faded = sums.given if grid.cycle is None else faded_points(grid.cycle, sums.given, age_days(sums.engaged_ts, as_of))
    return select(sums.contact, (faded + sums.taken).label("score"))


def _summed(parts: Sequence[ColumnElement[Any]]) -> ColumnElement[Any]:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return cast(total, BigInteger)


def faded_points(cycle: Cycle, given: ColumnElement[Any], silent: ColumnElement[Any]) -> ColumnElement[Any]:
    """What is left of points given after so many silent days."""
    window = cycle.window.days
    stands = (silent < window, given)
    if cycle.then is After.RESET or cycle.over is None:
        return case(stands, else_=0)
    over = cycle.over.days
    if cycle.then is After.LINEAR:
        return case(stands, (silent < window + over, rounded(given * (window + over - silent), over)), else_=0)
    halves = [
        (silent < window + over * (k + 1), rounded(given * (2 * over - (silent - window - over * k)), 2 * over << k))
        for k in range(MAX_POSITIVE_BITS)
        if over * k <= MAX_DAYS
    ]
    return case(stands, *halves, else_=0)


def whole_statement(grid: Grid, as_of: int, interactions: FromClause, contacts: FromClause = CONTACTS) -> Select[Any]:
    """(contact, score) of everybody, in one statement, from interactions as they are: what a database is given.

    Duplicates count once, correlated acts are left out, and acts later than `as_of` (epoch seconds) give no points.
    """
    acts = once(interactions).cte("acts")
    clean = clean_statement(grid, kept(grid, acts).cte("kept")).cte("clean")
    traces = traces_statement(grid, as_of, clean).cte("traces")
    source = contacts.outerjoin(traces, traces.c.contact == contacts.c.contact)
    columns = [column for column in traces.c if column.name != "contact"]
    base = select(contacts.c.contact, contacts.c.signed_up_ts, *columns).select_from(source).cte("base")
    return score_statement(grid, base, as_of)


def history_statement(
    new: FromClause, former: FromClause, *, grid: Grid, tiers: Tiers, cuts: Tiers, day: str, changed_ts: int
) -> Select[Any]:
    """The columns of HISTORY for rows of (contact, score) in `new`, which changed on that local date.

    `cuts` are `tiers` by score, for the scores of that day; `changed_ts` is in epoch seconds.
    """
    none = cast(null(), String)
    told = [
        new.c.contact,
        literal(day, String).label("scored_on"),
        literal(changed_ts, BigInteger).label("changed_ts"),
        cast(new.c.score, Double).label("score"),
        tier_key(cuts, new.c.score, none).label("tier"),
        literal(grid.version, String).label("grid_version"),
        known_score(former.c.score).label("former_score"),
        tier_key(tiers, former.c.score, former.c.tier).label("former_tier"),
        former.c.grid_version.label("former_grid"),
    ]
    return select(*told).select_from(new.outerjoin(former, former.c.contact == new.c.contact))
