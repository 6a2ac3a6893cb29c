"""Plan a campaign: one statement gives every contact a place in the waves, or the reason for having none.

The result is a Parquet file of the lake (no addresses in it) and counts in the store. It pins the files and the policy
version it was made from, so that approval can tell a stale plan; release asks again what may change overnight anyway:
consent, suppression and pressure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pyarrow as pa

from sendwave.engine.base import Engine, Written
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput, NotAllowed
from sendwave.rules import affinity, lifecycle
from sendwave.rules import plan as rules
from sendwave.rules.budgets import unaffordable
from sendwave.rules.delays import learn
from sendwave.rules.maturity import CURVES, Curve
from sendwave.rules.policy import CampaignType, PolicySet
from sendwave.rules.power import Power, powers, warnings
from sendwave.rules.waves import heads
from sendwave.store import campaigns, delays, files, mailings, policies, rivals, suppressions
from sendwave.store.campaigns import Campaign, WaveRow
from sendwave.store.database import Database
from sendwave.store.files import LakeFile

if TYPE_CHECKING:
    from sqlalchemy import Connection

PINNED: Final = ("contacts", "consents", "scores")
"""Datasets whose change makes a plan stale; sends and returns move all day, and release asks pressure again."""

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """A plan in numbers of contacts. `exclusions` counts by (reason, tier), '' standing for no known tier."""

    campaign: str
    policy_version: str
    total: int
    planned: int
    exclusions: Mapping[tuple[str, str], int]
    tiers: Mapping[str, int]
    providers: Mapping[str, int]
    waves: tuple[WaveRow, ...]
    warnings: tuple[str, ...]
    dry_run: bool
    powers: tuple[Power, ...] = ()  # what each wave can tell, by wave and signal

    @property
    def excluded(self) -> dict[str, int]:
        """Contacts left out by reason, the biggest reason first."""
        return dict(_summed((reason, n) for (reason, _), n in self.exclusions.items()).most_common())

    def document(self) -> dict[str, Any]:
        """Plain JSON values; keys are stable."""
        waves = [
            {
                "number": w.number,
                "planned": w.planned,
                "pilot": w.pilot or None,
                "tiers": dict(w.tiers),
                "providers": dict(w.providers),
                "power": [power.document() for power in self.powers if power.wave == w.number],
            }
            for w in self.waves
        ]
        return {
            "campaign": self.campaign,
            "policy_version": self.policy_version,
            "dry_run": self.dry_run,
            "total": self.total,
            "planned": self.planned,
            "excluded": self.excluded,
            "excluded_by_tier": [
                {"reason": reason, "tier": tier, "contacts": n} for (reason, tier), n in self.exclusions.items()
            ],
            "tiers": dict(self.tiers),
            "providers": dict(self.providers),
            "waves": waves,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What the plan is made from, read in one transaction."""

    files: Mapping[str, Sequence[LakeFile]]
    tables: Mapping[str, pa.Table]  # live truth
    ahead: rivals.Competition

    @property
    def all_files(self) -> dict[str, Sequence[LakeFile]]:
        return {**self.files, **self.ahead.plans}

    @property
    def pins(self) -> dict[str, list[int]]:
        return {dataset: [file.id for file in listed] for dataset, listed in self.all_files.items()}


