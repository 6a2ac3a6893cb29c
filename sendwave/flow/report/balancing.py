"""Whether the people left out at random are like the others: sizes of the draws, shares of attributes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from sendwave.engine.base import Session
from sendwave.rules import outcomes as rules
from sendwave.rules.balance import Alike, Ratio, Split, alike
from sendwave.rules.outcomes import CONTROL, GIVEN
from sendwave.rules.policy import PolicySet
from sendwave.store.campaigns import Campaign

KNOWN: Final = ("provider", "language", "country")
VALUES: Final = 5
"""Most frequent values of an attribute that are looked at; more would only be shown less often than chance errs."""

ATTRIBUTES: Final = 12
"""Columns of contacts that are looked at."""

DISTINCT: Final = 60
"""Values above which a column names people rather than kinds of people."""


def ratios(campaign: Campaign, policy: PolicySet | None, sizes: Sequence[Mapping[str, Any]]) -> tuple[Ratio, ...]:
    """The draws of control group and shares by tier, beside what the policy they were made under promised."""
    if policy is None or campaign.type not in policy.types:
        return ()
    kind = policy.types[campaign.type]
    people: dict[tuple[str, str], int] = defaultdict(int)
    for row in sizes:
        people[row["tier"], row["excluded_by"] or GIVEN] += row["people"]
    found = []
    for tier, pressure in kind.tiers.items():
        given, control, rest = (people[tier, name] for name in (GIVEN, "control_group", "not_in_share"))
        told = f"{campaign.name}, {tier}"
        if kind.control:
            found.append(Ratio(told, "control", given + control + rest, control, float(kind.control)))
        if 0 < pressure.share < 1:
            found.append(Ratio(told, "share", given + rest, given, float(pressure.share)))
    return tuple(ratio for ratio in found if ratio.people)


def balances(session: Session, contacts: Sequence[Path]) -> tuple[Alike, ...]:
    """Each frequent value of each attribute, on both sides."""
    names = _attributes(session, contacts)
    if not names:
        return ()
    counted: dict[str, dict[str, dict[tuple[str, str], int]]] = defaultdict(lambda: defaultdict(dict))
    sides: dict[tuple[str, str, str], int] = defaultdict(int)
    for row in session.read(rules.attribute_statement(names)).to_pylist():
        value = "" if row["value"] is None else row["value"]
        cell = counted[row["attribute"]][value]
        cell[row["tier"], row["arm"]] = cell.get((row["tier"], row["arm"]), 0) + row["people"]
        sides[row["attribute"], row["tier"], row["arm"]] += row["people"]
    found = []
    for name in names:
        values = counted[name]
        if len(values) > DISTINCT:
            continue
        frequent = sorted(values, key=lambda value: (-sum(values[value].values()), value))[:VALUES]
        tiers = sorted({tier for attribute, tier, _ in sides if attribute == name})
        for value in frequent:
            strata = [_split(values[value], sides, name, tier) for tier in tiers]
            if (one := alike(name.removeprefix("attr_"), value, strata)) is not None:
                found.append(one)
    return tuple(found)


def _split(
    cell: Mapping[tuple[str, str], int], sides: Mapping[tuple[str, str, str], int], name: str, tier: str
) -> Split:
    return Split(
        cell.get((tier, GIVEN), 0),
        sides.get((name, tier, GIVEN), 0),
        cell.get((tier, CONTROL), 0),
        sides.get((name, tier, CONTROL), 0),
    )


def _attributes(session: Session, contacts: Sequence[Path]) -> list[str]:
    """Columns of contacts that name kinds of people: few values each."""
    names = {name for path in contacts for name in pq.ParquetFile(path).schema_arrow.names}
    asked = [*(name for name in KNOWN if name in names), *sorted(name for name in names if name.startswith("attr_"))]
    if not asked:
        return []
    row = session.read(rules.distinct_statement(asked)).to_pylist()[0]
    return [name for name in asked if 1 < row[name] <= DISTINCT][:ATTRIBUTES]
