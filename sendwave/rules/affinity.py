"""Does the message concern them: an audience as one expression over contacts, scores and interactions.

Every clause is true, false or unknown (NULL), and `all`, `any`, `not` follow SQL's three-valued logic, so that the
unknown is never a yes. An act whose filters are not known of it counts as unknown, not as missing: somebody with a
purchase of no known category is neither known to have bought shoes nor known not to have.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sendwave.errors import did_you_mean
from sendwave.rules import tiers as tier_rules
from sendwave.rules.acts import reactions
from sendwave.rules.audience import Condition, Leaf, Loc, Who
from sendwave.rules.clauses import DATE, VERBS, Acted, Compared, Named, SignedUp, Slip
from sendwave.rules.columns import (
    CONTACTS,
    INTERACTIONS,
    SCORES,
    Among,
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    FromClause,
    Reason,
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
    true,
    union_all,
    younger,
)
from sendwave.rules.tiers import Tiers

IN_AUDIENCE: Final = "in_audience"
"""Column: whether the audience holds for the contact; NULL where it is not known."""

REASON: Final = Reason("not_in_audience", column(IN_AUDIENCE, Boolean))
OWN_FIELDS: Final = ("country", "language", "timezone", "provider", "owner", "group_key", "score", "tier")
"""Fields every base has, beside the columns of its own files (`attr_…`)."""

ATTRIBUTE: Final = "attr_"
_NUMERIC: Final = r"^-?[0-9]{1,15}(\.[0-9]{1,9})?$"
_DATED: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_REACTIONS: Final = ("unsubscribe", "complaint", "hard_bounce")
_CENTS: Final = 100  # amounts are summed as whole cents: sums of doubles differ between engines
_LARGEST: Final = 1e13  # amounts beyond are no amounts; a hundred thousand of them still add up in 64 bits


def inputs(who: Who) -> tuple[str, ...]:
    """Datasets an audience reads beside contacts and scores; with `events`, the table `mailings` too."""
    kinds = {kind for leaf in who.leaves() if isinstance(leaf.clause, Acted) for kind in leaf.clause.kinds}
    if not kinds:
        return ()
    return ("interactions", "events") if any(_is_reaction(kind) for kind in kinds) else ("interactions",)


def fields(columns: Collection[str]) -> frozenset[str]:
    """The fields one may ask for, given the columns of the base's files."""
    own = (name.removeprefix(ATTRIBUTE) for name in columns if name.startswith(ATTRIBUTE))
    return frozenset((*OWN_FIELDS, *own))


def unknown_fields(who: Who, columns: Collection[str]) -> Iterator[tuple[Loc, Slip]]:
    """Fields no contact of the base has. `columns` are those of its files."""
    known = fields(columns)
    for leaf in who.leaves():
        clause = leaf.clause
        if isinstance(clause, Compared) and clause.name not in known:
            hint = did_you_mean(clause.name, (*known, *VERBS))
            yield leaf.loc, Slip(f"no contact has a field {clause.name!r}.{hint}", clause.at)
        elif isinstance(clause, Compared) and clause.name == "score" and not _is_number(clause):
            yield leaf.loc, Slip("the score is a number: write for instance score over 40", clause.at)


def unknown_kinds(who: Who, kinds: Collection[str]) -> Iterator[tuple[Loc, Slip]]:
    """Kinds of interactions that neither the base nor the scoring grid knows."""
    for leaf in who.leaves():
        if isinstance(leaf.clause, Acted):
            places = dict(leaf.clause.places)
            for kind in leaf.clause.kinds:
                if kind in places and kind not in kinds and not _is_reaction(kind):
                    problem = f"there are no interactions of the kind {kind!r}.{did_you_mean(kind, kinds)}"
                    yield leaf.loc, Slip(problem, places[kind])


def _is_number(clause: Compared) -> bool:
    return clause.operator == "exists" or all(re.fullmatch(_NUMERIC, word) for word in clause.words)


def member(
    source: FromClause, who: Who, tiers: Tiers, now_ts: int, among: Among | None = None
) -> tuple[FromClause, ColumnElement[Any]]:
    """`source` (which holds CONTACTS and SCORES) with what the audience asks, and the column IN_AUDIENCE."""
    source, truths = asked(source, who, tiers, now_ts, among)
    assert who.condition is not None, "nobody asks for everybody"
    return source, cast(holds(who.condition, iter(truths)), Boolean).label(IN_AUDIENCE)


