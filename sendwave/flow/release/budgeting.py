"""Pay: of a wave's people, those the money reaches, best first; the others leave with the reason `over_budget`.

Asked under the lease of the contact base like pressure, so that two campaigns never spend the same money.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput
from sendwave.flow.release.measuring import Texts
from sendwave.rules import budgets, messages
from sendwave.rules.budgets import Budgets, ChannelBudget, Purse
from sendwave.rules.lifecycle import Batch
from sendwave.rules.money import shown
from sendwave.store import batches, campaigns, files, payloads
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database

COUNTRY = "country"
"""Column of the people asked about, where a price depends on it."""


def purse(
    db: Database, engine: Engine, lake: Lake, campaign: Campaign, money: Budgets, *, now: datetime
) -> Purse | None:
    """What the campaign may still spend; None where neither it nor its channel has a cap.

    Raises BadInput for a budget that cannot be kept: no price, or another currency.
    """
    own, priced = campaign.settings.budget, money.channels.get(campaign.channel)
    if (wrong := budgets.unaffordable(own, campaign.channel, money)) is not None:
        raise BadInput(f"campaign {campaign.name}: {wrong}")
    if priced is None or (own is None and priced.per_month is None):
        return None
    with db.read() as conn:
        listed = files.live(conn, ("contacts", "sends", "returns"))
        parts = {one.id: one.settings.parts for one in campaigns.listing(conn)}
    month = money.month_ts(int(now.timestamp()))
    with engine.session(lake.paths(listed)) as session:
        rows = session.read(budgets.spent_statement(campaign.channel, campaign.id, month)).to_pylist()
    spent = budgets.spent(priced, rows, parts)
    return Purse(
        priced.price.currency,
        None if own is None else own.millionths,
        spent["ever"].get(campaign.id, 0),
        None if priced.per_month is None else priced.per_month.millionths,
        sum(spent["month"].values()),
    )


def weighed(people: pa.Table, campaign: Campaign, texts: Texts | None) -> pa.Table:
    """The people again, with the `parts` of the text of everybody who goes, where the text is ours to measure.

    Content that cannot be sent is measured by nobody: the hand-over refuses it and says why, and slots come back.
    """
    if texts is None or not texts.measured(campaign):
        return people
    goes = pc.is_null(people["excluded_by"])
    parts = np.zeros(people.num_rows, np.int32)
    try:
        parts[goes.to_numpy(zero_copy_only=False)] = texts.parts(campaign, people.filter(goes))
    except BadInput:
        return people
    return people.append_column("parts", pc.if_else(goes, pa.array(parts), pa.scalar(None, pa.int32())))


def paid(people: pa.Table, found: Purse | None, campaign: Campaign, money: Budgets) -> pa.Table:
    """The people again, without COUNTRY, and with `over_budget` where the money ends."""
    if found is None or found.left is None:
        return people
    out, goes = people["excluded_by"], pc.is_null(people["excluded_by"])
    chosen = people.filter(goes)
    parts: Any = campaign.settings.parts
    if "parts" in chosen.column_names:
        parts = chosen["parts"].to_numpy().astype(np.int64)
    cost = budgets.costs(money.channels[campaign.channel], chosen[COUNTRY].to_pylist(), parts)
    kept = np.ones(people.num_rows, bool)
    kept[goes.to_numpy(zero_copy_only=False)] = budgets.affordable(cost, chosen["rank"].to_pylist(), found.left)
    reason = pc.if_else(pa.array(kept), out.combine_chunks(), pa.scalar(budgets.OVER, pa.string()))
    people = people.set_column(people.schema.get_field_index("excluded_by"), "excluded_by", reason)
    return people.drop_columns([COUNTRY])


def account(
    db: Database, engine: Engine, lake: Lake, campaign: Campaign, money: Budgets, *, now: datetime
) -> dict[str, str | None]:
    """A campaign's money as text: `spent` on what was handed over, `reserved` for frozen people, both caps, `left`.

    None where there is no cap. Raises BadInput where the channel has no price.
    """
    priced = money.channels.get(campaign.channel)
    if priced is None:
        raise BadInput(f"budgets.yaml has no price for {campaign.channel}: say it there, and what is spent can be told")
    with db.read() as conn:
        listed = files.live(conn, ("contacts", "sends", "returns"))
        waits = [s.batch_id for s in batches.standings(conn, campaign.id) if s.status in (Batch.READY, Batch.CLAIMED)]
    month, own = money.month_ts(int(now.timestamp())), campaign.settings.budget
    waiting = pa.table({"batch": pa.array(waits, pa.int64())})
    parts = {campaign.id: campaign.settings.parts}
    with engine.session(lake.paths(listed), {"waiting": waiting}) as session:
        rows = session.read(budgets.spent_statement(campaign.channel, campaign.id, month)).to_pylist()
        reserved = session.read(budgets.reserved_statement(campaign.id)).to_pylist()
    with db.read() as conn:
        all_parts = {one.id: one.settings.parts for one in campaigns.listing(conn)}
    spent, held = budgets.spent(priced, rows, all_parts), budgets.spent(priced, reserved, parts)
    mine, kept = spent["ever"].get(campaign.id, 0), held["ever"].get(campaign.id, 0)
    cap = None if own is None else own.millionths
    per_month = None if priced.per_month is None else priced.per_month.millionths
    found = Purse(priced.price.currency, cap, mine, per_month, sum(spent["month"].values()))
    told = found.document()
    amounts = {"spent": shown(mine - kept, found.currency), "reserved": shown(kept, found.currency)}
    return {"budget": told["campaign"], **amounts, "month_budget": told["month"], "month_used": told["month_spent"],
            "left": told["left"]}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Costing:
    """People of a plan in one country, by the parts of their text, and what writing to them costs (millionths)."""

    country: str  # "" where it is not known
    people: int
    parts: Mapping[int, int]
    cost: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan costs if everybody in it is written to; `measured` says whether their own texts were."""

    currency: str
    measured: bool
    countries: tuple[Costing, ...]  # most people first
    waiting: int  # of its people: no wave of theirs was frozen yet
    within: int | None  # of those, best first, that what is left pays for; None where nothing limits it
    odd: Mapping[str, int]  # characters outside the GSM alphabet, and in how many texts, the most frequent first

    def document(self) -> dict[str, Any]:
        """Amounts as text; keys are stable."""
        rows = [
            {"country": one.country or None, "people": one.people, "cost": shown(one.cost, self.currency),
             "parts": {str(parts): people for parts, people in one.parts.items()}}
            for one in self.countries
        ]  # fmt: skip
        total = sum(one.cost for one in self.countries)
        people = sum(one.people for one in self.countries)
        told = {"measured": self.measured, "people": people, "cost": shown(total, self.currency), "countries": rows}
        return told | {"waiting": self.waiting, "within_budget": self.within, "not_gsm": dict(self.odd)}


