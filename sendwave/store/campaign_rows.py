"""A campaign, its waves and its lanes as rows, and the statements that read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import bindparam, select

from sendwave.rules.campaign import CampaignFile
from sendwave.store import tables
from sendwave.store.tables import campaigns


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign's row; `settings` is the file its author wrote."""

    id: int
    name: str
    title: str
    type: str
    channel: str
    status: str
    settings: CampaignFile
    policy_version: str | None
    plan_file: int | None
    plan_pins: Mapping[str, Sequence[int]] | None
    planned_at: datetime | None
    approved_at: datetime | None
    start_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    last_wave: int | None
    created_at: datetime
    created_by: str
    approved_by: str | None
    limits: Mapping[str, Mapping[str, str]] | None = None  # {signal: {hold, halt, since}} a person set for it alone


@dataclass(frozen=True, slots=True)
class WaveRow:
    """One wave: `tiers` and `providers` count its planned people by key."""

    number: int
    status: str
    planned: int
    tiers: Mapping[str, int]
    providers: Mapping[str, int]
    released_at: datetime | None = None
    sent_at: datetime | None = None
    cleared_at: datetime | None = None
    pilot: str = ""  # the tier whose head it is; '' for an ordinary wave


@dataclass(frozen=True, slots=True)
class LaneRow:
    """One lane; `throttle` is a factor on its pace, mail sent before `judged_from` is no longer judged."""

    provider: str
    status: str
    throttle: float
    judged_from: datetime | None


# Built once: every stage asks them at every tick, and they cost four times as much to build as to run.
ALL: Final = select(campaigns).order_by(campaigns.c.id)
IN_STATUS: Final = ALL.where(campaigns.c.status.in_(bindparam("statuses", expanding=True)))
NAMED: Final = select(campaigns).where(campaigns.c.name == bindparam("campaign"))
NUMBERED: Final = select(campaigns).where(campaigns.c.id == bindparam("campaign"))
WAVES: Final = (
    select(*(tables.waves.c[name] for name in WaveRow.__dataclass_fields__))
    .where(tables.waves.c.campaign_id == bindparam("campaign"))
    .order_by(tables.waves.c.number)
)
LANES: Final = (
    select(*(tables.lanes.c[name] for name in LaneRow.__dataclass_fields__))
    .where(tables.lanes.c.campaign_id == bindparam("campaign"))
    .order_by(tables.lanes.c.provider)
)


def campaign(row: Mapping[Any, Any]) -> Campaign:
    """A row of `ALL` and the like."""
    kept = {name: row[name] for name in Campaign.__dataclass_fields__}
    return Campaign(**{**kept, "settings": _file(json.dumps(kept["settings"]))})


@lru_cache(maxsize=256)
def _file(settings: str) -> CampaignFile:
    """Immutable, and read again at every tick of every stage."""
    return CampaignFile.model_validate(json.loads(settings))
