"""The chain of rules for one contact, in words a person can check: what was asked, the numbers, the answer.

The answers come from the plan's own statement (`rules/plan.py`, `chain_statement`); here they are only worded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sendwave.rules import affinity, audience_counts, budgets, plan, pressure, shares
from sendwave.rules.columns import CONTACTS, PLAN, Select, select
from sendwave.rules.holds import Kind
from sendwave.rules.money import shown
from sendwave.rules.units import format_duration, format_minute, format_percent

if TYPE_CHECKING:  # policy composes more than the chain, hence stands above this module
    from sendwave.rules.arbitration import Rival
    from sendwave.rules.budgets import Reach
    from sendwave.rules.holds import Hold
    from sendwave.rules.policy import CampaignType, PolicySet


class Link(NamedTuple):
    """One rule: whether it was passed (None: it does not decide anything), the numbers, and what would change it."""

    rule: str
    passed: bool | None
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """What the rules saw of one contact: the row of `plan.chain_statement` and those of `plan.past_statement`."""

    policy: PolicySet
    kind: CampaignType
    facts: Mapping[str, Any]
    past: Sequence[Mapping[str, Any]]
    now_ts: int
    rivals: Sequence[Rival] = ()  # campaigns that go first
    campaigns: Mapping[int, str] = field(default_factory=dict)  # names by store id, of those sent from here
    clauses: Mapping[str, Any] = field(default_factory=dict)  # the row of `affinity.contact_statement`

    @property
    def tier(self) -> str:
        """The tier's key, '' where there is none."""
        return self.facts["tier"] or ""

    @property
    def about(self) -> str:
        """Channel and purpose the campaign needs."""
        return f"{self.kind.channel}/{self.kind.purpose}"


def links(person: Person) -> tuple[Link, ...]:
    """One link per reason of the campaign type, in the order in which they exclude."""
    found = []
    for reason in plan.reasons(person.kind, person.now_ts, person.rivals):
        if _is_void(person, reason.name):
            found.append(Link(reason.name, None, f"not asked: tier {person.tier or 'none'} is not written to"))
            continue
        detail, remedy = _WORDS.get(reason.name, _cap)(person, reason.name)
        passed = bool(person.facts[f"passes_{reason.name}"])
        found.append(Link(reason.name, passed, detail, "" if passed else remedy))
    return tuple(found)


def is_shared(kind: CampaignType, reason: str | None) -> bool:
    """Whether it is a cap on a household or account, in which others of the same plan may have gone first."""
    windows = pressure.windows(kind.tiers, kind.caps)
    return any(window.per is pressure.Per.GROUP and window.words in (reason or "") for window in windows)


def mates_statement(contact: int) -> Select[Any]:
    """contact_id, rank of those of the same group who have a place in the plan, the best first."""
    groups = select(pressure.group()).where(CONTACTS.c.contact == contact)
    source = PLAN.join(CONTACTS, CONTACTS.c.contact == PLAN.c.contact)
    found = select(CONTACTS.c.contact_id, PLAN.c.rank).select_from(source)
    return found.where(PLAN.c.excluded_by.is_(None), pressure.group().in_(groups)).order_by(PLAN.c.rank)


def taken_by_mates(found: Sequence[Link], reason: str, mates: Sequence[Mapping[str, Any]]) -> tuple[Link, ...]:
    """The links again: the cap `reason` was full because of others of the group in the same plan."""
    names = ", ".join(f"{mate['contact_id']} (rank {mate['rank']})" for mate in mates[:_SHOWN])
    told = f"; of the same group {names} go first in this plan" if len(mates) > 1 else f"; {names} of the same group"
    told += "" if len(mates) > 1 else " goes first in this plan"
    remedy = "a higher cap for the group"
    return tuple(
        link._replace(passed=False, detail=link.detail + told, remedy=remedy) if link.rule == reason else link
        for link in found
    )


def money(reach: Reach, rank: int) -> Link:
    """Whether the money comes to somebody of that rank."""
    purse = reach.purse
    amount = partial(shown, currency=purse.currency)
    told = []
    if purse.campaign is not None:
        told.append(
            f"of a budget of {amount(purse.campaign)} {amount(purse.campaign_spent - reach.reserved)} are spent"
            f" and {amount(reach.reserved)} reserved"
        )
    if purse.month is not None:
        told.append(f"of {amount(purse.month)} this month {amount(purse.month_spent)} are spent or reserved")
    words = f"their message costs {amount(reach.cost)}; {', '.join(told)}"
    if reach.served is None and reach.ahead:
        words += f"; those placed before them and waiting take {amount(reach.ahead)}"
    if reach.served is False and reach.ended is not None:
        words += f"; the money ended at rank {reach.ended}, theirs is {rank}"
    lacking = f"{amount(reach.short)} more" if reach.served is None else "more money before their wave was frozen"
    return Link(budgets.OVER, reach.pays, words, "" if reach.pays else lacking)


