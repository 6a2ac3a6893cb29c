"""Batches that lie ready, by what they wait for: read to tell people why nothing leaves."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select

from sendwave.rules.lifecycle import Batch, Wave
from sendwave.rules.waiting import Lying
from sendwave.store.batch_status import SUSPENDED
from sendwave.store.tables import batches, waves

_FLYING = (Wave.RELEASED, Wave.SENDING, Wave.SOAKING, Wave.CLEARED)
"""Waves whose batches may leave: second tries follow when a wave is over, too."""


def of_campaign(conn: Connection, campaign_id: int, now: datetime) -> list[Lying]:
    """Those of waves in flight and open lanes; `not_before` is `now` where some may leave already."""
    of = batches.c
    soonest = func.min(func.coalesce(of.not_before, now)).label("soonest")
    joined = (waves.c.campaign_id == of.campaign_id) & (waves.c.number == of.wave)
    rows = conn.execute(
        select(of.wave, of.provider, of.route, of.zone, soonest)
        .join(waves, joined)
        .where(of.campaign_id == campaign_id, of.status == Batch.READY, waves.c.status.in_(_FLYING), ~SUSPENDED)
        .group_by(of.wave, of.provider, of.route, of.zone)
        .order_by(of.wave, of.provider, of.route, of.zone)
    )
    return [Lying(*row) for row in rows]
