"""Piloting and reading a report, pasted as their guides show it; their figures worked out here once more.

The arithmetic below is written out plainly and reads nothing of ours: it is what a reader does on paper.
"""

from __future__ import annotations

import re
from collections import Counter
from hashlib import md5
from math import comb, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from command_line import Shell
from pasted import Page
from ruamel.yaml import YAML
from sqlalchemy import select

from sendwave.rules.delays import learn
from sendwave.rules.lifecycle import SEEDS
from sendwave.rules.maturity import CURVES, bin_of
from sendwave.store import tables
from sendwave.workspace import Workspace

PEOPLE = {"A": (90, 10, None), "B": (85, 30, 3), "C": (70, 400, None), "D": (65, 20, 9), "E": (10, 5, None),
          "F": (88, 5, None)}  # fmt: skip
"""Score, days since a purchase, days since a message: the table of the guide."""


@pytest.fixture
def page(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> Page:
    return Page("piloting.md", bare, monkeypatch)


@pytest.fixture
def reading(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> Page:
    return Page("reading-a-report.md", bare, monkeypatch)


def seeds_sent(home: Path) -> list[int]:
    """Messages accepted in the lane of our own addresses, by batch."""
    workspace = Workspace.open(home)
    with workspace.db.read() as conn:
        found = conn.execute(select(tables.batches.c.accepted).where(tables.batches.c.provider == SEEDS))
        accepted = [row.accepted for row in found]
    workspace.close()
    return accepted


def test_six_people_from_the_audience_to_tomorrow_s_score(page: Page) -> None:
    page.paste("Before you send: whom it concerns, and how much they had")
    bought = {who for who, (_, days, _) in PEOPLE.items() if days <= 180 and who != "F"}  # nobody knows what F bought
    autumn = {who for who in bought if PEOPLE[who][0] >= 60 and (PEOPLE[who][2] or 99) > 7}
    assert (bought, autumn) == ({"A", "B", "D", "E"}, {"A", "D"})
    planned = {who for who in PEOPLE if page.shell.json("explain", "autumn", who)["decision"] == "planned"}
    assert planned == autumn

    page.sh(page.blocks("Two campaigns want the same person", "sh")[0])
    arbitration, sending = page.blocks("Two campaigns want the same person", "console")
    page.console(arbitration)
    sale = {who for who, (score, _, last) in PEOPLE.items() if score >= 80 and (last is None or last > 2)}
    assert sale == {"A", "B", "F"}
    [lost] = page.shell.json("pressure", "arbitrate")["lost"]
    assert (lost["loser"], lost["winner"], lost["people"], lost["before"]) == ("autumn", "sale", len(sale & autumn), 1)

    page.console(sending)
    audit = page.shell.json("campaign", "audit", "sale")
    assert (audit["total"], audit["not_sent"]) == (len(PEOPLE) + 1, {"seed": 1, "tier_not_contacted": 6 - len(sale)})
    assert seeds_sent(page.shell.home) == [1]

    page.paste("The score beside your old habit")
    habit = {who for who, (_, days, _) in PEOPLE.items() if days <= 15}
    met = page.shell.json("report", "sale", "--baseline", "purchase within 15d")["baseline"]
    total = met["total"]
    assert (met["by_the_habit"], met["written_to"]) == (len(habit), len(sale))
    assert (total["kept"]["planned"], total["gained"]["planned"]) == (len(habit & sale), len(sale - habit))
    assert total["lost"]["people"] == len(habit - sale)

    page.paste("The loop")
    grid = YAML(typ="safe").load((Path(__file__).parents[2] / "policies" / "score.yaml").read_text(encoding="utf-8"))
    bands = [grid["touchpoints"][name]["bands"][0] for name in ("purchase", "click")]
    assert bands == [{"within": "30d", "points": 40}, {"within": "30d", "points": 20}]

    page.paste("What is left out, and said")
    report = page.shell.json("report", "sale", "--baseline", "none")
    assert (report["total"]["converted"], report["total"]["revenue"]) == (len({"A", "F"}), 60)
    assert {note["code"]: note.get("count") for note in report["notes"]} == {
        "foreign_sales": 1, "returned": 1, "no_control": None, "window_open": None,
    }  # fmt: skip


def test_money_that_ends(page: Page) -> None:
    section = "Money that ends"
    text = page.section(section)
    body = text.partition("printf '")[2].partition("'")[0]
    assert body.startswith("{{ first_name }}, your boots")
    people = [("A", 90, "FR", "Zoe"), ("B", 85, "FR", "Lukas"), ("C", 80, "BE", "Anna"), ("D", 75, "FR", "Łukasz")]
    together, left, served, costs = 0, 20, 0, []  # cents
    for who, score, country, name in people:
        length = len(body.replace("{{ first_name }}", name))
        parts = (1 if length <= 70 else -(-length // 67)) if "Ł" in name else 1 if length <= 160 else -(-length // 153)
        cost = parts * {"FR": 5, "BE": 8}[country]
        together, costs = together + cost, [*costs, cost]
        cells = (who, score, country, name, length, parts, f"{cost / 100:.2f} EUR", f"{together / 100:.2f} EUR")
        assert f"| {' | '.join(map(str, cells))} |" in text
        if cost <= left:
            left, served = left - cost, served + 1
    assert (together, left, served) == (28, 2, 3)
    month = 25 - (20 - left)
    assert (month, costs[0] <= month, costs[0] + costs[1] <= month) == (7, True, False), "one of the other campaign"
    page.paste(section)
    money = page.shell.json("pressure", "budget", "boots")
    assert (money["spent"], money["left"]) == (f"{(20 - left) / 100:.2f} EUR", f"{(month - costs[0]) / 100:.2f} EUR")
    assert page.shell.json("campaign", "audit", "boots")["not_sent"] == {"over_budget": len(people) - served}
    assert page.shell.json("report", "boots")["total"]["cost"] == (20 - left) / 100, "a report has the budget's prices"


def by_hand(seen: int, size: int, z: float) -> tuple[float, float, float]:
    """Wilson's interval as the textbook writes it."""
    p = seen / size
    root = z * sqrt(z * z + 4 * seen * (1 - p))
    return p, (2 * seen + z * z - root) / (2 * (size + z * z)), (2 * seen + z * z + root) / (2 * (size + z * z))


def test_twenty_five_thousand_letters(page: Page) -> None:
    page.paste("A worked example")
    document = page.shell.json("report", "letter")
    people = {"hot": (5_000, 300, 200), "warm": (10_000, 300, 200), "cool": (10_000, 80, 78)}
    z = NormalDist().inv_cdf(0.975)
    for row in document["tiers"]:
        size, mailed, others = people[row["tier"]]
        (p1, l1, u1), (p0, l0, u0) = (by_hand(seen, size, z) for seen in (mailed, others))
        lift: dict[str, Any] = row["lift"]["letter"]
        assert lift["converted"]["difference"] == p1 - p0
        assert lift["converted"]["low"] == pytest.approx(p1 - p0 - sqrt((p1 - l1) ** 2 + (u0 - p0) ** 2))
        assert lift["converted"]["high"] == pytest.approx(p1 - p0 + sqrt((u1 - p1) ** 2 + (p0 - l0) ** 2))
        assert lift["revenue"]["difference"] == pytest.approx(40 * (mailed - others) / size)
        # Baskets of 30 and 50 have a mean square of 1,700; with equal groups the skewness hardly matters.
        spread = sum((1_700 * seen / size - (40 * seen / size) ** 2) / (size - 1) for seen in (mailed, others))
        assert lift["revenue"]["high"] - lift["revenue"]["low"] == pytest.approx(2 * z * sqrt(spread), rel=0.01)
    profits = {one["tier"]: one["profit"] for one in document["cutoff"]["verdicts"]}
    assert profits == pytest.approx({"hot": 0.4 * 0.8 - 0.02, "warm": 0.4 * 0.4 - 0.02, "cool": 0.4 * 0.008 - 0.02})
    assert document["cutoff"]["tier"] == "warm"
    total = document["total"]["lift"]["letter"]["converted"]["difference"]
    assert total == pytest.approx((5_000 * 0.02 + 10_000 * 0.01 + 10_000 * 0.0002) / 25_000)


def as_uneven(drawn: int, people: int, share: float) -> float:
    """Twice the smaller tail of the binomial distribution, at most 1."""
    chance = [comb(people, k) * share**k * (1 - share) ** (people - k) for k in range(people + 1)]
    return min(1.0, 2 * min(sum(chance[: drawn + 1]), sum(chance[drawn:])))


def test_shares_control_and_balance(reading: Page) -> None:
    section = "Is the draw fair?"
    reading.paste(section)
    tiers = {"burning": 90, "hot": 70, "warm": 50}
    everybody = [(f"{tier}-{n}", score, ("Lyon", "Nice")[n % 2]) for tier, score in tiers.items() for n in range(60)]
    shares = {"burning": 1.0, "hot": 0.5, "warm": 0.1}
    groups: Counter[tuple[str, str]] = Counter()
    lyon: Counter[tuple[str, bool]] = Counter()
    for who, _, city in everybody:
        tier, digits = who.partition("-")[0], md5(f"trial|{who}".encode(), usedforsecurity=False).hexdigest()
        first, second = (int(digits[at : at + 8], 16) / 16**8 for at in (0, 8))
        group = "control" if first < 0.1 else "given" if second < shares[tier] else "rest"
        groups[tier, group] += 1
        lyon[tier, group == "given"] += city == "Lyon"
    text, draws = reading.section(section), []
    for tier, share in shares.items():
        control, given, rest = (groups[tier, group] for group in ("control", "given", "rest"))
        odds = [(control, 60, 0.1), *([(given, given + rest, share)] if share < 1 else [])]
        draws += [(drawn, people, pytest.approx(as_uneven(drawn, people, p))) for drawn, people, p in odds]
        told = ", ".join(f"{as_uneven(*one):.2f}" for one in odds)
        row = rf"^\| {tier} \| 60 \| {control} \| {given} \| {rest} \| [^|]* \| {told} \|$"
        assert re.search(row, text, re.MULTILINE)
    document = reading.shell.json("report", "trial")
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


def test_an_experiment_of_twelve_people(reading: Page) -> None:
    section = "Experiments run elsewhere"
    reading.paste(section)
    rows = [line.split(",") for line in reading.blocks(section, "sh")[0].splitlines() if line.count(",") == 10][1:]
    document = reading.shell.json("report", "letters", "--by", "recency")
    assert len(rows) == document["total"]["planned"] + 4 == 12
    for group in document["groups"]:
        for arm in ("Mens E-Mail", "Womens E-Mail"):
            sides = [[row for row in rows if (row[0], row[7]) == (group["group"], who)] for who in (arm, "No E-Mail")]
            for measure, column in (("visited", 8), ("converted", 9), ("revenue", 10)):
                mean = [sum(int(row[column]) for row in side) / len(side) for side in sides]
                told = group["lift"][arm][measure]
                assert (told["given"], told["control"], told["difference"]) == (*mean, mean[0] - mean[1])
                assert (told["low"] is None) == (measure == "revenue")


def test_how_late_complaints_come_is_learnt_as_by_hand(page: Page) -> None:
    hour, early, late = np.array([60.0]), *bin_of(np.array([30.0, 2_880.0])).tolist()
    long_ago = 90 * 1_440.0  # minutes
    told = [("complaint", "orange", early, 120, long_ago), ("complaint", "orange", late, 30, long_ago)]
    known = learn(told)
    shipped = CURVES["complaint"].raw(hour)[0]
    signal = (150 * 0.80 + 50 * 0.18) / 200
    lane = (150 * 0.80 + 50 * signal) / 200
    assert (shipped, round(signal, 3), round(lane, 3)) == (pytest.approx(0.18), 0.645, 0.761)
    assert known.curves["complaint"].raw(hour)[0] == pytest.approx(signal, abs=0.003)  # between two of its points
    assert known.lanes["complaint", "orange"].raw(hour)[0] == pytest.approx(lane, abs=0.003)
    assert "/ 200 = 64.5 %" in page.text
    assert "/ 200 = 76.1 %" in page.text
