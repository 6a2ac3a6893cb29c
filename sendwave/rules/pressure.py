"""Too much pressure: caps and rests over rolling windows, by campaign type, tier and channel, for a person or a group.

0, no cap and never are three values: `cap: 0 per 7d` lets nobody through who would need a slot, no `cap` limits
nothing, `never` (on a tier) leaves the tier out.

With `calendar`, the window reaches back to the beginning of the calendar period it begins in, as the period grouping of
Adobe Campaign's pressure rules does: 3 per 15 days by month counts, on 30 June, everything since 1 June.

Planned messages of campaigns that go first count too (`rules/arbitration.py` says which those are): the rule of Adobe
Campaign's arbitration, messages sent + messages planned with a greater weight < cap. Their reasons begin with
`outranked_`, after all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sendwave.rules.calendars import Calendar, InCalendar
from sendwave.rules.columns import (
    CONTACTS,
    EVENTS,
    RETURNS,
    SENDS,
    Among,
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Reason,
    Select,
    String,
    Subquery,
    and_,
    case,
    cast,
    column,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
)
from sendwave.rules.events import EventType, Permanence
from sendwave.rules.units import Duration, Frequency, Percent, PerWindow, Policy, format_duration


class Counts(StrEnum):
    """Which past sends a cap counts."""

    TYPE = "type"  # this campaign type, any channel
    CHANNEL = "channel"  # this channel, any type
    ALL = "all"  # everything


class Per(StrEnum):
    """Whose messages are counted together."""

    CONTACT = "contact"
    GROUP = "group"  # everybody with the same group_key: a household, an account


class Bounced(StrEnum):
    """What becomes of the slot of a message that bounced hard."""

    GIVE_BACK = "give_back"  # nobody was reached
    KEEP = "keep"


class Cap(Policy):
    """At most so many messages per window."""

    max: PerWindow = Field(description="For instance '1 per 1d'. Windows roll: 24 hours, not a calendar day.")
    counts: Counts = Counts.CHANNEL
    per: Per = Field(Per.CONTACT, description="'group': everybody with the same group_key shares the slots.")
    calendar: InCalendar | None = Field(
        None, description="The window begins with the calendar period it begins in: 'month Europe/Paris'."
    )

    @property
    def window(self) -> Window:
        """What it counts, and how far back."""
        return Window(self.counts, _seconds(self.max.window), self.per, self.calendar)


class TierPressure(Policy):
    """What one tier gets of a campaign type. A tier left out of `tiers` is not contacted."""

    share: Percent = Field(description="Share of the tier that is written to, drawn by a stable hash per campaign.")
    cap: PerWindow | None = Field(None, description="Messages of this type per rolling window; none means no cap.")
    caps: tuple[Cap, ...] = Field(default=(), description="Further caps for this tier: by channel, over all, by group.")
    min_gap: Duration | None = Field(None, description="Rest since the last message on this channel, of any type.")
    never: bool = Field(False, description="Not contacted at all, like a tier left out; written `cold: never`.")

    @model_validator(mode="before")
    @classmethod
    def _never(cls, value: Any) -> Any:
        return {"share": "0%", "never": True} if value == "never" else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """For editors: the word `never` may stand for the mapping."""
        return {"anyOf": [{"const": "never"}, handler(core)]}


class Window(NamedTuple):
    """One count of messages: what is counted, over how many seconds back from now, whose, from which calendar on."""

    counts: Counts
    seconds: int
    per: Per = Per.CONTACT
    calendar: Calendar | None = None

    @property
    def column(self) -> str:
        """Its column in the results of `past` and `shared`."""
        zone = "" if self.calendar is None else f"_{self.calendar}".replace(" ", "_").replace("/", "_").lower()
        return f"sent_{self.counts}_{self.seconds}s{zone}" + ("_group" if self.per is Per.GROUP else "")

    @property
    def ahead(self) -> str:
        """Its column of planned messages."""
        return self.column.replace("sent_", "ahead_", 1)

    @property
    def words(self) -> str:
        """How reasons name it: `channel_7d`, `group_all_30d`, `channel_15d_month`."""
        period = "" if self.calendar is None else f"_{self.calendar.period}"
        group = "group_" if self.per is Per.GROUP else ""
        return f"{group}{self.counts}_{format_duration(timedelta(seconds=self.seconds))}{period}"

    def since_ts(self, now_ts: int) -> int:
        """Only later sends are counted; a send exactly one window old has left a rolling one."""
        back = now_ts - self.seconds
        return back if self.calendar is None else self.calendar.start_ts(back) - 1

    def free_ts(self, sent_ts: int) -> int:
        """When a send leaves the window."""
        return self.seconds + (sent_ts if self.calendar is None else self.calendar.end_ts(sent_ts))


class Limit(NamedTuple):
    """A cap as it binds somebody: the reason it excludes by, what it counts, how many per window."""

    reason: str
    window: Window
    cap: Frequency


TIER_CAP: Final = "cap_tier"
MIN_GAP: Final = "min_gap"
OUTRANKED: Final = "outranked_"
"""Prefix of a reason that holds because of planned messages of campaigns that go first."""
LAST: Final = "last_on_channel_ts"
"""Column of the latest send on the channel, as far back as the longest rest."""
NEXT: Final = "next_on_channel_ts"
"""Column of the first planned message on the channel."""


def contacted(tiers: Mapping[str, TierPressure]) -> tuple[str, ...]:
    """The keys of the tiers that are written to."""
    return tuple(key for key, tier in tiers.items() if not tier.never)


def windows(tiers: Mapping[str, TierPressure], caps: Sequence[Cap]) -> tuple[Window, ...]:
    """Every distinct count the caps need, each computed once."""
    tier_caps = [_own(tier.cap) for tier in tiers.values() if tier.cap is not None]
    further = [cap.window for tier in tiers.values() for cap in tier.caps]
    return tuple(dict.fromkeys([*tier_caps, *further, *(cap.window for cap in caps)]))


def longest_rest(tiers: Mapping[str, TierPressure]) -> int:
    """Seconds of the longest `min_gap`; 0 where no tier rests."""
    return max((_seconds(tier.min_gap) for tier in tiers.values() if tier.min_gap is not None), default=0)


def reach_ts(tiers: Mapping[str, TierPressure], caps: Sequence[Cap], now_ts: int) -> int:
    """Epoch seconds back to which past sends matter; `now_ts` when nothing limits anybody."""
    rest = now_ts - longest_rest(tiers)
    return min([rest, *(window.since_ts(now_ts) for window in windows(tiers, caps))])


def limits(tiers: Mapping[str, TierPressure], caps: Sequence[Cap], tier: str) -> tuple[Limit, ...]:
    """The caps on somebody of that tier, in the order of `reasons`."""
    own = tiers.get(tier)
    found = [] if own is None or own.cap is None else [Limit(TIER_CAP, _own(own.cap), own.cap)]
    if own is not None:
        found += [Limit(f"{TIER_CAP}_{cap.window.words}", cap.window, cap.max) for cap in _strictest(own.caps)]
    return (*found, *(Limit(f"cap_{cap.window.words}", cap.window, cap.max) for cap in _strictest(caps)))


def is_shared(tiers: Mapping[str, TierPressure], caps: Sequence[Cap]) -> bool:
    """Whether any cap counts a whole group together."""
    return any(window.per is Per.GROUP for window in windows(tiers, caps))


def live_sends(columns: Iterable[ColumnElement[Any]], since_ts: int, source: FromClause = SENDS) -> Select[Any]:
    """Sends that hold a pressure slot: not taken out at release, not given back, later than `since_ts`.

    `source` is SENDS, or SENDS joined to more. The anti-join is a left join on purpose: DuckDB first groups all sends
    by their key for NOT EXISTS, which took longer than everything else.
    """
    given_back = and_(RETURNS.c.freeze == SENDS.c.freeze, RETURNS.c.contact == SENDS.c.contact)
    return (
        select(*columns)
        .select_from(source.outerjoin(RETURNS, given_back))
        .where(SENDS.c.excluded_by.is_(None), SENDS.c.sent_ts > since_ts, RETURNS.c.contact.is_(None))
    )


def bounced_statement(campaigns: Sequence[int]) -> Select[Any]:
    """(freeze, contact, reason) of RETURNS: the slots of these campaigns' people whose message bounced hard."""
    e, s = EVENTS.c, SENDS.c
    source = EVENTS.join(SENDS, and_(s.batch == e.batch, s.position == e.position, s.campaign == e.campaign))
    hard = and_(e.type == EventType.BOUNCE.value, e.permanence == Permanence.HARD.value)
    asked = select(s.freeze, s.contact, literal("bounced", String).label("reason")).select_from(source)
    return asked.where(hard, e.campaign.in_(list(campaigns)), s.freeze > 0).distinct()


