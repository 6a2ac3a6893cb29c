"""Report: what campaigns and experiments brought, by tier or anything else, how surely, and where to stop.

Read from the store and the lake alone, so that it says the same whenever it is asked about the same instant. One stage
in several files: `mailings` and `trials` gather a source, `pooling` puts rows together, `coverage` compares with the
habit the score replaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput, NotFound, did_you_mean
from sendwave.flow.report import coverage, mailings, pooling, trials
from sendwave.flow.report.coverage import Coverage
from sendwave.flow.report.mailings import Mailing, Records, columns_of
from sendwave.flow.report.pooling import Row
from sendwave.flow.report.sources import Breakdown, Gathered, Named, Note, Question, Rule, renamed
from sendwave.rules import affinity
from sendwave.rules import outcomes as rules
from sendwave.rules.breakeven import Cutoff
from sendwave.rules.budgets import ChannelBudget
from sendwave.rules.columns import CONTACTS, Subquery
from sendwave.rules.outcomes import Group
from sendwave.rules.policy import PolicySet
from sendwave.rules.report_policy import Worth
from sendwave.store import campaigns, files
from sendwave.store import mailings as sent
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database

__all__ = ["Breakdown", "Named", "Report", "report"]

OF_THE_PLAN: Final = ("tier", "score_band", "provider", "wave")
_PRIVATE: Final = ("contact", "contact_id", "email", "email_hash", "phone", "phone_hash")


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a report says, in numbers; the words are the page's."""

    sources: Sequence[Gathered]
    breakdown: Breakdown
    worth: Worth
    prices: Mapping[str, ChannelBudget]  # by channel
    until: datetime
    tiers: Sequence[Row]
    groups: Sequence[Row]  # the same people by something else than their tier
    total: Row
    cutoffs: Mapping[str, Cutoff]  # by channel
    coverage: Coverage | None
    notes: Sequence[Note] = field(default=())

    def document(self) -> dict[str, Any]:
        """Plain JSON values; the keys are stable."""
        only = next(iter(self.cutoffs.values())) if len(self.cutoffs) == 1 else None
        return {
            "campaigns": [source.document() for source in self.sources],
            "until": self.until.isoformat(),
            "by": self.breakdown.by,
            "assumptions": self.worth.model_dump(mode="json") | {"prices": self._prices()},
            "tiers": [row.document("tier", self.worth) for row in self.tiers],
            "groups": [row.document("group", self.worth) for row in self.groups],
            "total": self.total.document("tier", self.worth),
            "cutoff": None if only is None else only.document(),
            "cutoffs": {channel: cutoff.document() for channel, cutoff in self.cutoffs.items()},
            "baseline": None if self.coverage is None else self.coverage.document(self.worth),
            "draws": [ratio.document() for source in self.sources for ratio in source.ratios],
            "balance": [{"id": s.name, **one.document()} for s in self.sources for one in s.balance],
            "notes": [note.document() for note in self.notes],
        }

    def _prices(self) -> dict[str, Any]:
        """What a message costs by channel, and where that depends on the country."""
        keys = {"price", "countries"}
        return {channel: told.model_dump(mode="json", include=keys) for channel, told in self.prices.items()}