def plan(
    db: Database,
    engine: Engine,
    lake: Lake,
    policy: PolicySet,
    campaign: Campaign,
    *,
    by: str,
    now: datetime,
    dry_run: bool = False,
) -> PlanSummary:
    """Plan the campaign, replacing an earlier plan of it; a dry run only counts.

    Raises NotAllowed once sending has begun, BadInput without contacts, for an unknown campaign type or a field of its
    audience that the base lacks, NotFound for an audience that policies/audiences/ does not have, FullDisk when
    there is no room for the plan: in each case the campaign is unchanged.
    """
    kind = _type_of(policy, campaign)
    if (wrong := unaffordable(campaign.settings.budget, kind.channel, policy.budgets)) is not None:
        raise BadInput(f"campaign {campaign.name}: {wrong}")
    if not dry_run and not {"plan", "replan"} & set(lifecycle.allowed(lifecycle.CAMPAIGN, campaign.status)):
        raise NotAllowed(f"{campaign.name} is {campaign.status}: only a draft, planned or approved campaign is planned")
    inputs = _inputs(db, lake, policy, campaign, kind, now)
    statement = rules.plan_statement(policy, kind, campaign.name, int(now.timestamp()), inputs.ahead.rivals)
    with engine.session(lake.paths(inputs.all_files), inputs.tables) as session:
        written = session.write(statement, lake.new("plan", campaign.name))
    try:
        summary = _summary(
            policy, kind, campaign, _counted(engine, written), curves=_curves(db, campaign, now), dry_run=dry_run
        )
        if not dry_run:
            lake.share(written)
            with db.write() as conn:
                file = {"path": lake.relative(written.path), "rows": written.rows, "size": written.bytes}
                file["details"] = {"rivals": inputs.ahead.documents()}
                _store(conn, policy, campaign, summary, pins=inputs.pins, file=file, by=by, now=now)
    except BaseException as fault:
        lake.withdraw(fault, [written])
        raise
    if dry_run:
        lake.discard(written)
    return summary


def is_stale(conn: Connection, campaign: Campaign, policy: PolicySet) -> list[str]:
    """What has changed since the campaign was planned, one sentence each; empty while the plan still holds."""
    changed = []
    if campaign.policy_version != policy.version:
        was = (campaign.policy_version or "none")[:12]
        changed.append(f"the policies changed: planned under {was}, now {policy.version[:12]}")
    pins = campaign.plan_pins or {}
    for dataset, listed in files.live(conn, PINNED).items():
        ids = {file.id for file in listed}
        if ids != set(pins.get(dataset, ())):
            changed.append(
                f"the {dataset} changed: {len(ids - set(pins.get(dataset, ())))} newer file(s) were imported"
            )
    if campaign.plan_file is None or files.get(conn, campaign.plan_file) is None:
        changed.append("the plan's file is gone")
    return changed


def _curves(db: Database, campaign: Campaign, now: datetime) -> dict[str, Curve]:
    """How late answers come, as past campaigns by the same route show."""
    with db.read() as conn:
        past = delays.history(conn, campaign.settings.route, now, without=campaign.id)
    told = [(r.tally, r.provider, r.bin, r.n, (now - r.handed_at).total_seconds() / 60) for r in past]
    return {**CURVES, **learn(told).curves}