def held(hold: Hold, campaign: str) -> Link:
    """What stops the batch somebody of that campaign is in, or would be; the remedy is the command that lets it go."""
    told = f"{hold.scope}: {hold.reason} since {format_minute(hold.since)} by {hold.by}"
    return Link("held", passed=False, detail=told, remedy=_letting_go(hold, campaign))


def _letting_go(hold: Hold, campaign: str) -> str:
    """Nothing where it ends by itself."""
    if hold.kind == Kind.HOLD:
        return ""
    if hold.campaign_id is None:
        return f"sendwave route free {hold.route}" if hold.route else ""
    lane = f" --provider {hold.provider}" if hold.provider else ""
    return f'sendwave campaign resume {campaign}{lane} --reason "…", once the cause is mended'


def _is_void(person: Person, reason: str) -> bool:
    """Whether it is a rule of tiers, and the person's is not written to: then it has nothing to say."""
    own = reason.removeprefix(pressure.OUTRANKED)
    of_tiers = own.startswith(pressure.TIER_CAP) or own in (pressure.MIN_GAP, "not_in_share")
    return of_tiers and person.tier not in pressure.contacted(person.kind.tiers)


def reach_seconds(kind: CampaignType) -> int:
    """How far back the past sends matter, in seconds; 0 when nothing is capped."""
    asked = [w.seconds + (_QUARTER if w.calendar else 0) for w in pressure.windows(kind.tiers, kind.caps)]
    return 0 if kind.is_service else max([pressure.longest_rest(kind.tiers), *asked])


_Words = tuple[str, str]


def _address(person: Person, reason: str) -> _Words:
    status = person.facts["address_status"] or "unknown"
    remedy = {
        "no_address": f"an address for {person.kind.channel} in the base",
        "invalid_address": "a corrected address in the base",
        "duplicate_address": "another address: somebody else in the base is written to at this one",
    }
    return f"{person.kind.channel} address: {status}", remedy[reason]


def _suppressed(person: Person, _reason: str) -> _Words:
    found = person.facts["suppressed_for"]
    if found is None:
        return "not on the suppression list", ""
    return f"on the suppression list: {found}", "a person taking the address off the suppression list"


def _consent(person: Person, _reason: str) -> _Words:
    status = person.facts["consent"]
    remedy = f"a consent for {person.about}"
    if status is None:
        return f"no consent is known for {person.about}", remedy
    since = person.facts["consent_ts"]
    return f"{person.about}: {status}" + ("" if since is None else f" since {_at(since)}"), remedy


def _ours(person: Person, _reason: str) -> _Words:
    told = "one of our own addresses: a copy of every wave" if person.facts["seed"] else "no address of ours"
    return told, "nothing: it gets a copy of every wave, and no figure counts it"


def _audience(person: Person, _reason: str) -> _Words:
    """Each clause with what was seen; the remedy names those that do not hold."""
    who = person.kind.audience.resolved(person.policy.audiences)
    truths = {n: person.clauses.get(f"holds_{n}") for n, _ in enumerate(who.leaves())}
    seen = [affinity.seen(leaf, person.clauses.get(f"seen_{n}")) for n, leaf in enumerate(who.leaves())]
    told = [f"{_TRUTHS[truths[n]]} {words}" for n, words in enumerate(seen)]
    missing = [line.whole for line, holds in audience_counts.truth_of(who, truths) if not line.depth and not holds]
    return "; ".join(told), f"the audience: {'; '.join(missing)}"


_TRUTHS: Final[Mapping[bool | None, str]] = {True: "✓", False: "✗", None: "?"}


def _tier(person: Person, _reason: str) -> _Words:
    score, place = person.facts["score"], person.facts["tier_rank"]
    keys = person.policy.tiers.keys
    words = "no score" if score is None else f"score {score:g}"
    if person.tier:
        words += f", tier {person.tier}" + (
            f" ({place} of {len(keys)})" if place else ", which tiers.yaml does not have"
        )
    reached = ", ".join(pressure.contacted(person.kind.tiers))
    return f"{words}; {person.kind.type} goes to {reached or 'no tier'}", f"a score in the tier {reached}"


def _control(person: Person, _reason: str) -> _Words:
    drawn, share = _fraction(person, shares.CONTROL), format_percent(person.kind.control)
    return f"drew {drawn:.4%}, the control group is everybody under {share}", "nothing: this campaign's draw stands"


def _share(person: Person, _reason: str) -> _Words:
    drawn = _fraction(person, shares.SHARE)
    own = person.kind.tiers.get(person.tier)
    share = format_percent(own.share) if own else "nobody"
    return f"drew {drawn:.4%}, tier {person.tier or 'none'} writes to {share}", f"a share of the tier above {drawn:.4%}"