def bounced_of() -> Select[Any]:
    """The numbers (`campaign`) of the campaigns with a hard bounce among the events."""
    e = EVENTS.c
    hard = and_(e.type == EventType.BOUNCE.value, e.permanence == Permanence.HARD.value)
    return select(e.campaign).where(hard).distinct()


def counted(counts: Counts, kind: str, channel: str, sends: Any = SENDS) -> ColumnElement[bool]:
    """Whether a send is counted; one whose type or channel is not known is, by every cap."""
    if counts is Counts.TYPE:
        return func.coalesce(sends.c.type, kind) == kind
    return func.coalesce(sends.c.channel, channel) == channel if counts is Counts.CHANNEL else true()


def past(
    kind: str,
    channel: str,
    tiers: Mapping[str, TierPressure],
    caps: Sequence[Cap],
    *,
    now_ts: int,
    among: Among | None = None,
) -> Subquery | None:
    """(contact, one column per window, LAST): one pass over the sends; None when nothing limits anybody.

    `kind` is the campaign type that asks. People without a send have no row.
    """
    asked = [window for window in windows(tiers, caps) if window.per is Per.CONTACT]
    rest = longest_rest(tiers)
    if not asked and not rest:
        return None
    columns = [_past(window, kind, channel, now_ts) for window in asked]
    if rest:
        on_channel = counted(Counts.CHANNEL, kind, channel)
        columns.append(func.max(case((on_channel, SENDS.c.sent_ts), else_=cast(null(), BigInteger))).label(LAST))
    since = min([now_ts - rest, *(window.since_ts(now_ts) for window in asked)])
    sent = live_sends([SENDS.c.contact, *columns], since)
    if all(window.counts is Counts.TYPE for window in asked) and not rest:
        sent = sent.where(counted(Counts.TYPE, kind, channel))
    if among is not None:
        sent = sent.where(among(SENDS.c.contact))
    return sent.group_by(SENDS.c.contact).subquery("past")