def report(
    db: Database,
    engine: Engine,
    lake: Lake,
    policy: PolicySet,
    names: Sequence[str],
    *,
    now: datetime,
    breakdown: Breakdown | None = None,
    habit: Rule | None = None,
    compare: bool = True,
    until: datetime | None = None,
    control: str | None = None,
    same: Mapping[str, str] | None = None,
    top: int = 20,
) -> Report:
    """Report on campaigns and imported experiments, pooled.

    `habit`, a rule or a named audience, replaces that of report.yaml, `compare=False` leaves the comparison with it
    out; later events than `until` count for nothing; `control` names the arm of an experiment that got nothing; `same`
    maps former names of tiers to those of today; `top` is how many groups are listed, the others go together.

    Raises:
        NotFound: no such campaign, experiment, attribute or arm.
        NotAllowed: a campaign without a plan.
        BadInput: an instant in the future, the same name twice, an experiment whose control group is not known, a
            channel that budgets.yaml prices in another currency.

    """
    asked = Question(breakdown or Breakdown(), policy.report, until or now, control, policy.budgets)
    _check(names, asked, now)
    rule = (habit or asked.worth.habit) if compare else None
    desk = _Desk(db, engine, lake, policy, asked)
    found, met = desk.gather_all(names, rule)
    found = [renamed(source, same or {}) for source in found]
    labels = {tier.key: tier.label for tier in policy.tiers.tiers}
    order = policy.tiers.keys
    groups: list[Row] = []
    if asked.breakdown.by != "tier":
        bands = _bands(asked.breakdown.bands)
        rows = pooling.rows(found, pooling.by_group, _natural(found, order), bands, asked.worth)
        groups = _top(found, rows, top, asked)
    compared = [renamed(source, same or {}) for source in met]
    return Report(
        sources=found,
        breakdown=asked.breakdown,
        worth=asked.worth,
        prices={source.channel: asked.prices(source.channel) for source in found},
        until=asked.until,
        tiers=pooling.rows(found, pooling.by_tier, order, labels, asked.worth),
        groups=groups,
        total=pooling.total(found, asked.worth),
        cutoffs=_cutoffs(found, order, asked),
        coverage=coverage.measure(compared, str(rule), order) if rule is not None and compared else None,
        notes=[*(note for source in found for note in source.notes), *_strangers(found, order)],
    )


def _check(names: Sequence[str], asked: Question, now: datetime) -> None:
    if asked.until > now:
        raise BadInput(f"--until {asked.until:%Y-%m-%d %H:%M} lies in the future: a report tells what happened")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(f"{', '.join(twice)} would count twice: name each campaign once")


@dataclass(frozen=True, slots=True)
class _Desk:
    """Where sources are found and gathered."""

    db: Database
    engine: Engine
    lake: Lake
    policy: PolicySet
    asked: Question

    def gather_all(self, names: Sequence[str], rule: Rule | None) -> tuple[list[Gathered], list[Gathered]]:
        """Every source, and the campaigns among them broken down by whether the habit would have written to somebody.

        By tier both are one: tiers are always told apart, so the habit takes the place of the group.
        """
        found, met = [], []
        for name in names:
            campaign, paths = self._find(name)
            if campaign is None:
                found.append(trials.gather(self.engine, paths, name, self.asked, columns_of(paths)))
                continue
            records = mailings.recorded(self.db, self.lake, campaign)
            by_habit = None if rule is None else self._by_habit(records, rule)
            if by_habit is None or self.asked.breakdown.by != "tier":
                found.append(Mailing(self.engine, records, self.asked, self._group(records)).gather())
            else:
                found.append(by_habit)
            met += [] if by_habit is None else [by_habit]
        return found, met

    def _by_habit(self, records: Records, habit: Rule) -> Gathered | None:
        planned = records.campaign.planned_at
        if planned is None:
            return None
        known, datasets = self._members(habit, int(planned.timestamp()))
        only = self.asked.breakdown.by == "tier"
        asked = replace(self.asked, breakdown=Breakdown(by="habit"), control=None)
        with self.db.read() as conn:
            listed = self.lake.paths(files.live(conn, datasets))
            mails = sent.table(conn)
        whole = records.with_inputs(listed, {sent.NAME: mails})
        return Mailing(self.engine, whole, asked, rules.coverage_group(known), thorough=only).gather()

    def _members(self, habit: Rule, until: int) -> tuple[Subquery, list[str]]:
        """Whom the rule would have written to at that second, and the datasets it reads beside the campaign's own."""
        if isinstance(habit, Named):
            members = rules.members(habit.who, self.policy.tiers, until)
            return members, sorted({"scores", *affinity.inputs(habit.who)} - {"interactions"})
        since = until - int(habit.within.total_seconds())
        return rules.habitual(habit.kinds, since, until, machine=habit.machine), ["events"]

    def _find(self, name: str) -> tuple[Campaign | None, list[Path]]:
        with self.db.read() as conn:
            try:
                return campaigns.get(conn, name), []
            except NotFound:
                every = [campaign.name for campaign in campaigns.listing(conn)]
            paths = self.lake.paths(files.live(conn, ["experiments"]))["experiments"]
        known = trials.names(self.engine, paths) if paths else {}
        if name in known:
            return None, paths
        hint = did_you_mean(name, [*every, *known])
        raise NotFound(f"there is no campaign or experiment {name!r}.{hint or ' `sendwave campaign list` shows them.'}")

    def _group(self, records: Records) -> Group:
        breakdown = self.asked.breakdown
        by, columns = breakdown.by, columns_of(records.files.get("contacts", ()))
        if by not in OF_THE_PLAN:
            names = (columns | {c.name for c in CONTACTS.c}) - set(_PRIVATE)
            found = next((name for name in (by, f"attr_{by}") if name in names), None)
            if found is None:
                spoken = {name.removeprefix("attr_") for name in names} | set(OF_THE_PLAN)
                raise NotFound(
                    f"contacts have no attribute {by!r}.{did_you_mean(by, spoken)} "
                    f"They have {', '.join(sorted(spoken))}"
                )
            by = found
        return rules.group_of(by, width=breakdown.width, bands=breakdown.bands)


