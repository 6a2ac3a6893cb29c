"""`sendwave policy`: show, compare and describe the policy files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sendwave.cli.groups import Group
from sendwave.cli.output import emit_json, in_workspace, json_option
from sendwave.clock import SystemClock

if TYPE_CHECKING:
    from sendwave.rules.policy import Difference
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
@click.option("--replay", is_flag=True, help="Play the sends of the last 90 days again under both policies.")
@json_option
def diff(workspace: Workspace, other: Path, replay: bool, as_json: bool) -> int:
    """What changes from the workspace's policy to the folder OTHER; exit code 1 when something does."""
    from sendwave.flow import policies
    from sendwave.rules.policy import differences

    changed = policies.load_policies(other)
    found = differences(workspace.policy, changed)
    told = [{"path": path, "from": old, "to": new} for path, old, new in found]
    if replay:
        from sendwave.cli.pressure import show_comparison
        from sendwave.flow import pressure

        both = {"today": workspace.policy, "changed": changed}
        played = pressure.compare(workspace.db, workspace.engine, workspace.lake, both, now=SystemClock().now())
        if as_json:
            emit_json({"differences": told, "replay": played.document()})
        else:
            _print(found)
            show_comparison(played)
    elif as_json:
        emit_json(told)
    else:
        _print(found)
    return 1 if found else 0


def _print(found: Sequence[Difference]) -> None:
    for path, old, new in found:
        click.echo(f"{path}: {old} → {new}")
    if not found:
        click.echo("no difference")


COMMANDS: Final = {"policy": policy}
