"""`sendwave report` as people type it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_line import Shell
from report_world import SLICES, Slice, World, opened_before

from sendwave.clock import SystemClock
from sendwave.workspace import Workspace

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
