"""Whether people of a stopped campaign or wave are still on their way back."""

from __future__ import annotations

from sqlalchemy import Connection, and_, or_, select

from sendwave.rules.lifecycle import BATCH, SETTLED, Batch
from sendwave.store.batches import stopped
from sendwave.store.tables import batches


def leaving(conn: Connection, campaign_id: int) -> bool:
    """Whether anybody of a campaign is about to be sent or given back: their fate is not settled yet.

    Who is frozen and stays so whatever stopped the campaign is none of them.
    """
    of = batches.c
    stays = and_(of.status.in_(BATCH["recall"][0]), ~stopped())
    waits = or_(and_(of.status.not_in(SETTLED), ~stays), and_(of.status == Batch.RECALLED, of.returned_at.is_(None)))
    return conn.execute(select(of.id).where(of.campaign_id == campaign_id, waits).limit(1)).first() is not None


def coming_back(conn: Connection, campaign_id: int, wave: int) -> bool:
    """Whether people of a wave were recalled whose slots are not given back yet: only then may they go again."""
    of = batches.c
    owed = (of.campaign_id == campaign_id, of.wave == wave, of.status == Batch.RECALLED, of.returned_at.is_(None))
    return conn.execute(select(of.id).where(*owed).limit(1)).first() is not None
