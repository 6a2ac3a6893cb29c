"""`sendwave route …`: the ESP routes of the settings, and what stops them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from sendwave.cli.groups import Group
from sendwave.cli.output import by_option, emit_json, in_workspace, json_option, table
from sendwave.clock import SystemClock

if TYPE_CHECKING:
    from sendwave.workspace import Workspace


@click.group(cls=Group)
def route() -> None:
    """The ESP routes of sendwave.yaml: what holds them; pause one for every campaign, free it again."""


@route.command("list")
@in_workspace
@json_option
def list_(workspace: Workspace, as_json: bool) -> None:
    """Every route, its ESP, and the reasons why nothing is handed to it now."""
    from sendwave.flow import steer

    with workspace.db.read() as connection:
        found = [
            {
                "route": name,
                "esp": told["esp"],
                "holds": [
                    {"reason": one.reason, "kind": one.kind, "since": one.since, "by": one.by, "until": one.until,
                     "detail": one.detail}
                    for one in steer.route_holds(connection, name)
                ],
            }
            for name, told in workspace.settings.routes.items()
        ]  # fmt: skip
    if as_json:
        emit_json(found)
    elif found:
        rows = [(one["route"], one["esp"], "; ".join(map(_words, one["holds"])) or "open") for one in found]
        table("", ("route", "ESP", "held by"), rows)
    else:
        click.echo("no route yet: add one under `routes` in sendwave.yaml (docs/reference/esp.md)")


def _words(hold: dict[str, Any]) -> str:
    until = f", until {hold['until']:%Y-%m-%d %H:%M} UTC" if hold["until"] else ""
    detail = f" ({hold['detail']})" if hold["detail"] else ""
    return f"{hold['reason']}{detail} since {hold['since']:%Y-%m-%d %H:%M} by {hold['by']}{until}"


@route.command()
@in_workspace
@click.argument("name", metavar="ROUTE")
@click.option("--reason", required=True, help="Why, for the journal and for whoever finds it stopped.")
@by_option
@json_option
def pause(workspace: Workspace, name: str, reason: str, by: str, as_json: bool) -> None:
    """Hand nothing more to ROUTE, whatever the campaign, until somebody frees it."""
    from sendwave.flow import steer

    _check(workspace, name)
    steer.pause_route(workspace.db, name, reason=reason, by=by, now=SystemClock().now())
    if as_json:
        emit_json({"route": name, "done": "paused"})
    else:
        click.echo(f"route {name} is paused: `sendwave route free {name}` lets it go again")


@route.command()
@in_workspace
@click.argument("name", metavar="ROUTE")
@by_option
@json_option
def free(workspace: Workspace, name: str, by: str, as_json: bool) -> None:
    """Lift what holds ROUTE: a pause, an ESP that stopped the account, a quota, an ESP that did not answer."""
    from sendwave.flow import steer

    _check(workspace, name)
    lifted = steer.free_route(workspace.db, name, by=by, now=SystemClock().now())
    if as_json:
        emit_json({"route": name, "done": "freed", "lifted": [hold.reason for hold in lifted]})
    else:
        click.echo(f"route {name} is free again; lifted: {', '.join(hold.reason for hold in lifted)}")


def _check(workspace: Workspace, name: str) -> None:
    from sendwave.errors import NotFound, did_you_mean

    if name not in workspace.settings.routes:
        raise NotFound(f"sendwave.yaml has no route {name!r}.{did_you_mean(name, workspace.settings.routes)}")


COMMANDS: Final = {"route": route}
