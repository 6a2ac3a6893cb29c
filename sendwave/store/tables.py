"""The schema of the store: names and types only, no behaviour.

Instants end in `_at` and are timezone-aware UTC; statuses are the words of `rules/lifecycle.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    func,
)

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Instant(TypeDecorator[datetime]):
    """A timezone-aware UTC instant. SQLite keeps no zone, so it is taken off and put back here."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant must be timezone-aware")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # SQLAlchemy's signature
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite gives automatic ids to INTEGER keys only

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
    Index("ix_files_dataset_part", "dataset", "part"),
)

policies = Table(
    "policies",
    METADATA,
    Column("version", String(64), primary_key=True),
    Column("document", JSON, nullable=False),
    Column("loaded_at", Instant, nullable=False),
)

campaigns = Table(
    "campaigns",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("name", String(120), nullable=False, unique=True),  # what people type
    Column("title", Text, nullable=False, default=""),
    Column("type", String(64), nullable=False),
    Column("channel", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("settings", JSON, nullable=False),  # flow/campaign file: sender, subject, content, route, audience
    Column("policy_version", String(64), ForeignKey("policies.version")),
    Column("plan_file", BigInteger, ForeignKey("files.id")),
    Column("plan_pins", JSON),  # {dataset: [file ids]} the plan was made from; another set means a stale plan
    Column("planned_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(120), nullable=False),
    Column("approved_at", Instant),
    Column("approved_by", String(120)),
    Column("start_at", Instant),  # not before
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("last_wave", Integer),  # shortened to; NULL means all
)

exclusions = Table(  # why people are not in the plan: counts per reason, tier and provider
    "exclusions",
    METADATA,
    Column("campaign_id", Id, ForeignKey("campaigns.id"), primary_key=True),
    Column("reason", String(64), primary_key=True),
    Column("tier", String(64), primary_key=True),
    Column("contacts", BigInteger, nullable=False),
)

waves = Table(
    "waves",
    METADATA,
    Column("campaign_id", Id, ForeignKey("campaigns.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("status", String(16), nullable=False),
    Column("planned", BigInteger, nullable=False),
    Column("tiers", JSON, nullable=False),  # {tier: people}
    Column("providers", JSON, nullable=False),  # {provider: people}
    Column("released_at", Instant),
    Column("sent_at", Instant),  # last batch settled: the soak starts here
    Column("cleared_at", Instant),
)

lanes = Table(
    "lanes",
    METADATA,
    Column("campaign_id", Id, ForeignKey("campaigns.id"), primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("throttle", Float, nullable=False, default=1.0),  # factor on the lane's pace, 0 < factor <= 1
    Column("judged_from", Instant),  # after a person overruled a gate: only mail sent later is judged
)

freezes = Table(  # one re-check of a wave's people under the lease; its sends file reserves their pressure slots
    "freezes",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("campaign_id", Id, ForeignKey("campaigns.id"), nullable=False),
    Column("wave", Integer, nullable=False),
    Column("file_id", BigInteger, ForeignKey("files.id")),
    Column("contacts", BigInteger, nullable=False),
    Column("dropped", JSON, nullable=False, default=dict),  # {reason: n} people the re-check took out
    Column("frozen_at", Instant, nullable=False),
    Index("ix_freezes_campaign_id", "campaign_id", "wave"),
)

batches = Table(
    "batches",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("campaign_id", Id, ForeignKey("campaigns.id"), nullable=False),
    Column("wave", Integer, nullable=False),
    Column("freeze_id", Id, ForeignKey("freezes.id"), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("route", String(64), nullable=False),
    Column("zone", String(64), nullable=False, default=""),  # local-time bucket; '' where the window is not local
    Column("position", Integer, nullable=False),  # order inside the wave
    Column("size", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("not_before", Instant),
    Column("claimed_by", String(120)),
    Column("claimed_until", Instant),
    Column("epoch", Integer),  # fencing epoch of the leader that let it go
    Column("handed_at", Instant),
    Column("settled_at", Instant),
    Column("accepted", Integer, nullable=False, default=0),
    Column("refused", Integer, nullable=False, default=0),
    Column("unknown", Integer, nullable=False, default=0),
    Column("dropped", Integer, nullable=False, default=0),  # taken out by the re-check just before hand-over
    Column("moved", Integer, nullable=False, default=0),  # deferred at hand-over, now in a follow-up batch
    Column("outcomes", JSON),  # exceptions only, see store/batches.py
    Column("origins", JSON),  # follow-up batches: [[batch, position]] per index, where tokens and tallies point
    Column("returned_at", Instant),  # its given-back slots are in the lake's `returns`
    Column("payload", LargeBinary),  # Arrow IPC, zstd; NULL once settled
    Index("ix_batches_status", "status", "campaign_id", "wave", "position"),
    Index("ix_batches_campaign_id", "campaign_id", "wave", "provider"),
)

holds = Table(  # a set: work runs where no row without lifted_at covers it
    "holds",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("campaign_id", Id, ForeignKey("campaigns.id")),  # NULL: every campaign
    Column("wave", Integer),  # NULL: every wave
    Column("provider", String(64)),  # NULL: every lane
    Column("route", String(64)),  # NULL: every ESP route
    Column("kind", String(16), nullable=False),  # hold | pause | halt
    Column("reason", String(64), nullable=False),
    Column("detail", Text, nullable=False, default=""),
    Column("since", Instant, nullable=False),
    Column("by", String(120), nullable=False),
    Column("until", Instant),  # a hold that ends by itself
    Column("lifted_at", Instant),
    Column("lifted_by", String(120)),
    Index("ix_holds_lifted_at", "lifted_at", "campaign_id"),
)
Index(  # an open hold of one scope and reason exists once, whoever places it at the same moment
    "uq_holds_open",
    func.coalesce(holds.c.campaign_id, 0),
    func.coalesce(holds.c.wave, 0),
    func.coalesce(holds.c.provider, ""),
    func.coalesce(holds.c.route, ""),
    holds.c.reason,
    unique=True,
    sqlite_where=holds.c.lifted_at.is_(None),
    postgresql_where=holds.c.lifted_at.is_(None),
)

paces = Table(  # GCRA: one row per lane and per route
    "paces",
    METADATA,
    Column("key", String(160), primary_key=True),
    Column("tat", Float, nullable=False),  # theoretical arrival time, epoch seconds
    Column("day", Date),
    Column("sent_today", BigInteger, nullable=False, default=0),
    Column("days", Integer, nullable=False, default=0),  # sending days so far, `day` included; warm-up
)

tallies = Table(  # one bit per recipient: de-duplication and counter in one
    "tallies",
    METADATA,
    Column("batch_id", Id, ForeignKey("batches.id"), primary_key=True),
    Column("tally", String(24), primary_key=True),  # hard_bounce, complaint, … of rules/signals.py
    Column("bits", LargeBinary, nullable=False),
    Column("n", Integer, nullable=False),
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
    Column("error", Text),
    Column("processed_at", Instant),
    Index("ix_inbox_status", "status", "id"),
)

event_keys = Table(  # events without one of our tokens are known by their own id
    "event_keys",
    METADATA,
    Column("key", LargeBinary(16), primary_key=True),
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

leases = Table(
    "leases",
    METADATA,
    Column("name", String(64), primary_key=True),
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

alerts = Table(  # who was told about: a rule speaks once about a contact and a day's score; contact 0 is a word to all
    "alerts",
    METADATA,
    Column("rule", String(64), primary_key=True),
    Column("contact", BigInteger, primary_key=True),
    Column("scored_on", Date, primary_key=True),
    Column("score", Float),
    Column("before", Float),
    Column("raised_at", Instant, nullable=False),
    Index("ix_alerts_rule_scored_on", "rule", "scored_on"),
)

notices = Table(  # the outbox of alerts: written with them in one transaction, delivered afterwards
    "notices",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("channel", String(64), nullable=False),  # a name of `notify` in sendwave.yaml
    Column("rule", String(64), nullable=False),
    Column("owner", Text, nullable=False, default=""),  # the contacts' owner; '' for the channel's default
    Column("document", JSON, nullable=False),
    Column("status", String(16), nullable=False),  # waiting | sending | sent | failed
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Instant, nullable=False),
    Column("error", Text),
    Column("created_at", Instant, nullable=False),
    Column("sent_at", Instant),
    Index("ix_notices_status", "status", "not_before"),
)

exchanges = Table(  # how far each CRM was read, and what it was last given
    "exchanges",
    METADATA,
    Column("crm", String(64), primary_key=True),
    Column("cursor", Text, nullable=False, default=""),
    Column("pulled_at", Instant),
    Column("pushed_file", BigInteger, ForeignKey("files.id")),  # the scores it has
    Column("pushed_at", Instant),
    Column("refused", JSON, nullable=False, default=list),  # contact ids it did not take, to be offered again
)

runs = Table(  # calendar jobs: the unique key makes a date run once, whatever the clock or another node does
    "runs",
    METADATA,
    Column("job", String(64), primary_key=True),
    Column("scheduled_on", Date, primary_key=True),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("summary", JSON, nullable=False, default=dict),
    UniqueConstraint("job", "scheduled_on"),
)
