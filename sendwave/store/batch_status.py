"""What a batch's status allows: conditions on its row, and the compare-and-set UPDATE of each event.

All are built once: what every tick asks costs several times as much to build as to run.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Select, Update, and_, bindparam, exists, or_, select, update

from sendwave.rules.lifecycle import BATCH, Batch, Campaign, Lane, Wave
from sendwave.store.leases import LIVES
from sendwave.store.tables import batches, campaigns, lanes, leases, waves

_OF: Final = batches.c

GROUP: Final = (_OF.campaign_id, _OF.wave, _OF.provider, _OF.route, _OF.zone)
"""The columns of which batches that wait for the same things have the same values."""

_FLYING: Final = (Wave.RELEASED, Wave.SENDING, Wave.SOAKING, Wave.CLEARED)
"""Waves whose ready batches may leave: a lane reopened late still has some in a wave that was cleared without it."""

_MINE: Final = campaigns.c.id == _OF.campaign_id
_WAVE: Final = and_(waves.c.campaign_id == _OF.campaign_id, waves.c.number == _OF.wave)
_LANE: Final = and_(lanes.c.campaign_id == _OF.campaign_id, lanes.c.provider == _OF.provider)

_SENDS: Final = select(campaigns.c.id).where(_MINE, campaigns.c.status == Campaign.SENDING).correlate(batches)
_FLIES: Final = select(waves.c.number).where(_WAVE, waves.c.status.in_(_FLYING)).correlate(batches)
_SHUT: Final = select(lanes.c.provider).where(_LANE, lanes.c.status == Lane.SUSPENDED).correlate(batches)

SUSPENDED: Final = _SHUT.exists()
"""Whether a batch's lane is."""


def _goes(sends: Select[tuple[int]], flies: Select[tuple[int]], shut: Select[tuple[str]]) -> ColumnElement[bool]:
    return and_(sends.exists(), flies.exists(), ~shut.exists())


GOING: Final = _goes(_SENDS, _FLIES, _SHUT)
"""Whether its campaign sends, its wave is on its way or over, and its lane is open."""

ONE_GOES: Final = _goes(_SENDS.offset(0), _FLIES.offset(0), _SHUT.offset(0))
"""The same of a batch that is known: with an OFFSET PostgreSQL looks up what belongs to it. Without, it was seen to
begin with the wave and to read all of its batches: half the hand-overs a second where a wave has 2,000."""

MAY_LEAVE: Final = and_(
    _OF.status == Batch.READY, or_(_OF.not_before.is_(None), _OF.not_before <= bindparam("now")), GOING
)
"""Whether it is ready and nothing but holds, windows and paces keeps it at `now`."""

STOPPED: Final = or_(
    exists().where(_MINE, campaigns.c.status.in_((Campaign.CANCELLED, Campaign.COMPLETED))),
    exists().where(_WAVE, waves.c.status.in_((Wave.HALTED, Wave.SKIPPED))),
)
"""Whether its campaign was stopped for good, or its wave for good or by a gate.

A halted campaign's waves are halted with it, the cleared ones apart: they are not released again, and what is left of
them (people of a suspended lane, those a person had written to again) waits for the resume as it is.
"""

HALTED: Final = exists().where(_MINE, campaigns.c.status == Campaign.HALTED)
"""Whether its campaign was halted: then its cleared waves are too, where something can still be done."""

DONE: Final = exists().where(_MINE, campaigns.c.status == Campaign.COMPLETED)
"""Whether its campaign is complete: what it handed over is to arrive."""

RECALLABLE: Final = and_(_OF.status.in_(BATCH["recall"][0]), STOPPED)
"""Whether it was not handed over and never will be."""


def moved(event: str) -> Update:
    """The compare-and-set UPDATE of an event."""
    sources, target = BATCH[event]
    one = or_(*(batches.c.status == source for source in sorted(sources)))  # IN would be written anew at each call
    return update(batches).where(one).values(status=target)


def same_life() -> ColumnElement[bool]:
    """Whether the holder's life is still the one it was claimed in: the fence against nodes that slept."""
    lives = and_(leases.c.name == LIVES + batches.c.claimed_by, leases.c.epoch == batches.c.epoch)
    return or_(batches.c.epoch.is_(None), exists().where(lives))
