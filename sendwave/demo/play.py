"""Play a campaign in virtual time, with the daemon's own stages, and hand out what happened as it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sendwave import documents
from sendwave.clock import VirtualClock
from sendwave.daemon import Daemon
from sendwave.demo import people, stage, words
from sendwave.flow import intake, plan, steer
from sendwave.rules.campaign import CampaignFile
from sendwave.rules.lifecycle import Wave
from sendwave.store import batches, campaigns, journal
from sendwave.workspace import Workspace

SENDING_STEP: Final = timedelta(seconds=10)
LONGEST_STEP: Final = timedelta(minutes=15)
"""While nobody is written to each look comes twice as late as the one before, up to this: most answers come early."""
LONGEST: Final = timedelta(days=10)

IMPORTED: Final = {"sends": "past sends", "suppressions": "suppressed addresses"}

Tell = Callable[[datetime, str], None]
Watch = Callable[[datetime, int, str], None]
"""(virtual now, people handed over so far, what the wave in flight does)"""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who and what the demo is about."""

    contacts: int
    seed: int
    scenario: str
    start: datetime


def prepare(home: Path, cast: Cast, tell: Tell) -> tuple[Workspace, dict[str, Any]]:
    """A workspace with people imported and a campaign planned and approved; returns it with the plan's document."""
    letter = stage.build(home, scenario=cast.scenario, seed=cast.seed)
    files = people.make(home / "data", contacts=cast.contacts, seed=cast.seed, now=cast.start)
    workspace = Workspace.open(home)
    for kind in people.Files.__slots__:
        summary = intake.import_files(
            workspace.db,
            workspace.engine,
            workspace.lake,
            kind,
            [getattr(files, kind)],
            lanes=workspace.policy.lanes,
            rejects_dir=home / "rejects",
            now=cast.start,
            by="demo",
        )
        turned_away = f", {summary.rejected:,} rejected" if summary.rejected else ""
        tell(cast.start, f"imported {summary.landed:,} {IMPORTED.get(kind, kind)}{turned_away}")
    described = documents.validate(documents.load(letter), CampaignFile)
    steer.create(workspace.db, workspace.policy, described, routes=("rehearsal",), by="demo", now=cast.start)
    with workspace.db.read() as connection:
        campaign = campaigns.get(connection, stage.CAMPAIGN)
    planned = plan.plan(
        workspace.db, workspace.engine, workspace.lake, workspace.policy, campaign, by="demo", now=cast.start
    ).document()
    with workspace.db.read() as connection:
        campaign = campaigns.get(connection, stage.CAMPAIGN)
    steer.approve(workspace.db, workspace.policy, campaign, stale=[], by="demo", now=cast.start)
    return workspace, planned


def play(workspace: Workspace, start: datetime, tell: Tell, watch: Watch) -> datetime:
    """Run the approved campaign until a person would have to decide something; returns the virtual end."""
    clock = VirtualClock(start)
    daemon = Daemon(workspace, clock)
    soak = workspace.policy.types[stage.TYPE].waves.soak
    told, step = 0, SENDING_STEP
    with workspace.db.read() as connection:
        campaign_id = campaigns.get(connection, stage.CAMPAIGN).id
    while clock.now() - start < LONGEST:
        handed = daemon.step(clock.now())
        with workspace.db.read() as connection:
            entries = journal.read(connection, campaign_id, after=told)
            waves = campaigns.waves(connection, campaign_id)
            cells = batches.counts(connection, campaign_id).values()
        lines = [(entry.at, line) for entry in entries if (line := words.sentence(entry, soak))]
        for at, line in lines:
            tell(at, line)
        told = entries[-1].id if entries else told
        watch(clock.now(), sum(cell.accepted + cell.refused + cell.unknown for cell in cells), _doing(waves))
        if daemon.idle(clock.now()):
            break
        step = SENDING_STEP if handed or lines else min(step * 2, LONGEST_STEP)
        clock.sleep(step.total_seconds())
    return clock.now()


def _doing(waves: list[campaigns.WaveRow]) -> str:
    moving = (Wave.RELEASED, Wave.SENDING, Wave.SOAKING, Wave.HELD)
    return next((f"wave {wave.number} {wave.status}" for wave in waves if wave.status in moving), "")
