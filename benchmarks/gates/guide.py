"""The tables of docs/guides/gates.md, written from the runs: by target, by rule, by world."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Final

from gates import report
from gates.report import RIVAL, TARGETS, UNPILOTED, Estimate, Row, leaks, mean, median, past, per_world, share
from gates.rules import OURS, RULES
from gates.worlds import worlds

_SAID: Final = {"met": "**met**", "not met": "**not met**"}


def renewed(page: str, rows: Sequence[Row]) -> str:
    """The page with each block between `<!-- NAME: … -->` and `<!-- end of NAME -->` written anew."""
    for name, write in TABLES.items():
        block = re.compile(rf"(<!-- {name}:[^\n]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        told = "\n".join(["", *write(rows), "", ""])
        page, times = block.subn(lambda found, told=told: found[1] + told + found[2], page)  # type: ignore[misc]
        if times != 1:
            raise ValueError(f"the page has {times} blocks named {name}, not one")
    return page


def by_target(rows: Sequence[Row]) -> Iterator[str]:
    """Every target, the figure and what is shown of it."""
    ours = [row for row in rows if row["rule"] == OURS]
    yield "| target | aim | figure [95 %] | | campaigns |"
    yield "|---|---|---|---|---|"
    for target in TARGETS:
        told = [row for row in ours if target.chosen(row)]
        found, sign = target.figure(told), "≤" if target.at_most else "≥"
        is_share = "%" in target.form
        words = found.against(target.limit, at_most=target.at_most)
        shown = _SAID.get(words, f"not shown; {'so far as wanted' if 'wanted' in words else 'so far worse'}")
        counted = [row for row in told if row["bad_planned"]] if "leav" in target.words else told
        aim = f"{100 * target.limit:g} %" if is_share else f"{target.limit:g}"
        figure = _spread(found, is_share=is_share)
        yield f"| {_plain(target.words)} | {sign} {aim} | {figure} | {shown} | {len(counted)} |"
    yield from _fewer(rows, ours)


def _fewer(rows: Sequence[Row], ours: Sequence[Row]) -> Iterator[str]:
    both = {row["world"] for row in rows if row["rule"] == RIVAL} & {row["world"] for row in ours}
    names = sorted(n for n in both if n != UNPILOTED and "30M" not in n and report.is_bad(rows, n))
    if not names:
        return
    mine, theirs = past(rows, OURS, names), past(rows, RIVAL, names)
    few = min(sum(r["rule"] == rule and r["world"] == n for r in rows) for rule in (OURS, RIVAL) for n in names)
    shown = _SAID["met" if theirs >= report.FEWER * mine else "not met"]
    yield (
        f"| mails past a limit, fewer than rate × 1.5 from 1,000, in {len(names)} worlds up to a million | ≥ 4.5 times "
        f"| {theirs / mine:.1f} times ({theirs:,.0f} to {mine:,.0f}) | {shown} | {few} of each at least |"
    )


def by_rule(rows: Sequence[Row]) -> Iterator[str]:
    """Each rule: what it stops and should not, what it catches, what it lets out."""
    yield "| rule | healthy, stopped [95 %] | on the limit, stopped | bad, caught | bad mail sent |"
    yield "|---|---|---|---|---|"
    for rule in RULES:
        own = [row for row in rows if row["rule"] == rule]
        bad = [row for row in own if row["kind"] in {"bad", "lane"} and row["world"] != UNPILOTED]
        stopped = [
            _of([row for row in own if row["kind"] in kinds], "stopped")
            for kinds in ({"healthy"}, {"limit", "opened", "fast"})
        ]
        leak = per_world(bad, lambda told: mean(leaks(told))).value
        name = f"**{rule}**" if rule == OURS else _plain(rule)
        yield f"| {name} | {stopped[0]} | {stopped[1]} | {_of(bad, 'caught')} | {100 * leak:.0f} % |"


def by_world(rows: Sequence[Row]) -> Iterator[str]:
    """Each world under our rule, and what the rival lets out there."""
    yield (
        "| world (a million mails unless told) | campaigns | stopped | held | bad mail sent [95 %] "
        "| the same, rate × 1.5 | minutes added (median) |"
    )
    yield "|---|---|---|---|---|---|---|"
    for world in worlds():
        here = [row for row in rows if row["world"] == world.name]
        own = [row for row in here if row["rule"] == OURS]
        theirs = leaks([row for row in here if row["rule"] == RIVAL])
        held = sum(not row["stopped"] and not row["through"] for row in own)
        through = 2 * sum(row["through"] for row in own) > len(own)
        leak = _spread(mean(leaks(own)), is_share=True) if leaks(own) else ""
        rival = f"{100 * sum(theirs) / len(theirs):.0f} % of {len(theirs)}" if theirs else ""
        added = f"{median([row['added'] for row in own]).value:.0f}" if through else ""
        yield (
            f"| {_plain(world.name)} | {len(own)} | {sum(row['stopped'] for row in own)} | {held or ''} | {leak} "
            f"| {rival} | {added} |"
        )


def _of(rows: Sequence[Row], name: str) -> str:
    hits = sum(bool(row[name]) for row in rows)
    found = share(hits, len(rows))
    return f"{hits} of {len(rows)} [{100 * found.low:.0f} %, {100 * found.high:.0f} %]"


def _spread(found: Estimate, *, is_share: bool) -> str:
    def told(value: float) -> str:
        return f"{100 * value:.1f} %" if is_share else f"{value:.0f}"

    known = found.high < inf and found.low > -inf and found.high - found.low > 1e-9
    low, high = (max(found.low, 0.0), min(found.high, 1.0)) if is_share else (found.low, found.high)
    return f"{told(found.value)} [{told(low)}, {told(high)}]" if known else told(found.value)


def _plain(words: str) -> str:
    return re.sub(r" x(?=[ ,:)])", " ×", words)


TABLES: Final[dict[str, Callable[[Sequence[Row]], Iterator[str]]]] = {
    "targets": by_target,
    "rules": by_rule,
    "worlds": by_world,
}
