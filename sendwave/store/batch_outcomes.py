"""What became of the people of batches: counts, cohorts and exceptions, read back from the batch rows.

`outcomes` of a batch lists exceptions only; everybody else shares the batch's status. Its positions are indexes of that
batch's own payload. A follow-up batch (people deferred at hand-over, gone again later) has `origins`: everything here
is given back in the coordinates of the batch a person was released in, where tokens, tallies and `sends` rows point.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, Row, bindparam, case, func, select

from sendwave.rules.lifecycle import SEEDS, Batch
from sendwave.rules.signals import Tally, proof
from sendwave.store import evidence
from sendwave.store.tables import batches


@dataclass(frozen=True, slots=True)
class Counts:
    """People of one wave and lane, each in one field apart from `released`, which is their sum."""

    released: int = 0
    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    dropped: int = 0  # taken out by the re-check just before hand-over
    recalled: int = 0
    ready: int = 0  # waiting, claimed included
    handed: int = 0  # being handed over


@dataclass(frozen=True, slots=True)
class Cohort:
    """One released batch, the people of its follow-ups included: what the judge divides by."""

    batch_id: int
    wave: int
    provider: str
    handed_at: datetime  # mean over its accepted people, where some went later
    accepted: int
    refused: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A released batch: what everybody in it shares unless an `Outcome` says otherwise."""

    batch_id: int
    freeze_id: int
    wave: int
    provider: str
    status: str
    handed_at: datetime | None
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One person whose fate differs from their batch's status."""

    batch_id: int
    position: int
    state: str  # a status of `lifecycle.Batch`, or `dropped`
    reason: str
    at: datetime | None
    code: str = ""  # of a refusal, without the text that came with it


@dataclass(frozen=True, slots=True)
class Exceptions:
    """People of a batch who do not share its status, by index of its payload."""

    refused: Sequence[tuple[int, str, str]] = ()  # index, code, text
    unknown: Sequence[int] = ()
    dropped: Sequence[tuple[int, str]] = ()  # index, reason
    moved: Sequence[int] = ()

    def document(self) -> dict[str, Any] | None:
        """As stored; None without exceptions."""
        return {name: list(part) for name in _EXCEPTIONS if (part := getattr(self, name))} or None


_EXCEPTIONS: Final = tuple(Exceptions.__dataclass_fields__)


def counts(conn: Connection, campaign_id: int) -> dict[tuple[int, str], Counts]:
    """People per (wave, provider), our own addresses left out.

    Who got no second message after a first nobody answered for is unknown, not refused or dropped.
    """
    of = batches.c
    left = of.size - of.dropped - of.moved

    def surely(column: Any) -> Any:
        return case((of.doubted, 0), else_=column)

    def waiting(*statuses: Batch) -> Any:
        return func.coalesce(func.sum(case((of.status.in_(statuses), left), else_=0)), 0)

    statement = (
        select(
            of.wave,
            of.provider,
            func.sum(of.size - of.moved),
            func.sum(of.accepted),
            func.sum(surely(of.refused)),
            func.sum(of.unknown + of.refused + of.dropped - surely(of.refused + of.dropped)),
            func.sum(surely(of.dropped)),
            waiting(Batch.RECALLED),
            waiting(Batch.READY, Batch.CLAIMED),
            waiting(Batch.HANDED),
        )
        .where(of.campaign_id == campaign_id, of.provider != SEEDS)
        .group_by(of.wave, of.provider)
    )
    return {(row[0], row[1]): Counts(*map(int, row[2:])) for row in conn.execute(statement)}


def cohorts(conn: Connection, campaign_id: int) -> list[Cohort]:
    """Batches that were handed over, oldest first. Positions in tallies belong to the same batch ids."""
    parts: dict[int, list[Cohort]] = {}
    for _, _, told in settled(conn, campaign_id):
        for part in told:
            parts.setdefault(part.batch_id, []).append(part)
    return [merged(parts[batch_id]) for batch_id in sorted(parts)]


def settled(
    conn: Connection, campaign_id: int, since: datetime | None = None
) -> Iterator[tuple[int, datetime, list[Cohort]]]:
    """(row, settled at, its people by the batch they were released in) of batches handed over and settled since then.

    Oldest row first; more than one part only of follow-ups.
    """
    asked, told = (_SETTLED, {}) if since is None else (_SETTLED_SINCE, {"since": since})
    for row in conn.execute(asked, {**told, "campaign": campaign_id}):
        yield row.id, row.settled_at, list(_parts(row))


_OF: Final = batches.c
_SETTLED: Final = (
    select(
        *(_OF.id, _OF.wave, _OF.provider, _OF.status, _OF.settled_at),
        func.coalesce(_OF.handed_at, _OF.settled_at).label("handed_at"),  # taken back, and told of by an event since
        *(_OF.accepted, _OF.refused, _OF.unknown, _OF.origins, _OF.outcomes),
    )
    .where(
        _OF.campaign_id == bindparam("campaign"),
        _OF.provider != SEEDS,
        _OF.handed_at.is_not(None) | (_OF.accepted > 0),
        _OF.settled_at.is_not(None),
    )
    .order_by(_OF.id)
)
_SETTLED_SINCE: Final = _SETTLED.where(_OF.settled_at >= bindparam("since"))


