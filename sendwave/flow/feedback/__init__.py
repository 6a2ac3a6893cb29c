"""Feedback: store what an ESP says, then normalise, de-duplicate, count, suppress and keep the events.

A report is durable before its source may forget it (`receive`, `collect`). What it means is worked out afterwards
(`digest`) and committed at once: killed anywhere and started again, nothing is lost and nothing counts twice.

One stage in four files: `reading` turns reports into events, `counting` places, counts and commits them, `stopping`
says who must not be written to again; here they are asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Final

from sendwave import faults, log
from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import SendwaveError, StaleTransition
from sendwave.esp.base import EspAdapter, RawReport
from sendwave.flow.feedback.counting import LEASE, Digest, Digestion
from sendwave.flow.feedback.reading import read, uncollected
from sendwave.flow.feedback.reprocessing import Reprocessed, Reprocessing
from sendwave.flow.feedback.unsubscribing import Subscriber, unsubscribe, whose
from sendwave.store import inbox, leases
from sendwave.store.database import Database
from sendwave.store.inbox import Choice

__all__ = [
    "Choice",
    "Digest",
    "Reprocessed",
    "Subscriber",
    "collect",
    "digest",
    "receive",
    "receive_all",
    "reprocess",
    "unsubscribe",
    "whose",
]

LIMIT: Final = 2_000
"""Reports read at once."""

MAX_BYTES: Final = 16 << 20
"""Bodies read at once: some 50,000 events, and what they cost in memory while they are being counted."""

POLLED: Final = 500
"""Reports fetched, stored and acknowledged together."""

_LOG: Final = log.get("feedback")


def receive(db: Database, route: str, reports: Sequence[RawReport], now: datetime) -> int:
    """Make reports durable. When this returns, their source may be told to forget them."""
    with db.write() as conn:
        stored = inbox.put(conn, route, reports, now)
    faults.point("feedback_stored")
    return stored


def receive_all(db: Database, told: Sequence[tuple[str, RawReport]], now: datetime) -> int:
    """As `receive`, for (route, report) pairs of several feeds in one commit; all or none."""
    by_route: dict[str, list[RawReport]] = defaultdict(list)
    for route, report in told:
        by_route[route].append(report)
    with db.write() as conn:
        stored = sum(inbox.put(conn, route, reports, now) for route, reports in by_route.items())
    faults.point("feedback_stored")
    return stored


def collect(db: Database, adapters: Mapping[str, EspAdapter], now: datetime) -> int:
    """Fetch what waits at polled feeds and mailboxes; returns the reports stored. A feed that fails is tried again."""
    stored = 0
    for route, adapter in adapters.items():
        try:
            waiting = iter(adapter.poll(now))
            while reports := list(islice(waiting, POLLED)):
                stored += receive(db, route, reports, now)
                adapter.acknowledge(reports)
        except (SendwaveError, OSError) as fault:
            _LOG.warning("feed_unreachable", route=route, error=str(fault))
    return stored


def reprocess(
    db: Database,
    engine: Engine,
    lake: Lake,
    adapters: Mapping[str, EspAdapter],
    token_key: bytes,
    *,
    choice: Choice,
    clock: Callable[[], datetime],
) -> Reprocessed:
    """Read kept reports again, after a mapping was mended: counts become what they had been with it from the start.

    Everything or nothing; repeated, it changes nothing more. Digests wait meanwhile. Raises Busy while another run is
    at it, BadInput when reports that were understood before cannot be read any more, FullDisk.
    """
    return Reprocessing(db, engine, lake, adapters, token_key, choice, clock).run()


def digest(
    db: Database,
    engine: Engine,
    lake: Lake,
    adapters: Mapping[str, EspAdapter],
    token_key: bytes,
    *,
    now: datetime,
    limit: int = LIMIT,
) -> Digest:
    """Work out the oldest waiting reports, at most `limit` of them; call again until `reports` is 0.

    Idempotent: events reported before change nothing. A report its adapter cannot read is kept as failed with the
    reason, and the feed goes on. Raises FullDisk when the events file cannot be written; nothing is done then.
    """
    with db.read() as conn:
        reports = inbox.waiting(conn, limit, MAX_BYTES) if leases.current(conn, LEASE, now) is None else []
    if not reports:
        return Digest()
    try:
        with uncollected():
            return Digestion(db, engine, lake, now, read(reports, adapters)).run(token_key)
    except StaleTransition:
        return Digest()  # another worker took the same reports: they are counted, or will be by the next call
