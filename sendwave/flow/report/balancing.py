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

LOOKED_AT: Final = 300_000
"""People whose attributes are compared; of more, every so manieth. A draw that goes wrong shows in so many as well."""

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


def balances(session: Session, contacts: Sequence[Path], people: int) -> tuple[Alike, ...]:
    """Each frequent value of each attribute, on both sides; `people` are those of the plan."""
    names = _attributes(session, contacts)
    if not names:
        return ()
    rows = session.read(rules.attribute_statement(names, max(1, people // LOOKED_AT)))
    found = []
    for name in names:
        counted = rows.select(["tier", "arm", name]).group_by(["tier", "arm", name]).aggregate([([], "count_all")])
        found += _of_attribute(name.removeprefix("attr_"), name, counted.to_pylist())
    return tuple(found)


def of_experiment(session: Session, experiment: str, control: str, columns: set[str]) -> tuple[Alike, ...]:
    """The same of an experiment run elsewhere: all arms that got something beside the one that did not."""
    asked = sorted(name for name in columns if name.startswith("attr_"))
    if not asked:
        return ()
    row = session.read(rules.experiment_distinct(experiment, asked)).to_pylist()[0]
    found: list[Alike] = []
    for name in [name for name in asked if 1 < row[name] <= DISTINCT][:ATTRIBUTES]:
        counted = session.read(rules.experiment_attribute(experiment, control, name)).to_pylist()
        found += _of_attribute(name.removeprefix("attr_"), name, sorted(counted, key=str))
    return tuple(found)


def _of_attribute(label: str, name: str, rows: Sequence[Mapping[str, Any]]) -> list[Alike]:
    values: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
    sides: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        value, place = row[name] or "", (row["tier"], row["arm"])
        values[value][place] = values[value].get(place, 0) + row["count_all"]
        sides[place] += row["count_all"]
    if len(values) > DISTINCT:
        return []
    frequent = sorted(values, key=lambda value: (-sum(values[value].values()), value))[:VALUES]
    tiers = sorted({tier for tier, _ in sides})
    compared = [alike(label, value, [_split(values[value], sides, tier) for tier in tiers]) for value in frequent]
    return [one for one in compared if one is not None]


def _split(cell: Mapping[tuple[str, str], int], sides: Mapping[tuple[str, str], int], tier: str) -> Split:
    given, control = ((cell.get((tier, side), 0), sides.get((tier, side), 0)) for side in (GIVEN, CONTROL))
    return Split(*given, *control)


def _attributes(session: Session, contacts: Sequence[Path]) -> list[str]:
    """Columns of contacts that name kinds of people: few values each."""
    names = {name for path in contacts for name in pq.ParquetFile(path).schema_arrow.names}
    asked = [*(name for name in KNOWN if name in names), *sorted(name for name in names if name.startswith("attr_"))]
    if not asked:
        return []
    row = session.read(rules.distinct_statement(asked)).to_pylist()[0]
    return [name for name in asked if 1 < row[name] <= DISTINCT][:ATTRIBUTES]
