"""`sendwave campaign unknown | settle`: people of whom nobody knows whether the ESP took them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sendwave.cli.output import by_option, emit_json, in_workspace, json_option, number, table
from sendwave.clock import SystemClock

if TYPE_CHECKING:
    from sendwave.workspace import Workspace


@click.command()
@in_workspace
@click.argument("id")
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="One row per person.")
@json_option
def unknown(workspace: Workspace, id: str, csv_file: Path | None, as_json: bool) -> None:
    """People handed over whose fate nobody knows: a node died, or an ESP never answered."""
    from sendwave.flow import settle as settling

    found = settling.unknown(workspace.db, id, now=SystemClock().now())
    if csv_file is not None:
        with csv_file.open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows([settling.COLUMNS, *settling.people(workspace.db, id)])
    if as_json:
        emit_json([one.document() for one in found])
        return
    if not found:
        click.echo(f"campaign {id}: nobody to decide about. Who is unknown for good: sendwave campaign audit {id}")
        return
    when = "%Y-%m-%d %H:%M"
    states = [f"events may tell until {one.until:{when}}" if one.state == "waiting" else one.state for one in found]
    rows = [
        (one.batch, one.wave, one.provider, one.route, f"{one.handed_at:{when}}", one.people, one.seen, state)
        for one, state in zip(found, states, strict=True)
    ]
    names = ("batch", "wave", "provider", "route", "handed over (UTC)", "people", "of them seen", "state")
    table("Unknown", names, rows, right=(0, 1, 5, 6))
    if any(one.state == "undecided" for one in found):
        click.echo(f"Next: sendwave campaign settle {id} --resend|--leave --reason WHY")


@click.command()
@in_workspace
@click.argument("id")
@click.option("--resend", is_flag=True, help="Write to them again; who had the first message then gets two.")
@click.option("--leave", is_flag=True, help="Write to nobody again; who had no message then gets none.")
@click.option("--batch", "batches", type=int, multiple=True, help="Only this batch; may be repeated.")
@click.option("--reason", default="", help="Why; for the journal.")
@by_option
@json_option
def settle(
    workspace: Workspace,
    id: str,
    resend: bool,
    leave: bool,
    batches: tuple[int, ...],
    reason: str,
    by: str,
    as_json: bool,
) -> None:
    """Decide about people whose fate is unknown. Those an event tells about count as accepted in either case."""
    from sendwave.flow import settle as settling

    if resend == leave:
        raise click.UsageError("say what is to become of them: either --resend or --leave")
    done = settling.decide(
        workspace.db, id, resend=resend, reason=reason, by=by, now=SystemClock().now(), chosen=batches
    )
    if as_json:
        emit_json({"id": id, **done.document()})
        return
    what = f"{number(done.resent)} go again" if resend else f"{number(done.left)} are left as they are"
    click.echo(f"campaign {id}: {what}, {number(done.accepted)} were seen in events and count as accepted.")
    if done.resent:
        click.echo("Next: sendwave run sends them")


COMMANDS: Final[dict[str, Any]] = {"unknown": unknown, "settle": settle}
