"""What acts leave on a contact: per slot of the grid, the instant of the last one and how many there were.

Traces can be kept from one day to the next: `joined` adds what happened since, and takes away what left its window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sendwave.rules.acts import slots
from sendwave.rules.columns import (
    CLEAN,
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    TableClause,
    and_,
    between,
    case,
    column,
    func,
    or_,
    select,
    table,
    younger,
)
from sendwave.rules.grid import Grid, Style

Among = tuple[int, int]
"""First and last contact a statement is about."""


class Span(NamedTuple):
    """A half-open span of epoch seconds; None where it is open."""

    since: int | None = None
    until: int | None = None

    def holds(self, ts: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        """The conditions that an instant lies in it."""
        since = [] if self.since is None else [ts >= self.since]
        return since if self.until is None else [*since, ts < self.until]


def windows(grid: Grid) -> dict[int, int]:
    """Slot number -> seconds of the window its acts count in, for additive touchpoints that have one."""
    return {
        slot.number: int(point.window.total_seconds())
        for slot in slots(grid)
        if (point := grid.touchpoints[slot.touchpoint]).style is Style.ADDITIVE and point.window is not None
    }


def traced(grid: Grid) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of traces that hold a last instant, and those that hold a count."""
    lasts, counts = [], []
    ends = {key for point in grid.touchpoints.values() for key in point.unless}
    for slot in slots(grid):
        point = grid.touchpoints[slot.touchpoint]
        if point.style is Style.ADDITIVE:
            counts.append(slot.count)
        if point.style is Style.LAST_ACT or slot.touchpoint in ends or (grid.cycle is not None and point.positive):
            lasts.append(slot.last)
    return tuple(lasts), tuple(counts)


def traces_statement(
    grid: Grid, as_of: int, clean: FromClause = CLEAN, span: Span | None = None, among: Among | None = None
) -> Select[Any]:
    """(contact, last_<slot> …, count_<slot> …) of the acts of `span` (all, up to `as_of`), by contact.

    Counts are of the acts inside their window at `as_of` (epoch seconds). `among` are the first and last contact asked
    about; none means all.
    """
    lasts, counts = traced(grid)
    asked = select(clean.c.contact, *_columns(grid, as_of, clean, lasts, counts))
    asked = asked.where(clean.c.ts <= as_of, *(span or Span()).holds(clean.c.ts))
    if among is not None:
        asked = asked.where(between(clean.c.contact, *among))
    return asked.group_by(clean.c.contact)


def _columns(
    grid: Grid, as_of: int, clean: FromClause, lasts: Sequence[str], counts: Sequence[str]
) -> Iterator[ColumnElement[Any]]:
    reach = windows(grid)
    for slot in slots(grid):
        here = clean.c.slot == slot.number
        if slot.last in lasts:
            yield func.max(clean.c.ts).filter(here).label(slot.last)
        if slot.count in counts:
            window = reach.get(slot.number)
            inside = here if window is None else and_(here, younger(clean.c.ts, window, as_of))
            yield func.count(clean.c.ts).filter(inside).label(slot.count)


def expired_statement(
    grid: Grid, clean: FromClause, *, before: int, as_of: int, until: int, among: Among | None = None
) -> Select[Any] | None:
    """(contact, count_<slot> …) of acts earlier than `until` that left their window between `before` and `as_of`.

    None where no slot has a window. All in epoch seconds.
    """
    left = []
    spans = []
    for slot in slots(grid):
        if (window := windows(grid).get(slot.number)) is not None:
            ts = clean.c.ts
            gone = and_(ts > before - window, ts <= as_of - window)
            left.append(func.count(ts).filter(and_(clean.c.slot == slot.number, gone)).label(slot.count))
            spans.append(gone)
    if not left:
        return None
    asked = select(clean.c.contact, *left).where(or_(*dict.fromkeys(spans)), clean.c.ts < until)
    if among is not None:
        asked = asked.where(between(clean.c.contact, *among))
    return asked.group_by(clean.c.contact)


def joined(
    grid: Grid, contacts: FromClause, kept_traces: FromClause, recent: FromClause, expired: FromClause | None
) -> Select[Any]:
    """(contact, signed_up_ts, last_…, count_…) of everybody in `contacts`: kept traces with what happened since."""
    source = contacts.outerjoin(kept_traces, kept_traces.c.contact == contacts.c.contact)
    source = source.outerjoin(recent, recent.c.contact == contacts.c.contact)
    if expired is not None:
        source = source.outerjoin(expired, expired.c.contact == contacts.c.contact)
    lasts, counts = traced(grid)
    columns: list[ColumnElement[Any]] = []
    for name in lasts:
        old, new = kept_traces.c[name], recent.c[name]
        columns.append(case((new > old, new), else_=func.coalesce(old, new)).label(name))
    for name in counts:
        total = func.coalesce(kept_traces.c[name], 0) + func.coalesce(recent.c[name], 0)
        if expired is not None and name in expired.c:
            total -= func.coalesce(expired.c[name], 0)
        columns.append(total.label(name))
    return select(contacts.c.contact, contacts.c.signed_up_ts, *columns).select_from(source)


def traces_table(grid: Grid, name: str = "traces") -> TableClause:
    """Traces that were kept, as a table of that name."""
    lasts, counts = traced(grid)
    return table(name, *(column(c, BigInteger) for c in ("contact", *lasts, *counts)))
