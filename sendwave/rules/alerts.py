"""When somebody's score is worth a word to the person who looks after them.

A rule compares the newest scores with earlier ones **of the same grid**: points of two grids are two currencies, and a
new grid must not wake everybody up. Earlier ones are read from the kept history: whose score did not change has crossed
no line. A contact is told about once, then not again until the rule's rest is over.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from pydantic import Field, model_validator

from sendwave.rules.columns import (
    CONTACTS,
    HISTORY,
    SCORES,
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Subquery,
    and_,
    case,
    column,
    false,
    func,
    select,
    table,
    true,
)
from sendwave.rules.tiers import Tiers, known_score, tier_key
from sendwave.rules.units import Duration, Key, Policy, format_duration

TOLD: Final = table("told", column("contact", BigInteger))
"""Contacts the rule spoke about so lately that it rests."""

LOG: Final = "log"
"""The channel every workspace has."""


class Alert(Policy):
    """One rule: exactly one of `rises_to`, `falls_below`, and `drops_by` with `within`."""

    label: str = Field(default="", description="What people read.")
    rises_to: float | None = Field(default=None, allow_inf_nan=False, description="Reaches this score from below.")
    falls_below: float | None = Field(default=None, allow_inf_nan=False, description="Leaves this score downwards.")
    drops_by: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="So many points below the highest score within `within`."
    )
    within: Duration | None = Field(default=None, description="How far back a drop is looked for; whole days.")
    notify: tuple[Key, ...] = Field(default=(LOG,), min_length=1, description="Channels of sendwave.yaml, or `log`.")
    to_owner: bool = Field(default=True, description="To the contact's owner where one is known, else to the default.")
    daily_cap: int = Field(
        default=1_000, ge=1, le=100_000, description="More contacts than this on a day are counted, and nobody alerted."
    )
    rest: Duration = Field(default=timedelta(days=7), description="How long the rule is silent about a contact.")

    @model_validator(mode="after")
    def _one_condition(self) -> Alert:
        if sum(value is not None for value in (self.rises_to, self.falls_below, self.drops_by)) != 1:
            raise ValueError("an alert has one condition: rises_to, falls_below, or drops_by with within")
        if (self.drops_by is None) is not (self.within is None):
            raise ValueError("drops_by and within belong together: so many points within so long")
        if self.within is not None and (self.within < timedelta(days=1) or self.within > timedelta(days=366)):
            raise ValueError("scores are made daily: within is 1d at least, and 366d at most")
        return self

    @property
    def says(self) -> str:
        """The condition in words."""
        if self.rises_to is not None:
            return f"the score rose to {self.rises_to:g} or more"
        if self.falls_below is not None:
            return f"the score fell below {self.falls_below:g}"
        assert self.within is not None, "checked above"
        return f"the score dropped by {self.drops_by:g} or more within {format_duration(self.within)}"

    @property
    def silent(self) -> timedelta:
        """How long nothing is said about a contact after an alert: a drop stays true for its whole window."""
        return max(self.rest, self.within or timedelta())


class AlertsFile(Policy):
    """alerts.yaml: rules by name."""

    alerts: dict[Key, Alert] = Field(default_factory=dict)


def raised(alert: Alert, tiers: Tiers) -> Select[Any]:
    """Whom the rule is about: contact, contact_id, owner, score, before, tier, comparable; no order.

    `history` has the changes since the scores it was asked about last; for a drop, those of its whole window.
    `comparable` is false where only scores of another grid meet the condition. `before` is the score compared with.
    """
    earlier = _earlier(alert)
    now = known_score(SCORES.c.score)
    met = case((_met(alert, now, earlier.c.same), true()), else_=false())
    regraded = case((_met(alert, now, earlier.c.other), true()), else_=false())
    compared = case((earlier.c.same.is_not(None), earlier.c.same), else_=earlier.c.other)
    known = and_(earlier.c.same.is_(None), earlier.c.other.is_not(None))
    found = (
        select(
            SCORES.c.contact,
            CONTACTS.c.contact_id,
            CONTACTS.c.owner,
            now.label("score"),
            compared.label("before"),
            tier_key(tiers, SCORES.c.score, SCORES.c.tier).label("tier"),
            case((known, false()), else_=met).label("comparable"),
            case((known, regraded), else_=false()).label("regraded"),
        )
        .select_from(_people(earlier))
        .where(now.is_not(None), TOLD.c.contact.is_(None))
        .subquery("found")
    )
    names = ("contact", "contact_id", "owner", "score", "before", "tier", "comparable")
    chosen: list[ColumnElement[Any]] = [found.c[name] for name in names]
    return select(*chosen).where(found.c.comparable | found.c.regraded)


def some(alert: Alert, tiers: Tiers, limit: int) -> Select[Any]:
    """The rows of `raised`, up to a limit."""
    return raised(alert, tiers).limit(limit)


def counted(alert: Alert, tiers: Tiers) -> Select[Any]:
    """One row per kind: comparable, contacts."""
    found = raised(alert, tiers).subquery("raised")
    told: list[ColumnElement[Any]] = [found.c.comparable, func.count().label("contacts")]
    return select(*told).group_by(found.c.comparable)


def _met(alert: Alert, now: ColumnElement[Any], before: ColumnElement[Any]) -> ColumnElement[bool]:
    """The condition; NULL where a score it needs is not known, which is no."""
    if alert.rises_to is not None:  # somebody new, or without a score so far, comes from below everything
        return and_(now >= alert.rises_to, func.coalesce(before < alert.rises_to, true()))
    if alert.falls_below is not None:
        return and_(now < alert.falls_below, before >= alert.falls_below)
    return before - now >= alert.drops_by


def _earlier(alert: Alert) -> Any:
    """Per contact whose score changed, the highest one before of today's grid, and of any other one.

    A line was crossed from the score before the first change, a drop began at any of them.
    """
    score = known_score(HISTORY.c.former_score)
    same = HISTORY.c.former_grid.is_not_distinct_from(SCORES.c.grid_version)
    changes: FromClause = HISTORY.join(SCORES, SCORES.c.contact == HISTORY.c.contact)
    if alert.drops_by is None:
        first = _first_change()
        began = and_(first.c.contact == HISTORY.c.contact, first.c.changed_ts == HISTORY.c.changed_ts)
        changes = changes.join(first, began)
    highest = func.max(case((same, score))).label("same"), func.max(case((same, None), else_=score)).label("other")
    asked = select(HISTORY.c.contact, *highest).select_from(changes).group_by(HISTORY.c.contact)
    return _concerned(alert, asked, score).subquery("earlier")


def _first_change() -> Subquery:
    when = func.min(HISTORY.c.changed_ts).label("changed_ts")
    return select(HISTORY.c.contact, when).group_by(HISTORY.c.contact).subquery("first")


def _concerned(alert: Alert, asked: Select[Any], before: ColumnElement[Any]) -> Select[Any]:
    """Only those who may meet the condition: most changes are about nobody in particular."""
    now = known_score(SCORES.c.score)
    if alert.rises_to is not None:
        return asked.where(now >= alert.rises_to)
    if alert.falls_below is not None:
        return asked.where(now < alert.falls_below)
    return asked.having(func.max(before) - func.max(now) >= alert.drops_by)


def _people(earlier: Any) -> FromClause:
    """Contacts whose score changed, with their scores."""
    known = SCORES.join(CONTACTS, CONTACTS.c.contact == SCORES.c.contact)
    compared = known.join(earlier, earlier.c.contact == SCORES.c.contact)
    return compared.outerjoin(TOLD, TOLD.c.contact == SCORES.c.contact)
