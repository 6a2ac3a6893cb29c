"""`sendwave policy`: show, compare and describe the policy files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sendwave.cli.groups import Group
from sendwave.cli.output import emit_json, in_workspace, json_option

if TYPE_CHECKING:
    from sendwave.workspace import Workspace


@click.group(cls=Group)
def policy() -> None:
    """The policy files: what they say together, how two sets differ, what may be written."""


@policy.command()
@in_workspace
@json_option
def show(workspace: Workspace, as_json: bool) -> None:  # noqa: ARG001  # nested as it is, it reads best as JSON
    """The policy as it is in force, defaults included, as one JSON document."""
    emit_json({"version": workspace.policy.version, **workspace.policy.document()})


@policy.command()
@click.argument("kind", default="type")
@json_option
def schema(kind: str, as_json: bool) -> None:  # noqa: ARG001  # it is JSON
    """JSON Schema of one kind of file (type, tiers, gates, lanes, score, alerts, campaign), for editors."""
    from sendwave.flow import policies

    emit_json(policies.schema(kind))


@policy.command()
@in_workspace
@click.argument("other", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
def diff(workspace: Workspace, other: Path, as_json: bool) -> int:
    """What changes from the workspace's policy to the folder OTHER; exit code 1 when something does."""
    from sendwave.flow import policies
    from sendwave.rules.policy import differences

    found = differences(workspace.policy, policies.load_policies(other))
    if as_json:
        emit_json([{"path": path, "from": old, "to": new} for path, old, new in found])
    else:
        for path, old, new in found:
            click.echo(f"{path}: {old} → {new}")
        if not found:
            click.echo("no difference")
    return 1 if found else 0


COMMANDS: Final = {"policy": policy}
