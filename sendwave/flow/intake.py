"""intake: files people export become datasets of the lake, whole or not at all.

Bad rows go to a report with their file, line and reason and the rest lands; with `strict`, or when more than `max_bad`
of the lines are bad (a wrong file more likely than a few bad rows), nothing does. All files of an import count in one
store transaction. Files are read in the order of their names whatever order they are given in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sendwave.engine import experiments, history, people
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.engine.landing import IDS, Landing, land
from sendwave.engine.people import Outcome
from sendwave.engine.reading import columns_of
from sendwave.engine.sources import Source, look
from sendwave.errors import BadInput
from sendwave.rules.imports import CONSENT, IGNORED, check_constants, check_mapping, kind_of, match_headings
from sendwave.rules.layout import Layout, advice
from sendwave.rules.throttle import Lanes
from sendwave.store import files as registry
from sendwave.store import journal, suppressions
from sendwave.store.database import Connection, Database
from sendwave.store.files import LakeFile
from sendwave.store.suppressions import Suppression

MAX_BAD: Final = 0.20
"""Share of bad lines above which nothing lands."""

CREATING: Final = ("interactions", "scores", "sends")
"""Kinds whose rows may be about people nobody imported yet."""

_NEEDS: Final = {
    "contacts": ("contacts", "ids", "consents"),
    "consents": ("consents", "ids"),
    "suppressions": ("contacts",),
    "scores": ("scores", "ids"),
    "interactions": ("interactions", "ids"),
    "sends": ("sends", "ids"),
    "experiments": ("experiments", "ids"),
}

_PREPARE: Final[Mapping[str, Callable[[Landing], None]]] = {
    "contacts": people.prepare_contacts,
    "consents": people.prepare_consents,
    "suppressions": history.prepare_suppressions,
    "scores": history.prepare_scores,
    "interactions": history.prepare_interactions,
    "sends": history.prepare_sends,
    "experiments": experiments.prepare_experiments,
}

_MERGE: Final[Mapping[str, Callable[[Landing], Outcome]]] = {
    "consents": people.merge_consents,
    "suppressions": history.merge_suppressions,
    "scores": history.merge_scores,
    "interactions": history.merge_interactions,
    "sends": history.merge_sends,
    "experiments": experiments.merge_experiments,
}


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did. `landed` rows are part of the truth now or already were; `rejected` lines are not."""

    kind: str
    files: tuple[Path, ...]
    rows: int
    landed: int
    rejected: int
    changed: bool  # False: everything was known already, and no file was registered
    counts: Mapping[str, int] = field(default_factory=dict)  # new, updated, unchanged, kept, email_valid …
    rejects: Mapping[str, int] = field(default_factory=dict)  # reason -> lines that did not land
    notes: Mapping[str, int] = field(default_factory=dict)  # reason -> lines that landed, less something
    rejects_file: Path | None = None
    findings: tuple[str, ...] = ()  # the first of the report, `file:line: reason: detail`
    advice: tuple[str, ...] = ()  # what to try next about what was rejected
    columns: Mapping[str, str] = field(default_factory=dict)  # heading -> the field it was read as

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": self.kind,
            "files": [str(path) for path in self.files],
            "rows": self.rows,
            "landed": self.landed,
            "rejected": self.rejected,
            "changed": self.changed,
            "counts": dict(self.counts),
            "rejects": dict(self.rejects),
            "notes": dict(self.notes),
            "rejects_file": None if self.rejects_file is None else str(self.rejects_file),
            "findings": list(self.findings),
            "advice": list(self.advice),
            "columns": dict(self.columns),
        }


@dataclass(frozen=True, slots=True)
class _Report:
    rows: int
    rejected: int
    rejects: Mapping[str, int]


def import_files(
    db: Database,
    engine: DuckdbEngine,
    lake: Lake,
    kind: str,
    paths: Iterable[Path],
    *,
    lanes: Lanes,
    now: datetime,
    by: str,
    mapping: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    create_contacts: bool = False,
    strict: bool = False,
    max_bad: float = MAX_BAD,
    time_zone: str = "UTC",
    layout: Layout | None = None,
    rejects_dir: Path | None = None,
) -> ImportSummary:
    """Import files of one kind (docs/reference/imports.md says what each kind understands).

    `mapping` is heading -> field, before any guess; `constants` are field -> the value of every row. With
    `create_contacts`, rows about people nobody imported make them contacts, without an address. `time_zone` (IANA) is
    where dates without one were written, `layout` what the files do not say of themselves. `rejects_dir` is where the
    report goes, `rejects` beside the lake by default.

    Raises:
        BadInput: a heading that does not fit, an unreadable file, `strict` or `max_bad`; nothing has landed.
        NotFound: no such file or kind.
        FullDisk: no room; nothing has landed and no partial file stays.
        Busy: another import changed the same datasets meanwhile; nothing has landed.

    """
    spec, mapping, constants, layout = kind_of(kind), mapping or {}, constants or {}, layout or Layout()
    check_constants(spec, constants)
    if create_contacts and kind not in CREATING:
        raise BadInput(f"only {', '.join(CREATING)} can create contacts, not {kind}")
    with db.read() as connection:
        seen = {name: _listed(connection, name) for name in _NEEDS[kind]}
    ordered = sorted({Path(path) for path in paths}, key=lambda path: (path.name, str(path)))
    with land(engine, lake, lake.paths(seen), time_zone=time_zone, now=now, layout=layout) as landing:
        sources = [
            look(landing.session.connection, path, number, landing.scratch, layout)
            for number, path in enumerate(ordered)
        ]
        check_mapping([*mapping, *(one.column for one in layout.skip)], columns_of(sources))
        targets = [
            match_headings(spec, one.columns, _unnamed(one) | dict(mapping), one.path.name, constants, shown=one.shown)
            for one in sources
        ]
        landing.read(sources, targets, tuple(spec.fields), constants)
        created = [people.create_contacts(landing)] if create_contacts else []
        _PREPARE[kind](landing)
        folder = rejects_dir or lake.root.parent / "rejects"
        name = f"{kind}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        counted = _judge(landing, kind, strict=strict, max_bad=max_bad, folder=folder, name=name)
        outcomes = [*_merge(landing, kind, targets, lanes), *created]
        summary = _summary(
            landing,
            kind,
            sources=sources,
            counted=counted,
            outcomes=outcomes,
            report=landing.report(folder, name),
        )
        named = {heading: target for chosen in targets for heading, target in chosen.items() if target != IGNORED}
        summary = replace(summary, columns=named)
        return _register(db, lake, landing, summary=summary, outcomes=outcomes, seen=seen, by=by)


