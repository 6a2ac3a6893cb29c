"""`sendwave distribution` and `sendwave tiers suggest`: how the base spreads, and where to cut it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sendwave.cli.groups import Group
from sendwave.cli.output import emit_json, in_workspace, json_option, number, percent, table
from sendwave.errors import BadInput

if TYPE_CHECKING:
    from sendwave.flow.distribution import Distribution, TierRow
    from sendwave.flow.tiers import Slice, Suggestion
    from sendwave.rules.policy import PolicySet
    from sendwave.workspace import Workspace


@click.command()
@in_workspace
@click.option("--by", default="tier", show_default=True, metavar="tier|score|ATTRIBUTE", help="What to count by.")
@click.option("--top", type=click.IntRange(1, 1000), default=20, show_default=True, help="Most values of an attribute.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Also draw it, into this file.")
@json_option
def distribution(workspace: Workspace, by: str, top: int, svg: Path | None, as_json: bool) -> None:
    """How many contacts stand in which tier, at which score, with which ATTRIBUTE, and who moved since the last run."""
    from sendwave.flow import distribution as flow

    found = flow.measure(workspace.db, workspace.engine, workspace.lake, workspace.policy, by=by, top=top)
    if svg is not None:
        svg.parent.mkdir(parents=True, exist_ok=True)
        svg.write_text(_drawn(found), encoding="utf-8")
    if as_json:
        emit_json(found.document())
    else:
        _show(found, workspace.policy)


def _show(found: Distribution, policy: PolicySet) -> None:
    if found.by == "score":
        _show_scores(found)
    elif found.segments:
        _show_segments(found)
    else:
        _show_tiers(found)
        _show_moves(found, policy)
        for warning in found.warnings:
            click.secho(warning, fg="yellow", err=True)


def _show_tiers(found: Distribution) -> None:
    rows: list[Sequence[object]] = [
        (f"{row.emoji} {row.tier}".strip(), row.label, row.contacts, percent(row.share, 1), *_scores(row))
        for row in found.tiers
    ]
    if found.no_score:
        share = found.no_score / found.total
        rows.append(("no score", "", found.no_score, percent(share, 1), None, None))
    title = f"{number(found.total)} contacts"
    table(title, ("tier", "label", "contacts", "share", "lowest", "highest"), rows, right=(2, 3, 4, 5))


def _scores(row: TierRow) -> tuple[str | None, str | None]:
    low, high = row.min_score, row.max_score
    return None if low is None else f"{low:g}", None if high is None else f"{high:g}"


def _show_scores(found: Distribution) -> None:
    most = max((bar.contacts for bar in found.scores), default=0) or 1
    rows = [
        (
            _range(bar.low, bar.high),
            bar.contacts,
            percent(bar.contacts / found.total, 1),
            "█" * round(40 * bar.contacts / most),
        )
        for bar in reversed(found.scores)
    ]
    if found.no_score:
        rows.append(("no score", found.no_score, percent(found.no_score / found.total, 1), ""))
    table(f"{number(found.total)} contacts by score", ("score", "contacts", "share", ""), rows, right=(0, 1, 2))


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to <{high:g}"


def _show_segments(found: Distribution) -> None:
    tiers = [row.tier for row in found.tiers] + [""] * bool(found.no_score)
    rows = [
        (
            "not known" if segment.value is None else segment.value,
            segment.contacts,
            percent(segment.contacts / found.total, 1),
            *(percent(segment.tiers.get(tier, 0) / segment.contacts, 0) for tier in tiers),
        )
        for segment in found.segments
    ]
    names = [tier or "no score" for tier in tiers]
    title = f"{number(found.total)} contacts by {found.by.removeprefix('attr_')}: its share of the base, its tiers"
    table(title, (found.by, "contacts", "share", *names), rows, right=range(1, 3 + len(names)))


def _show_moves(found: Distribution, policy: PolicySet) -> None:
    moved = found.moved
    if moved is None:
        click.echo("no earlier run is kept: who moved shows from the second one on")
        return
    spoken = {tier for pair in moved.pairs for tier in pair}
    strangers = sorted(spoken - set(policy.tiers.keys) - {""})
    tiers = [*policy.tiers.keys, *strangers] + [""] * ("" in spoken)
    rows = [(was or "no score", *(moved.pairs.get((was, to), 0) or None for to in tiers)) for was in tiers]
    title = (
        f"since {moved.since:%Y-%m-%d %H:%M} UTC: {number(moved.up)} up, {number(moved.down)} down, "
        f"{number(moved.same)} stayed, {number(moved.new)} new, {number(moved.gone)} gone"
    )
    table(title, ("from ↓ to →", *(tier or "no score" for tier in tiers)), rows, right=range(1, 1 + len(tiers)))


def _drawn(found: Distribution) -> str:
    from sendwave.web import bars

    keys = [row.tier for row in found.tiers]
    colours = dict(zip(keys, bars.colours(len(keys)), strict=True)) | {"": bars.NONE}
    base = f"{found.total:,} contacts"
    if found.by == "score":
        shown = [(f"{bar.low:g}", bar.contacts, _colour(bar.low, found, colours)) for bar in found.scores]
        return bars.histogram("Contacts by score", base, shown)
    parts = [(row.tier, row.label or row.tier, colours[row.tier]) for row in found.tiers]
    if found.no_score:
        parts.append(("", "no score", bars.NONE))
    if found.segments:
        rows = [("not known" if s.value is None else s.value, s.tiers) for s in found.segments]
        return bars.stacked(f"Tiers by {found.by.removeprefix('attr_')}", base, rows, parts)
    volumes = {row.tier: row.contacts for row in found.tiers} | {"": found.no_score}
    return bars.histogram("Contacts by tier", base, [(name, volumes[key], colour) for key, name, colour in parts])


def _colour(score: float, found: Distribution, colours: dict[str, str]) -> str:
    """The colour of the tier a score lies in: the most engaged whose people have that score or less."""
    for row in found.tiers:
        if row.min_score is not None and score >= row.min_score:
            return colours[row.tier]
    return colours[found.tiers[-1].tier]


@click.group(cls=Group)
def tiers() -> None:
    """The tiers the score is cut into."""


@tiers.command()
@in_workspace
@click.option(
    "--shares", metavar="5,10,20,…", help="Wanted shares in %, the most engaged first; the last may be left out."
)
@click.option(
    "--natural", type=click.IntRange(2, 10), metavar="N", help="N slices where the scores part by themselves."
)
@click.option("--write", is_flag=True, help="Write the cut-offs into policies/tiers.yaml; comments stay.")
@json_option
def suggest(workspace: Workspace, shares: str | None, natural: int | None, write: bool, as_json: bool) -> None:
    """Propose cut-offs from today's scores: for wanted shares of the base, or natural breaks (Fisher-Jenks).

    Without an option: as many natural slices as there are tiers today.
    """
    from sendwave.flow import tiers as flow

    if shares and natural:
        raise click.UsageError("--shares and --natural are two ways: choose one")
    histogram = flow.scored(workspace.db, workspace.engine, workspace.lake, workspace.policy.tiers)
    found = flow.suggest(histogram, workspace.policy.tiers, shares=_shares(shares), breaks=natural)
    written = _write(workspace, found) if write else None
    if as_json:
        emit_json(found.document() | {"written": None if written is None else str(written)})
        return
    _show_suggestion(found)
    if written is not None:
        click.echo(f"written to {written}. Scores that name their tier keep it until the next `sendwave score`;")
        click.echo("campaigns planned before have to be planned again")


def _shares(text: str | None) -> list[Decimal]:
    """`5,10,20` or `5%,10%,20%` as fractions. Raises a usage error for anything else."""
    from sendwave.rules.units import parse_percent

    try:
        return [parse_percent(part.strip().rstrip("%") + "%") for part in text.split(",")] if text else []
    except ValueError as wrong:
        raise click.UsageError(f"--shares {text}: {wrong}") from None


def _write(workspace: Workspace, found: Suggestion) -> Path:
    """Edit the workspace's tiers.yaml, or a copy of the shipped one where it has none."""
    from sendwave.flow import policies
    from sendwave.flow import tiers as flow

    path = workspace.settings.policies / "tiers.yaml"
    source = path if path.exists() else policies.shipped() / "tiers.yaml"
    text = flow.edited(source.read_text(encoding="utf-8"), str(path), found)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    before = path.read_text(encoding="utf-8") if path.exists() else None
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    try:
        workspace.read_policy()
    except BadInput:
        if before is None:
            path.unlink()
        else:
            path.write_text(before, encoding="utf-8")
        raise
    return path


def _show_suggestion(found: Suggestion) -> None:
    rows: list[Sequence[object]] = []
    for place in range(max(len(found.today), len(found.proposed))):
        now = found.today[place] if place < len(found.today) else None
        then = found.proposed[place] if place < len(found.proposed) else None
        rows.append((*_slice(now), *_slice(then)))
    heads = ("tier", "from", "contacts", "share", "proposed", "from", "contacts", "share")
    table(f"{number(found.scored)} contacts with a score: today, and proposed", heads, rows, right=(1, 2, 3, 5, 6, 7))
    for when, warnings in (("today", found.warnings_today), ("proposed", found.warnings)):
        for warning in warnings:
            click.secho(f"{when}: {warning}", fg="yellow", err=True)


def _slice(row: Slice | None) -> tuple[object, ...]:
    if row is None:
        return (None, None, None, None)
    return (row.tier, "" if row.min_score is None else f"{row.min_score:g}", row.contacts, percent(row.share, 1))


COMMANDS: Final = {"distribution": distribution, "tiers": tiers}
