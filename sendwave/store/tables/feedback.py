"""What ESPs told us, counted; who must not be written to; what the judge made of it."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from sendwave.store.tables.base import METADATA, Id, Instant

inbox = Table(  # what an ESP told us, raw, durable before it is acknowledged
    "inbox",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("source", String(64), nullable=False),  # the route whose adapter understands it
    Column("headers", JSON, nullable=False, default=dict),
    Column("body", LargeBinary, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("status", String(16), nullable=False),  # new | done | failed
    Column("events", Integer, nullable=False, default=0),
    Column("unknown", Integer, nullable=False, default=0),  # events in words nobody knows
    Column("unmatched", Integer, nullable=False, default=0),  # events that name none of our messages
    Column("error", Text),
    Column("processed_at", Instant),
    Index("ix_inbox_status", "status", "id"),
    sqlite_autoincrement=True,  # an id is never given twice: kept events name the report they came with
)

event_keys = Table(  # events without one of our tokens are known by their own id
    "event_keys",
    METADATA,
    Column("key", Id, primary_key=True, autoincrement=False),  # hash of 64 bits
    Column("seen_at", Instant, nullable=False),
)

feeds = Table(  # what the judge needs to know whether feedback still flows
    "feeds",
    METADATA,
    Column("route", String(64), primary_key=True),
    Column("last_event_at", Instant),
    Column("last_received_at", Instant),
    Column("unknown_words", JSON, nullable=False, default=dict),
    Column("unmatched", BigInteger, nullable=False, default=0),
)

tallies = Table(  # one bit per recipient: de-duplication and counter in one
    "tallies",
    METADATA,
    Column("batch_id", Id, ForeignKey("batches.id"), primary_key=True),
    Column("tally", String(24), primary_key=True),  # hard_bounce, complaint, … of rules/signals.py
    Column("bits", LargeBinary, nullable=False),
    Column("n", Integer, nullable=False),
    Column("acts", LargeBinary),  # opens and clicks: 64 bits of hash for each that was told, to know it again
)

counters = Table(  # distinct events by minute of their own time, for charts and delay curves
    "counters",
    METADATA,
    Column("campaign_id", Id, ForeignKey("campaigns.id"), primary_key=True),
    Column("wave", Integer, primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("tally", String(24), primary_key=True),
    Column("bucket_at", Instant, primary_key=True),
    Column("n", BigInteger, nullable=False),
)

counted = Table(  # which batches each write of tallies changed: the judge reads these again, and no others
    "counted",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("batches", LargeBinary, nullable=False),  # int64 ids, end to end
)

aggregates = Table(  # what a provider tells per day and not per message: complaints of Gmail, of Signal Spam
    "aggregates",
    METADATA,
    Column("source", String(64), primary_key=True),  # who says so
    Column("signal", String(24), primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("sender", String(255), primary_key=True),  # domain of the From header it is about; '' for all
    Column("route", String(64), primary_key=True),  # route whose IP address it is about; '' for all
    Column("ip", String(45), primary_key=True),  # '' where the figure is of no single address
    Column("day", Date, primary_key=True),  # on which the mail was sent, UTC
    Column("n", BigInteger),  # events of that day; NULL where only a rate is told
    Column("rate", Float),  # events per message, 0 to 1; NULL where a count is told
    Column("imported_at", Instant, nullable=False),
    Column("by", String(120), nullable=False),
    Index("ix_aggregates_provider", "provider", "day"),
)

delays = Table(  # how late distinct events came after their hand-over: what delay curves are learnt from
    "delays",
    METADATA,
    Column("campaign_id", Id, ForeignKey("campaigns.id"), primary_key=True),
    Column("wave", Integer, primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("tally", String(24), primary_key=True),
    Column("bin", Integer, primary_key=True),  # of rules/maturity.py
    Column("n", BigInteger, nullable=False),
)

suppressions = Table(
    "suppressions",
    METADATA,
    Column("address_hash", String(32), primary_key=True),
    Column("channel", String(16), primary_key=True),
    Column("scope", String(64), primary_key=True),  # a purpose, or 'all'
    Column("reason", String(32), nullable=False),
    Column("since_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("source", String(120), nullable=False),
    Index("ix_suppressions_recorded_at", "recorded_at"),
)

verdicts = Table(  # the latest of each cell; every change of one is also a journal row
    "verdicts",
    METADATA,
    Column("campaign_id", Id, ForeignKey("campaigns.id"), primary_key=True),
    Column("signal", String(24), primary_key=True),
    Column("wave", Integer, primary_key=True),  # 0: the whole campaign
    Column("provider", String(64), primary_key=True),  # '': all lanes
    Column("verdict", String(8), nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("at", Instant, nullable=False),
)
