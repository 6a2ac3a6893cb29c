"""Gather a campaign of our own: plan, sends, feedback and sales, by tier and group."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sendwave.engine.base import Engine, Session
from sendwave.engine.datasets import Lake
from sendwave.engine.reports import Ledger, bit
from sendwave.errors import NotAllowed
from sendwave.flow.report.balancing import balances, ratios
from sendwave.flow.report.figures import Figures, of_words
from sendwave.flow.report.sources import MAILING, Compared, Gathered, Key, Note, Question
from sendwave.rules import budgets
from sendwave.rules import outcomes as rules
from sendwave.rules.balance import Alike
from sendwave.rules.lifecycle import Batch
from sendwave.rules.lift import Amounts, Arm
from sendwave.rules.money import MILLION
from sendwave.rules.outcomes import CONTROL, GIVEN, LEFT_OUT, Group, Priced
from sendwave.rules.policy import Channel, PolicySet
from sendwave.rules.report_policy import Attribution, Returns
from sendwave.rules.signals import Tally
from sendwave.store import batches, campaigns, files, freezes, marks, policies
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Connection, Database
from sendwave.store.marks import Released

WHOLE: Final = 0.9
"""Share of a wave and lane that must have left before its people are compared: less says nothing about the wave."""


@dataclass(frozen=True, slots=True)
class Records:
    """What the store says of a campaign at one moment."""

    campaign: Campaign
    policy: PolicySet | None  # the one it was approved under
    released: Sequence[Released]
    outcomes: Sequence[batches.Outcome]
    ledger: Ledger
    unsent: Mapping[str, int]  # mailbox provider -> first wave that was not sent
    files: Mapping[str, list[Path]]
    tables: Mapping[str, pa.Table] = field(default_factory=dict)

    def with_inputs(self, files: Mapping[str, list[Path]], tables: Mapping[str, pa.Table]) -> Records:
        """The same with further inputs of the set engine."""
        return replace(self, files={**self.files, **files}, tables=tables)


@dataclass(frozen=True, slots=True)
class Mailing:
    """One campaign under a question."""

    engine: Engine
    records: Records
    question: Question
    group: Group
    thorough: bool = True  # whether the draw is looked at, too

    @property
    def attribution(self) -> Attribution:
        """What counts as its conversions."""
        return self.question.worth.attribution_of(self.records.campaign.type)

    @property
    def within(self) -> int:
        """The attribution window in seconds."""
        return int(self.attribution.within.total_seconds())

    def gather(self) -> Gathered:
        """Everything a report says about it."""
        campaign, until = self.records.campaign, ceil(self.question.until.timestamp())  # the second we are in counts
        with self._session({}) as session:
            spans = session.read(rules.spans_statement(campaign.id)).to_pylist()
            sizes = sorted(session.read(rules.sizes_statement(self.group)).to_pylist(), key=_by_text)
        windows = self._windows(spans, {row["tier"] for row in sizes}, until)
        with self._session(windows) as session:
            bought = self._bought(session, windows, until) if windows else []
            messages = self._messages(session)
            alike = self._alike(session, sizes) if windows and self.thorough else ()
        figures, compared, bystanders = self._put_together(sizes, bought, messages)
        opens = min((first for first, _ in windows.values()), default=None)
        closes = max((row["last"] + self.within for row in spans), default=None)
        return Gathered(
            campaign.name,
            campaign.title,
            campaign.type,
            campaign.channel,
            figures,
            compared,
            ratios=ratios(campaign, self.records.policy, sizes),
            balance=alike,
            notes=self._notes(bought, compared, closes),
            opens=_instant(opens),
            closes=_instant(closes),
            excluded=_excluded(sizes),
            bystanders=bystanders,
        )

    def _windows(self, spans: Sequence[Mapping[str, int]], tiers: set[str], until: int) -> dict[str, tuple[int, int]]:
        """When each tier is watched; one nobody was written to in, while the others are."""
        if not spans:
            return {}
        known = {str(row["tier"]): (row["first"], min(row["last"] + self.within, until)) for row in spans}
        every = (min(opens for opens, _ in known.values()), max(closes for _, closes in known.values()))
        return dict.fromkeys(sorted(tiers), every) | known

    def _session(self, windows: Mapping[str, tuple[int, int]]) -> Any:
        rec = self.records
        handed = [(b.batch_id, b.handed_at) for b in rec.released if b.status == Batch.ACCEPTED and b.handed_at]
        strays = [(o.batch_id, o.position, o.at if o.state == Batch.ACCEPTED else None) for o in rec.outcomes]
        tables = {
            "handed": _table({"batch": [b for b, _ in handed], "handed_ts": [_epoch(at) for _, at in handed]}),
            "strays": _table(
                {
                    "batch": [batch for batch, _, _ in strays],
                    "position": [position for _, position, _ in strays],
                    "handed_ts": [_epoch(at) for _, _, at in strays],
                }
            ),
            "unsent": pa.table(
                {
                    "provider": pa.array(list(rec.unsent), pa.string()),
                    "wave": pa.array(list(rec.unsent.values()), pa.int32()),
                }
            ),
            "windows": pa.table(
                {
                    "tier": pa.array(list(windows), pa.string()),
                    "opens": pa.array([opens for opens, _ in windows.values()], pa.int64()),
                    "closes": pa.array([closes for _, closes in windows.values()], pa.int64()),
                }
            ),
        }
        return self.engine.session(rec.files, {**rec.tables, **tables})

    def _bought(self, session: Session, windows: Mapping[str, tuple[int, int]], until: int) -> list[Bought]:
        since = min(opens for opens, _ in windows.values())
        statement = rules.buyers_statement(
            self.group,
            self.records.campaign.id,
            kinds=self.attribution.kinds,
            since=since,
            until=until,
            within=self.within,
            currency=self.question.worth.currency,
        )
        return _split(session.read(statement))

    def _alike(self, session: Session, sizes: Sequence[Mapping[str, Any]]) -> tuple[Alike, ...]:
        compared = sum(row["people"] for row in sizes if row["compared"])
        return balances(session, self.records.files.get("contacts", ()), compared)

    def _messages(self, session: Session) -> dict[Key, Figures]:
        """Figures of the messages themselves, by tier and group; prices are those that budgets are kept with."""
        campaign = self.records.campaign
        prices = self.question.prices(campaign.channel)
        priced = Priced(campaign.channel == Channel.SMS, tuple(sorted(prices.countries)))
        statement = rules.places_statement(campaign.id, self.group, priced)
        found = self.records.ledger.count(session.stream(statement, batch_rows=1_000_000))
        told = any(word & bit(Tally.DELIVERED) for words in found.values() for word in words)
        figures: dict[Key, Figures] = defaultdict(Figures)
        for (tier, group, price), words in sorted(
            found.items(), key=lambda one: (one[0][0], one[0][1] or "", one[0][2])
        ):
            parts, country = rules.price_of(price)
            [cost] = budgets.costs(prices, [country], parts or campaign.settings.parts).tolist()
            figures[tier, group] += of_words(words, reports_delivery=told, cost=cost / MILLION)
        return dict(figures)

    def _put_together(
        self, sizes: Sequence[Mapping[str, Any]], bought: Sequence[Bought], messages: Mapping[Key, Figures]
    ) -> tuple[dict[Key, Figures], dict[Key, Compared], dict[Key, Arm]]:
        subtract = self.question.worth.returns is Returns.SUBTRACT
        figures: dict[Key, Figures] = defaultdict(Figures, messages)
        arms: dict[tuple[Key, str], Arm] = defaultdict(Arm)
        others: dict[Key, Arm] = defaultdict(Arm)
        for row in sizes:
            key = (row["tier"], row["grp"])
            if row["arm"] == GIVEN:
                figures[key] = figures[key] + Figures(planned=row["people"])
            if row["arm"] == LEFT_OUT:
                others[key] = others[key] + Arm(row["people"])
            if row["compared"]:
                arms[key, row["arm"]] = arms[key, row["arm"]] + Arm(row["people"])
        for part in bought:
            if part.arm == GIVEN:
                figures[part.key] = figures[part.key] + part.own(subtract=subtract)
            if part.compared:
                arms[part.key, part.arm] = arms[part.key, part.arm] + part.assigned(subtract=subtract)
            elif part.arm == LEFT_OUT:
                others[part.key] = others[part.key] + part.assigned(subtract=subtract)
        keys = sorted({key for key, _ in arms}, key=lambda key: (key[0], key[1] or ""))
        compared = {key: Compared({MAILING: arms[key, GIVEN]}, arms[key, CONTROL]) for key in keys}
        return dict(figures), compared, dict(others)

    def _notes(
        self, bought: Sequence[Bought], compared: Mapping[Key, Compared], closes: int | None
    ) -> tuple[Note, ...]:
        name, told = self.records.campaign.name, Counter[str]()
        for part in bought:
            told.update(part.odd)
        found = [Note(code, {"id": name, "count": told[code]}) for code in _ODD if told[code]]
        if closes is not None and closes > self.question.until.timestamp():
            found.append(Note("window_open", {"id": name, "closes": datetime.fromtimestamp(closes, UTC).isoformat()}))
        found += self._notes_of_draw(compared)
        if not self.records.released:
            found.append(Note("nothing_sent", {"id": name}))
        return tuple(found)

    def _notes_of_draw(self, compared: Mapping[Key, Compared]) -> list[Note]:
        name, found = self.records.campaign.name, []
        left = sum(pair.control.people for pair in compared.values())
        if self.records.released and not left:
            found.append(Note("no_control", {"id": name}))
        elif 0 < left < 30:
            found.append(Note("tiny_control", {"id": name, "count": left}))
        if self.records.unsent:
            found.append(Note("unsent_waves", {"id": name, "providers": sorted(self.records.unsent)}))
        return found


_ODD: Final = ("early", "foreign_sales", "returned")


@dataclass(frozen=True, slots=True)
class Bought:
    """Buyers of one tier, group and arm, as columns of one length."""

    key: Key
    arm: str
    compared: bool
    columns: Mapping[str, Amounts]

    def assigned(self, *, subtract: bool) -> Arm:
        """What they did while their tier was watched."""
        amounts = self.columns["assigned_amount"]
        if subtract:
            amounts = amounts + self.columns["returned_amount"]
        return Arm(0, None, int((self.columns["assigned"] > 0).sum()), np.sort(amounts[amounts != 0]))

    def own(self, *, subtract: bool) -> Figures:
        """What those written to did after their own message."""
        amount = int(self.columns["own_amount"].sum())
        if subtract:
            amount += int(self.columns["own_returned_amount"].sum())
        return Figures(converted=int((self.columns["own"] > 0).sum()), amount=amount)

    @property
    def odd(self) -> Counter[str]:
        """Sales that were left out, by why."""
        if self.arm not in {GIVEN, CONTROL}:
            return Counter()
        return Counter({name: int(self.columns[name].sum()) for name in _ODD})


_NUMBERS: Final = (
    "assigned", "assigned_amount", "own", "own_amount", "own_returned_amount", "early", "foreign_sales", "returned",
    "returned_amount",
)  # fmt: skip


def _split(table: pa.Table) -> list[Bought]:
    """The rows of `rules.buyers_statement`, by tier, group, arm and whether they are compared."""
    if not table.num_rows:
        return []
    columns = {name: table[name].to_numpy().astype(np.int64) for name in _NUMBERS}
    names = ("tier", "grp", "arm", "compared")
    codes = [table[name].combine_chunks().dictionary_encode(null_encoding="encode") for name in names]
    values = [code.dictionary.to_pylist() for code in codes]
    packed = np.zeros(table.num_rows, dtype=np.int64)
    for code, known in zip(codes, values, strict=True):
        packed = packed * len(known) + code.indices.to_numpy()
    order = np.argsort(packed, kind="stable")
    firsts = np.unique(packed[order], return_index=True)[1]
    found = []
    for rows in np.split(order, firsts[1:]):
        tier, group, arm, compared = (
            known[int(code.indices[int(rows[0])].as_py())] for code, known in zip(codes, values, strict=True)
        )
        found.append(Bought((tier, group), arm, bool(compared), {name: c[rows] for name, c in columns.items()}))
    return sorted(found, key=lambda part: (part.key[0], part.key[1] or "", part.arm, part.compared))


def _by_text(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Rows in one order whatever the engine's: sums of fractions depend on it in their last digit."""
    return tuple(
        "" if row[name] is None else str(row[name]) for name in ("tier", "grp", "arm", "excluded_by", "compared")
    )


