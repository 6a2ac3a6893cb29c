"""`sendwave run`: the daemon."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from sendwave.cli.output import in_workspace

if TYPE_CHECKING:
    from sendwave.workspace import Workspace


@click.command()
@in_workspace
@click.option(
    "--until",
    default=None,
    metavar="idle|INSTANT",
    help="Stop at an instant, or when nothing is left to do: no campaign goes on, and no reaction came for 3 s "
    "or a minute has passed (later ones are taken in by the next run).",
)
@click.option(
    "--threads", type=click.IntRange(1, 64), default=4, show_default=True, help="Batches handed over at once."
)
def run(workspace: Workspace, until: str | None, threads: int) -> None:
    """Send what is approved, listen to what comes back, judge, stop by itself. Ends cleanly on SIGTERM."""
    from sendwave import log
    from sendwave.daemon import Daemon

    log.configure(level=os.environ.get("SENDWAVE_LOG", "info"))
    Daemon(workspace, threads=threads).run(until_idle=until == "idle", until=_instant(until))


def _instant(until: str | None) -> datetime | None:
    if until in (None, "idle"):
        return None
    try:
        instant = datetime.fromisoformat(until)
    except ValueError:
        raise click.UsageError(f"--until {until}: write 'idle' or an instant such as 2026-03-01T18:00+01:00") from None
    if instant.tzinfo is None:
        raise click.UsageError(f"--until {until}: give the zone too, for instance {until}+01:00")
    return instant


COMMANDS: Final = {"run": run}
