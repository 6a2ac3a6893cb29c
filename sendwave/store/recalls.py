"""Whether people of a stopped campaign or wave are still on their way back."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, and_, bindparam, or_, select

from sendwave.rules.lifecycle import BATCH, SETTLED, Batch
from sendwave.store.batch_status import STOPPED
from sendwave.store.tables import batches

_OF: Final = batches.c
_STAYS: Final = and_(_OF.status.in_(BATCH["recall"][0]), ~STOPPED)
_OWED: Final = and_(_OF.status == Batch.RECALLED, _OF.returned_at.is_(None))
_OF_CAMPAIGN: Final = select(_OF.id).where(_OF.campaign_id == bindparam("campaign")).limit(1)
_LEAVING: Final = _OF_CAMPAIGN.where(or_(and_(_OF.status.not_in(SETTLED), ~_STAYS), _OWED))
_COMING_BACK: Final = _OF_CAMPAIGN.where(_OF.wave == bindparam("wave"), _OWED)


def leaving(conn: Connection, campaign_id: int) -> bool:
    """Whether anybody of a campaign is about to be sent or given back: their fate is not settled yet.

    Who is frozen and stays so whatever stopped the campaign is none of them.
    """
    return conn.execute(_LEAVING, {"campaign": campaign_id}).first() is not None


def coming_back(conn: Connection, campaign_id: int, wave: int) -> bool:
    """Whether people of a wave were recalled whose slots are not given back yet: only then may they go again."""
    return conn.execute(_COMING_BACK, {"campaign": campaign_id, "wave": wave}).first() is not None
