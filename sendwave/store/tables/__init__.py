"""The schema of the store: names and types only, no behaviour.

Instants end in `_at` and are timezone-aware UTC; statuses are the words of `rules/lifecycle.py`.
"""

from __future__ import annotations

from sendwave.store.tables.base import METADATA, Id, Instant
from sendwave.store.tables.feedback import (
    aggregates,
    counted,
    counters,
    delays,
    event_keys,
    feeds,
    inbox,
    suppressions,
    tallies,
    verdicts,
)
from sendwave.store.tables.house import files, journal, leases, meta, policies
from sendwave.store.tables.people import alerts, exchanges, notices, runs
from sendwave.store.tables.sending import (
    arbitrations,
    batches,
    campaigns,
    exclusions,
    freezes,
    holds,
    lanes,
    paces,
    waves,
)

__all__ = [
    "METADATA",
    "Id",
    "Instant",
    "aggregates",
    "alerts",
    "arbitrations",
    "batches",
    "campaigns",
    "counted",
    "counters",
    "delays",
    "event_keys",
    "exchanges",
    "exclusions",
    "feeds",
    "files",
    "freezes",
    "holds",
    "inbox",
    "journal",
    "lanes",
    "leases",
    "meta",
    "notices",
    "paces",
    "policies",
    "runs",
    "suppressions",
    "tallies",
    "verdicts",
    "waves",
]
