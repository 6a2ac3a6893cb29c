"""budgets.yaml: what a message costs, and how much may be spent: best first until the money ends.

A message costs the price of its channel, or of the contact's country there; a text message as often as it has parts
(`rules/messages.py`). What was spent is read from the ledger of sends, slots given back left out, so refusals give the
money back as they give back the slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, model_validator

from sendwave.errors import BadInput
from sendwave.rules import pressure
from sendwave.rules.calendars import Calendar, Period
from sendwave.rules.columns import (
    CONTACTS,
    PLAN,
    SENDS,
    BigInteger,
    Integer,
    Select,
    String,
    case,
    column,
    exists,
    func,
    literal,
    select,
    table,
)
from sendwave.rules.money import Amount, Money, shown
from sendwave.rules.report_policy import Worth
from sendwave.rules.units import Policy

OVER: Final = "over_budget"
"""Reason of people the money does not reach."""

Country = Annotated[str, StringConstraints(pattern="^[A-Z]{2}$")]


class ChannelBudget(Policy):
    """Prices of one channel, and its cap per calendar month."""

    price: Amount = Field(description="Per message; per part of a text message.")
    countries: dict[Country, Amount] = Field(default_factory=dict, description="Other prices, by country (ISO 3166).")
    per_month: Amount | None = Field(default=None, description="For all campaigns together, in a calendar month.")

    @model_validator(mode="after")
    def _exact_and_alike(self) -> ChannelBudget:
        amounts = [self.price, *self.countries.values(), *([] if self.per_month is None else [self.per_month])]
        for amount in amounts:
            _ = amount.millionths
            if amount.currency != self.price.currency:
                raise ValueError(f"{amount} beside a price in {self.price.currency}: use one currency per channel")
        return self


class Budgets(Policy):
    """What messages cost and may cost, by channel; one that is not named has no price, hence no budget."""

    channels: dict[str, ChannelBudget] = Field(default_factory=dict, description="email, sms, push.")
    month: str = Field(default="UTC", description="Time zone in which a month begins, for instance Europe/Paris.")

    @model_validator(mode="after")
    def _known(self) -> Budgets:
        Calendar.parse(f"month {self.month}")
        for channel in self.channels:
            if channel not in ("email", "sms", "push"):
                raise ValueError(f"there is no channel {channel!r}: email, sms or push")
        return self

    def month_ts(self, now_ts: int) -> int:
        """Epoch seconds at which the month began."""
        return Calendar(Period.MONTH, self.month).start_ts(now_ts)


class Purse(NamedTuple):
    """Money of one campaign at one moment, in millionths of `currency`; None where nothing limits it."""

    currency: str
    campaign: int | None  # its cap
    campaign_spent: int  # sent or frozen, not given back
    month: int | None
    month_spent: int

    @property
    def left(self) -> int | None:
        """What the next messages may cost; never below 0."""
        rests = [
            cap - spent
            for cap, spent in ((self.campaign, self.campaign_spent), (self.month, self.month_spent))
            if cap is not None
        ]
        return max(0, min(rests)) if rests else None

    def document(self) -> dict[str, Any]:
        """Amounts as text; keys are stable."""
        told = {name: getattr(self, name) for name in ("campaign", "campaign_spent", "month", "month_spent", "left")}
        return {name: None if value is None else shown(value, self.currency) for name, value in told.items()}


class Reach(NamedTuple):
    """Whether the money reaches one person of the plan, with the figures (millionths) that decide it."""

    purse: Purse
    reserved: int  # of what the campaign spent: for people frozen and not handed over yet
    cost: int  # of a message to this person
    ahead: int  # of messages to those placed before them who wait, too
    ended: int | None  # the best rank of the plan that the money did not reach so far
    served: bool | None  # True: their message is paid for; False: left out for want of money; None: they wait

    @property
    def pays(self) -> bool:
        """Whether they get their message, as far as money is concerned."""
        left = self.purse.left
        return bool(self.served) if self.served is not None else left is None or self.ahead + self.cost <= left

    @property
    def short(self) -> int:
        """What is missing for everybody up to this person."""
        return max(0, self.ahead + self.cost - (self.purse.left or 0))


def unaffordable(budget: Money | None, channel: str, budgets: Budgets) -> str | None:
    """What is wrong with a campaign's budget; None when it can be kept."""
    if budget is None:
        return None
    priced = budgets.channels.get(channel)
    if priced is None:
        return f"it has a budget and budgets.yaml has no price for {channel}: say it there"
    if budget.currency != priced.price.currency:
        return f"its budget is in {budget.currency}, the price of {channel} in {priced.price.currency}: use one"
    try:
        _ = budget.millionths
    except ValueError as wrong:
        return str(wrong)
    return None


def price_list(channel: str, budgets: Budgets, worth: Worth) -> ChannelBudget:
    """What a channel's messages cost in a report: as budgets.yaml prices them, else as report.yaml does.

    Raises BadInput where budgets.yaml reckons in another currency than the report.
    """
    if (wrong := next((told for name, told in foreign(budgets, worth) if name == channel), None)) is not None:
        raise BadInput(wrong)
    usual = getattr(worth.costs, channel, worth.costs.email)
    return budgets.channels.get(channel) or ChannelBudget(price=usual)


