"""Pay: of a wave's people, those the money reaches, best first; the others leave with the reason `over_budget`.

Asked under the lease of the contact base like pressure, so that two campaigns never spend the same money.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput
from sendwave.rules import budgets
from sendwave.rules.budgets import Budgets, Purse
from sendwave.rules.lifecycle import Batch
from sendwave.rules.money import shown
from sendwave.store import batches, campaigns, files
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


def paid(people: pa.Table, found: Purse | None, campaign: Campaign, money: Budgets) -> pa.Table:
    """The people again, without COUNTRY, and with `over_budget` where the money ends."""
    if found is None or found.left is None:
        return people
    out, goes = people["excluded_by"], pc.is_null(people["excluded_by"])
    chosen = people.filter(goes)
    cost = budgets.costs(money.channels[campaign.channel], chosen[COUNTRY].to_pylist(), campaign.settings.parts)
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
