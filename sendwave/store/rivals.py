"""Campaigns that compete for the same people, as the rules of arbitration see them, and the files of their plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from sendwave.errors import BadInput, NotFound
from sendwave.rules import arbitration
from sendwave.rules.arbitration import Rival, Standing
from sendwave.rules.lifecycle import Campaign as Status
from sendwave.rules.lifecycle import Wave
from sendwave.store import campaigns, files, policies
from sendwave.store.campaigns import Campaign
from sendwave.store.files import LakeFile
from sendwave.store.tables import freezes

_QUEUEING = (*arbitration.COUNTING, Status.PLANNED)
_FROZEN: Final = (
    select(freezes.c.id)
    .where(freezes.c.campaign_id == bindparam("campaign"), freezes.c.wave.in_(bindparam("waves", expanding=True)))
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Competition:
    """The campaigns that count, each with the file of its plan, by dataset name."""

    rivals: Sequence[Rival]
    plans: Mapping[str, Sequence[LakeFile]]

    def documents(self) -> list[dict[str, Any]]:
        """As kept with a plan, for `restored`."""
        return [asdict(rival) for rival in self.rivals]


def restored(documents: Sequence[Mapping[str, Any]]) -> tuple[Rival, ...]:
    """What `Competition.documents` told."""
    return tuple(Rival(**{**one, "standing": Standing(**one["standing"])}) for one in documents)


def standing(campaign: Campaign, importance: int) -> Standing:
    """Where a campaign queues; its date is its start or, without one, its creation: neither moves while it waits."""
    return Standing(campaign.id, importance, int((campaign.start_at or campaign.created_at).timestamp()))


def before(conn: Connection, campaign: Campaign, importance: int, now: datetime) -> Competition:
    """The campaigns whose planned messages count against that one, the first of them first."""
    whole = competing(conn, now)
    rivals = arbitration.before(standing(campaign, importance), whole.rivals)
    return Competition(rivals, {rival.dataset: whole.plans[rival.dataset] for rival in rivals})


def competing(conn: Connection, now: datetime) -> Competition:
    """Every campaign whose planned messages take slots, by id."""
    rivals, plans = [], {}
    for campaign in campaigns.listing(conn, _QUEUEING):
        starts = None if campaign.start_at is None else int(campaign.start_at.timestamp())
        plan = None if campaign.plan_file is None else files.get(conn, campaign.plan_file)
        if plan is None or not arbitration.counts(campaign.status, starts, int(now.timestamp())):
            continue
        found = _rival(conn, campaign, now)
        if found is not None:
            rivals.append(found)
            plans[found.dataset] = [plan]
    return Competition(rivals, plans)


def _rival(conn: Connection, campaign: Campaign, now: datetime) -> Rival | None:
    """None for one that has nothing left to release, or whose policy this version cannot read."""
    waiting = [
        wave.number
        for wave in campaigns.waves(conn, campaign.id)
        if wave.status == Wave.WAITING and (campaign.last_wave is None or wave.number <= campaign.last_wave)
    ]
    if not waiting:
        return None
    try:
        kind = policies.pinned(conn, campaign.policy_version or "").types[campaign.type]
    except (NotFound, BadInput):
        return None
    before = conn.execute(_FROZEN, {"campaign": campaign.id, "waves": waiting}).first()
    due = max(now, campaign.start_at or now)
    return Rival(
        standing=standing(campaign, kind.importance),
        name=campaign.name,
        type=campaign.type,
        channel=campaign.channel,
        due_ts=int(due.timestamp()),
        waves=tuple(waiting),
        resumed=before is not None,
    )
