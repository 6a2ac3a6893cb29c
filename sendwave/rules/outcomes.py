"""Statements of a report: who was assigned to what, what they bought, who was in the habit the score replaces.

A campaign is read from its plan (who was assigned), its sends (who was written to) and interactions (who bought).
People left out at random, control group and those outside a tier's share alike, are compared with those of the plan,
tier by tier, over one span of time per tier: from its first message until the attribution window of its last one has
passed. Where waves were never sent, people of their rank are left out on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sendwave.rules import acts, affinity, eligibility
from sendwave.rules.audience import Who
from sendwave.rules.columns import (
    BOUND,
    CONTACTS,
    EXPERIMENTS,
    INTERACTIONS,
    PLAN,
    SCORES,
    SENDS,
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Select,
    String,
    Subquery,
    and_,
    attribute,
    case,
    cast,
    column,
    exists,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    table,
    union_all,
)
from sendwave.rules.lifecycle import SEEDS
from sendwave.rules.lift import SCALE
from sendwave.rules.tiers import Tiers

GIVEN: Final = "given"
CONTROL: Final = "control"
LEFT_OUT: Final = "left_out"
UNREACHABLE: Final = "unreachable"
"""Arms of a campaign: in the plan, left out at random, left out for tier or pressure, not to be written to."""

AT_RANDOM: Final = ("control_group", "not_in_share")
"""Reasons that are draws: who has one of them is like the people of the plan, but for the message."""

_SUPPRESSED: Final = "suppressed"
_MAY_NOT: Final = tuple(reason.name for reason in eligibility.REASONS)

UNSENT: Final = table("unsent", column("provider", String), column("wave", Integer))
"""By mailbox provider, the first wave that was not sent; none where all were."""

WINDOWS: Final = table("windows", column("tier", String), column("opens", BigInteger), column("closes", BigInteger))
"""By tier ('' for none), the span over which both sides are watched, epoch seconds."""

HANDED: Final = table("handed", column("batch", BigInteger), column("handed_ts", BigInteger))
"""Batches the ESP accepted, and when."""

STRAYS: Final = table(
    "strays", column("batch", BigInteger), column("position", Integer), column("handed_ts", BigInteger)
)
"""People who do not share their batch's fate: accepted later at `handed_ts`, or not at all (NULL)."""

CURRENCIES: Final = ("currency", "devise")
"""Attributes of an interaction that name its currency."""


class Group(NamedTuple):
    """What a report is broken down by: a text per person, from the plan and perhaps the contacts."""

    value: ColumnElement[Any]
    contacts: bool = False  # whether it reads CONTACTS
    sent: ColumnElement[Any] | None = None  # the same of a row of SENDS; None where only the plan knows


class Priced(NamedTuple):
    """What the price of a campaign's messages depends on."""

    parts: bool = False  # a text message costs as often as it has parts
    countries: tuple[str, ...] = ()  # with a price of their own (ISO 3166)


USUAL: Final = "*"
"""Stands for the countries without a price of their own."""


def group_of(by: str, *, width: float = 10.0, bands: Sequence[float] = ()) -> Group:
    """tier, wave, provider and score_band of the plan; any other name is a column of contacts.

    `width` is that of a score band, in points; `bands` are the lower ends of bands of a numeric attribute.
    """
    if by in {"tier", "provider"}:
        return Group(PLAN.c[by], sent=SENDS.c[by])
    if by == "wave":
        return Group(cast(PLAN.c.wave, String), sent=cast(SENDS.c.wave, String))
    if by == "score_band":
        floor = cast(func.floor(PLAN.c.score / width) * width, BigInteger)
        return Group(cast(floor, String))
    known = banded(cast(CONTACTS.c[by] if by in CONTACTS.c else column(by, String), String), bands)
    return Group(known, contacts=True, sent=known)


def banded(value: ColumnElement[Any], bands: Sequence[float]) -> ColumnElement[Any]:
    """The lower end of the band a number lies in, as text; the value itself without bands, NULL below the first."""
    if not bands:
        return value
    number = cast(value, Double)
    ends = sorted(bands, reverse=True)
    return case(*((number >= end, literal(f"{end:g}", String)) for end in ends), else_=cast(null(), String))