def shared(
    kind: str,
    channel: str,
    tiers: Mapping[str, TierPressure],
    caps: Sequence[Cap],
    *,
    now_ts: int,
    among: Among | None = None,
) -> Subquery | None:
    """(group_key, one column per window of a group), as `past`; None when no cap counts groups.

    Somebody without a group is a group of their own: the key is then made of the contact (see `group`).
    """
    asked = [window for window in windows(tiers, caps) if window.per is Per.GROUP]
    if not asked:
        return None
    key = group()
    source = SENDS.join(CONTACTS, CONTACTS.c.contact == SENDS.c.contact)
    columns = [_past(window, kind, channel, now_ts) for window in asked]
    sent = live_sends([key, *columns], min(window.since_ts(now_ts) for window in asked), source)
    if among is not None:
        sent = sent.where(group().in_(select(group()).where(among(CONTACTS.c.contact))))
    return sent.group_by(key).subquery("shared")


def group() -> ColumnElement[str]:
    """The key of a contact's group. A key of the base begins with `=`, so that no contact's own can equal it."""
    alone = cast(CONTACTS.c.contact, String)
    named = and_(CONTACTS.c.group_key.is_not(None), CONTACTS.c.group_key != "")
    return case((named, literal("=", String) + CONTACTS.c.group_key), else_=alone).label("group_key")