def _excluded(sizes: Sequence[Mapping[str, Any]]) -> dict[Key, dict[str, int]]:
    found: dict[Key, Counter[str]] = defaultdict(Counter)
    for row in sizes:
        if row["arm"] in {CONTROL, LEFT_OUT}:
            found[row["tier"], row["grp"]][row["excluded_by"]] += row["people"]
    return {key: dict(reasons) for key, reasons in found.items()}


def recorded(db: Database, lake: Lake, campaign: Campaign) -> Records:
    """Read the store. Raises NotAllowed when the campaign has no plan yet."""
    with db.read() as conn:
        plan = None if campaign.plan_file is None else files.get(conn, campaign.plan_file)
        if plan is None:
            raise NotAllowed(f"campaign {campaign.name} has no plan yet: there is nothing to report")
        sends = [files.get(conn, file_id) for file_id in freezes.file_ids(conn, campaign.id)]
        listed = files.live(conn, ["contacts", "interactions"])
        released = marks.released(conn, campaign.id)
        outcomes = batches.outcomes(conn, campaign.id)
        ledger = Ledger({one.batch_id: (one.size, one.status) for one in released})
        for outcome in outcomes:
            ledger.answer(outcome.batch_id, outcome.position, outcome.state)
        for batch, tally, bits in marks.bitmaps(conn, campaign.id):
            ledger.mark(batch, tally, bits)
        unsent = _unsent(conn, campaign.id)
        version = campaign.policy_version
        policy = None if version is None or campaign.approved_at is None else policies.pinned(conn, version)
    every = {**listed, "plan": [plan], "sends": [file for file in sends if file is not None]}
    return Records(campaign, policy, released, outcomes, ledger, unsent, lake.paths(every))


