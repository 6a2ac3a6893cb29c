"""Runs of simulated campaigns kept one a line, so that figures grow over several sittings.

A run knows the state of what made it, a hash of the source of the worlds and of its rule: figures of different rules
never mix, and a published form is not run again because ours changed.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from gates.campaign import Campaign
from gates.rules import OURS, RULES
from gates.worlds import World, worlds
from sendwave import rules

SOURCES: Final = ("attribution", "board", "cells", "evidence", "facts", "gates", "maturity", "recording", "replay",
                   "rulings", "silence")  # fmt: skip
"""Modules of sendwave.rules that decide in a replay."""

A_ROUND: Final = {"limit": 4, "fast": 4, "healthy": 2, "near": 1, "bad": 1, "lane": 1, "mended": 1, "still": 1,
                  "opened": 4}  # fmt: skip
"""Campaigns of each world under our rule in a round, by kind of world: most where a seldom error is looked for."""

OTHERS: Final = 5
"""A published rule has one campaign of each world in every fifth round."""

OF_A_LINE: Final = ("state", "world", "kind", "rule", "seed")
"""What the runs of a line of the kept ones have in common."""

USUAL: Final = {"halted": False, "suspended": [], "stopped": False, "caught": None, "wrong": False, "alone": None,
                "bad_sent": 0, "bad_planned": 0, "added": 0.0, "through": True, "illegal": 0, "again": False,
                "bad_again": 0}  # fmt: skip
"""What is left out of a kept run where it is so."""


@dataclass(frozen=True, slots=True)
class Run:
    """One campaign of one world under one rule."""

    world: str
    rule: str
    seed: int
    number: int

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.world, self.rule, self.seed, self.number


@cache
def state(rule: str = OURS) -> str:
    """A short hash of the code that decides in a run of this rule; comments and docstrings are no code."""
    found, home = hashlib.sha256(), Path(__file__).parent
    files = [home / "worlds.py", home / "campaign.py"]
    decides = [Path(rules.__path__[0]) / f"{name}.py" for name in SOURCES]
    for path in files + (decides if rule == OURS else [home / "published.py"]):
        found.update(_code(path.read_text()).encode())
    return found.hexdigest()[:10]


def _code(text: str) -> str:
    """The syntax of a module, its docstrings and other lone strings left out."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def schedule(seed: int, rounds: int) -> Iterator[Run]:
    """What to run, in an order that serves every row of the table soon."""
    told = list(worlds())
    for turn in range(rounds):
        for world in told:
            times = A_ROUND[world.kind]
            yield from (Run(world.name, OURS, seed, turn * times + number) for number in range(times))
        for world in told if turn % OTHERS == 0 else ():
            if world.kind not in {"mended", "still"}:  # published forms say nothing of people who resume
                yield from (Run(world.name, rule, seed, turn // OTHERS) for rule in RULES if rule != OURS)


def play(run: Run) -> dict[str, Any]:
    """The line of one run."""
    told = list(worlds())
    place = next(index for index, world in enumerate(told) if world.name == run.world)
    world = told[place]
    found = Campaign(world, RULES[run.rule], np.random.default_rng([run.seed, place, run.number])).play()
    bad = bad_lanes(world)
    return {
        "world": run.world, "kind": world.kind, "rule": run.rule, "seed": run.seed, "number": run.number,
        "halted": found.halted, "suspended": sorted(found.suspended), "stopped": found.stopped,
        "caught": found.caught(bad, world.kind) if bad else None, "wrong": bool(found.suspended - bad),
        "alone": found.suspended == bad and not found.halted if world.kind == "lane" else None,
        "bad_sent": found.bad_sent, "bad_planned": found.bad_planned, "added": found.minutes - 60 * world.hours,
        "through": found.through, "illegal": found.illegal, "again": found.again, "bad_again": found.bad_again,
    }  # fmt: skip


def bad_lanes(world: World) -> set[str]:
    """Lanes whose mail is past a limit somewhere."""
    return {lane for lane in world.lanes if any(world.bad(wave, lane, 1.0) for wave in range(1, len(world.ramp) + 1))}


def read(path: Path) -> list[dict[str, Any]]:
    """The runs kept so far; a last line cut short (a run was stopped while it wrote) is left out."""
    found: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            told = json.loads(line)
        except json.JSONDecodeError:
            continue
        alike = told.pop("runs", None)
        found += [told] if alike is None else [{**told, **USUAL, **run} for run in alike]
    return found


def newest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of each rule in the state it was run in last."""
    last = {row["rule"]: row["state"] for row in rows}
    return [row for row in rows if row["state"] == last[row["rule"]]]


def keep(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write these runs to a file that stays: a line for each world, rule and seed, what is `USUAL` left out."""
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        run = {name: value for name, value in row.items() if name not in OF_A_LINE and value != USUAL.get(name)}
        alike.setdefault(tuple(row[name] for name in OF_A_LINE), []).append(run)
    lines = ({**dict(zip(OF_A_LINE, of, strict=True)), "runs": found} for of, found in alike.items())
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def go_on(path: Path, seed: int, rounds: int, *, only: list[str] | None = None, forms: list[str] | None = None) -> None:
    """Make the runs that are missing, a line each."""
    done = set()
    for told in read(path):
        if told["state"] == state(told["rule"]):
            done.add((told["world"], told["rule"], told["seed"], told["number"]))
    with path.open("a") as out:
        if out.tell():
            out.write("\n")  # ends a line that was cut short
        for run in schedule(seed, rounds):
            wanted = _has(run.world, only) and _has(run.rule, forms)
            if wanted and run.key not in done:
                out.write(json.dumps({"state": state(run.rule), **play(run)}) + "\n")
                out.flush()


def _has(name: str, words: list[str] | None) -> bool:
    return not words or any(word in name for word in words)
