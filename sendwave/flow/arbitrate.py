"""Arbitrate: of the campaigns that want the same people, who wins whom over what, as release would answer now.

The question is the re-check of release itself, asked of everybody still to be released; each run is kept, so that
today's answer can be compared with yesterday's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput, NotFound
from sendwave.rules import arbitration, plan
from sendwave.rules.lifecycle import Campaign as Status
from sendwave.rules.lifecycle import Wave
from sendwave.rules.policy import CampaignType
from sendwave.store import arbitrations, campaigns, files, policies, rivals, suppressions
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Connection, Database

_ASKED = (*arbitration.COUNTING, Status.PLANNED)


@dataclass(frozen=True, slots=True)
class Arbitration:
    """One run beside the one before: `lost` holds {loser, winner, reason, people, before}; before is None at first."""

    run: int
    campaigns: Sequence[str]  # in the order in which they go first
    lost: Sequence[Mapping[str, Any]]
    earlier: int | None

    def document(self) -> dict[str, Any]:
        """Plain JSON values; keys are stable."""
        lost = [dict(one) for one in self.lost]
        return {"run": self.run, "earlier": self.earlier, "campaigns": list(self.campaigns), "lost": lost}


def arbitrate(db: Database, engine: Engine, lake: Lake, *, by: str, now: datetime) -> Arbitration:
    """Ask about every planned or approved campaign, and keep the answers."""
    with db.read() as conn:
        asked = [(c, kind) for c in campaigns.listing(conn, _ASKED) if (kind := _kind(conn, c)) is not None]
        earlier = arbitrations.runs(conn, 1)
    asked.sort(key=lambda one: rivals.standing(one[0], one[1].importance).key)
    found = [line for campaign, kind in asked for line in _lost(db, engine, lake, campaign, kind=kind, now=now)]
    with db.write() as conn:
        run = arbitrations.add(conn, found, by=by, now=now)
    return Arbitration(run, [c.name for c, _ in asked], _beside(found, earlier), earlier[0].id if earlier else None)


def _kind(conn: Connection, campaign: Campaign) -> CampaignType | None:
    """Its type as planned; None for one whose policy this version cannot read."""
    try:
        return policies.pinned(conn, campaign.policy_version or "").types[campaign.type]
    except (NotFound, BadInput, KeyError):
        return None


def _lost(
    db: Database, engine: Engine, lake: Lake, campaign: Campaign, *, kind: CampaignType, now: datetime
) -> Iterator[dict[str, Any]]:
    """Whom a campaign loses, by winner and reason."""
    with db.read() as conn:
        ahead = rivals.before(conn, campaign, kind.importance, now)
        listed = {**files.live(conn, plan.INPUTS), **ahead.plans}
        planned = files.get(conn, campaign.plan_file or 0)
        waves = [wave.number for wave in campaigns.waves(conn, campaign.id) if wave.status == Wave.WAITING]
        suppressed = suppressions.table(conn, kind.channel)
    if not ahead.rivals or kind.is_service or planned is None:
        return
    now_ts = int(now.timestamp())
    causes = {
        rival.name: arbitration.reasons_of(kind.type, kind.channel, kind.tiers, kind.caps, rival, now_ts=now_ts)
        for rival in ahead.rivals
    }
    names = {rival.standing.id: rival.name for rival in ahead.rivals}
    asked = [
        plan.recheck_statement(kind, campaign.name, campaign.id, wave, now_ts, rivals=ahead.rivals) for wave in waves
    ]
    lost = arbitration.outranked(asked)
    paths = {**lake.paths(listed), "plan": [lake.path(planned)]}
    with engine.session(paths, {"suppressions": suppressed}) as session:
        rows = session.read(arbitration.winners_statement(lost, ahead.rivals, causes)).to_pylist()
    for row in sorted(rows, key=lambda row: (-row["people"], row["reason"], row[arbitration.WON_BY])):
        winner = names[row[arbitration.WON_BY]]
        yield {"loser": campaign.name, "winner": winner, "reason": row["reason"], "people": row["people"]}


def _beside(found: Sequence[Mapping[str, Any]], earlier: Sequence[arbitrations.Run]) -> list[dict[str, Any]]:
    """Each answer with the people of the run before; answers that are gone come last, with 0 people."""
    if not earlier:
        return [{**one, "before": None} for one in found]
    had = {_key(one): one["people"] for one in earlier[0].lost}
    gone = [
        {**one, "people": 0, "before": one["people"]} for one in earlier[0].lost if _key(one) not in map(_key, found)
    ]
    return [{**one, "before": had.get(_key(one), 0)} for one in found] + gone


def _key(one: Mapping[str, Any]) -> tuple[str, str, str]:
    return one["loser"], one["winner"], one["reason"]