def _unnamed(source: Source) -> dict[str, str]:
    """Columns nobody named are left out, unless they are mapped."""
    return {} if source.heading else dict.fromkeys(source.columns, IGNORED)


def _listed(connection: Connection, dataset: str) -> list[LakeFile]:
    part = history.PART if dataset == "sends" else None
    return registry.live(connection, [dataset], part)[dataset]


def _judge(landing: Landing, kind: str, *, strict: bool, max_bad: float, folder: Path, name: str) -> _Report:
    """Count the bad lines, and raise BadInput where they are too many for anything to land."""
    total, rejects = landing.total(), landing.tally(landed=False)
    bad = sum(rejects.values())
    counted = _Report(total, bad, rejects)
    if not bad or (not strict and bad <= max_bad * total):
        return counted
    findings = landing.findings()
    report = landing.report(folder, name)
    limit = "--strict allows none" if strict else f"more than {max_bad:.0%}; --max-bad allows more"
    reasons = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in rejects.items())
    hints = (f"  {hint}" for hint in advice(rejects, creating=kind in CREATING))
    raise BadInput(
        f"nothing landed: {bad:,} of {total:,} lines are bad ({limit}): {reasons}. All of them: {report}",
        (*findings, *hints),
    )


def _merge(landing: Landing, kind: str, targets: Sequence[Mapping[str, str]], lanes: Lanes) -> list[Outcome]:
    if kind != "contacts":
        return [_MERGE[kind](landing)]
    domains = {domain.lower(): name for name, provider in lanes.providers.items() for domain in provider.domains}
    outcomes = [people.merge_contacts(landing, domains)]
    if any(target.startswith(CONSENT) for chosen in targets for target in chosen.values()):
        people.wide_consents(landing)
        people.prepare_consents(landing, "stated")
        outcomes.append(people.merge_consents(landing))
    return outcomes


def _summary(
    landing: Landing,
    kind: str,
    *,
    sources: Sequence[Source],
    counted: _Report,
    outcomes: Sequence[Outcome],
    report: Path | None,
) -> ImportSummary:
    counts = dict(outcomes[0].counts)
    if skipped := landing.skipped():
        counts["skipped"] = skipped
    for outcome in outcomes[1:]:
        whose = "consents" if kind == "contacts" else "contacts"
        counts |= {f"{whose}_{word}": count for word, count in outcome.counts.items()}
    notes = landing.tally(landed=True)
    return ImportSummary(
        kind=kind,
        files=tuple(source.path for source in sources),
        rows=counted.rows,
        landed=outcomes[0].landed,
        rejected=counted.rejected,
        changed=bool(landing.written),
        counts=counts,
        rejects=counted.rejects,
        notes=notes,
        rejects_file=report,
        findings=landing.findings(),
        advice=advice((*counted.rejects, *notes), creating=kind in CREATING),
    )


def _register(
    db: Database,
    lake: Lake,
    landing: Landing,
    *,
    summary: ImportSummary,
    outcomes: Sequence[Outcome],
    seen: Mapping[str, Sequence[LakeFile]],
    by: str,
) -> ImportSummary:
    """One transaction: the new files are the truth, those they replace are not, and the journal says so."""
    now = landing.now
    lake.share(*landing.written)
    with db.write() as connection:
        registry.claim(connection)
        for dataset, known in seen.items():
            registry.expect(known, _listed(connection, dataset), dataset)
        for outcome in outcomes:
            for dataset, written in outcome.files:
                if outcome.replaces and dataset in seen and dataset != IDS:
                    registry.retire(connection, [file.id for file in seen[dataset]], now)
                registry.register(
                    connection,
                    dataset=dataset,
                    path=lake.relative(written.path),
                    rows=written.rows,
                    size=written.bytes,
                    part=history.PART if dataset == "sends" else "",
                    details={"from": [path.name for path in summary.files]},
                    now=now,
                )
        if summary.kind == "suppressions":
            summary = _suppress(connection, landing, summary)
        document = summary.document()
        for told in ("kind", "findings", "rejects_file", "advice", "columns"):
            del document[told]
        journal.write(connection, at=now, actor=by, action=f"import.{summary.kind}", evidence=document)
    return summary


def _suppress(connection: Connection, landing: Landing, summary: ImportSummary) -> ImportSummary:
    rows = (
        Suppression(address, channel, scope, reason, datetime.fromtimestamp(since, UTC))
        for address, channel, scope, reason, since in history.suppressed(landing)
    )
    before = suppressions.total(connection)
    source = f"import: {', '.join(path.name for path in summary.files)}"
    given = suppressions.add(connection, rows, source=source, now=landing.now)
    new = suppressions.total(connection) - before
    return replace(summary, changed=new > 0, counts={"new": new, "known": given - new})
