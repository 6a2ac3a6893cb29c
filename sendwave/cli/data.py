"""`sendwave import`: files into the lake."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sendwave.cli.output import by_option, emit_json, in_workspace, json_option, number, table
from sendwave.clock import SystemClock
from sendwave.errors import BadInput

if TYPE_CHECKING:
    from sendwave.rules.layout import Layout
    from sendwave.workspace import Workspace

KINDS: Final = ("contacts", "consents", "interactions", "suppressions", "scores", "sends", "experiments", "signals")


_LAYOUT: Final = (
    click.option("--delimiter", metavar="CHAR", help="Between columns: a character, tab or space (any run of blanks)."),
    click.option("--no-header", "headless", is_flag=True, help="The first line is a row; columns are called 1, 2, 3 …"),
    click.option("--encoding", metavar="NAME", help="Where it is not UTF-8: windows-1252 for old Excel exports."),
    click.option("--date-format", metavar="FORM", help="day-first (default), month-first, or such as '%d %b %Y'."),
    click.option(
        "--skip",
        multiple=True,
        metavar="COLUMN=PATTERN",
        help="Rows to leave out: InvoiceNo=C*; COLUMN= where it is empty.",
    ),
    click.option("--keep-repeats", "repeats", is_flag=True, help="Equal interactions in a file are as many, not one."),
)


def _layout_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what a file does not say of itself; the command is given its `layout`, None without any."""

    @functools.wraps(command)
    def told(*args: Any, headless: bool, **options: Any) -> Any:
        from sendwave.rules.layout import layout_of

        names = ("delimiter", "encoding", "date_format", "skip", "repeats")
        said = {name: options.pop(name) for name in names}
        layout = layout_of(heading=not headless, **said) if headless or any(said.values()) else None
        return command(*args, **options, layout=layout)

    for option in reversed(_LAYOUT):
        told = option(told)
    return told


@click.command("import")
@in_workspace
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--map", "mapping", multiple=True, metavar="COLUMN=FIELD", help="Where a column's name is not ours.")
@click.option("--set", "constants", multiple=True, metavar="FIELD=VALUE", help="A field with one value in every row.")
@click.option("--create-contacts", is_flag=True, help="People nobody imported become contacts without an address.")
@_layout_options
@click.option("--time-zone", metavar="ZONE", help="Where dates without a zone were written; of sendwave.yaml else.")
@click.option("--strict", is_flag=True, help="One bad row and nothing lands.")
@click.option("--max-bad", metavar="SHARE", default="20%", show_default=True, help="More bad rows and nothing lands.")
@by_option
@json_option
def import_(
    workspace: Workspace,
    kind: str,
    files: tuple[Path, ...],
    mapping: tuple[str, ...],
    constants: tuple[str, ...],
    create_contacts: bool,
    layout: Layout | None,
    time_zone: str | None,
    strict: bool,
    max_bad: str,
    by: str,
    as_json: bool,
) -> int:
    """Bring FILES (CSV, Parquet or JSON lines) of one KIND into the lake.

    Bad rows are written to a rejects file with their line and reason; the rest lands, or nothing does. `signals` are
    daily counts of providers (Google Postmaster Tools, Signal Spam), CSV or JSON lines: the gates judge by them.
    """
    if kind == "signals":
        if layout or time_zone:
            raise BadInput("signals are CSV or JSON lines with a heading: only --map, --set and --strict apply to them")
        return _import_signals(workspace, files, mapping, constants, strict=strict, by=by, as_json=as_json)
    from sendwave.flow import intake
    from sendwave.rules.units import check_zone, parse_percent

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
        layout=layout,
        strict=strict,
        max_bad=_option("--max-bad", parse_percent, max_bad),
        rejects_dir=workspace.home / "rejects",
        time_zone=str(_option("--time-zone", check_zone, time_zone or workspace.settings.time_zone)),
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


def _option(name: str, read: Callable[[str], Any], text: str) -> Any:
    """The value of an option. Raises BadInput that names it."""
    try:
        return read(text)
    except ValueError as wrong:
        raise BadInput(f"{name} {text}: {wrong}") from None


def _pairs(texts: tuple[str, ...], example: str) -> dict[str, str]:
    """NAME=VALUE options as a mapping."""
    pairs = [text.partition("=") for text in texts]
    if wrong := ["".join(pair) for pair in pairs if not all(pair)]:
        raise click.UsageError(f"{', '.join(wrong)}: write {example}")
    return {name: value for name, _, value in pairs}


def _show(kind: str, document: dict[str, object]) -> None:
    bad = document["rejected"]
    rejected = f"{number(bad)} {'row' if bad == 1 else 'rows'} rejected"
    click.echo(f"{number(document['landed'])} {kind} landed, {rejected}")
    _show_columns(document.get("columns"))
    for title in ("counts", "rejects", "notes"):
        found = document.get(title)
        if isinstance(found, dict) and found:
            table(title, ("what", "rows"), sorted(found.items(), key=lambda item: -item[1]), right=(1,))
    if document.get("rejects_file"):
        click.secho(f"file, line and reason of each: {document['rejects_file']}", fg="yellow")
    for title in ("findings", "advice"):
        found = document.get(title)
        for line in found[:5] if isinstance(found, list) else ():
            click.echo(f"  {line}")


def _show_columns(columns: object) -> None:
    """Which heading was read as what, so that a wrong guess is seen: `--map` puts it right."""
    from sendwave.rules.imports import ATTRIBUTE

    if not isinstance(columns, dict):
        return
    named = [f"{heading} → {field}" for heading, field in columns.items() if not field.startswith(ATTRIBUTE)]
    kept = [field.removeprefix(ATTRIBUTE) for field in columns.values() if field.startswith(ATTRIBUTE)]
    if named:
        click.echo(f"read as: {', '.join(named)}")
    if kept:
        click.echo(f"kept as attributes: {', '.join(kept)}")


COMMANDS: Final = {"import": import_}