def contact_statement(who: Who, tiers: Tiers, now_ts: int, contact: int) -> Select[Any]:
    """One row: of each clause N of the audience whether it holds (`holds_N`), and what was seen (`seen_N`), as text."""
    among: Among = lambda asked: asked == contact  # noqa: E731  # reads best where it is used
    start = CONTACTS.outerjoin(SCORES, SCORES.c.contact == CONTACTS.c.contact)
    source, truths = asked(start, who, tiers, now_ts, among)
    found = [cast(truth, Boolean).label(f"holds_{n}") for n, truth in enumerate(truths)]
    told = [cast(_seen(leaf, n, tiers), String).label(f"seen_{n}") for n, leaf in enumerate(who.leaves())]
    return select(CONTACTS.c.contact, *found, *told).select_from(source).where(CONTACTS.c.contact == contact)


def holds(condition: Condition, truths: Iterator[ColumnElement[Any]]) -> ColumnElement[Any]:
    """The condition over the truths of its clauses, which come in the order of the text."""
    if isinstance(condition, Leaf):
        return next(truths)
    parts = [holds(part, truths) for part in condition.parts]
    if condition.how == "not":
        return not_(parts[0])
    return or_(*parts) if condition.how == "any" else and_(*parts)


def asked(  # noqa: PLR0917  # where, for whom, when; the name keeps two audiences of one statement apart
    source: FromClause, who: Who, tiers: Tiers, now_ts: int, among: Among | None, name: str = "audience_acts"
) -> tuple[FromClause, list[ColumnElement[Any]]]:
    """`source` with the acts clauses ask for, and the truth (true, false, NULL) of each clause."""
    clauses = [leaf.clause for leaf in who.leaves()]
    acted = {n: clause for n, clause in enumerate(clauses) if isinstance(clause, Acted)}
    found = _acts(acted, now_ts, among).subquery(name) if acted else None
    if found is not None:
        source = source.outerjoin(found, found.c.contact == CONTACTS.c.contact)
    truths: list[ColumnElement[Any]] = []
    for n, clause in enumerate(clauses):
        assert not isinstance(clause, Named), "audiences are resolved before they are compiled"
        if isinstance(clause, Acted):
            assert found is not None
            truths.append(_often(clause, n, found))
        elif isinstance(clause, SignedUp):
            signed = CONTACTS.c.signed_up_ts
            truths.append(and_(younger(signed, clause.seconds, now_ts), signed <= now_ts))
        else:
            truths.append(_compared(clause, tiers))
    return source, truths


def field_of(name: str, tiers: Tiers) -> ColumnElement[Any]:
    """A field of contacts, of their score or their tier."""
    if name == "tier":
        return tier_rules.tier_key(tiers, SCORES.c.score, SCORES.c.tier)
    if name == "score":
        return tier_rules.known_score(SCORES.c.score)
    return CONTACTS.c[name] if name in OWN_FIELDS else column(ATTRIBUTE + name, String)


def _compared(clause: Compared, tiers: Tiers) -> ColumnElement[Any]:
    found = field_of(clause.name, tiers)
    if clause.operator == "exists":
        return found.is_not(None)
    if clause.name == "score":
        return _score(clause, found)
    words = [literal(word, String) for word in clause.words]
    if clause.operator in ("in", "not in"):
        return found.in_(words) if clause.operator == "in" else found.not_in(words)
    if clause.operator == "contains":
        return func.strpos(found, words[0]) > 0
    if DATE.fullmatch(clause.words[0]):
        dated = case((found.regexp_match(_DATED), func.substr(found, 1, 10)))
        return dated.op(clause.operator, is_comparison=True)(words[0])
    number = cast(case((found.regexp_match(_NUMERIC), found)), Double)
    return number.op(clause.operator, is_comparison=True)(cast(literal(float(clause.words[0]), Double), Double))


def _score(clause: Compared, score: ColumnElement[Any]) -> ColumnElement[Any]:
    numbers = [cast(literal(float(word), Double), Double) for word in clause.words]
    if clause.operator in ("in", "not in"):
        return score.in_(numbers) if clause.operator == "in" else score.not_in(numbers)
    return score.op(clause.operator, is_comparison=True)(numbers[0])


def _acts(acted: Mapping[int, Acted], now_ts: int, among: Among | None) -> Select[Any]:
    """Per contact and clause: `sure_N` acts that fit, `maybe_N` that fit or may, `cents_N` and `blank_N` of totals."""
    acts = _source(acted.values(), now_ts, among)
    a = acts.c
    fits = [_fits(clause, acts, now_ts).label(f"fits_{n}") for n, clause in acted.items()]
    amount = case((and_(a.value <= _LARGEST, a.value >= -_LARGEST), a.value))
    cents = cast(func.floor(amount * _CENTS + 0.5), BigInteger).label("cents")
    judged = select(a.contact, cents, *fits).subquery("judged_acts")
    j = judged.c
    columns: list[ColumnElement[Any]] = []
    for n, clause in acted.items():
        sure, maybe = j[f"fits_{n}"], func.coalesce(j[f"fits_{n}"], true())
        columns += [func.sum(case((sure, 1), else_=0)).label(f"sure_{n}")]
        columns += [func.sum(case((maybe, 1), else_=0)).label(f"maybe_{n}")] if clause.when else []
        if clause.total is not None:
            columns.append(func.sum(case((sure, j.cents), else_=0)).label(f"cents_{n}"))
            columns.append(func.sum(case((and_(sure, j.cents.is_(None)), 1), else_=0)).label(f"blank_{n}"))
    return select(j.contact, *columns).group_by(j.contact)


