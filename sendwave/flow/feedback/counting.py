"""Counting: events placed at the recipient they name, counted once, kept in the lake, all in one transaction."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from sendwave.flow.feedback.reading import Read
from sendwave.rules import arrivals as rules
from sendwave.rules.arrivals import NOWHERE, WORDS, Arrivals, Kinds, Numbers
from sendwave.rules.columns import BigInteger, Boolean, Integer, String
from sendwave.store import feeds, files, inbox, journal, suppressions, tallies
from sendwave.store.database import Connection, Database
from sendwave.store.suppressions import Suppression
from sendwave.store.tallies import Bucket, Change, Marks, Target

RECENT: Final = timedelta(days=30)
"""How far back an event without our token looks for a mail to its address."""

SKEW: Final = timedelta(hours=1)
"""How much earlier than our own clock a provider's may put an event."""

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


@dataclass(frozen=True, slots=True)
class _Result:
    """What is about to be committed."""

    changes: Sequence[Change]
    buckets: Mapping[Bucket, int]
    keys: Numbers
    located: Arrivals
    lost: Arrivals
    stopped: Mapping[str, Sequence[Suppression]]  # by route
    written: Written | None

    @property
    def counted(self) -> int:
        return sum(change.n - (change.was or 0) for change in self.changes)


@dataclass(frozen=True)
class Digestion:
    """One digest: everything is worked out first, against what the store says, then committed if it still says so."""

    db: Database
    engine: Engine
    lake: Lake
    now: datetime
    read: Read

    def run(self, token_key: bytes) -> Digest:
        """Count, write the events file, commit; a file that is not committed is removed."""
        result = self._work_out(*rules.locate(self.read.events, self.read.received(), token_key))
        try:
            faults.point("feedback_file_written")
            suppressed = self._commit(result)
        except BaseException:
            if result.written is not None:
                result.written.path.unlink(missing_ok=True)  # not registered, hence no part of the truth
            raise
        read = self.read
        return Digest(
            len(read.reports), len(read.failures), len(read.events), result.counted, len(result.lost), suppressed
        )

    def _work_out(self, located: Arrivals, kinds: Kinds) -> _Result:
        events = self.read.events
        with self.db.read() as conn:
            rows, keys = rules.told_keys(located, events, lambda event: self.read.report(event).route)
            fresh = np.ones(len(located), dtype=bool)
            fresh[rows] = unheard = rules.first_of(keys, tallies.seen_keys(conn, keys))
            acts = rules.act_keys(located, events)[fresh]
            news = self._recognise(conn, located.only(fresh))
            targets = tallies.targets(conn, np.unique(news.batch[news.batch >= 0]).tolist())
            sizes = {batch: target.size for batch, target in targets.items()}
            inside = rules.inside(news, sizes)
            placed, lost = news.only(inside), news.only(~inside)
            told = Marks(placed.batch, placed.position, placed.tally, WORDS, acts[inside])
            new, changes, unseen = tallies.mark(conn, told, sizes)
            stops = stopping.stops(conn, self.read, placed, targets)
        handed = _of_target(placed.batch, targets, lambda target: rules.epoch(target.handed_at))
        placed = replace(placed, at=rules.settle_times(placed, handed))
        keep = new | (rules.IS_REPEATED[placed.tally] & unseen)
        arrived = self._arrived(placed.only(keep), new[keep], kinds, targets)
        hashes, written = self._write(arrived, [row for row, _ in stops], placed, targets)
        stopped = stopping.stopped(self.read, placed, stops, hashes, lost)
        return _Result(changes, _buckets(placed.only(new), targets), keys[unheard], located, lost, stopped, written)

    def _recognise(self, conn: Connection, news: Arrivals) -> Arrivals:
        """Events without a token, placed at the latest mail to their address by the same route, where there is one."""
        by_route: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
        for row in np.flatnonzero(news.batch == NOWHERE).tolist():
            index = int(news.event[row])
            address = rules.address_hash(self.read.events[index])
            if address is not None:
                until = int(news.at[row]) + int(SKEW.total_seconds())
                by_route[self.read.report(index).route].append((row, address, until))
        batch, position = news.batch.copy(), news.position.copy()
        for route, sought in by_route.items():
            paths = tallies.sends_files(conn, route, self.now - RECENT)
            if paths:
                found = self._latest(paths, sought)
                batch[found["row"]], position[found["row"]] = found["batch"], found["position"]
        return replace(news, batch=batch, position=position)

    def _existing(self, paths: Sequence[str]) -> list[Path]:
        """The files that are still there: events of people whose file is gone still count."""
        return [path for name in paths if (path := self.lake.root / name).exists()]

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
        self, kept: Arrivals, first: NDArray[np.bool_], kinds: Kinds, targets: Mapping[int, Target]
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
        }
        kinds_of = {c.name: _ARROW[type(c.type)] for c in rules.ARRIVED.c}
        return pa.table({name: _column(columns[name], kind) for name, kind in kinds_of.items()})

    def _commit(self, result: _Result) -> int:
        """Everything at once. Raises StaleTransition when another worker was first; nothing is done then."""
        with self.db.write() as conn:
            inbox.done(conn, self.read.found, self.now)
            inbox.failed(conn, self.read.failures, self.now)
            for report_id, why in self.read.failures.items():
                told = {"report": report_id}
                journal.write(conn, at=self.now, actor="feedback", action="feedback.failed", reason=why, evidence=told)
            tallies.write(conn, result.changes)
            tallies.count(conn, result.buckets)
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

    def _move_feeds(self, conn: Connection, result: _Result) -> None:
        unmatched = Counter(self.read.report(index).route for index in result.lost.event.tolist())
        reports = self.read.reports
        latest: dict[str, int] = {}
        owners, starts = np.unique(self.read.owner, return_index=True)
        newest = np.maximum.reduceat(result.located.at, starts) if len(starts) else starts
        for place, at in zip(owners.tolist(), newest.tolist(), strict=True):
            latest[reports[place].route] = max(at, latest.get(reports[place].route, at))
        for route in sorted({report.route for report in reports}):
            received = max(report.received_at for report in reports if report.route == route)
            last = None if route not in latest else datetime.fromtimestamp(latest[route], UTC)
            feeds.update(
                conn,
                route,
                last_event_at=None if last is None else min(last, received),
                last_received_at=received,
                unmatched=unmatched[route],
                unknown_words=self._unknown_words(route, result.located),
            )

    def _unknown_words(self, route: str, located: Arrivals) -> Counter[str]:
        found: Counter[str] = Counter()
        for index in np.flatnonzero(located.tally == rules.UNKNOWN).tolist():
            if self.read.report(index).route == route:
                found[self.read.events[index].description[:60] or "unknown"] += 1
        return found


def _taken(words: Sequence[object], codes: Numbers, kind: pa.DataType | None = None) -> pa.Array:
    """The words at these places."""
    plain = [str(word.value) if isinstance(word, Enum) else word for word in words]
    return pa.array(plain, kind).take(pa.array(codes))


def _column(values: object, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def _of_target(batch: Numbers, targets: Mapping[int, Target], what: Callable[[Target], int]) -> Numbers:
    """A number of each event's batch."""
    ids, place = np.unique(batch, return_inverse=True)
    return np.array([what(targets[one]) for one in ids.tolist()], dtype=np.int64)[place]


def _buckets(new: Arrivals, targets: Mapping[int, Target]) -> dict[Bucket, int]:
    """Newly counted events per lane of a wave, tally and minute."""
    lanes: dict[tuple[int, int, str], int] = {}
    lane = _of_target(
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
