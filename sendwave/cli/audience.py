"""`sendwave audience`: count whom a campaign is for, while its conditions are being written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sendwave.cli.groups import Group
from sendwave.cli.output import emit_json, in_workspace, json_option, number, percent, table
from sendwave.clock import SystemClock

if TYPE_CHECKING:
    from sendwave.documents import Document
    from sendwave.rules.audience import Who
    from sendwave.workspace import Workspace


@click.group(cls=Group)
def audience() -> None:
    """Whom messages are for: count conditions as you write them, list the audiences that have a name."""


@audience.command("count")
@in_workspace
@click.argument("source", metavar="FILE|NAME", required=False)
@click.option("--where", "clauses", multiple=True, metavar="CLAUSE", help="A condition; several must all hold.")
@click.option("--by", metavar="tier|country|FIELD", help="Counts by a field of contacts, too.")
@click.option("--baseline", metavar="NAME", help="An audience to compare with: who is kept, gained, lost.")
@json_option
def count_(
    workspace: Workspace,
    source: str | None,
    clauses: tuple[str, ...],
    by: str | None,
    baseline: str | None,
    as_json: bool,
) -> None:
    """People in an audience: of each condition alone (yes, no, not known), and of all so far.

    FILE is a file of policies/audiences/, a campaign's file or conditions alone; NAME an audience that has one. Whether
    these people may be written to is another question: `sendwave campaign plan --dry-run` answers it.
    """
    from sendwave.flow import audience as flow
    from sendwave.rules.audience import Who

    if (source is None) is not bool(clauses):
        raise click.UsageError("give a FILE, the NAME of an audience, or conditions by --where")
    who = _written(workspace, source) if source is not None else _read(workspace, _text(clauses), ())
    habit = None if baseline is None else Who.parse(f"audience {baseline}")
    document = flow.count(
        workspace.db,
        workspace.engine,
        workspace.lake,
        workspace.policy,
        who,
        now=SystemClock().now(),
        by=by,
        baseline=habit,
    )
    document = {"audience": source or list(clauses), **document}
    if as_json:
        emit_json(document)
        return
    _show(document, by, baseline)


@audience.command("list")
@in_workspace
@json_option
def list_(workspace: Workspace, as_json: bool) -> None:
    """The audiences of policies/audiences/, with their conditions."""
    known = workspace.policy.audiences
    if as_json:
        emit_json([told.model_dump(mode="json") for told in known.values()])
        return
    for name, told in known.items():
        click.secho(f"{name}  {told.label}".rstrip(), bold=True)
        for leaf in told.who.leaves():
            click.echo(f"  {leaf.text}")
    if not known:
        click.echo("no audience has a name yet: write policies/audiences/NAME.yaml")


def check_campaign(workspace: Workspace, document: Document, who: Who) -> None:
    """Look at the audience of a campaign's file before the campaign is made. Raises BadInput with every place."""
    if who:
        _refuse(workspace, document, who, ("audience",))


def _text(clauses: tuple[str, ...]) -> Document:
    import json

    from sendwave import documents

    return documents.load("\n".join(f"- {json.dumps(clause, ensure_ascii=False)}" for clause in clauses), "--where")


def _written(workspace: Workspace, source: str) -> Who:
    """The audience of a file, or of that name. Raises BadInput, NotFound."""
    from sendwave import documents
    from sendwave.errors import NotFound, did_you_mean

    path, known = Path(source), workspace.policy.audiences
    if not path.exists() and source in known:
        return known[source].who
    if not path.exists() and path.suffix not in (".yaml", ".yml"):
        raise NotFound(f"there is no audience and no file {source!r}.{did_you_mean(source, known)}")
    document = documents.load(path)
    data = document.data if isinstance(document.data, dict) else {}
    at = next(((key,) for key in ("who", "audience") if key in data), ())
    own = _read(workspace, document, at)
    kind = workspace.policy.types.get(str(data.get("type"))) if "type" in data else None
    return own if kind is None else kind.audience.joined(own)


def _read(workspace: Workspace, document: Document, at: tuple[str, ...]) -> Who:
    from pydantic import ValidationError

    from sendwave.rules.audience import Who

    data = document.data
    for key in at:
        data = data[key]
    try:
        who = Who.parse(data)
    except ValidationError as wrong:
        found = [((*at, *error["loc"]), error["ctx"]["error"]) for error in wrong.errors()]
        raise document.refused(
            [
                document.mistake(loc, str(slip), at_key=_offset(slip) < 0, offset=max(_offset(slip), 0))
                for loc, slip in found
            ]
        ) from None
    if not who:
        raise document.refused([document.mistake(at, "there is no condition: everybody is in it")])
    _refuse(workspace, document, who, at)
    return who


def _offset(slip: Exception) -> int:
    return getattr(slip, "offset", 0)


def _refuse(workspace: Workspace, document: Document, who: Who, at: tuple[str, ...]) -> None:
    from sendwave.flow import audience as flow

    wrong = flow.check(workspace.db, workspace.engine, workspace.lake, workspace.policy, who)
    if wrong:
        raise document.refused([document.mistake((*at, *loc), str(slip), offset=slip.offset) for loc, slip in wrong])


def _show(document: dict[str, Any], by: str | None, baseline: str | None) -> None:
    rows = [
        (
            "  " * line["depth"] + (f"{_JOINS[line['joined_by']]} " if line["joined_by"] else "") + line["clause"],
            *(number(line[name]) for name in ("yes", "no", "unknown", "so_far")),
        )
        for line in document["clauses"]
    ]
    table("", ("condition", "yes", "no", "not known", "so far"), rows, right=(1, 2, 3, 4))
    told = f"{number(document['people'])} of {number(document['total'])} contacts ({percent(document['share'])})"
    click.secho(told, bold=True)
    names = ("kept", "gained", "lost") if baseline else ()
    if baseline:
        counts = ", ".join(f"{name} {number(document['baseline'][name])}" for name in names)
        click.echo(f"beside {baseline}: {counts}")
    if by is not None:
        lines = [
            (row[by] or "not known", *(number(row[name]) for name in ("people", "total", *names)))
            for row in document["by"]
        ]
        table("", (by, "people", "of", *names), lines, right=range(1, 3 + len(names)))


_JOINS: Final = {"all": "and", "any": "or", "not": "and"}

COMMANDS: Final = {"audience": audience}
