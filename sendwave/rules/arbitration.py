"""Who wins when two campaigns want the same person: the more important one; then the earlier one; then the older one.

A message that a campaign before us has planned and not released yet takes a slot from us, as if it were sent: when it
lies less than one window of our cap ahead, or inside our rest. Campaigns that count are those approved and not over,
and those planned with a start still to come: a plan without a date, or whose date passed without approval, may never
be sent and takes nothing from anybody. Campaigns halted by a gate have given their slots back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sendwave.rules import pressure
from sendwave.rules.columns import (
    CONTACTS,
    PLAN,
    RETURNS,
    SENDS,
    Among,
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    String,
    Subquery,
    alike,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    null,
    select,
    union_all,
)
from sendwave.rules.lifecycle import Campaign
from sendwave.rules.pressure import Cap, Counts, Per, TierPressure, Window

COUNTING: Final = (Campaign.APPROVED, Campaign.SENDING, Campaign.PAUSED)
"""Statuses whose planned messages count; PLANNED counts where the start is still to come."""

WON_BY: Final = "won_by"
"""Column: the number of the campaign that goes first."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A campaign where it queues: by importance (0-100, more goes first), start (epoch seconds), store id."""

    id: int
    importance: int
    start_ts: int

    @property
    def key(self) -> tuple[int, int, int]:
        """Smaller goes first."""
        return -self.importance, self.start_ts, self.id


@dataclass(frozen=True, slots=True)
class Rival:
    """A campaign with messages planned and not released: its plan file is the dataset `dataset`."""

    standing: Standing
    name: str
    type: str
    channel: str
    due_ts: int  # when it goes on: its start, or now
    waves: Sequence[int]  # those still to be released
    resumed: bool  # whether some people of these waves were released before

    @property
    def dataset(self) -> str:
        """The name its plan file has in a statement."""
        return f"plan_{self.standing.id}"


def before(asking: Standing, others: Iterable[Rival]) -> tuple[Rival, ...]:
    """Those that go before the campaign that asks, the first of them first."""
    ahead = [rival for rival in others if rival.standing.id != asking.id and rival.standing.key < asking.key]
    return tuple(sorted(ahead, key=lambda rival: rival.standing.key))


def counts(status: str, start_ts: int | None, now_ts: int) -> bool:
    """Whether what a campaign of that status has planned takes slots."""
    return status in COUNTING or (status == Campaign.PLANNED and start_ts is not None and start_ts > now_ts)


def ahead(
    kind: str,
    channel: str,
    tiers: Mapping[str, TierPressure],
    caps: Sequence[Cap],
    rivals: Sequence[Rival],
    *,
    now_ts: int,
    per: Per = Per.CONTACT,
    among: Among | None = None,
) -> Subquery | None:
    """Planned messages of `rivals` that count now: (contact, `Window.ahead` columns, NEXT), or by group_key.

    None where nothing can clash.
    """
    asked = [window for window in pressure.windows(tiers, caps) if window.per is per]
    rest = pressure.longest_rest(tiers) if per is Per.CONTACT else 0
    if not rivals or not (asked or rest):
        return None
    columns: list[ColumnElement[Any]] = []
    planned = union_all(*(_planned(rival, among if per is Per.CONTACT else None) for rival in rivals))
    source = planned.subquery("planned_messages")
    for window in asked:
        hit = _clashes(window, kind, channel, source, now_ts)
        columns.append(func.count(case((hit, 1))).label(window.ahead))
    if rest:
        on_channel = pressure.counted(Counts.CHANNEL, kind, channel, source)
        following = func.min(case((on_channel, source.c.sent_ts), else_=cast(null(), BigInteger)))
        columns.append(following.label(pressure.NEXT))
    if per is Per.CONTACT:
        return select(source.c.contact, *columns).group_by(source.c.contact).subquery("ahead")
    joined: FromClause = source.join(CONTACTS, CONTACTS.c.contact == source.c.contact)
    key = pressure.group()
    grouped = select(key, *columns).select_from(joined)
    if among is not None:
        grouped = grouped.where(pressure.group().in_(select(pressure.group()).where(among(CONTACTS.c.contact))))
    return grouped.group_by(key).subquery("shared_ahead")


