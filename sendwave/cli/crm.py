"""`sendwave crm`: contacts in from a CRM, scores and tiers out to it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import click

from sendwave.cli.groups import Group
from sendwave.cli.output import by_option, emit_json, in_workspace, json_option, number, table
from sendwave.clock import SystemClock
from sendwave.errors import NotFound

if TYPE_CHECKING:
    from sendwave.workspace import Workspace


@click.group(cls=Group)
def crm() -> None:
    """Exchange with the CRM systems of sendwave.yaml (section `crm`)."""


@crm.command()
@in_workspace
@click.argument("name", required=False)
@by_option
@json_option
def pull(workspace: Workspace, name: str | None, by: str, as_json: bool) -> int:
    """Bring in what is new at the CRM NAME; the name may be left out where there is only one.

    Exit code 1 when some of it could not land.
    """
    from sendwave.flow import crm as flow

    name = _chosen(workspace, name)
    now = SystemClock().now()
    with closing(workspace.crm(name)) as opened:
        report = flow.pull(
            workspace.db, opened, workspace.landing(workspace.policy, now, by), name=name, now=now, by=by
        )
    if as_json:
        emit_json(report.document())
        return 0 if report.clean else 1
    if not report.deliveries:
        click.echo(f"{name}: nothing new")
    else:
        rows = [(d.kind, ", ".join(d.files), d.landed, d.rejected, d.problem) for d in report.deliveries]
        table(name, ("kind", "file", "landed", "rejected", "problem"), rows, right=(2, 3))
    return 0 if report.clean else 1


@crm.command()
@in_workspace
@click.argument("name", required=False)
@by_option
@json_option
def push(workspace: Workspace, name: str | None, by: str, as_json: bool) -> int:
    """Give the CRM NAME the newest scores and tiers; exit code 1 when it refused some."""
    from sendwave.flow import crm as flow

    name = _chosen(workspace, name)
    with closing(workspace.crm(name)) as opened:
        report = flow.push(
            workspace.db,
            workspace.engine,
            workspace.lake,
            workspace.policy,
            opened,
            name=name,
            now=SystemClock().now(),
            by=by,
            reports=workspace.rejects,
        )
    if as_json:
        emit_json(report.document())
    else:
        click.echo(f"{name}: {number(report.taken)} taken, {number(report.refused)} refused")
        for contact, reason in report.refusals:
            click.echo(f"  {contact}: {reason}")
        if report.report is not None:
            click.secho(f"all of them: {report.report}; they are offered again next time", fg="yellow")
    return 1 if report.refused else 0


def _chosen(workspace: Workspace, name: str | None) -> str:
    """The CRM that is meant. Raises NotFound without any, a usage error where several could be."""
    names = list(workspace.settings.crm)
    if name is not None:
        return name
    if not names:
        raise NotFound("sendwave.yaml has no section `crm`: docs/adding/crm.md shows one")
    if len(names) > 1:
        raise click.UsageError(f"which one? {', '.join(names)}")
    return names[0]


COMMANDS: Final = {"crm": crm}
