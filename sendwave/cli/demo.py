"""`sendwave demo`: the main job end to end, in a minute, on made-up people and virtual time."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self
from zoneinfo import ZoneInfo

import click

from sendwave.cli.output import emit_json, json_option, number, percent, table

SCENARIOS: Final = ("bad-provider", "healthy", "bad-tail", "bad-list")
ZONE: Final = "Europe/Paris"  # the demo tells the time its people live in
START: Final = datetime(2026, 3, 3, 8, 0, tzinfo=UTC)  # a Tuesday, nine o'clock in Paris


@click.command()
@click.option("--contacts", type=click.IntRange(1_000, 20_000_000), default=200_000, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True, help="Another seed, other people.")
@click.option("--scenario", type=click.Choice(SCENARIOS), default=SCENARIOS[0], show_default=True)
@click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), help="Keep the workspace here, to look around."
)
@json_option
def demo(contacts: int, seed: int, scenario: str, home: Path | None, as_json: bool) -> None:
    """A newsletter to made-up contacts in five waves: who gets it, what each wave does, where and why it stops.

    Everything runs on this machine, through the real code; only the ESP and the clock are simulated.
    """
    from sendwave import log
    from sendwave.demo import play as scenes
    from sendwave.errors import BadInput

    log.configure(level="error")
    if home is not None and (home / "sendwave.yaml").exists():
        raise BadInput(f"{home} holds a workspace already: name another folder, the demo overwrites nothing")
    with tempfile.TemporaryDirectory(prefix="sendwave-demo-") as temporary:
        place = home or Path(temporary)
        with _Teller(quiet=as_json) as teller:
            cast = scenes.Cast(contacts, seed, scenario, START)
            workspace, planned = scenes.prepare(place, cast, teller.tell)
            teller.begin(planned)
            end = scenes.play(workspace, START, teller.tell, teller.watch)
        try:
            _report(workspace, planned, end, place, as_json=as_json, kept=home is not None)
        finally:
            workspace.close()


class _Teller:
    """Lines as things happen; on a terminal also a progress bar that follows the virtual clock."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.quiet, self.zone = quiet, ZoneInfo(ZONE)
        self.console = Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("[bold]{task.fields[clock]}"),
            BarColumn(40),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} people  {task.fields[state]}"),
            console=self.console,
            disable=quiet or not sys.stderr.isatty(),
            transient=True,
        )
        self.task: Any = None

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def begin(self, planned: dict[str, Any]) -> None:
        """The bar's length is the plan."""
        self.task = self.bar.add_task("", total=planned["planned"], clock="", state="")

    def tell(self, at: datetime, line: str) -> None:
        """One thing that happened."""
        from rich.text import Text

        if not self.quiet:
            told = Text.assemble((f"{at.astimezone(self.zone):%a %H:%M}", "dim"), "  ", line)
            self.console.print(told, soft_wrap=True)

    def watch(self, now: datetime, done: int, doing: str) -> None:
        """Where the campaign stands."""
        self.bar.update(self.task, completed=done, clock=f"{now.astimezone(self.zone):%a %H:%M}", state=doing)


def _report(workspace: Any, planned: dict[str, Any], end: datetime, place: Path, *, as_json: bool, kept: bool) -> None:
    from sendwave.cli.campaign import print_campaign
    from sendwave.demo import stage, story, words
    from sendwave.flow import audit
    from sendwave.web.charts import draw

    shown = audit.show(workspace.db, stage.CAMPAIGN)
    accounted = audit.audit(workspace.db, workspace.engine, workspace.lake, stage.CAMPAIGN).document()
    picture = draw(story.picture(workspace, shown))
    drawn = (place if kept else Path.cwd()) / "sendwave-demo.svg"
    drawn.write_text(picture, encoding="utf-8")
    if as_json:
        emit_json({"plan": planned, "campaign": shown, "audit": accounted, "ended": end, "picture": str(drawn)})
        return
    click.echo()
    rows = sorted(planned["excluded"].items(), key=lambda item: -item[1])
    table(
        f"Who was left out: {number(planned['total'] - planned['planned'])} of {number(planned['total'])} contacts",
        ("reason", "people", "share"),
        [(words.label(reason), n, percent(n / planned["total"], 1)) for reason, n in rows],
        right=(1, 2),
    )
    print_campaign(shown)
    click.secho("What happened", bold=True)
    for line in story.tell(shown, accounted):
        click.echo(f"  {line}")
    click.echo(f"\npicture: {drawn}")
    if kept:
        click.echo(f"look around: sendwave explain --home {place} {stage.CAMPAIGN} C0000001")
    else:
        click.echo("keep the workspace to look around: sendwave demo --home demo")


COMMANDS: Final = {"demo": demo}
