"""Reading kept reports again, after the words of an ESP were understood better: counts as if they always had been.

What these reports had counted is taken back, they are read afresh in their order, and the difference is committed at
once. Meanwhile new reports wait in the inbox. Suppressions are only added: nobody is written to again because a word
was read otherwise.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from sendwave.engine.base import Engine, Session, Written
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput
from sendwave.esp.base import EspAdapter
from sendwave.flow.feedback.counting import LEASE, Digestion, Ledger, Result, found_in, of_target, unknown_words
from sendwave.flow.feedback.lateness import lateness
from sendwave.flow.feedback.reading import Read, read
from sendwave.rules import arrivals as rules
from sendwave.rules.arrivals import WORDS, Arrivals, Numbers
from sendwave.store import delays, feeds, files, inbox, journal, leases, suppressions, tallies
from sendwave.store.database import Connection, Database
from sendwave.store.delays import Lateness
from sendwave.store.files import LakeFile
from sendwave.store.inbox import Choice, Found
from sendwave.store.tallies import Bucket, Change, Marked, Marks, Target

LIMIT: Final = 2_000
MAX_BYTES: Final = 16 << 20
"""Reports, and bytes of their bodies, read at once."""

LEASE_LIFE: Final = timedelta(minutes=2)
"""Renewed at every portion; after a crash, digests go on at its end."""

_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Reprocessed:
    """What reading again made of it."""

    reports: int = 0
    failed: int = 0  # reports nobody can read still
    events: int = 0
    changed: int = 0  # bits of recipients that were added or taken back
    unknown: int = 0  # events in words nobody knows still
    suppressed: int = 0  # rows given to the suppression list


@dataclass
class Redrawn(Ledger):
    """Bitmaps as they become: those of the store without what is taken back, and what was found since."""

    drawn: dict[tuple[int, str], Change] = field(default_factory=dict)
    keys: Numbers = field(default_factory=lambda: np.array([], dtype=np.int64))

    def seen(self, conn: Connection, keys: Numbers) -> Numbers:  # noqa: ARG002  # keys of the store may be our own
        found, self.keys = self.keys, np.union1d(self.keys, keys)
        return found

    def mark(self, conn: Connection, marks: Marks, sizes: Mapping[int, int]) -> Marked:
        marked = tallies.mark(conn, marks, sizes, self.drawn)
        for change in marked.changes:
            known = self.drawn.get(change[:2])
            self.drawn[change[:2]] = change if known is None else change._replace(was=known.was, knew=known.knew)
        return marked


@dataclass
class Reprocessing:
    """One run over the reports chosen."""

    db: Database
    engine: Engine
    lake: Lake
    adapters: Mapping[str, EspAdapter]
    token_key: bytes
    choice: Choice
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self.ledger = Redrawn()
        self.minutes: Counter[Bucket] = Counter()
        self.late: Counter[Lateness] = Counter()
        self.portions: list[tuple[Read, Result]] = []
        self.written: list[Written] = []
        self.words: dict[str, Counter[str]] = {}
        self.olds: dict[tuple[int, str], Change] = {}

    def run(self) -> Reprocessed:
        """Everything or nothing. Raises Busy while another run is at it, BadInput when what could be read before cannot
        be any more.
        """
        with self._alone() as lease:
            ids, before, listed = self._chosen()
            if not ids:
                return Reprocessed()
            try:
                with self.engine.session({"events": self._paths(listed)}, {"chosen": pa.table({"report": ids})}) as had:
                    self._take_back(had)
                    self._read_again(before, lease)
                    self._keep_others(had, listed)
                self.lake.share(*self.written)
                return self._commit(before, listed, lease)
            except BaseException as fault:
                self.lake.withdraw(fault, self.written)
                raise

    @contextlib.contextmanager
    def _alone(self) -> Iterator[leases.Lease]:
        with self.db.write() as conn:
            lease = leases.acquire(conn, LEASE, f"reprocess:{id(self):x}", now=self.clock(), life=LEASE_LIFE)
        try:
            yield lease
        finally:
            with self.db.write() as conn:
                leases.release(conn, lease, now=self.clock())

    def _chosen(self) -> tuple[list[int], dict[int, Found], list[LakeFile]]:
        """(the reports, what was found in them before, the files their events may be in)."""
        with self.db.read() as conn:
            ids = inbox.kept_ids(conn, self.choice)
            first = inbox.kept(conn, self.choice, after=0, limit=1, max_bytes=0)
            listed = files.live(conn, ["events"])["events"]
            since = first[0].received_at if first else None
            return ids, inbox.understood(conn, ids), [f for f in listed if since is None or f.registered_at >= since]

    def _paths(self, listed: Sequence[LakeFile]) -> list[Path]:
        return [path for file in listed if self.lake.has(path := self.lake.path(file))]

    def _take_back(self, had: Session) -> None:
        """Undo what these reports had counted: bits, acts and minutes."""
        rows = had.read(rules.told_by_statement())
        if not len(rows):
            return
        column = {name: rows[name].to_numpy(zero_copy_only=False) for name in ("batch", "position", "first", "act")}
        tally = np.array([WORDS.index(word) for word in rows["tally"].to_pylist()], dtype=np.int64)
        with self.db.read() as conn:
            ids = np.unique(column["batch"]).tolist()
            stored, targets = tallies.stored_maps(conn, ids), tallies.targets(conn, ids)
        groups, group = np.unique(column["batch"] * len(WORDS) + tally, return_inverse=True)
        order = np.argsort(group, kind="stable")
        for which, mine in zip(
            groups.tolist(), np.split(order, np.searchsorted(group[order], range(1, len(groups)))), strict=True
        ):
            pair = which // len(WORDS), WORDS[which % len(WORDS)].value
            if pair in stored:
                counted = mine[column["first"][mine].astype(bool)]
                self.ledger.drawn[pair] = tallies.without(
                    stored[pair], column["position"][counted], column["act"][mine]
                )
        self._take_minutes(rows)
        self._take_lateness(rows, tally, targets)

    def _take_lateness(self, rows: pa.Table, tally: Numbers, targets: Mapping[int, Target]) -> None:
        column = {name: rows[name].to_numpy() for name in ("batch", "position", "event_ts", "received_ts")}
        batch = column["batch"]
        told = Arrivals(
            tally * 0, batch, column["position"], tally, tally * 0, column["event_ts"], column["received_ts"]
        )
        counted = told.only(rows["first"].to_numpy(zero_copy_only=False).astype(bool))
        handed = of_target(counted.batch, targets, lambda target: rules.epoch(target.handed_at))
        self.late.subtract(lateness(counted, handed, targets))

    def _take_minutes(self, rows: pa.Table) -> None:
        counted = rows.filter(rows["first"])
        minute = (counted["event_ts"].to_numpy() // _MINUTE * _MINUTE).tolist()
        lanes = [counted[name].to_pylist() for name in ("campaign", "wave", "provider", "tally")]
        for campaign, wave, provider, tally, at in zip(*lanes, minute, strict=True):
            self.minutes[Bucket(campaign, wave, provider, tally, datetime.fromtimestamp(at, UTC))] -= 1

    def _read_again(self, before: Mapping[int, Found], lease: leases.Lease) -> None:
        """Every report chosen, in the order they came."""
        after = 0
        while True:
            with self.db.read() as conn:
                reports = inbox.kept(conn, self.choice, after=after, limit=LIMIT, max_bytes=MAX_BYTES)
            if not reports:
                return
            told = read(reports, self.adapters)
            if lost := {i: why for i, why in told.failures.items() if i in before}:
                raise BadInput(
                    f"{len(lost)} reports that were understood before cannot be read any more; nothing was changed. "
                    f"The first is report {min(lost)}: {lost[min(lost)]}"
                )
            digestion = Digestion(self.db, self.engine, self.lake, self.clock(), told, self.ledger)
            result = digestion.work_out(self.token_key)
            self.written += [result.written] if result.written is not None else []
            self.minutes.update(result.buckets)
            self.late.update(result.late)
            for route, words in unknown_words(told, result).items():
                self.words.setdefault(route, Counter()).update(words)
            self.portions.append((_light(told), result))
            after = reports[-1].id
            with self.db.write() as conn:
                leases.renew(conn, lease, now=self.clock(), life=LEASE_LIFE)

    def _keep_others(self, had: Session, listed: Sequence[LakeFile]) -> None:
        """The events of all other reports in the files that are about to be replaced."""
        if listed:
            path = self.lake.new("events", f"{self.clock():%Y%m%dT%H%M%S}-kept")
            self.written.append(had.write(rules.told_by_others_statement(), path))

    def _commit(self, before: Mapping[int, Found], listed: Sequence[LakeFile], lease: leases.Lease) -> Reprocessed:
        now = self.clock()
        found = {i: one for told, result in self.portions for i, one in found_in(told, result).items()}
        failures = {i: why for told, _ in self.portions for i, why in told.failures.items()}
        with self.db.write() as conn:
            leases.fence(conn, lease)
            self._count(conn, now)
            self._register(conn, listed, now)
            inbox.done(conn, found, now, again=True)
            inbox.failed(conn, failures, now, again=True)
            suppressed = sum(
                suppressions.add(conn, rows, source=route, now=now)
                for _, result in self.portions
                for route, rows in sorted(result.stopped.items())
            )
            self._correct_feeds(conn, before, found)
            done = Reprocessed(
                reports=len(found) + len(failures),
                failed=len(failures),
                events=sum(one.events for one in found.values()),
                changed=sum(_differs(change, self.olds.get(pair)) for pair, change in self.ledger.drawn.items()),
                unknown=sum(one.unknown for one in found.values()),
                suppressed=suppressed,
            )
            told: dict[str, Any] = {"reports": done.reports, "events": done.events, "changed": done.changed}
            journal.write(conn, at=now, actor="feedback", action="feedback.reprocessed", reason="", evidence=told)
        return done

    def _count(self, conn: Connection, now: datetime) -> None:
        drawn = self.ledger.drawn
        self.olds = tallies.stored_maps(conn, {batch for batch, _ in drawn})
        tallies.write(conn, drawn.values())
        tallies.count(conn, {bucket: n for bucket, n in self.minutes.items() if n})
        delays.count(conn, {late: n for late, n in self.late.items() if n})
        tallies.drop_empty(conn, {batch for batch, _ in drawn})
        keys = self.ledger.keys
        tallies.remember_keys(conn, np.setdiff1d(keys, tallies.seen_keys(conn, keys)), now)

    def _register(self, conn: Connection, listed: Sequence[LakeFile], now: datetime) -> None:
        files.retire(conn, [file.id for file in listed], now)
        for file in self.written:
            path = self.lake.relative(file.path)
            files.register(conn, dataset="events", path=path, rows=file.rows, size=file.bytes, now=now)

    def _correct_feeds(self, conn: Connection, before: Mapping[int, Found], found: Mapping[int, Found]) -> None:
        """Words that are known by now leave the list, where every report that had one was read again."""
        routes = {report.id: report.route for told, _ in self.portions for report in told.reports}
        shift: Counter[str] = Counter()
        for report_id, route in routes.items():
            known, new = before.get(report_id, Found(0)), found.get(report_id, Found(0))
            shift[route] += new.unmatched - known.unmatched
        for route in sorted(set(routes.values())):
            words = self.words.get(route, Counter()) if self.choice.since is None else None
            feeds.correct(conn, route, unmatched=shift[route], unknown_words=words)


def _light(told: Read) -> Read:
    """What is needed of a portion until the commit: not its bodies and events."""
    reports = [type(one)(one.id, one.route, {}, b"", one.received_at) for one in told.reports]
    return Read(reports, [], told.owner, told.failures, told.found)


def _differs(change: Change, old: Change | None) -> int:
    bits = np.frombuffer(change.bits, dtype=np.uint8)
    known = np.frombuffer(old.bits, dtype=np.uint8) if old is not None else np.zeros_like(bits)
    return int(np.unpackbits(bits ^ known).sum())
