"""A campaign's life: plan, waves, lanes, batches, what holds them, how fast they go."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
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
    false,
    func,
)

from sendwave.store.tables.base import METADATA, Id, Instant

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
    Column("limits", JSON(none_as_null=True)),  # {signal: {hold, halt, since}} a person set for this campaign alone
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
    Column("pilot", String(64), nullable=False, default=""),  # the tier whose head it is; '' for an ordinary wave
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
    Column("epoch", Integer),  # of its holder's life when it was claimed (store/nodes.py); NULL where nodes have none
    Column("handed_at", Instant),
    Column("settled_at", Instant),
    Column("accepted", Integer, nullable=False, default=0),
    Column("refused", Integer, nullable=False, default=0),
    Column("unknown", Integer, nullable=False, default=0),
    Column("dropped", Integer, nullable=False, default=0),  # taken out by the re-check just before hand-over
    Column("moved", Integer, nullable=False, default=0),  # deferred at hand-over, now in a follow-up batch
    Column("outcomes", JSON),  # exceptions only, see store/batches.py
    Column("origins", JSON),  # follow-up batches: [[batch, position]] per index, where tokens and tallies point
    Column("doubted", Boolean, nullable=False, server_default=false()),  # nobody answered for a call of theirs before
    Column("esp_ref", String(200)),  # what the ESP calls it, where it can still be called back
    Column("recall_until", Instant),  # until when asking helps; NULL once asked
    Column("returned_at", Instant),  # its given-back slots are in the lake's `returns`
    Column("payload", LargeBinary),  # Arrow IPC, lz4; NULL once nobody of it can go any more
    Index("ix_batches_status", "status", "campaign_id", "wave", "position"),
    Index("ix_batches_campaign_id", "campaign_id", "wave", "provider"),
    Index("ix_batches_settled_at", "campaign_id", "settled_at"),  # what the judge has not read yet
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

arbitrations = Table(  # each run over the campaigns that compete; kept, so that answers can be compared
    "arbitrations",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("asked_at", Instant, nullable=False),
    Column("asked_by", String(120), nullable=False),
    Column("lost", JSON, nullable=False),  # [{loser, winner, reason, people}]
)
