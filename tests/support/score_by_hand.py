"""The score of one contact worked out act by act, in plain Python: what the statements have to agree with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pyarrow as pa

from sendwave.rules.conditions import When
from sendwave.rules.grid import After, Band, Grid, Ignored, Same, Style, Touchpoint

DAY = 86_400


@dataclass(frozen=True)
class Act:
    """One interaction; `ts` in epoch seconds."""

    contact: int
    kind: str
    ts: int
    value: float | None = None
    channel: str | None = None
    campaign: str | None = None
    message_id: str | None = None
    machine: bool | None = None
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    interaction_id: str | None = None


def interactions(acts: Iterable[Act]) -> pa.Table:
    """The acts as a table of INTERACTIONS."""
    import json

    rows = list(acts)
    texts = ("interaction_id", "kind", "channel", "campaign", "message_id")
    columns: dict[str, Any] = {name: pa.array([getattr(a, name) for a in rows], pa.string()) for name in texts}
    columns["contact"] = pa.array([a.contact for a in rows], pa.int64())
    columns["ts"] = pa.array([a.ts for a in rows], pa.int64())
    columns["value"] = pa.array([a.value for a in rows], pa.float64())
    columns["machine"] = pa.array([a.machine for a in rows], pa.bool_())
    columns["attributes"] = pa.array(
        [json.dumps(dict(a.attributes)) if a.attributes else None for a in rows], pa.string()
    )
    return pa.table(columns)


def contacts(signed_up: Mapping[int, int | None]) -> pa.Table:
    """Contact numbers and sign-up instants as a table that stands for CONTACTS."""
    return pa.table(
        {
            "contact": pa.array(list(signed_up), pa.int64()),
            "signed_up_ts": pa.array(list(signed_up.values()), pa.int64()),
        }
    )


def holds(when: When, act: Act) -> bool:
    """Whether all parts of a condition are known to hold."""
    tests = {"<=": float.__le__, ">=": float.__ge__, "<": float.__lt__, ">": float.__gt__, "=": float.__eq__}
    known = act.value is not None and math.isfinite(act.value)
    if not all(known and tests[operator](float(act.value or 0), number) for operator, number in when.numbers):
        return False
    return all(_text(act, name) in words for name, words in when.words)


def _text(act: Act, name: str) -> str | None:
    return getattr(act, name) if name in ("channel", "campaign") else act.attributes.get(name)


def implied(rule: Ignored, act: Act, acts: Iterable[Act]) -> bool:
    """Whether another act makes this one not count."""
    if act.kind not in rule.kinds:
        return False
    for other in acts:
        apart = act.ts - other.ts
        near = abs(apart) <= rule.seconds if rule.accompanied_by else 0 <= apart <= rule.seconds
        shared = {Same.ANY: 1, Same.CAMPAIGN: act.campaign, Same.MESSAGE: act.message_id}[rule.same]
        theirs = {Same.ANY: 1, Same.CAMPAIGN: other.campaign, Same.MESSAGE: other.message_id}[rule.same]
        if other.contact == act.contact and other.kind in rule.by and near and shared is not None and shared == theirs:
            return True
    return False


def that_count(grid: Grid, acts: Iterable[Act]) -> list[Act]:
    """One of each id, none that another implies."""
    seen: set[str] = set()
    known = []
    for act in sorted(acts, key=lambda a: (a.ts, a.contact)):
        if act.interaction_id is None or act.interaction_id not in seen:
            known.append(act)
            seen.add(act.interaction_id or "")
    return [act for act in known if not any(implied(rule, act, known) for rule in grid.ignore)]


def band(bands: Iterable[Band], ts: int, as_of: int) -> int:
    """Points by whole days of age."""
    age = math.floor((as_of - ts) / DAY)
    return next((b.points for b in bands if b.within is None or age < b.within.days), 0)


def _of(grid: Grid, key: str, acts: Iterable[Act]) -> list[Act]:
    point = grid.touchpoints[key]
    found = [
        a for a in acts if a.kind in grid.kinds_of(key) and holds(point.when, a) and (point.machine or not a.machine)
    ]
    if not point.positive:
        return found
    return [
        a
        for a in found
        if not any((not one.kinds or a.kind in one.kinds) and holds(one.when, a) for one in grid.never_positive)
    ]


def _last_act(point: Touchpoint, acts: list[Act], as_of: int, weight: Fraction) -> int | None:
    if not acts:
        return None
    latest = max(a.ts for a in acts)
    fits = [
        next((number for number, one in enumerate(point.cases) if holds(one.when, a)), len(point.cases))
        for a in acts
        if a.ts == latest
    ]
    bands = [*(one.bands for one in point.cases), point.bands][min(fits)]
    return int(band(bands, latest, as_of) * weight)


def points(grid: Grid, key: str, acts: list[Act], signed_up: int | None, as_of: int) -> int:
    """What one touchpoint brings; `acts` are those of the contact that count, up to `as_of`."""
    point = grid.touchpoints[key]
    if point.style is Style.SIGN_UP:
        ended = any(a for name in point.unless for a in _of(grid, name, acts) if not a.machine)
        return 0 if signed_up is None or signed_up > as_of or ended else band(point.bands, signed_up, as_of)
    own, weight = _of(grid, key, acts), Fraction(point.machine)
    people, machines = [a for a in own if not a.machine], [a for a in own if a.machine]
    if point.style is Style.ADDITIVE:
        window = math.inf if point.window is None else point.window.days
        counted = [sum(math.floor((as_of - a.ts) / DAY) < window for a in group) for group in (people, machines)]
        total = abs(point.points) * counted[0] + math.floor(abs(point.points) * weight * counted[1])
        return int(math.copysign(min(total, point.cap or total), point.points)) if point.points else 0
    found = [_last_act(point, people, as_of, Fraction(1)), _last_act(point, machines, as_of, weight)]
    return max((one for one in found if one is not None), default=0)


def score(grid: Grid, acts: Iterable[Act], contact: int, signed_up: int | None, as_of: int) -> int:
    """The score of one contact at `as_of` (epoch seconds)."""
    own = [a for a in that_count(grid, [a for a in acts if a.contact == contact]) if a.ts <= as_of]
    brought = [points(grid, key, own, signed_up, as_of) for key in grid.touchpoints]
    given, taken = sum(p for p in brought if p > 0), sum(p for p in brought if p < 0)
    if grid.cycle is None:
        return given + taken
    giving = {key: point for key, point in grid.touchpoints.items() if point.positive}
    instants = [a.ts for key, point in giving.items() if point.style is not Style.SIGN_UP for a in _of(grid, key, own)]
    if signed_up is not None and any(point.style is Style.SIGN_UP for point in giving.values()):
        instants.append(signed_up)
    silent = math.floor((as_of - max(instants, default=-(1 << 53))) / DAY)
    return math.floor(given * left(grid, silent)) + taken


def left(grid: Grid, silent: int) -> Fraction:
    """The share of points given that so many silent days leave."""
    assert grid.cycle is not None
    over, late = grid.cycle.over, silent - grid.cycle.window.days
    if late < 0:
        return Fraction(1)
    if over is None:
        return Fraction(0)
    if grid.cycle.then is After.LINEAR:
        return max(Fraction(0), Fraction(over.days - late, over.days))
    halvings, rest = divmod(late, over.days)
    return Fraction(2 * over.days - rest, 2 * over.days * 2**halvings) if halvings < 36 else Fraction(0)


def at(text: str) -> int:
    """Epoch seconds of an ISO date or instant in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
