"""What the whole store shares: its own facts, the lake's registry, policies, leases, the journal."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from sendwave.store.tables.base import METADATA, Id, Instant

meta = Table(
    "meta",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

files = Table(  # the lake's registry: a Parquet file that is not listed here does not exist
    "files",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("dataset", String(32), nullable=False),
    Column("path", Text, nullable=False, unique=True),  # relative to the lake's root
    Column("part", String(128), nullable=False, default=""),  # campaign id, day, … by dataset
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("details", JSON, nullable=False, default=dict),
    Column("registered_at", Instant, nullable=False),
    Column("retired_at", Instant),  # replaced by a newer file; kept until the janitor removes it
    Column("removed_at", Instant),  # deleted from disk
    Index("ix_files_dataset_part", "dataset", "part"),
)

policies = Table(
    "policies",
    METADATA,
    Column("version", String(64), primary_key=True),
    Column("document", JSON, nullable=False),
    Column("loaded_at", Instant, nullable=False),
)

leases = Table(
    "leases",
    METADATA,
    Column("name", String(160), primary_key=True),
    Column("holder", String(120), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("until", Instant, nullable=False),
)

journal = Table(
    "journal",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("actor", String(120), nullable=False),
    Column("action", String(64), nullable=False),
    Column("campaign_id", Id, ForeignKey("campaigns.id")),
    Column("wave", Integer),
    Column("provider", String(64)),
    Column("reason", Text, nullable=False, default=""),
    Column("evidence", JSON, nullable=False, default=dict),
    Column("policy_version", String(64)),
    Index("ix_journal_campaign_id", "campaign_id", "id"),
)
