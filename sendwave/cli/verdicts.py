"""`sendwave campaign verdicts`: every gate's answer in words, numbers and a small picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sendwave.cli.output import emit_json, in_workspace, json_option, number, percent

if TYPE_CHECKING:
    from sendwave.workspace import Workspace

_COLOURS: Final = {"halt": "red", "hold": "yellow", "blind": "magenta", "pass": "green"}


@click.command()
@in_workspace
@click.argument("id")
@click.option("--signal", default=None, help="Of one signal only.")
@click.option("--wave", type=click.IntRange(min=0), default=None, help="Of one wave only; 0 is the whole campaign.")
@click.option("--provider", default=None, help="Of one mailbox provider only.")
@click.option("--all", "everything", is_flag=True, help="Lanes that pass, too.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Draw them into a file.")
@json_option
def verdicts(
    workspace: Workspace,
    id: str,
    signal: str | None,
    wave: int | None,
    provider: str | None,
    everything: bool,
    svg: Path | None,
    as_json: bool,
) -> None:
    """What each gate says of a campaign, what carries it, what would change it, when to look again."""
    from sendwave.flow import audit

    asked = {"signal": signal, "wave": wave, "provider": provider}
    told = audit.verdicts(workspace.db, id)
    chosen = [one for one in told if all(value in (None, one[key]) for key, value in asked.items())]
    if not everything and asked == dict.fromkeys(asked):
        chosen = [one for one in chosen if one["verdict"] != "pass" or not one["provider"]]
    if svg is not None:
        from sendwave.web import verdicts as picture

        shown = [one for one in chosen if _has_limit(one)]
        title = f"{id}: what the gates say"
        svg.write_text(picture.draw(title, _subtitle(chosen), shown), encoding="utf-8")
    if as_json:
        emit_json(chosen)
    elif not chosen:
        click.echo("no verdict yet: there is none before mail has left")
    else:
        for one in chosen:
            _show(one)


def _has_limit(one: Mapping[str, Any]) -> bool:
    """Whether its rate has a level it must stay below; the feed's must stay above one."""
    return one["signal"] != "feed" and (one["hold_limit"] is not None or one["halt_limit"] is not None)


def _subtitle(chosen: Sequence[Mapping[str, Any]]) -> str:
    latest = max((one["at"] for one in chosen), default="")
    return f"as of {latest[:16].replace('T', ' ')} UTC" if latest else ""


def _show(one: Mapping[str, Any]) -> None:
    """One verdict for people."""
    from sendwave.web.verdicts import bar

    where = f"{'wave ' + str(one['wave']) if one['wave'] else 'all waves'}, {one['provider'] or 'all lanes'}"
    over = " (overruled)" if one["overruled"] else ""
    click.secho(f"{one['verdict'].upper():<5} {one['signal']}, {where}{over}", fg=_COLOURS[one["verdict"]], bold=True)
    if _has_limit(one):
        limits = ", ".join(
            f"{n} {percent(one[f'{n}_limit'], 2)}" for n in ("hold", "halt") if one[f"{n}_limit"] is not None
        )
        within = f"surely {percent(one['low'], 3)} – {percent(one['high'], 3)}"
        click.echo(f"      ├{bar(one)}┤ {percent(one['rate'], 3) or 'none due'}, {within}; {limits}")
    shown = f"{number(one['events'])} seen, {number(round(one['exposure']))} of {number(one['sent'])} messages due"
    click.echo(f"      {shown}")
    click.echo(f"      {one['sentence']}")
    for line in one["grounds"]["words"]:
        click.echo(f"      · {line}")
