"""Too much pressure: caps and rests over rolling windows, by campaign type, tier and channel.

0, no cap and never are three values: `cap: 0 per 7d` lets nobody through who would need a slot, no `cap` limits
nothing, `never` (on a tier) leaves the tier out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sendwave.rules.columns import (
    RETURNS,
    SENDS,
    Among,
    BigInteger,
    ColumnElement,
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
    null,
    or_,
    select,
    true,
)
from sendwave.rules.units import Duration, Frequency, Percent, PerWindow, Policy, format_duration


class Counts(StrEnum):
    """Which past sends a cap counts."""

    TYPE = "type"  # this campaign type, any channel
    CHANNEL = "channel"  # this channel, any type
    ALL = "all"  # everything


class Cap(Policy):
    """At most so many messages per rolling window, for everybody."""

    max: PerWindow = Field(description="For instance '1 per 1d'. Windows roll: 24 hours, not a calendar day.")
    counts: Counts = Counts.CHANNEL


class TierPressure(Policy):
    """What one tier gets of a campaign type. A tier left out of `tiers` is not contacted."""

    share: Percent = Field(description="Share of the tier that is written to, drawn by a stable hash per campaign.")
    cap: PerWindow | None = Field(None, description="Messages of this type per rolling window; none means no cap.")
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
    """One count of past sends: what is counted, over how many seconds back from now."""

    counts: Counts
    seconds: int

    @property
    def column(self) -> str:
        """Its column in the result of `past`."""
        return f"sent_{self.counts}_{self.seconds}s"


class Limit(NamedTuple):
    """A cap as it binds somebody: the reason it excludes by, what it counts, how many per window."""

    reason: str
    counts: Counts
    cap: Frequency


TIER_CAP: Final = "cap_tier"
MIN_GAP: Final = "min_gap"
LAST: Final = "last_on_channel_ts"
"""Column of the latest send on the channel, as far back as the longest rest."""


def contacted(tiers: Mapping[str, TierPressure]) -> tuple[str, ...]:
    """The keys of the tiers that are written to."""
    return tuple(key for key, tier in tiers.items() if not tier.never)


def windows(tiers: Mapping[str, TierPressure], caps: Sequence[Cap]) -> tuple[Window, ...]:
    """Every distinct count the caps need, each computed once."""
    tier_caps = [Window(Counts.TYPE, _seconds(tier.cap.window)) for tier in tiers.values() if tier.cap is not None]
    return tuple(dict.fromkeys([*tier_caps, *(Window(cap.counts, _seconds(cap.max.window)) for cap in caps)]))


def longest_rest(tiers: Mapping[str, TierPressure]) -> int:
    """Seconds of the longest `min_gap`; 0 where no tier rests."""
    return max((_seconds(tier.min_gap) for tier in tiers.values() if tier.min_gap is not None), default=0)


def limits(tiers: Mapping[str, TierPressure], caps: Sequence[Cap], tier: str) -> tuple[Limit, ...]:
    """The caps on somebody of that tier, in the order of `reasons`."""
    own = tiers[tier].cap if tier in tiers else None
    of_tier = () if own is None else (Limit(TIER_CAP, Counts.TYPE, own),)
    return (*of_tier, *(Limit(_cap_name(cap), cap.counts, cap.max) for cap in _strictest(caps)))


def live_sends(columns: Iterable[ColumnElement[Any]], since_ts: int) -> Select[Any]:
    """Sends that hold a pressure slot: not taken out at release, not given back, later than `since_ts`.

    A send exactly one window old has left the window. The anti-join is a left join on purpose: DuckDB first groups all
    sends by their key for NOT EXISTS, which took longer than everything else.
    """
    given_back = and_(RETURNS.c.freeze == SENDS.c.freeze, RETURNS.c.contact == SENDS.c.contact)
    return (
        select(*columns)
        .select_from(SENDS.outerjoin(RETURNS, given_back))
        .where(SENDS.c.excluded_by.is_(None), SENDS.c.sent_ts > since_ts, RETURNS.c.contact.is_(None))
    )


def counted(counts: Counts, kind: str, channel: str) -> ColumnElement[bool]:
    """Whether a send is counted; one whose type or channel is not known is, by every cap."""
    if counts is Counts.TYPE:
        return func.coalesce(SENDS.c.type, kind) == kind
    return func.coalesce(SENDS.c.channel, channel) == channel if counts is Counts.CHANNEL else true()


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
    asked, rest = windows(tiers, caps), longest_rest(tiers)
    if not asked and not rest:
        return None
    reach = max([rest, *(window.seconds for window in asked)])
    columns: list[ColumnElement[Any]] = []
    for window in asked:
        hit = and_(counted(window.counts, kind, channel), SENDS.c.sent_ts > now_ts - window.seconds)
        columns.append(func.count(case((hit, 1))).label(window.column))
    if rest:
        on_channel = counted(Counts.CHANNEL, kind, channel)
        columns.append(func.max(case((on_channel, SENDS.c.sent_ts), else_=cast(null(), BigInteger))).label(LAST))
    sent = live_sends([SENDS.c.contact, *columns], now_ts - reach)
    if all(window.counts is Counts.TYPE for window in asked) and not rest:
        sent = sent.where(counted(Counts.TYPE, kind, channel))
    if among is not None:
        sent = sent.where(among(SENDS.c.contact))
    return sent.group_by(SENDS.c.contact).subquery("past")


def reasons(tiers: Mapping[str, TierPressure], caps: Sequence[Cap], now_ts: int) -> tuple[Reason, ...]:
    """`cap_tier`, `cap_<counts>_<window>` and `min_gap`, over the column `tier` and those of `past`."""
    found: list[Reason] = []
    if any(tier.cap is not None for tier in tiers.values()):
        found.append(Reason(TIER_CAP, _by_tier({key: _room(tier.cap) for key, tier in tiers.items()})))
    found += [Reason(_cap_name(cap), _below(cap.counts, cap.max)) for cap in _strictest(caps)]
    if longest_rest(tiers):
        rested = {key: _rested(tier.min_gap, now_ts) for key, tier in tiers.items()}
        found.append(Reason(MIN_GAP, _by_tier(rested)))
    return tuple(found)


def _strictest(caps: Sequence[Cap]) -> tuple[Cap, ...]:
    """One cap per count and window: of `3 per 24h` and `1 per 1d` the second says it all."""
    found: dict[Window, Cap] = {}
    for cap in sorted(caps, key=lambda cap: cap.max.count, reverse=True):
        found[Window(cap.counts, _seconds(cap.max.window))] = cap
    return tuple(cap for cap in caps if cap in found.values())


def _cap_name(cap: Cap) -> str:
    return f"cap_{cap.counts}_{format_duration(cap.max.window)}"


def _by_tier(conditions: Mapping[str, ColumnElement[bool] | None]) -> ColumnElement[bool]:
    """Each tier's own condition; a tier without one is free, a tier the policy does not know is not."""
    tier = column("tier", String)
    free = [key for key, condition in conditions.items() if condition is None]
    bound = [(tier == key, condition) for key, condition in conditions.items() if condition is not None]
    return case((tier.in_(free), true()), *bound, else_=false())


def _room(cap: Frequency | None) -> ColumnElement[bool] | None:
    return None if cap is None else _below(Counts.TYPE, cap)


def _below(counts: Counts, cap: Frequency) -> ColumnElement[bool]:
    """Room for one more. Without a past send there is no row, hence the 0; a cap of 0 has no room even then."""
    sent = column(Window(counts, _seconds(cap.window)).column, Integer)
    return func.coalesce(sent, 0) < cap.count


def _rested(gap: timedelta | None, now_ts: int) -> ColumnElement[bool] | None:
    if not gap:
        return None
    last = column(LAST, BigInteger)
    return or_(last.is_(None), last <= now_ts - _seconds(gap))


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())
