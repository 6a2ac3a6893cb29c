"""The table of the runs made so far, and what they show of each target: met, not met, or not shown yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any, Final

import numpy as np

from gates.rules import OURS, RULES
from gates.worlds import worlds
from sendwave.rules import bounds

Row = dict[str, Any]
RIVAL: Final = "rate x 1.5, from 1,000"
"""The published form that is as quiet on the limit."""

LEAST: Final = 5
"""Campaigns of a world from which a mean is believed."""

UNPILOTED: Final = "complaints 3 x in the last wave"
"""Left out of the totals: it is there to show what a pilot is worth."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def against(self, target: float, *, at_most: bool) -> str:
        """What is shown of a target. Shown is only what the whole interval says."""
        low, high, value = (self.low, self.high, self.value) if at_most else (-self.high, -self.low, -self.value)
        target = target if at_most else -target
        if high <= target:
            return "met"
        return (
            "not met"
            if low > target
            else f"not shown yet ({'so far as wanted' if value <= target else 'so far worse'})"
        )


def share(hits: int, runs: int) -> Estimate:
    """Clopper-Pearson."""
    if not runs:
        return Estimate(0.0, 0.0, 1.0)
    return Estimate(hits / runs, bounds.lower(hits, runs, 0.025), bounds.upper(hits, runs, 0.025))


def mean(values: Sequence[float]) -> Estimate:
    """The mean and its 95 % interval (Student's t, five values at least); fewer say nothing of their error."""
    if not values:
        return Estimate(0.0, -inf, inf)
    found, n = float(np.mean(values)), len(values)
    wide = (2.8 if n < 10 else 2.3 if n < 30 else 2.0) * float(np.std(values, ddof=1)) / sqrt(n) if n >= LEAST else inf
    return Estimate(found, found - wide, found + wide)


def median(values: Sequence[float]) -> Estimate:
    """The median between two order statistics (binomial, 95 %)."""
    if not values:
        return Estimate(0.0, -inf, inf)
    told, n = sorted(values), len(values)
    skip = int(n / 2 - 0.98 * sqrt(n))
    inside = skip >= 1
    return Estimate(
        float(np.median(told)), told[skip - 1] if inside else -inf, told[n - skip] if inside else inf
    )  # fmt: skip


def leaks(rows: Sequence[Row]) -> list[float]:
    return [row["bad_sent"] / row["bad_planned"] for row in rows if row["bad_planned"]]


