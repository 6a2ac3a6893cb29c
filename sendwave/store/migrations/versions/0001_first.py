"""The first schema: frozen. A change of the tables is a revision of its own, see `store/migrations/__init__.py`."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    func,
)

revision = "0001"
down_revision = None

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
ID = BigInteger().with_variant(Integer, "sqlite")
INSTANT = DateTime(timezone=True)
Table(
    "aggregates",
    METADATA,
    Column("source", String(64), primary_key=True),
    Column("signal", String(24), primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("sender", String(255), primary_key=True),
    Column("route", String(64), primary_key=True),
    Column("ip", String(45), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("n", BigInteger),
    Column("rate", Float),
    Column("imported_at", INSTANT, nullable=False),
    Column("by", String(120), nullable=False),
    Index("ix_aggregates_provider", "provider", "day"),
)
Table(
    "alerts",
    METADATA,
    Column("rule", String(64), primary_key=True),
    Column("contact", BigInteger, primary_key=True),
    Column("scored_on", Date, primary_key=True),
    Column("score", Float),
    Column("before", Float),
    Column("raised_at", INSTANT, nullable=False),
    Index("ix_alerts_rule_scored_on", "rule", "scored_on"),
)
Table(
    "arbitrations",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("asked_at", INSTANT, nullable=False),
    Column("asked_by", String(120), nullable=False),
    Column("lost", JSON, nullable=False),
)
Table(
    "counted",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("batches", LargeBinary, nullable=False),
)
Table(
    "event_keys",
    METADATA,
    Column("key", ID, primary_key=True, autoincrement=False),
    Column("seen_at", INSTANT, nullable=False),
)
Table(
    "feeds",
    METADATA,
    Column("route", String(64), primary_key=True),
    Column("last_event_at", INSTANT),
    Column("last_received_at", INSTANT),
    Column("unknown_words", JSON, nullable=False),
    Column("unmatched", BigInteger, nullable=False),
)
Table(
    "files",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("dataset", String(32), nullable=False),
    Column("path", Text, nullable=False, unique=True),
    Column("part", String(128), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("details", JSON, nullable=False),
    Column("registered_at", INSTANT, nullable=False),
    Column("retired_at", INSTANT),
    Column("removed_at", INSTANT),
    Index("ix_files_dataset_part", "dataset", "part"),
)
Table(
    "inbox",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("source", String(64), nullable=False),
    Column("headers", JSON, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("received_at", INSTANT, nullable=False),
    Column("status", String(16), nullable=False),
    Column("events", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("unmatched", Integer, nullable=False),
    Column("error", Text),
    Column("processed_at", INSTANT),
    Index("ix_inbox_status", "status", "id"),
    sqlite_autoincrement=True,
)
Table(
    "leases",
    METADATA,
    Column("name", String(160), primary_key=True),
    Column("holder", String(120), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("until", INSTANT, nullable=False),
)
Table(
    "meta",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
Table(
    "notices",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("channel", String(64), nullable=False),
    Column("rule", String(64), nullable=False),
    Column("owner", Text, nullable=False),
    Column("document", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", INSTANT, nullable=False),
    Column("error", Text),
    Column("created_at", INSTANT, nullable=False),
    Column("sent_at", INSTANT),
    Index("ix_notices_status", "status", "not_before"),
)
Table(
    "paces",
    METADATA,
    Column("key", String(160), primary_key=True),
    Column("tat", Float, nullable=False),
    Column("day", Date),
    Column("sent_today", BigInteger, nullable=False),
    Column("days", Integer, nullable=False),
)
Table(
    "policies",
    METADATA,
    Column("version", String(64), primary_key=True),
    Column("document", JSON, nullable=False),
    Column("loaded_at", INSTANT, nullable=False),
)
Table(
    "runs",
    METADATA,
    Column("job", String(64), primary_key=True),
    Column("scheduled_on", Date, primary_key=True),
    Column("started_at", INSTANT, nullable=False),
    Column("finished_at", INSTANT),
    Column("summary", JSON, nullable=False),
)
Table(
    "suppressions",
    METADATA,
    Column("address_hash", String(32), primary_key=True),
    Column("channel", String(16), primary_key=True),
    Column("scope", String(64), primary_key=True),
    Column("reason", String(32), nullable=False),
    Column("since_at", INSTANT, nullable=False),
    Column("recorded_at", INSTANT, nullable=False),
    Column("source", String(120), nullable=False),
    Index("ix_suppressions_recorded_at", "recorded_at"),
)
Table(
    "campaigns",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("name", String(120), nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("type", String(64), nullable=False),
    Column("channel", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("settings", JSON, nullable=False),
    Column("policy_version", String(64), ForeignKey("policies.version")),
    Column("plan_file", BigInteger, ForeignKey("files.id")),
    Column("plan_pins", JSON),
    Column("planned_at", INSTANT),
    Column("created_at", INSTANT, nullable=False),
    Column("created_by", String(120), nullable=False),
    Column("approved_at", INSTANT),
    Column("approved_by", String(120)),
    Column("start_at", INSTANT),
    Column("started_at", INSTANT),
    Column("ended_at", INSTANT),
    Column("last_wave", Integer),
    Column("limits", JSON),
)
Table(
    "exchanges",
    METADATA,
    Column("crm", String(64), primary_key=True),
    Column("cursor", Text, nullable=False),
    Column("pulled_at", INSTANT),
    Column("pushed_file", BigInteger, ForeignKey("files.id")),
    Column("pushed_at", INSTANT),
    Column("refused", JSON, nullable=False),
    Column("next_pull", INSTANT),
    Column("next_push", INSTANT),
)
Table(
    "counters",
    METADATA,
    Column("campaign_id", ID, ForeignKey("campaigns.id"), primary_key=True),
    Column("wave", Integer, primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("tally", String(24), primary_key=True),
    Column("bucket_at", INSTANT, primary_key=True),
    Column("n", BigInteger, nullable=False),
)
Table(
    "delays",
    METADATA,
    Column("campaign_id", ID, ForeignKey("campaigns.id"), primary_key=True),
    Column("wave", Integer, primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("tally", String(24), primary_key=True),
    Column("bin", Integer, primary_key=True),
    Column("n", BigInteger, nullable=False),
)
Table(
    "exclusions",
    METADATA,
    Column("campaign_id", ID, ForeignKey("campaigns.id"), primary_key=True),
    Column("reason", String(64), primary_key=True),
    Column("tier", String(64), primary_key=True),
    Column("contacts", BigInteger, nullable=False),
)
Table(
    "freezes",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("campaign_id", ID, ForeignKey("campaigns.id"), nullable=False),
    Column("wave", Integer, nullable=False),
    Column("file_id", BigInteger, ForeignKey("files.id")),
    Column("contacts", BigInteger, nullable=False),
    Column("dropped", JSON, nullable=False),
    Column("frozen_at", INSTANT, nullable=False),
    Index("ix_freezes_campaign_id", "campaign_id", "wave"),
)
_HOLDS = Table(
    "holds",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("campaign_id", ID, ForeignKey("campaigns.id")),
    Column("wave", Integer),
    Column("provider", String(64)),
    Column("route", String(64)),
    Column("kind", String(16), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("since", INSTANT, nullable=False),
    Column("by", String(120), nullable=False),
    Column("until", INSTANT),
    Column("lifted_at", INSTANT),
    Column("lifted_by", String(120)),
    Index("ix_holds_lifted_at", "lifted_at", "campaign_id"),
)
Table(
    "journal",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("at", INSTANT, nullable=False),
    Column("actor", String(120), nullable=False),
    Column("action", String(64), nullable=False),
    Column("campaign_id", ID, ForeignKey("campaigns.id")),
    Column("wave", Integer),
    Column("provider", String(64)),
    Column("reason", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("policy_version", String(64)),
    Index("ix_journal_campaign_id", "campaign_id", "id"),
)
Table(
    "lanes",
    METADATA,
    Column("campaign_id", ID, ForeignKey("campaigns.id"), primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("throttle", Float, nullable=False),
    Column("judged_from", INSTANT),
)
Table(
    "verdicts",
    METADATA,
    Column("campaign_id", ID, ForeignKey("campaigns.id"), primary_key=True),
    Column("signal", String(24), primary_key=True),
    Column("wave", Integer, primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("verdict", String(8), nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("at", INSTANT, nullable=False),
)
Table(
    "waves",
    METADATA,
    Column("campaign_id", ID, ForeignKey("campaigns.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("status", String(16), nullable=False),
    Column("planned", BigInteger, nullable=False),
    Column("tiers", JSON, nullable=False),
    Column("providers", JSON, nullable=False),
    Column("pilot", String(64), nullable=False),
    Column("released_at", INSTANT),
    Column("sent_at", INSTANT),
    Column("cleared_at", INSTANT),
)
Table(
    "batches",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("campaign_id", ID, ForeignKey("campaigns.id"), nullable=False),
    Column("wave", Integer, nullable=False),
    Column("freeze_id", ID, ForeignKey("freezes.id"), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("route", String(64), nullable=False),
    Column("zone", String(64), nullable=False),
    Column("position", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("not_before", INSTANT),
    Column("claimed_by", String(120)),
    Column("claimed_until", INSTANT),
    Column("epoch", Integer),
    Column("handed_at", INSTANT),
    Column("settled_at", INSTANT),
    Column("accepted", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("dropped", Integer, nullable=False),
    Column("moved", Integer, nullable=False),
    Column("outcomes", JSON),
    Column("origins", JSON),
    Column("esp_ref", String(200)),
    Column("recall_until", INSTANT),
    Column("returned_at", INSTANT),
    Column("payload", LargeBinary),
    Index("ix_batches_campaign_id", "campaign_id", "wave", "provider"),
    Index("ix_batches_settled_at", "campaign_id", "settled_at"),
    Index("ix_batches_status", "status", "campaign_id", "wave", "position"),
)
Table(
    "tallies",
    METADATA,
    Column("batch_id", ID, ForeignKey("batches.id"), primary_key=True),
    Column("tally", String(24), primary_key=True),
    Column("bits", LargeBinary, nullable=False),
    Column("n", Integer, nullable=False),
    Column("acts", LargeBinary),
)

_OF = _HOLDS.c
Index(
    "uq_holds_open",
    func.coalesce(_OF.campaign_id, 0),
    func.coalesce(_OF.wave, 0),
    func.coalesce(_OF.provider, ""),
    func.coalesce(_OF.route, ""),
    _OF.reason,
    unique=True,
    sqlite_where=_OF.lifted_at.is_(None),
    postgresql_where=_OF.lifted_at.is_(None),
)


def upgrade() -> None:
    METADATA.create_all(op.get_bind(), checkfirst=False)