def people(group: Group) -> Subquery:
    """contact, tier, grp, arm, excluded_by, compared: everybody of the plan but our own addresses."""
    p = PLAN.c
    border = _border()
    may_not = or_(p.excluded_by.in_(_MAY_NOT), func.substr(p.excluded_by, 1, len(_SUPPRESSED)) == _SUPPRESSED)
    arm = case(
        (p.excluded_by.is_(None), GIVEN),
        (p.excluded_by.in_(AT_RANDOM), CONTROL),
        (may_not, UNREACHABLE),
        else_=LEFT_OUT,
    )
    score = func.coalesce(p.score, -BOUND)
    before = or_(p.tier_rank < border.c.tier_rank, and_(p.tier_rank == border.c.tier_rank, score > border.c.score))
    reached = or_(border.c.provider.is_(None), func.coalesce(before, false()))
    source: FromClause = PLAN.outerjoin(border, border.c.provider == p.provider)
    if group.contacts:
        source = source.outerjoin(CONTACTS, CONTACTS.c.contact == p.contact)
    columns = (
        p.contact,
        func.coalesce(p.tier, "").label("tier"),
        group.value.label("grp"),
        arm.label("arm"),
        p.excluded_by,
        and_(arm.in_((GIVEN, CONTROL)), reached).label("compared"),
    )
    return select(*columns).select_from(source).where(~_own(p.contact)).subquery("people")


