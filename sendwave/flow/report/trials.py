"""Gather an experiment run elsewhere: its arms and outcomes are what the imported rows say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from sendwave.engine.base import Engine
from sendwave.errors import BadInput, NotFound, did_you_mean
from sendwave.flow.report.balancing import of_experiment
from sendwave.flow.report.figures import Figures
from sendwave.flow.report.sources import Compared, Gathered, Key, Note, Question
from sendwave.rules import outcomes as rules
from sendwave.rules.columns import EXPERIMENTS, ColumnElement, String, cast, column
from sendwave.rules.lift import Arm

CHANNEL: Final = "email"
"""What a message of an experiment costs is what one of this channel costs."""


def names(engine: Engine, paths: Sequence[Path]) -> dict[str, int]:
    """The experiments that were imported, and their people."""
    with engine.session({"experiments": paths}) as session:
        rows = session.read(rules.experiments_statement()).to_pylist()
    return {row["experiment"]: row["people"] for row in rows}


def gather(engine: Engine, paths: Sequence[Path], name: str, question: Question, columns: set[str]) -> Gathered:
    """Everything a report says about it. Raises NotFound for an unknown attribute or arm, BadInput without control."""
    group = _group(question, columns)
    with engine.session({"experiments": paths}) as session:
        sizes = sorted(session.read(rules.experiment_sizes(name, group)).to_pylist(), key=_place)
        bought = session.read(rules.experiment_buyers(name, group))
        left = _control(name, sizes, question.control)
        alike = of_experiment(session, name, left, columns)
    amounts = dict(_amounts(bought))
    arms: dict[tuple[Key, str], Arm] = {}
    for row in sizes:
        key, arm = (row["tier"], row["grp"]), row["arm"]
        visited = row["visited"] if row["known"] == row["people"] else None
        spent = amounts.get((*key, arm), np.zeros(0, dtype=np.int64))
        arms[key, arm] = arms.get((key, arm), Arm()) + Arm(row["people"], visited, row["converted"], spent)
    compared: dict[Key, Compared] = {}
    for key in dict.fromkeys(key for key, _ in arms):
        given = {arm: one for (place, arm), one in sorted(arms.items(), key=_by_arm) if place == key and arm != left}
        compared[key] = Compared(given, arms.get((key, left), Arm()))
    figures = {key: _figures(pair, float(question.prices(CHANNEL).price.amount)) for key, pair in compared.items()}
    tiny = sum(pair.control.people for pair in compared.values())
    notes = [Note("tiny_control", {"id": name, "count": tiny})] if tiny < 30 else []
    return Gathered(name, name, "experiment", CHANNEL, figures, compared, balance=alike, notes=notes)


def _place(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["tier"], row["grp"] or "", row["arm"]


def _by_arm(item: tuple[tuple[Key, str], Arm]) -> str:
    return item[0][1]


def _group(question: Question, columns: set[str]) -> ColumnElement[Any]:
    by, bands = question.breakdown.by, question.breakdown.bands
    if by == "tier":
        return EXPERIMENTS.c.tier
    attribute = by if by.startswith("attr_") else f"attr_{by}"
    if attribute not in columns:
        known = {name.removeprefix("attr_") for name in columns if name.startswith("attr_")} | {"tier"}
        raise NotFound(
            f"the experiments have no attribute {by!r}.{did_you_mean(by, known)} They have {', '.join(sorted(known))}"
        )
    return rules.banded(cast(column(attribute, String), String), bands)


def _control(name: str, sizes: Sequence[Mapping[str, Any]], asked: str | None) -> str:
    """The arm that got nothing."""
    arms = sorted({row["arm"] for row in sizes})
    if asked is not None:
        if asked not in arms:
            raise NotFound(
                f"experiment {name} has no arm {asked!r}.{did_you_mean(asked, arms)} It has {', '.join(arms)}"
            )
        return asked
    found = sorted({row["arm"] for row in sizes if row["control"]})
    if len(found) != 1:
        told = "none of its arms is" if not found else f"{' and '.join(found)} are"
        raise BadInput(
            f"experiment {name}: {told} known to be the control group. Say which arm got nothing: "
            f"--control ARM, one of {', '.join(repr(arm) for arm in arms)}"
        )
    return str(found[0])


def _amounts(bought: pa.Table) -> Iterator[tuple[tuple[str, str | None, str], Any]]:
    found: dict[tuple[str, str | None, str], list[int]] = defaultdict(list)
    columns = (bought[name].to_pylist() for name in ("tier", "grp", "arm", "amount"))
    for tier, group, arm, amount in zip(*columns, strict=True):
        found[tier, group, arm].append(amount)
    for key, amounts in found.items():
        yield key, np.sort(np.array(amounts, dtype=np.int64))


def _figures(pair: Compared, cost: float) -> Figures:
    """Of everybody assigned to a mailing: nobody told what became of their messages."""
    given = pair.given
    people, amount = given.people, int(given.amounts.sum())
    counted = Figures(planned=people, sent=people, accepted=people, visited=given.visited or 0)
    return counted + Figures(converted=given.converted, amount=amount, cost=cost * people)