def _source(acted: Any, now_ts: int, among: Among | None) -> Subquery:
    """The acts of the lake that some clause may count, with the columns asked for."""
    clauses = list(acted)
    kinds = sorted({kind for clause in clauses for kind in clause.kinds})
    windows = [clause.seconds for clause in clauses]
    asked = {"contact", "kind", "ts", "machine", "value"}
    if any(clause.when for clause in clauses):
        asked |= {"attributes", "channel", "campaign"}
    parts = []
    sources = [select(INTERACTIONS), *([reactions()] if any(map(_is_reaction, kinds)) else [])]
    for number, source in enumerate(sources):
        c = source.subquery(f"told_{number}").c
        told = [c[k.name] for k in INTERACTIONS.c if k.name in asked]
        where = [c.kind.in_([literal(kind, String) for kind in kinds]), c.ts <= now_ts]
        where += [] if None in windows else [younger(c.ts, max(w for w in windows if w is not None), now_ts)]
        where.append(or_(*(_due(clause, c.kind, c.ts, now_ts) for clause in clauses)))  # spares the grouping most acts
        parts.append(select(*told).where(*where, *([] if among is None else [among(c.contact)])))
    return (union_all(*parts) if len(parts) > 1 else parts[0]).subquery("asked_acts")


def _due(clause: Acted, kind: ColumnElement[Any], ts: ColumnElement[Any], now_ts: int) -> ColumnElement[bool]:
    asked = kind.in_([literal(one, String) for one in clause.kinds])
    return asked if clause.seconds is None else and_(asked, younger(ts, clause.seconds, now_ts))


def _fits(clause: Acted, acts: FromClause, now_ts: int) -> ColumnElement[Any]:
    a = acts.c
    parts: list[ColumnElement[Any]] = [a.kind.in_([literal(kind, String) for kind in clause.kinds])]
    if clause.seconds is not None:
        parts.append(younger(a.ts, clause.seconds, now_ts))
    if not clause.machines:
        parts.append(not_(func.coalesce(a.machine, false())))
    held = clause.when.holds(acts) if clause.when else None
    return and_(*parts, *([] if held is None else [held]))


def _often(clause: Acted, n: int, found: Subquery) -> ColumnElement[Any]:
    """Whether they did it that often: unknown where it depends on acts of which the filters are not known."""
    sure = func.coalesce(found.c[f"sure_{n}"], 0)
    maybe = func.coalesce(found.c[f"maybe_{n}"], 0) if clause.when else sure
    if clause.total is not None:
        operator, limit = clause.total
        total = func.coalesce(found.c[f"cents_{n}"], 0)
        open_question = or_(maybe > sure, func.coalesce(found.c[f"blank_{n}"], 0) > 0)
        wanted = literal(int(limit * _CENTS + (0.5 if limit >= 0 else -0.5)), BigInteger)
        return case((open_question, cast(null(), Boolean)), else_=total.op(operator, is_comparison=True)(wanted))
    low, high = sure >= clause.least, maybe >= clause.least
    if clause.most is not None:
        low, high = and_(low, maybe <= clause.most), and_(high, sure <= clause.most)
    return low if not clause.when else case((low, true()), (high, cast(null(), Boolean)), else_=false())


def _seen(leaf: Leaf, n: int, tiers: Tiers) -> ColumnElement[Any]:
    clause = leaf.clause
    if isinstance(clause, Acted):
        name = f"cents_{n}" if clause.total is not None else f"sure_{n}"
        return func.coalesce(column(name, BigInteger), 0)
    if isinstance(clause, SignedUp):
        return CONTACTS.c.signed_up_ts
    assert isinstance(clause, Compared)
    return field_of(clause.name, tiers)


def _is_reaction(kind: str) -> bool:
    return kind in _REACTIONS or kind.endswith(("_open", "_click"))


def seen(leaf: Leaf, found: str | None) -> str:
    """One clause with what was seen (`seen_N`) of a contact, for people: `bought within 30d (2 times)`."""
    clause = leaf.clause
    words = clause.text.removeprefix("not ")
    if isinstance(clause, Acted):
        told = f"{int(found or 0) / _CENTS:.2f} in all" if clause.total is not None else f"{int(found or 0)} times"
    elif isinstance(clause, SignedUp):
        told = "not known" if found is None else f"{datetime.fromtimestamp(int(found), UTC):%Y-%m-%d}"
    else:
        told = "not known" if found is None else f"is {found}"
    return f"{words} ({told})"
