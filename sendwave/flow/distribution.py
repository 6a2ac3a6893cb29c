"""How the base spreads: volumes and shares by tier, by score and by attribute, and who moved since the run before.

Read-only: everything is counted anew from the newest files, in a second or two for ten million contacts.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sendwave.engine.base import Engine, Session
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput, NotFound, did_you_mean
from sendwave.rules import distribution as rules
from sendwave.rules.columns import CONTACTS
from sendwave.rules.cutoffs import remarks
from sendwave.rules.policy import PolicySet
from sendwave.rules.tiers import Tiers
from sendwave.store import files
from sendwave.store.database import Database
from sendwave.store.files import LakeFile

NO_SCORE: Final = "no score"
"""What people without a known score are listed as."""

OTHERS: Final = "others"
"""The values of an attribute beyond the most frequent ones, together."""

BARS: Final = 25
"""Most bars of a histogram that people look at."""

_ATTRIBUTE: Final = "attr_"
_PRIVATE: Final = ("contact", "contact_id", "email", "email_hash", "phone", "phone_hash")


@dataclass(frozen=True, slots=True)
class TierRow:
    """One tier; scores are the lowest and highest in it, None while it is empty or its people have no score."""

    tier: str
    label: str
    emoji: str
    contacts: int
    share: float  # of all contacts
    min_score: float | None
    max_score: float | None
    known: bool = True  # False: scores name it, tiers.yaml has no such tier


@dataclass(frozen=True, slots=True)
class Bar:
    """Contacts from one score (inclusive) to another (exclusive; inclusive where both are equal)."""

    low: float
    high: float
    contacts: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Contacts with one value of an attribute, by tier ('' for no score)."""

    value: str | None
    contacts: int
    tiers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Moves:
    """Contacts by (tier then, tier now), '' for no score. `up` is towards the most engaged."""

    since: datetime
    pairs: Mapping[tuple[str, str], int]
    up: int
    down: int
    same: int
    new: int
    gone: int


