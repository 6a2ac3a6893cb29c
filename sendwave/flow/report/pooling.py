"""Rows of a report: figures added up, lifts put together stratum by stratum, the cut-off per channel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sendwave.flow.report.figures import Figures
from sendwave.flow.report.sources import Compared, Gathered, Key
from sendwave.rules.breakeven import Cutoff, Judged, Prices, cut
from sendwave.rules.lift import Arm, Lift, Strata, rate_lift, revenue_lift
from sendwave.rules.report_policy import Worth

ALL: Final = "all"
"""The arms of an experiment taken together, where it has several."""

UNKNOWN: Final = ""
"""People of no known group."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a report."""

    key: str
    label: str
    figures: Figures
    lifts: Mapping[str, Sequence[Lift]]  # by arm

    def document(self, name: str, worth: Worth) -> dict[str, Any]:
        """Plain JSON values; `name` is that of the first key: tier, group."""
        margin, level = float(worth.margin), float(worth.confidence)
        told: dict[str, Any] = {name: self.key, "label": self.label}
        told |= self.figures.document(margin, level)
        told["lift"] = {arm: {lift.measure: lift.document() for lift in lifts} for arm, lifts in self.lifts.items()}
        return told


Place = Callable[[Key], str]
"""Which row people of a (tier, group) are counted in."""


def by_tier(key: Key) -> str:
    """Rows by tier."""
    return key[0]


def by_group(key: Key) -> str:
    """Rows by group."""
    return UNKNOWN if key[1] is None else key[1]


def rows(
    sources: Sequence[Gathered], place: Place, order: Sequence[str], labels: Mapping[str, str], worth: Worth
) -> list[Row]:
    """One row per place that has people or messages, in that order; places the order does not know come last."""
    figures: dict[str, Figures] = defaultdict(Figures)
    for source in sources:
        for key, one in source.figures.items():
            figures[place(key)] += one
    places = {place(key) for source in sources for key in (*source.figures, *source.compared)}
    ordered = [name for name in order if name in places] + sorted(places - set(order))
    return [
        Row(name, labels.get(name, ""), figures[name], lifts(sources, lambda key, n=name: place(key) == n, worth))  # type: ignore[misc]  # a default binds the name
        for name in ordered
    ]


def total(sources: Sequence[Gathered], worth: Worth) -> Row:
    """Everybody."""
    figures = Figures()
    for source in sources:
        for one in source.figures.values():
            figures += one
    return Row("", "", figures, lifts(sources, lambda _: True, worth))


def lifts(sources: Sequence[Gathered], chosen: Callable[[Key], bool], worth: Worth) -> dict[str, list[Lift]]:
    """Lifts of the chosen people by arm, over strata of one tier in one source."""
    strata: dict[str, dict[tuple[str, str], tuple[Arm, Arm]]] = defaultdict(dict)
    for source in sources:
        for key, pair in source.compared.items():
            if chosen(key):
                for arm, given in _arms(pair).items():
                    stratum = (source.name, key[0])
                    before = strata[arm].get(stratum, (Arm(), Arm()))
                    strata[arm][stratum] = (before[0] + given, before[1] + pair.control)
    found = {arm: measured(list(pairs.values()), worth) for arm, pairs in strata.items()}
    return {arm: measures for arm, measures in found.items() if measures}


def _arms(pair: Compared) -> dict[str, Arm]:
    return {**pair.arms, ALL: pair.given} if len(pair.arms) > 1 else dict(pair.arms)


def measured(strata: Strata, worth: Worth) -> list[Lift]:
    """Every lift that can be told of these strata."""
    level = float(worth.confidence)
    cap = None if worth.winsorise is None else float(worth.winsorise)
    shares = [rate_lift(strata, measure, level) for measure in ("visited", "converted")]
    return [lift for lift in (*shares, revenue_lift(strata, level, cap)) if lift is not None]


def cutoffs(sources: Sequence[Gathered], place: Place, order: Sequence[str], worth: Worth) -> dict[str, Cutoff]:
    """The cut-off of each channel that has messages, over places in that order, the most engaged first."""
    found = {}
    for channel in dict.fromkeys(source.channel for source in sources):
        own = [source for source in sources if source.channel == channel]
        known = {place(key) for source in own for key in source.figures}
        tiers = [tier for tier in order if tier in known] + sorted(known - set(order))
        judged = [_judged(own, place, tier) for tier in tiers]
        cap = None if worth.winsorise is None else float(worth.winsorise)
        found[channel] = cut(judged, _prices(worth), float(worth.confidence), cap)
    return found


def _prices(worth: Worth) -> Prices:
    harm = (float(worth.costs.unsubscribe.amount), float(worth.costs.complaint.amount))
    return Prices(float(worth.margin), *harm)


def _judged(sources: Iterable[Gathered], place: Place, name: str) -> Judged:
    figures: Figures = Figures()
    strata: dict[tuple[str, str], tuple[Arm, Arm]] = {}
    for source in sources:
        for key, one in source.figures.items():
            if place(key) == name:
                figures += one
        for key, pair in source.compared.items():
            if place(key) == name:
                given, control = strata.get((source.name, key[0]), (Arm(), Arm()))
                strata[source.name, key[0]] = (given + pair.given, control + pair.control)
    return Judged(name, list(strata.values()), figures.accepted, figures.cost, figures.unsubscribed, figures.complained)