def per_world(rows: Sequence[Row], figure: Callable[[Sequence[Row]], Estimate]) -> Estimate:
    """The mean of a figure over the worlds, each weighing the same."""
    told = [figure([row for row in rows if row["world"] == name]) for name in dict.fromkeys(r["world"] for r in rows)]
    found = float(np.mean([one.value for one in told])) if told else 0.0
    wide = sqrt(sum((one.high - one.value) ** 2 for one in told)) / max(len(told), 1) if told else inf
    return Estimate(found, found - wide, found + wide)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Every world under every rule."""
    for world in worlds():
        yield f"\n{world.name} ({world.kind})"
        yield (
            f"  {'rule':29} {'stopped':19} {'halted':19} {'caught':19} {'its lane alone':19} "
            f"{'bad mail sent':>20} {'minutes added':>21}"
        )
        for rule in RULES:
            own = [row for row in rows if row["world"] == world.name and row["rule"] == rule]
            if own:
                yield _line(rule, own)


def _line(rule: str, rows: Sequence[Row]) -> str:
    def counted(name: str) -> str:
        told = [row[name] for row in rows if row[name] is not None]
        if not told:
            return "-"
        found = share(sum(told), len(told))
        return f"{sum(told)}/{len(told)} [{found.low:.0%}-{found.high:.0%}]"

    leak, late = mean(leaks(rows)), median([row["added"] for row in rows])
    said = _spread(leak, "{:.1%}") if leaks(rows) else "-"
    added = _spread(late, "{:.0f}") if 2 * sum(row["through"] for row in rows) > len(rows) else "held"
    return (
        f"  {rule:29} {counted('stopped'):19} {counted('halted'):19} {counted('caught'):19} {counted('alone'):19} "
        f"{said:>20} {added:>21}"
    )


def _spread(found: Estimate, form: str) -> str:
    return form.format(found.value) + (
        f" [{form.format(found.low)}-{form.format(found.high)}]" if found.high < inf else ""
    )


@dataclass(frozen=True, slots=True)
class Target:
    """A figure to reach, and how the runs tell it."""

    words: str
    limit: float
    chosen: Callable[[Row], bool]
    figure: Callable[[Sequence[Row]], Estimate]
    at_most: bool = True
    form: str = "{:.1%}"


def _counted(name: str) -> Callable[[Sequence[Row]], Estimate]:
    return lambda rows: share(sum(bool(row[name]) for row in rows), len(rows))


def _kind(*kinds: str) -> Callable[[Row], bool]:
    return lambda row: row["kind"] in kinds and row["world"] != UNPILOTED


def _world(*words: str) -> Callable[[Row], bool]:
    return lambda row: any(word in row["world"] for word in words)


def _leak(rows: Sequence[Row]) -> Estimate:
    return mean(leaks(rows))


def _late(rows: Sequence[Row]) -> Estimate:
    return median([row["added"] for row in rows])


TARGETS: Final = (
    Target("healthy, bursts included: stopped", 0.01, _kind("healthy"), _counted("stopped")),
    Target("healthy: a wrong lane suspended", 0.01, _kind("healthy"), _counted("wrong")),
    Target("every rate on its limit: stopped", 0.02, _kind("limit"), _counted("stopped")),
    Target("the same, waves opened all the same: stopped", 0.02, _kind("opened"), _counted("stopped")),
    Target("the same, feedback 3 x faster: halted", 0.10, _kind("fast"), _counted("halted")),
    Target("the same, a lane lost included", 0.10, _kind("fast"), _counted("stopped")),
    Target("bad campaigns and lanes: caught", 0.95, _kind("bad", "lane"), _counted("caught"), at_most=False),
    Target("bad mail that leaves, mean of the worlds", 0.20, _kind("bad", "lane"), lambda r: per_world(r, _leak)),
    Target("complaints 3 x in the last wave, 3 % pilot: it leaves", 0.10, _world("3 % pilot"), _leak),
    Target("30M, complaints 2 x: it leaves", 0.12, _world("complaints 2 x from the start, 30M"), _leak),
    Target("feed out in a bad wave: it leaves", 0.10, _world("on, feed out"), _leak),
    Target("one provider bad: its lane alone", 0.98, _kind("lane"), _counted("alone"), at_most=False),
    Target("healthy: through without a person", 0.95, _kind("healthy"), _counted("through"), at_most=False),
    Target("bad, and resumed all the same: stopped again", 0.95, _kind("still"), _counted("again"), at_most=False),
    Target("bad, then mended and resumed: stopped again", 0.05, _kind("mended"), _counted("again")),
    Target("healthy 1M: minutes added (median)", 130, lambda r: r["world"] == "healthy 1M", _late, form="{:.0f}"),
)
"""Those about people who resume, who need not, or who open waves all the same are this benchmark's own."""

FEWER: Final = 4.5
QUICK: Final = 5.0
"""Times fewer mails past the limit than the rival; milliseconds for one decision."""


def past(rows: Sequence[Row], rule: str, names: Sequence[str]) -> float:
    """Mails past a limit in one campaign of each of these worlds."""
    return sum(
        float(np.mean([r["bad_sent"] for r in rows if r["rule"] == rule and r["world"] == name])) for name in names
    )


def targets(rows: Sequence[Row], quickest: float | None = None) -> Iterator[str]:
    """Each target and what is shown of it."""
    ours = [row for row in rows if row["rule"] == OURS]
    for target in TARGETS:
        told = [row for row in ours if target.chosen(row)]
        found = target.figure(told)
        sign, limit = "<=" if target.at_most else ">=", target.form.format(target.limit)
        verdict = found.against(target.limit, at_most=target.at_most) if told else "not shown yet"
        yield f"  {target.words:54} {sign} {limit:>6}: {_spread(found, target.form):22} {verdict} ({len(told)} runs)"
    both = {row["world"] for row in rows if row["rule"] == RIVAL} & {row["world"] for row in ours}
    names = sorted(name for name in both if name != UNPILOTED and "30M" not in name and is_bad(rows, name))
    if names and (mine := past(rows, OURS, names)):
        theirs = past(rows, RIVAL, names)
        few = min(sum(r["rule"] == rule and r["world"] == n for r in rows) for rule in (OURS, RIVAL) for n in names)
        seldom = "" if few >= LEAST else f"not shown yet, {few} campaigns of some worlds, so far: "
        verdict = seldom + ("met" if theirs / mine >= FEWER else "not met")
        yield (
            f"  {'mails past a limit, fewer than ' + RIVAL:54} >=   4.5: {theirs / mine:.1f} "
            f"({theirs:,.0f} to {mine:,.0f}) {verdict} ({len(names)} worlds up to a million)"
        )
    if quickest is not None:
        verdict = "met" if quickest <= QUICK else "not met"
        yield f"  {'one decision, milliseconds':54} <=   5.0: {quickest:.1f} {verdict}"
    yield f"  {'illegal actions':54}  =      0: {sum(row['illegal'] for row in ours)}"


def is_bad(rows: Sequence[Row], name: str) -> bool:
    """Whether a world has mail past a limit."""
    return any(row["bad_planned"] for row in rows if row["world"] == name)
