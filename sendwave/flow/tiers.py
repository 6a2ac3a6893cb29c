"""Where tiers are cut: cut-offs proposed from today's scores, and the tier of scores that came without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sendwave import documents
from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.engine.histograms import score_histogram
from sendwave.errors import BadInput
from sendwave.rules import distribution as rules
from sendwave.rules.cutoffs import Histogram, by_shares, natural, remarks, resolved
from sendwave.rules.tiers import Tiers
from sendwave.rules.units import format_percent
from sendwave.store import files, journal
from sendwave.store.database import Database


@dataclass(frozen=True, slots=True)
class Slice:
    """One tier as it is or would be; `min_score` is None for the rest of the base."""

    tier: str
    min_score: float | None
    contacts: int
    share: float  # of the contacts with a score


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Cut-offs proposed for the scored base, beside those of today. `shares` are set where shares were asked for."""

    method: str  # shares | natural
    scored: int
    today: tuple[Slice, ...]
    proposed: tuple[Slice, ...]
    shares: tuple[Decimal, ...]
    warnings_today: tuple[str, ...]
    warnings: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Plain JSON values; the keys are stable."""
        told = ("tier", "min_score", "contacts", "share")
        return {
            "method": self.method,
            "scored": self.scored,
            "today": [{key: getattr(row, key) for key in told} for row in self.today],
            "proposed": [{key: getattr(row, key) for key in told} for row in self.proposed],
            "warnings_today": list(self.warnings_today),
            "warnings": list(self.warnings),
        }


def suggest(
    histogram: Histogram, tiers: Tiers, *, shares: Sequence[Decimal] = (), breaks: int | None = None
) -> Suggestion:
    """Cut-offs for wanted shares (the most engaged first; the last may be left out), else `breaks` natural slices.

    With neither, as many natural slices as there are tiers today. Where the coldest tier of today has a `min_score`,
    the scores below it stay outside all tiers.

    Raises:
        BadInput: no scores, too few distinct ones, shares that do not fit together.

    """
    floor = tiers.tiers[-1].min_score
    scores = histogram.above(floor)
    if not scores.total:
        raise BadInput("nobody has a score yet: `sendwave score` or `sendwave import scores FILE` first")
    cuts = by_shares(scores, shares) if shares else natural(scores, breaks or len(tiers.tiers))
    now = resolved(tiers, scores)
    today = _slices(scores, list(tiers.keys), [t.min_score for t in now.tiers])
    names = list(tiers.keys) if len(cuts) + 1 == len(tiers.keys) else [f"tier {n}" for n in range(1, len(cuts) + 2)]
    proposed = _slices(scores, names, [*cuts, floor])
    return Suggestion(
        method="shares" if shares else "natural",
        scored=scores.total,
        today=today,
        proposed=proposed,
        shares=tuple(shares),
        warnings_today=tuple(remarks([row.tier for row in today], [row.contacts for row in today])),
        warnings=tuple(remarks([row.tier for row in proposed], [row.contacts for row in proposed])),
    )


def edited(text: str, name: str, suggestion: Suggestion) -> str:
    """The text of a tiers.yaml with the proposed cut-offs in it; everything else, comments included, stays as it is.

    Tiers by share get the shares that were asked for, and become tiers by score where none were.

    Raises:
        BadInput: the file has another number of tiers: their names are for a person to choose, campaign types use them.

    """
    document = documents.load(text, name)
    tiers = documents.validate(document, Tiers)
    if tiers.keys != tuple(row.tier for row in suggestion.proposed):
        raise BadInput(
            f"{name} has {len(tiers.keys)} tiers and {len(suggestion.proposed)} are proposed: add or take out tiers "
            "there first (campaign types speak of them by key), then ask again"
        )
    if tiers.by_share and not suggestion.shares:
        raise BadInput(f"{name} cuts tiers by share: ask for --shares, or write min_score there instead of share first")
    changes: dict[documents.Loc, str] = {}
    for index, row in enumerate(suggestion.proposed[:-1]):
        if tiers.by_share:
            changes["tiers", index, "share"] = format_percent(suggestion.shares[index])
        elif row.min_score is not None:
            changes["tiers", index, "min_score"] = _number(row.min_score)
    if tiers.tiers[-1].share is not None:
        shares = suggestion.shares[: len(tiers.keys) - 1]
        changes["tiers", len(tiers.keys) - 1, "share"] = format_percent(1 - sum(shares, Decimal()))
    changed = document.spliced(changes)
    documents.validate(documents.load(changed, name), Tiers)
    return changed


def _number(value: float) -> str:
    """The shortest text that reads back to the same number."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def _slices(scores: Histogram, names: Sequence[str], cuts: Sequence[float | None]) -> tuple[Slice, ...]:
    volumes = scores.volumes([cut for cut in cuts[:-1] if cut is not None])
    total = scores.total
    return tuple(
        Slice(name, cut, contacts, contacts / total) for name, cut, contacts in zip(names, cuts, volumes, strict=True)
    )


def scored(db: Database, engine: Engine, lake: Lake, tiers: Tiers) -> Histogram:
    """Contacts per score: every distinct score, or up to `rules.distribution.BINS` bins where they are too many."""
    with db.read() as connection:
        listed = files.live(connection, ["contacts", "scores"])
    with engine.session(lake.paths(listed)) as session:
        return score_histogram(session, tiers)


def name_tiers(db: Database, engine: Engine, lake: Lake, tiers: Tiers, *, now: datetime, by: str) -> int:
    """Name the tier of every score that has none, for tiers by share: returns how many were named, 0 otherwise.

    The scores file is replaced whole. Raises Busy when another import changed the scores meanwhile, FullDisk.
    """
    with db.read() as connection:
        listed = files.live(connection, ["contacts", "scores"])
    if not tiers.by_share or not listed["scores"] or "cuts" in listed["scores"][-1].details:
        return 0
    with engine.session(lake.paths(listed)) as session:
        cuts = resolved(tiers, score_histogram(session, tiers))
        left = session.read(rules.unnamed()).to_pylist()[0]["contacts"]
        if not left:
            return 0
        written = session.write(rules.named(cuts), lake.new("scores", "scores"))
    try:
        lake.share(written)
        with db.write() as connection:
            files.claim(connection)
            files.expect(listed["scores"], files.live(connection, ["scores"])["scores"], "scores")
            files.retire(connection, [file.id for file in listed["scores"]], now)
            details = {**listed["scores"][-1].details, "cuts": {t.key: t.min_score for t in cuts.tiers}}
            files.register(
                connection,
                dataset="scores",
                path=lake.relative(written.path),
                rows=written.rows,
                size=written.bytes,
                details=details,
                now=now,
            )
            journal.write(connection, at=now, actor=by, action="tiers.named", evidence={"contacts": left})
    except BaseException as fault:
        lake.withdraw(fault, [written])
        raise
    return int(left)
