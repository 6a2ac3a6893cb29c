"""report.yaml: what a message costs, what a sale leaves, what counts as a sale, and the habit the score replaces.

These are assumptions of whoever reads a report. They decide nothing about a send, so changing them makes no plan stale,
and reports always use those of today.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from pydantic import Field, model_validator

from sendwave.rules.money import Amount, Money
from sendwave.rules.units import Duration, Key, Percent, Policy, parse_duration, parse_percent

_HABIT: Final = re.compile(r"([a-z0-9_]+(?:\s*,\s*[a-z0-9_]+)*)\s+within\s+(\S.*)")


class Attribution(Policy):
    """Which interactions are conversions of a message, and how long after it."""

    kinds: tuple[Key, ...] = Field(default=("purchase",), min_length=1, description="Kinds of interactions.")
    within: Duration = Field(default=timedelta(days=7), description="After the send; later ones count for nothing.")

    @model_validator(mode="after")
    def _some_time(self) -> Attribution:
        if not self.within:
            raise ValueError("nothing converts within no time at all: write for instance within: 7d")
        return self


class Habit(Policy):
    """The rule of thumb the score replaces: everybody with such an interaction lately."""

    kinds: tuple[Key, ...] = Field(default=("email_open",), min_length=1, description="Kinds of interactions.")
    within: Duration = Field(default=timedelta(days=365), description="Before the plan was made.")
    machine: bool = Field(default=True, description="Whether opens by machines count, as in most such lists.")

    def __str__(self) -> str:
        return f"{', '.join(self.kinds)} within {self.within.days}d"

    @classmethod
    def parse(cls, text: str) -> Habit:
        """`email_open, email_click within 365d`. Raises ValueError for anything else."""
        match = _HABIT.fullmatch(text.strip())
        if not match:
            raise ValueError(f"{text!r} is no habit: write for instance 'email_open, email_click within 365d'")
        return cls(kinds=tuple(re.split(r"\s*,\s*", match[1])), within=parse_duration(match[2]))


class Costs(Policy):
    """What a message costs where budgets.yaml does not price its channel; what an unsubscribe and a complaint cost."""

    email: Amount = Money(Decimal("0.001"), "EUR")
    sms: Amount = Money(Decimal("0.045"), "EUR")
    push: Amount = Money(Decimal(0), "EUR")
    unsubscribe: Amount = Money(Decimal(0), "EUR")
    complaint: Amount = Money(Decimal(0), "EUR")


class Returns(StrEnum):
    """What becomes of sales below zero."""

    LEAVE_OUT = "leave_out"
    SUBTRACT = "subtract"


class Worth(Policy):
    """report.yaml: money, conversions and certainty of reports."""

    currency: str = Field(default="EUR", pattern="^[A-Z]{3}$", description="ISO 4217; other currencies stay apart.")
    margin: Percent = Field(default=parse_percent("100%"), description="What is left of a sale: 30% of 100 EUR is 30.")
    attribution: Attribution = Attribution()
    types: dict[Key, Attribution] = Field(default_factory=dict, description="Another attribution, by campaign type.")
    costs: Costs = Costs()
    returns: Returns = Field(default=Returns.LEAVE_OUT, description="Sales below zero: leave_out or subtract.")
    winsorise: Percent | None = Field(
        default=None, description="Cap each buyer's revenue at this quantile of all buyers', 99% for instance."
    )
    confidence: Percent = Field(default=parse_percent("95%"), description="Level of every interval.")
    habit: Habit = Field(default=Habit(), description="What coverage is compared with.")

    @model_validator(mode="before")
    @classmethod
    def _in_its_currency(cls, told: Any) -> Any:
        """Costs nobody wrote are in the report's currency: whoever writes `currency: USD` has said enough."""
        if not isinstance(told, dict) or not isinstance(told.get("currency"), str):
            return told
        written = told.get("costs") or {}
        if not isinstance(written, dict):
            return told
        usual = {name: Money(cost.amount, told["currency"]) for name, cost in Costs() if name not in written}
        return told | {"costs": usual | written}

    @model_validator(mode="after")
    def _one_currency(self) -> Worth:
        for name, cost in self.costs:
            if cost.currency != self.currency:
                raise ValueError(f"the cost of {name} is in {cost.currency}, the report in {self.currency}: use one")
        if not Decimal("0.5") <= self.confidence < 1:
            raise ValueError("confidence lies between 50% and below 100%")
        return self

    def attribution_of(self, kind: str) -> Attribution:
        """What counts as a conversion of that campaign type."""
        return self.types.get(kind, self.attribution)
