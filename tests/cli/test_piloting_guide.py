"""Small worlds of the guide on piloting: its commands as written, its figures worked out here once more."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from hashlib import md5
from math import comb, sqrt
from pathlib import Path
from typing import Any

import pytest
from command_line import Shell
from ruamel.yaml import YAML
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
    grid = YAML(typ="safe").load((Path(__file__).parents[2] / "policies" / "score.yaml").read_text(encoding="utf-8"))
    bands = [grid["touchpoints"][name]["bands"][0] for name in ("purchase", "click")]
    assert bands == [{"within": "30d", "points": 40}, {"within": "30d", "points": 20}]


def landed(shell: Shell, **files: Sequence[Sequence[object]]) -> None:
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
    assert bare.json("report", "boots")["total"]["cost"] == (20 - left) / 100, "a report has the budget's prices"


def as_uneven(drawn: int, people: int, share: float) -> float:
    """Twice the smaller tail of the binomial distribution, at most 1."""
    chance = [comb(people, k) * share**k * (1 - share) ** (people - k) for k in range(people + 1)]
    return min(1.0, 2 * min(sum(chance[: drawn + 1]), sum(chance[drawn:])))


def test_shares_control_and_balance(bare: Shell) -> None:
    bare.plain("init", bare.home)
    section = "Is the draw fair?"
    names: dict[str, Any] = {}
    exec(compile(blocks(section, "python")[0], "piloting.md", "exec"), names)
    everybody: list[tuple[str, int, str]] = names["everybody"]
    (bare.home / "policies" / "types" / "trial.yaml").write_text(blocks(section, "yaml")[0], encoding="utf-8")
    quiet = ", ".join(f"{what}: 0%" for what in ("hard_bounce", "soft_bounce", "blocked", "complaint", "unsubscribe"))
    route = f"routes:\n  rehearsal: {{esp: simulated, everybody: {{{quiet}}}}}\n"
    (bare.home / "sendwave.yaml").write_text(f"time_zone: Europe/Paris\n{route}", encoding="utf-8")
    landed(
        bare,
        contacts=[["contact_id", "email", "city"], *([who, f"{who}@example.com", city] for who, _, city in everybody)],
        consents=[["contact_id", "channel", "purpose", "status"],
                  *([one[0], "email", "marketing", "granted"] for one in everybody)],
        scores=[["contact_id", "score"], *([who, score] for who, score, _ in everybody)],
    )  # fmt: skip
    created(bare, "trial", "trial")
    typed(bare, blocks(section, "console")[0])

    shares = {"burning": 1.0, "hot": 0.5, "warm": 0.1}
    groups: Counter[tuple[str, str]] = Counter()
    lyon: Counter[tuple[str, bool]] = Counter()
    for who, _, city in everybody:
        tier, digits = who.partition("-")[0], md5(f"trial|{who}".encode(), usedforsecurity=False).hexdigest()
        first, second = (int(digits[at : at + 8], 16) / 16**8 for at in (0, 8))
        group = "control" if first < 0.1 else "given" if second < shares[tier] else "rest"
        groups[tier, group] += 1
        lyon[tier, group == "given"] += city == "Lyon"
    text, draws = GUIDE.read_text(encoding="utf-8"), []
    for tier, share in shares.items():
        control, given, rest = (groups[tier, group] for group in ("control", "given", "rest"))
        odds = [(control, 60, 0.1), *([(given, given + rest, share)] if share < 1 else [])]
        draws += [(drawn, people, pytest.approx(as_uneven(drawn, people, p))) for drawn, people, p in odds]
        told = ", ".join(f"{as_uneven(*one):.2f}" for one in odds)
        row = rf"^\| {tier} \| 60 \| {control} \| {given} \| {rest} \| [^|]* \| {told} \|$"
        assert re.search(row, text, re.MULTILINE)
    document = bare.json("report", "trial")
    assert [(one["drawn"], one["people"], one["probability"]) for one in document["draws"]] == draws

    weights = {tier: groups[tier, "given"] for tier in shares}
    written = sum(weights.values())
    sides = [
        sum(given / written * lyon[tier, side] / (given if side else 60 - given) for tier, given in weights.items())
        for side in (True, False)
    ]
    apart = (sides[0] - sides[1]) / sqrt(sum(p * (1 - p) for p in sides) / 2)
    [found] = [one for one in document["balance"] if one["value"] == "Lyon"]
    assert (found["given"], found["control"], found["standardised"]) == pytest.approx((*sides, apart))
    assert f"{sides[0]:.1%} of those written".replace("%", " %") in text
    assert f"{sides[1]:.1%} of those left out".replace("%", " %") in text
    assert (round(-apart, 2), round(found["probability"], 2)) == (0.25, 0.34)
