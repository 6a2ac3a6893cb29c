"""Explain what a campaign decided about one contact: the chain of rules with its numbers, and what became of them.

The chain is the plan's own statement over the plan's own files, restricted to the contact; the decision is the plan's
row. Then come today's re-check, as release would make it, and what release and dispatch did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sendwave.engine.base import Engine, Session
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput, NotFound
from sendwave.rules import affinity, chain, plan
from sendwave.rules.arbitration import Rival
from sendwave.rules.budgets import OVER, Budgets, Reach
from sendwave.rules.chain import Link, Person
from sendwave.rules.holds import Hold, blocking
from sendwave.rules.lifecycle import FINAL, Batch
from sendwave.rules.policy import CampaignType, PolicySet
from sendwave.rules.units import format_minute
from sendwave.store import batches, files, holds, mailings, policies, rivals, suppressions
from sendwave.store.batches import Outcome, Standing
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database
from sendwave.store.files import LakeFile

if TYPE_CHECKING:
    from sqlalchemy import Connection

Reaching = Callable[[Budgets, int, int], Reach | None]
"""What the money does for (prices and caps, contact, rank)."""

PLANNED = "planned"
"""The decision about people who have a place in the plan; the others' decision is the reason that excludes them."""


def explain(  # noqa: PLR0917  # the same order as every flow: where, under which policies, about whom
    db: Database,
    engine: Engine,
    lake: Lake,
    policy: PolicySet,
    campaign: Campaign,
    contact_id: str,
    *,
    now: datetime,
    reach: Reaching | None = None,
) -> dict[str, Any]:
    """contact, campaign, decision, wave, rank, tier, score, provider, policy_version, as_of, chain, would_change.

    `chain` holds {rule, passed, detail}; passed is None where a line only informs. A campaign without a plan is
    answered from today's base and policies, hence without rank and wave. `reach` says whether the money comes to
    somebody of the plan (release/reaching.py); without it money is not spoken of. Raises NotFound for an unknown
    contact.
    """
    with db.read() as conn:
        basis = _basis(conn, lake, policy, campaign, now)
    about = _About(db, engine, lake, campaign, basis, now, reach)
    contact, digest, row = about.found(contact_id)
    person = about.person(contact, digest)
    facts, links = person.facts, chain.links(person)
    excluded_by = (row or facts)["excluded_by"]
    decided = [] if row is None or row["excluded_by"] == facts["excluded_by"] else [_differs(facts["excluded_by"])]
    if decided and chain.is_shared(basis.kind, excluded_by) and (mates := about.mates(contact)):
        links, decided = chain.taken_by_mates(links, excluded_by, mates), []
    later = [] if row is None or row["excluded_by"] else about.later(row)
    return {
        "contact": contact_id,
        "campaign": campaign.name,
        "decision": excluded_by or PLANNED,
        "wave": row["wave"] if row else None,
        "rank": row["rank"] if row else None,
        "tier": facts["tier"],
        "score": facts["score"],
        "provider": facts["provider"],
        "policy_version": basis.policy.version,
        "as_of": datetime.fromtimestamp(basis.now_ts, UTC).isoformat(),
        "chain": [{"rule": k.rule, "passed": k.passed, "detail": k.detail} for k in (*links, *decided, *later)],
        "would_change": list(dict.fromkeys(k.remedy for k in (*links, *later) if k.passed is False and k.remedy)),
    }


@dataclass(frozen=True, slots=True)
class _Basis:
    """What the decision rests on: the pinned policy and files of the plan, or today's where there is no plan."""

    policy: PolicySet
    kind: CampaignType
    now_ts: int
    files: Mapping[str, Sequence[Path]]
    plan: Sequence[Path]
    planned_at: datetime | None
    rivals: Sequence[Rival] = ()  # campaigns that went first


def _basis(conn: Connection, lake: Lake, policy: PolicySet, campaign: Campaign, now: datetime) -> _Basis:
    plan_file = None if campaign.plan_file is None else files.get(conn, campaign.plan_file)
    if plan_file is None or campaign.planned_at is None or campaign.policy_version is None:
        if campaign.type not in policy.types:
            raise BadInput(f"no policy file describes the campaign type {campaign.type!r} of {campaign.name}")
        kind = policy.types[campaign.type].meant_for(campaign.settings.audience)
        ahead = rivals.before(conn, campaign, kind.importance, now)
        asked = affinity.inputs(kind.audience.resolved(policy.audiences))
        today = lake.paths({**files.live(conn, (*plan.INPUTS, *asked)), **ahead.plans})
        return _Basis(policy, kind, int(now.timestamp()), today, (), None, ahead.rivals)
    pinned = policies.pinned(conn, campaign.policy_version)
    return _Basis(
        policy=pinned,
        kind=pinned.types[campaign.type].meant_for(campaign.settings.audience),
        now_ts=int(campaign.planned_at.timestamp()),
        files=lake.paths({name: _pinned(conn, lake, ids) for name, ids in (campaign.plan_pins or {}).items()}),
        plan=[lake.path(plan_file)],
        planned_at=campaign.planned_at,
        rivals=_still_read(conn, lake, campaign, plan_file),
    )


