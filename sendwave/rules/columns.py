"""The words of the house: the lake's tables and columns, and the expression vocabulary the rules speak.

Rules import SQLAlchemy only through this module. Instants in the lake are epoch seconds (`*_ts`, BIGINT, UTC), because
"days" differ between engines: an age is `age_days(then, now)`, 24-hour spans rounded down, everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Select,
    String,
    Subquery,
    TableClause,
    and_,
    between,
    bindparam,
    case,
    cast,
    column,
    exists,
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
from sqlalchemy.ext.compiler import compiles

__all__ = [
    "BOUND",
    "CLEAN",
    "CONSENTS",
    "CONTACTS",
    "CTE",
    "DATASETS",
    "EVENTS",
    "EXPERIMENTS",
    "HISTORY",
    "INTERACTIONS",
    "PLAN",
    "RETURNS",
    "SCORES",
    "SENDS",
    "SUPPRESSIONS",
    "BigInteger",
    "Boolean",
    "ColumnElement",
    "Double",
    "FromClause",
    "Integer",
    "Select",
    "String",
    "Subquery",
    "TableClause",
    "age_days",
    "alike",
    "and_",
    "attribute",
    "between",
    "bindparam",
    "case",
    "cast",
    "column",
    "exists",
    "false",
    "func",
    "literal",
    "not_",
    "null",
    "or_",
    "select",
    "table",
    "true",
    "union_all",
    "younger",
]  # fmt: skip


def _table(name: str, **columns: Any) -> TableClause:
    return table(name, *(column(key, kind) for key, kind in columns.items()))


CONTACTS: Final = _table(
    "contacts",
    contact=BigInteger,  # surrogate of contact_id, given once, never reused
    contact_id=String,  # the CRM's own id
    email=String,  # normalised; NULL when missing or unusable
    email_hash=String,  # first 32 hex digits of sha256(email): what suppressions know
    email_status=String,  # valid | invalid | missing | duplicate
    provider=String,  # mailbox provider key of lanes.yaml
    phone=String,
    phone_hash=String,
    phone_status=String,
    timezone=String,  # IANA name or NULL
    language=String,
    country=String,
    signed_up_ts=BigInteger,
    owner=String,
    group_key=String,  # household or account, for shared pressure
    seed=Boolean,  # one of our own addresses, in every wave
)
"""One row per contact of the newest snapshot; a CSV's further columns follow as `attr_<name>` (VARCHAR)."""

CONSENTS: Final = _table(
    "consents",
    contact=BigInteger,
    channel=String,  # email | sms | push
    purpose=String,
    status=String,  # granted | withdrawn | pending
    basis=String,  # consent | soft_opt_in | contract | …
    recorded_ts=BigInteger,
    proof=String,
)
"""The latest row per (contact, channel, purpose). No row means: not known, hence not contactable."""

SUPPRESSIONS: Final = _table("suppressions", address_hash=String, channel=String, scope=String, reason=String)
"""Live truth, read from the store at the moment of asking."""

SCORES: Final = _table(
    "scores", contact=BigInteger, score=Double, tier=String, grid_version=String, scored_ts=BigInteger
)
"""The newest score per contact. `tier` may be NULL: then the cut-offs of tiers.yaml decide."""

SENDS: Final = _table(
    "sends",
    contact=BigInteger,
    campaign=BigInteger,  # store id; negative for imported history
    type=String,
    channel=String,
    sent_ts=BigInteger,
    freeze=BigInteger,  # 0 for imported history
    batch=BigInteger,
    position=Integer,  # index of the recipient in the batch, and its bit in tallies
    wave=Integer,
    tier=String,
    provider=String,
    address_hash=String,
    excluded_by=String,  # set for people the re-check at release took out: they hold no slot
    parts=Integer,  # of a text message, as measured at release; NULL where nobody measured
)
"""The pressure ledger: everybody frozen into a wave counts as sent from that moment, minus RETURNS."""

RETURNS: Final = _table("returns", freeze=BigInteger, contact=BigInteger, reason=String)
"""Slots given back: `refused` and `dropped` are final for that campaign, the `recalled` may be released again."""

INTERACTIONS: Final = _table(
    "interactions",
    contact=BigInteger,
    interaction_id=String,
    kind=String,
    ts=BigInteger,
    value=Double,
    channel=String,
    campaign=String,
    message_id=String,
    machine=Boolean,  # an open by a privacy proxy or scanner
    attributes=String,  # JSON object
)

CLEAN: Final = _table("clean", contact=BigInteger, ts=BigInteger, slot=Integer)
"""Interactions that count, by the slot of the grid they count in (rules/acts.py); one file per UTC day."""