def _parts(row: Row[*tuple[Any, ...]]) -> Iterator[Cohort]:
    """A batch as it is, or a follow-up split over the batches its people were released in."""
    if row.origins is None:
        yield Cohort(row.id, row.wave, row.provider, row.handed_at, row.accepted, row.refused, row.unknown)
        return
    found = row.outcomes or {}
    refused = {entry[0] for entry in found.get("refused", ())}
    unknown = set(found.get("unknown", ()))
    neither = {entry[0] for entry in found.get("dropped", ())} | set(found.get("moved", ()))
    of_batch: dict[int, dict[str, int]] = {}
    for index, (batch_id, _) in enumerate(row.origins):
        if index not in neither:
            state = "refused" if index in refused else "unknown" if index in unknown else row.status
            tally = of_batch.setdefault(batch_id, {"accepted": 0, "refused": 0, "unknown": 0})
            tally[state] += 1
    for batch_id, tally in of_batch.items():
        yield Cohort(batch_id, row.wave, row.provider, row.handed_at, **tally)


def merged(parts: Sequence[Cohort]) -> Cohort:
    """Parts of one batch as one."""
    first, accepted = parts[0], sum(part.accepted for part in parts)
    late = sum((part.accepted * (part.handed_at - first.handed_at) for part in parts), timedelta())
    return Cohort(
        first.batch_id,
        first.wave,
        first.provider,
        first.handed_at + late / max(accepted, 1),
        accepted,
        sum(part.refused for part in parts),
        sum(part.unknown for part in parts),
    )


def standings(conn: Connection, campaign_id: int) -> list[Standing]:
    """The released batches of a campaign, follow-ups left out, oldest first."""
    of = batches.c
    statement = (
        select(of.id, of.freeze_id, of.wave, of.provider, of.status, of.handed_at, of.settled_at)
        .where(of.campaign_id == campaign_id, of.origins.is_(None))
        .order_by(of.id)
    )
    return [Standing(*row) for row in conn.execute(statement)]


def outcomes(conn: Connection, campaign_id: int) -> list[Outcome]:
    """Everybody whose fate differs from their batch's standing, once each, follow-ups followed to their end.

    Who was left out of a follow-up was written to all the same where an event tells so. Where nobody answered for what
    went before and no event told of it, their fate is as unknown as it was, whatever became of the second message.
    """
    of = batches.c
    statement = (
        select(of.id, of.status, of.origins, of.attempt, of.doubted, of.outcomes, of.settled_at, of.handed_at)
        .where(of.campaign_id == campaign_id, of.outcomes.is_not(None) | of.origins.is_not(None))
        .order_by(of.id)
    )
    found: dict[tuple[int, int], Outcome] = {}
    again: dict[tuple[int, int], tuple[bool, bool]] = {}  # whether they were put off before, and not answered for
    for row in conn.execute(statement):
        fates = {(one.batch_id, one.position): one for one in _fates(row)}
        found.update(fates)
        if row.origins is not None:
            again.update(dict.fromkeys(fates, (row.attempt > 0, row.doubted)))
    left_out = {
        where: found[where] for where, (_, doubted) in again.items() if found[where].state in _LEFT_OUT[doubted]
    }
    proofs = _Proofs.of(conn, {batch_id for batch_id, _ in left_out})
    for where, one in left_out.items():
        put_off, doubted = again[where]
        if proofs.arrived(one.state, *where, put_off=put_off):
            found[where] = replace(one, state=Batch.ACCEPTED, reason="", code="")
        elif doubted:
            state = Batch.READY if one.state == Batch.CLAIMED else one.state
            why = ":".join(word for word in (state, one.code or one.reason) if word)
            found[where] = replace(one, state=Batch.UNKNOWN, reason=why, code="")
    return list(found.values())


_LEFT_OUT: Final = {
    False: (Batch.REFUSED, Batch.RECALLED, "dropped"),
    True: (Batch.READY, Batch.CLAIMED, Batch.REFUSED, "dropped"),
}
"""By whether nobody answered for what went before: states in which the message that was to follow brought nothing."""


@dataclass(frozen=True, slots=True)
class _Proofs:
    """For people who were to go again and did not: whether what went before had arrived, as events tell."""

    told: Mapping[frozenset[Tally], evidence.Told]

    @classmethod
    def of(cls, conn: Connection, ids: Collection[int]) -> _Proofs:
        """About the people released in these batches."""
        both = (False, True)
        asked = {proof(put_off=put_off, refused=refused) for put_off in both for refused in both}
        return cls({tallies: evidence.told(conn, ids, tallies) for tallies in asked})

    def arrived(self, state: str, batch: int, position: int, *, put_off: bool) -> bool:
        return evidence.has(self.told[proof(put_off=put_off, refused=state == Batch.REFUSED)], batch, position)