def foreign(budgets: Budgets, worth: Worth) -> Iterator[tuple[str, str]]:
    """(channel, what is wrong) of channels priced in another currency than reports reckon in."""
    for channel, priced in budgets.channels.items():
        if priced.price.currency != worth.currency:
            told = f"budgets.yaml prices {channel} in {priced.price.currency}, report.yaml reckons in {worth.currency}"
            yield channel, f"{told}: use one currency"


def costs(priced: ChannelBudget, countries: Iterable[str | None], parts: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """What one message to each costs, in millionths; an unknown country costs the most there is, never too little.

    `parts` are those of everybody's text, or of each person's.
    """
    known = {country: amount.millionths for country, amount in priced.countries.items()}
    usual = priced.price.millionths
    unknown = max([usual, *known.values()])
    each = [unknown if not country else known.get(country, usual) for country in countries]
    return np.asarray(each, np.int64) * parts


def affordable(cost: NDArray[np.int64], rank: Sequence[int], left: int) -> NDArray[np.bool_]:
    """Who is still paid for, best rank first, until somebody would cost more than is left: nobody after them goes."""
    order = np.argsort(np.asarray(rank, np.int64), kind="stable")
    goes = np.empty(len(cost), bool)
    goes[order] = np.cumsum(cost[order]) <= left
    return goes


def spent(
    priced: ChannelBudget, rows: Iterable[Mapping[str, Any]], parts: Mapping[int, int]
) -> dict[str, dict[int, int]]:
    """{"ever" | "month": {campaign: millionths}} of the rows of `spent_statement`.

    `parts` are what the campaigns say of their texts, for messages that nobody measured.
    """
    found: dict[str, dict[int, int]] = {"ever": {}, "month": {}}
    for row in rows:
        number = row["campaign"]
        [each] = costs(priced, [row["country"]], row["parts"] or parts.get(number, 1)).tolist()
        for span, people in (("ever", row["people"]), ("month", row["this_month"])):
            found[span][number] = found[span].get(number, 0) + each * people
    return found


def spent_statement(channel: str, campaign: int, month_ts: int) -> Select[Any]:
    """(campaign, country, parts, people, this_month): live sends of the channel, of that campaign or of this month."""
    source = SENDS.outerjoin(CONTACTS, CONTACTS.c.contact == SENDS.c.contact)
    this_month = func.sum(case((SENDS.c.sent_ts >= month_ts, 1), else_=0)).cast(Integer).label("this_month")
    by = (SENDS.c.campaign, CONTACTS.c.country, SENDS.c.parts)
    live = pressure.live_sends([*by, func.count().label("people"), this_month], -1, source)
    mine = (SENDS.c.campaign == campaign) | (SENDS.c.sent_ts >= month_ts)
    return live.where(SENDS.c.channel == channel, mine, SENDS.c.freeze > 0).group_by(*by)


def reserved_statement(campaign: int) -> Select[Any]:
    """(campaign, country, parts, people, this_month 0): live sends of batches not handed over yet: table `waiting`."""
    waiting = table("waiting", column("batch", BigInteger))
    source = SENDS.join(waiting, waiting.c.batch == SENDS.c.batch)
    source = source.outerjoin(CONTACTS, CONTACTS.c.contact == SENDS.c.contact)
    by = (SENDS.c.campaign, CONTACTS.c.country, SENDS.c.parts)
    counts = (func.count().label("people"), literal(0, Integer).label("this_month"))
    return pressure.live_sends([*by, *counts], -1, source).where(SENDS.c.campaign == campaign).group_by(*by)


def planned_statement(attributes: Sequence[str], campaign: int, rank: int | None = None) -> Select[Any]:
    """(waits, address, language, country, then the merge fields `attributes`) of everybody in the plan, in its order.

    `waits`: no wave of theirs was frozen yet. With `rank` only those who wait up to that rank.
    """
    c, own = CONTACTS.c, SENDS.c.campaign == campaign
    waits = ~exists().where(own, SENDS.c.contact == PLAN.c.contact)
    told = [c.phone.label("address"), c.language, c.country, *(column(name, String) for name in attributes)]
    source = PLAN.join(CONTACTS, c.contact == PLAN.c.contact)
    found = select(waits.label("waits"), *told).select_from(source)
    if rank is not None:
        found = found.where(PLAN.c.rank <= rank, waits)
    return found.where(PLAN.c.excluded_by.is_(None)).order_by(PLAN.c.rank)


def person_statement(campaign: int, contact: int) -> Select[Any]:
    """country, parts and excluded_by of one person's newest freeze; no row where they wait."""
    s = SENDS.c
    source = SENDS.outerjoin(CONTACTS, CONTACTS.c.contact == s.contact)
    found = select(CONTACTS.c.country, s.parts, s.excluded_by).select_from(source)
    return found.where(s.campaign == campaign, s.contact == contact).order_by(s.freeze.desc()).limit(1)


def ended_statement(campaign: int) -> Select[Any]:
    """One number, `ended`: the best rank that the money did not reach; NULL where it reached all so far."""
    s = SENDS.c
    source = SENDS.join(PLAN, PLAN.c.contact == s.contact)
    found = select(func.min(PLAN.c.rank).label("ended")).select_from(source)
    return found.where(s.campaign == campaign, s.excluded_by == OVER)
