"""What commands share: their options, and how they print. One JSON document on stdout, or a table for people."""

from __future__ import annotations

import functools
import getpass
import json
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sendwave.workspace import Workspace

home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path(os.environ.get("SENDWAVE_HOME", ".")),
    show_default="SENDWAVE_HOME or .",
    help="The workspace.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
by_option = click.option(
    "--by", default=lambda: os.environ.get("SENDWAVE_USER") or getpass.getuser(), help="Who does it, for the journal."
)


def in_workspace(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command an open workspace as its first argument, and close it afterwards."""

    @home_option
    @functools.wraps(command)
    def opened(*, home: Path, **options: Any) -> Any:
        from sendwave import log
        from sendwave.workspace import Workspace

        log.configure(level=os.environ.get("SENDWAVE_LOG", "warning"))
        workspace: Workspace = Workspace.open(home)
        try:
            return command(workspace, **options)
        finally:
            workspace.close()

    return opened


def emit_json(document: Any) -> None:
    """One document, stable keys, no colour."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Collection[int] = ()) -> None:
    """A table for people; numbers in the columns `right` are aligned to the right."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table()
    for index, column in enumerate(columns):
        drawn.add_column(column, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(number(cell) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    if console.measure(drawn, options=console.options.update(width=1000)).maximum > console.width:
        drawn.box, drawn.padding, drawn.pad_edge = (
            None,
            (0, 1, 0, 0),
            False,
        )  # narrow: no lines, fewer blanks
    if title:
        console.print(title, style="bold", markup=False)
    console.print(drawn)


def number(value: Any) -> str:
    """Thousands apart, nothing for None."""
    if value is None:
        return ""
    return f"{value:,}".replace(",", "\u202f") if isinstance(value, int) and not isinstance(value, bool) else str(value)


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as a percentage."""
    return "" if value is None else f"{value * 100:.{digits}f} %"


def figures(value: float | None) -> str:
    """A fraction in percent to three figures or so, without the sign: 0.042, 9.24, 15.0."""
    if value is None:
        return ""
    share = value * 100
    return f"{share:.{3 if share < 1 else 2 if share < 10 else 1}f}"  # as many as say something


def pairs(title: str, items: Mapping[str, Any]) -> None:
    """A short list of names and values."""
    click.secho(title, bold=True)
    width = max((len(key) for key in items), default=0)
    for key, value in items.items():
        click.echo(f"  {key.ljust(width)}  {number(value)}")
