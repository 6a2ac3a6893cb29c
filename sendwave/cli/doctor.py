"""`sendwave doctor`: the health of the set-up."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sendwave.cli.output import emit_json, home_option, json_option
from sendwave.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sendwave.rules.health import Finding
    from sendwave.workspace import Workspace

_COLOURS: Final = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_WIDTH: Final = 80
"""Columns where nobody sits at a terminal."""


@click.command()
@home_option
@json_option
def doctor(home: Path, as_json: bool) -> int:
    """Look at settings, policies, store, lake, disks, routes, feeds, campaigns: what is wrong, and what to do next.

    Sends nothing and repairs nothing; the store is opened as by every command. Exit code 1 when something is a
    problem; warnings are none.
    """
    from sendwave import log
    from sendwave.flow.doctor import examine
    from sendwave.rules.health import State
    from sendwave.workspace import Workspace

    log.configure(level=os.environ.get("SENDWAVE_LOG", "error"))
    with contextlib.ExitStack() as left:

        def opened() -> Workspace:
            workspace = Workspace.open(home)
            left.callback(workspace.close)
            return workspace

        found = examine(opened, SystemClock().now())
    problems, warnings = (sum(one.state is state for one in found) for state in (State.PROBLEM, State.WARNING))
    if as_json:
        told = [{"check": one.check, "state": one.state.value, "detail": one.detail, "next": one.next} for one in found]
        emit_json({"checks": told, "problems": problems, "warnings": warnings})
    else:
        _show(found)
        click.echo("all well" if not problems + warnings else f"problems: {problems}, warnings: {warnings}")
    return 1 if problems else 0


def _show(found: Sequence[Finding]) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    drawn.add_column(overflow="fold", max_width=24)
    drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")
    for one in found:
        then = f"\n→ {one.next}" if one.next else ""
        drawn.add_row(Text(one.check), Text(one.state.value, _COLOURS[one.state]), Text(one.detail + then))
    Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False).print(drawn)


COMMANDS: Final = {"doctor": doctor}
