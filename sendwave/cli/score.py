"""`sendwave score`: everybody's engagement score, now or as of an instant; or the statement, for another database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import click

from sendwave.cli.output import by_option, emit_json, in_workspace, json_option, number, table
from sendwave.clock import SystemClock

if TYPE_CHECKING:
    from sendwave.workspace import Workspace

DIALECTS: Final = ("postgresql", "duckdb", "snowflake", "bigquery", "databricks", "spark", "trino", "clickhouse")


@click.command()
@in_workspace
@click.option("--as-of", metavar="INSTANT", help="Score as things stood then: 2026-03-02 or 2026-03-02T04:00+01:00.")
@click.option("--sql", "dialect", type=click.Choice(DIALECTS), help="Print the statement for that database instead.")
@click.option("--full", is_flag=True, help="Read everything again, though less would do.")
@click.option("--dry-run", is_flag=True, help="Say what would come out; the scores in place stay.")
@by_option
@json_option
def score(
    workspace: Workspace, as_of: str | None, dialect: str | None, full: bool, dry_run: bool, by: str, as_json: bool
) -> int:
    """Score everybody by the grid of policies/score.yaml.

    The daemon does the same once a day, at the grid's time. Exit code 1 where the summary holds a warning.
    """
    now = SystemClock().now()
    instant = _instant(as_of, workspace.settings.time_zone) if as_of else now
    if dialect:
        return _print_statement(workspace, dialect, instant)
    from sendwave.flow.score import score as run

    house = workspace
    summary = run(
        house.db,
        house.engine,
        house.lake,
        house.policy,
        now=now,
        by=by,
        as_of=instant,
        full=full,
        dry_run=dry_run,
        elsewhere=house.settings.engine.url,
    )
    if not dry_run:
        from sendwave.flow import tiers

        tiers.name_tiers(house.db, house.engine, house.lake, house.policy.tiers, now=now, by=by)
    if as_json:
        emit_json(summary.document())
    else:
        _show(summary.document(), workspace.settings.time_zone)
    return 1 if summary.warnings else 0


def _instant(text: str, zone: str) -> datetime:
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--as-of {text!r} is no instant: write 2026-03-02 or 2026-03-02T04:00+01:00") from None
    return (told if told.tzinfo else told.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def _print_statement(workspace: Workspace, dialect: str, as_of: datetime) -> int:
    from sendwave.engine import dialects
    from sendwave.errors import BadInput

    if workspace.policy.score is None:
        raise BadInput("there is no scoring grid: write policies/score.yaml")
    click.echo(dialects.score_sql(workspace.policy.score, dialect, int(as_of.timestamp())))
    click.secho(dialects.PROVEN[dialect], err=True, fg="yellow")
    return 0


def _show(told: dict[str, Any], zone: str) -> None:
    why = f" ({told['why']})" if told["why"] else ""
    when = f"{datetime.fromisoformat(told['as_of']).astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"
    click.echo(f"{number(told['contacts'])} contacts scored as of {when}: {told['mode']} run{why}")
    click.echo(
        f"  scores from {_plain(told['lowest'])} to {_plain(told['highest'])}, {number(told['changed'])} changed"
    )
    click.echo(f"  grid {told['grid_version'][:12]}")
    if told["acts"]:
        table("what counts", ("touchpoint", "acts"), list(told["acts"].items()), right=(1,))
    if told["implied"]:
        table("implied by another act, not counted", ("kind", "acts"), list(told["implied"].items()), right=(1,))
    if told["left_out"]:
        click.echo(f"without any data, left out: {', '.join(told['left_out'])}")
    if told["unknown_kinds"]:
        table("kinds the grid does not speak of", ("kind", "acts"), list(told["unknown_kinds"].items()), right=(1,))
    for warning in told["warnings"]:
        click.secho(warning, fg="yellow", err=True)


def _plain(score: float | None) -> str:
    return "none" if score is None else f"{score:g}"


COMMANDS: Final = {"score": score}
