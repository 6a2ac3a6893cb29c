"""`sendwave init` and `sendwave check`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sendwave.cli.output import emit_json, in_workspace, json_option
from sendwave.clock import SystemClock
from sendwave.errors import BadInput

if TYPE_CHECKING:
    from sendwave.workspace import Workspace

EXPORTS: Final = ("contacts", "consents", "suppressions", "scores", "sends")
"""Kinds of files a first campaign wants, in the order of their import."""

SETTINGS: Final = """\
# What this workspace is made of. `sendwave check` says what is wrong with it.
time_zone: Europe/Paris       # dates without a zone in your files are read in this one
policies: policies            # your files; what they leave out comes from the shipped defaults

routes:                       # how messages leave; a campaign names one
  rehearsal:                  # an ESP of our own, for trying things out: nothing leaves this machine
    esp: simulated
    seed: 1
  # relay:                    # your SMTP relay
  #   esp: smtp
  #   host: 127.0.0.1
  #   port: 25
  #   bounce_domain: bounces.example.com   # bounces come back to b-TOKEN@ this domain …
  #   bounces: mail/bounces                # … into this Maildir
"""

CAMPAIGN: Final = """\
# sendwave campaign create campaigns/first.yaml
name: first
title: Our first newsletter in waves
type: newsletter
route: rehearsal
sender: "Maison Lune <news@maisonlune.example>"
subject: "{{ first_name }}, les nouveautés de la saison"
content: content/first
unsubscribe: "https://maisonlune.example/u/{token}"
"""

TEXT: Final = """\
Bonjour {{ first_name }},

Voici les nouveautés de la saison.

Se désinscrire : {{ unsubscribe_url }}
"""

HTML: Final = """\
<!doctype html>
<html lang="fr"><body>
<p>Bonjour {{ first_name }},</p>
<p>Voici les nouveautés de la saison.</p>
<p><a href="{{ unsubscribe_url }}">Se désinscrire</a></p>
</body></html>
"""


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--example",
    type=click.Choice(("retail", "finance")),
    help="Policies of that business, with a small data set to score; retail policies without data else.",
)
@click.option("--people", type=click.IntRange(1, 5_000_000), help="Also write CSV files of that many made-up contacts.")
@json_option
def init(directory: Path, example: str | None, people: int | None, as_json: bool) -> None:
    """Make a workspace in DIRECTORY: sendwave.yaml, policies/ to edit, an example campaign. Never overwrites."""
    from sendwave.flow import policies

    texts = {
        "sendwave.yaml": SETTINGS,
        "campaigns/first.yaml": CAMPAIGN,
        "content/first/body.txt": TEXT,
        "content/first/body.html": HTML,
        **{f"policies/{name}": text for name, text in policies.starter(example or "retail").items()},
    }
    sample = policies.sample(example) if example and not people else {}
    texts |= {f"data/{name}": text for name, text in sample.items()}
    exports = [f"data/{kind}.csv" for kind in EXPORTS] if people else []
    if taken := [name for name in (*texts, *exports) if (directory / name).exists()]:
        raise BadInput(f"{directory} holds {_few(taken)} already; nothing was changed")
    for name, text in texts.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")
    (directory / "data").mkdir(exist_ok=True)
    if people:
        from sendwave.demo.people import make

        make(directory / "data", contacts=people, seed=1, now=SystemClock().now())
    if as_json:
        emit_json({"home": str(directory), "example": example or "retail", "files": sorted((*texts, *exports))})
        return
    own = ", put your files into data/" * (not people and not sample)
    click.echo("\n  ".join([f"workspace made in {directory}\nNext: cd {directory}{own}", *_next_steps(sample)]))


def _next_steps(sample: Mapping[str, str]) -> list[str]:
    """The commands that come next, for an example's data set or for files of one's own."""
    from sendwave.flow.policies import SAMPLE_DAY

    if sample:
        imports = [f"sendwave import {Path(name).stem} data/{name}" for name in sample]
        return [*imports, f"sendwave score --as-of {SAMPLE_DAY}", "sendwave distribution", "sendwave tiers suggest"]
    imports = [f"sendwave import {kind} data/{kind}.csv" for kind in EXPORTS]
    return [*imports, "sendwave campaign create campaigns/first.yaml"]


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@click.command()
@in_workspace
@json_option
def check(workspace: Workspace, as_json: bool) -> int:
    """Read settings, policies and routes, and say every mistake with its place."""
    from sendwave.errors import NotFound
    from sendwave.rules import bounces

    problems: list[str] = []
    for part in (
        lambda: workspace.policy,
        lambda: workspace.adapters,
        lambda: workspace.channels,
        workspace.check_doors,
    ):
        try:
            part()
        except BadInput as wrong:
            problems += wrong.findings or (str(wrong),)
        except NotFound as wrong:
            problems.append(str(wrong))
    problems = list(dict.fromkeys([*problems, *bounces.self_test()]))  # routes repeat what the policies said
    warnings = [] if problems else list(workspace.policy_warnings)
    if as_json:
        emit_json({"ok": not problems, "findings": problems, "warnings": warnings})
        return 1 if problems else 0
    for problem in problems:
        click.echo(problem)
    for warning in warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    if not problems:
        types, routes = ", ".join(sorted(workspace.policy.types)), ", ".join(workspace.adapters)
        click.echo(f"all well. Policy {workspace.policy.version[:12]}: types {types}; routes {routes or 'none yet'}")
    return 1 if problems else 0


COMMANDS: Final = {"init": init, "check": check}
