"""`sendwave pressure`: whom the rules leave out, who wins whom, what is spent, before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from sendwave.cli.groups import Group
from sendwave.cli.output import by_option, emit_json, in_workspace, json_option, number, pairs, table
from sendwave.clock import SystemClock

if TYPE_CHECKING:
    from sendwave.flow.pressure import Comparison
    from sendwave.workspace import Workspace


@click.group(cls=Group)
def pressure() -> None:
    """Marketing pressure: look at it before it is applied."""


@pressure.command()
@in_workspace
@click.argument("id")
@click.option("--segment", help="Also by a column of the contacts: country, language, an attribute of your own.")
@json_option
def preview(workspace: Workspace, id: str, segment: str | None, as_json: bool) -> None:
    """Whom each pressure rule leaves out of the plan of campaign ID, by tier and segment."""
    from sendwave.flow import pressure as looking
    from sendwave.store import campaigns

    with workspace.db.read() as connection:
        found = campaigns.get(connection, id)
    seen = looking.preview(workspace.db, workspace.engine, workspace.lake, found, segment=segment)
    document = seen.document()
    if as_json:
        emit_json(document)
        return
    left_out = sum(document["rules"].values())
    click.secho(f"{id}: {number(seen.planned)} people planned, {number(left_out)} left out by pressure", bold=True)
    names = ("rule", "tier", *((segment,) if segment else ()), "people")
    rows = [
        (row["reason"], row["tier"], *((row["segment"],) if segment else ()), row["people"]) for row in seen.left_out
    ]
    table("", names, rows, right=(len(names) - 1,))


@pressure.command()
@in_workspace
@json_option
def replay(workspace: Workspace, as_json: bool) -> None:
    """What the policy in force would have done to the sends of the last 90 days."""
    from sendwave.flow import pressure as looking

    policies = {"today": workspace.policy}
    played = looking.compare(workspace.db, workspace.engine, workspace.lake, policies, now=SystemClock().now())
    if as_json:
        emit_json(played.document())
    else:
        show_comparison(played)


@pressure.command()
@in_workspace
@by_option
@json_option
def arbitrate(workspace: Workspace, by: str, as_json: bool) -> None:
    """Which campaign wins whom over what, as release would answer now; beside the answers of the last run."""
    from sendwave.flow import arbitrate as arbitrating

    now = SystemClock().now()
    found = arbitrating.arbitrate(workspace.db, workspace.engine, workspace.lake, by=by, now=now)
    if as_json:
        emit_json(found.document())
        return
    click.secho(f"run {found.run}; first to go: {', '.join(found.campaigns) or 'nobody'}", bold=True)
    rows = [(one["loser"], one["winner"], one["reason"], one["people"], one["before"]) for one in found.lost]
    if rows:
        table("", ("loses", "to", "over", "people", "run before"), rows, right=(3, 4))
    else:
        click.echo("no campaign loses anybody to another")


@pressure.command()
@in_workspace
@click.argument("id")
@json_option
def budget(workspace: Workspace, id: str, as_json: bool) -> None:
    """What campaign ID has spent, what is reserved for frozen people, what is left; what its plan costs by country."""
    from sendwave.flow.release import budgeting
    from sendwave.store import campaigns

    with workspace.db.read() as connection:
        found = campaigns.get(connection, id)
    where = (workspace.db, workspace.engine, workspace.lake)
    document = budgeting.account(*where, found, workspace.policy.budgets, now=SystemClock().now())
    now = SystemClock().now()
    planned = budgeting.estimate(*where, found, workspace.policy.budgets, texts=workspace.texts, now=now)
    if as_json:
        emit_json(document | {"plan": None if planned is None else planned.document()})
        return
    pairs(f"{id} ({found.channel})", {name.replace("_", " "): value or "no cap" for name, value in document.items()})
    if planned is not None:
        _show_estimate(planned.document(), is_text=found.channel == "sms")


def _show_estimate(document: dict[str, Any], *, is_text: bool) -> None:
    """People and cost of a plan by country, and how many of them take so many parts."""
    sizes = sorted({int(size) for row in document["countries"] for size in row["parts"]}) if is_text else []
    heads = ("country", "people", *(f"{size} part{'s' if size > 1 else ''}" for size in sizes), "cost")
    rows = [
        (row["country"] or "unknown", number(row["people"]), *(number(row["parts"].get(str(n), 0)) for n in sizes),
         row["cost"])
        for row in document["countries"]
    ]  # fmt: skip
    rows.append(("total", number(document["people"]), *("" for _ in sizes), document["cost"]))
    table("What the plan costs", heads, rows, right=range(1, len(heads)))
    if document["measured"]:
        click.echo("texts are measured with everybody's own fields")
    for character, people in document["not_gsm"].items():
        told = f"{character!r} is not in the GSM alphabet: it halves what a part holds"
        click.secho(f"{told} (texts: {number(people)})", fg="yellow")
    if document["within_budget"] is not None and document["within_budget"] < document["waiting"]:
        whom = "them" if document["waiting"] == document["people"] else f"the {number(document['waiting'])} who wait"
        click.secho(f"what is left pays for the best {number(document['within_budget'])} of {whom}", fg="yellow")


def show_comparison(played: Comparison) -> None:
    """The histogram of messages per person as it was and as it would have been, for people."""
    columns = {"sent": played.sent, **played.policies}
    bars = list(played.sent.people)
    while len(bars) > 1 and not any(one.people[bars[-1]] for one in columns.values()):
        bars.pop()  # nobody ever got as many
    rows = [(bar, *(one.people[bar] for one in columns.values())) for bar in bars]
    right = tuple(range(1, len(columns) + 1))
    table(f"People by messages since {played.since:%Y-%m-%d}", ("messages", *columns), rows, right=right)
    told = [
        ("messages", *(one.messages for one in columns.values())),
        ("people over-solicited", *(one.over for one in columns.values())),
        ("people never reached", *(one.people["0"] for one in columns.values())),
    ]
    kinds = sorted({kind for one in played.policies.values() for kind in one.left_out})
    told += [(f"left out: {kind or '?'}", *(one.left_out.get(kind, 0) for one in columns.values())) for kind in kinds]
    table("", ("", *columns), told, right=right)
    for remark in played.remarks:
        click.secho(remark, fg="yellow")


COMMANDS: Final = {"pressure": pressure}