def counted(  # noqa: PLR0917  # where, about whom, then as in `pressure.past`
    source: FromClause,
    contact: ColumnElement[Any],
    kind: str,
    channel: str,
    tiers: Mapping[str, TierPressure],
    caps: Sequence[Cap],
    rivals: Sequence[Rival],
    *,
    now_ts: int,
    among: Among | None = None,
) -> tuple[FromClause, list[ColumnElement[Any]]]:
    """`source` (which holds CONTACTS) joined to the messages sent and planned, and what `pressure.reasons` asks."""
    asked = (kind, channel, tiers, caps)
    columns: list[ColumnElement[Any]] = []
    own = pressure.past(*asked, now_ts=now_ts, among=among), ahead(*asked, rivals, now_ts=now_ts, among=among)
    for found in own:
        if found is not None:
            source = source.outerjoin(found, found.c.contact == contact)
            columns += [column for column in found.c if column.name != "contact"]
    if not pressure.is_shared(tiers, caps):
        return source, columns
    of_group = ahead(*asked, rivals, now_ts=now_ts, per=Per.GROUP, among=among)
    for found in (pressure.shared(*asked, now_ts=now_ts, among=among), of_group):
        if found is not None:
            source = source.outerjoin(found, found.c.group_key == pressure.group().element)
            columns += [column for column in found.c if column.name != "group_key"]
    return source, [*columns, pressure.group()]


def outranked(asked: Sequence[Select[Any]]) -> FromClause:
    """(contact, excluded_by) of whom planned messages keep out: by the plan itself, or by these re-checks."""
    prefix = pressure.OUTRANKED + "%"
    again = [one.order_by(None).subquery(f"wave_{n}") for n, one in enumerate(asked, 1)]
    parts = [select(PLAN.c.contact, PLAN.c.excluded_by).where(PLAN.c.excluded_by.like(prefix))]
    parts += [select(one.c.contact, one.c.excluded_by).where(one.c.excluded_by.like(prefix)) for one in again]
    return union_all(*parts).subquery("lost")


def winners_statement(lost: FromClause, rivals: Sequence[Rival], causes: Mapping[str, Sequence[str]]) -> Select[Any]:
    """(won_by, reason, people): over people `lost` (contact, excluded_by), how many each rival's message kept out.

    Somebody whom two rivals want is told under both. `causes` are the reasons the messages of each rival can be (see
    `reasons_of`).
    """
    told = union_all(*(_planned(rival, None) for rival in rivals)).subquery("planned_messages")
    by = {rival.standing.id: lost.c.excluded_by.in_(list(causes[rival.name])) for rival in rivals}
    matters = case(*((told.c.campaign == number, test) for number, test in by.items()))
    source = lost.join(told, told.c.contact == lost.c.contact)
    asked = (told.c.campaign.label(WON_BY), lost.c.excluded_by.label("reason"))
    return select(*asked, func.count().label("people")).select_from(source).where(matters).group_by(*asked)


def reasons_of(
    kind: str,
    channel: str,
    tiers: Mapping[str, TierPressure],
    caps: Sequence[Cap],
    rival: Rival,
    *,
    now_ts: int,
) -> tuple[str, ...]:
    """The `outranked_…` reasons a message of that rival can cause."""
    found = [
        pressure.OUTRANKED + limit.reason
        for tier in (*tiers, "")
        for limit in pressure.limits(tiers, caps, tier)
        if rival.due_ts < limit.window.free_ts(now_ts)
        and (limit.window.counts is not Counts.TYPE or rival.type == kind)
        and (limit.window.counts is not Counts.CHANNEL or rival.channel == channel)
    ]
    if rival.channel == channel and rival.due_ts < now_ts + pressure.longest_rest(tiers):
        found.append(pressure.OUTRANKED + pressure.MIN_GAP)
    return tuple(dict.fromkeys(found))


def _clashes(window: Window, kind: str, channel: str, source: Subquery, now_ts: int) -> ColumnElement[bool]:
    """Whether a planned message and one sent now could lie in one window."""
    return and_(pressure.counted(window.counts, kind, channel, source), source.c.sent_ts < window.free_ts(now_ts))


def _planned(rival: Rival, among: Among | None) -> Select[Any]:
    """(contact, campaign, type, channel, sent_ts) of the messages a campaign has still to release."""
    p = alike(rival.dataset, PLAN).c
    columns = (
        p.contact,
        literal(rival.standing.id, BigInteger).label("campaign"),
        literal(rival.type, String).label("type"),
        literal(rival.channel, String).label("channel"),
        literal(rival.due_ts, BigInteger).label("sent_ts"),
    )
    waiting: list[ColumnElement[bool]] = [
        p.excluded_by.is_(None),
        p.wave.in_([literal(wave, Integer) for wave in rival.waves]),
    ]
    if rival.resumed:
        s, r = SENDS.c, RETURNS.c
        back = exists().where(r.freeze == s.freeze, r.contact == s.contact)
        waiting.append(~exists().where(s.campaign == rival.standing.id, s.contact == p.contact, ~back))
    if among is not None:
        waiting.append(among(p.contact))
    return select(*columns).where(*waiting)