@dataclass(frozen=True, slots=True)
class Distribution:
    """The base at its newest scores."""

    total: int
    no_score: int
    tiers: tuple[TierRow, ...]
    scores: tuple[Bar, ...]
    moved: Moves | None  # None: no earlier run is kept
    by: str = "tier"
    segments: tuple[Segment, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def document(self) -> dict[str, Any]:
        """Plain JSON values; the keys are stable."""
        told = ("tier", "label", "contacts", "share", "min_score", "max_score")
        return {
            "total": self.total,
            "no_score": {"contacts": self.no_score, "share": _share(self.no_score, self.total)},
            "tiers": [{key: getattr(row, key) for key in told} for row in self.tiers],
            "scores": [
                {"from": bar.low, "to": bar.high, "contacts": bar.contacts, "share": _share(bar.contacts, self.total)}
                for bar in self.scores
            ],
            "moved": None if self.moved is None else _moved_document(self.moved),
            "segments": [
                {"value": s.value, "contacts": s.contacts, "share": _share(s.contacts, self.total), "tiers": s.tiers}
                for s in self.segments
            ],
            "warnings": list(self.warnings),
        }


def measure(
    db: Database, engine: Engine, lake: Lake, policy: PolicySet, *, by: str = "tier", top: int = 20
) -> Distribution:
    """The distribution of the newest scores; `by` is tier, score or a column of contacts (`city` finds `attr_city`).

    `top` is how many values of an attribute are listed, the others go together.

    Raises:
        BadInput: no contacts have been imported.
        NotFound: no attribute of that name.

    """
    with db.read() as connection:
        listed = files.live(connection, ["contacts", "scores"])
        earlier = _earlier(files.retired(connection, "scores"), listed["scores"], lake)
    if not listed["contacts"]:
        raise BadInput("there are no contacts yet: `sendwave import contacts FILE` first")
    paths = lake.paths(listed)
    name = None if by in ("tier", "score") else _attribute(by, lake.columns(listed["contacts"]))
    tiers = policy.tiers
    with engine.session(paths | ({"scores_before": [lake.path(earlier)]} if earlier else {})) as session:
        rows = {row["tier"]: row for row in session.read(rules.by_tier(tiers)).to_pylist()}
        bars = _bars(session, tiers)
        segments = _segments(session, tiers, name, top) if name else ()
        moved = _moves(session, tiers, earlier) if earlier else None
    total = sum(row["contacts"] for row in rows.values())
    known = _rows(tiers, rows, total)
    return Distribution(
        total=total,
        no_score=rows.get(None, {}).get("contacts", 0),
        tiers=known,
        scores=bars,
        moved=moved,
        by=name or by,
        segments=segments,
        warnings=tuple(_warnings(tiers, known)),
    )


def _earlier(retired: Sequence[LakeFile], live: Sequence[LakeFile], lake: Lake) -> LakeFile | None:
    """The scores to compare with: the last of an earlier day, else the last there are. None once tidied away."""
    if not live:
        return None
    today = live[-1].registered_at.astimezone(UTC).date()
    of_today = [file.registered_at.astimezone(UTC).date() >= today for file in retired]
    ordered = [
        file for late in (False, True) for file, is_late in zip(retired, of_today, strict=True) if is_late is late
    ]
    return next((file for file in ordered if lake.has(lake.path(file))), None)


def _attribute(by: str, found: AbstractSet[str]) -> str:
    """The column of contacts somebody means. Raises NotFound with those there are."""
    names = {c.name for c in CONTACTS.columns} | {name for name in found if name.startswith(_ATTRIBUTE)}
    known = names - set(_PRIVATE)
    for name in (by, _ATTRIBUTE + by):
        if name in known:
            return name
    spoken = {name.removeprefix(_ATTRIBUTE) for name in known} | {"tier", "score"}
    raise NotFound(
        f"contacts have no attribute {by!r}.{did_you_mean(by, spoken) or ' They have ' + ', '.join(sorted(spoken))}"
    )


def _rows(tiers: Tiers, rows: Mapping[str | None, Mapping[str, Any]], total: int) -> tuple[TierRow, ...]:
    strangers = sorted(key for key in rows if key is not None and key not in tiers.keys)
    labels = {tier.key: (tier.label, tier.emoji) for tier in tiers.tiers}
    made = []
    for key in (*tiers.keys, *strangers):
        row = rows.get(key, {"contacts": 0, "min_score": None, "max_score": None})
        label, emoji = labels.get(key, ("", ""))
        made.append(
            TierRow(
                tier=key,
                label=label,
                emoji=emoji,
                contacts=row["contacts"],
                share=_share(row["contacts"], total),
                min_score=row["min_score"],
                max_score=row["max_score"],
                known=key in labels,
            )
        )
    return tuple(made)


def _warnings(tiers: Tiers, rows: Sequence[TierRow]) -> list[str]:
    own = [row for row in rows if row.known]
    found = list(remarks([row.tier for row in own], [row.contacts for row in own]))
    found += [
        f"scores name the tier {row.tier!r}, which tiers.yaml does not have.{did_you_mean(row.tier, tiers.keys)}"
        for row in rows
        if not row.known
    ]
    lows = [row.min_score for row in own if row.contacts]
    highs = [row.max_score for row in own if row.contacts]
    if len(lows) == 1 and lows[0] == highs[0] and lows[0] is not None:
        found.append(f"everybody has the same score ({lows[0]:g}): the grid tells nobody apart")
    return found


def _bars(session: Session, tiers: Tiers) -> tuple[Bar, ...]:
    """The histogram in bars of a round width, or one per score where these are few; empty bars between are kept."""
    extent = session.read(rules.extent(tiers)).to_pylist()[0]
    if not extent["contacts"]:
        return ()
    low, high = extent["low"], extent["high"]
    if extent["distinct"] <= BARS:
        rows = session.read(rules.histogram(tiers)).to_pylist()
        return tuple(Bar(row["score"], row["score"], row["contacts"]) for row in rows)
    width = _round_width((high - low) / (BARS - 1))
    start = math.floor(low / width)
    counted: Counter[int] = Counter()
    for row in session.read(rules.histogram(tiers, low=start * width, width=width)).to_pylist():
        counted[math.floor((row["score"] - start * width) / width)] += row["contacts"]
    return tuple(
        Bar((start + place) * width, (start + place + 1) * width, counted[place]) for place in range(max(counted) + 1)
    )


def _round_width(width: float) -> float:
    """The next of 1, 2, 5, 10, 20 … times a power of ten."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width)


def _segments(session: Session, tiers: Tiers, name: str, top: int) -> tuple[Segment, ...]:
    volumes: dict[str | None, Counter[str]] = defaultdict(Counter)
    for row in session.read(rules.by_attribute(tiers, name)).to_pylist():
        volumes[row["value"]][row["tier"] or ""] += row["contacts"]
    ordered = sorted(volumes.items(), key=lambda item: (-item[1].total(), item[0] is None, item[0] or ""))
    listed = [Segment(value, counted.total(), dict(counted)) for value, counted in ordered[:top]]
    rest: Counter[str] = Counter()
    for _, counted in ordered[top:]:
        rest.update(counted)
    if rest:
        listed.append(Segment(OTHERS, rest.total(), dict(rest)))
    return tuple(listed)


def _moves(session: Session, tiers: Tiers, earlier: LakeFile) -> Moves:
    place = {key: rank for rank, key in enumerate(tiers.keys)}
    pairs: dict[tuple[str, str], int] = {}
    sums: Counter[str] = Counter()
    for row in session.read(rules.moves(tiers)).to_pylist():
        contacts = row["contacts"]
        if row["known"] != "both":
            sums[row["known"]] += contacts
            continue
        was, is_ = row["was"] or "", row["is"] or ""
        pairs[was, is_] = pairs.get((was, is_), 0) + contacts
        step = place.get(was, len(place)) - place.get(is_, len(place))
        sums["same" if was == is_ else "up" if step > 0 else "down"] += contacts
    names = ("up", "down", "same", "new", "gone")
    return Moves(earlier.registered_at, pairs, **{name: sums[name] for name in names})


def _moved_document(moved: Moves) -> dict[str, Any]:
    matrix: dict[str, dict[str, int]] = defaultdict(dict)
    for (was, is_), contacts in sorted(moved.pairs.items()):
        matrix[was or NO_SCORE][is_ or NO_SCORE] = contacts
    counted = {name: getattr(moved, name) for name in ("up", "down", "same", "new", "gone")}
    return {"since": moved.since.isoformat(), **counted, "matrix": dict(matrix)}


def _share(contacts: int, total: int) -> float:
    return contacts / total if total else 0.0