def _own(contact: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a contact is one of our own addresses."""
    seeds = CONTACTS.alias("seeds")
    return exists().where(seeds.c.contact == contact, seeds.c.seed)


def _border() -> Subquery:
    """provider, tier_rank, score of the best placed person whom no message was ever sent to."""
    p = PLAN.c
    late = (
        select(p.provider, p.tier_rank, func.max(func.coalesce(p.score, -BOUND)).label("score"))
        .select_from(PLAN.join(UNSENT, and_(UNSENT.c.provider == p.provider, p.wave >= UNSENT.c.wave)))
        .group_by(p.provider, p.tier_rank)
        .subquery("late")
    )
    turn = func.row_number().over(partition_by=late.c.provider, order_by=late.c.tier_rank).label("turn")
    ordered = select(*late.c, turn).subquery("ordered")
    kept = select(ordered.c.provider, ordered.c.tier_rank, ordered.c.score)
    return kept.where(ordered.c.turn == 1).subquery("border")


def sizes_statement(group: Group) -> Select[Any]:
    """tier, grp, arm, excluded_by, compared, people."""
    found = people(group).c
    by = (found.tier, found.grp, found.arm, found.excluded_by, found.compared)
    return select(*by, func.count().label("people")).group_by(*by)


def spans_statement(campaign: int) -> Select[Any]:
    """tier, first, last: when the ESP accepted the first and the last message of each tier, epoch seconds."""
    s = SENDS.c
    tier = func.coalesce(s.tier, "")
    told = (tier.label("tier"), func.min(HANDED.c.handed_ts).label("first"), func.max(HANDED.c.handed_ts).label("last"))
    found = select(*told).select_from(SENDS.join(HANDED, HANDED.c.batch == s.batch))
    return found.where(s.campaign == campaign, s.excluded_by.is_(None), s.provider != SEEDS).group_by(tier)


def places_statement(campaign: int, group: Group, priced: Priced | None = None) -> Select[Any]:
    """batch, position, tier, grp, price of everybody frozen into a wave, our own addresses left out.

    `price` is what their messages' price depends on: `PARTS:COUNTRY`, both '' where unknown or without a say.
    """
    s, asked = SENDS.c, priced or Priced()
    source: FromClause = SENDS if group.sent is not None else SENDS.join(PLAN, PLAN.c.contact == s.contact)
    if group.contacts or asked.countries:
        source = source.outerjoin(CONTACTS, CONTACTS.c.contact == s.contact)
    value = group.value if group.sent is None else group.sent
    tier = func.coalesce(s.tier, "").label("tier")
    found = select(s.batch, s.position, tier, value.label("grp"), _price(asked).label("price")).select_from(source)
    return found.where(s.campaign == campaign, s.batch.is_not(None), s.provider != SEEDS)


def _price(asked: Priced) -> ColumnElement[Any]:
    parts = func.coalesce(cast(SENDS.c.parts, String), "") if asked.parts else literal("", String)
    if not asked.countries:
        return parts.concat(":")
    known = CONTACTS.c.country
    place = case((known.in_(asked.countries), known), (func.coalesce(known, "") == "", ""), else_=USUAL)
    return parts.concat(":").concat(place)


def price_of(text: str) -> tuple[int | None, str | None]:
    """(parts, country) of a `price`: None where nobody measured them, or does not know the country."""
    parts, _, country = text.partition(":")
    return int(parts) if parts else None, country or None


def sales(kinds: Sequence[str], since: int, until: int, currency: str) -> Subquery:
    """contact, ts, amount (in parts of SCALE; NULL where unknown or foreign), foreign, below zero."""
    i = INTERACTIONS.c
    value = case((and_(i.value <= BOUND, i.value >= -BOUND), i.value))
    named = func.coalesce(*(attribute(i.attributes, name) for name in CURRENCIES), currency)
    foreign = func.upper(named) != currency
    amount = cast(func.floor(value * SCALE + 0.5), BigInteger)
    none = cast(null(), BigInteger)
    columns = (
        i.contact,
        i.ts,
        case((not_(foreign), amount), else_=none).label("amount"),
        foreign.label("foreign_currency"),
        func.coalesce(value < 0, false()).label("negative"),
    )
    return select(*columns).where(i.kind.in_(list(kinds)), i.ts >= since, i.ts < until).subquery("sales")


def written(campaign: int, buyers: Subquery) -> Subquery:
    """contact, handed_ts: when the ESP accepted the message of each of these buyers; nobody else has a row."""
    s = SENDS.c
    at = case((STRAYS.c.batch.is_not(None), STRAYS.c.handed_ts), else_=HANDED.c.handed_ts)
    source = SENDS.outerjoin(HANDED, HANDED.c.batch == s.batch)
    source = source.outerjoin(STRAYS, and_(STRAYS.c.batch == s.batch, STRAYS.c.position == s.position))
    found = select(s.contact, func.min(at).label("handed_ts")).select_from(source)
    asked = s.contact.in_(select(buyers.c.contact))
    found = found.where(s.campaign == campaign, s.excluded_by.is_(None), asked)
    return found.group_by(s.contact).subquery("written")


def buyers_statement(
    group: Group, campaign: int, *, kinds: Sequence[str], since: int, until: int, within: int, currency: str
) -> Select[Any]:
    """One row per person with such an interaction while they were watched.

    tier, grp, arm, compared; `assigned`, `assigned_amount`: sales in the span of their tier, whoever they are;
    `own`, `own_amount`: those of people written to, from their own message on, for `within` seconds; `early` ones came
    before it; `foreign_sales`, `returned`, `returned_amount`: left out of the amounts.
    """
    who, found = people(group), sales(kinds, since, until, currency)
    mail = written(campaign, found)
    w, f = who.c, found.c
    watched = and_(f.ts >= WINDOWS.c.opens, f.ts < WINDOWS.c.closes)
    own = and_(f.ts >= mail.c.handed_ts, f.ts < mail.c.handed_ts + within, f.ts < until)
    early = and_(watched, f.ts < mail.c.handed_ts)
    sold = not_(f.negative)
    by = (w.contact, w.tier, w.grp, w.arm, w.compared)
    columns = (
        _times(and_(watched, sold)).label("assigned"),
        _sum(and_(watched, sold), f.amount).label("assigned_amount"),
        _times(and_(own, sold)).label("own"),
        _sum(and_(own, sold), f.amount).label("own_amount"),
        _times(early).label("early"),
        _times(and_(watched, f.foreign_currency)).label("foreign_sales"),
        _times(and_(watched, f.negative)).label("returned"),
        _sum(and_(watched, f.negative), f.amount).label("returned_amount"),
        _sum(and_(own, f.negative), f.amount).label("own_returned_amount"),
    )
    source = found.join(who, w.contact == f.contact).join(WINDOWS, WINDOWS.c.tier == w.tier)
    source = source.outerjoin(mail, mail.c.contact == f.contact)
    return select(*by, *columns).select_from(source).group_by(*by)


def _times(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count(case((condition, 1)))


def _sum(condition: ColumnElement[bool], amount: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(func.coalesce(func.sum(case((condition, amount))), 0), BigInteger)


def habitual(kinds: Sequence[str], since: int, until: int, *, machine: bool) -> Subquery:
    """contact: everybody with such an interaction in that half-open span (epoch seconds), reactions included."""
    parts = []
    for source in (select(INTERACTIONS), acts.reactions()):
        c = source.subquery("source").c
        human = literal(value=True) if machine else not_(func.coalesce(c.machine, false()))
        parts.append(select(c.contact).where(c.kind.in_(list(kinds)), c.ts >= since, c.ts < until, human))
    found = union_all(*parts).subquery("found")
    return select(found.c.contact).where(found.c.contact.is_not(None)).distinct().subquery("habitual")


def members(who: Who, tiers: Tiers, until: int) -> Subquery:
    """contact: everybody in an audience (resolved), by the acts up to that second and by today's fields and scores."""
    start = CONTACTS.outerjoin(SCORES, SCORES.c.contact == CONTACTS.c.contact)
    source, inside = affinity.member(start, who, tiers, until)
    return select(CONTACTS.c.contact).select_from(source).where(inside).subquery("habitual")


def coverage_group(habit: Subquery) -> Group:
    """'yes' for people of the habit, 'no' for the others."""
    planned, sent = (
        case((contact.in_(select(habit.c.contact)), "yes"), else_="no") for contact in (PLAN.c.contact, SENDS.c.contact)
    )
    return Group(planned, sent=sent)


def distinct_statement(names: Sequence[str]) -> Select[Any]:
    """One row: about how many different values each column of contacts has in the first people of the base."""
    known = [CONTACTS.c[name] if name in CONTACTS.c else column(name, String) for name in names]
    some = select(*known).select_from(CONTACTS).limit(200_000).subquery("some")
    counted: list[ColumnElement[Any]] = [func.count(some.c[name].distinct()).label(name) for name in names]
    return select(*counted)


def attribute_statement(names: Sequence[str], step: int) -> Select[Any]:
    """tier, arm and these columns of contacts, of every `step`-th of the people compared."""
    who = people(Group(cast(null(), String)))
    w = who.c
    known = [(CONTACTS.c[name] if name in CONTACTS.c else column(name, String)) for name in names]
    columns = [cast(one, String).label(name) for one, name in zip(known, names, strict=True)]
    source = who.join(CONTACTS, CONTACTS.c.contact == w.contact)
    some = (w.contact % step == 0, CONTACTS.c.contact % step == 0)  # both sides of the join are thinned out
    return select(w.tier, w.arm, *columns).select_from(source).where(w.compared, *some)


def experiment_sizes(experiment: str, group: ColumnElement[Any]) -> Select[Any]:
    """tier, grp, arm, control, people, visited, converted, known (rows that say whether they visited)."""
    e = EXPERIMENTS.c
    tier = func.coalesce(e.tier, "").label("tier")
    by: tuple[ColumnElement[Any], ...] = (tier, group.label("grp"), e.arm, e.control)
    visited = _times(func.coalesce(e.visited, false())).label("visited")
    converted = _times(func.coalesce(e.converted, false())).label("converted")
    known = func.count(e.visited).label("known")
    counted: Select[Any] = select(*by, func.count().label("people"), visited, converted, known)
    return counted.where(e.experiment == experiment).group_by(tier, group, e.arm, e.control)


def experiment_buyers(experiment: str, group: ColumnElement[Any]) -> Select[Any]:
    """tier, grp, arm, amount (in parts of SCALE): everybody who spent something."""
    e = EXPERIMENTS.c
    amount = cast(func.floor(e.revenue * SCALE + 0.5), BigInteger).label("amount")
    told = (func.coalesce(e.tier, "").label("tier"), group.label("grp"), e.arm, amount)
    return select(*told).where(e.experiment == experiment, e.revenue > 0)


def experiment_distinct(experiment: str, names: Sequence[str]) -> Select[Any]:
    """One row: how many different values each of these attributes has."""
    counted: list[ColumnElement[Any]] = [
        func.count(cast(column(name, String), String).distinct()).label(name) for name in names
    ]
    return select(*counted).select_from(EXPERIMENTS).where(EXPERIMENTS.c.experiment == experiment)


def experiment_attribute(experiment: str, control: str, name: str) -> Select[Any]:
    """tier, arm (GIVEN or CONTROL), people by each value of an attribute, in the column of its name."""
    e = EXPERIMENTS.c
    tier, value = func.coalesce(e.tier, "").label("tier"), cast(column(name, String), String).label(name)
    arm = case((e.arm == control, CONTROL), else_=GIVEN).label("arm")
    counted: Select[Any] = select(tier, arm, value, func.count().label("count_all"))
    return counted.where(e.experiment == experiment).group_by(tier, arm, value)


def experiments_statement() -> Select[Any]:
    """experiment, people: what was imported."""
    e = EXPERIMENTS.c
    return select(e.experiment, func.count().label("people")).group_by(e.experiment)
