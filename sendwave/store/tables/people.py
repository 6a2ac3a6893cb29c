"""Scores and those who hear of them: alerts, their outbox, CRM exchanges, clean logs, runs."""

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
    String,
    Table,
    Text,
)

from sendwave.store.tables.base import METADATA, Id, Instant

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
    Column("next_pull", Instant),  # when the daemon may next read it; while it does, when it is taken for dead
    Column("next_push", Instant),  # the same for writing
)

runs = Table(  # calendar jobs: the unique key makes a date run once, whatever the clock or another node does
    "runs",
    METADATA,
    Column("job", String(64), primary_key=True),
    Column("scheduled_on", Date, primary_key=True),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("summary", JSON, nullable=False, default=dict),
)
