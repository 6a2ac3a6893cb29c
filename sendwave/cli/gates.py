"""`sendwave gates`: the rules that stop a campaign, tried on a recorded or simulated one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from sendwave import __version__
from sendwave.cli.groups import Group
from sendwave.errors import BadInput

if TYPE_CHECKING:
    from sendwave.rules.replay import Replay
    from sendwave.rules.rulings import Ruling

ACTIONS: Final = ("release_wave", "pause_wave", "resume_wave", "throttle_lane", "suspend_lane", "halt_campaign")
"""What a replay may ask for. Lanes and campaigns are resumed by people."""


@click.group(cls=Group)
def gates() -> None:
    """The rules that stop a campaign: try them on one that was recorded or simulated."""


@gates.command()
def replay() -> None:
    """Judge a campaign told on stdin, one JSON object a line; answers on stdout, one line each.

    The other side owns time. docs/guides/gates.md describes the messages.
    """
    wrong = 0
    for answer in answers(sys.stdin):
        click.echo(json.dumps(answer, separators=(",", ":"), allow_nan=False))
        if answer["type"] == "error":
            wrong += 1
            click.echo(answer["error"], err=True)
    if wrong:
        raise BadInput(f"{wrong} of the lines could not be understood: see above, by their number")


def answers(lines: TextIO | Iterator[str]) -> Iterator[dict[str, Any]]:
    """One answer per line, until `end`. What cannot be understood is answered with an error that names the line."""
    current: Replay | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            current, answer = _answer(current, _read(line))
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            answer = {"type": "error", "line": number, "error": f"line {number}: {what}"}
        yield answer
        if answer["type"] == "bye":
            return


def _read(line: str) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(told, dict):
        raise TypeError(f"a message is a JSON object, not {type(told).__name__}")
    return told


def _answer(current: Replay | None, told: Mapping[str, Any]) -> tuple[Replay | None, dict[str, Any]]:
    """The campaign after one message, and the answer to it. Raises ValueError and the like for a bad message."""
    from sendwave.rules.replay import Replay

    kind = told.get("type")
    if kind == "end":
        return current, {"type": "bye"}
    if kind == "hello":
        begun = Replay.of(told)
        _warn(told)
        return begun, {"type": "ready", "v": 1, "name": f"sendwave {__version__}", "actions": begun.begin()}
    if current is None:
        raise ValueError("a campaign begins with a hello")
    if kind == "override":
        current.overrule(told)
        return current, {"type": "decision", "t": told.get("t"), "actions": [], "why": {"re_armed": told.get("do")}}
    if kind != "tick":
        raise ValueError("the types are hello, tick, override and end")
    current.hear(told)
    actions, ruling = current.decide()
    reasons = why(ruling)
    if current.told.skipped:
        reasons["skipped"] = current.told.skipped
    return current, {"type": "decision", "t": told["t"], "actions": actions, "why": reasons}


def why(ruling: Ruling) -> dict[str, Any]:
    """What carried the decision: the sentence of each stop, and of what keeps the wave from being cleared."""
    found: dict[str, Any] = {}
    if ruling.halt is not None:
        found["halt"] = {"reason": ruling.halt.reason, "sentence": ruling.halt.verdict.sentence}
    if ruling.alarm is not None:
        found["alarm"] = ruling.alarm.verdict.sentence
    if ruling.blind is not None:
        found["blind"] = ruling.blind.sentence
    if ruling.suspensions:
        found["suspensions"] = {lane: stop.verdict.sentence for lane, stop in ruling.suspensions.items()}
    if ruling.slow:
        found["slowed"] = {lane: stop.verdict.sentence for lane, stop in ruling.slow.items()}
    waits = [verdict.sentence for verdict in ruling.waits[:4]]
    return {**found, "waits": waits} if waits else found


def _warn(hello: Mapping[str, Any]) -> None:
    """Say on stderr what is not judged as it was told."""
    from sendwave.rules.replay import curves_of
    from sendwave.rules.signals import SIGNALS

    for name in sorted(set(hello["policy"]) - set(SIGNALS)):
        click.echo(f"no signal is called {name!r}: its limit is not judged", err=True)
    told = hello.get("delay_curves")
    for name, points in told.items() if isinstance(told, Mapping) else ():
        if name not in curves_of({name: points}):
            click.echo(f"the delay curve of {name!r} is none: the shipped one is used", err=True)
        elif (shares := [share for _, share in points]) != sorted(shares):
            click.echo(f"the delay curve of {name!r} goes down: taken as never falling", err=True)


COMMANDS: Final = {"gates": gates}
