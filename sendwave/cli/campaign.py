"""`sendwave campaign …` and `sendwave explain`: a campaign's life, as people steer it."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sendwave.cli import overrule, settle, verdicts
from sendwave.cli.audience import check_campaign
from sendwave.cli.groups import Group
from sendwave.cli.output import by_option, emit_json, figures, in_workspace, json_option, number, pairs, percent, table
from sendwave.clock import SystemClock

if TYPE_CHECKING:
    from sendwave.workspace import Workspace


@click.group(cls=Group)
def campaign() -> None:
    """Create, plan, approve, watch, stop and account for campaigns."""


@campaign.command()
@in_workspace
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@by_option
@json_option
def create(workspace: Workspace, file: Path, by: str, as_json: bool) -> None:
    """Create a campaign from a YAML FILE; it stays a draft until it is planned and approved."""
    from sendwave import documents
    from sendwave.flow import steer
    from sendwave.rules.campaign import CampaignFile

    document = documents.load(file)
    described = documents.validate(document, CampaignFile)
    workspace.check_content(described)
    check_campaign(workspace, document, described.audience)
    made = steer.create(
        workspace.db,
        workspace.policy,
        described,
        routes=tuple(workspace.settings.routes),
        by=by,
        now=SystemClock().now(),
        unsubscribe=workspace.settings.unsubscribe_url,
    )
    if as_json:
        emit_json({"id": made.name, "type": made.type, "status": made.status})
    else:
        click.echo(f"campaign {made.name} created ({made.type}). Next: sendwave campaign plan {made.name}")


@campaign.command("list")
@in_workspace
@json_option
def list_(workspace: Workspace, as_json: bool) -> None:
    """All campaigns, newest first."""
    from sendwave.store import campaigns

    with workspace.db.read() as connection:
        found = sorted(campaigns.listing(connection), key=lambda c: c.id, reverse=True)
    if as_json:
        emit_json([{"id": c.name, "title": c.title, "type": c.type, "status": c.status} for c in found])
    elif found:
        table("", ("campaign", "type", "status", "title"), [(c.name, c.type, c.status, c.title) for c in found])
    else:
        click.echo("no campaign yet: sendwave campaign create FILE")


@campaign.command()
@in_workspace
@click.argument("id")
@click.option("--dry-run", is_flag=True, help="Count, but store nothing.")
@by_option
@json_option
def plan(workspace: Workspace, id: str, dry_run: bool, by: str, as_json: bool) -> None:
    """Give every contact a place in the waves, or the reason for having none."""
    from sendwave.flow import plan as planning
    from sendwave.store import campaigns

    with workspace.db.read() as connection:
        found = campaigns.get(connection, id)
    summary = planning.plan(
        workspace.db,
        workspace.engine,
        workspace.lake,
        workspace.policy,
        found,
        by=by,
        now=SystemClock().now(),
        dry_run=dry_run,
    )
    document = summary.document()
    if as_json:
        emit_json(document)
        return
    _print_plan(document)
    click.echo("dry run: nothing stored" if dry_run else f"Next: sendwave campaign approve {id}")


def _told(power: dict[str, Any]) -> str:
    """The smallest multiple of the limit a wave would stop at; with a star where good mail cannot clear the wave."""
    multiple = ">10x" if power["detects"] is None else f"{power['detects']:g}x"
    return multiple + ("" if power["clears"] else "*")


def _print_power(waves: list[dict[str, Any]]) -> None:
    """How bad each signal must be to stop the campaign inside each wave."""
    signals = [power["signal"] for power in waves[0]["power"]] if waves else []
    if not signals:
        return
    rows = [(w["number"], *(_told(power) for power in w["power"])) for w in waves]
    title = "How many times its limit a rate must be to stop the campaign before the next wave opens"
    table(title, ("wave", *signals), rows, right=range(len(signals) + 1))
    if any(cell.endswith("*") for row in rows for cell in row[1:]):
        click.echo(
            "* too few people to prove a good rate: the next wave opens when half of the answers due show no excess"
        )


def _print_plan(document: dict[str, Any]) -> None:
    click.echo(f"{number(document['planned'])} of {number(document['total'])} contacts are in the plan")
    waves = [
        (
            w["number"],
            w["planned"],
            ("pilot of " if w["pilot"] else "") + ", ".join(f"{tier} {number(n)}" for tier, n in w["tiers"].items()),
        )
        for w in document["waves"]
    ]
    table("Waves", ("wave", "people", "tiers"), waves, right=(0, 1))
    _print_power(document["waves"])
    left = sorted(document["excluded"].items(), key=lambda item: -item[1])
    table("Left out", ("reason", "people"), left, right=(1,))
    for warning in document["warnings"]:
        click.secho(f"warning: {warning}", fg="yellow", err=True)


@campaign.command()
@in_workspace
@click.argument("id")
@by_option
@json_option
def approve(workspace: Workspace, id: str, by: str, as_json: bool) -> None:
    """Approve the plan: the daemon sends from then on (or from the campaign's start)."""
    from sendwave.flow import plan as planning
    from sendwave.flow import steer, waiting
    from sendwave.store import campaigns

    with workspace.db.read() as connection:
        found = campaigns.get(connection, id)
        changed = planning.is_stale(connection, found, workspace.policy) if found.plan_file else []
    now, allowed = SystemClock().now(), workspace.settings.approvers
    steer.approve(workspace.db, workspace.policy, found, stale=changed, by=by, now=now, approvers=allowed)
    told = waiting.foretold(workspace.db, found)
    _done(as_json, id, "approved", f"sendwave run sends it ({told})")


@campaign.command()
@in_workspace
@click.argument("id")
@click.option("--reason", default="", help="Shown beside the hold and in the journal.")
@by_option
@json_option
def pause(workspace: Workspace, id: str, reason: str, by: str, as_json: bool) -> None:
    """Stop handing over, until resumed. What is with the ESP already stays there."""
    from sendwave.flow import steer

    steer.pause(workspace.db, id, reason=reason, by=by, now=SystemClock().now())
    _done(as_json, id, "paused", f"sendwave campaign resume {id}")


@campaign.command()
@in_workspace
@click.argument("id")
@click.option("--to", "wave", type=click.IntRange(min=0), required=True, help="Last wave that may still be sent.")
@click.option("--reason", default="")
@by_option
@json_option
def shorten(workspace: Workspace, id: str, wave: int, reason: str, by: str, as_json: bool) -> None:
    """End the campaign after a wave: later waves are skipped."""
    from sendwave.flow import steer

    steer.shorten(workspace.db, id, wave, reason=reason, by=by, now=SystemClock().now())
    _done(as_json, id, f"shortened to wave {wave}", "")


@campaign.command()
@in_workspace
@click.argument("id")
@click.option("--reason", default="")
@by_option
@json_option
def cancel(workspace: Workspace, id: str, reason: str, by: str, as_json: bool) -> None:
    """End it for good: nobody else is written to, unused slots are given back."""
    from sendwave.flow import steer

    steer.cancel(workspace.db, id, reason=reason, by=by, now=SystemClock().now())
    _done(as_json, id, "cancelled", "")


def _done(as_json: bool, id: str, what: str, following: str) -> None:
    if as_json:
        emit_json({"id": id, "done": what})
    else:
        click.echo(f"campaign {id} {what}." + (f" Next: {following}" if following else ""))


@campaign.command()
@in_workspace
@click.argument("id")
@json_option
def show(workspace: Workspace, id: str, as_json: bool) -> None:
    """Where a campaign stands: waves, lanes, holds, signals."""
    from sendwave.flow import audit, waiting

    now, zone = SystemClock().now(), workspace.settings.time_zone
    document = audit.show(workspace.db, id, now=now)
    waits = waiting.waits(workspace.db, id, zone=zone, now=now)
    document |= {"waits": [wait.document() for wait in waits]}
    if as_json:
        emit_json(document)
        return
    print_campaign(document)


def print_campaign(document: dict[str, Any]) -> None:
    """`campaign show` for people."""
    click.secho(f"{document['name']}  {document['type']}  {document['status']}", bold=True)
    keys = ("number", "status", "planned", "released", "accepted", "refused", "unknown", "not_sent")
    if document["waves"]:
        table("Waves", keys, [[wave[key] for key in keys] for wave in document["waves"]], right=range(2, 8))
    for hold in document["holds"]:
        click.secho(f"held: {hold['scope']}: {hold['reason']} since {hold['since']} by {hold['by']}", fg="yellow")
        if hold.get("detail"):
            click.echo(f"      {hold['detail']}")
    for wait in document.get("waits", ()):
        until = f" until {wait['until'][:16].replace('T', ' ')} UTC" if wait["until"] else ""
        click.echo(f"waits{until}: {wait['words']}")
    for signal, levels in document["limits"].items():
        told = ", ".join(f"{level} {rate}" for level, rate in levels.items() if level != "since")
        click.secho(f"limits of this campaign alone: {signal} {told}", fg="yellow")
    rows = [
        (
            s["signal"],
            s["wave"] or "all",
            s["provider"] or "all",
            s["events"],
            round(s["exposure"]),
            f"{figures(s['rate'])} %" if s["rate"] is not None else "",
            f"{figures(s['low'])} – {figures(s['high'])} %",
            percent(s["limit"]),
            s["verdict"],
        )
        for s in document["signals"]
        if (s["verdict"] != "pass" and s["events"]) or (not s["wave"] and not s["provider"])  # no event, no news
    ]
    if rows:
        names = ("signal", "wave", "provider", "events", "matured", "rate", "surely within", "limit", "verdict")
        table("Signals", names, rows, right=(3, 4, 5))
    days = [
        (d["day"], d["provider"], d["signal"], d["events"], percent(d["rate"], 3), d["source"])
        for d in document["told_per_day"]
    ]
    if days:
        table("Told per day", ("day (UTC)", "provider", "signal", "events", "rate", "source"), days, right=(3, 4))


@campaign.command()
@in_workspace
@click.argument("id")
@json_option
def journal(workspace: Workspace, id: str, as_json: bool) -> None:
    """Who did what, when and why, with the evidence of every verdict."""
    from sendwave.store import campaigns
    from sendwave.store import journal as book

    with workspace.db.read() as connection:
        entries = book.read(connection, campaigns.get(connection, id).id)
    if as_json:
        emit_json([entry.document() for entry in entries])
    else:
        rows = [(f"{e.at:%Y-%m-%d %H:%M:%S}", e.actor, e.action, e.wave, e.provider, e.reason) for e in entries]
        table("", ("at (UTC)", "who", "action", "wave", "provider", "reason"), rows)


@campaign.command()
@in_workspace
@click.argument("id")
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="One row per person.")
@json_option
def audit(workspace: Workspace, id: str, csv_file: Path | None, as_json: bool) -> None:
    """Everybody of the plan exactly once: sent, not sent and why, unknown."""
    from sendwave.flow import audit as auditing

    found = auditing.audit(workspace.db, workspace.engine, workspace.lake, id)
    if csv_file is not None:
        with csv_file.open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerow(auditing.COLUMNS)
            for row in found.rows():
                writer.writerow(["" if cell is None else cell for cell in row])
    if as_json:
        emit_json(found.document())
        return
    document = found.document()
    pairs(f"{id}: {number(document['total'])} people", {"sent": document["sent"], "unknown": document["unknown"]})
    table("Not sent", ("reason", "people"), sorted(document["not_sent"].items(), key=lambda i: -i[1]), right=(1,))