def estimate(
    db: Database, engine: Engine, lake: Lake, campaign: Campaign, money: Budgets, *, texts: Texts, now: datetime
) -> Estimate | None:
    """What the plan costs by country; None without a plan or a price. Raises BadInput for content that cannot be sent.

    Consent, pressure and money are asked again at release, so that it may become less.
    """
    priced = money.channels.get(campaign.channel)
    with db.read() as conn:
        listed = files.live(conn, ("contacts", "sends"))
        planned = files.get(conn, campaign.plan_file or 0)
    if priced is None or planned is None:
        return None
    paths = {**lake.paths(listed), "plan": [lake.path(planned)]}
    columns = lake.columns(listed["contacts"])
    attributes = sorted(name for name in columns if name.startswith(payloads.FIELD_PREFIX))
    own, counts, odd = texts.measured(campaign), Counter[tuple[str, int]](), Counter[str]()
    limit, goes, waiting = purse(db, engine, lake, campaign, money, now=now), 0, 0
    left = None if limit is None else limit.left
    with engine.session(paths) as session:
        for batch in session.stream(budgets.planned_statement(attributes if own else [], campaign.id)):
            people = pa.Table.from_batches([batch])
            countries = people[COUNTRY].to_pylist()
            parts = np.full(people.num_rows, campaign.settings.parts)
            if own:
                parts = texts.parts(campaign, people)
                odd.update(character for text in texts.written(campaign, people) for character in messages.odd(text))
            counts.update(zip([country or "" for country in countries], parts.tolist(), strict=True))
            waits = people["waits"].to_numpy(zero_copy_only=False).astype(bool)
            waiting += int(waits.sum())
            if left is not None:
                each = budgets.costs(priced, countries, parts)[waits]
                paid_for = budgets.affordable(each, range(len(each)), left)
                goes, left = goes + int(paid_for.sum()), (left - int(each.sum()) if paid_for.all() else -1)
    found = [_costing(priced, country, counts) for country in sorted({country for country, _ in counts})]
    ordered, within = sorted(found, key=lambda one: -one.people), None if left is None else goes
    return Estimate(priced.price.currency, own, tuple(ordered), waiting, within, dict(odd.most_common(_ODD)))


_ODD: Final = 5
"""Characters outside the GSM alphabet that are named."""


def _costing(priced: ChannelBudget, country: str, counts: Mapping[tuple[str, int], int]) -> Costing:
    parts = {size: people for (where, size), people in sorted(counts.items()) if where == country}
    [each] = budgets.costs(priced, [country], 1).tolist()
    return Costing(country, sum(parts.values()), parts, sum(each * size * people for size, people in parts.items()))
