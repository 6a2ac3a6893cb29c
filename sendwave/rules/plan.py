"""The plan: every contact of the base gets a place in the sequence, or the first reason that excludes them.

Composes the single-question rules into statements. The plan, a dry run, release's re-check and explain are all built
from the same facts and the same ordered reasons, so a preview cannot drift from what happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from sendwave.rules import affinity, arbitration, eligibility, pressure, sequence, shares, tiers, waves
from sendwave.rules.arbitration import Rival
from sendwave.rules.columns import (
    CONTACTS,
    PLAN,
    RETURNS,
    SCORES,
    SENDS,
    Among,
    BigInteger,
    Boolean,
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
    exists,
    false,
    first_reason,
    func,
    literal,
    not_,
    null,
    select,
    true,
    union_all,
)
from sendwave.rules.lifecycle import SEEDS

if TYPE_CHECKING:  # policy composes more than the plan, hence stands above this module
    from sendwave.rules.policy import CampaignType, PolicySet

INPUTS: Final = ("contacts", "consents", "scores", "sends", "returns")
"""Datasets of the lake a plan is made from, beside the live suppressions and what `affinity.inputs` adds."""

OTHER: Final = "other"
"""Lane of the addresses no mailbox provider of lanes.yaml claims."""

OUR_OWN: Final = Reason("seed", not_(func.coalesce(column("seed", Boolean), false())))
"""Our own addresses are in no plan: they get a copy of every wave (`recheck_statement`). Unknown means: not ours."""

RECALLED: Final = "recalled"
"""Reason of a slot given back whose owner may be released again."""


def reasons(kind: CampaignType, now_ts: int, rivals: Sequence[Rival] = ()) -> tuple[Reason, ...]:
    """Every reason this campaign type may leave somebody out for, in the order in which they are reported.

    The draws come last: whoever is left out at random would have been written to otherwise, which makes them comparable
    with those who are (rules/lift.py).
    """
    return (*standing(kind), *pressed(kind, now_ts, rivals), *drawn(kind))


def standing(kind: CampaignType) -> tuple[Reason, ...]:
    """Eligibility, affinity and tier: what lies in the person. A service type that lists no tiers writes to all."""
    asked = (*eligibility.reasons(needs_consent=not kind.is_service), OUR_OWN)
    asked += (affinity.REASON,) if kind.audience else ()
    if kind.is_service and not kind.tiers:
        return asked
    return (*asked, *tiers.reasons(pressure.contacted(kind.tiers)))


def drawn(kind: CampaignType) -> tuple[Reason, ...]:
    """Control group and test shares; service messages know neither."""
    if kind.is_service:
        return ()
    return shares.reasons(kind.control, {key: tier.share for key, tier in kind.tiers.items()})


def pressed(kind: CampaignType, now_ts: int, rivals: Sequence[Rival] = ()) -> tuple[Reason, ...]:
    """Marketing pressure, and what `rivals` (campaigns that go first) have planned; service is never capped."""
    return () if kind.is_service else pressure.reasons(kind.tiers, kind.caps, now_ts, ahead=bool(rivals))


def plan_statement(
    policy: PolicySet, kind: CampaignType, campaign: str, now_ts: int, rivals: Sequence[Rival] = ()
) -> Select[Any]:
    """The columns of PLAN for every contact. `campaign` is its name, the key of its draws; `now_ts` epoch seconds.

    `rivals` are the campaigns that go first; their plan files are datasets too (`Rival.dataset`).
    """
    decided = _decided(policy, kind, campaign, now_ts, rivals).cte("decided")
    d = decided.c
    kept = [d[name] for name in ("contact", "contact_id", "tier", "tier_rank", "score", "provider", "excluded_by")]
    ranked = select(*kept, sequence.rank().label("rank")).where(d.excluded_by.is_(None)).subquery("ranked")
    within = select(d.tier_rank).where(d.excluded_by.is_(None)).subquery("within")
    ramp, ends, cuts = _ramp(kind.waves, within, len(policy.tiers.keys))
    wave = waves.wave_number(ranked.c.rank, ends, cuts)
    planned = select(*ranked.c, wave.label("wave")).select_from(ranked.join(ramp, true()))
    nowhere = (cast(null(), BigInteger).label("rank"), cast(null(), Integer).label("wave"))
    left_out = select(*kept, *nowhere).where(d.excluded_by.is_not(None))
    everybody = union_all(planned, left_out).subquery("everybody")
    return select(*(everybody.c[c.name] for c in PLAN.c))


def _ramp(
    plan: waves.WavePlan, within: Subquery, tiers: int
) -> tuple[Subquery, list[ColumnElement[Any]], list[ColumnElement[Any]]]:
    """One row with the last rank of each wave: those of the ramp, of the pilots, and of the tiers."""
    rank = within.c.tier_rank
    sizes = [func.coalesce(func.sum(case((rank == n, 1), else_=0)), 0).label(f"tier_{n}") for n in range(1, tiers + 1)]
    counted = sizes if plan.pilot is not None or plan.by_tier else []
    total = select(func.count().label("people"), *counted).select_from(within).subquery("total")
    people, told = total.c.people, [total.c[size.name] for size in counted]
    ends = [end.label(f"end_{n}") for n, end in enumerate(waves.wave_ends(plan.ramp, people), 1)]
    pairs = waves.head_ends(told, plan.pilot, people) if plan.pilot is not None else []
    starts = waves.tier_starts(told, people) if plan.by_tier else [start for start, _ in pairs]
    cuts = [cut.label(f"cut_{n}") for n, cut in enumerate([*starts, *(head for _, head in pairs)], 1)]
    marks = [mark.label(f"mark_{n}") for n, mark in enumerate((mark for pair in pairs for mark in pair), 1)]
    raw = select(people, *ends, *cuts, *marks).subquery("cut")
    heads = [(raw.c[f"mark_{n}"], raw.c[f"mark_{n + 1}"]) for n in range(1, len(marks), 2)]
    ramp = select(
        *(waves.moved(raw.c[end.name], heads).label(end.name) for end in ends), *(raw.c[cut.name] for cut in cuts)
    ).subquery("ramp")
    return ramp, [ramp.c[end.name] for end in ends], [ramp.c[cut.name] for cut in cuts]


def recheck_statement(
    kind: CampaignType,
    campaign: str,
    campaign_id: int,
    wave: int,
    now_ts: int,
    *,
    attributes: Sequence[str] = (),
    contact: int | None = None,
    rivals: Sequence[Rival] = (),
) -> Select[Any]:
    """The people of one wave still to be written to, asked again against today's facts.

    Reads the dataset `plan` (the campaign's plan file) beside INPUTS and `suppressions`. Eligibility and pressure are
    asked again, the latter counting what every campaign froze by now and what `rivals` have planned; shares, score and
    tier are decisions of the plan. People with a `sends` row of this campaign are left out, unless their newest freeze
    was recalled. Our own addresses get a copy, in a lane of their own (`SEEDS`); they are asked for eligibility alone.

    Columns: contact, contact_id, address and address_hash (of the type's channel), timezone, language, tier, provider,
    score, rank, excluded_by (NULL: go), then `attributes` (the `attr_*` columns of contacts that the content needs).
    Rows come in the order in which they should leave: by provider, inside it shuffled or best first. With `contact`,
    that person alone.
    """
    p = PLAN.c
    people = select(PLAN).where(p.wave == wave, ~_written_to(campaign_id, p.contact))
    if contact is None:
        left = people.cte(f"left_{wave}")  # an arbitration asks several waves in one statement
        chosen = union_all(select(left), _copies(campaign_id, wave, left)).cte(f"chosen_{wave}")
    else:
        chosen = people.where(p.contact == contact).cte(f"chosen_{wave}")
    c = chosen.c
    start = chosen.outerjoin(CONTACTS, CONTACTS.c.contact == c.contact)
    among: Among = lambda contact: contact.in_(select(c.contact))  # noqa: E731  # reads best where it is used
    source, asked_columns = _asked(kind, start, c.contact, now_ts, among, rivals)
    further = [CONTACTS.c.timezone, CONTACTS.c.language, *(column(name, String) for name in attributes)]
    draw = shares.draw(campaign, c.contact_id).label("draw")
    pinned = [c.contact, c.contact_id, c.tier, c.provider, c.score, c.rank]
    f = select(*pinned, *asked_columns, *further, draw).select_from(source).subquery("facts").c
    asked = (*eligibility.reasons(needs_consent=not kind.is_service), *pressed(kind, now_ts, rivals))
    best_first = kind.waves.within_wave is waves.WithinWave.BEST_FIRST
    ours = first_reason(eligibility.reasons(needs_consent=not kind.is_service))
    go: ColumnElement[Any] = case((f.provider == SEEDS, ours), else_=first_reason(asked)).label("excluded_by")
    if not kind.is_service and pressure.is_shared(kind.tiers, kind.caps):
        f = _in_turn(kind, now_ts, select(*f, go).subquery("each"), (column("rank"),), rivals).c
        go = f.excluded_by
    order = (f.rank,) if best_first else (shares.piece(f.draw, shares.SHUFFLE), f.rank)
    return select(*(f[name] for name in _TOLD), go, *(f[name] for name in attributes)).order_by(f.provider, *order)


_TOLD: Final = (
    "contact", "contact_id", "address", "address_hash", "timezone", "language", "tier", "provider", "score", "rank"
)  # fmt: skip


def _copies(campaign_id: int, wave: int, people: FromClause) -> Select[Any]:
    """The columns of PLAN for our own addresses, where a wave has people and they had no copy of it yet."""
    c, s, r = CONTACTS.c, SENDS.c, RETURNS.c
    recalled = exists().where(r.freeze == s.freeze, r.contact == s.contact, r.reason == RECALLED)
    had = exists().where(s.campaign == campaign_id, s.wave == wave, s.contact == c.contact, ~recalled)
    given: dict[str, Any] = {"contact": c.contact, "contact_id": c.contact_id, "provider": literal(SEEDS, String)}
    given |= {"rank": cast(literal(0), BigInteger), "wave": cast(literal(wave), Integer)}
    columns = [given.get(column.name, cast(null(), column.type)).label(column.name) for column in PLAN.c]
    return select(*columns).where(c.seed, ~had, exists().select_from(people))


def left_statement(campaign_id: int, wave: int, last_wave: int | None) -> Select[Any]:
    """One number, `people`: those of the plan from that wave on (up to `last_wave`) who were not written to yet."""
    return select(func.count().label("people")).select_from(PLAN).where(_left(campaign_id, wave, last_wave))


def ramp_statement(campaign_id: int, wave: int, sizes: Sequence[int], last_wave: int | None) -> Select[Any]:
    """The plan again, with those `left_statement` counts cut into waves of these sizes, best first, after `wave`.

    Whoever was written to keeps their wave. People after `last_wave`, whom nobody is to write to any more, share the
    wave after those.
    """
    left = _left(campaign_id, wave, last_wave)
    asked = select(*PLAN.c, case((left, 1), else_=0).label("left")).subquery("asked")
    a = asked.c
    turn = func.row_number().over(partition_by=a.left, order_by=a.rank.asc().nulls_last()).label("turn")
    told = select(*a, turn).subquery("told").c
    ends = [literal(end, BigInteger) for end in accumulate(sizes)]
    number = literal(wave, Integer) + waves.wave_number(told.turn, ends)
    ways: list[tuple[ColumnElement[bool], Any]] = [(told.left == 1, number)]
    if last_wave is not None:
        ways.append((told.wave > last_wave, literal(wave + len(sizes) + 1, Integer)))
    moved = cast(case(*ways, else_=told.wave), Integer).label("wave")
    return select(*(moved if c.name == "wave" else told[c.name] for c in PLAN.c))


def _left(campaign_id: int, wave: int, last_wave: int | None) -> ColumnElement[bool]:
    p = PLAN.c
    asked = [p.excluded_by.is_(None), p.wave >= wave, ~_written_to(campaign_id, p.contact)]
    return and_(*asked, *([] if last_wave is None else [p.wave <= last_wave]))


def handover_statement(kind: CampaignType) -> Select[Any]:
    """(contact, excluded_by) of the people of a batch who may not be written to any more, asked just before hand-over.

    Here `contacts` are the people of that batch, with the addresses they were frozen with; consents and suppressions
    are today's. Eligibility alone: their slots are reserved since the freeze.
    """
    value, digest, status = eligibility.address(kind.channel)
    suppressed = eligibility.suppressed(kind.channel, kind.purpose)
    consents = eligibility.consents(kind.channel, kind.purpose, lambda contact: contact.in_(select(CONTACTS.c.contact)))
    source = CONTACTS.outerjoin(suppressed, suppressed.c.address_hash == digest)
    source = source.outerjoin(consents, consents.c.contact == CONTACTS.c.contact)
    named = (value.label("address"), digest.label("address_hash"), status.label("address_status"))
    facts = select(CONTACTS.c.contact, *named, suppressed.c.suppressed_for, consents.c.consent).select_from(source)
    f = facts.subquery("facts").c
    excluded_by = first_reason(eligibility.reasons(needs_consent=not kind.is_service))
    return select(f.contact, excluded_by.label("excluded_by")).where(excluded_by.is_not(None))


def chain_statement(
    policy: PolicySet, kind: CampaignType, campaign: str, now_ts: int, contact: int, *, rivals: Sequence[Rival] = ()
) -> Select[Any]:
    """One row: every fact the rules look at for that contact, and a boolean `passes_<reason>` per reason."""
    facts = _facts(policy, kind, now_ts, lambda column: column == contact, rivals)
    drawn_facts = select(*facts.c, shares.draw(campaign, facts.c.contact_id).label("draw")).subquery("drawn")
    asked = reasons(kind, now_ts, rivals)
    passes = [func.coalesce(reason.passes, false()).label(f"passes_{reason.name}") for reason in asked]
    return select(*drawn_facts.c, first_reason(asked).label("excluded_by"), *passes)


def past_statement(kind: CampaignType, contact: int, since_ts: int) -> Select[Any]:
    """The live sends of one contact later than `since_ts`, newest first: sent_ts, campaign, own, which `Counts` count.

    `own` is false for those of others in their group; they are told only where a cap counts groups.
    """
    hits = [pressure.counted(c, kind.type, kind.channel).label(c.value) for c in pressure.Counts]
    own = (SENDS.c.contact == contact).label("own")
    live = pressure.live_sends((SENDS.c.sent_ts, SENDS.c.campaign, own, *hits), since_ts)
    if pressure.is_shared(kind.tiers, kind.caps):
        groups = select(pressure.group()).where(CONTACTS.c.contact == contact)
        live = live.where(SENDS.c.contact.in_(select(CONTACTS.c.contact).where(pressure.group().in_(groups))))
    else:
        live = live.where(SENDS.c.contact == contact)
    return live.order_by(SENDS.c.sent_ts.desc())


def contact_statement(kind: CampaignType, contact_id: str) -> Select[Any]:
    """The surrogate `contact` and `address_hash` of the CRM's own id; no row for an unknown one."""
    _, digest, _ = eligibility.address(kind.channel)
    return select(CONTACTS.c.contact, digest.label("address_hash")).where(CONTACTS.c.contact_id == contact_id)


def neighbours_statement(contact_id: str) -> Select[Any]:
    """Up to 1,000 ids that begin like this one, for a hint after a slip of the finger."""
    like = func.substr(CONTACTS.c.contact_id, 1, len(contact_id) // 2) == contact_id[: len(contact_id) // 2]
    return select(CONTACTS.c.contact_id).where(like).order_by(CONTACTS.c.contact_id).limit(1_000)


def place_statement(contact: int) -> Select[Any]:
    """The plan's row of one contact."""
    return select(*PLAN.c).where(PLAN.c.contact == contact)


def frozen_statement(campaign_id: int, contact: int) -> Select[Any]:
    """Each freeze of one contact in a campaign, oldest first: their `sends` row and why it was `returned`."""
    s, r = SENDS.c, RETURNS.c
    kept = (s.sent_ts, s.freeze, s.batch, s.position, s.wave, s.provider, s.excluded_by, r.reason.label("returned"))
    source = SENDS.outerjoin(RETURNS, and_(r.freeze == s.freeze, r.contact == s.contact))
    return select(*kept).select_from(source).where(s.campaign == campaign_id, s.contact == contact).order_by(s.freeze)


def counts_statement() -> Select[Any]:
    """The plan in numbers: `people` by tier, provider, wave and excluded_by."""
    by = (PLAN.c.tier, PLAN.c.provider, PLAN.c.wave, PLAN.c.excluded_by)
    return select(*by, func.count().label("people")).group_by(*by)


def doubles_statement() -> Select[Any]:
    """One number, `doubles`: places of the plan held by somebody who has one already. Anything but 0 is a fault."""
    places = func.count() - func.count(PLAN.c.contact.distinct())
    return select(places.label("doubles")).where(PLAN.c.excluded_by.is_(None))


def _decided(policy: PolicySet, kind: CampaignType, campaign: str, now_ts: int, rivals: Sequence[Rival]) -> Select[Any]:
    """Everybody with their first reason. The draw is hashed for those alone whom nothing excludes before."""
    facts = _facts(policy, kind, now_ts, None, rivals)
    stands = select(*facts.c, first_reason(standing(kind)).label("stands")).subquery("stands")
    s = stands.c
    draw = case((s.stands.is_(None), shares.draw(campaign, s.contact_id)), else_=cast(null(), String))
    known = select(*s, draw.label("draw")).subquery("known")
    excluded_by = func.coalesce(known.c.stands, first_reason((*pressed(kind, now_ts, rivals), *drawn(kind))))
    tie = shares.piece(known.c.draw, shares.TIE).label("tie")
    names = ("contact", "contact_id", "tier", "tier_rank", "score", "provider")
    if not kind.is_service and pressure.is_shared(kind.tiers, kind.caps):
        each = select(*known.c, tie, excluded_by.label("excluded_by")).subquery("each")
        found = _in_turn(kind, now_ts, each, sequence.best_first(), rivals).c
        return select(*(found[name] for name in names), found.tie, found.excluded_by)
    return select(*(known.c[name] for name in names), tie, excluded_by.label("excluded_by"))


def _in_turn(
    kind: CampaignType, now_ts: int, each: Subquery, order: Sequence[ColumnElement[Any]], rivals: Sequence[Rival]
) -> Subquery:
    """`each` again, with `excluded_by` also for those whose group has no slot left after its better-placed members."""
    goes = case((each.c.excluded_by.is_(None), each.c.provider != SEEDS), else_=false())
    turn = func.row_number().over(partition_by=(goes, each.c.group_key), order_by=tuple(order))
    asked = select(*each.c, goes.label("goes"), turn.label("turn")).subquery("asked")
    late = first_reason(pressure.reasons(kind.tiers, kind.caps, now_ts, ahead=bool(rivals), turn=asked.c.turn))
    excluded_by = case((asked.c.goes, late), else_=asked.c.excluded_by).label("excluded_by")
    kept = [asked.c[c.name] for c in each.c if c.name != "excluded_by"]
    return select(*kept, excluded_by).subquery("in_turn")


def _facts(
    policy: PolicySet, kind: CampaignType, now_ts: int, among: Among | None, rivals: Sequence[Rival]
) -> Subquery:
    """What the rules look at, one row per contact of the newest snapshot."""
    c = CONTACTS.c
    start = CONTACTS.outerjoin(SCORES, SCORES.c.contact == c.contact)
    source, asked_columns = _asked(kind, start, c.contact, now_ts, among, rivals)
    tier = tiers.tier_key(policy.tiers, SCORES.c.score, SCORES.c.tier)
    placed = [
        tier.label("tier"),
        tiers.tier_rank(policy.tiers, tier).label("tier_rank"),
        tiers.known_score(SCORES.c.score).label("score"),
    ]
    if kind.audience:
        who = kind.audience.resolved(policy.audiences)
        source, inside = affinity.member(source, who, policy.tiers, now_ts, among)
        placed.append(inside)
    lane = func.coalesce(c.provider, OTHER).label("provider")
    facts = select(c.contact, c.contact_id, c.seed, lane, *placed, *asked_columns).select_from(source)
    return (facts if among is None else facts.where(among(c.contact))).subquery("facts")


def _asked(  # noqa: PLR0917  # what is asked, where, about whom, when, beside whom
    kind: CampaignType,
    start: FromClause,
    contact: ColumnElement[Any],
    now_ts: int,
    among: Among | None,
    rivals: Sequence[Rival],
) -> tuple[FromClause, list[ColumnElement[Any]]]:
    """`start` (which holds CONTACTS) joined to what eligibility and pressure ask for, and the columns they ask by."""
    value, digest, status = eligibility.address(kind.channel)
    suppressed = eligibility.suppressed(kind.channel, kind.purpose)
    source: FromClause = start.outerjoin(suppressed, suppressed.c.address_hash == digest)
    labelled = zip((value, digest, status), ("address", "address_hash", "address_status"), strict=True)
    columns: list[ColumnElement[Any]] = [*(part.label(name) for part, name in labelled), suppressed.c.suppressed_for]
    if kind.is_service:
        return source, columns
    consents = eligibility.consents(kind.channel, kind.purpose, among)
    source = source.outerjoin(consents, consents.c.contact == contact)
    columns += [consents.c.consent, consents.c.consent_ts]
    asked = (kind.type, kind.channel, kind.tiers, kind.caps)
    source, counted = arbitration.counted(source, contact, *asked, rivals, now_ts=now_ts, among=among)
    columns += counted
    return source, columns


def _written_to(campaign_id: int, contact: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether this campaign froze the person already, and did not recall them since."""
    s = SENDS.c
    newest = select(s.contact, func.max(s.freeze).label("freeze")).where(s.campaign == campaign_id)
    newest_freeze = newest.group_by(s.contact).subquery("newest_freeze")
    n, r = newest_freeze.c, RETURNS.c
    recalled = exists().where(r.freeze == n.freeze, r.contact == n.contact, r.reason == RECALLED)
    return exists().where(n.contact == contact, ~recalled)
