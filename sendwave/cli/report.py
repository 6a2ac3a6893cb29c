"""`sendwave report`: what campaigns brought, by tier, and where to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sendwave.cli.output import emit_json, in_workspace, json_option, table
from sendwave.clock import SystemClock

if TYPE_CHECKING:
    from sendwave.flow.report import Report
    from sendwave.flow.report.sources import Rule
    from sendwave.web.phrases import Tongue
    from sendwave.workspace import Workspace

FILE: Final = click.Path(dir_okay=False, path_type=Path)


@click.command()
@in_workspace
@click.argument("ids", nargs=-1, required=True)
@click.option("--by", default="tier", show_default=True, metavar="tier|score_band|provider|wave|ATTRIBUTE")
@click.option("--bands", metavar="1,4,7,…", help="Lower ends of the bands of a numeric attribute.")
@click.option("--band-width", type=click.FloatRange(0.1), default=10, show_default=True, help="Of score bands, points.")
@click.option(
    "--baseline",
    metavar="RULE|AUDIENCE|none",
    help="What to compare with: 'email_open within 365d', or a named audience.",
)
@click.option("--until", metavar="INSTANT", help="Later events count for nothing; ISO 8601. Now, by default.")
@click.option("--control", metavar="ARM", help="The arm of an imported experiment that got nothing.")
@click.option("--same", multiple=True, metavar="OLD=NEW", help="A tier that had another name in an older campaign.")
@click.option("--top", type=click.IntRange(2, 1000), default=20, show_default=True, help="Most groups listed.")
@click.option("--csv", "csv_file", type=FILE, help="One row per tier and group.")
@click.option("--parquet", "parquet_file", type=FILE, help="The same rows, for other tools.")
@click.option("--html", "html_file", type=FILE, help="One self-contained page, to be printed or sent on.")
@click.option("--lang", type=click.Choice(("en", "fr")), default="en", show_default=True)
@json_option
def report(
    workspace: Workspace,
    ids: tuple[str, ...],
    by: str,
    bands: str | None,
    band_width: float,
    baseline: str | None,
    until: str | None,
    control: str | None,
    same: tuple[str, ...],
    top: int,
    csv_file: Path | None,
    parquet_file: Path | None,
    html_file: Path | None,
    lang: str,
    as_json: bool,
) -> None:
    """Figures of campaigns and imported experiments, pooled; the lift over people left out at random; the cut-off."""
    from sendwave.flow import report as flow
    from sendwave.web.phrases import Tongue

    found = flow.report(
        workspace.db,
        workspace.engine,
        workspace.lake,
        workspace.policy,
        ids,
        now=SystemClock().now(),
        breakdown=flow.Breakdown(by, band_width, _bands(bands)),
        habit=_habit(baseline, workspace),
        compare=baseline != "none",
        until=_instant(until, workspace.settings.time_zone),
        control=control,
        same=_pairs(same),
        top=top,
    )
    tongue = Tongue(lang)
    document = found.document()
    document["notes"] = [{**note, "text": tongue.note(note)} for note in document["notes"]]
    written = _write(found, document, tongue, csv_file, parquet_file, html_file)
    if as_json:
        emit_json(document)
        return
    _show(document, tongue)
    for path in written:
        click.echo(f"written: {path}")


def _write(
    found: Report, document: dict[str, Any], tongue: Tongue, csv: Path | None, parquet: Path | None, html: Path | None
) -> list[Path]:
    from sendwave.web import report as page
    from sendwave.web import sheets

    for path in (csv, parquet, html):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    if csv is not None:
        sheets.write_csv(document, csv)
    if parquet is not None:
        sheets.write_parquet(document, parquet)
    if html is not None:
        html.write_text(page.render(document, found.until, tongue), encoding="utf-8")
    return [path for path in (csv, parquet, html) if path is not None]


def _habit(text: str | None, workspace: Workspace) -> Rule | None:
    """A rule, or the audience of that name; `none` leaves the comparison out."""
    from sendwave.errors import did_you_mean
    from sendwave.flow.report import Named
    from sendwave.rules.report_policy import Habit

    if text is None or text == "none":
        return None
    known, name = workspace.policy.audiences, text.removeprefix("audience ").strip()
    if name in known:
        return Named(name, known[name].who.resolved(known))
    try:
        return Habit.parse(text)
    except ValueError as wrong:
        told = f" There is no audience {name!r} either.{did_you_mean(name, known)}" if " " not in name else ""
        raise click.UsageError(f"--baseline: {wrong}.{told}") from None


def _bands(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise click.UsageError(f"--bands {text}: write the lower ends as numbers, for instance 1,4,7,10") from None


def _instant(text: str | None, zone: str) -> datetime | None:
    from sendwave.rules.units import check_zone

    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--until {text!r} is no instant: write for instance 2026-03-09T12:00Z") from None
    return (at if at.tzinfo else at.replace(tzinfo=check_zone(zone))).astimezone(UTC)


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if wrong := ["".join(pair) for pair in pairs if not all(pair)]:
        raise click.UsageError(f"--same {', '.join(wrong)}: write OLD=NEW, names of tiers")
    return {old: new for old, _, new in pairs}


def _show(document: Mapping[str, Any], say: Tongue) -> None:
    for source in document["campaigns"]:
        told = [source["id"], source["title"], source["type"], source["channel"]]
        click.secho(" · ".join(dict.fromkeys(part for part in told if part)), bold=True)
    parts = (
        [(say("by_tier"), "tier", document["tiers"])] if len(document["tiers"]) > 1 or not document["groups"] else []
    )
    if document["groups"]:
        parts.append((say("by", by=document["by"]), "group", document["groups"]))
    for title, key, rows in parts:
        every = [*rows, document["total"] | {key: say("total")}] if len(rows) > 1 else rows
        _messages(say.pair(title, say("messages").lower()), key, every, say, document)
        _lifts(say.pair(title, say("lift").lower()), key, every, say, document)
    _cutoffs(document, say)
    _coverage(document, say)
    _draw(document, say)
    _assumed(document, say)
    for note in document["notes"]:
        click.secho(f"! {note['text']}", fg="yellow", err=True)


def _messages(title: str, key: str, rows: Sequence[Any], say: Tongue, document: Mapping[str, Any]) -> None:
    from sendwave.web.report import only_experiments, row_name

    rates = (
        "delivered",
        "opened",
        "machine_opened",
        "clicked",
        "unsubscribed",
        "complained",
        "hard_bounced",
        "converted",
    )
    shown = [name for name in rates if any(name in row["rates"] for row in rows)]
    currency = document["assumptions"]["currency"]
    drawn = [
        (
            row_name(row, key, say),
            say.number(row["accepted"]),
            *(say.percent(row["rates"].get(name, {}).get("value"), _DIGITS.get(name, 1)) for name in shown),
            say.money(row["revenue"], currency),
            say.cost(row["cost"], currency),
        )
        for row in rows
    ]
    names = (
        say("given" if only_experiments(document) else "accepted"),
        *(say(f"short_{name}") for name in shown),
        say("short_revenue"),
        say("cost"),
    )
    table(title, ("", *names), drawn, right=range(1, len(names) + 1))


_RATES: Final = (
    "delivered", "opened", "machine_opened", "clicked", "unsubscribed", "complained", "hard_bounced", "converted",
)  # fmt: skip
_DIGITS: Final = {"unsubscribed": 2, "complained": 3, "hard_bounced": 2, "converted": 2}


def _lifts(title: str, key: str, rows: Sequence[Any], say: Tongue, document: Mapping[str, Any]) -> None:
    """Buyers and revenue beside those left out; visits in a table before, where somebody told of them."""
    currency = document["assumptions"]["currency"]
    found = [(row, arm, lifts) for row in rows for arm, lifts in row["lift"].items()]
    several = len({arm for _, arm, _ in found}) > 1
    points = f"{say('difference')} ({say('points')})"
    for measure in ("visited", "converted"):
        drawn = []
        for row, arm, lifts in found:
            if (one := lifts.get(measure)) is not None:
                cells = _compared(row, key, arm if several else None, one, say)
                if measure == "converted":
                    cells.append(_ends(lifts["revenue"], lambda value: say.money(value * 1_000, currency)))
                drawn.append(cells)
        heads = ["", *([say("arm")] if several else []), say("given"), say("control"), say(measure), points]
        heads += [say("revenue_lift")] if measure == "converted" else []
        if drawn:
            table(title, heads, drawn, right=range(1 + several, len(heads)))
    if any(lifts["revenue"]["low"] is None for _, _, lifts in found):
        click.secho(say.pair(say("revenue"), say("few_buyers")), dim=True)


def _compared(row: Mapping[str, Any], key: str, arm: str | None, one: Mapping[str, Any], say: Tongue) -> list[str]:
    from sendwave.web.report import row_name

    return [
        row_name(row, key, say),
        *([] if arm is None else [say("all") if arm == "all" else arm]),
        say.number(one["people"]),
        say.number(one["control_people"]),
        f"{say.percent(one['given'], 2)} / {say.percent(one['control'], 2)}",
        _ends(one, lambda value: say.signed(value * 100, 2)),
    ]


def _ends(lift: Mapping[str, Any], written: Any) -> str:
    value = written(lift["difference"])
    return value if lift["low"] is None else f"{value} ({written(lift['low'])} … {written(lift['high'])})"


def _cutoffs(document: Mapping[str, Any], say: Tongue) -> None:
    from sendwave.web.report import cut_sentence, judged_by, names_of, verdict_words

    currency, names = document["assumptions"]["currency"], names_of(document, say)
    for channel, cutoff in document["cutoffs"].items():
        rows = []
        for one in cutoff["verdicts"]:
            ends = [say.money(None if one[name] is None else one[name] * 1_000, currency, 2) for name in _ENDS]
            span = "–" if one["low"] is None else f"{ends[1]} … {ends[2]}"
            rows.append((names.get(one["tier"], one["tier"]), ends[0], span, verdict_words(one, say)))
        heads = (judged_by(document, say), say("profit"), say("lower_is"), say("verdict"))
        table(f"{say('cutoff')} · {channel}", heads, rows, right=(1, 2))
        click.secho(cut_sentence(channel, cutoff, document, say), bold=True)


_ENDS: Final = ("profit", "low", "high")


def _coverage(document: Mapping[str, Any], say: Tongue) -> None:
    from sendwave.web.report import habit_lines

    met = document["baseline"]
    if met is None:
        return
    rows = [
        (
            tier,
            *(say.number(line[name]["planned"]) for name in ("kept", "gained")),
            say.number(line["lost"]["people"]),
            *(say.percent(_rate(line[name], "converted"), 2) for name in ("kept", "gained", "lost")),
            *(say.percent(_rate(line[name], "complained"), 3) for name in ("kept", "gained")),
        )
        for tier, line in habit_lines(met, say)
    ]
    conversion, complaints = say("converted"), say("complained")
    kept, gained, lost = say("kept"), say("gained"), say("lost")
    heads = ("", kept, gained, lost, *(f"{conversion}: {name}" for name in (kept, gained, lost)))
    heads += tuple(f"{complaints}: {name}" for name in (kept, gained))
    table(say("coverage"), heads, rows, right=range(1, len(heads)))
    told = {"habit": say.number(met["by_the_habit"]), "score": say.number(met["written_to"])}
    click.echo(say("coverage_lead", rule=met["rule"], **told))


def _rate(cell: Mapping[str, Any], name: str) -> float | None:
    found = cell.get("rates", {}).get(name)
    return None if found is None else found["value"]


def _draw(document: Mapping[str, Any], say: Tongue) -> None:
    from sendwave.web.report import draw_findings

    for sentence in draw_findings(document, say):
        click.echo(f"{say('draw')} {sentence}")


def _assumed(document: Mapping[str, Any], say: Tongue) -> None:
    from sendwave.web.report import assumed

    *lines, _ = assumed(document, say)  # the last one, how intervals are made, is the page's and the guide's
    click.secho(say.pair(say("assumptions"), " ".join(lines)), dim=True)


COMMANDS: Final = {"report": report}
