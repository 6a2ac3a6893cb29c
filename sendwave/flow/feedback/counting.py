"""Counting: events placed at the recipient they name, counted once, kept in the lake, all in one transaction."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sendwave import faults
from sendwave.engine.base import Engine, Written
from sendwave.engine.datasets import Lake
from sendwave.flow.feedback import stopping
from sendwave.flow.feedback.lateness import lateness
from sendwave.flow.feedback.reading import Read
from sendwave.rules import arrivals as rules
from sendwave.rules.arrivals import NOWHERE, WORDS, Arrivals, Kinds, Numbers
from sendwave.rules.columns import BigInteger, Boolean, Integer, String
from sendwave.store import delays, feeds, files, inbox, journal, leases, suppressions, tallies
from sendwave.store.database import Connection, Database
from sendwave.store.delays import Lateness
from sendwave.store.inbox import Found
from sendwave.store.suppressions import Suppression
from sendwave.store.tallies import Bucket, Change, Marked, Marks, Target

RECENT: Final = timedelta(days=30)
"""How far back an event without our token looks for a mail to its address."""

SKEW: Final = timedelta(hours=1)
"""How much earlier than our own clock a provider's may put an event."""

LEASE: Final = "feedback"
"""Held by whoever reads kept reports again; digests wait for its end."""

_MINUTES: Final = 1 << 32
"""More minutes than there will be: (lane, tally, minute) fits in one integer, for a sort ten times cheaper."""

_ARROW: Final = {BigInteger: pa.int64(), Integer: pa.int32(), String: pa.string(), Boolean: pa.bool_()}


@dataclass(frozen=True, slots=True)
class Digest:
    """What one call made of the reports that were waiting."""

    reports: int = 0
    failed: int = 0  # reports nobody could read
    events: int = 0
    counted: int = 0  # events that were news about a recipient
    unmatched: int = 0  # events that name none of our messages, forged ones included
    suppressed: int = 0  # rows given to the suppression list
    campaigns: frozenset[int] = frozenset()  # ids of those with news


@dataclass(frozen=True, slots=True)
class Result:
    """What is about to be committed."""

    changes: Sequence[Change]
    buckets: Mapping[Bucket, int]
    keys: Numbers
    located: Arrivals
    lost: Arrivals
    stopped: Mapping[str, Sequence[Suppression]]  # by route
    written: Written | None
    late: Mapping[Lateness, int]

    @property
    def counted(self) -> int:
        return sum(change.n - (change.was or 0) for change in self.changes)


class Ledger:
    """What was counted before: here by what the store says."""

    def seen(self, conn: Connection, keys: Numbers) -> Numbers:
        """Those of these event keys that were remembered."""
        return tallies.seen_keys(conn, keys)

    def mark(self, conn: Connection, marks: Marks, sizes: Mapping[int, int]) -> Marked:
        """What these events change."""
        return tallies.mark(conn, marks, sizes)


