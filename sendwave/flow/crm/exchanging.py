"""Contacts from a CRM into the lake, scores and tiers out to it.

A pull lands what the CRM delivers and moves its cursor only after all of it has landed, so that a failure repeats rows
(imports are idempotent) and loses none. A push tells a CRM what changed since its last one, with the records it refused
then offered again.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast

import pyarrow as pa

from sendwave.crm.base import Crm, Delivery, Outcome, Pushed
from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput
from sendwave.rules import exchange as rules
from sendwave.rules.policy import PolicySet
from sendwave.store import exchanges, files, journal
from sendwave.store.database import Database


class Landed(Protocol):
    """What an import says of itself."""

    @property
    def landed(self) -> int: ...
    @property
    def rejected(self) -> int: ...
    @property
    def rejects_file(self) -> Path | None: ...
    @property
    def findings(self) -> tuple[str, ...]: ...


Land = Callable[[str, Sequence[Path], Mapping[str, str]], Landed]
"""(kind, files, mapping) -> the import; raises BadInput where nothing landed."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One delivery and what became of it."""

    kind: str
    files: tuple[str, ...]
    landed: int
    rejected: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PullReport:
    """What a pull brought."""

    crm: str
    deliveries: tuple[Taken, ...] = ()

    @property
    def clean(self) -> bool:
        """Everything landed, every line."""
        return not any(taken.problem or taken.rejected for taken in self.deliveries)

    def document(self) -> dict[str, Any]:
        """Plain JSON values; the keys are stable."""
        told = ("kind", "files", "landed", "rejected", "problem")
        return {"crm": self.crm, "deliveries": [{key: getattr(d, key) for key in told} for d in self.deliveries]}


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did: records offered, taken, refused (`refusals` has the first ones, the file all)."""

    crm: str
    offered: int
    taken: int
    refused: int
    refusals: tuple[tuple[str, str], ...] = field(default=())
    report: Path | None = None

    def document(self) -> dict[str, Any]:
        """Plain JSON values; the keys are stable."""
        return {
            "crm": self.crm,
            "offered": self.offered,
            "taken": self.taken,
            "refused": self.refused,
            "refusals": [{"contact_id": contact_id, "reason": reason} for contact_id, reason in self.refusals],
            "report": None if self.report is None else str(self.report),
        }


def pull(db: Database, crm: Crm, land: Land, *, name: str, now: datetime, by: str) -> PullReport:
    """Land everything new. Raises what the adapter raises (Transient, Permanent, Busy); what landed before stays."""
    with db.read() as connection:
        cursor = exchanges.get(connection, name).cursor
    done: list[Taken] = []
    with closing(cast("Any", crm.pull(cursor, now=now))) as deliveries:
        for delivery in deliveries:
            outcome = _landed(land, delivery)
            crm.settle(delivery, outcome, now=now)
            names = tuple(path.name for path in delivery.paths)
            done.append(Taken(delivery.kind, names, outcome.landed, outcome.rejected, outcome.problem))
            if outcome.problem and delivery.required:
                break
            if delivery.cursor and not any(taken.problem for taken in done):
                with db.write() as connection:
                    exchanges.pulled(connection, name, delivery.cursor, now)
    report = PullReport(name, tuple(done))
    if done:
        with db.write() as connection:
            journal.write(connection, at=now, actor=by, action="crm.pulled", reason=name, evidence=report.document())
    return report


def push(
    db: Database,
    engine: Engine,
    lake: Lake,
    policy: PolicySet,
    crm: Crm,
    *,
    name: str,
    now: datetime,
    by: str,
    reports: Path,
) -> PushReport:
    """Give the CRM the newest scores; refused records are listed in a file of the folder `reports`.

    Raises BadInput without scores, and what the adapter raises: then the next push offers the same again.
    """
    with db.read() as connection:
        listed = files.live(connection, ["contacts", "scores"])
        known = exchanges.get(connection, name)
        told = None if known.pushed_file is None else files.get(connection, known.pushed_file)
    if not listed["scores"]:
        raise BadInput("there are no scores to push: `sendwave score` or `sendwave import scores FILE` first")
    statement, inputs = rules.everybody(policy.tiers), lake.paths(listed)
    if crm.changes_only and told is not None and lake.has(lake.path(told)):
        statement, inputs = rules.changed(policy.tiers), inputs | {"scores_before": [lake.path(told)]}
    again = pa.table({"contact_id": pa.array(known.refused, pa.string())})
    with engine.session(inputs, {"again": again}) as session:
        counted = _Counted(session.stream(statement))
        pushed = crm.push(counted, now=now)
    report = _reported(name, counted.rows, pushed, reports, now)
    with db.write() as connection:
        refused = [refusal.contact_id for refusal in pushed.refused]
        exchanges.pushed(connection, name, listed["scores"][-1].id, refused, now)
        evidence = {"offered": report.offered, "taken": report.taken, "refused": report.refused}
        journal.write(connection, at=now, actor=by, action="crm.pushed", reason=name, evidence=evidence)
    return report


def _landed(land: Land, delivery: Delivery) -> Outcome:
    try:
        summary = land(delivery.kind, delivery.paths, delivery.mapping)
    except BadInput as wrong:
        return Outcome(problem=str(wrong), findings=wrong.findings)
    return Outcome(summary.landed, summary.rejected, summary.rejects_file, findings=summary.findings)


class _Counted:
    """Batches passed on, their rows counted."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches, self.rows = batches, 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.rows += batch.num_rows
            yield batch


def _reported(name: str, offered: int, pushed: Pushed, folder: Path, now: datetime) -> PushReport:
    refusals = [(refusal.contact_id, refusal.reason) for refusal in pushed.refused]
    path = None
    if refusals:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"crm-{name}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("contact_id", "reason"), *refusals])
    return PushReport(name, offered, pushed.taken, len(refusals), tuple(refusals[:20]), path)
