"""`sendwave campaign resume | release | limit`: a person overrules a gate, with a reason."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import click

from sendwave.cli.output import by_option, emit_json, in_workspace, json_option, table
from sendwave.clock import SystemClock

if TYPE_CHECKING:
    from sendwave.workspace import Workspace

_reason = click.option("--reason", default="", help="Why; for the journal. Required where a gate is overruled.")


@click.command()
@in_workspace
@click.argument("id")
@click.option("--provider", default=None, help="Resume one suspended lane only.")
@click.option("--ramp", is_flag=True, help="Begin again with less than was halted, and grow wave by wave.")
@click.option("--start", default=None, metavar="SHARE", help="First wave of the ramp, of the halted one: 10%.")
@click.option("--growth", default=None, type=float, metavar="FACTOR", help="Each wave of the ramp to the last: 3.")
@_reason
@by_option
@json_option
def resume(
    workspace: Workspace,
    id: str,
    provider: str | None,
    ramp: bool,
    start: str | None,
    growth: float | None,
    reason: str,
    by: str,
    as_json: bool,
) -> None:
    """Go on with exactly the people who are left. Gates then judge only what is sent from now on."""
    from sendwave.flow import steer

    if ramp and provider is not None:
        raise click.UsageError("--ramp is for a halted campaign; a lane alone resumes with --provider")
    if not ramp and (start, growth) != (None, None):
        raise click.UsageError("--start and --growth shape a ramp: say --ramp too")
    if ramp:
        _resume_by_ramp(workspace, id, start=start, growth=growth, reason=reason, by=by, as_json=as_json)
        return
    allowed = workspace.settings.approvers
    steer.resume(workspace.db, id, provider=provider, reason=reason, by=by, now=SystemClock().now(), approvers=allowed)
    _done(as_json, id, "resumed", "sendwave run goes on")


def _resume_by_ramp(
    house: Workspace, id: str, *, start: str | None, growth: float | None, reason: str, by: str, as_json: bool
) -> None:
    from sendwave.errors import BadInput
    from sendwave.flow import release as releasing
    from sendwave.flow import steer
    from sendwave.rules import overrides
    from sendwave.rules.units import parse_percent

    try:
        first = overrides.START if start is None else parse_percent(start)
    except ValueError as wrong:
        raise BadInput(f"--start {start}: {wrong}") from wrong
    factor = overrides.GROWTH if growth is None else Decimal(str(growth))
    now = SystemClock().now()
    releasing.give_back(house.db, house.engine, house.lake, now=now)  # whoever the halt stopped is free again
    done = steer.resume_by_ramp(
        house.db, house.engine, house.lake, id, start=first, growth=factor, reason=reason, by=by, now=now,
        approvers=house.settings.approvers,
    )  # fmt: skip
    waves = [{"number": wave.number, "status": wave.status, "planned": wave.planned} for wave in done.waves]
    if as_json:
        emit_json({"id": id, "done": "resumed by ramp", "halted_wave": done.halted, "waves": waves})
        return
    click.echo(f"campaign {id} resumed by ramp; the people wave {done.halted} and later ones had left:")
    table("", ("wave", "status", "people"), [tuple(wave.values()) for wave in waves], right=(0, 2))


@click.command()
@in_workspace
@click.argument("id")
@click.option("--wave", type=click.IntRange(min=1), default=None, help="Only if that wave is the one in flight.")
@_reason
@by_option
@json_option
def release(workspace: Workspace, id: str, wave: int | None, reason: str, by: str, as_json: bool) -> None:
    """Overrule what a wave waits for: it goes on, or counts as cleared so that the next one opens."""
    from sendwave.flow import steer

    now, allowed = SystemClock().now(), workspace.settings.approvers
    done = steer.release_wave(workspace.db, id, wave=wave, reason=reason, by=by, now=now, approvers=allowed)
    _done(as_json, id, f"wave {done} released", "sendwave run goes on")


@click.command()
@in_workspace
@click.argument("id")
@click.argument("signal")
@click.option("--hold", default=None, metavar="RATE", help="Rate at which the next wave is not opened: 0.2%.")
@click.option("--halt", default=None, metavar="RATE", help="Rate at which the campaign stops: 0.5%.")
@click.option("--reset", is_flag=True, help="The limits of the policy again.")
@_reason
@by_option
@json_option
def limit(
    workspace: Workspace,
    id: str,
    signal: str,
    hold: str | None,
    halt: str | None,
    reset: bool,
    reason: str,
    by: str,
    as_json: bool,
) -> None:
    """Set other limits of one SIGNAL for this campaign alone. What was sent before is no longer held against it."""
    from sendwave.flow import steer

    if reset and (hold, halt) != (None, None):
        raise click.UsageError("--reset goes back to the limits of the policy: leave --hold and --halt out")
    levels = steer.set_limit(
        workspace.db, id, signal, hold=hold, halt=halt, reset=reset, reason=reason, by=by, now=SystemClock().now(),
        approvers=workspace.settings.approvers,
    )  # fmt: skip
    if as_json:
        emit_json({"id": id, "signal": signal, "limits": levels})
    else:
        told = ", ".join(f"{level} at {rate}" for level, rate in levels.items())
        click.echo(f"campaign {id}: {signal} now {told}. A halted campaign still waits for `resume`.")


def _done(as_json: bool, id: str, what: str, following: str) -> None:
    if as_json:
        emit_json({"id": id, "done": what})
    else:
        click.echo(f"campaign {id} {what}." + (f" Next: {following}" if following else ""))


COMMANDS: Final[dict[str, Any]] = {"resume": resume, "release": release, "limit": limit}
