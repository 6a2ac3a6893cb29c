"""What acts leave on a contact: per slot of the grid, the instant of the last one and how many there were.

`traces_statement` gathers them in any database; the embedded engine does the same by position (engine/traces.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sendwave.rules.acts import slots
from sendwave.rules.columns import (
    CLEAN,
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Subquery,
    and_,
    cast,
    column,
    func,
    select,
    table,
    younger,
)
from sendwave.rules.grid import Grid, Style


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


def traces_statement(grid: Grid, as_of: int, clean: FromClause = CLEAN) -> Select[Any]:
    """(contact, last_<slot> …, count_<slot> …) of the acts up to `as_of` (epoch seconds), by contact.

    Counts are of the acts inside their window at `as_of`.
    """
    lasts, counts = traced(grid)
    asked = select(clean.c.contact, *_columns(grid, as_of, clean, lasts, counts))
    return asked.where(clean.c.ts <= as_of).group_by(clean.c.contact)


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


def edges(grid: Grid) -> dict[int, frozenset[int]]:
    """Slot number -> ages (seconds) at which an act of it changes what it brings: edges of bands, ends of windows."""
    found: dict[int, frozenset[int]] = {}
    for slot in slots(grid):
        point = grid.touchpoints[slot.touchpoint]
        bands = point.bands if slot.case is None else point.cases[slot.case].bands
        ages = {band.seconds for band in bands if band.seconds is not None}
        found[slot.number] = frozenset(ages | {windows(grid)[slot.number]} if slot.number in windows(grid) else ages)
    return found


def sign_up_edges(grid: Grid) -> frozenset[int]:
    """Ages (seconds) at which a sign-up date brings something else."""
    bands = [band for point in grid.touchpoints.values() if point.style is Style.SIGN_UP for band in point.bands]
    return frozenset(band.seconds for band in bands if band.seconds is not None)


def base_table(grid: Grid, name: str = "base") -> Subquery:
    """(contact, signed_up_ts, last_…, count_…), from a table of that name in which an instant of 0 stands for never."""
    lasts, counts = traced(grid)
    instants = ("signed_up_ts", *lasts)
    given = table(name, *(column(c, BigInteger) for c in ("contact", *instants, *counts)))
    known = [cast(func.nullif(given.c[c], 0), BigInteger).label(c) for c in instants]
    counted = [cast(given.c[c], BigInteger).label(c) for c in counts]
    return select(given.c.contact, *known, *counted).subquery(f"known_{name}")
