"""An audience in numbers: how many people each of its parts holds for, alone and together with those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sendwave.rules.affinity import asked, field_of, holds
from sendwave.rules.audience import Condition, Group, Leaf, Who
from sendwave.rules.columns import (
    CONTACTS,
    INTERACTIONS,
    SCORES,
    BigInteger,
    Boolean,
    ColumnElement,
    FromClause,
    Select,
    String,
    Subquery,
    and_,
    attribute,
    case,
    cast,
    func,
    literal,
    not_,
    null,
    select,
    true,
)
from sendwave.rules.tiers import Tiers


@dataclass(frozen=True, slots=True)
class Line:
    """One part of an audience: how deep it lies, how it is joined to the part before it, and its words."""

    depth: int
    how: str  # of the group it is in: all | any | not
    text: str
    index: int
    first: bool  # of its group
    whole: str  # the clauses of a group in one line


def lines(who: Who) -> tuple[Line, ...]:
    """Every part as the text lists it; a group comes before its parts."""
    return tuple(line for line, _, _ in _walked(who))


def _walked(who: Who) -> list[tuple[Line, Condition, Condition]]:
    """Each line with its condition, and with its group's as far as this line."""
    found: list[tuple[Line, Condition, Condition]] = []

    def walk(condition: Condition, depth: int, how: str, before: Sequence[Condition]) -> None:
        group = Group(how if how != "not" else "all", (*before, condition))
        words = condition.text or {"all": "all of", "any": "any of", "not": "not"}.get(
            getattr(condition, "how", ""), ""
        )
        found.append((Line(depth, how, words, len(found), not before, _whole(condition)), condition, group))
        if isinstance(condition, Group) and not (condition.text and condition.how == "not"):
            told: list[Condition] = []
            for part in condition.parts:
                walk(part, depth + 1, condition.how, tuple(told))
                told.append(part)

    top = who.condition
    if isinstance(top, Group) and not top.text and top.how != "not":
        for number, part in enumerate(top.parts):
            walk(part, 0, top.how, top.parts[:number])
    elif top is not None:
        walk(top, 0, "all", ())
    return found


def counts_statement(
    who: Who, tiers: Tiers, now_ts: int, by: str | None = None, baseline: Who | None = None
) -> Select[Any]:
    """People per value of `by` (a field; none: one row): `people`, `inside`, and of each line `yes_N`, `no_N`, `run_N`.

    `run_N`: those in its group's conditions as far as that line. With `baseline`, also `base`, those in that audience,
    and `both`.
    """
    judged, truths = _judged(who, tiers, now_ts, by, baseline)
    j = judged.c
    columns: list[ColumnElement[Any]] = [func.count().label("people")]
    columns.append(_counted(_folded(who, truths), "inside"))
    for line, condition, group in _walked(who):
        inside = _of(condition, truths)
        columns.append(_counted(inside, f"yes_{line.index}"))
        columns.append(_counted(not_(inside), f"no_{line.index}"))
        columns.append(_counted(_of(group, truths), f"run_{line.index}"))
    if baseline is not None:
        columns.append(_counted(j.base, "base"))
        columns.append(_counted(and_(j.base, _folded(who, truths)), "both"))
    return select(j.by, *columns).group_by(j.by)


def kinds_statement() -> Select[Any]:
    """(kind) of all interactions of the lake, each once; up to 1,000."""
    return select(INTERACTIONS.c.kind).where(INTERACTIONS.c.kind.is_not(None)).distinct().limit(1_000)


def documents_statement(kinds: Sequence[str], name: str | None = None) -> Select[Any]:
    """(attributes) of some interactions of these kinds, as JSON text: up to 2,000, or one that has that attribute."""
    i = INTERACTIONS.c
    asked = select(i.attributes).where(i.kind.in_([literal(kind, String) for kind in kinds]), i.attributes.is_not(None))
    return asked.limit(2_000) if name is None else asked.where(attribute(i.attributes, name).is_not(None)).limit(1)


def _whole(condition: Condition) -> str:
    if condition.text or isinstance(condition, Leaf):
        return condition.text
    joined = (" or " if condition.how == "any" else " and ").join(map(_whole, condition.parts))
    return f"not ({joined})" if condition.how == "not" else joined


def truth_of(who: Who, truths: Mapping[int, bool | None]) -> list[tuple[Line, bool | None]]:
    """Each line with its truth, from those of the clauses of one contact."""
    number = {id(leaf): n for n, leaf in enumerate(who.leaves())}
    return [(line, _decide(condition, truths, number)) for line, condition, _ in _walked(who)]


def _decide(condition: Condition, truths: Mapping[int, bool | None], number: Mapping[int, int]) -> bool | None:
    if isinstance(condition, Leaf):
        return truths[number[id(condition)]]
    found = [_decide(part, truths, number) for part in condition.parts]
    if condition.how == "not":
        return None if found[0] is None else not found[0]
    decisive = condition.how == "any"  # one yes decides `any`, one no decides `all`
    if decisive in found:
        return decisive
    return None if None in found else not decisive


def _judged(
    who: Who, tiers: Tiers, now_ts: int, by: str | None, baseline: Who | None
) -> tuple[Subquery, Mapping[int, ColumnElement[Any]]]:
    """One row per contact with the truth of each clause as a column; the columns by clause."""
    start: FromClause = CONTACTS.outerjoin(SCORES, SCORES.c.contact == CONTACTS.c.contact)
    source, truths = asked(start, who, tiers, now_ts, None)
    further = [cast(truth, Boolean).label(f"holds_{n}") for n, truth in enumerate(truths)]
    if baseline is not None:
        source, base_truths = asked(source, baseline, tiers, now_ts, None, "base_acts")
        assert baseline.condition is not None, "nobody asks for everybody"
        further.append(cast(holds(baseline.condition, iter(base_truths)), Boolean).label("base"))
    key = cast(null(), String) if by is None else field_of(by, tiers)
    judged = select(key.label("by"), *further).select_from(source).subquery("judged")
    leaves = {id(leaf): judged.c[f"holds_{n}"] for n, leaf in enumerate(who.leaves())}
    return judged, leaves


def _folded(who: Who, truths: Mapping[int, ColumnElement[Any]]) -> ColumnElement[Any]:
    return true() if who.condition is None else _of(who.condition, truths)


def _of(condition: Condition, truths: Mapping[int, ColumnElement[Any]]) -> ColumnElement[Any]:
    leaves = [condition] if isinstance(condition, Leaf) else [*Who(condition).leaves()]
    return holds(condition, iter([truths[id(leaf)] for leaf in leaves]))


def _counted(test: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    return cast(func.coalesce(func.sum(case((test, 1), else_=0)), 0), BigInteger).label(name)


_SPOKEN = {"all": "all of", "any": "any of", "not": "not"}
