"""`sendwave simulate`: a planned campaign through many seeded worlds, before anybody is written to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sendwave.cli.output import emit_json, in_workspace, json_option, number, percent, table
from sendwave.clock import SystemClock

if TYPE_CHECKING:
    from sendwave.flow.simulate import World
    from sendwave.rules.policy import PolicySet
    from sendwave.rules.whatif import WhatIf
    from sendwave.store.campaigns import Campaign, WaveRow
    from sendwave.workspace import Workspace


@click.command()
@in_workspace
@click.argument("id")
@click.option("--runs", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Runs per policy.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same answer.")
@click.option("--what-if", "changes", multiple=True, metavar="TEXT", help="'complaint x3 in tier cold'; repeatable.")
@click.option(
    "--policies",
    "folders",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A policy folder to compare with; repeatable.",
)
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Draw the answer into a file.")
@json_option
def simulate(
    workspace: Workspace,
    id: str,
    runs: int,
    seed: int,
    changes: tuple[str, ...],
    folders: tuple[Path, ...],
    svg: Path | None,
    as_json: bool,
) -> None:
    """How often campaign ID would halt, how many mails would leave past a limit, how long it would take.

    Rates are those of past campaigns of its type; where there are none, a healthy sender's. The rules are those of the
    daemon. Nobody resumes anything in a simulation: what waits for a person ends there.
    """
    from sendwave.flow import simulate as simulating
    from sendwave.rules import whatif
    from sendwave.store import campaigns

    asked = [whatif.parse(text) for text in changes]
    with workspace.db.read() as connection:
        found = campaigns.get(connection, id)
    worlds = _worlds(workspace, found, folders, asked)
    done = simulating.simulate(worlds, runs=runs, seed=seed, jobs=min(os.cpu_count() or 1, 8))
    variants = [one.document() for one in done]
    document = {"id": found.name, "seed": seed, "what_if": [one.text for one in asked], "variants": variants}
    if svg is not None:
        from sendwave.web import outcomes

        svg.write_text(outcomes.draw(f"{found.name}, simulated {runs} times", variants), encoding="utf-8")
    if as_json:
        emit_json(document)
    else:
        _show(document)


def _worlds(house: Workspace, found: Campaign, folders: Sequence[Path], asked: Sequence[WhatIf]) -> list[World]:
    """One world per policy: the workspace's, or the one the campaign was approved under, and each folder's."""
    from sendwave.flow import policies
    from sendwave.store import campaigns
    from sendwave.store import policies as pinned

    with house.db.read() as connection:
        rows = campaigns.waves(connection, found.id)
        own = pinned.pinned(connection, found.policy_version) if rows and found.policy_version else house.policy
    variants: list[tuple[str, PolicySet, Sequence[WaveRow]]] = [("yours", own, rows or _planned(house, found, own))]
    for folder in folders:
        other = policies.load_policies(folder)
        variants.append((str(folder), other, _planned(house, found, other)))
    return [_world(house, found, variant, asked) for variant in variants]


def _planned(house: Workspace, found: Campaign, policy: PolicySet) -> Sequence[WaveRow]:
    """The waves a plan under that policy would have."""
    from sendwave.flow import plan as planning

    now = SystemClock().now()
    policy.type_of(found.type)  # a folder without this type: say so before anything is read
    done = planning.plan(house.db, house.engine, house.lake, policy, found, by="simulate", now=now, dry_run=True)
    return done.waves


def _world(
    house: Workspace, found: Campaign, variant: tuple[str, PolicySet, Sequence[WaveRow]], asked: Sequence[WhatIf]
) -> World:
    from sendwave.errors import NotAllowed
    from sendwave.flow import simulate as simulating
    from sendwave.rules import whatif
    from sendwave.rules.delays import learn
    from sendwave.store import delays, rates

    name, policy, rows = variant
    if not rows:
        raise NotAllowed(f"nobody is in the plan of {found.name}: there is nothing to simulate")
    tiers = {tier for wave in rows for tier in wave.tiers}
    lanes = {lane for wave in rows for lane in wave.providers}
    whatif.check(asked, tiers=tiers, lanes=lanes, waves={wave.number: wave for wave in rows})
    now, route = SystemClock().now(), found.settings.route
    with house.db.read() as connection:
        past = rates.past(connection, found.type, now, without=found.id)
        late = delays.history(connection, route, now, without=found.id)
    told = [(r.tally, r.provider, r.bin, r.n, (now - r.handed_at).total_seconds() / 60) for r in late]
    kind = policy.types[found.type]
    return simulating.world_of(
        name, policy, kind, rows, route=route, past=past, learnt=learn(told), changes=asked, limits=found.limits
    )


def _show(document: Mapping[str, Any]) -> None:
    click.secho(f"{document['id']}: {', '.join(document['what_if']) or 'as history has it'}", bold=True)
    rows = [
        (
            one["policy"],
            one["runs"],
            _bounded(one["completed"]),
            _bounded(one["halted"]),
            _bounded(one["waits_for_a_person"]),
            _bounded(one["lane_suspended"]),
            number(round(one["mails_past_limit"]["median"])),
            "" if one["hours"] is None else f"{one['hours']['median']:.0f} ({one['hours']['p90']:.0f})",
        )
        for one in document["variants"]
    ]
    names = ("policy", "runs", "completed", "halted", "a person", "lane stopped", "past limit", "hours (9 of 10)")
    table("", names, rows, right=(1, 6, 7))
    for one in document["variants"]:
        reasons = ", ".join(f"{reason} {n}" for reason, n in one["reasons"].items())
        lanes = ", ".join(f"{lane} {n}" for lane, n in one["lanes"].items())
        if reasons or lanes:
            click.echo(
                f"{one['policy']}: "
                + "; ".join(filter(None, (reasons and f"stopped by {reasons}", lanes and f"lanes stopped: {lanes}")))
            )


def _bounded(share: Mapping[str, float]) -> str:
    """A share of runs with its exact 95 % bounds."""
    return f"{percent(share['share'], 0)} ({percent(share['low'], 0)}–{percent(share['high'], 0)})"


COMMANDS: Final = {"simulate": simulate}