def _type_of(policy: PolicySet, campaign: Campaign) -> CampaignType:
    found = policy.types.get(campaign.type)
    if found is None:
        near = get_close_matches(campaign.type, policy.types, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else f" There are {', '.join(sorted(policy.types))}."
        raise BadInput(f"no policy file describes the campaign type {campaign.type!r} of {campaign.name}.{hint}")
    return found.meant_for(campaign.settings.audience)


def _inputs(  # noqa: PLR0917  # as every flow: where, under which policies, about what
    db: Database, lake: Lake, policy: PolicySet, campaign: Campaign, kind: CampaignType, now: datetime
) -> _Inputs:
    who = kind.audience.resolved(policy.audiences)
    with db.read() as conn:
        ahead = rivals.before(conn, campaign, kind.importance, now)
        listed = files.live(conn, (*rules.INPUTS, *affinity.inputs(who)))
        tables = {"suppressions": suppressions.table(conn, campaign.channel), mailings.NAME: mailings.table(conn)}
        inputs = _Inputs(listed, tables, ahead)
    if not inputs.files["contacts"]:
        raise BadInput("there are no contacts yet: run `sendwave import contacts FILE` first")
    columns = lake.columns(inputs.files["contacts"]) if who else ()
    if wrong := [f"audience: {slip}" for _, slip in affinity.unknown_fields(who, columns)]:
        raise BadInput(f"the audience of {campaign.name} asks for what the base does not have", tuple(wrong))
    return inputs


def _counted(engine: Engine, written: Written) -> list[dict[str, Any]]:
    """The numbers of a written plan. Raises BadInput when somebody is in it twice."""
    with engine.session({"plan": [written.path]}) as session:
        doubles = session.read(rules.doubles_statement()).column("doubles")[0].as_py()
        if doubles:
            raise BadInput(f"{doubles:,} contacts are in the lake twice, nothing was planned: import those files again")
        rows: list[dict[str, Any]] = session.read(rules.counts_statement()).to_pylist()
    return rows


def _store(
    conn: Connection,
    policy: PolicySet,
    campaign: Campaign,
    summary: PlanSummary,
    *,
    pins: Mapping[str, Sequence[int]],
    file: Mapping[str, Any],
    by: str,
    now: datetime,
) -> None:
    """The file, its counts and the transition become true together."""
    version = policies.remember(conn, policy, now)
    earlier = campaigns.by_id(conn, campaign.id).plan_file
    if earlier is not None:
        files.retire(conn, [earlier], now)
    campaigns.store_plan(
        conn,
        campaign.id,
        plan_file=files.register(conn, dataset="plan", part=str(campaign.id), now=now, **file),
        pins=pins,
        policy_version=version,
        waves=summary.waves,
        lanes=sorted(summary.providers),
        exclusions=summary.exclusions,
        by=by,
        now=now,
    )


def _summary(
    policy: PolicySet,
    kind: CampaignType,
    campaign: Campaign,
    rows: Sequence[Mapping[str, Any]],
    *,
    curves: Mapping[str, Curve],
    dry_run: bool,
) -> PlanSummary:
    inside = [row for row in rows if row["excluded_by"] is None]
    planned = sum(row["people"] for row in inside)
    exclusions = _summed(
        ((row["excluded_by"], row["tier"] or ""), row["people"]) for row in rows if row["excluded_by"] is not None
    )
    tiers = _ordered(_summed((row["tier"] or "", row["people"]) for row in inside), policy)
    waves = _waves(inside, _pilots(tiers, kind))
    gates, mute = policy.gates_of(kind), policy.lanes.mute
    told = powers({w.number: w.providers for w in waves}, gates, kind.waves, mute=mute, curves=curves)
    return PlanSummary(
        campaign=campaign.name,
        policy_version=policy.version,
        total=sum(row["people"] for row in rows),
        planned=planned,
        exclusions=dict(sorted(exclusions.items())),
        tiers=tiers,
        providers=dict(_summed((row["provider"], row["people"]) for row in inside).most_common()),
        waves=waves,
        warnings=("nobody is in the plan",) if not waves else tuple(warnings(told, gates, kind.waves)),
        dry_run=dry_run,
        powers=tuple(told),
    )


def _pilots(tiers: Mapping[str, int], kind: CampaignType) -> dict[tuple[int, int], str]:
    """The tier each pilot is the head of, by (people before it, people up to its end)."""
    before = dict(zip(accumulate(tiers.values(), initial=0), tiers, strict=False))
    return {(start, end): before[start] for start, end in heads(list(tiers.values()), kind.waves.pilot)}


def _waves(inside: Sequence[Mapping[str, Any]], pilots: Mapping[tuple[int, int], str]) -> tuple[WaveRow, ...]:
    found, before = [], 0
    for number in sorted({row["wave"] for row in inside}):
        rows = [row for row in inside if row["wave"] == number]
        people = sum(row["people"] for row in rows)
        row = WaveRow(
            number=number,
            status=lifecycle.Wave.WAITING,
            planned=people,
            tiers=dict(_summed((row["tier"] or "", row["people"]) for row in rows)),
            providers=dict(_summed((row["provider"], row["people"]) for row in rows)),
            pilot=pilots.get((before, before + people), ""),
        )
        found.append(row)
        before += people
    return tuple(found)


def _summed(pairs: Iterable[tuple[_Key, int]]) -> Counter[_Key]:
    found: Counter[_Key] = Counter()
    for key, n in pairs:
        found[key] += n
    return found


def _ordered(tiers: Mapping[str, int], policy: PolicySet) -> dict[str, int]:
    """Tiers from the most engaged down, the unknown ones last."""
    places = {key: place for place, key in enumerate(policy.tiers.keys)}
    return dict(sorted(tiers.items(), key=lambda item: places.get(item[0], len(places))))