def _cutoffs(sources: Sequence[Gathered], order: Sequence[str], asked: Question) -> dict[str, Cutoff]:
    """By tier; by group where an experiment knows no tiers."""
    if asked.breakdown.by != "tier" and {key[0] for source in sources for key in source.figures} == {""}:
        return pooling.cutoffs(sources, pooling.by_group, _natural(sources, ()), asked.worth)
    return pooling.cutoffs(sources, pooling.by_tier, order, asked.worth)


def _bands(ends: Sequence[float]) -> dict[str, str]:
    """What the bands with these lower ends are called: `1 – < 4`, and `≥ 10` for the last."""
    known = sorted(ends)
    return {f"{low:g}": f"{low:g} – < {high:g}" for low, high in pairwise(known)} | {
        f"{low:g}": f"≥ {low:g}" for low in known[-1:]
    }


def _natural(sources: Sequence[Gathered], tiers: Sequence[str]) -> list[str]:
    """Groups in the order people expect: numbers by size, anything else by name."""
    found = {pooling.by_group(key) for source in sources for key in (*source.figures, *source.compared)}
    return [*tiers, *sorted(found - set(tiers), key=_number_first)]


def _number_first(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text), "")
    except ValueError:
        return (1, 0.0, text) if text else (2, 0.0, "")


def _top(sources: Sequence[Gathered], rows: list[Row], top: int, asked: Question) -> list[Row]:
    """The biggest groups in their order; all others as one row of the key '…'."""
    if len(rows) <= top:
        return rows
    kept = {row.key for row in sorted(rows, key=lambda row: -row.figures.planned)[: top - 1]}
    others = {row.key for row in rows} - kept
    met = pooling.rows(sources, lambda key: "…" if pooling.by_group(key) in others else "", ["…"], {}, asked.worth)
    return [row for row in rows if row.key in kept] + [row for row in met if row.key == "…"]


def _strangers(sources: Sequence[Gathered], order: Sequence[str]) -> list[Note]:
    """Tiers that today's tiers.yaml does not know: renamed since, or another tiers.yaml's."""
    if len(sources) == 1 and sources[0].kind == "experiment":
        return []
    found = []
    for source in sources:
        unknown = sorted({key[0] for key in source.figures if key[0] and key[0] not in order})
        if unknown:
            found.append(Note("unknown_tiers", {"id": source.name, "tiers": unknown}))
    return found