@click.command()
@in_workspace
@click.argument("id")
@click.argument("contact")
@click.option("--html", "html_file", type=click.Path(dir_okay=False, path_type=Path), help="Also as a piece of a page.")
@json_option
def explain(workspace: Workspace, id: str, contact: str, html_file: Path | None, as_json: bool) -> None:
    """The whole chain of rules for one CONTACT (your own id), and what would change the answer."""
    from sendwave.flow import explain as explaining
    from sendwave.flow.release.reaching import Reaching
    from sendwave.store import campaigns

    with workspace.db.read() as connection:
        found = campaigns.get(connection, id)
    now, where = SystemClock().now(), (workspace.db, workspace.engine, workspace.lake)
    reach = Reaching(*where, found, workspace.texts, now).of
    document = explaining.explain(*where, workspace.policy, found, contact, now=now, reach=reach)
    if html_file is not None:
        from sendwave.web import explaining as page

        html_file.write_text(page.fragment(document), encoding="utf-8")
    if as_json:
        emit_json(document)
        return
    click.secho(f"{document['contact']} in {document['campaign']}: {document['decision']}", bold=True)
    for link, following in pairwise([*document["chain"], {}]):
        if link["passed"] and (following.get("passed"), following.get("detail")) == (True, link["detail"]):
            continue  # the same fact passes several rules: for people the last of them stands for all
        mark = {True: "✓", False: "✗", None: "·"}[link["passed"]]
        click.echo(f"  {mark} {link['rule']:<18} {link['detail']}")
    for line in document.get("would_change", ()):
        click.echo(f"  → {line}")


for _name, _command in {**overrule.COMMANDS, **settle.COMMANDS}.items():
    campaign.add_command(_command, _name)
campaign.add_command(verdicts.verdicts, "verdicts")

COMMANDS: Final = {"campaign": campaign, "explain": explain}
