"""`sendwave distribution`, `tiers suggest` and `crm` from the command line, over a workspace on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sendwave import cli

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Sixty contacts of two towns, half of them scored, a tiers.yaml of three tiers."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "sendwave.yaml").write_text(
        "time_zone: Europe/Paris\ncrm:\n  erp: {system: files, folder: drop, quiet: 0s}\n"
    )
    (tmp_path / "policies" / "tiers.yaml").write_text(
        "# ours\ntiers:\n  - {key: high, label: High, emoji: 🔥, min_score: 50}   # to call\n"
        "  - {key: low, label: Low, min_score: 1}\n  - {key: none, label: Nothing}\n",
        encoding="utf-8",
    )
    lines = [f"C-{n},p{n}@shop.example.com,{('Lyon', 'Paris')[n % 2]}" for n in range(60)]
    (tmp_path / "contacts.csv").write_text("\n".join(["contact_id,email,city", *lines]))
    (tmp_path / "scores.csv").write_text("\n".join(["contact_id,score", *(f"C-{n},{n * 2}" for n in range(30))]))
    return tmp_path


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str]:
        code = cli.run([*words, "--home", str(home)])
        return code, capsys.readouterr().out

    run("import", "contacts", str(home / "contacts.csv"))
    run("import", "scores", str(home / "scores.csv"))
    return run


def test_distribution_as_one_document(run: Run) -> None:
    code, out = run("distribution", "--json")
    document: dict[str, Any] = json.loads(out)
    assert code == 0
    assert document["total"] == 60
    assert [(t["tier"], t["contacts"], t["min_score"], t["max_score"]) for t in document["tiers"]] == [
        ("high", 5, 50, 58), ("low", 24, 2, 48), ("none", 1, 0, 0)
    ]  # fmt: skip
    assert document["no_score"] == {"contacts": 30, "share": 0.5}


def test_distribution_for_people(run: Run) -> None:
    assert "no score" in run("distribution")[1]
    assert "48 to <50" in run("distribution", "--by", "score")[1] or "to <" in run("distribution", "--by", "score")[1]
    out = run("distribution", "--by", "city")[1]
    assert "Lyon" in out
    assert "Paris" in out


@pytest.mark.parametrize("by", ["tier", "score", "city"])
def test_distribution_as_a_picture(run: Run, home: Path, by: str) -> None:
    assert run("distribution", "--by", by, "--svg", str(home / "pictures" / "d.svg"))[0] == 0
    drawn = (home / "pictures" / "d.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<svg ")
    assert "60 contacts" in drawn


def test_an_attribute_nobody_has_is_not_found(run: Run) -> None:
    assert run("distribution", "--by", "town")[0] == 4


def test_suggested_cut_offs_are_written_on_request(run: Run, home: Path) -> None:
    before = (home / "policies" / "tiers.yaml").read_text(encoding="utf-8")
    code, out = run("tiers", "suggest", "--shares", "10,40%", "--json")
    assert code == 0
    document = json.loads(out)
    assert [row["min_score"] for row in document["proposed"]] == [53, 30, None]
    assert document["written"] is None
    assert (home / "policies" / "tiers.yaml").read_text(encoding="utf-8") == before
    assert run("tiers", "suggest", "--shares", "10,40", "--write")[0] == 0
    after = (home / "policies" / "tiers.yaml").read_text(encoding="utf-8")
    assert after == before.replace("min_score: 50", "min_score: 53").replace("min_score: 1}", "min_score: 30}")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--shares", "ten"), 2),
        (("--shares", "90,20"), 2),
        (("--shares", "10", "--natural", "3"), 2),
        (("--natural", "4", "--write"), 2),  # four tiers need names first
        (("--natural", "4"), 0),
    ],
)
def test_what_cannot_be_suggested(run: Run, words: tuple[str, ...], code: int) -> None:
    assert run("tiers", "suggest", *words)[0] == code


def test_contacts_in_and_scores_out(run: Run, home: Path) -> None:
    code, out = run("crm", "pull", "--json")  # makes the folders
    assert (code, json.loads(out)["deliveries"]) == (0, [])
    (home / "drop" / "in" / "contacts.csv").write_text(
        "contact_id,email\nC-0,p0@shop.example.com\nC-99,z@shop.example.com\n"
    )
    code, out = run("crm", "pull", "erp", "--json")
    assert (code, json.loads(out)["deliveries"][0]["landed"]) == (0, 2)
    (home / "drop" / "in" / "people.csv").write_text("a\n")
    (home / "drop" / "in" / "contacts.csv").write_text("who\nx\n")
    assert run("crm", "pull")[0] == 1
    code, out = run("crm", "push", "--json")
    assert (code, json.loads(out)["taken"]) == (0, 30)
    assert len(list((home / "drop" / "out").iterdir())) == 1


def test_a_crm_that_is_not_set_up(run: Run) -> None:
    assert run("crm", "pull", "salesforce")[0] == 4


def test_tiers_by_share_hold_as_soon_as_scores_land(run: Run, home: Path) -> None:
    (home / "policies" / "tiers.yaml").write_text(
        "tiers:\n  - {key: top, label: Top, share: 10%}\n  - {key: rest, label: Rest}\n", encoding="utf-8"
    )
    (home / "scores.csv").write_text("\n".join(["contact_id,score", *(f"C-{n},{n * 3}" for n in range(30))]))
    run("import", "scores", str(home / "scores.csv"))
    document = json.loads(run("distribution", "--json")[1])
    assert [(t["tier"], t["contacts"], t["min_score"]) for t in document["tiers"]] == [("top", 3, 81), ("rest", 27, 0)]


@pytest.mark.parametrize(("example", "people"), [("retail", 54), ("finance", 45)])
def test_the_steps_init_names_for_an_example_lead_to_its_distribution(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], example: str, people: int
) -> None:
    home = tmp_path / example
    assert cli.run(["init", str(home), "--example", example]) == 0
    steps = [line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.startswith("  sendwave ")]
    assert [step[0] for step in steps] == ["import", "import", "score", "distribution", "tiers"]
    for step in steps[:3]:
        placed = [str(home / word) if word.startswith("data/") else word for word in step]
        assert cli.run([*placed, "--home", str(home)]) == 0
    capsys.readouterr()
    assert cli.run([*steps[3], "--json", "--home", str(home)]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == people
    assert cli.run([*steps[4], "--home", str(home)]) == 0