def _fates(row: Row[*tuple[Any, ...]]) -> Iterable[Outcome]:
    """The people of one batch who are exceptions in the batch they were released in; later batches overrule."""
    told = row.outcomes or {}
    at = row.settled_at or row.handed_at
    origins: Sequence[Sequence[int]] | None = row.origins

    def outcome(index: int, state: str, reason: str, code: str = "") -> Outcome:
        batch_id, position = origins[index] if origins is not None else (row.id, index)
        return Outcome(batch_id, position, state, reason, at, code)

    if origins is not None:
        yield from (outcome(index, row.status, "") for index in range(len(origins)))
    for index, code, text in told.get("refused", ()):
        yield outcome(index, Batch.REFUSED, f"{code} {text}".strip(), code)
    yield from (outcome(index, Batch.UNKNOWN, "") for index in told.get("unknown", ()))
    for index, reason in told.get("dropped", ()):
        yield outcome(index, "dropped", reason)


_EVER: Final = datetime.min.replace(tzinfo=UTC)

_GIVEN_BACK: Final = {
    Batch.READY: "recalled",
    Batch.CLAIMED: "recalled",
    Batch.RECALLED: "recalled",
    Batch.REFUSED: "refused",
}
"""By batch status: why the slot of everybody who is no exception is given back. Other statuses keep their slots."""


_SURELY: Final = ~_OF.doubted | (_OF.status == Batch.RECALLED)
"""Whose people without a message surely have none. A release before took the doubted back for good: they go again."""

_OWED: Final = (
    select(_OF.id, _OF.settled_at, _OF.status)
    .where(
        _OF.settled_at.is_not(None),
        _OF.returned_at.is_(None),
        (_OF.refused > 0) | (_OF.dropped > 0) | (_OF.status == Batch.RECALLED),
        _SURELY,
    )
    .order_by(_OF.id)
    .limit(bindparam("most"))
)


def owed(conn: Connection, limit: int) -> list[tuple[int, datetime]]:
    """(batch id, settled at) of settled batches whose refused, dropped or recalled people still hold their slots.

    Those of a batch an ESP gave back are owed since ever: a campaign resumed before that would miss them.
    """
    rows = conn.execute(_OWED, {"most": limit})
    return [(row.id, _EVER if row.status == Batch.RECALLED else row.settled_at) for row in rows]


def returns(conn: Connection, ids: Collection[int]) -> tuple[set[int], pa.Table]:
    """The slots these batches give back: whose campaigns', and (batch, position, reason) in the batches of release.

    Who did not go again keeps theirs where an event has told that what went before arrived, and where nobody answered
    for it: only what surely did not leave is given back.
    """
    of = batches.c
    statement = select(*(of[name] for name in _RETURNED)).where(of.id.in_(list(ids)), _SURELY)
    campaigns: set[int] = set()
    parts = [pa.table([[], [], []], schema=_RETURNS)]
    for row in conn.execute(statement):
        campaigns.add(row.campaign_id)
        given = [part for part in _given_back(row) if part.num_rows]
        parts += given if row.origins is None else _without_arrived(conn, given, put_off=row.attempt > 0)
    return campaigns, pa.concat_tables(parts).combine_chunks()


def _without_arrived(conn: Connection, given: Sequence[pa.Table], *, put_off: bool) -> list[pa.Table]:
    proofs = _Proofs.of(conn, {batch for part in given for batch in part["batch"].to_pylist()})

    def arrived(row: Mapping[str, Any]) -> bool:
        return proofs.arrived(row["reason"], row["batch"], row["position"], put_off=put_off)

    return [part.filter(pa.array([not arrived(row) for row in part.to_pylist()])) for part in given]


_RETURNED: Final = ("campaign_id", "id", "status", "size", "origins", "attempt", "outcomes")
_RETURNS: Final = pa.schema([("batch", pa.int64()), ("position", pa.int32()), ("reason", pa.string())])


def _given_back(row: Row[*tuple[Any, ...]]) -> Iterator[pa.Table]:
    told = row.outcomes or {}
    left = np.ones(row.size, bool)
    groups: dict[str, list[int]] = {
        "refused": [entry[0] for entry in told.get("refused", ())],
        "dropped": [entry[0] for entry in told.get("dropped", ())],
        "": [*told.get("unknown", ()), *told.get("moved", ())],
    }
    for indexes in groups.values():
        left[indexes] = False
    rest = _GIVEN_BACK.get(row.status)
    where = np.array(row.origins, np.int64).reshape(-1, 2) if row.origins is not None else None
    if rest is not None:
        groups[rest] = [*groups.get(rest, ()), *np.flatnonzero(left).tolist()]
    for reason, indexes in groups.items():
        if reason:
            chosen = np.asarray(indexes, np.int64)
            batch = np.full(len(chosen), row.id) if where is None else where[chosen, 0]
            position = chosen if where is None else where[chosen, 1]
            reasons = pa.repeat(pa.scalar(reason, pa.string()), len(chosen))
            yield pa.table([pa.array(batch, pa.int64()), pa.array(position.astype(np.int32)), reasons], schema=_RETURNS)