@dataclass(frozen=True)
class Digestion:
    """One digest: everything is worked out first, against what the store says, then committed if it still says so."""

    db: Database
    engine: Engine
    lake: Lake
    now: datetime
    read: Read
    ledger: Ledger = field(default_factory=Ledger)

    def run(self, token_key: bytes) -> Digest:
        """Count, write the events file, commit; a file that is not committed is removed."""
        result = self.work_out(token_key)
        try:
            self.lake.share(result.written)
            faults.point("feedback_file_written")
            suppressed = self._commit(result)
        except BaseException as fault:
            self.lake.withdraw(fault, [result.written])
            raise
        read = self.read
        return Digest(
            *(len(read.reports), len(read.failures), len(read.events), result.counted, len(result.lost), suppressed),
            frozenset(bucket.campaign_id for bucket in result.buckets),
        )

    def work_out(self, token_key: bytes) -> Result:
        """What these reports change; the events file is written, nothing is committed."""
        events = self.read.events
        located, kinds = rules.locate(events, self.read.received(), token_key)
        with self.db.read() as conn:
            rows, keys = rules.told_keys(located, events, lambda event: self.read.report(event).route)
            fresh = np.ones(len(located), dtype=bool)
            fresh[rows] = unheard = rules.first_of(keys, self.ledger.seen(conn, keys))
            acts = rules.act_keys(located, events)[fresh]
            news = self._recognise(conn, located.only(fresh))
            targets = tallies.targets(conn, np.unique(news.batch[news.batch >= 0]).tolist())
            sizes = {batch: target.size for batch, target in targets.items()}
            inside = rules.inside(news, sizes)
            placed, lost = news.only(inside), news.only(~inside)
            told = Marks(placed.batch, placed.position, placed.tally, WORDS, acts[inside])
            new, changes, unseen, kept = self.ledger.mark(conn, told, sizes)
            stops = stopping.stops(conn, self.read, placed, targets)
        handed = of_target(placed.batch, targets, lambda target: rules.epoch(target.handed_at))
        placed = replace(placed, at=rules.settle_times(placed, handed))
        keep = new | (rules.IS_REPEATED[placed.tally] & unseen)
        arrived = self._arrived(placed.only(keep), new[keep], kept[keep], kinds, targets)
        hashes, written = self._write(arrived, [row for row, _ in stops], placed, targets)
        stopped = stopping.stopped(self.read, placed, stops, hashes, lost)
        fresh_news = placed.only(new)
        late = lateness(fresh_news, handed[new], targets)
        buckets = _buckets(fresh_news, targets)
        return Result(changes, buckets, keys[unheard], located, lost, stopped, written, late)

    def _recognise(self, conn: Connection, news: Arrivals) -> Arrivals:
        """Events without a token, placed at the latest mail to their address by the same route, where there is one."""
        by_route: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
        for row in np.flatnonzero(news.batch == NOWHERE).tolist():
            index = int(news.event[row])
            address = rules.address_hash(self.read.events[index])
            if address is not None:
                until = min(int(news.at[row]) + int(SKEW.total_seconds()), int(news.received[row]))
                by_route[self.read.report(index).route].append((row, address, until))
        batch, position = news.batch.copy(), news.position.copy()
        since = min(report.received_at for report in self.read.reports) - RECENT
        for route, sought in by_route.items():
            paths = tallies.sends_files(conn, route, since)
            if paths:
                found = self._latest(paths, sought)
                batch[found["row"]], position[found["row"]] = found["batch"], found["position"]
        return replace(news, batch=batch, position=position)

    def _existing(self, paths: Sequence[str]) -> list[Path]:
        """The files that are still there: events of people whose file is gone still count."""
        return [path for name in paths if self.lake.has(path := self.lake.root / name)]

    def _latest(self, paths: Sequence[str], sought: Sequence[tuple[int, str, int]]) -> dict[str, Numbers]:
        asked = pa.table(dict(zip(rules.SOUGHT.c.keys(), zip(*sought, strict=True), strict=True)))
        with self.engine.session({"sends": self._existing(paths)}, {"sought": asked}) as session:
            found = session.read(rules.latest_statement())
        return {name: found[name].to_numpy().astype(np.int64) for name in found.column_names}

    def _write(
        self, arrived: pa.Table, stops: Sequence[int], placed: Arrivals, targets: Mapping[int, Target]
    ) -> tuple[dict[int, str], Written | None]:
        """(addresses of the stopped rows of `placed`, the file of the kept events): both need the wave's people."""
        if not len(arrived) and not stops:
            return {}, None
        batches = {*np.unique(arrived["batch"].to_numpy()).tolist(), *placed.batch[stops].tolist()}
        paths = sorted({path for batch in batches if (path := targets[batch].sends) is not None})
        inputs = {"arrived": arrived, "stopped": _places(placed, stops)}
        with self.engine.session({"sends": self._existing(paths)}, inputs) as session:
            found = session.read(rules.addresses_statement()) if stops else None
            written = None
            if len(arrived):
                written = session.write(rules.events_statement(), self.lake.new("events", f"{self.now:%Y%m%dT%H%M%S}"))
        hashes = (
            {} if found is None else dict(zip(*(found[name].to_pylist() for name in found.column_names), strict=True))
        )
        return hashes, written

    def _arrived(
        self, kept: Arrivals, first: NDArray[np.bool_], acts: Numbers, kinds: Kinds, targets: Mapping[int, Target]
    ) -> pa.Table:
        """The kept events as columns of the lake, the contact apart."""
        events = [self.read.events[index] for index in kept.event.tolist()]
        batches, batch = np.unique(kept.batch, return_inverse=True)
        lanes = [targets[one] for one in batches.tolist()]
        types, permanences, causes, machines = zip(*kinds, strict=True) if kinds else ((), (), (), ())
        columns = {
            "campaign": _taken([lane.campaign_id for lane in lanes], batch),
            "wave": _taken([lane.wave for lane in lanes], batch),
            "batch": kept.batch,
            "position": kept.position,
            "provider": _taken([lane.provider for lane in lanes], batch),
            "tally": _taken(WORDS, kept.tally),
            "type": _taken(types, kept.kind),
            "permanence": _taken(permanences, kept.kind),
            "cause": _taken(causes, kept.kind),
            "event_ts": kept.at,
            "received_ts": kept.received,
            "machine": _taken(machines, kept.kind, pa.bool_()),
            "enhanced_code": [event.enhanced_code for event in events],
            "url": [event.url for event in events],
            "description": [event.description for event in events],
            "report": self.read.ids()[kept.event],
            "first": first,
            "act": acts,
        }
        kinds_of = {c.name: _ARROW[type(c.type)] for c in rules.ARRIVED.c}
        return pa.table({name: _column(columns[name], kind) for name, kind in kinds_of.items()})

    def _commit(self, result: Result) -> int:
        """Everything at once. Raises StaleTransition when another worker was first; nothing is done then."""
        with self.db.write() as conn:
            leases.refuse(conn, LEASE, self.now)
            inbox.done(conn, found_in(self.read, result), self.now)
            inbox.failed(conn, self.read.failures, self.now)
            for report_id, why in self.read.failures.items():
                told = {"report": report_id}
                journal.write(conn, at=self.now, actor="feedback", action="feedback.failed", reason=why, evidence=told)
            tallies.write(conn, result.changes)
            tallies.count(conn, result.buckets)
            delays.count(conn, result.late)
            tallies.remember_keys(conn, result.keys, self.now)
            stopped = sum(
                suppressions.add(conn, rows, source=route, now=self.now)
                for route, rows in sorted(result.stopped.items())
            )
            self._move_feeds(conn, result)
            if result.written is not None:
                written, path = result.written, self.lake.relative(result.written.path)
                files.register(conn, dataset="events", path=path, rows=written.rows, size=written.bytes, now=self.now)
            faults.point("feedback_counted")
        return stopped

    def _move_feeds(self, conn: Connection, result: Result) -> None:
        unmatched = Counter(self.read.report(index).route for index in result.lost.event.tolist())
        reports = self.read.reports
        latest: dict[str, int] = {}
        owners, starts = np.unique(self.read.owner, return_index=True)
        newest = np.maximum.reduceat(result.located.at, starts) if len(starts) else starts
        for place, at in zip(owners.tolist(), newest.tolist(), strict=True):
            latest[reports[place].route] = max(at, latest.get(reports[place].route, at))
        words = unknown_words(self.read, result)
        for route in sorted({report.route for report in reports}):
            received = max(report.received_at for report in reports if report.route == route)
            last = None if route not in latest else datetime.fromtimestamp(latest[route], UTC)
            feeds.update(
                conn,
                route,
                last_event_at=None if last is None else min(last, received),
                last_received_at=received,
                unmatched=unmatched[route],
                unknown_words=words.get(route),
            )


