"""`sendwave backup` and `sendwave restore`: a copy of the store and the lake, and a workspace made of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sendwave.cli.output import by_option, emit_json, in_workspace, json_option, number
from sendwave.clock import SystemClock

if TYPE_CHECKING:
    from sendwave.workspace import Workspace

_folder = click.argument("directory", type=click.Path(file_okay=False, path_type=Path))


@click.command()
@in_workspace
@_folder
@json_option
def backup(workspace: Workspace, directory: Path, as_json: bool) -> None:
    """Copy store and lake into a new DIRECTORY, also while a daemon runs. It holds personal data and a secret key."""
    from sendwave.flow import backup as copying

    made = copying.take(workspace.db, workspace.lake, directory, now=SystemClock().now())
    if as_json:
        emit_json({"directory": str(directory), **made.document()})
        return
    told = made.document()
    click.echo(
        f"{directory}: {number(told['rows'])} rows, {number(told['lake_files'])} files of the lake, "
        f"{told['bytes'] / 1e6:,.1f} MB. Next, now and then: sendwave restore {directory} --check"
    )
    click.echo(f"Settings, policies and contents are files of yours: copy {workspace.home} too.")


@click.command()
@in_workspace
@_folder
@click.option("--check", is_flag=True, help="Only read the backup through, and change nothing.")
@by_option
@json_option
def restore(workspace: Workspace, directory: Path, check: bool, by: str, as_json: bool) -> None:
    """Fill this workspace, whose store and lake must be empty, from a backup. Campaigns that could send are paused."""
    from sendwave.flow import backup as copying

    now = SystemClock().now()
    if check:
        made, paused = copying.check(directory), list[str]()
    else:
        with workspace.only_daemon(now):
            made, paused = copying.restore(workspace.db, workspace.lake, directory, by=by, now=now)
    if as_json:
        emit_json({"directory": str(directory), "restored": not check, **made.document(), "paused": paused})
        return
    what = "is whole" if check else "restored"
    click.echo(f"{directory} of {made.taken_at:%Y-%m-%d %H:%M} UTC {what}: {number(sum(made.tables.values()))} rows")
    for name in paused:
        click.echo(f"paused: {name}. What left after the backup is not known here: look before you resume it")


COMMANDS: Final = {"backup": backup, "restore": restore}