def _fraction(person: Person, piece: int) -> float:
    digits = person.facts["draw"][piece * shares.DIGITS : (piece + 1) * shares.DIGITS]
    return float(int(digits, 16) / 16**shares.DIGITS)


def _cap(person: Person, reason: str) -> _Words:
    if reason.startswith(pressure.OUTRANKED):
        return _outranked(person, reason)
    for limit in pressure.limits(person.kind.tiers, person.kind.caps, person.tier):
        if limit.reason == reason:
            return _counted(person, limit)
    return f"tier {person.tier or 'none'} has no cap", ""


def _counted(person: Person, limit: pressure.Limit) -> _Words:
    window, mine = limit.window, limit.window.per is pressure.Per.CONTACT
    rows = [row for row in person.past if row[window.counts] and (row["own"] or not mine)]
    inside = [row for row in rows if row["sent_ts"] > window.since_ts(person.now_ts)]
    times, told = [row["sent_ts"] for row in inside], [_sent(person, row) for row in inside[:_SHOWN]]
    what = _what(person, window.counts) + ("" if mine else " to the group")
    span = f"in the last {format_duration(limit.cap.window)}"
    span += f", by {window.calendar.period} since {_at(window.since_ts(person.now_ts) + 1)}" if window.calendar else ""
    words = f"{len(times)} of {limit.cap.count} messages {what} {span}"
    words += f": {', '.join(told)}{' …' if len(times) > _SHOWN else ''}" if times else ""
    if len(times) < limit.cap.count:
        return words, ""
    if not limit.cap.count:
        return words, "a cap above 0"
    free = window.free_ts(times[limit.cap.count - 1])  # the newest send that must leave the window first
    return f"{words}; free again on {_at(free)}", f"waiting until {_at(free)}, or a higher cap"


def _sent(person: Person, row: Mapping[str, Any]) -> str:
    """When a message took a slot, and of which campaign; imported history has no names."""
    name = person.campaigns.get(row["campaign"])
    return _at(row["sent_ts"]) + (f" ({name})" if name else "")


def _what(person: Person, counts: pressure.Counts) -> str:
    return {
        pressure.Counts.TYPE: f"of type {person.kind.type}",
        pressure.Counts.CHANNEL: f"by {person.kind.channel}",
        pressure.Counts.ALL: "of any type",
    }[counts]


def _outranked(person: Person, reason: str) -> _Words:
    own = reason.removeprefix(pressure.OUTRANKED)
    remedy = "a higher importance, or the campaign that goes first sent or cancelled"
    if own == pressure.MIN_GAP:
        following = person.facts.get(pressure.NEXT)
        if following is None:
            return f"nothing planned by {person.kind.channel} goes first", ""
        return f"a message that goes first is planned by {person.kind.channel} for {_at(following)}", remedy
    for limit in pressure.limits(person.kind.tiers, person.kind.caps, person.tier):
        if limit.reason == own:
            sent, planned = (person.facts.get(name) or 0 for name in (limit.window.column, limit.window.ahead))
            what = _what(person, limit.window.counts)
            words = f"{sent} sent and {planned} planned that go first, of {limit.cap.count} messages {what}"
            return f"{words} per {format_duration(limit.cap.window)}", remedy
    return f"tier {person.tier or 'none'} has no cap", ""


def _gap(person: Person, _reason: str) -> _Words:
    own = person.kind.tiers.get(person.tier)
    gap = own.min_gap if own else None
    if not gap:
        return f"tier {person.tier or 'none'} needs no rest", ""
    last = person.facts[pressure.LAST]
    if last is None:
        return f"nothing sent by {person.kind.channel} in the last {format_duration(gap)}", ""
    free = last + int(gap.total_seconds())
    sent = next((row for row in person.past if row["own"] and row["sent_ts"] == last), {"sent_ts": last, "campaign": 0})
    words = f"last message by {person.kind.channel} on {_sent(person, sent)}, {format_duration(gap)} of rest"
    words += f" until {_at(free)}"
    return words, f"waiting until {_at(free)}, or a shorter min_gap"


def _at(instant_ts: int) -> str:
    return format_minute(datetime.fromtimestamp(0, UTC) + timedelta(seconds=instant_ts))


_SHOWN: Final = 5
"""Past messages listed one by one."""

_QUARTER: Final = 93 * 86_400
"""Seconds by which a calendar period may reach further back than its window."""

_WORDS: Final[Mapping[str, Callable[[Person, str], _Words]]] = {
    **dict.fromkeys(("no_address", "invalid_address", "duplicate_address"), _address),
    "suppressed": _suppressed,
    **dict.fromkeys(("consent_withdrawn", "consent_pending", "no_consent"), _consent),
    "seed": _ours,
    affinity.REASON.name: _audience,
    **dict.fromkeys(("no_score", "unknown_tier", "tier_not_contacted"), _tier),
    "control_group": _control,
    "not_in_share": _share,
    pressure.MIN_GAP: _gap,
}
