"""Small worlds of the guide on piloting: its commands as written, its figures worked out here once more."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from command_line import Shell
from sqlalchemy import select

from sendwave.rules.lifecycle import SEEDS
from sendwave.store import tables
from sendwave.workspace import Workspace

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "piloting.md"
TOLD = {"route": "rehearsal", "sender": "news@lune.example", "subject": "Hello", "content": "content/first",
        "unsubscribe": "https://lune.example/u/{token}"}  # fmt: skip

PEOPLE = {"A": (90, 10, None), "B": (85, 30, 3), "C": (70, 400, None), "D": (65, 20, 9), "E": (10, 5, None),
          "F": (88, 5, None)}  # fmt: skip
"""Score, days since a purchase, days since a message: the table of the guide."""


def blocks(heading: str, kind: str) -> list[str]:
    """The code of a section."""
    section = GUIDE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{kind}\n(.*?)```", section, re.DOTALL)


def typed(shell: Shell, block: str) -> None:
    """Run the commands of a block; each must print the lines shown below it, in their order."""
    for part in block.split("$ sendwave ")[1:]:
        command, *shown = part.splitlines()
        out = shell(*shlex.split(command)).out.replace("\u202f", " ").replace("\u00a0", " ")
        at = 0
        for line in shown:
            at = out.find(line, at)
            assert at >= 0, f"{command}: {line!r} is not (or not there) in\n{out}"


def created(shell: Shell, name: str, kind: str, **more: str) -> None:
    """A draft, as a file of its own would make it."""
    (shell.home / f"{name}.yaml").write_text(json.dumps({"name": name, "type": kind, **TOLD, **more}), "utf-8")
    shell("campaign", "create", shell.home / f"{name}.yaml")


def seeds_sent(home: Path) -> list[int]:
    """Messages accepted in the lane of our own addresses, by batch."""
    workspace = Workspace.open(home)
    with workspace.db.read() as conn:
        found = conn.execute(select(tables.batches.c.accepted).where(tables.batches.c.provider == SEEDS))
        accepted = [row.accepted for row in found]
    workspace.close()
    return accepted


def test_arbitration_seeds_coverage_and_the_loop(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    bare.plain("init", bare.home)
    monkeypatch.chdir(bare.home)
    before, wanted = "Before you send: whom it concerns, and how much they had", "Two campaigns want the same person"
    names: dict[str, Any] = {}
    exec(compile(blocks(before, "python")[0], "piloting.md", "exec"), names)
    exec(compile(blocks(wanted, "python")[0], "piloting.md", "exec"), names)
    exec(compile(blocks("The loop", "python")[0], "piloting.md", "exec"), names)
    assert {who: (told[0], told[1], told[3]) for who, told in names["people"].items()} == PEOPLE
    types = bare.home / "policies" / "types"
    (types / "shoes.yaml").write_text(blocks(before, "yaml")[0], encoding="utf-8")
    (types / "sale.yaml").write_text(blocks(wanted, "yaml")[0], encoding="utf-8")
    for kind in ("contacts", "consents", "scores", "interactions", "sends"):
        bare("import", kind, f"{kind}.csv")
    created(bare, "autumn", "shoes")
    created(bare, "sale", "sale")
    arbitration, sending = blocks(wanted, "console")
    typed(bare, arbitration)

    sale = {who for who, (score, _, last) in PEOPLE.items() if score >= 80 and (last is None or last > 2)}
    autumn = {"A", "D"}  # of the audience, in its tiers and with a slot: worked out in the section before
    [lost] = bare.json("pressure", "arbitrate")["lost"]
    assert (lost["loser"], lost["winner"], lost["people"], lost["before"]) == ("autumn", "sale", len(sale & autumn), 1)
    assert sale == {"A", "B", "F"}

    typed(bare, sending)
    audit = bare.json("campaign", "audit", "sale")
    assert (audit["total"], audit["not_sent"]) == (len(PEOPLE) + 1, {"seed": 1, "tier_not_contacted": 6 - len(sale)})
    assert seeds_sent(bare.home) == [1]

    typed(bare, blocks("The score beside your old habit", "console")[0])
    habit = {who for who, (_, bought, _) in PEOPLE.items() if bought <= 15}
    met = bare.json("report", "sale", "--baseline", "purchase within 15d")["baseline"]
    total = met["total"]
    assert (met["by_the_habit"], met["written_to"]) == (len(habit), len(sale))
    assert (total["kept"]["planned"], total["gained"]["planned"]) == (len(habit & sale), len(sale - habit))
    assert total["lost"]["people"] == len(habit - sale)

    created(bare, "again", "sale")
    typed(bare, blocks("The loop", "console")[0])
