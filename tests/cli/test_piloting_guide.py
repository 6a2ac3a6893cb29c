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


def landed(shell: Shell, **files: list[list[object]]) -> None:
    """Import small files: a heading and rows each."""
    for kind, rows in files.items():
        text = "".join(",".join(map(str, row)) + "\n" for row in rows)
        (shell.home / f"{kind}.csv").write_text(text, encoding="utf-8")
        shell("import", kind, shell.home / f"{kind}.csv")


def test_money_that_ends(bare: Shell) -> None:
    bare.plain("init", bare.home)
    section = "Money that ends"
    prices, kind = blocks(section, "yaml")
    (bare.home / "policies" / "budgets.yaml").write_text(prices, encoding="utf-8")
    (bare.home / "policies" / "types" / "text.yaml").write_text(kind, encoding="utf-8")
    text = GUIDE.read_text(encoding="utf-8")
    body = re.search(r"The text is `(\{\{ first_name \}\}.*?)`", text)
    assert body is not None
    (bare.home / "content" / "boots").mkdir()
    (bare.home / "content" / "boots" / "body.txt").write_text(body[1], encoding="utf-8")
    people = [("A", 90, "FR", "Zoe"), ("B", 85, "FR", "Lukas"), ("C", 80, "BE", "Anna"), ("D", 75, "FR", "Łukasz")]
    together, left, served = 0, 20, 0  # cents
    for who, score, country, name in people:
        length = len(body[1].replace("{{ first_name }}", name))
        parts = (1 if length <= 70 else -(-length // 67)) if "Ł" in name else 1 if length <= 160 else -(-length // 153)
        cost = parts * {"FR": 5, "BE": 8}[country]
        together += cost
        cells = (who, score, country, name, length, parts, f"{cost / 100:.2f} EUR", f"{together / 100:.2f} EUR")
        assert f"| {' | '.join(map(str, cells))} |" in text
        if cost <= left:
            left, served = left - cost, served + 1
    assert (together, left, served) == (28, 2, 3)
    landed(
        bare,
        contacts=[["contact_id", "phone", "country", "first_name"],
                  *([who, f"+3361200000{n}", country, name] for n, (who, _, country, name) in enumerate(people))],
        consents=[["contact_id", "channel", "purpose", "status"],
                  *([one[0], "sms", "marketing", "granted"] for one in people)],
        scores=[["contact_id", "score"], *([one[0], one[1]] for one in people)],
    )  # fmt: skip
    created(bare, "boots", "text", sender="LUNE", content="content/boots", budget="0.20 EUR")
    bare("campaign", "plan", "boots")
    typed(bare, blocks(section, "console")[0])
    money = bare.json("pressure", "budget", "boots")
    assert (money["spent"], money["left"]) == (f"{(20 - left) / 100:.2f} EUR", f"{left / 100:.2f} EUR")
    assert bare.json("campaign", "audit", "boots")["not_sent"] == {"over_budget": len(people) - served}
