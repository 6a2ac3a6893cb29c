"""`sendwave report` as people type it, and the worked example of its guide against arithmetic by hand."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pyarrow.parquet as pq
import pytest
from command_line import Shell
from report_world import SLICES, Slice, World, opened_before

from sendwave.clock import SystemClock
from sendwave.workspace import Workspace

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "piloting.md"
SMALL = tuple(Slice(one.tier, one.people // 20, one.score, one.share, 0.2, 0.1) for one in SLICES)


@pytest.fixture
def sent(bare: Shell) -> Shell:
    """A workspace with the campaigns `spring` and `summer`, sent."""
    bare.plain("init", bare.home)
    workspace = Workspace.open(bare.home)
    world = World(workspace.db, workspace.lake, SystemClock().now())
    world.campaign(slices=SMALL)
    world.seed = 2
    world.campaign("summer", slices=SMALL, days_ago=40)
    opened_before(world, range(1, 2_000), 100)
    workspace.close()
    return bare


def test_it_tells_people_and_programs_the_same(sent: Shell) -> None:
    document = sent.json("report", "spring")
    assert {row["tier"] for row in document["tiers"]} == {"burning", "hot", "warm", "cool"}
    first = document["tiers"][0]
    assert {"tier", "accepted", "delivered", "opened", "clicked", "unsubscribed", "complained", "hard_bounced",
            "converted", "revenue", "cost", "roi", "rates"} <= first.keys()  # fmt: skip
    assert first["rates"]["opened"].keys() == {"value", "low", "high"}
    assert document["cutoff"]["verdicts"]
    assert document["baseline"]["kept"] > 0
    told = sent("report", "spring").out
    assert f"{first['accepted']:,}" in told
    assert "The habit: everybody with email_open within 365d" in told


def test_rows_for_other_tools(sent: Shell, tmp_path: Path) -> None:
    sheet, columns = tmp_path / "out" / "spring.csv", tmp_path / "out" / "spring.parquet"
    document = sent.json("report", "spring", "--by", "city", "--csv", sheet, "--parquet", columns)
    with sheet.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows if row["by"] == "city"] == [row["group"] for row in document["groups"]]
    assert int(rows[0]["accepted"]) == document["tiers"][0]["accepted"]
    assert float(rows[0]["rate_opened_low"]) == document["tiers"][0]["rates"]["opened"]["low"]
    assert pq.read_table(columns).num_rows == len(rows)
    assert pq.read_table(columns)["lift_mailing_revenue_difference"].to_pylist()[0] is not None


@pytest.mark.parametrize(("lang", "words"), [("en", "Where to stop"), ("fr", "Où s'arrêter".replace("'", "&#x27;"))])
def test_a_page_that_needs_nothing(sent: Shell, tmp_path: Path, lang: str, words: str) -> None:
    page = tmp_path / "report.html"
    sent("report", "spring", "summer", "--by", "provider", "--html", page, "--lang", lang)
    text = page.read_text(encoding="utf-8")
    assert f'<html lang="{lang}">' in text
    assert words in text
    assert not re.search(r"<script|src=|href=|https?://(?!www\.w3\.org/2000/svg)|url\(", text)
    assert text.count("<svg") >= 4
    assert "{" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_questions_that_cannot_be_answered(sent: Shell) -> None:
    assert "Did you mean 'spring'?" in sent("report", "sprng", expect=4).err
    assert "They have" in sent("report", "spring", "--by", "shoe_size", expect=4).err
    assert "is no habit: write for instance" in sent("report", "spring", "--baseline", "lately", expect=2).err
    assert "lower ends as numbers" in sent("report", "spring", "--bands", "a,b", expect=2).err
    assert "is no instant" in sent("report", "spring", "--until", "soon", expect=2).err
    assert "lies in the future" in sent("report", "spring", "--until", "2999-01-01", expect=2).err
    assert "write OLD=NEW" in sent("report", "spring", "--same", "warm", expect=2).err
    assert "would count twice" in sent("report", "spring", "spring", expect=2).err


def test_wrong_worth_is_told_with_its_place(bare: Shell) -> None:
    bare.plain("init", bare.home)
    file = bare.home / "policies" / "report.yaml"
    file.write_text("currency: EUR\ncosts:\n  sms: 0.045\nmargin: 40\n", encoding="utf-8")
    told = bare("check", expect=1).out
    assert "report.yaml:3:" in told
    assert "write it with its currency" in told
    assert "report.yaml:4:" in told
    file.write_text("currency: USD\ncosts: {email: 0.002 USD}\n", encoding="utf-8")
    bare("check")
    file.write_text("currency: EUR\ncosts: {sms: 0.045 USD}\n", encoding="utf-8")
    assert "the cost of sms is in USD, the report in EUR" in bare("check", expect=1).out
    file.write_text("currency: USD\n", encoding="utf-8")
    (bare.home / "policies" / "budgets.yaml").write_text("channels: {sms: {price: 0.05 EUR}}\n", encoding="utf-8")
    assert "budgets.yaml prices sms in EUR, report.yaml reckons in USD: use one currency" in bare("check").err


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def letter(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """The guide's example, imported as the guide says."""
    bare.plain("init", bare.home)
    monkeypatch.chdir(bare.home)
    exec(compile(blocks("python")[0], "piloting.md", "exec"), {})
    (bare.home / "policies" / "report.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    typed = blocks("console")[0].replace("\\\n", "").splitlines()[0].removeprefix("$ sendwave ").split()
    assert typed[:2] == ["import", "experiments"]
    told = bare(*typed).out
    assert "50 000 experiments landed" in told.replace("\u202f", " ")
    return bare


def shown(block: str) -> Iterator[str]:
    yield from (line for line in block.splitlines() if line[:1] in "│┃" or line.startswith("email:"))


def test_the_guide_shows_what_the_command_says(letter: Shell) -> None:
    told = letter("report", "letter").out
    lines = [line for block in blocks("console")[:2] for line in shown(block)]
    assert len(lines) == 10
    assert [line for line in lines if line not in told] == []


def by_hand(seen: int, size: int, z: float) -> tuple[float, float, float]:
    """Wilson's interval as the textbook writes it."""
    p = seen / size
    root = z * sqrt(z * z + 4 * seen * (1 - p))
    return p, (2 * seen + z * z - root) / (2 * (size + z * z)), (2 * seen + z * z + root) / (2 * (size + z * z))


def test_the_guide_against_a_hand_calculation(letter: Shell) -> None:
    document = letter.json("report", "letter")
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


def test_the_guide_s_six_people(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom it concerns and how much they had, as the guide shows it and works it out by hand."""
    bare.plain("init", bare.home)
    monkeypatch.chdir(bare.home)
    exec(compile(blocks("python")[1], "piloting.md", "exec"), {})
    (bare.home / "policies" / "types" / "shoes.yaml").write_text(blocks("yaml")[1], encoding="utf-8")
    for kind in ("contacts", "consents", "scores", "interactions", "sends"):
        bare("import", kind, f"{kind}.csv")
    told = {"name": "autumn", "type": "shoes", "route": "rehearsal", "sender": "news@lune.example"}
    told |= {"subject": "Hello", "content": "content/first", "unsubscribe": "https://lune.example/u/{token}"}
    (bare.home / "autumn.yaml").write_text(json.dumps(told), encoding="utf-8")
    bare("campaign", "create", "autumn.yaml")
    for part in blocks("console")[2].split("$ sendwave ")[1:]:
        typed, *shown_lines = part.splitlines()
        out = bare(*shlex.split(typed)).out.replace("\u202f", " ").replace("\u00a0", " ")
        assert [line for line in shown_lines if line not in out] == [], f"{typed}: {out}"