def _taken(words: Sequence[object], codes: Numbers, kind: pa.DataType | None = None) -> pa.Array:
    """The words at these places."""
    plain = [str(word.value) if isinstance(word, Enum) else word for word in words]
    return pa.array(plain, kind).take(pa.array(codes))


def _column(values: object, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def of_target(batch: Numbers, targets: Mapping[int, Target], what: Callable[[Target], int]) -> Numbers:
    """A number of each event's batch."""
    ids, place = np.unique(batch, return_inverse=True)
    return np.array([what(targets[one]) for one in ids.tolist()], dtype=np.int64)[place]


def found_in(read: Read, result: Result) -> dict[int, Found]:
    """What was found in each report that could be read."""
    unknown = _per_report(read, result.located.event[result.located.tally == rules.UNKNOWN])
    lost = _per_report(read, result.lost.event)
    places = {report.id: place for place, report in enumerate(read.reports)}
    return {i: Found(n, int(unknown[places[i]]), int(lost[places[i]])) for i, n in read.found.items()}


def unknown_words(read: Read, result: Result) -> dict[str, Counter[str]]:
    """What feeds said in words nobody knows, by route."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for index in result.located.event[result.located.tally == rules.UNKNOWN].tolist():
        found[read.report(index).route][read.events[index].description[:60] or "unknown"] += 1
    return found


def _per_report(read: Read, events: Numbers) -> Numbers:
    counted: Numbers = np.bincount(read.owner[events], minlength=len(read.reports))
    return counted


def _buckets(new: Arrivals, targets: Mapping[int, Target]) -> dict[Bucket, int]:
    """Newly counted events per lane of a wave, tally and minute."""
    lanes: dict[tuple[int, int, str], int] = {}
    lane = of_target(
        new.batch,
        targets,
        lambda target: lanes.setdefault((target.campaign_id, target.wave, target.provider), len(lanes)),
    )
    groups, counts = np.unique((lane * len(WORDS) + new.tally) * _MINUTES + new.at // 60, return_counts=True)
    pairs = (groups // _MINUTES, groups % _MINUTES)
    names = list(lanes)
    found = {}
    for kind, minute, n in zip(pairs[0].tolist(), pairs[1].tolist(), counts.tolist(), strict=True):
        campaign, wave, provider = names[kind // len(WORDS)]
        tally, at = WORDS[kind % len(WORDS)].value, datetime.fromtimestamp(minute * 60, UTC)
        found[Bucket(campaign, wave, provider, tally, at)] = n
    return found


def _places(placed: Arrivals, rows: Sequence[int]) -> pa.Table:
    chosen = np.array(rows, dtype=np.int64)
    columns = {"row": chosen, "batch": placed.batch[chosen], "position": placed.position[chosen]}
    return pa.table({c.name: pa.array(columns[c.name], _ARROW[type(c.type)]) for c in rules.STOPPED.c})
