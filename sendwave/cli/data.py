"""`sendwave import`: files into the lake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sendwave.cli.output import by_option, emit_json, in_workspace, json_option, number, table
from sendwave.clock import SystemClock

if TYPE_CHECKING:
    from sendwave.workspace import Workspace

KINDS: Final = ("contacts", "consents", "interactions", "suppressions", "scores", "sends", "experiments", "signals")


@click.command("import")
@in_workspace
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--map", "mapping", multiple=True, metavar="COLUMN=FIELD", help="Where a column's name is not ours.")
@click.option("--set", "constants", multiple=True, metavar="FIELD=VALUE", help="A field with one value in every row.")
@click.option("--create-contacts", is_flag=True, help="People nobody imported become contacts without an address.")
@click.option("--strict", is_flag=True, help="One bad row and nothing lands.")
@by_option
@json_option
def import_(
    workspace: Workspace,
    kind: str,
    files: tuple[Path, ...],
    mapping: tuple[str, ...],
    constants: tuple[str, ...],
    create_contacts: bool,
    strict: bool,
    by: str,
    as_json: bool,
) -> int:
    """Bring FILES (CSV, Parquet or JSON lines) of one KIND into the lake.

    Bad rows are written to a rejects file with their line and reason; the rest lands, or nothing does. `signals` are
    daily counts of providers (Google Postmaster Tools, Signal Spam), CSV or JSON lines: the gates judge by them.
    """
    if kind == "signals":
        return _import_signals(workspace, files, mapping, constants, strict=strict, by=by, as_json=as_json)
    from sendwave.flow import intake

    summary = intake.import_files(
        workspace.db,
        workspace.engine,
        workspace.lake,
        kind,
        files,
        lanes=workspace.policy.lanes,
        mapping=_pairs(mapping, "--map COLUMN=FIELD"),
        constants=_pairs(constants, "--set FIELD=VALUE"),
        create_contacts=create_contacts,
        strict=strict,
        rejects_dir=workspace.home / "rejects",
        time_zone=workspace.settings.time_zone,
        now=SystemClock().now(),
        by=by,
    )
    if kind == "scores":
        from sendwave.flow import tiers

        house, cuts = workspace, workspace.policy.tiers
        tiers.name_tiers(house.db, house.engine, house.lake, cuts, now=SystemClock().now(), by=by)
    if as_json:
        emit_json(summary.document())
    else:
        _show(kind, summary.document())
    return 1 if summary.document()["rejected"] else 0


def _import_signals(
    house: Workspace,
    files: tuple[Path, ...],
    mapping: tuple[str, ...],
    constants: tuple[str, ...],
    *,
    strict: bool,
    by: str,
    as_json: bool,
) -> int:
    """Daily counts go to the store."""
    from sendwave.flow import daily_figures

    document = daily_figures.import_files(
        house.db,
        files,
        lanes=house.policy.lanes,
        mapping=_pairs(mapping, "--map COLUMN=FIELD"),
        constants=_pairs(constants, "--set FIELD=VALUE"),
        strict=strict,
        rejects_dir=house.home / "rejects",
        now=SystemClock().now(),
        by=by,
    ).document()
    if as_json:
        emit_json(document)
    else:
        _show("signals", document)
    return 1 if document["rejected"] else 0


def _pairs(texts: tuple[str, ...], example: str) -> dict[str, str]:
    """NAME=VALUE options as a mapping."""
    pairs = [text.partition("=") for text in texts]
    if wrong := ["".join(pair) for pair in pairs if not all(pair)]:
        raise click.UsageError(f"{', '.join(wrong)}: write {example}")
    return {name: value for name, _, value in pairs}


def _show(kind: str, document: dict[str, object]) -> None:
    click.echo(f"{number(document['landed'])} {kind} landed, {number(document['rejected'])} rows rejected")
    for title in ("counts", "rejects", "notes"):
        found = document.get(title)
        if isinstance(found, dict) and found:
            table(title, ("what", "rows"), sorted(found.items(), key=lambda item: -item[1]), right=(1,))
    if document.get("rejects_file"):
        click.secho(f"rejected rows, with file, line and reason: {document['rejects_file']}", fg="yellow")


COMMANDS: Final = {"import": import_}