def reasons(
    tiers: Mapping[str, TierPressure],
    caps: Sequence[Cap],
    now_ts: int,
    *,
    ahead: bool = False,
    turn: ColumnElement[Any] | None = None,
) -> tuple[Reason, ...]:
    """`cap_tier…`, `cap_<counts>_<window>` and `min_gap`, over the column `tier`, those of `past` and of `shared`.

    With `ahead` the same again as `outranked_…`, planned messages (`arbitration.ahead`) included. `turn` (1, 2, …)
    asks the caps of groups alone, for the so-manieth member that would get this very message.
    """
    found = _reasons(tiers, caps, now_ts, ahead=False, turn=turn)
    if ahead:
        found += [Reason(OUTRANKED + r.name, r.passes) for r in _reasons(tiers, caps, now_ts, ahead=True, turn=turn)]
    return tuple(found)


def _reasons(
    tiers: Mapping[str, TierPressure],
    caps: Sequence[Cap],
    now_ts: int,
    *,
    ahead: bool,
    turn: ColumnElement[Any] | None,
) -> list[Reason]:
    bound: dict[str, dict[str, ColumnElement[bool]]] = {}
    for key in tiers:
        for limit in limits(tiers, (), key):
            bound.setdefault(limit.reason, {})[key] = _below(limit, ahead=ahead, turn=turn)
    asked = {limit.reason: limit.window for key in tiers for limit in limits(tiers, caps, key)}
    found = [Reason(name, _by_tier(tiers, conditions)) for name, conditions in bound.items()]
    for limit in limits({}, caps, ""):
        asked[limit.reason] = limit.window
        found.append(Reason(limit.reason, _below(limit, ahead=ahead, turn=turn)))
    if turn is not None:
        return [reason for reason in found if asked[reason.name].per is Per.GROUP]
    if longest_rest(tiers):
        gaps = {key: _rested(tier.min_gap, now_ts, ahead=ahead) for key, tier in tiers.items() if tier.min_gap}
        found.append(Reason(MIN_GAP, _by_tier(tiers, gaps)))
    return found


def _past(window: Window, kind: str, channel: str, now_ts: int) -> ColumnElement[Any]:
    hit = and_(counted(window.counts, kind, channel), SENDS.c.sent_ts > window.since_ts(now_ts))
    return func.count(case((hit, 1))).label(window.column)


def _strictest(caps: Sequence[Cap]) -> tuple[Cap, ...]:
    """One cap per count and window: of `3 per 24h` and `1 per 1d` the second says it all."""
    found: dict[Window, Cap] = {}
    for cap in sorted(caps, key=lambda cap: cap.max.count, reverse=True):
        found[cap.window] = cap
    return tuple(cap for cap in caps if cap in found.values())


def _by_tier(tiers: Mapping[str, TierPressure], conditions: Mapping[str, ColumnElement[bool]]) -> ColumnElement[bool]:
    """Each tier's own condition; a tier without one is free, a tier the policy does not know is not."""
    tier = column("tier", String)
    free = [key for key in tiers if key not in conditions]
    return case((tier.in_(free), true()), *((tier == key, test) for key, test in conditions.items()), else_=false())


def _below(limit: Limit, *, ahead: bool, turn: ColumnElement[Any] | None) -> ColumnElement[bool]:
    """Room for one more. Without a past send there is no row, hence the 0; a cap of 0 has no room even then."""
    sent: ColumnElement[Any] = func.coalesce(column(limit.window.column, Integer), 0)
    if ahead:
        sent = sent + func.coalesce(column(limit.window.ahead, Integer), 0)
    return sent < limit.cap.count if turn is None else sent + turn <= limit.cap.count


def _rested(gap: timedelta, now_ts: int, *, ahead: bool) -> ColumnElement[bool]:
    last, following = column(LAST, BigInteger), column(NEXT, BigInteger)
    rested = or_(last.is_(None), last <= now_ts - _seconds(gap))
    return and_(rested, or_(following.is_(None), following >= now_ts + _seconds(gap))) if ahead else rested


def _own(cap: Frequency) -> Window:
    return Window(Counts.TYPE, _seconds(cap.window))


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())