def _still_read(conn: Connection, lake: Lake, campaign: Campaign, plan_file: LakeFile) -> list[Rival]:
    """The campaigns that went first when the plan was made, as far as their plans are still on disk."""
    pins = campaign.plan_pins or {}
    then = rivals.restored(plan_file.details.get("rivals", ()))
    return [rival for rival in then if _pinned(conn, lake, pins.get(rival.dataset, ()))]


def _pinned(conn: Connection, lake: Lake, ids: Sequence[int]) -> list[LakeFile]:
    """The files of a plan that are still on disk; the janitor may have removed replaced ones."""
    found = [file for file in (files.get(conn, file_id) for file_id in ids) if file is not None]
    return [file for file in found if lake.has(lake.path(file))]


@dataclass(frozen=True, slots=True)
class _About:
    db: Database
    engine: Engine
    lake: Lake
    campaign: Campaign
    basis: _Basis
    now: datetime
    reach: Reaching | None

    def found(self, contact_id: str) -> tuple[int, str | None, dict[str, Any] | None]:
        """Surrogate, address hash and row of the plan (None without one). Raises NotFound, with ids that look alike."""
        with self.engine.session({**self.basis.files, "plan": self.basis.plan}) as session:
            known = session.read(plan.contact_statement(self.basis.kind, contact_id)).to_pylist()
            if not known:
                raise NotFound(self._unknown(session, contact_id))
            contact = known[0]["contact"]
            placed = session.read(plan.place_statement(contact)).to_pylist()
        return contact, known[0]["address_hash"], placed[0] if placed else None

    def _unknown(self, session: Session, contact_id: str) -> str:
        some = session.read(plan.neighbours_statement(contact_id)).column("contact_id").to_pylist()
        near = get_close_matches(contact_id, some, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        since = "" if self.basis.planned_at is None else " of the plan: people imported later are not in it"
        return f"there is no contact {contact_id!r} in the base{since}.{hint}"

    def person(self, contact: int, digest: str | None) -> Person:
        """What the rules see of the contact."""
        b = self.basis
        with self.db.read() as conn:
            named = mailings.table(conn)
        tables = {"suppressions": self._suppressed(digest), mailings.NAME: named}
        with self.engine.session(b.files, tables) as session:
            asked = plan.chain_statement(b.policy, b.kind, self.campaign.name, b.now_ts, contact, rivals=b.rivals)
            facts = session.read(asked).to_pylist()[0]
            reach = b.now_ts - chain.reach_seconds(b.kind)
            past = session.read(plan.past_statement(b.kind, contact, reach)).to_pylist()
            who = b.kind.audience.resolved(b.policy.audiences)
            told = affinity.contact_statement(who, b.policy.tiers, b.now_ts, contact)
            clauses = session.read(told).to_pylist()[0] if who else {}
        names = dict(zip(named["campaign"].to_pylist(), named["name"].to_pylist(), strict=True))
        return Person(b.policy, b.kind, facts, past, b.now_ts, b.rivals, names, clauses)

    def mates(self, contact: int) -> list[dict[str, Any]]:
        """Those of their household or account who have a place in the plan."""
        with self.engine.session({**self.basis.files, "plan": self.basis.plan}) as session:
            found: list[dict[str, Any]] = session.read(chain.mates_statement(contact)).to_pylist()
        return found

    def _suppressed(self, digest: str | None) -> pa.Table:
        """The suppressions of the address, without those recorded after the plan was made."""
        channel, planned_at = self.basis.kind.channel, self.basis.planned_at
        with self.db.read() as conn:
            rows = suppressions.among(conn, channel, [digest] if digest else [])
            if planned_at is not None:
                later = suppressions.recorded_since(conn, planned_at + timedelta(microseconds=1), channel)
                rows = [row for row in rows if row not in later]
        return suppressions.as_table(rows)

    def later(self, row: Mapping[str, Any]) -> list[Link]:
        """What became of somebody the plan wants: frozen, handed over, or what release would say now."""
        with self.db.read() as conn:
            ahead = rivals.before(conn, self.campaign, self.basis.kind.importance, self.now)
            live = {**files.live(conn, plan.INPUTS), **ahead.plans}
            suppressed = suppressions.table(conn, self.basis.kind.channel)
            standings = {s.batch_id: s for s in batches.standings(conn, self.campaign.id)}
            outcomes = {(o.batch_id, o.position): o for o in batches.outcomes(conn, self.campaign.id)}
            standing_holds = holds.open_holds(conn, self.campaign.id)
        paths = {**self.lake.paths(live), "plan": self.basis.plan}
        with self.engine.session(paths, {"suppressions": suppressed}) as session:
            frozen = session.read(plan.frozen_statement(self.campaign.id, row["contact"])).to_pylist()
            money = None if self.reach is None else self.reach(self.basis.policy.budgets, row["contact"], row["rank"])
            found = [] if money is None else [chain.money(money, row["rank"])]
            fates = [_fate(sent, outcomes, standings) for sent in frozen]
            for sent, fate in zip(frozen, fates, strict=True):  # a message may have left with an older one
                found += [_frozen(sent), *([] if fate is None else [_handed(fate)])]
            if self.campaign.status not in FINAL:
                if not fates or _waits(fates[-1]):
                    found += self._held(row, standing_holds)
                again = self._recheck(row, ahead.rivals)
                broke = OVER if money is not None and not money.pays else None
                found += [_today(r["excluded_by"] or broke, self.now) for r in session.read(again).to_pylist()]
        return found

    def _held(self, row: Mapping[str, Any], standing: Sequence[Hold]) -> list[Link]:
        """What stops the batch they are in, or would be."""
        where = {"wave": row["wave"], "provider": row["provider"], "route": self.campaign.settings.route}
        every = blocking(standing, campaign_id=self.campaign.id, now=self.now, **where)
        return [chain.held(hold, self.campaign.name) for hold in every]

    def _recheck(self, row: Mapping[str, Any], ahead: Sequence[Rival]) -> Any:
        return plan.recheck_statement(
            self.basis.kind,
            self.campaign.name,
            self.campaign.id,
            row["wave"],
            int(self.now.timestamp()),
            contact=row["contact"],
            rivals=ahead,
        )


def _differs(excluded_by: str | None) -> Link:
    return Link(
        "plan",
        None,
        f"read again, the files that remain say {excluded_by or PLANNED}: what the plan saw is partly gone",
    )


def _frozen(sent: Mapping[str, Any]) -> Link:
    where = f"wave {sent['wave']} on {format_minute(datetime.fromtimestamp(sent['sent_ts'], UTC))}"
    if sent["excluded_by"]:
        return Link("release", passed=False, detail=f"taken out of {where}: {sent['excluded_by']}")
    back = f"; the slot was given back: {sent['returned']}" if sent["returned"] else ""
    return Link(
        "release", passed=True, detail=f"released with {where}, lane {sent['provider']}, batch {sent['batch']}{back}"
    )


_Fate = Outcome | Standing
"""A fate of their own, or what their whole batch shares."""


def _fate(
    sent: Mapping[str, Any], outcomes: Mapping[tuple[int, int], Outcome], standings: Mapping[int, Standing]
) -> _Fate | None:
    """What became of one released row; None for who was taken out of it."""
    if sent["excluded_by"] is not None:
        return None
    return outcomes.get((sent["batch"], sent["position"])) or standings.get(sent["batch"])


def _waits(fate: _Fate | None) -> bool:
    """Whether their batch, or the one they go again with, is still to be handed over."""
    in_turn = (Batch.READY, Batch.CLAIMED)
    return fate is not None and (_word(fate) in in_turn or (isinstance(fate, Outcome) and fate.reason in in_turn))


def _word(fate: _Fate) -> str:
    return fate.state if isinstance(fate, Outcome) else fate.status


def _handed(fate: _Fate) -> Link:
    word, code = _word(fate), fate.reason if isinstance(fate, Outcome) else ""
    if word == "unknown" and code:
        return Link("dispatch", None, f"unknown: nobody answered for the first message; the second: {code}")
    passed = {"accepted": True, "refused": False, "dropped": False, "recalled": False}.get(word)
    return Link("dispatch", passed, word + (f": {code}" if code else ""))


def _today(excluded_by: str | None, now: datetime) -> Link:
    if excluded_by is None:
        return Link("today", passed=True, detail=f"release would send to them as of {format_minute(now)}")
    return Link("today", passed=False, detail=f"release would take them out now: {excluded_by}")
