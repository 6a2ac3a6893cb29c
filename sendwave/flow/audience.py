"""Count an audience while it is being written: each clause alone, the clauses so far, and the habit beside it.

The counts come from the expressions the plan is made of (rules/affinity.py), over today's files. Contactability, tier
and pressure are not asked here: `sendwave campaign plan --dry-run` asks everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sendwave.engine.base import Engine, Session
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput, did_you_mean
from sendwave.rules import affinity, audience_counts
from sendwave.rules.audience import Loc, Who, mistakes_in
from sendwave.rules.clauses import Acted, Slip
from sendwave.rules.policy import PolicySet
from sendwave.store import files, mailings
from sendwave.store.database import Database

_BASE: Final = ("contacts", "scores")


def count(
    db: Database,
    engine: Engine,
    lake: Lake,
    policy: PolicySet,
    who: Who,
    *,
    now: datetime,
    by: str | None = None,
    baseline: Who | None = None,
) -> dict[str, Any]:
    """total, people, share, clauses [{clause, depth, joined_by, yes, no, unknown, so_far}], by, baseline.

    `by` is a field of contacts, `tier` or `score`; `so_far` counts those in the conditions of its group up to there.
    With a baseline: kept (in both), gained (in this one alone), lost (in the baseline alone), overall and by value.
    Raises BadInput without contacts or for an unknown field, NotFound for an unknown named audience.
    """
    asked = who.resolved(policy.audiences)
    other = None if baseline is None else baseline.resolved(policy.audiences)
    paths, tables = _opened(db, lake, [asked, *([] if other is None else [other])])
    known = affinity.fields(lake_columns(lake, db))
    if by is not None and by not in known:
        raise BadInput(f"no contact has a field {by!r}.{did_you_mean(by, known)}")
    statement = audience_counts.counts_statement(asked, policy.tiers, int(now.timestamp()), by, other)
    with engine.session(paths, tables) as session:
        rows = session.read(statement).to_pylist()
    return _document(asked, rows, by, policy, compared=other is not None)


def check(db: Database, engine: Engine, lake: Lake, policy: PolicySet, who: Who) -> list[tuple[Loc, Slip]]:
    """What the audience asks for that nobody has: named audiences, fields, kinds of interactions, their attributes.

    Each with its place. Nothing is found wrong about interactions of a kind that has not been imported yet.
    """
    found = list(mistakes_in(policy.audiences, who))
    found += affinity.unknown_fields(who, lake_columns(lake, db))
    acted = [(leaf.loc, leaf.clause) for leaf in who.leaves() if isinstance(leaf.clause, Acted)]
    if not acted:
        return found
    paths, tables = _opened(db, lake, [])
    with db.read() as conn:
        paths |= lake.paths(files.live(conn, ("interactions",)))
    with engine.session(paths, tables) as session:
        there = {row["kind"] for row in session.read(audience_counts.kinds_statement()).to_pylist()}
        graded = frozenset() if policy.score is None else policy.score.known_kinds
        found += affinity.unknown_kinds(who, there | graded)
        for loc, clause in acted:
            if there & set(clause.kinds):
                found += [(loc, slip) for slip in _unknown_attributes(session, clause)]
    return found


def lake_columns(lake: Lake, db: Database) -> frozenset[str]:
    """The columns of today's contacts. Raises BadInput without contacts."""
    with db.read() as conn:
        contacts = files.live(conn, ("contacts",))["contacts"]
    if not contacts:
        raise BadInput("there are no contacts yet: run `sendwave import contacts FILE` first")
    return lake.columns(contacts)


def _opened(db: Database, lake: Lake, asked: Iterable[Who]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Files and tables of an engine session for these audiences."""
    datasets = {*_BASE, *(name for who in asked for name in affinity.inputs(who))}
    with db.read() as conn:
        listed, named = files.live(conn, sorted(datasets)), mailings.table(conn)
    return dict(lake.paths(listed)), {mailings.NAME: named}


def _unknown_attributes(session: Session, clause: Acted) -> Iterator[Slip]:
    wanted = clause.when.attributes
    if not wanted:
        return
    some = session.read(audience_counts.documents_statement(clause.kinds)).column("attributes").to_pylist()
    keys = {str(key) for text in some for key in json.loads(text)}
    for name in sorted(wanted - keys):
        if not session.read(audience_counts.documents_statement(clause.kinds, name)).num_rows:
            hint = did_you_mean(name, (*keys, "campaign", "channel", "amount"))
            problem = f"no interaction {' or '.join(clause.kinds)} has a field {name!r}.{hint}"
            yield Slip(problem, dict(clause.places).get(name, 0))


def _document(
    who: Who, rows: Sequence[Mapping[str, Any]], by: str | None, policy: PolicySet, *, compared: bool
) -> dict[str, Any]:
    total, people = (sum(row[name] for row in rows) for name in ("people", "inside"))
    told: dict[str, Any] = {"total": total, "people": people, "share": people / total if total else None}
    told["clauses"] = [_line(line, rows, total) for line in audience_counts.lines(who)]
    if compared:
        told["baseline"] = _compared(rows)
    if by is not None:
        places = {key: place for place, key in enumerate(policy.tiers.keys)} if by == "tier" else {}
        order = sorted(rows, key=lambda row: (places.get(row["by"], len(places)), -row["inside"], str(row["by"])))
        told["by"] = [
            {by: row["by"], "total": row["people"], "people": row["inside"], **(_compared([row]) if compared else {})}
            for row in order
        ]
    return told


def _line(line: audience_counts.Line, rows: Sequence[Mapping[str, Any]], total: int) -> dict[str, Any]:
    yes, no, run = (sum(row[f"{name}_{line.index}"] for row in rows) for name in ("yes", "no", "run"))
    told = {"clause": line.text, "depth": line.depth, "joined_by": "" if line.first else line.how}
    return {**told, "yes": yes, "no": no, "unknown": total - yes - no, "so_far": run}


def _compared(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    inside, base, both = (sum(row[name] for row in rows) for name in ("inside", "base", "both"))
    return {"kept": both, "gained": inside - both, "lost": base - both}