def _unsent(conn: Connection, campaign_id: int) -> dict[str, int]:
    """By mailbox provider the first wave most of which never left."""
    counts = batches.counts(conn, campaign_id)
    found: dict[str, int] = {}
    for wave in campaigns.waves(conn, campaign_id):
        for provider, people in wave.providers.items():
            cell = counts.get((wave.number, provider))
            left = 0 if cell is None else cell.accepted + cell.refused + cell.unknown + cell.dropped
            if people and left < WHOLE * people * _still_there(cell, people):
                found.setdefault(provider, wave.number)
    return found


def _still_there(cell: batches.Counts | None, people: int) -> float:
    """The share of the planned people whom the re-check at release left in."""
    return 1.0 if cell is None else min(1.0, cell.released / people)


def columns_of(paths: Sequence[Path]) -> set[str]:
    """The columns of these files."""
    return {name for path in paths for name in pq.ParquetFile(path).schema_arrow.names}


def _table(columns: Mapping[str, Sequence[int | None]]) -> pa.Table:
    kinds = {"position": pa.int32()}
    return pa.table({name: pa.array(values, kinds.get(name, pa.int64())) for name, values in columns.items()})


def _epoch(instant: datetime | None) -> int | None:
    return None if instant is None else int(instant.timestamp())


def _instant(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