HISTORY: Final = _table(
    "history",
    contact=BigInteger,
    scored_on=String,  # local date of the run or import, YYYY-MM-DD
    changed_ts=BigInteger,  # when it came into force
    score=Double,  # NULL for somebody whom imported scores left out
    tier=String,  # NULL where imported scores came without one
    grid_version=String,
    former_score=Double,  # NULL for somebody scored for the first time
    former_tier=String,
    former_grid=String,
)
"""Changes of score alone: a contact's score at an instant is that of their last row up to it.

A file of it is registered before the scores it leads to: those with a higher number tell what came after them.
"""

EVENTS: Final = _table(
    "events",
    contact=BigInteger,
    campaign=BigInteger,
    wave=Integer,
    batch=BigInteger,
    position=Integer,
    provider=String,
    tally=String,
    type=String,
    permanence=String,
    cause=String,
    event_ts=BigInteger,
    received_ts=BigInteger,
    machine=Boolean,
    enhanced_code=String,
    url=String,
    description=String,
    report=BigInteger,
    first=Boolean,
    act=BigInteger,
)
"""De-duplicated feedback: one row per (batch, position, tally), except clicks and opens with their own time.

`first`: it is the one its tally counts. `report`: the stored report it came with, for as long as that is kept. `act`:
the key of an open or click beside its bitmap, 0 for anything else.
"""

EXPERIMENTS: Final = _table(
    "experiments",
    experiment=String,
    contact=BigInteger,  # NULL for somebody who is no contact of the base
    contact_id=String,
    arm=String,
    control=Boolean,  # the arm that got nothing
    tier=String,
    assigned_ts=BigInteger,
    visited=Boolean,  # NULL where nobody said
    converted=Boolean,
    revenue=Double,
)
"""Randomised experiments run elsewhere, a row per person; further columns follow as `attr_<name>` (VARCHAR)."""

PLAN: Final = _table(
    "plan",
    contact=BigInteger,
    contact_id=String,
    tier=String,
    tier_rank=Integer,  # 1 is the most engaged
    score=Double,
    provider=String,
    excluded_by=String,  # NULL for the people of the plan
    rank=BigInteger,  # 1 is first; NULL for the excluded
    wave=Integer,  # 1 is first; NULL for the excluded
)
"""Every contact of the base: a place in the sequence, or the reason for having none. No addresses."""

DATASETS: Final = {
    t.name: t
    for t in (
        CONTACTS,
        CONSENTS,
        SUPPRESSIONS,
        SCORES,
        SENDS,
        RETURNS,
        INTERACTIONS,
        CLEAN,
        HISTORY,
        EVENTS,
        EXPERIMENTS,
        PLAN,
    )
}


def alike(name: str, model: TableClause) -> TableClause:
    """A table of that name with the columns of another."""
    return table(name, *(column(c.name, c.type) for c in model.c))


def age_days(then: ColumnElement[Any], now_ts: int) -> ColumnElement[int]:
    """Whole 24-hour spans between `then` (epoch seconds) and now; the same on every engine."""
    return cast(func.floor((now_ts - then) / 86_400.0), BigInteger)


def younger(then: ColumnElement[Any], seconds: int, now_ts: int) -> ColumnElement[bool]:
    """Whether `then` lies less than so many seconds back; for whole days the same as `age_days(then) < days`."""
    return then > now_ts - seconds


BOUND: Final = 1.7976931348623157e308
"""The largest finite double: NaN and infinity sort above it on every engine."""


class attribute(ColumnElement[str]):  # noqa: N801  # reads as a function where it is used
    """An attribute of an interaction as text: one key of a JSON object, NULL without it."""

    inherit_cache = False
    type = String()

    def __init__(self, document: ColumnElement[Any], name: str) -> None:
        self.document, self.name = document, name


@compiles(attribute)
def _attribute(element: attribute, compiler: Any, **options: Any) -> str:
    """PostgreSQL and DuckDB; engine/dialects.py has the others. Names are keys: no quote can be in them."""
    return f"(CAST({compiler.process(element.document, **options)} AS JSON) ->> '{element.name}')"


class Reason(NamedTuple):
    """Why somebody is left out: unless `passes` is known to be true. NULL never means yes."""

    name: str
    passes: ColumnElement[bool]
    detail: ColumnElement[str] | None = None  # appended to the name: suppressed_complaint


Among = Callable[[ColumnElement[Any]], ColumnElement[bool]]
"""Which contacts a statement is about, as a condition on a contact column; none means the whole base."""


def first_reason(reasons: Sequence[Reason]) -> ColumnElement[str | None]:
    """The name of the first reason that does not pass, in their order; NULL when all pass."""
    found = [(not_(func.coalesce(reason.passes, false())), _worded(reason)) for reason in reasons]
    return case(*found, else_=cast(null(), String)) if found else cast(null(), String)


def _worded(reason: Reason) -> ColumnElement[str]:
    name = literal(reason.name, String)
    return name if reason.detail is None else name + "_" + func.coalesce(reason.detail, "unknown")
