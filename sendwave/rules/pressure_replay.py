"""What a policy would have done to the messages of the past: the sends played again, in their order, under its caps.

Each message is asked as release asks: is there room in every cap, has the rest gone by, is the tier still written to?
What is left out takes no slot from what follows. Only less can come of it: nobody is sent what they were not sent, and
control groups and shares stay as they were drawn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sendwave.rules import pressure, tiers
from sendwave.rules.columns import (
    CONTACTS,
    PLAN,
    SCORES,
    SENDS,
    Integer,
    Select,
    String,
    cast,
    column,
    func,
    null,
    or_,
    select,
)  # fmt: skip
from sendwave.rules.pressure import Counts, Per, Window

if TYPE_CHECKING:  # policy composes more, hence stands above this module
    from sendwave.rules.policy import CampaignType, PolicySet

Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

MANY: Final = 12
"""The last bar of a histogram: so many messages and more."""


class Mailing(NamedTuple):
    """Messages of one campaign at one instant (epoch seconds); type or channel None where nobody knows."""

    sent_ts: int
    type: str | None
    channel: str | None


@dataclass(frozen=True, slots=True)
class Sent:
    """Past messages by mailing, the mailings in their order: those of mailing n are rows ends[n - 1] to ends[n].

    Nobody is twice in a mailing. `contact` and `group` are codes from 0, `tier` an index of `tiers`, -1 for none.
    """

    mailings: Sequence[Mailing]
    ends: Codes
    contact: Codes
    group: Codes
    tier: Codes
    tiers: Sequence[str]


def sent_statement(policy: PolicySet, since_ts: int, *, step: int, shared: bool) -> Select[Any]:
    """(contact, mailing_ts, campaign, type, channel, tier, group_key): live sends later than `since_ts`.

    Instants are rounded down to `step` seconds. A send that does not say its tier is of the contact's tier of today.
    """
    s = SENDS.c
    source: Any = SENDS.outerjoin(SCORES, SCORES.c.contact == s.contact)
    own = func.coalesce(s.tier, tiers.tier_key(policy.tiers, SCORES.c.score, SCORES.c.tier)).label("tier")
    ts = (s.sent_ts - s.sent_ts % step).label("mailing_ts")
    columns = [s.contact, ts, s.campaign, s.type, s.channel, own]
    if shared:
        source = source.outerjoin(CONTACTS, CONTACTS.c.contact == s.contact)
        columns.append(func.coalesce(pressure.group().element, "").label("group_key"))
    return pressure.live_sends(columns, since_ts, source)


def extent_statement() -> Select[Any]:
    """One row: `first_ts` of all live sends, `mailings` (distinct instants and campaigns), and `people` of the base."""
    s = SENDS.c
    live = pressure.live_sends([s.sent_ts, s.campaign], -1).subquery("live")
    instants = select(live.c.sent_ts, live.c.campaign).distinct().subquery("instants")
    return select(
        select(func.min(live.c.sent_ts)).scalar_subquery().label("first_ts"),
        cast(select(func.count()).select_from(instants).scalar_subquery(), Integer).label("mailings"),
        cast(select(func.count()).select_from(CONTACTS).scalar_subquery(), Integer).label("people"),
    )


def reach(types: Mapping[str, CampaignType], now_ts: int) -> int:
    """Epoch seconds back to which any cap of the policy looks."""
    return min((pressure.reach_ts(k.tiers, k.caps, now_ts) for k in types.values() if not k.is_service), default=now_ts)


def replay(sent: Sent, types: Mapping[str, CampaignType], start_ts: int) -> Mask:
    """Which of these messages the policy would have let through; those up to `start_ts` are only counted."""
    state, kept = _State(sent), np.ones(len(sent.contact), bool)
    asked = {name: kind for name, kind in types.items() if not kind.is_service}
    for kind in asked.values():
        state.watch(kind)
    first = 0
    for mailing, end in zip(sent.mailings, sent.ends.tolist(), strict=True):
        rows = slice(first, end)
        its = asked.get(mailing.type or "")
        state.forget(mailing.sent_ts)
        if its is not None and mailing.sent_ts > start_ts:
            kept[rows] = state.let_through(mailing, its, rows)
        state.add(mailing, rows, kept[rows])
        first = end
    return kept


def histogram(sent: Sent, kept: Mask, start_ts: int, people: int) -> dict[str, int]:
    """People by messages since `start_ts`: "0", "1", … "12+"; the `people` of the base who got none are in "0"."""
    counted = np.repeat(np.array([m.sent_ts > start_ts for m in sent.mailings], bool), np.diff(sent.ends, prepend=0))
    each = np.bincount(sent.contact[counted & kept])
    bars = np.bincount(np.minimum(each, MANY), minlength=MANY + 1)
    bars[0] = max(people - int(bars[1:].sum()), 0)
    return {f"{n}" if n < MANY else f"{n}+": int(count) for n, count in enumerate(bars)}


@dataclass(slots=True)
class _Counter:
    """Messages in one rolling window, per contact or group."""

    window: Window
    subject: str | None  # the type or channel it counts; None for everything
    counts: NDArray[np.int32]
    inside: deque[tuple[int, Codes]] = field(default_factory=deque)

    def takes(self, mailing: Mailing) -> bool:
        told = {Counts.TYPE: mailing.type, Counts.CHANNEL: mailing.channel, Counts.ALL: None}[self.window.counts]
        return told is None or told == self.subject


@dataclass(slots=True)
class _State:
    sent: Sent
    counters: dict[tuple[Window, str | None], _Counter] = field(default_factory=dict)
    last: dict[str, Codes] = field(default_factory=dict)  # by channel, for rests

    def watch(self, kind: CampaignType) -> None:
        for window in pressure.windows(kind.tiers, kind.caps):
            codes = self.sent.group if window.per is Per.GROUP else self.sent.contact
            key = (window, _subject(window, kind))
            size = int(codes.max(initial=-1)) + 1
            self.counters.setdefault(key, _Counter(*key, np.zeros(size, np.int32)))
        if pressure.longest_rest(kind.tiers):
            size = int(self.sent.contact.max(initial=-1)) + 1
            self.last.setdefault(kind.channel, np.full(size, np.iinfo(np.int64).min // 2, np.int64))

    def forget(self, now_ts: int) -> None:
        for counter in self.counters.values():
            since = counter.window.since_ts(now_ts)
            while counter.inside and counter.inside[0][0] <= since:
                _add(counter, counter.inside.popleft()[1], -1)

    def let_through(self, mailing: Mailing, kind: CampaignType, rows: slice) -> Mask:
        tier = self.sent.tier[rows]
        goes = np.ones(len(tier), bool)
        shared: list[tuple[Mask | None, pressure.Limit]] = []
        for mask, limit in self._limits(kind, tier):
            if limit.window.per is Per.GROUP:
                shared.append((mask, limit))
                continue
            room = self._counted(kind, limit)[self.sent.contact[rows]] < limit.cap.count
            goes &= room if mask is None else room | ~mask
        for n, key in enumerate(self.sent.tiers):
            own = kind.tiers.get(key)
            if own is None or own.never:
                goes &= tier != n
            elif own.min_gap:
                since = mailing.sent_ts - int(own.min_gap.total_seconds())
                goes &= (tier != n) | (self.last[kind.channel][self.sent.contact[rows]] <= since)
        for mask, limit in shared:
            groups = self.sent.group[rows]
            room = self._counted(kind, limit)[groups] + _turns(groups, goes) <= limit.cap.count
            goes &= room if mask is None else room | ~mask
        return goes

    def _limits(self, kind: CampaignType, tier: Codes) -> Iterator[tuple[Mask | None, pressure.Limit]]:
        for n, key in enumerate(self.sent.tiers):
            yield from ((tier == n, limit) for limit in pressure.limits(kind.tiers, (), key))
        yield from ((None, limit) for limit in pressure.limits({}, kind.caps, ""))

    def _counted(self, kind: CampaignType, limit: pressure.Limit) -> NDArray[np.int32]:
        return self.counters[limit.window, _subject(limit.window, kind)].counts

    def add(self, mailing: Mailing, rows: slice, kept: Mask) -> None:
        people, groups = self.sent.contact[rows][kept], self.sent.group[rows][kept]
        for counter in self.counters.values():
            if counter.takes(mailing):
                went = groups if counter.window.per is Per.GROUP else people
                counter.inside.append((mailing.sent_ts, went))
                _add(counter, went, 1)
        for channel, last in self.last.items():
            if mailing.channel is None or mailing.channel == channel:
                last[people] = mailing.sent_ts


def _add(counter: _Counter, codes: Codes, number: int) -> None:
    if counter.window.per is Per.GROUP:  # a group may be there more than once
        np.add.at(counter.counts, codes, number)
    else:
        counter.counts[codes] += number


def _subject(window: Window, kind: CampaignType) -> str | None:
    return {Counts.TYPE: kind.type, Counts.CHANNEL: kind.channel.value, Counts.ALL: None}[window.counts]


def _turns(groups: Codes, goes: Mask) -> Codes:
    """1 for the first member of a group among those who go, 2 for the second…; 1 for everybody else."""
    turns = np.ones(len(groups), np.int64)
    chosen = np.flatnonzero(goes)
    order = chosen[np.argsort(groups[chosen], kind="stable")]
    _, first, size = np.unique(groups[order], return_index=True, return_counts=True)
    turns[order] = np.arange(len(order)) - np.repeat(first, size) + 1
    return turns


def left_out_statement(segment: str | None) -> Select[Any]:
    """(reason, tier, segment, people) of whom pressure leaves out of a plan; `segment` is a column of the contacts."""
    named = cast(null(), String) if segment is None else column(segment, String)
    people = select(CONTACTS.c.contact, named.label("segment")).select_from(CONTACTS).subquery("people")
    by = (PLAN.c.excluded_by.label("reason"), PLAN.c.tier, people.c.segment)
    source = PLAN.outerjoin(people, people.c.contact == PLAN.c.contact)
    wanted = or_(*(PLAN.c.excluded_by.like(f"{start}%") for start in ("cap_", pressure.MIN_GAP, pressure.OUTRANKED)))
    return select(*by, func.count().label("people")).select_from(source).where(wanted).group_by(*by)
